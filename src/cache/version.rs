use std::sync::atomic::Ordering;

use crate::sync::{AtomicU64, fence};

/// A sequence lock, for words that one thread at a time writes and others read without a lock. The words are relaxed atomics. See
/// Boehm, "Can seqlocks get along with programming language memory models?" (2012). The version is odd during a write.
pub(super) struct Version(AtomicU64);

impl Version {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Calls `write`, which stores the words. No other thread may write at the same time.
    pub(super) fn write(&self, write: impl FnOnce()) {
        let version = self.0.load(Ordering::Relaxed);
        self.0.store(version + 1, Ordering::Relaxed);
        // With the fence in `is_still`: a reader that has loaded one of the new words then sees this version, or a later one.
        fence(Ordering::Release);
        write();
        // With the load in `begin`: a reader that begins with this version loads these words, or newer ones.
        self.0.store(version + 2, Ordering::Release);
    }

    /// Begins to read. The words may be loaded after this.
    #[inline]
    pub(super) fn begin(&self) -> Begun {
        Begun(self.0.load(Ordering::Acquire))
    }

    /// Ends what has begun. Returns whether the words that were loaded meanwhile are of one write.
    #[inline]
    pub(super) fn is_still(&self, Begun(version): Begun) -> bool {
        fence(Ordering::Acquire);
        version % 2 == 0 && self.0.load(Ordering::Relaxed) == version
    }
}

/// The version in which reading has begun.
#[derive(Clone, Copy)]
pub(super) struct Begun(u64);

impl Begun {
    /// For a read that must fail.
    pub(super) const IN_VAIN: Self = Self(1);
}
