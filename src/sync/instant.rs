use std::num::NonZeroU64;
use std::time::Duration;

use crate::ffi;

/// A time by the clock of [`std::time::Instant`].
///
/// Takes half the space, and is compared and added to with a few instructions. A lookup does that some fifty times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instant {
    /// Counted from a moment of the clock's own.
    nanos: NonZeroU64,
}

impl Instant {
    /// Returns the time now. All but tests call [`sync::now`](super::now), which a model can stop.
    #[inline]
    pub(crate) fn now() -> Self {
        Self { nanos: NonZeroU64::new(ffi::exact_nanos()).unwrap_or(NonZeroU64::MIN) }
    }

    /// Returns the time that is `duration` later, or `None` if that is after 584 years of the clock.
    #[inline]
    pub(crate) fn checked_add(self, duration: Duration) -> Option<Self> {
        let seconds = duration.as_secs().checked_mul(1_000_000_000)?;
        let nanos = self.nanos.checked_add(seconds)?.checked_add(u64::from(duration.subsec_nanos()))?;
        Some(Self { nanos })
    }

    /// Returns the earlier of two times. `None` is later than all.
    #[inline]
    pub(crate) fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        // With zero for `None`, the numbers before them are in order, and nothing needs to be branched on.
        let before = |at: Option<Self>| at.map_or(0, |at| at.nanos.get()).wrapping_sub(1);
        let nanos = before(one).min(before(other)).wrapping_add(1);
        NonZeroU64::new(nanos).map(|nanos| Self { nanos })
    }

    /// Returns the time since `earlier`, or `None` if that is later.
    #[inline]
    pub(crate) fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.nanos.get().checked_sub(earlier.nanos.get()).map(Duration::from_nanos)
    }

    /// Returns whether `earlier` is earlier by `duration` at least.
    #[inline]
    pub(crate) fn is_after(self, earlier: Self, duration: Duration) -> bool {
        let since = self.nanos.get().saturating_sub(earlier.nanos.get());
        u128::from(since) >= duration.as_nanos()
    }

    /// Returns the time since `earlier`, or zero if that is later.
    #[inline]
    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos.get().saturating_sub(earlier.nanos.get()))
    }
}

/// For tests and models.
#[cfg(any(test, fuzzing, gaiter_loom))]
impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Returns the time that is `duration` later, or the latest possible time.
    fn add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self { nanos: NonZeroU64::MAX })
    }
}

/// More arithmetic for tests, whose times are far from the limits. As with std's, it panics there.
#[cfg(any(test, fuzzing))]
mod tests {
    use std::ops::{AddAssign, Sub};

    use super::*;

    impl AddAssign<Duration> for Instant {
        fn add_assign(&mut self, duration: Duration) {
            *self = *self + duration;
        }
    }

    impl Sub<Duration> for Instant {
        type Output = Self;

        fn sub(self, duration: Duration) -> Self {
            let nanos = u64::try_from(duration.as_nanos()).ok().and_then(|nanos| self.nanos.get().checked_sub(nanos));
            Self { nanos: nanos.and_then(NonZeroU64::new).expect("the clock has run for that long") }
        }
    }

    impl Sub for Instant {
        type Output = Duration;

        fn sub(self, earlier: Self) -> Duration {
            self.checked_duration_since(earlier).expect("it is earlier")
        }
    }

    #[cfg(test)]
    #[test]
    fn arithmetic_is_exact_and_ends_at_its_limits() {
        let (now, ages) = (Instant::now(), Duration::from_nanos(u64::MAX));
        let later = now + Duration::new(3, 7);
        assert_eq!((later - now, later.saturating_duration_since(now)), (Duration::new(3, 7), Duration::new(3, 7)));
        assert_eq!((now.checked_duration_since(later), now.saturating_duration_since(later)), (None, Duration::ZERO));
        assert!(later - Duration::new(3, 7) == now && now < later);
        assert_eq!([ages, Duration::MAX].map(|ages| now.checked_add(ages)), [None, None]);
        assert!(now + Duration::MAX > later && (now + Duration::MAX).checked_add(Duration::from_nanos(1)).is_none());
        let durations = [Duration::ZERO, Duration::new(3, 7), Duration::new(3, 8), Duration::MAX];
        assert_eq!(durations.map(|duration| later.is_after(now, duration)), [true, true, false, false]);
        assert_eq!(durations.map(|duration| now.is_after(later, duration)), [true, false, false, false]);
        let [first, last] = [Some(now), Some(later)];
        for (one, other, earlier) in
            [(first, last, first), (last, first, first), (None, last, last), (first, None, first), (None, None, None)]
        {
            assert_eq!(Instant::earlier(one, other), earlier);
        }
        assert_eq!(size_of::<Option<Instant>>(), 8);
    }
}
