use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The payload of a test's own panics.
pub const DELIBERATE: &str = "a deliberate panic";

static UNEXPECTED: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of unexpected panics of this process since the first call, on any thread, caught or not.
pub fn unexpected() -> usize {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&DELIBERATE) {
                UNEXPECTED.fetch_add(1, Ordering::SeqCst);
                default(info);
            }
        }));
    });
    UNEXPECTED.load(Ordering::SeqCst)
}
