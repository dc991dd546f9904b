//! Locks, threads and time in a loom model. loom's threads are coroutines of one system thread, so what is thread-local to
//! std belongs to the whole model.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, fence};
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

use super::Instant;

thread_local! {
    /// How much time has passed in the model.
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Threads that the system refuses: the name, and the number of starts until the refused one.
    static REFUSED: RefCell<Vec<(&'static str, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Returns the model's time. It passes when a thread sleeps until a deadline: other threads may have been that slow.
pub(crate) fn now() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now) + PASSED.get()
}

/// Runs `model` in every order of its threads with at most `interruptions` preemptions, or `LOOM_MAX_PREEMPTIONS` if that is
/// set.
///
/// The system refuses the threads in `refused`: the first start of that name, or the second, and so on.
#[cfg(test)]
pub(crate) fn explore(
    interruptions: usize,
    refused: &'static [(&'static str, usize)],
    model: impl Fn() + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(interruptions));
    builder.max_threads = loom::MAX_THREADS;
    builder.max_branches = 10_000;
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&runs);
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        PASSED.set(Duration::ZERO);
        REFUSED.set(refused.to_vec());
        model();
    });
    let runs = runs.load(std::sync::atomic::Ordering::Relaxed);
    println!("{runs} orders");
    assert!(runs > 1, "nothing was left to chance");
}

pub(crate) mod thread {
    use std::cell::RefCell;
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    use super::{PASSED, REFUSED};

    /// A thread's parker of its own: loom's `unpark` also wakes threads that wait for a lock.
    struct Parker {
        unparked: Mutex<bool>,
        changed: Condvar,
    }

    loom::thread_local! {
        static AT_END: RefCell<Option<Box<dyn FnOnce()>>> = RefCell::new(None);
        static PARKER: Arc<Parker> = Arc::new(Parker { unparked: Mutex::new(false), changed: Condvar::new() });
    }

    #[derive(Clone)]
    pub(crate) struct Thread {
        id: ThreadId,
        parker: Arc<Parker>,
    }

    impl Thread {
        pub(crate) fn id(&self) -> ThreadId {
            self.id
        }

        pub(crate) fn unpark(&self) {
            *self.parker.unparked.lock().unwrap() = true;
            self.parker.changed.notify_one();
        }
    }

    pub(crate) fn current() -> Thread {
        Thread { id: thread::current().id(), parker: PARKER.with(Arc::clone) }
    }

    pub(crate) fn park() {
        let parker = PARKER.with(Arc::clone);
        let mut unparked = parker.unparked.lock().unwrap();
        while !std::mem::take(&mut *unparked) {
            unparked = parker.changed.wait(unparked).unwrap();
        }
    }

    pub(crate) fn park_timeout(timeout: Duration) {
        // Gives other threads a turn without a preemption.
        thread::yield_now();
        let unparked = PARKER.with(|parker| std::mem::take(&mut *parker.unparked.lock().unwrap()));
        if !unparked {
            PASSED.set(PASSED.get() + timeout);
        }
    }

    #[derive(Default)]
    pub(crate) struct Builder {
        name: String,
    }

    impl Builder {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn name(self, name: String) -> Self {
            Self { name }
        }

        pub(crate) fn stack_size(self, _: usize) -> Self {
            self
        }

        pub(crate) fn spawn(self, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
            let is_refused = REFUSED.with_borrow_mut(|refused| {
                let named = refused.iter_mut().filter(|(name, _)| *name == self.name);
                named.fold(false, |is_refused, (_, starts)| {
                    *starts = starts.wrapping_sub(1);
                    is_refused || *starts == 0
                })
            });
            if is_refused {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            thread::Builder::new().name(self.name).spawn(|| {
                run();
                let at_end = AT_END.with(|at_end| at_end.borrow_mut().take());
                at_end.into_iter().for_each(|at_end| at_end());
            })
        }
    }

    /// Runs `at_end` at the end of this thread.
    pub(crate) fn at_end(at_end: impl FnOnce() + 'static) {
        AT_END.with(|set| *set.borrow_mut() = Some(Box::new(at_end)));
    }

    pub(crate) use loom::thread::{JoinHandle, ThreadId};
}
