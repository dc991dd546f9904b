//! Foreign code (backends, subscribers, wakers, destructors of their values) may panic; what it may not do is take a
//! thread, a lock or another caller with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// A panic that was contained, with its message where it has one.
#[derive(Debug)]
pub(crate) struct Panic(pub(crate) Option<String>);

/// Runs foreign code.
///
/// Unwind safety is asserted, since what the closure shares with the crate is either moved into it or not looked at again
/// after a panic.
pub(crate) fn caught<T>(foreign: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(foreign)).map_err(|payload| {
        let message = match payload.downcast_ref::<&'static str>() {
            Some(text) => Some((*text).to_owned()),
            None => payload.downcast_ref::<String>().cloned(),
        };
        // The payload's own destructor is foreign as well, and so is that of its panic; there the line is drawn.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        Panic(message)
    })
}

/// Wakes callers. With no lock held, since a waker may run anything.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(|waker| _ = caught(|| waker.wake()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_panics_in_turn_is_contained() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Bomb);
            }
        }
        assert!(caught(|| std::panic::panic_any(Bomb)).is_err_and(|panic| panic.0.is_none()));
        let said = caught(|| panic!("{}", 7)).map_err(|panic| panic.0);
        assert_eq!(said, Err::<(), _>(Some("7".to_owned())));
    }
}
