//! The cache: answers and failures, and when each is fresh, stale or gone.

mod blocks;
mod entry;
#[cfg(all(test, gaiter_loom))]
mod models;
mod slot;
mod store;
mod version;
#[cfg(test)]
mod tests;

pub(crate) use self::entry::{Look, Old};
pub(crate) use self::slot::Seen;
pub(crate) use self::store::{Index, Store};

use std::time::Duration;

/// The settings of a resolver's cache, for [`Builder::cache`](crate::Builder::cache).
///
/// An answer goes through three ages. The times are the defaults, for an answer without a TTL of its own:
///
/// | age | since the lookup | callers get it | settings |
/// |---|---|---|---|
/// | *fresh* | 0 to 5 s | at once | [`ttl`](Self::ttl()), [`min_ttl`](Self::min_ttl()), [`max_ttl`](Self::max_ttl()) |
/// | *stale* | 5 to 60 s | at once, while one background lookup fetches a new one | [`stale_while_revalidate`](Self::stale_while_revalidate()) |
/// | *old* | 60 to 305 s | if a lookup fails, or takes longer than 1.8 s | [`stale_if_error`](Self::stale_if_error()), [`stale_answer_timeout`](Self::stale_answer_timeout()) (RFC 8767) |
///
/// [`Resolver::expire`](crate::Resolver::expire) makes an answer old ahead of time.
///
/// An authoritative "no such name" or "no address" replaces the answer, so that the old one is never given again. So does a denial by
/// the [filter](crate::AddrFilter).
///
/// Failures are cached too if they say something about the name. Errors of the [kinds](crate::ErrorKind) `NotFound`, `NoData` and
/// `Denied` are cached for [`negative_ttl`](Self::negative_ttl()), of the kinds `Temporary` and `Permanent` for
/// [`cooldown`](Self::cooldown()). Other errors are not cached.
///
/// The cache is in memory, belongs to one resolver, and holds at most [`max_names`](Self::max_names()). A name takes about 320
/// bytes. Addresses that do not fit take 32 bytes each: more than two of each family, or more than ten if all are of IPv4. A flush frees
/// less than half of that. The rest is used again for other names.
///
/// A fresh answer is given without a lock, as is a stale one while it is being refreshed. For names of more than 87 bytes, and for
/// failures, callers take the resolver's lock for a moment.
///
/// ```
/// use std::time::Duration;
/// use gaiter::CacheConfig;
///
/// let cache = CacheConfig::new().max_names(10_000).ttl(Duration::from_secs(10));
/// assert_eq!(cache.negative_ttl, Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Maximum number of names: set by [`max_names`](Self::max_names()).
    pub max_names: usize,
    /// TTL of answers that come without one: set by [`ttl`](Self::ttl()).
    pub ttl: Duration,
    /// Lower bound of TTLs that a backend gives: set by [`min_ttl`](Self::min_ttl()).
    pub min_ttl: Duration,
    /// Upper bound of TTLs that a backend gives: set by [`max_ttl`](Self::max_ttl()).
    pub max_ttl: Duration,
    /// How long an answer is given while a new one is fetched: set by
    /// [`stale_while_revalidate`](Self::stale_while_revalidate()).
    pub stale_while_revalidate: Duration,
    /// How long an answer is given if a lookup fails: set by [`stale_if_error`](Self::stale_if_error()).
    pub stale_if_error: Duration,
    /// How long a caller waits before it gets an old answer: set by
    /// [`stale_answer_timeout`](Self::stale_answer_timeout()).
    pub stale_answer_timeout: Duration,
    /// How long "no such name", "no address" and denials are cached: set by [`negative_ttl`](Self::negative_ttl()).
    pub negative_ttl: Duration,
    /// How long a failure of the name's servers is cached: set by [`cooldown`](Self::cooldown()).
    pub cooldown: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_names: 1024,
            ttl: Duration::from_secs(5),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(3600),
            stale_while_revalidate: Duration::from_secs(55),
            stale_if_error: Duration::from_secs(300),
            stale_answer_timeout: Duration::from_millis(1800),
            negative_ttl: Duration::from_secs(5),
            cooldown: Duration::from_secs(1),
        }
    }
}

impl CacheConfig {
    /// Returns the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns settings that cache nothing.
    ///
    /// Every lookup is then a call of the backend, as with plain `getaddrinfo`, unless it joins one in progress.
    #[must_use]
    pub fn disabled() -> Self {
        Self { max_names: 0, ..Self::default() }
    }

    /// Returns whether anything is cached.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.max_names > 0
    }

    /// Sets the maximum number of names. 0 disables the cache, and more than 16,777,216 count as that many. Default: 1,024.
    ///
    /// When the cache is full, names that nobody has asked for since they were stored are evicted first, the oldest of them before others.
    /// Adding a name examines at most 9 others, and evicts the last of these if all are in use.
    #[must_use]
    pub fn max_names(mut self, names: usize) -> Self {
        self.max_names = names;
        self
    }

    /// Sets the TTL of answers that come without one, as `getaddrinfo`'s do.
    ///
    /// It varies by up to a tenth either way, so that names stored together do not expire together. With a TTL of zero, answers are
    /// never fresh.
    ///
    /// Default: 5 seconds, as Envoy's `dns_refresh_rate`. A name in use costs one background lookup in that time, and no caller waits for
    /// it. With a longer TTL, every new connection goes to the old addresses for that long after a name has moved.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the lower bound of TTLs that a backend gives. Takes precedence over [`max_ttl`](Self::max_ttl()).
    ///
    /// Default: 1 second, so that an answer with a TTL of 0 is not looked up for every caller.
    #[must_use]
    pub fn min_ttl(mut self, min: Duration) -> Self {
        self.min_ttl = min;
        self
    }

    /// Sets the upper bound of TTLs that a backend gives. Default: 1 hour.
    ///
    /// Within the bounds, each TTL is shortened by up to a tenth, so that names stored together do not expire together.
    #[must_use]
    pub fn max_ttl(mut self, max: Duration) -> Self {
        self.max_ttl = max;
        self
    }

    /// Sets how long after its TTL an answer is still given at once, while a background lookup fetches a new one.
    ///
    /// Zero turns this off. Default: 55 seconds, so that an answer without a TTL is given at once for 60 seconds after its lookup. curl,
    /// Chromium and Firefox keep answers for as long.
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// Sets how long after its TTL an answer is given if a lookup fails or is slow.
    ///
    /// A value below [`stale_while_revalidate`](Self::stale_while_revalidate()) counts as that. Default: 5 minutes.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// Sets how long a caller waits for a lookup before it gets the old answer instead. The [timeout](crate::Builder::timeout) counts
    /// too, if it is shorter.
    ///
    /// Default: 1.8 seconds, the client response timer of RFC 8767, section 5. BIND calls it `stale-answer-client-timeout`,
    /// Unbound `serve-expired-client-timeout`.
    #[must_use]
    pub fn stale_answer_timeout(mut self, timeout: Duration) -> Self {
        self.stale_answer_timeout = timeout;
        self
    }

    /// Sets how long "no such name", "no address" and denials of the [filter](crate::AddrFilter) are cached.
    ///
    /// Zero turns this off. The TTL of a negative answer of DNS is not used.
    ///
    /// Default: 5 seconds. It is short because some platforms say "no such name" when they are out of descriptors.
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// Sets how long a name is not looked up again after its servers have failed.
    ///
    /// Until then callers get the old answer at once if there is one, and otherwise the failure. If there is an old answer, any
    /// other failure of a lookup starts a cooldown too.
    ///
    /// Zero turns this off. Default: 1 second, the least that RFC 9520 allows.
    #[must_use]
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = cooldown;
        self
    }
}
