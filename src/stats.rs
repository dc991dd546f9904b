use std::array;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::ErrorKind;

/// What a resolver is doing and has done, at one moment; from [`Resolver::stats`](crate::Resolver::stats).
///
/// Callers are counted one by one: each that [`started`](Self::started) ends as answered, failed, timed out or cancelled, or
/// still waits. (A future that was dropped with its result in it, unread, counts as answered or failed.) Those who are
/// answered without waiting, from the cache or because they ask for an IP address, and names refused as invalid, are not
/// counted. In a forked child all begins at zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Names that wait for their turn.
    pub queued: usize,
    /// Calls that run, those that nobody waits for any more included: which only go on where they cannot be stopped, or for the
    /// cache.
    pub running: usize,
    /// Of these, the ones that have run for more than a second.
    pub running_long: usize,
    /// Threads that run calls, wait for one, or have yet to end. An async backend has one, and at most three more that have yet
    /// to end.
    pub threads: usize,
    /// Of these, the ones that wait.
    pub idle_threads: usize,
    /// Callers who were admitted.
    pub started: u64,
    /// Callers who got addresses, those included who made do with what the cache had.
    pub answered: u64,
    /// Callers who got an error other than a timeout, by its kind.
    pub failed: BTreeMap<ErrorKind, u64>,
    /// Callers who were answered from the cache at once, with a fresh answer or a failure.
    pub hits: u64,
    /// Callers who were answered from the cache at once, with a stale answer.
    pub stale: u64,
    /// Callers who joined a lookup in progress; they are in the other figures too.
    pub shared: u64,
    /// Callers whose deadline came.
    pub timed_out: u64,
    /// Callers who dropped their future before it had a result.
    pub cancelled: u64,
    /// Names that were looked up in the background, for nobody.
    pub refreshed: u64,
    /// Callers who were turned away, or got an old answer from the cache, because the queue was full or the resolver closed.
    /// They did not start.
    pub refused: u64,
    /// Calls that were still running when a shutdown gave up.
    pub abandoned: u64,
}

impl Stats {
    pub(crate) fn fail(&mut self, kind: ErrorKind, callers: u64) {
        if callers > 0 {
            *self.failed.entry(kind).or_default() += callers;
        }
    }
}

/// Number of stripes. Threads get them in turn, so that as many threads as this, which ask at once, write nothing that they
/// share.
const STRIPES: usize = 64;

/// Counts callers who are answered at once. They are many, so each thread counts on a cache line of its own.
pub(crate) struct AtOnce {
    stripes: Box<[Stripe; STRIPES]>,
}

/// Two cache lines, since processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    hits: AtomicU64,
    stale: AtomicU64,
}

impl AtOnce {
    pub(crate) fn new() -> Self {
        Self { stripes: Box::new(array::from_fn(|_| Stripe::default())) }
    }

    /// Counts a caller who is answered with what the cache has, fresh or a failure.
    #[inline]
    pub(crate) fn count_hit(&self) {
        // Relaxed, as below: a count orders nothing.
        self.stripe().hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a caller who is answered with a stale answer.
    pub(crate) fn count_stale(&self) {
        self.stripe().stale.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what was counted to `stats`.
    pub(crate) fn add_to(&self, stats: &mut Stats) {
        for Stripe { hits, stale } in &*self.stripes {
            stats.hits += hits.load(Ordering::Relaxed);
            stats.stale += stale.load(Ordering::Relaxed);
        }
    }

    #[inline]
    fn stripe(&self) -> &Stripe {
        thread_local!(static NUMBER: Cell<Option<usize>> = const { Cell::new(None) });
        let number = NUMBER.get().unwrap_or_else(|| {
            let number = next_number();
            NUMBER.set(Some(number));
            number
        });
        &self.stripes[number % STRIPES]
    }
}

/// Returns the number of a thread that counts for the first time.
#[cold]
fn next_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
