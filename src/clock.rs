use std::time::Duration;

use crate::ffi;
use crate::sync::{self, Instant};

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) exact: Instant,
    pub(crate) coarse: Coarse,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { exact: sync::now(), coarse: Coarse::now() }
    }

    /// Returns a later time by the other clock. A time that is not later counts as past, and `None` is after every time.
    pub(crate) fn coarse_at(self, exact: Option<Instant>) -> Coarse {
        let Some(exact) = exact else { return Coarse::NEVER };
        exact.checked_duration_since(self.exact).map_or(Coarse::PAST, |later| self.coarse.after(later))
    }
}

/// A time by a clock that is cheap to read, since it moves in steps of a few milliseconds.
///
/// That is good enough to tell whether an answer that lives for seconds is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coarse {
    /// Counted from a moment of the clock's own.
    nanos: u64,
}

impl Coarse {
    /// A time that has passed.
    pub(crate) const PAST: Self = Self { nanos: 0 };
    /// The latest possible time.
    pub(crate) const NEVER: Self = Self { nanos: u64::MAX };

    #[inline]
    pub(crate) fn now() -> Self {
        Self { nanos: ffi::coarse_nanos() }
    }

    #[inline]
    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self { nanos }
    }

    /// Returns the time that is `duration` later, or the latest possible time.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self { nanos: self.nanos.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)) }
    }

    pub(crate) fn nanos(self) -> u64 {
        self.nanos
    }

    pub(crate) fn tick(self) -> Tick {
        Tick((self.nanos / Tick::NANOS) as u32)
    }
}

/// A moment in steps of 17 milliseconds, in half the space. Comes round again after 833 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    const NANOS: u64 = 1 << 24;

    /// Returns the time since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::from(self.0.wrapping_sub(earlier.0)) * Self::NANOS)
    }
}
