use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::crew::WorkerId;
use super::waiters::Waiters;
use crate::name::Name;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlightId(u64);

/// A waiter on a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) flight: FlightId,
    waiter: u64,
}

/// The lane in which a flight waits for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For names that have answered before.
    Known,
    New,
    /// For background refreshes.
    Refresh,
}

impl Lane {
    /// All lanes, in the order in which workers look at them.
    pub(super) const ALL: [Self; 3] = [Self::Known, Self::New, Self::Refresh];
}

/// A lookup in progress, with its waiters.
///
/// It lasts as long as it has a waiter, a place in a lane, or a call. If all its waiters leave, a call that cannot be stopped
/// goes on, and later callers join it.
#[derive(Debug)]
struct Flight<W> {
    name: Name,
    waiters: Waiters<Waiting<W>>,
    /// Whether a caller has waited for it, or for a call that goes on in it.
    asked: bool,
    /// Whether more than one caller has.
    shared: bool,
    queued: Option<Queued>,
    /// Since when it has been queued or called for. Set anew when a caller joins a queued refresh.
    sought: Option<Instant>,
    /// Whether this very name was flushed: the answer is for its waiters only.
    flushed: bool,
    /// Whether it has its result, and waiters that have not been told.
    landed: bool,
    /// Whether a waiter has been told since the limit of a landed flight was set.
    has_moved: bool,
    /// For a background flight, until when it goes on, if that is set. For a landed flight, when the timekeeper tells its
    /// waiters if nobody has by then.
    limit: Option<Instant>,
    /// The calls that run for it. The second one is only made if the first is stuck.
    calls: [Option<Calling>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Calling {
    worker: WorkerId,
    since: Instant,
    /// The place of the call in the order in which calls began. The time may run backwards from one to the next.
    number: u64,
    /// Whether a later call for the name has answered, so that this one's answer is older.
    superseded: bool,
}

impl<W> Flight<W> {
    fn new(name: Name) -> Self {
        Self {
            name,
            waiters: Waiters::NONE,
            asked: false,
            shared: false,
            queued: None,
            sought: None,
            flushed: false,
            landed: false,
            has_moved: false,
            limit: None,
            calls: [None, None],
        }
    }
}

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    deadline: Option<Deadline>,
}

/// When a waiter gets an error or its old answer, if it has no result by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// Whether the waiter has an old answer to fall back on.
    pub(super) relief: bool,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    lane: Lane,
    place: u64,
    since: Instant,
}

/// All flights, with their lanes and deadlines. At most one for each name can be joined.
#[derive(Debug)]
pub(super) struct Flights<W> {
    flights: HashMap<FlightId, Flight<W>>,
    by_name: HashMap<Name, FlightId>,
    /// The flights of each lane, by their places, and since when they have been waiting.
    lanes: [BTreeMap<u64, (FlightId, Instant)>; 3],
    /// Flights that go on without waiters.
    background: BTreeSet<FlightId>,
    /// Flights up to this number began before everything was flushed.
    flushed: u64,
    /// Number of landed flights.
    landed: usize,
    /// Deadlines of waiters, and limits of flights, with [`NOBODY`] as the waiter. Removed together with these, so that their
    /// number does not depend on the timeout.
    deadlines: BTreeSet<(Instant, u64, FlightId)>,
    last: u64,
}

/// The waiter in the limit of a flight: a number that no waiter has.
const NOBODY: u64 = 0;

/// A waiter or a flight whose time is up.
pub(super) enum Due {
    Waiter(Ticket),
    /// A background flight.
    Background(FlightId),
    /// A landed flight whose waiters have not been told.
    Landed(FlightId),
}

/// A waiter that was taken out of its flight.
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
            background: BTreeSet::new(),
            flushed: 0,
            landed: 0,
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

    /// Adds a waiter to the flight for `name`, which may be new. Returns whether that was queued or called for before.
    pub(super) fn join(&mut self, name: Name, waiter: W, deadline: Option<Deadline>) -> (Ticket, bool) {
        let id = self.find_or_begin(name);
        let number = self.next_number();
        let mut joined = false;
        if let Some(flight) = self.flights.get_mut(&id) {
            joined = flight.queued.is_some() || flight.calls.iter().any(Option::is_some);
            flight.shared |= std::mem::replace(&mut flight.asked, true);
            flight.waiters.push(number, Waiting { waiter, deadline });
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline.at, number, id)));
        (Ticket { flight: id, waiter: number }, joined)
    }

    /// Returns the flight for `name`, which may be new. A new flight is over at once unless something is added to it.
    pub(super) fn find_or_begin(&mut self, name: Name) -> FlightId {
        if let Some(id) = self.find(&name) {
            return id;
        }
        let id = FlightId(self.next_number());
        self.by_name.insert(name.clone(), id);
        self.flights.insert(id, Flight::new(name));
        id
    }

    /// Makes later callers of any name start anew. Returns the names of the present flights, to be dropped elsewhere.
    pub(super) fn flush(&mut self) -> HashMap<Name, FlightId> {
        self.flushed = self.last;
        std::mem::take(&mut self.by_name)
    }

    /// Makes later callers of `name` start anew. Returns its flight.
    pub(super) fn flush_name(&mut self, name: &Name) -> Option<FlightId> {
        let flight = self.by_name.remove(name)?;
        self.flights.get_mut(&flight)?.flushed = true;
        Some(flight)
    }

    pub(super) fn name(&self, flight: FlightId) -> Option<&Name> {
        self.flights.get(&flight).map(|flight| &flight.name)
    }

    pub(super) fn is_flushed(&self, flight: FlightId) -> bool {
        flight.0 <= self.flushed || self.flights.get(&flight).is_some_and(|flight| flight.flushed)
    }

    /// Removes a waiter.
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

    /// Removes the waiter that has waited longest.
    pub(super) fn pop_waiter(&mut self, flight: FlightId) -> Option<W> {
        let entry = self.flights.get_mut(&flight)?;
        let (number, Waiting { waiter, deadline }) = entry.waiters.pop()?;
        entry.has_moved = true;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline.at, number, flight));
        }
        Some(waiter)
    }

    /// Marks a flight as landed: it has its result, and waiters to be told. If it is queued too or has another call, moves
    /// these to a new flight for the name, and returns that.
    pub(super) fn land(&mut self, flight: FlightId) -> Option<FlightId> {
        let is_flushed = self.is_flushed(flight);
        let is_background = self.background.remove(&flight);
        let rest = FlightId(self.next_number());
        let entry = self.flights.get_mut(&flight)?;
        (entry.landed, entry.has_moved) = (true, false);
        self.landed += 1;
        let (name, queued, calls, limit) =
            (entry.name.clone(), entry.queued.take(), std::mem::take(&mut entry.calls), entry.limit.take());
        if let Some(limit) = limit {
            self.deadlines.remove(&(limit, NOBODY, flight));
        }
        if queued.is_none() && calls.iter().all(Option::is_none) {
            if !is_flushed {
                self.by_name.remove(&name);
            }
            return None;
        }
        if !is_flushed {
            self.by_name.insert(name.clone(), rest);
        }
        if let Some(Queued { lane, place, since }) = queued {
            self.lanes[lane as usize].insert(place, (rest, since));
        }
        let sought = entry.sought;
        let entry = Flight { asked: true, queued, sought, flushed: is_flushed, calls, ..Flight::new(name) };
        self.flights.insert(rest, entry);
        if is_background && !is_flushed {
            self.background.insert(rest);
        }
        if let Some(limit) = limit {
            self.limit(rest, limit);
        }
        Some(rest)
    }

    /// Returns the number of landed flights with waiters to be told.
    pub(super) fn landed(&self) -> usize {
        self.landed
    }

    pub(super) fn has_landed(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|flight| flight.landed)
    }

    /// Returns whether a waiter has been told since the last call of this.
    pub(super) fn has_moved(&mut self, flight: FlightId) -> bool {
        self.flights.get_mut(&flight).is_some_and(|flight| std::mem::take(&mut flight.has_moved))
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

    /// Returns the waiter or flight with the first deadline, if that is not after `now`.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        let &(_, waiter, flight) = self.deadlines.first().filter(|&&(deadline, ..)| deadline <= now)?;
        Some(match waiter {
            NOBODY if self.has_landed(flight) => Due::Landed(flight),
            NOBODY => Due::Background(flight),
            _ => Due::Waiter(Ticket { flight, waiter }),
        })
    }

    pub(super) fn enqueue(&mut self, flight: FlightId, since: Instant, lane: Lane) {
        let place = self.next_number();
        self.set_background(flight, lane == Lane::Refresh);
        if let Some(entry) = self.flights.get_mut(&flight) {
            // A second call is for the waiters on the first.
            if entry.calls.iter().all(Option::is_none) {
                entry.sought = Some(since);
            }
            entry.queued = Some(Queued { lane, place, since });
            self.lanes[lane as usize].insert(place, (flight, since));
        }
    }

    /// Removes a flight from its lane. Returns whether it was in one.
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

    /// Returns the lane in which a flight waits.
    pub(super) fn lane(&self, flight: FlightId) -> Option<Lane> {
        self.flights.get(&flight)?.queued.map(|queued| queued.lane)
    }

    /// Returns since when a flight has been queued or called for.
    pub(super) fn sought_since(&self, flight: FlightId) -> Option<Instant> {
        let flight = self.flights.get(&flight)?;
        let sought = flight.queued.is_some() || flight.calls.iter().any(Option::is_some);
        flight.sought.filter(|_| sought)
    }

    /// Returns whether a flight goes on without waiters.
    pub(super) fn is_background(&self, flight: FlightId) -> bool {
        self.background.contains(&flight)
    }

    /// Sets whether a flight goes on without waiters.
    pub(super) fn set_background(&mut self, flight: FlightId, background: bool) {
        if background {
            self.background.insert(flight);
        } else if self.background.remove(&flight) {
            self.unlimit(flight);
        }
    }

    /// Returns the first background flight. If `flushed`, only one that began before everything was flushed.
    pub(super) fn first_background(&self, flushed: bool) -> Option<FlightId> {
        self.background.first().copied().filter(|flight| !flushed || flight.0 <= self.flushed)
    }

    /// Sets the limit of a flight, unless it has one. Returns whether it was set.
    pub(super) fn limit(&mut self, flight: FlightId, limit: Instant) -> bool {
        let Some(entry) = self.flights.get_mut(&flight).filter(|flight| flight.limit.is_none()) else { return false };
        entry.limit = Some(limit);
        self.deadlines.insert((limit, NOBODY, flight))
    }

    pub(super) fn unlimit(&mut self, flight: FlightId) {
        if let Some(limit) = self.flights.get_mut(&flight).and_then(|flight| flight.limit.take()) {
            self.deadlines.remove(&(limit, NOBODY, flight));
        }
    }

    /// Returns the number of flights in a lane.
    pub(super) fn queued(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].len()
    }

    /// Returns the head of the first lane that is not empty.
    pub(super) fn first_queued(&self) -> Option<FlightId> {
        self.lanes.iter().find_map(|lane| lane.first_key_value()).map(|(_, &(flight, _))| flight)
    }

    /// Returns since when the head of a lane has been waiting.
    pub(super) fn head(&self, lane: Lane) -> Option<Instant> {
        self.lanes[lane as usize].first_key_value().map(|(_, &(_, since))| since)
    }

    /// Removes the head of a lane. `worker` calls for it from now on.
    pub(super) fn pop(&mut self, lane: Lane, worker: WorkerId, now: Instant) -> Option<(FlightId, Name)> {
        let (_, (flight, _)) = self.lanes[lane as usize].pop_first()?;
        let number = self.next_number();
        let entry = self.flights.get_mut(&flight)?;
        entry.queued = None;
        // One is free: no flight with two calls is queued.
        if let Some(free) = entry.calls.iter_mut().find(|call| call.is_none()) {
            *free = Some(Calling { worker, since: now, number, superseded: false });
        }
        Some((flight, entry.name.clone()))
    }

    /// Removes the call of `worker` from a flight. `answered` is false if its result says nothing about the name.
    pub(super) fn end_call(&mut self, flight: FlightId, worker: WorkerId, answered: bool) {
        let Some(entry) = self.flights.get_mut(&flight) else { return };
        let place = entry.calls.iter_mut().find(|call| call.is_some_and(|call| call.worker == worker));
        let Some(ended) = place.and_then(Option::take) else { return };
        for other in entry.calls.iter_mut().flatten() {
            other.superseded |= answered && other.number < ended.number;
        }
    }

    /// Returns the workers that call for a flight, and since when.
    pub(super) fn calls(&self, flight: FlightId) -> impl Iterator<Item = (WorkerId, Instant)> {
        let calls = self.flights.get(&flight).into_iter().flat_map(|flight| flight.calls).flatten();
        calls.map(|call| (call.worker, call.since))
    }

    /// Returns whether the answer of the call of `worker` for a flight may be given to later callers.
    pub(super) fn is_cacheable(&self, flight: FlightId, worker: WorkerId) -> bool {
        let is_last_word = |call: Calling| call.worker == worker && !call.superseded;
        let entry = self.flights.get(&flight).filter(|_| !self.is_flushed(flight));
        entry.is_some_and(|entry| entry.calls.iter().flatten().any(|&call| is_last_word(call)))
    }

    /// Returns whether a call is running that is not older than `age`, or any call if `age` is `None`.
    pub(super) fn has_call_younger_than(&self, flight: FlightId, now: Instant, age: Option<Duration>) -> bool {
        self.calls(flight).any(|(_, since)| age.is_none_or(|age| now.saturating_duration_since(since) <= age))
    }

    /// Removes a flight if it has no waiter, no place in a lane and no call.
    pub(super) fn remove_if_over(&mut self, flight: FlightId) {
        let over = |flight: &Flight<W>| {
            flight.waiters.is_empty() && flight.queued.is_none() && flight.calls.iter().all(Option::is_none)
        };
        if self.flights.get(&flight).is_some_and(over) {
            let is_named = !self.is_flushed(flight);
            let Some(removed) = self.flights.remove(&flight) else { return };
            if let Some(limit) = removed.limit {
                self.deadlines.remove(&(limit, NOBODY, flight));
            }
            self.background.remove(&flight);
            self.landed -= usize::from(removed.landed);
            if is_named && !removed.landed {
                self.by_name.remove(&removed.name);
            }
        }
    }

    /// Returns whether a flight has no waiters.
    pub(super) fn is_deserted(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|flight| flight.waiters.is_empty())
    }
}
