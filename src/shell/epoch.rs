//! The threads that belong to this process.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use once_cell::race::OnceBox;

use super::{Setup, Shell};
use crate::ffi;
use crate::stats::AtOnce;

/// The threads of one resolver, in each process that it has reached by `fork`.
///
/// A forked child has its parent's memory but none of its threads, so any lock in there may stay locked for ever. The child
/// starts with threads and an engine of its own, and leaves the parent's alone.
pub(crate) struct Epochs {
    setup: Arc<Setup>,
    first: Epoch,
}

/// Keeps a resolver open. Calls that run when the last one is dropped end on their own, and threads end as soon as they have no
/// work. A future that a fork has copied may still ask again.
pub(crate) struct Open(pub(crate) Arc<Epochs>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.current().close();
    }
}

struct Epoch {
    shell: Arc<Shell>,
    /// The epoch of the process that was forked off this one. Set without a lock, which a fork could leave locked too.
    next: OnceBox<Epoch>,
}

impl Epochs {
    pub(crate) fn new(setup: Setup) -> Self {
        ffi::watch_forks();
        let setup = Arc::new(setup);
        let first = Epoch::new(&setup);
        Self { setup, first }
    }

    #[inline]
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Returns the threads of this process.
    #[inline]
    pub(crate) fn current(&self) -> &Arc<Shell> {
        let mut epoch = &self.first;
        while epoch.shell.is_inherited() {
            epoch = epoch.next.get_or_init(|| Box::new(Epoch::new(&self.setup)));
        }
        &epoch.shell
    }

    /// Stops admission, here and in future children.
    pub(crate) fn close(&self) {
        self.setup.closed.store(true, Ordering::Relaxed);
        self.current().close();
    }
}

impl Epoch {
    fn new(setup: &Arc<Setup>) -> Self {
        // Made before the rest, which is large too: loom's threads have small stacks.
        let at_once = AtOnce::new();
        let shell = Shell::new(Arc::clone(setup), at_once, ffi::generation());
        Self { shell: Arc::new(shell), next: OnceBox::new() }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        if self.shell.is_inherited() {
            leak(&self.shell);
        }
    }
}

/// Ensures that the value behind `shared` is never dropped.
pub(crate) fn leak<T>(shared: &Arc<T>) {
    mem::forget(Arc::clone(shared));
}
