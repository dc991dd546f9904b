//! Second calls for names whose first call is slow.

use std::time::Duration;

use super::calls::Share;
use super::flights::{FlightId, Lane};
use super::{BATCH, Engine};
use crate::sync::Instant;

/// When a slow call gets a second one, for [`Builder::hedge`](crate::Builder::hedge).
///
/// A lost packet costs `getaddrinfo` five seconds. A second call, on another thread and so from another socket, usually answers at
/// once. The first answer counts, and a failure waits for the other call. A name has at most two calls.
///
/// The number of second calls is limited, so that they do not add to an outage: to a twentieth of the calls that are answered,
/// and ten more; to an eighth of [`max_lookups`](crate::Builder::max_lookups) at once; and to places that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge(Delay);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delay {
    Adaptive,
    Fixed(Duration),
    Never,
}

impl Hedge {
    /// Makes a second call after three times the median of what calls have taken lately. At least 100 milliseconds, at most a
    /// second.
    ///
    /// The idea is that of "The Tail at Scale" (Dean and Barroso, 2013). Until 8 calls have been answered, the delay is a third
    /// of a second, which is when hickory asks again.
    #[must_use]
    pub fn adaptive() -> Self {
        Self(Delay::Adaptive)
    }

    /// Makes a second call after this time.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self(Delay::Fixed(delay))
    }

    /// Makes no second call, except for a call that has run for longer than the [timeout](crate::Builder::timeout).
    #[must_use]
    pub fn off() -> Self {
        Self(Delay::Never)
    }
}

/// A call is slow after this many times the median. With a server that takes 80 ms, a lost packet then costs less than in
/// hickory, which asks again after a third of a second.
const SLOW: u32 = 3;

/// Number of answers that earn a second call.
const PRICE: u32 = 20;

/// Maximum number of second calls that are saved up.
const BURST: u32 = 10;

/// When calls are slow, and how many second calls may be made.
#[derive(Debug)]
pub(super) struct Hedging {
    delay: Delay,
    pace: Pace,
    /// What was earned and has not been spent: [`PRICE`] buys a second call.
    earned: u32,
    /// Maximum number of second calls at once.
    max: usize,
}

impl Hedging {
    pub(super) fn new(hedge: Hedge, max_calls: usize) -> Self {
        Self { delay: hedge.0, pace: Pace::default(), earned: BURST * PRICE, max: (max_calls / 8).max(1) }
    }

    /// Records a call that was answered.
    pub(super) fn answered(&mut self, took: Duration) {
        self.pace.record(took);
        self.earned = (self.earned + 1).min(BURST * PRICE);
    }

    /// Returns after how long a call is slow.
    #[inline]
    pub(super) fn delay(&self) -> Option<Duration> {
        match self.delay {
            Delay::Adaptive => Some(self.pace.delay),
            Delay::Fixed(delay) => Some(delay),
            Delay::Never => None,
        }
    }

    /// Returns whether there may be another second call beside `running` others.
    pub(super) fn may_hedge(&self, running: usize) -> bool {
        self.earned >= PRICE && running < self.max
    }

    fn spend(&mut self) {
        self.earned = self.earned.saturating_sub(PRICE);
    }
}

/// Buckets for each power of two.
const FINE: u32 = 4;

/// Number of buckets: up to 2^24 microseconds, which is 17 seconds.
const BUCKETS: usize = 24 * FINE as usize;

/// Maximum number of calls that are remembered. Then the older ones count half.
const REMEMBERED: u32 = 256;

/// What calls usually take.
#[derive(Debug)]
struct Pace {
    /// The number of calls in each bucket of durations.
    counts: [u16; BUCKETS],
    calls: u32,
    /// [`SLOW`] times the median, within bounds.
    delay: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], calls: 0, delay: Duration::from_secs(1) / 3 }
    }
}

impl Pace {
    fn record(&mut self, took: Duration) {
        let micros = took.as_secs().saturating_mul(1_000_000).saturating_add(took.subsec_micros().into());
        self.counts[bucket(micros)] += 1;
        self.calls += 1;
        // Seldom, since the median moves slowly.
        if self.calls % 8 == 0 {
            self.delay = self.median().saturating_mul(SLOW).clamp(Duration::from_millis(100), Duration::from_secs(1));
        }
        if self.calls >= REMEMBERED {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.calls = self.counts.iter().map(|&count| u32::from(count)).sum();
        }
    }

    fn median(&self) -> Duration {
        let mut below = 0;
        let is_above = |count: &u16| {
            below += u32::from(*count);
            2 * below >= self.calls
        };
        let bucket = self.counts.iter().position(is_above).unwrap_or(BUCKETS);
        // The upper end of the bucket, so that the delay is not too short.
        let (power, step) = (bucket as u32 / FINE, bucket as u32 % FINE);
        Duration::from_micros((1 << power) + ((u64::from(step) + 1) << power) / u64::from(FINE))
    }
}

/// Returns the bucket of a duration in microseconds.
fn bucket(micros: u64) -> usize {
    let micros = micros.clamp(1, (1 << 24) - 1);
    let power = micros.ilog2();
    // The two bits after the first.
    let step = (micros << 2 >> power) - u64::from(FINE);
    power as usize * FINE as usize + step as usize
}

impl<W> Engine<W> {
    /// Queues second calls for flights whose call is slow, as far as they are allowed. They take only places that nobody waits
    /// for. `at_hand` says whether a worker has come for its next call.
    #[inline]
    pub(super) fn hedge(&mut self, now: Instant, at_hand: bool) {
        if let Some(delay) = self.hedging.delay().filter(|&delay| self.calls.are_slow(now, delay)) {
            self.hedge_slow(now, delay, at_hand);
        }
    }

    #[cold]
    fn hedge_slow(&mut self, now: Instant, delay: Duration, at_hand: bool) {
        self.calls.slow_down(now, delay);
        for _ in 0..BATCH {
            if !self.hedging.may_hedge(self.calls.hedges()) {
                return;
            }
            // The latest is the likeliest to have lost a packet. Those before it may wait for servers that are silent.
            let Some((worker, flight, hash)) = self.calls.last_slow() else { return };
            let lane = self.lane_of(hash);
            let is_blocked = |name| self.blocked(name, lane, now).is_some();
            if !self.wants_hedge(flight) || self.flights.name(flight).is_some_and(is_blocked) {
                self.calls.give_up_slow(worker);
                continue;
            }
            let share = Share::of(lane);
            let has_worker = at_hand || !self.crew.is_full();
            let is_full = self.calls.workers_in(share) >= self.max_workers_for(share) || !has_worker;
            if is_full || Lane::ALL.into_iter().any(|lane| self.flights.queued(lane) > 0) {
                return;
            }
            self.calls.give_up_slow(worker);
            self.hedging.spend();
            self.flights.hedge(flight, now, lane);
        }
    }

    /// Hedges the call of a flight that a caller has joined, if nobody waited for it when it became slow.
    pub(super) fn reconsider(&mut self, flight: FlightId, now: Instant) {
        let Some(delay) = self.hedging.delay() else { return };
        let mut calls = self.flights.calls(flight);
        let only = calls.next().filter(|_| calls.next().is_none());
        let slow = only.filter(|(_, since)| now.is_after(*since, delay));
        drop(calls);
        if let Some((worker, _)) = slow {
            self.calls.reconsider(worker);
        }
    }

    /// Returns whether somebody waits for the only call of a flight.
    fn wants_hedge(&self, flight: FlightId) -> bool {
        !self.closed
            && !self.flights.is_deserted(flight)
            && !self.flights.is_queued(flight)
            && self.flights.calls(flight).count() == 1
    }

    /// Returns when the next call is slow, if it could get a second one.
    pub(super) fn next_hedge(&self) -> Option<Instant> {
        if !self.hedging.may_hedge(self.calls.hedges()) {
            return None;
        }
        self.calls.first_fresh()?.checked_add(self.hedging.delay()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_a_median_is_within_a_quarter_of_the_truth() {
        assert!((0..100_000).map(bucket).is_sorted());
        for micros in [1, 2, 3, 100, 999, 5_000, 80_000, 1_000_000, 16_000_000] {
            let mut pace = Pace::default();
            (0..20).for_each(|_| pace.record(Duration::from_micros(micros)));
            let median = pace.median().as_micros() as f64 / micros as f64;
            assert!((1.0..=2.0).contains(&median) && (micros < 4 || median <= 1.26), "{micros} us: {median}");
        }
        _ = bucket(u64::MAX);
    }

    #[test]
    fn the_delay_follows_what_calls_take_within_its_bounds() {
        let mut hedging = Hedging::new(Hedge::adaptive(), 512);
        let mut after = |micros, calls| {
            (0..calls).for_each(|_| hedging.answered(Duration::from_micros(micros)));
            hedging.delay().expect("it is not off").as_millis()
        };
        assert_eq!(after(300, 0), 333);
        assert_eq!(after(300, 8), 100);
        assert_eq!(after(300, 1_000_000), 100);
        assert!((240..=300).contains(&after(80_000, 300)), "soon");
        assert_eq!(after(2_000_000, 300), 1000);
        assert_eq!(after(300, 600), 100);
    }

    #[test]
    fn one_in_twenty_and_ten_more() {
        let mut hedging = Hedging::new(Hedge::adaptive(), 512);
        let mut made = |answers| {
            (0..answers).for_each(|_| hedging.answered(Duration::ZERO));
            std::iter::from_fn(|| hedging.may_hedge(0).then(|| hedging.spend())).count()
        };
        assert_eq!((made(0), made(0), made(19), made(1), made(100), made(1000)), (10, 0, 0, 1, 5, 10));
        assert!(!hedging.may_hedge(64));
    }
}
