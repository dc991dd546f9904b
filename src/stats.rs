use std::array;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ErrorKind;

/// Statistics of a resolver at one moment, from [`Resolver::stats`](crate::Resolver::stats).
///
/// Each caller is counted once as [`hits`](Self::hits), [`stale`](Self::stale), [`refused`](Self::refused) or
/// [`started`](Self::started). Each caller who started ends as [`answered`](Self::answered), [`failed`](Self::failed),
/// [`timed_out`](Self::timed_out) or [`cancelled`](Self::cancelled), or still waits. A future that was dropped with its result
/// in it counts as answered or failed. Calls of the backend are not counted. IP addresses, overrides, invalid names and names that
/// are denied before a lookup are not counted, also if the resolver is closed.
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
    /// Number of threads that run calls, wait for a call, or have not ended yet. An async backend has up to
    /// [`driver_threads`](crate::Builder::driver_threads), and at most three times as many more that have not ended yet. Threads that
    /// keep deadlines and wake callers are not counted.
    pub threads: usize,
    /// Number of these that wait for a call.
    pub idle_threads: usize,
    /// Number of names in the cache, with an answer or a failure. An expired name counts until another one takes its place.
    pub cached_names: usize,
    /// Callers who started a lookup or joined one.
    pub started: u64,
    /// Callers who got addresses after they waited, stale ones and fallbacks included.
    pub answered: u64,
    /// Callers who waited and got an error before their deadline, by kind.
    pub failed: BTreeMap<ErrorKind, u64>,
    /// Callers who were answered from the cache at once, with a fresh answer or a failure, or with a fallback in place of a failure.
    pub hits: u64,
    /// Callers who were answered from the cache at once, with a stale or an old answer.
    pub stale: u64,
    /// Callers who joined a lookup in progress. They are counted in `started` too.
    pub shared: u64,
    /// Second calls that were made because the first was [slow](crate::Builder::hedge). Those for names whose call is stuck, after the
    /// [timeout](crate::Builder::timeout), are not in it.
    pub hedged: u64,
    /// Number of these that answered before the first call ended, while somebody waited.
    pub hedges_won: u64,
    /// Callers whose deadline passed, also if they got a fallback then.
    pub timed_out: u64,
    /// Callers who dropped their future before it had a result.
    pub cancelled: u64,
    /// Background refreshes.
    pub refreshed: u64,
    /// Callers who were refused because the queue was full or the resolver closed. They got an error or, if the queue was full, an
    /// old answer or a fallback if there was one.
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

/// Number of threads that count on a stripe of their own. Further threads share one.
const STRIPES: usize = 64;

/// Counters of callers who are answered at once. These are many, so threads count on cache lines of their own.
pub(crate) struct AtOnce {
    own: Box<[Stripe; STRIPES]>,
    shared: Stripe,
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
        Self { own: Box::new(array::from_fn(|_| Stripe::default())), shared: Stripe::default() }
    }

    /// Counts a caller who is answered with a fresh answer or a failure from the cache.
    #[inline]
    pub(crate) fn count_hit(&self) {
        self.count(|stripe| &stripe.hits);
    }

    /// Counts a caller who is answered with a stale answer.
    pub(crate) fn count_stale(&self) {
        self.count(|stripe| &stripe.stale);
    }

    #[inline]
    fn count(&self, counter: impl FnOnce(&Stripe) -> &AtomicU64) {
        // Relaxed everywhere: a count orders nothing.
        match StripeNumber::of_this_thread() {
            // Only this thread writes it, which costs a third of what an atomic addition does.
            Some(number) => {
                let counter = counter(&self.own[number % STRIPES]);
                counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            None => _ = counter(&self.shared).fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Adds what was counted to `stats`.
    pub(crate) fn add_to(&self, stats: &mut Stats) {
        for Stripe { hits, stale } in self.own.iter().chain([&self.shared]) {
            stats.hits += hits.load(Ordering::Relaxed);
            stats.stale += stale.load(Ordering::Relaxed);
        }
    }
}

/// The number of a thread that has a stripe of its own, in every resolver. Free again when the thread ends.
struct StripeNumber(Cell<Numbered>);

#[derive(Clone, Copy)]
enum Numbered {
    NotYet,
    With(usize),
    /// There was no number left.
    Without,
}

/// A bit for each number that a thread has.
static TAKEN: AtomicU64 = AtomicU64::new(0);

impl StripeNumber {
    /// Returns the number of this thread, if it has one.
    #[inline]
    fn of_this_thread() -> Option<usize> {
        thread_local!(static NUMBER: StripeNumber = const { StripeNumber(Cell::new(Numbered::NotYet)) });
        // A thread may count in a destructor that comes later than this one.
        NUMBER.try_with(Self::get).ok()?
    }

    #[inline]
    fn get(&self) -> Option<usize> {
        match self.0.get() {
            Numbered::With(number) => Some(number),
            Numbered::Without => None,
            Numbered::NotYet => self.take(),
        }
    }

    #[cold]
    fn take(&self) -> Option<usize> {
        let free = |taken: u64| taken.checked_add(1).map(|next| taken | next);
        // Acquires what the thread has counted that had the number before.
        let taken = TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, free);
        let number = taken.ok().map(|taken| taken.trailing_ones() as usize);
        self.0.set(number.map_or(Numbered::Without, Numbered::With));
        number
    }
}

impl Drop for StripeNumber {
    fn drop(&mut self) {
        if let Numbered::With(number) = self.0.get() {
            TAKEN.fetch_and(!(1 << number), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn threads_beyond_the_stripes_are_counted_too() {
        let (at_once, barrier) = (AtOnce::new(), Barrier::new(STRIPES + 10));
        for _ in 0..2 {
            thread::scope(|scope| {
                for _ in 0..STRIPES + 10 {
                    scope.spawn(|| {
                        at_once.count_hit();
                        // All have a number, or go without, before any gives its own back.
                        barrier.wait();
                        at_once.count_stale();
                    });
                }
            });
        }
        let mut stats = Stats::default();
        at_once.add_to(&mut stats);
        let each = 2 * (STRIPES as u64 + 10);
        assert_eq!((stats.hits, stats.stale), (each, each));
        assert!(at_once.shared.hits.load(Ordering::Relaxed) >= 20, "nobody shares");
    }
}
