//! Locks, threads and time: std's, or under `--cfg gaiter_loom` those of a model that tries every turn that the scheduler may
//! take. (Not `--cfg loom`, under which some of the dependencies do not compile.)

mod instant;
#[cfg(gaiter_loom)]
mod model;

pub(crate) use self::instant::Instant;
#[cfg(all(test, gaiter_loom))]
pub(crate) use self::model::explore;
#[cfg(gaiter_loom)]
pub(crate) use self::model::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64, Condvar, Mutex, MutexGuard, fence, now, thread,
};
#[cfg(not(gaiter_loom))]
pub(crate) use self::system::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64, Condvar, Mutex, MutexGuard, fence, now, thread,
};

use std::sync::Arc;
use std::task::{Wake, Waker};

/// Returns a waker that unparks the current thread.
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
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, fence};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) mod thread {
        pub(crate) use std::thread::*;

        use std::cell::RefCell;

        struct AtEnd(Option<Box<dyn FnOnce()>>);

        impl Drop for AtEnd {
            fn drop(&mut self) {
                self.0.take().into_iter().for_each(|at_end| at_end());
            }
        }

        thread_local!(static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) });

        /// Runs `at_end` at the end of this thread, after the destructors of all Rust thread-locals that are first used after
        /// this call. Thread-locals are dropped in the reverse order of their first use.
        pub(crate) fn at_end(at_end: impl FnOnce() + 'static) {
            AT_END.set(Some(AtEnd(Some(Box::new(at_end)))));
        }

        #[cfg(test)]
        mod tests {
            use std::sync::mpsc::{Sender, channel};

            use super::*;

            struct Says(Sender<&'static str>, &'static str);

            impl Drop for Says {
                fn drop(&mut self) {
                    LATEST.set(Some(Latest(self.0.clone())));
                    _ = self.0.send(self.1);
                }
            }

            struct Latest(Sender<&'static str>);

            impl Drop for Latest {
                fn drop(&mut self) {
                    _ = self.0.send("first used in a destructor");
                }
            }

            thread_local! {
                static SAYS: RefCell<Option<Says>> = const { RefCell::new(None) };
                static LATEST: RefCell<Option<Latest>> = const { RefCell::new(None) };
            }

            #[test]
            #[cfg_attr(
                all(windows, target_env = "gnu"),
                ignore = "there std drops thread-locals in the reverse order of their first use in the process"
            )]
            fn the_end_comes_after_all_other_destructors() {
                let (said, hear) = channel();
                let thread = spawn(move || {
                    let last = said.clone();
                    at_end(move || _ = last.send("the end"));
                    SAYS.set(Some(Says(said, "a destructor")));
                });
                thread.join().unwrap();
                let all: Vec<&str> = hear.iter().collect();
                assert_eq!(all, ["a destructor", "first used in a destructor", "the end"]);
            }
        }
    }

    #[inline]
    pub(crate) fn now() -> super::Instant {
        super::Instant::now()
    }
}
