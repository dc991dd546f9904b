use std::collections::BTreeMap;

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
