//! Which names may be called for: lanes have bounds, and names of blocked zones are parked.

use std::hash::BuildHasher;

use super::calls::Share;
use super::flights::{FlightId, Lane};
use super::zones::ZoneId;
use super::{BATCH, Engine};
use crate::name::Name;
use crate::sync::Instant;

impl<W> Engine<W> {
    /// Returns whether a lane has room for another name. Its bound is `max_queued`, plus the number of further calls that may
    /// run. A call that has its result no longer counts as running, even while its thread tells the waiters. Names of blocked
    /// zones have the bound `max_queued`, all together. A `flight` for the name may be parked already.
    pub(super) fn has_room(&self, lane: Lane, name: &Name, flight: Option<FlightId>, now: Instant) -> bool {
        if self.blocked(name, lane, now).is_some() {
            let own = usize::from(flight.is_some_and(|flight| self.flights.is_parked(flight)));
            return self.flights.zones.parked() - own < self.limits.max_queued;
        }
        let share = Share::of(lane);
        let theirs = self.max_workers_for(share).saturating_sub(self.calls.running_in(share));
        let free = theirs.min(self.limits.max_calls.saturating_sub(self.calls.running()));
        self.flights.queued(lane) < self.limits.max_queued.saturating_add(free)
    }

    /// Queues a flight, or parks it if its zone is blocked.
    pub(super) fn enqueue(&mut self, flight: FlightId, since: Instant, lane: Lane, now: Instant) {
        let zone = self.flights.name(flight).and_then(|name| self.blocked(name, lane, now));
        self.flights.enqueue(flight, since, lane, zone);
    }

    /// Returns the zone of a name, if it is blocked. Names that have answered before are called for regardless.
    pub(super) fn blocked(&self, name: &Name, lane: Lane, now: Instant) -> Option<ZoneId> {
        if lane == Lane::Known || !self.may_block() {
            return None;
        }
        self.flights.zones.blocked(self.zone_of(name), now)
    }

    /// Counts calls in their zones, if there are enough of them that a zone could be blocked soon.
    #[inline]
    pub(super) fn count_zones(&mut self, now: Instant) {
        if self.must_count() {
            let Self { calls, flights, hasher, .. } = self;
            calls.count_zones(&mut flights.zones, |name| hasher.hash_one(name.borrowed().zone()));
            calls.lengthen(&mut flights.zones, now);
        }
    }

    #[inline]
    fn must_count(&self) -> bool {
        self.flights.zones.must_count(self.calls.running_in(Share::Other))
    }

    #[inline]
    fn may_block(&self) -> bool {
        self.flights.zones.may_block(self.calls.running_in(Share::Other))
    }

    /// Returns the hash of a name's zone.
    pub(super) fn zone_of(&self, name: &Name) -> u64 {
        self.hasher.hash_one(name.borrowed().zone())
    }

    /// Counts calls in their zones, and parks a batch of names at the heads of the lanes whose zones are blocked. Returns whether
    /// there may be more.
    ///
    /// If too many are parked, names are called for in their order, whatever their zone.
    #[inline]
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        self.must_count() && self.settle_counted(now)
    }

    #[cold]
    fn settle_counted(&mut self, now: Instant) -> bool {
        self.count_zones(now);
        if !self.may_block() {
            return false;
        }
        let mut left = BATCH;
        for lane in [Lane::New, Lane::Refresh] {
            while let Some((flight, name)) = self.flights.first_in_lane(lane) {
                let Some(zone) = self.blocked(name, lane, now) else { break };
                if self.flights.zones.parked() >= self.max_parked() {
                    break;
                }
                if left == 0 {
                    return true;
                }
                left -= 1;
                self.flights.park(flight, zone);
            }
        }
        false
    }

    /// Returns the maximum number of parked names: as many as can be in two lanes.
    pub(super) fn max_parked(&self) -> usize {
        self.limits.max_queued.saturating_add(self.limits.max_calls).saturating_mul(2)
    }
}
