//! Locks, threads and the time: std's, or in a model, under `--cfg gaiter_loom`, those in which every turn that the scheduler may take
//! is taken. (Not `--cfg loom`, under which some of the dependencies do not compile.)

#[cfg(gaiter_loom)]
mod model;

#[cfg(all(test, gaiter_loom))]
pub(crate) use self::model::explore;
#[cfg(gaiter_loom)]
pub(crate) use self::model::{AtomicBool, Mutex, MutexGuard, now, thread};
#[cfg(not(gaiter_loom))]
pub(crate) use self::system::{AtomicBool, Mutex, MutexGuard, now, thread};

use std::sync::Arc;
use std::task::{Wake, Waker};

/// Unparks the thread that this is called on.
pub(crate) fn unparker() -> Waker {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Arc::new(Unpark(thread::current())).into()
}

#[cfg(not(gaiter_loom))]
mod system {
    pub(crate) use std::sync::atomic::AtomicBool;
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread;
    use std::time::Instant;

    #[inline]
    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}
