use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::CacheConfig;
use crate::addrs::{Addrs, Answer, Source};
use crate::clock::{Coarse, Moment};
use crate::error::{Error, ErrorKind};

/// How long a refresh is claimed for. After that another caller claims it anew: the call may hang, or may never have begun.
pub(super) const CLAIM: Duration = Duration::from_secs(10);

/// The bit of an entry's mark that is set once it is visited.
const VISITED: u64 = 1;

/// What the cache has for a name. The fields are in this order so that what a hit reads is adjacent.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Entry {
    /// Twice the place in the order of eviction, with [`VISITED`] set if the entry was asked for since it was stored or
    /// passed by. One word for both takes 16 bytes less per name.
    mark: AtomicU64,
    /// When a caller claimed the refresh of this very entry: in nanoseconds after its answer was stored, plus 1. 0 if nobody
    /// has.
    claimed: AtomicU64,
    answer: Option<Kept>,
    failure: Option<Failure>,
}

/// A cached answer, and how long it may be given.
#[derive(Clone, Debug)]
#[repr(C)]
struct Kept {
    /// [`fresh_until`](Self::fresh_until) again, by the clock that a hit reads.
    fresh_until_coarse: Coarse,
    /// As a hit gives them.
    addrs: Addrs,
    stored: Instant,
    fresh_until: Option<Instant>,
    stale_until: Option<Instant>,
    old_until: Option<Instant>,
}

/// Copies an entry, for a write to another name in the same leaf. Changes made meanwhile may be lost: a refresh is then
/// claimed twice, or a visit does not spare the name.
impl Clone for Entry {
    fn clone(&self) -> Self {
        Self {
            answer: self.answer.clone(),
            failure: self.failure.clone(),
            claimed: AtomicU64::new(self.claimed.load(Ordering::Relaxed)),
            mark: AtomicU64::new(self.mark.load(Ordering::Relaxed)),
        }
    }
}

/// A failure after which no lookup is made for some time.
#[derive(Clone, Debug)]
struct Failure {
    /// `None` if it says nothing about the name, and only keeps an old answer in use.
    error: Option<Error>,
    until: Instant,
}

/// The result of looking up a name in the cache.
#[derive(Debug)]
pub(crate) enum Look {
    Fresh(Old),
    /// Given at once. With `refresh`, the caller has claimed the refresh and must start it.
    Stale {
        old: Old,
        refresh: bool,
    },
    Failed(Error),
    /// Given only if a lookup fails or takes too long.
    Old(Old),
    Nothing,
}

/// An answer from the cache.
#[derive(Clone, Debug)]
pub(crate) struct Old {
    addrs: Addrs,
    /// When the answer may no longer be given; `None` for never.
    until: Option<Instant>,
}

impl Old {
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        is_before(now, self.until)
    }

    pub(crate) fn addrs(&self, source: Source) -> Addrs {
        self.addrs.clone().with_source(source)
    }
}

/// Returns whether `now` is before `until`. `None` is after every time.
fn is_before(now: Instant, until: Option<Instant>) -> bool {
    until.is_none_or(|until| now < until)
}

impl Entry {
    fn new(answer: Option<Kept>, failure: Option<Failure>) -> Self {
        Self { answer, failure, claimed: AtomicU64::new(0), mark: AtomicU64::new(0) }
    }

    /// Returns the entry that replaces `former` when a lookup has ended, or `None` if there is nothing to keep.
    ///
    /// `jitter`, from 0 to 255, spreads the expiry of names that are stored together.
    pub(super) fn after(
        former: Option<&Entry>,
        result: &Result<Answer, Error>,
        at: Moment,
        cache: &CacheConfig,
        jitter: u8,
    ) -> Option<Self> {
        let now = at.exact;
        let old = former.and_then(|former| former.answer.as_ref()).filter(|kept| is_before(now, kept.old_until));
        let error = match result {
            Ok(answer) => return Some(Self::new(Some(Kept::new(answer.clone(), at, cache, jitter)), None)),
            Err(error) => error,
        };
        // A year counts as for ever, and can be added to any time there is.
        let failure = |error, lasts: Duration| {
            Some(Failure { error, until: now.checked_add(lasts.min(Duration::from_secs(365 * 86_400)))? })
        };
        match error.kind() {
            // Authoritative: it supersedes an old answer.
            ErrorKind::NotFound | ErrorKind::NoData | ErrorKind::Denied => {
                let failure = failure(Some(error.clone()), cache.negative_ttl).filter(|f| now < f.until)?;
                Some(Self::new(None, Some(failure)))
            }
            ErrorKind::Temporary | ErrorKind::Permanent => {
                let failure = failure(Some(error.clone()), cache.cooldown).filter(|f| now < f.until);
                (old.is_some() || failure.is_some()).then(|| Self::new(old.cloned(), failure))
            }
            // These say nothing about the name, but an old answer is better than none.
            _ => old.map(|old| Self::new(Some(old.clone()), failure(None, cache.cooldown))),
        }
    }

    /// Returns the answer, if it is fresh. Most callers need no more, so this is kept short.
    #[inline]
    pub(super) fn fresh(&self, now: Coarse) -> Option<Addrs> {
        let kept = self.answer.as_ref().filter(|kept| now < kept.fresh_until_coarse)?;
        self.visit();
        Some(kept.addrs.clone())
    }

    /// Marks the entry as visited. Writes only the first time.
    #[inline]
    fn visit(&self) {
        if !self.is_visited() {
            self.mark_visited();
        }
    }

    #[cold]
    fn mark_visited(&self) {
        // Not a store, which could undo a move by an eviction at the same time.
        self.mark.fetch_or(VISITED, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_visited(&self) -> bool {
        self.mark.load(Ordering::Relaxed) & VISITED != 0
    }

    /// Puts the entry at a place in the order of eviction, not visited.
    pub(super) fn at(self, place: u64) -> Self {
        Self { mark: AtomicU64::new(place * 2), ..self }
    }

    /// Returns the place in the order of eviction, which only the holder of the index changes.
    pub(super) fn place(&self) -> u64 {
        self.mark.load(Ordering::Relaxed) / 2
    }

    /// Moves a visited entry to another place, not visited. Returns whether it was visited.
    pub(super) fn pass_by(&self, place: u64) -> bool {
        let is_visited = self.is_visited();
        if is_visited {
            self.mark.store(place * 2, Ordering::Relaxed);
        }
        is_visited
    }

    /// Returns what may be given now. Writes to the entry only on its first visit, or to claim its refresh.
    pub(super) fn look(&self, now: Instant) -> Look {
        self.visit();
        let failure = self.failure.as_ref().filter(|failure| now < failure.until);
        let Some(kept) = self.answer.as_ref().filter(|kept| is_before(now, kept.old_until)) else {
            return match failure.and_then(|failure| failure.error.clone()) {
                Some(error) => Look::Failed(error),
                None => Look::Nothing,
            };
        };
        let old = || Old { addrs: kept.addrs.clone(), until: kept.old_until };
        if is_before(now, kept.fresh_until) {
            return Look::Fresh(old());
        }
        if failure.is_some() {
            return Look::Stale { old: old(), refresh: false };
        }
        if is_before(now, kept.stale_until) {
            return Look::Stale { old: old(), refresh: self.claim(now.saturating_duration_since(kept.stored)) };
        }
        Look::Old(old())
    }

    /// Claims the refresh, at this age of the answer, unless another caller has within [`CLAIM`]. Returns whether it did.
    fn claim(&self, age: Duration) -> bool {
        // Relaxed: the number is all there is to agree on. Later callers only read it.
        let claimed = self.claimed.load(Ordering::Relaxed);
        let now = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX - 1).saturating_add(1);
        let lapsed = claimed == 0 || now.saturating_sub(claimed) > CLAIM.as_nanos() as u64;
        lapsed && self.claimed.compare_exchange(claimed, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Gives up the claim to a refresh that did not come about.
    pub(super) fn release(&self) {
        self.claimed.store(0, Ordering::Relaxed);
    }

    /// Returns whether the entry is of no use any more.
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        let answers = self.answer.as_ref().is_some_and(|kept| is_before(now, kept.old_until));
        let fails = self.failure.as_ref().is_some_and(|failure| failure.error.is_some() && now < failure.until);
        !answers && !fails
    }
}

impl Kept {
    fn new(answer: Answer, at: Moment, cache: &CacheConfig, jitter: u8) -> Self {
        // From 0 to a tenth of `ttl`.
        let some_of = |ttl: Duration| ttl / 2550 * u32::from(jitter);
        let ttl = match answer.ttl() {
            // Only downwards if the name's owner has said how long the answer lasts.
            Some(ttl) => {
                let ttl = ttl.min(cache.max_ttl).max(cache.min_ttl);
                ttl.saturating_sub(some_of(ttl)).max(cache.min_ttl)
            }
            None => cache.ttl.saturating_sub(cache.ttl / 10).saturating_add(some_of(cache.ttl) * 2),
        };
        let fresh_until = at.exact.checked_add(ttl);
        let fresh_until_coarse = at.coarse.after(ttl);
        let after = |window: Duration| fresh_until.and_then(|fresh| fresh.checked_add(window));
        let stale_until = after(cache.stale_while_revalidate);
        let old_until = after(cache.stale_while_revalidate.max(cache.stale_if_error));
        let addrs = Addrs::kept(answer, at.coarse);
        Self { fresh_until_coarse, addrs, stored: at.exact, fresh_until, stale_until, old_until }
    }
}
