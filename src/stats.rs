use std::array;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::ErrorKind;

/// Statistics of a resolver at one moment, from [`Resolver::stats`](crate::Resolver::stats).
///
/// Each caller is counted once as [`hits`](Self::hits), [`stale`](Self::stale), [`refused`](Self::refused) or
/// [`started`](Self::started). Each caller who started ends as [`answered`](Self::answered), [`failed`](Self::failed),
/// [`timed_out`](Self::timed_out) or [`cancelled`](Self::cancelled), or still waits. A future that was dropped with its result
/// in it counts as answered or failed. IP addresses and invalid names are not counted, also if the resolver is closed.
///
/// In a forked child all counters start at zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of queued names, in all queues.
    pub queued: usize,
    /// Number of calls that run. This includes calls that nobody waits for: background refreshes, and blocking calls, which
    /// cannot be stopped.
    pub running: usize,
    /// Number of these that have run for more than a second.
    pub running_long: usize,
    /// Number of threads that run calls, wait for a call, or have not ended yet. An async backend has one, and at most three more
    /// that have not ended yet. Threads that keep deadlines and wake callers are not counted.
    pub threads: usize,
    /// Number of these that wait for a call.
    pub idle_threads: usize,
    /// Callers who started a lookup or joined one.
    pub started: u64,
    /// Callers who got addresses after they waited, stale ones included.
    pub answered: u64,
    /// Callers who waited and got an error other than a timeout, by kind.
    pub failed: BTreeMap<ErrorKind, u64>,
    /// Callers who were answered from the cache at once, with a fresh answer or a failure.
    pub hits: u64,
    /// Callers who were answered from the cache at once, with a stale or an old answer.
    pub stale: u64,
    /// Callers who joined a lookup in progress. They are counted in `started` too.
    pub shared: u64,
    /// Callers whose deadline passed.
    pub timed_out: u64,
    /// Callers who dropped their future before it had a result.
    pub cancelled: u64,
    /// Background refreshes.
    pub refreshed: u64,
    /// Callers who were refused because the queue was full or the resolver closed. They got an error or, if the queue was full and the
    /// cache had one, an old answer.
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

/// Number of stripes. Threads take them in turn, so that up to this many threads share none.
const STRIPES: usize = 64;

/// Counters of callers who are answered at once. These are many, so each thread counts on a cache line of its own.
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

    /// Counts a caller who is answered with a fresh answer or a failure from the cache.
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
