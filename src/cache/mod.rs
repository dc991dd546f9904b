//! Answers that last: entries, and when they are fresh, stale or gone.

mod entry;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::entry::{Look, Old};
pub(crate) use self::store::{Index, Store};

use std::time::Duration;

/// How answers are cached; for [`Builder::cache`](crate::Builder::cache).
///
/// An answer is *fresh* for its time to live, and given without a lookup. For a while after that it is *stale*: given all the
/// same, at once, while one lookup in the background, which belongs to no caller, fetches a new one
/// (stale-while-revalidate). After that a lookup is waited for, and the old answer given only if that fails, or has not come
/// after [`patience`](Self::patience) (stale-if-error, RFC 8767); but never if the failure is an authoritative "no such name"
/// or "no address", which takes the place of the old answer.
///
/// Failures are cached too, where they say something of the name: "no such name" and "no address" for
/// [`negative_ttl`](Self::negative_ttl), and those of the name's servers, temporary or not, for
/// [`cooldown`](Self::cooldown). Errors of the system, timeouts, overload, closing and panics never are.
///
/// The cache is in memory, the resolver's own, and bounded by [`names`](Self::names); each costs about 400 bytes, and 32 more
/// for every address of an answer that has more than four.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cache {
    /// [`Cache::names`](Self::names()).
    pub names: usize,
    /// [`Cache::ttl`](Self::ttl()).
    pub ttl: Duration,
    /// [`Cache::ttl_bounds`](Self::ttl_bounds()).
    pub min_ttl: Duration,
    /// [`Cache::ttl_bounds`](Self::ttl_bounds()).
    pub max_ttl: Duration,
    /// [`Cache::stale_while_revalidate`](Self::stale_while_revalidate()).
    pub stale_while_revalidate: Duration,
    /// [`Cache::stale_if_error`](Self::stale_if_error()).
    pub stale_if_error: Duration,
    /// [`Cache::patience`](Self::patience()).
    pub patience: Duration,
    /// [`Cache::negative_ttl`](Self::negative_ttl()).
    pub negative_ttl: Duration,
    /// [`Cache::cooldown`](Self::cooldown()).
    pub cooldown: Duration,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            names: 1024,
            ttl: Duration::from_secs(30),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(3600),
            stale_while_revalidate: Duration::from_secs(30),
            stale_if_error: Duration::from_secs(300),
            patience: Duration::from_millis(1800),
            negative_ttl: Duration::from_secs(5),
            cooldown: Duration::from_secs(1),
        }
    }
}

impl Cache {
    /// A cache with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No cache: every lookup that joins no other is a call, as plain `getaddrinfo` has it.
    #[must_use]
    pub fn disabled() -> Self {
        Self { names: 0, ..Self::default() }
    }

    /// Whether anything is cached at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.names > 0
    }

    /// How many names are kept; 0 disables the cache. Over the bound, names that were not asked for since they were stored go
    /// first. Adding a name examines at most 9 others, and evicts the last of these if all are in use. Default: 1,024.
    #[must_use]
    pub fn names(mut self, names: usize) -> Self {
        self.names = names;
        self
    }

    /// How long an answer is fresh whose backend does not know (`getaddrinfo` loses the TTL), give or take a tenth, so that
    /// names stored together do not expire together.
    ///
    /// Default: 30 seconds, as in Java; curl, Chromium, Firefox and Envoy have 60.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The bounds of a time to live that the backend does know, which is shortened by up to a tenth. Default: 1 second, so
    /// that an answer with a TTL of 0 is not asked for anew by every caller; and 1 hour.
    #[must_use]
    pub fn ttl_bounds(mut self, min: Duration, max: Duration) -> Self {
        (self.min_ttl, self.max_ttl) = (min, max.max(min));
        self
    }

    /// For how long after it was fresh an answer is given at once while a new one is fetched. Default: 30 seconds; Firefox
    /// has 60.
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// For how long after it was fresh an answer is given where a new one cannot be had. Default: 5 minutes.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// How long a caller waits for a new answer before it gets the old one. Default: 1.8 seconds (RFC 8767, section 5).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// For how long "no such name" and "no address" are believed. Default: 5 seconds, because some platforms say so when
    /// they are out of descriptors.
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// For how long after a failure of its servers a name is not looked up again: who asks gets the old answer at once, or
    /// else that failure. Where there is an old answer, the same holds after any other failure. Default: 1 second (RFC 9520 asks for no less).
    #[must_use]
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = cooldown;
        self
    }
}
