use std::time::Duration;

use super::CacheConfig;
use super::slot::Ages;
use crate::addrs::{Addrs, Answer, Source};
use crate::clock::{Coarse, Moment};
use crate::error::{Error, ErrorKind};
use crate::sync::Instant;

/// How long a refresh is claimed for. After that another caller claims it anew: the call may hang, or may never have begun.
pub(super) const CLAIM: Duration = Duration::from_secs(10);

/// How long callers still take the lock when there is nothing left to give at once. The coarse clock may be late by as much, or may
/// have been when the times were set.
pub(super) const LAG: Duration = Duration::from_millis(20);

/// What the cache has for a name, apart from what its [slot](super::slot::Slot) has.
#[derive(Debug)]
pub(super) struct Entry {
    /// When the entry was stored.
    at: Moment,
    answer: Option<Answered>,
    failure: Option<Failure>,
    /// When a caller claimed the refresh of this very entry.
    claimed: Option<Instant>,
    /// When this entry or a former one of the name was last expired.
    expired: Coarse,
}

/// How long a cached answer may be given; `None` is for ever.
#[derive(Clone, Copy, Debug)]
struct Answered {
    fresh_until: Option<Instant>,
    stale_until: Option<Instant>,
    old_until: Option<Instant>,
    /// The first two by the clock that readers use.
    coarse: [Coarse; 2],
}

/// A failure after which no lookup is made for some time.
#[derive(Clone, Debug)]
struct Failure {
    /// `None` if it says nothing about the name, and only keeps an old answer in use.
    error: Option<Error>,
    until: Instant,
}

/// What an entry has for a caller. `A` is an answer.
#[derive(Debug)]
pub(crate) enum Look<A = Old> {
    Fresh(A),
    /// Given at once. With `refresh`, the caller has claimed the refresh and must start it.
    Stale {
        old: A,
        refresh: bool,
    },
    Failed(Error),
    /// Given only if a lookup fails or takes too long.
    Old(A),
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
    pub(super) fn new(addrs: Addrs, until: Option<Instant>) -> Self {
        Self { addrs, until }
    }

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

/// Returns the earlier of two times.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

impl Entry {
    /// Returns the entry that replaces `former` when a lookup has ended, or `None` if there is nothing to keep.
    ///
    /// If the lookup has failed, an answer of the new entry is that of the former one. `jitter`, from 0 to 255, spreads the expiry
    /// of names that are stored together.
    pub(super) fn after(
        former: Option<&Entry>,
        result: Result<&Answer, &Error>,
        at: Moment,
        cache: &CacheConfig,
        jitter: u8,
    ) -> Option<Self> {
        let now = at.exact;
        let expired = former.map_or(Coarse::PAST, |former| former.expired);
        let new = |answer, failure| Self { at, answer, failure, claimed: None, expired };
        let error = match result {
            Ok(answer) => return Some(new(Some(Answered::new(answer, at, cache, jitter)), None)),
            Err(error) => error,
        };
        let old = former.and_then(|former| former.answer).filter(|old| is_before(now, old.old_until));
        // A year counts as for ever, and can be added to any time there is.
        let failure = |error, lasts: Duration| {
            Some(Failure { error, until: now.checked_add(lasts.min(Duration::from_secs(365 * 86_400)))? })
        };
        match error.kind() {
            // Authoritative: it supersedes an old answer.
            ErrorKind::NotFound | ErrorKind::NoData | ErrorKind::Denied => {
                let failure = failure(Some(error.clone()), cache.negative_ttl).filter(|f| now < f.until)?;
                Some(new(None, Some(failure)))
            }
            ErrorKind::Temporary | ErrorKind::Permanent => {
                let failure = failure(Some(error.clone()), cache.cooldown).filter(|f| now < f.until);
                (old.is_some() || failure.is_some()).then(|| new(old, failure))
            }
            // These say nothing about the name, but an old answer is better than none.
            _ => old.map(|old| new(Some(old), failure(None, cache.cooldown))),
        }
    }

    /// Makes the answer old, unless this was done less than `cooldown` ago. Returns whether the entry is a failure that is not to be
    /// kept: one that stands in place of an answer.
    #[must_use]
    pub(super) fn expire(&mut self, now: Coarse, cooldown: Duration) -> bool {
        if self.expired != Coarse::PAST && now < self.expired.after(cooldown) {
            return false;
        }
        self.expired = now;
        self.claimed = None;
        if let Some(answer) = &mut self.answer {
            // No caller's time is before this, unless it asked before the answer was stored.
            (answer.fresh_until, answer.stale_until) = (Some(self.at.exact), Some(self.at.exact));
            answer.coarse = [Coarse::PAST; 2];
        }
        let error = self.failure.as_ref().and_then(|failure| failure.error.as_ref());
        error.is_some_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NoData | ErrorKind::Denied))
    }

    pub(super) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Returns when the answer may no longer be given, if there is one.
    pub(super) fn old_until(&self) -> Option<Instant> {
        self.answer.and_then(|answer| answer.old_until)
    }

    /// Returns what may be given now. Claims the refresh if that is due.
    pub(super) fn look(&mut self, now: Instant) -> Look<()> {
        let failure = self.failure.as_ref().filter(|failure| now < failure.until);
        let Some(answer) = self.answer.filter(|answer| is_before(now, answer.old_until)) else {
            return match failure.and_then(|failure| failure.error.clone()) {
                Some(error) => Look::Failed(error),
                None => Look::Nothing,
            };
        };
        if is_before(now, answer.fresh_until) {
            return Look::Fresh(());
        }
        if failure.is_some() {
            return Look::Stale { old: (), refresh: false };
        }
        if is_before(now, answer.stale_until) {
            return Look::Stale { old: (), refresh: self.claim(now) };
        }
        Look::Old(())
    }

    /// Claims the refresh, unless another caller has within [`CLAIM`]. Returns whether it did.
    fn claim(&mut self, now: Instant) -> bool {
        let lapsed = self.claimed.is_none_or(|claimed| now.saturating_duration_since(claimed) > CLAIM);
        if lapsed {
            self.claimed = Some(now);
        }
        lapsed
    }

    /// Gives up the claim to a refresh that did not come about.
    pub(super) fn release(&mut self) {
        self.claimed = None;
    }

    /// Returns whether the entry is of no use any more.
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        let answers = self.answer.is_some_and(|answer| is_before(now, answer.old_until));
        let fails = self.failure.as_ref().is_some_and(|failure| failure.error.is_some() && now < failure.until);
        !answers && !fails
    }

    /// Returns when callers get what [`look`](Self::look) would give them without the lock.
    pub(super) fn ages(&self) -> Ages {
        let coarse = |until| self.at.coarse_at(until);
        let failed_until = self.failure.as_ref().map(|failure| failure.until);
        let failed = failed_until.map_or(Coarse::PAST, |until| coarse(Some(until)));
        let Some(Answered { stale_until, old_until, coarse: [fresh, stale], .. }) = self.answer else {
            return Ages { fresh_until: Coarse::PAST, stale_until: Coarse::PAST, settled_at: failed.after(LAG) };
        };
        let claimed_until = self.claimed.and_then(|claimed| claimed.checked_add(CLAIM));
        Ages {
            fresh_until: fresh,
            stale_until: match (claimed_until, failed_until) {
                // A refresh is claimed only after the failure.
                (Some(_), _) => coarse(earlier(claimed_until, stale_until)),
                (None, Some(_)) => coarse(earlier(failed_until, old_until)),
                (None, None) => Coarse::PAST,
            },
            settled_at: stale.max(failed).after(LAG),
        }
    }
}

impl Answered {
    fn new(answer: &Answer, at: Moment, cache: &CacheConfig, jitter: u8) -> Self {
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
        let after = |window: Duration| fresh_until.and_then(|fresh| fresh.checked_add(window));
        let coarse = at.coarse.after(ttl);
        Self {
            fresh_until,
            stale_until: after(cache.stale_while_revalidate),
            old_until: after(cache.stale_while_revalidate.max(cache.stale_if_error)),
            coarse: [coarse, coarse.after(cache.stale_while_revalidate)],
        }
    }
}
