use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::crew::WorkerId;
use super::waiters::Waiters;
use crate::name::Name;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlightId(u64);

/// One waiter on one flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) flight: FlightId,
    waiter: u64,
}

/// Where a flight waits for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For names that have answered before.
    Known,
    New,
    /// For what nobody waits for.
    Refresh,
}

/// One lookup in progress, with the callers that wait for it.
///
/// It lasts as long as anything of it does: a waiter, a place in a lane, a call. One that all its waiters have left goes on
/// with its call, and those who come later join it.
#[derive(Debug)]
struct Flight<W> {
    name: Name,
    waiters: Waiters<Waiting<W>>,
    shared: bool,
    queued: Option<Queued>,
    /// Since when an answer has been sought without a break.
    sought: Option<Instant>,
    /// It was asked for before a flush: its answer is for those who wait for it, and for nobody else.
    flushed: bool,
    /// It was asked for in the background, or those who asked make do with something else: nobody need wait for it.
    for_nobody: bool,
    /// Until when it goes on so, if it has been said.
    limit: Option<Instant>,
    /// The calls that run for it: a second one only where the first is stuck.
    calls: [Option<(WorkerId, Instant)>; 2],
}

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    deadline: Option<Deadline>,
}

/// When a waiter is to have something at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// It has something else to make do with.
    pub(super) relief: bool,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    lane: Lane,
    place: u64,
    since: Instant,
}

/// All flights, at most one for a name, their lanes and their deadlines.
#[derive(Debug)]
pub(super) struct Flights<W> {
    flights: HashMap<FlightId, Flight<W>>,
    by_name: HashMap<Name, FlightId>,
    lanes: [BTreeMap<u64, FlightId>; 3],
    /// Only of those who wait, and the limits of flights, which have [`NOBODY`] for a waiter: as many as there are of both, however
    /// long the timeout.
    deadlines: BTreeSet<(Instant, u64, FlightId)>,
    last: u64,
}

/// A number that no waiter has.
const NOBODY: u64 = 0;

/// Whose time is up.
pub(super) enum Due {
    Waiter(Ticket),
    /// That of a flight for nobody.
    Nobody(FlightId),
}

/// A waiter that has left, or has to.
pub(super) struct Left<W> {
    pub(super) waiter: W,
    pub(super) name: Name,
    pub(super) relief: bool,
}

impl<W> Flights<W> {
    pub(super) fn new() -> Self {
        Self {
            flights: HashMap::new(),
            by_name: HashMap::new(),
            lanes: Default::default(),
            deadlines: BTreeSet::new(),
            last: 0,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn find(&self, name: &Name) -> Option<FlightId> {
        self.by_name.get(name).copied()
    }

    /// Adds a waiter to the flight for `name`, which may be new. Says whether others had been there before.
    pub(super) fn join(&mut self, name: Name, waiter: W, deadline: Option<Deadline>) -> (Ticket, bool) {
        let id = self.find_or_begin(name);
        let number = self.next_number();
        let mut joined = false;
        if let Some(flight) = self.flights.get_mut(&id) {
            joined = flight.queued.is_some() || flight.calls.iter().any(Option::is_some);
            flight.shared |= !flight.waiters.is_empty();
            flight.waiters.push(number, Waiting { waiter, deadline });
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline.at, number, id)));
        (Ticket { flight: id, waiter: number }, joined)
    }

    /// The flight for `name`, which is over at once unless something is done with it.
    pub(super) fn find_or_begin(&mut self, name: Name) -> FlightId {
        if let Some(id) = self.find(&name) {
            return id;
        }
        let id = FlightId(self.next_number());
        self.by_name.insert(name.clone(), id);
        let flight = Flight {
            name,
            waiters: Waiters::NONE,
            shared: false,
            queued: None,
            sought: None,
            flushed: false,
            for_nobody: false,
            limit: None,
            calls: [None, None],
        };
        self.flights.insert(id, flight);
        id
    }

    /// Those who ask for `name`, or for any name where it is none, begin anew from here on.
    pub(super) fn flush(&mut self, name: Option<&Name>) {
        let flushed = match name {
            Some(name) => self.by_name.remove(name).into_iter().collect(),
            None => std::mem::take(&mut self.by_name).into_values().collect::<Vec<_>>(),
        };
        for id in flushed {
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.flushed = true;
            }
        }
    }

    pub(super) fn is_flushed(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|flight| flight.flushed)
    }

    /// Takes one waiter out.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Left<W>> {
        let flight = self.flights.get_mut(&ticket.flight)?;
        let Waiting { waiter, deadline } = flight.waiters.remove(ticket.waiter)?;
        let relief = deadline.is_some_and(|deadline| deadline.relief);
        let left = Left { waiter, name: flight.name.clone(), relief };
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline.at, ticket.waiter, ticket.flight));
        }
        Some(left)
    }

    /// Takes all waiters out, the one that has waited longest first.
    pub(super) fn take_waiters(&mut self, flight: FlightId) -> Vec<W> {
        let Some(entry) = self.flights.get_mut(&flight) else { return Vec::new() };
        let waiters = entry.waiters.take().map(|(number, Waiting { waiter, deadline })| {
            if let Some(deadline) = deadline {
                self.deadlines.remove(&(deadline.at, number, flight));
            }
            waiter
        });
        waiters.collect()
    }

    pub(super) fn waiters(&self, flight: FlightId) -> impl Iterator<Item = &W> {
        self.flights.get(&flight).into_iter().flat_map(|flight| flight.waiters.iter()).map(|waiting| &waiting.waiter)
    }

    pub(super) fn is_shared(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|flight| flight.shared)
    }

    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, ..)| deadline)
    }

    #[cfg(test)]
    pub(super) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// A deadline that is not after `now`.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        let &(_, waiter, flight) = self.deadlines.first().filter(|&&(deadline, ..)| deadline <= now)?;
        Some(if waiter == NOBODY { Due::Nobody(flight) } else { Due::Waiter(Ticket { flight, waiter }) })
    }

    pub(super) fn enqueue(&mut self, flight: FlightId, since: Instant, lane: Lane) {
        let place = self.next_number();
        if lane != Lane::Refresh {
            self.forsake(flight);
        }
        if let Some(entry) = self.flights.get_mut(&flight) {
            // A second call is for those who wait for the first.
            if entry.calls.iter().all(Option::is_none) {
                entry.sought = Some(since);
            }
            entry.queued = Some(Queued { lane, place, since });
            entry.for_nobody |= lane == Lane::Refresh;
            self.lanes[lane as usize].insert(place, flight);
        }
    }

    /// Takes a flight off its lane, if it is in one.
    pub(super) fn dequeue(&mut self, flight: FlightId) -> bool {
        let Some(Queued { lane, place, .. }) = self.flights.get_mut(&flight).and_then(|flight| flight.queued.take())
        else {
            return false;
        };
        self.lanes[lane as usize].remove(&place);
        true
    }

    pub(super) fn is_queued(&self, flight: FlightId) -> bool {
        self.lane(flight).is_some()
    }

    /// The lane in which a flight waits.
    pub(super) fn lane(&self, flight: FlightId) -> Option<Lane> {
        self.flights.get(&flight)?.queued.map(|queued| queued.lane)
    }

    /// Since when a flight has been waiting for a thread or for a call.
    pub(super) fn sought_since(&self, flight: FlightId) -> Option<Instant> {
        let flight = self.flights.get(&flight)?;
        let sought = flight.queued.is_some() || flight.calls.iter().any(Option::is_some);
        flight.sought.filter(|_| sought)
    }

    pub(super) fn all_for_nobody(&self) -> Vec<FlightId> {
        self.flights.iter().filter_map(|(&id, flight)| flight.for_nobody.then_some(id)).collect()
    }

    pub(super) fn is_for_nobody(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|flight| flight.for_nobody)
    }

    /// Nobody need wait for a flight that is running.
    pub(super) fn keep(&mut self, flight: FlightId) {
        if let Some(flight) = self.flights.get_mut(&flight) {
            flight.for_nobody = true;
        }
    }

    /// A flight for nobody is that until `limit`, or until the limit that it has had before.
    pub(super) fn limit(&mut self, flight: FlightId, limit: Instant) {
        let unlimited = |flight: &&mut Flight<W>| flight.for_nobody && flight.limit.is_none();
        if let Some(entry) = self.flights.get_mut(&flight).filter(unlimited) {
            entry.limit = Some(limit);
            self.deadlines.insert((limit, NOBODY, flight));
        }
    }

    /// A flight is for those who wait alone.
    pub(super) fn forsake(&mut self, flight: FlightId) {
        if let Some(entry) = self.flights.get_mut(&flight) {
            entry.for_nobody = false;
            if let Some(limit) = entry.limit.take() {
                self.deadlines.remove(&(limit, NOBODY, flight));
            }
        }
    }

    /// How many flights wait in a lane.
    pub(super) fn queued(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].len()
    }

    pub(super) fn all_queued(&self) -> Vec<FlightId> {
        self.lanes.iter().flat_map(BTreeMap::values).copied().collect()
    }

    /// Since when the head of a lane has been waiting.
    pub(super) fn head(&self, lane: Lane) -> Option<Instant> {
        let (_, flight) = self.lanes[lane as usize].first_key_value()?;
        self.flights.get(flight)?.queued.map(|queued| queued.since)
    }

    /// Takes the head off a lane: `worker` calls for it from now on.
    pub(super) fn pop(&mut self, lane: Lane, worker: WorkerId, now: Instant) -> Option<(FlightId, Name)> {
        let (_, flight) = self.lanes[lane as usize].pop_first()?;
        let entry = self.flights.get_mut(&flight)?;
        entry.queued = None;
        // There is a free one: no flight with two calls is queued.
        if let Some(free) = entry.calls.iter_mut().find(|call| call.is_none()) {
            *free = Some((worker, now));
        }
        Some((flight, entry.name.clone()))
    }

    /// The call of `worker` for a flight has its result.
    pub(super) fn end_call(&mut self, flight: FlightId, worker: WorkerId) {
        for call in self.flights.get_mut(&flight).into_iter().flat_map(|flight| &mut flight.calls) {
            if call.is_some_and(|(caller, _)| caller == worker) {
                *call = None;
            }
        }
    }

    /// The workers that call for a flight, and since when.
    pub(super) fn calls(&self, flight: FlightId) -> impl Iterator<Item = (WorkerId, Instant)> {
        self.flights.get(&flight).into_iter().flat_map(|flight| flight.calls).flatten()
    }

    /// Whether a call is running that is not older than `age`, or any call where there is no age.
    pub(super) fn has_call_younger_than(&self, flight: FlightId, now: Instant, age: Option<Duration>) -> bool {
        self.calls(flight).any(|(_, since)| age.is_none_or(|age| now.saturating_duration_since(since) <= age))
    }

    /// Removes a flight with neither waiter, nor place in a lane, nor call.
    pub(super) fn remove_if_over(&mut self, flight: FlightId) {
        let over = |flight: &Flight<W>| {
            flight.waiters.is_empty() && flight.queued.is_none() && flight.calls.iter().all(Option::is_none)
        };
        if self.flights.get(&flight).is_some_and(over) {
            let Some(removed) = self.flights.remove(&flight) else { return };
            if let Some(limit) = removed.limit {
                self.deadlines.remove(&(limit, NOBODY, flight));
            }
            if !removed.flushed {
                self.by_name.remove(&removed.name);
            }
        }
    }

    /// Whether everyone has left a flight.
    pub(super) fn is_deserted(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|flight| flight.waiters.is_empty())
    }
}
