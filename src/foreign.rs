//! Foreign code: backends, subscribers, wakers, and the destructors of their values. It may panic, but must not take a
//! thread, a lock or another caller with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// A panic that was contained, with its message if it has one.
#[derive(Debug)]
pub(crate) struct Panic(pub(crate) Option<String>);

/// Runs foreign code, and contains its panic.
///
/// Unwind safety is asserted: what the closure shares with the crate is either moved into it or not looked at again after a
/// panic.
pub(crate) fn caught<T>(foreign: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(foreign)).map_err(|payload| {
        let message = match payload.downcast_ref::<&'static str>() {
            Some(text) => Some((*text).to_owned()),
            None => payload.downcast_ref::<String>().cloned(),
        };
        // The payload's destructor is foreign too. If that panics, its payload is leaked, since dropping it could panic
        // again.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        Panic(message)
    })
}

/// Wakes callers. No lock may be held, since a waker may run anything.
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
