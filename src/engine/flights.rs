use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::crew::WorkerId;
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
}

/// One lookup in progress, with the callers that wait for it.
///
/// It lasts as long as anything of it does: a waiter, a place in a lane, a call. One that all its waiters have left goes on
/// with its call, and those who come later join it.
#[derive(Debug)]
struct Flight<W> {
    name: Name,
    /// By number, which is the order in which they joined.
    waiters: BTreeMap<u64, Waiting<W>>,
    shared: bool,
    queued: Option<Queued>,
    /// The calls that run for it: a second one only where the first is stuck.
    calls: [Option<(WorkerId, Instant)>; 2],
}

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    deadline: Option<Instant>,
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
    lanes: [BTreeMap<u64, FlightId>; 2],
    /// Only of those who wait: as many as there are waiters, however long the timeout.
    deadlines: BTreeSet<(Instant, u64, FlightId)>,
    last: u64,
}

/// A waiter that has left, or has to.
pub(super) struct Left<W> {
    pub(super) waiter: W,
    pub(super) name: Name,
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
    pub(super) fn join(&mut self, name: Name, waiter: W, deadline: Option<Instant>) -> (Ticket, bool) {
        let number = self.next_number();
        let id = match self.by_name.get(&name) {
            Some(&id) => id,
            None => {
                self.by_name.insert(name.clone(), FlightId(number));
                FlightId(number)
            }
        };
        let flight = self.flights.entry(id).or_insert_with(|| Flight {
            name,
            waiters: BTreeMap::new(),
            shared: false,
            queued: None,
            calls: [None, None],
        });
        let joined = id != FlightId(number);
        flight.shared |= joined;
        flight.waiters.insert(number, Waiting { waiter, deadline });
        self.deadlines.extend(deadline.map(|deadline| (deadline, number, id)));
        (Ticket { flight: id, waiter: number }, joined)
    }

    /// Takes one waiter out.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Left<W>> {
        let flight = self.flights.get_mut(&ticket.flight)?;
        let Waiting { waiter, deadline } = flight.waiters.remove(&ticket.waiter)?;
        let left = Left { waiter, name: flight.name.clone() };
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, ticket.waiter, ticket.flight));
        }
        Some(left)
    }

    /// Takes all waiters out, the one that has waited longest first.
    pub(super) fn take_waiters(&mut self, flight: FlightId) -> Vec<W> {
        let Some(entry) = self.flights.get_mut(&flight) else { return Vec::new() };
        let waiters = std::mem::take(&mut entry.waiters);
        for (&number, waiting) in &waiters {
            if let Some(deadline) = waiting.deadline {
                self.deadlines.remove(&(deadline, number, flight));
            }
        }
        waiters.into_values().map(|waiting| waiting.waiter).collect()
    }

    pub(super) fn waiters(&self, flight: FlightId) -> impl Iterator<Item = &W> {
        self.flights.get(&flight).into_iter().flat_map(|flight| flight.waiters.values()).map(|waiting| &waiting.waiter)
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

    /// A waiter whose deadline is not after `now`.
    pub(super) fn due(&self, now: Instant) -> Option<Ticket> {
        let &(deadline, waiter, flight) = self.deadlines.first()?;
        (deadline <= now).then_some(Ticket { flight, waiter })
    }

    pub(super) fn enqueue(&mut self, flight: FlightId, since: Instant, lane: Lane) {
        let place = self.next_number();
        if let Some(entry) = self.flights.get_mut(&flight) {
            entry.queued = Some(Queued { lane, place, since });
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
        self.flights.get(&flight).is_some_and(|flight| flight.queued.is_some())
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
            if let Some(removed) = self.flights.remove(&flight) {
                self.by_name.remove(&removed.name);
            }
        }
    }

    /// Whether everyone has left a flight.
    pub(super) fn is_deserted(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|flight| flight.waiters.is_empty())
    }
}
