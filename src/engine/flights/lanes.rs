//! The lanes, and flights in them.

use super::{Calling, Flight, FlightId, Flights, Lane, Queued, Taken};
use crate::engine::crew::WorkerId;
use crate::engine::zones::ZoneId;
use crate::name::Name;
use crate::sync::Instant;

impl<W> Flights<W> {
    /// Queues a flight in a lane, or parks it if its `zone` is blocked.
    pub(in crate::engine) fn enqueue(&mut self, flight: FlightId, since: Instant, lane: Lane, zone: Option<ZoneId>) {
        self.set_background(flight, lane == Lane::Refresh);
        let place = self.next_number();
        let Some(entry) = self.get_mut(flight) else { return };
        // A second call is for the waiters on the first.
        if !entry.is_called_for() {
            entry.sought = Some(since);
        }
        entry.queued = Some(Queued { lane, place, since, parked: zone, is_hedge: false });
        match zone {
            Some(zone) => self.zones.park(zone, &mut self.flights, flight.0, place),
            None => self.lanes[lane as usize].push_back(&mut self.flights, flight.0),
        }
    }

    /// Parks a flight that is queued.
    pub(in crate::engine) fn park(&mut self, flight: FlightId, zone: ZoneId) {
        let Some(queued) = self.get_mut(flight).and_then(|flight| flight.queued.as_mut()) else { return };
        let (lane, place) = (queued.lane, queued.place);
        queued.parked = Some(zone);
        self.lanes[lane as usize].remove(&mut self.flights, flight.0);
        self.zones.park(zone, &mut self.flights, flight.0, place);
    }

    /// Removes a flight from its lane, or from where it is parked. Returns whether it was queued.
    pub(in crate::engine) fn dequeue(&mut self, flight: FlightId) -> bool {
        let Some(Queued { lane, parked, .. }) = self.get_mut(flight).and_then(|flight| flight.queued.take()) else {
            return false;
        };
        match parked {
            Some(zone) => {
                let place = |flight: &Flight<W>| flight.queued.map(|queued| queued.place);
                self.zones.unpark(zone, &mut self.flights, flight.0, place);
            }
            None => self.lanes[lane as usize].remove(&mut self.flights, flight.0),
        }
        true
    }

    pub(in crate::engine) fn is_queued(&self, flight: FlightId) -> bool {
        self.lane(flight).is_some()
    }

    /// Returns the lane in which a flight waits.
    pub(in crate::engine) fn lane(&self, flight: FlightId) -> Option<Lane> {
        self.get(flight)?.queued.map(|queued| queued.lane)
    }

    pub(in crate::engine) fn is_parked(&self, flight: FlightId) -> bool {
        self.get(flight).and_then(|flight| flight.queued).is_some_and(|queued| queued.parked.is_some())
    }

    /// Queues a flight for a second call because the first is slow.
    pub(in crate::engine) fn hedge(&mut self, flight: FlightId, now: Instant, lane: Lane) {
        self.enqueue(flight, now, lane, None);
        if let Some(queued) = self.get_mut(flight).and_then(|flight| flight.queued.as_mut()) {
            queued.is_hedge = true;
        }
    }

    /// Returns the number of flights in a lane that are not parked.
    pub(in crate::engine) fn queued(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].len()
    }

    /// Returns whether a flight is queued or parked.
    #[inline]
    pub(in crate::engine) fn are_queued(&self) -> bool {
        self.zones.parked() > 0 || self.lanes.iter().any(|lane| lane.len() > 0)
    }

    /// Returns the head of the first lane that is not empty.
    pub(in crate::engine) fn first_queued(&self) -> Option<FlightId> {
        let queued = self.lanes.iter().find_map(|lane| lane.first(&self.flights));
        queued.or_else(|| self.zones.first_parked(&self.flights, None)).map(FlightId)
    }

    /// Returns the first flight of a lane that is not parked, and its name.
    pub(in crate::engine) fn first_in_lane(&self, lane: Lane) -> Option<(FlightId, &Name)> {
        let flight = self.lanes[lane as usize].first(&self.flights)?;
        Some((FlightId(flight), &self.flights.get(flight)?.name))
    }

    /// Returns the head of a lane, and since when it has been waiting. A parked flight counts once its zone is open.
    #[inline]
    pub(in crate::engine) fn head(&self, lane: Lane, now: Instant) -> Option<(FlightId, Instant)> {
        let in_lane = &self.lanes[lane as usize];
        let may_be_parked = lane == Lane::New && self.zones.parked() > 0;
        // Mostly there is none.
        if in_lane.len() == 0 && !may_be_parked {
            return None;
        }
        let queued = |flight| Some((FlightId(flight), self.flights.get(flight)?.queued.as_ref()?));
        let first = in_lane.first(&self.flights).and_then(queued);
        let open = if may_be_parked { self.zones.first_open(now) } else { None };
        let is_earlier = |&(place, _): &(u64, ZoneId)| first.is_none_or(|(_, first)| place < first.place);
        let (flight, queued) = match open.filter(is_earlier) {
            Some((_, zone)) => queued(self.zones.first_parked(&self.flights, Some(zone))?)?,
            None => first?,
        };
        Some((flight, queued.since))
    }

    /// Removes a flight from its lane. `worker` calls for it from now on.
    pub(in crate::engine) fn take(&mut self, flight: FlightId, worker: WorkerId, now: Instant) -> Option<Taken> {
        let is_hedge = self.get(flight)?.queued?.is_hedge;
        self.dequeue(flight);
        let number = self.next_number();
        let entry = self.get_mut(flight)?;
        // One is free: no flight with two calls is queued.
        if let Some(free) = entry.calls.iter_mut().find(|call| call.is_none()) {
            *free = Some(Calling { worker, since: now, number, superseded: false });
        }
        entry.hedged |= is_hedge;
        let is_second = entry.calls.iter().flatten().count() > 1;
        Some(Taken { name: entry.name.clone(), hash: entry.hash, is_second, is_hedge })
    }
}
