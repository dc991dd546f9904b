mod lanes;

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashTable;

use super::crew::WorkerId;
use super::slab::{Key, List, Slab};
use super::waiters::Waiters;
use super::zones::{LANE, ZoneId, Zones};
use crate::name::Name;
use crate::sync::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlightId(Key);

/// A waiter on a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) flight: FlightId,
    waiter: u64,
}

/// A name with its hash, which the engine computes once for each input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashed<'a> {
    pub(super) name: &'a Name,
    pub(super) hash: u64,
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
    hash: u64,
    waiters: Waiters<Waiting<W>>,
    /// Whether a caller has waited for it, or for a call that goes on in it.
    asked: bool,
    /// Whether more than one caller has.
    shared: bool,
    /// Whether it has had a second call because the first was slow.
    hedged: bool,
    /// Whether it goes on without waiters.
    is_background: bool,
    /// Whether this very name was flushed: the answer is for its waiters only.
    flushed: bool,
    /// Whether it has its result, and waiters that have not been told.
    landed: bool,
    /// Whether a waiter has been told since the limit of a landed flight was set.
    has_moved: bool,
    queued: Option<Queued>,
    /// Since when it has been queued or called for. Set anew when a caller joins a queued refresh.
    sought: Option<Instant>,
    /// For a background flight, until when it goes on, if that is set. For a landed flight, when the timekeeper tells its
    /// waiters if nobody has by then.
    limit: Option<Instant>,
    /// The calls that run for it. The second one is only made if the first is stuck.
    calls: [Option<Calling>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    lane: Lane,
    /// The place in the order in which flights were queued.
    place: u64,
    since: Instant,
    /// Set if the flight is parked because its zone is blocked.
    parked: Option<ZoneId>,
    /// Whether this is for a second call because the first is slow.
    is_hedge: bool,
}

#[derive(Clone, Copy, Debug)]
struct Calling {
    worker: WorkerId,
    since: Instant,
    /// The place of the call in the order in which calls began.
    number: u64,
    /// Whether a later call for the name has answered, so that this one's answer is older.
    superseded: bool,
}

impl<W> Flight<W> {
    fn new(name: Name, hash: u64) -> Self {
        Self {
            name,
            hash,
            waiters: Waiters::NONE,
            asked: false,
            shared: false,
            hedged: false,
            is_background: false,
            flushed: false,
            landed: false,
            has_moved: false,
            queued: None,
            sought: None,
            limit: None,
            calls: [None, None],
        }
    }

    fn is_called_for(&self) -> bool {
        self.calls.iter().any(Option::is_some)
    }
}

/// How a flight stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// Whether more than one caller has waited for it.
    pub(super) shared: bool,
    /// Whether it has had a second call because the first was slow.
    pub(super) hedged: bool,
    /// Whether it is queued or called for.
    pub(super) is_sought: bool,
    pub(super) is_waited_for: bool,
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

// The kinds of lists that a flight may be in.
const BACKGROUND: usize = 1;
const LIMIT: usize = 2;
const DEADLINE: usize = 3;

// The lists of limits.
const BACKGROUND_LIMIT: usize = 0;
const LANDED_LIMIT: usize = 1;

/// All flights, with their lanes and deadlines.
///
/// Each list of times is in order, because its times are that of the input plus the same duration, and the times of inputs do
/// not run backwards.
#[derive(Debug)]
pub(super) struct Flights<W> {
    flights: Slab<Flight<W>, 4>,
    /// The flight that later callers of a name join.
    by_name: HashTable<FlightId>,
    /// The flights of each lane, except for those that are parked.
    lanes: [List<LANE>; 3],
    pub(super) zones: Zones,
    /// Flights that go on without waiters: those that began before everything was flushed, and the others.
    background: [List<BACKGROUND>; 2],
    /// Flights up to this number began before everything was flushed.
    flushed: u64,
    /// Number of landed flights.
    landed: usize,
    /// Flights with limits: those that have not landed, and landed ones.
    limits: [List<LIMIT>; 2],
    /// Flights whose first waiter has a deadline: those without relief, and those with it.
    deadlines: [List<DEADLINE>; 2],
    /// Deadlines of other waiters. In a tree, so that no number of them makes an input slow.
    other_deadlines: BTreeSet<(Instant, u64, FlightId)>,
    /// The number of the last waiter or call.
    last: u64,
}

/// A waiter or a flight whose time is up.
pub(super) enum Due {
    Waiter(Ticket),
    /// A background flight.
    Background(FlightId),
    /// A landed flight whose waiters have not been told.
    Landed(FlightId),
}

/// A flight that was taken from its lane.
pub(super) struct Taken {
    pub(super) name: Name,
    pub(super) hash: u64,
    /// Whether it has another call.
    pub(super) is_second: bool,
    /// Whether it gets a call because that one is slow.
    pub(super) is_hedge: bool,
}

/// A waiter that was taken out of its flight.
pub(super) struct Left<W> {
    pub(super) waiter: W,
    pub(super) name: Name,
    pub(super) relief: bool,
}

impl<W> Flights<W> {
    /// `places` is the maximum number of calls for new names.
    pub(super) fn new(places: usize) -> Self {
        Self {
            flights: Slab::new(),
            by_name: HashTable::new(),
            lanes: Default::default(),
            zones: Zones::new(places),
            background: Default::default(),
            flushed: 0,
            landed: 0,
            limits: Default::default(),
            deadlines: Default::default(),
            other_deadlines: BTreeSet::new(),
            last: 0,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn get(&self, flight: FlightId) -> Option<&Flight<W>> {
        self.flights.get(flight.0)
    }

    fn get_mut(&mut self, flight: FlightId) -> Option<&mut Flight<W>> {
        self.flights.get_mut(flight.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.len() == 0
    }

    pub(super) fn find(&self, Hashed { name, hash }: Hashed<'_>) -> Option<FlightId> {
        let is_it = |&flight: &FlightId| self.get(flight).is_some_and(|flight| flight.name == *name);
        self.by_name.find(hash, is_it).copied()
    }

    /// Adds a waiter to `flight`. Returns whether that was queued or called for before.
    pub(super) fn join(&mut self, flight: FlightId, waiter: W, deadline: Option<Deadline>) -> (Ticket, bool) {
        let number = self.next_number();
        let ticket = Ticket { flight, waiter: number };
        let Some(entry) = self.flights.get_mut(flight.0) else { return (ticket, false) };
        let joined = entry.queued.is_some() || entry.is_called_for();
        entry.shared |= std::mem::replace(&mut entry.asked, true);
        let is_first = entry.waiters.push(number, Waiting { waiter, deadline });
        match deadline {
            Some(Deadline { relief, .. }) if is_first => {
                self.deadlines[usize::from(relief)].push_back(&mut self.flights, flight.0);
            }
            Some(Deadline { at, .. }) => _ = self.other_deadlines.insert((at, number, flight)),
            None => {}
        }
        (ticket, joined)
    }

    /// Adds a flight for a name that has none. It is over at once unless something is added to it.
    pub(super) fn begin(&mut self, Hashed { name, hash }: Hashed<'_>) -> FlightId {
        let id = FlightId(self.flights.insert(Flight::new(name.clone(), hash)));
        self.set_name(hash, id);
        id
    }

    fn set_name(&mut self, hash: u64, flight: FlightId) {
        let Self { by_name, flights, .. } = self;
        by_name.insert_unique(hash, flight, |flight| flights.get(flight.0).map_or(0, |flight| flight.hash));
    }

    /// Makes later callers of the flight's name start anew.
    fn unset_name(&mut self, hash: u64, flight: FlightId) {
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other == flight) {
            entry.remove();
        }
    }

    /// Makes later callers of any name start anew.
    pub(super) fn flush(&mut self) {
        self.flushed = self.flights.last();
        self.by_name = HashTable::new();
        let [flushed, present] = &mut self.background;
        flushed.append(&mut self.flights, present);
    }

    /// Makes later callers of `name` start anew. Returns its flight.
    pub(super) fn flush_name(&mut self, name: Hashed<'_>) -> Option<FlightId> {
        let flight = self.find(name)?;
        self.unset_name(name.hash, flight);
        self.get_mut(flight)?.flushed = true;
        Some(flight)
    }

    pub(super) fn name(&self, flight: FlightId) -> Option<&Name> {
        self.get(flight).map(|flight| &flight.name)
    }

    pub(super) fn is_flushed(&self, flight: FlightId) -> bool {
        flight.0.number <= self.flushed || self.get(flight).is_some_and(|flight| flight.flushed)
    }

    /// Removes a waiter.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Left<W>> {
        let flight = self.get_mut(ticket.flight)?;
        let (Waiting { waiter, deadline }, was_first) = flight.waiters.remove(ticket.waiter)?;
        let name = flight.name.clone();
        self.remove_deadline(ticket, deadline, was_first);
        Some(Left { waiter, name, relief: deadline.is_some_and(|deadline| deadline.relief) })
    }

    /// Removes the waiter that has waited longest.
    pub(super) fn pop_waiter(&mut self, flight: FlightId) -> Option<W> {
        let entry = self.get_mut(flight)?;
        let (number, Waiting { waiter, deadline }, was_first) = entry.waiters.pop()?;
        entry.has_moved = true;
        self.remove_deadline(Ticket { flight, waiter: number }, deadline, was_first);
        Some(waiter)
    }

    fn remove_deadline(&mut self, Ticket { flight, waiter }: Ticket, deadline: Option<Deadline>, was_first: bool) {
        match deadline {
            Some(Deadline { relief, .. }) if was_first => {
                self.deadlines[usize::from(relief)].remove(&mut self.flights, flight.0);
            }
            Some(Deadline { at, .. }) => _ = self.other_deadlines.remove(&(at, waiter, flight)),
            None => {}
        }
    }

    /// Marks a flight as landed: it has its result, and waiters to be told. If it is queued too or has another call, moves
    /// these to a new flight for the name, and returns that.
    pub(super) fn land(&mut self, flight: FlightId) -> Option<FlightId> {
        let is_flushed = self.is_flushed(flight);
        let entry = self.get(flight)?;
        let (hash, goes_on) = (entry.hash, entry.queued.is_some() || entry.is_called_for());
        let rest = if goes_on { self.split(flight, is_flushed) } else { None };
        self.set_background(flight, false);
        let entry = self.get_mut(flight)?;
        (entry.landed, entry.has_moved) = (true, false);
        self.landed += 1;
        if !is_flushed {
            self.unset_name(hash, flight);
            rest.into_iter().for_each(|rest| self.set_name(hash, rest));
        }
        rest
    }

    /// Moves all of a flight to a new one, except for its waiters.
    fn split(&mut self, flight: FlightId, is_flushed: bool) -> Option<FlightId> {
        if is_flushed {
            self.set_background(flight, false);
        }
        let entry = self.get_mut(flight)?;
        let mut rest = Flight::new(entry.name.clone(), entry.hash);
        (rest.asked, rest.flushed, rest.sought) = (true, is_flushed, entry.sought);
        (rest.queued, rest.calls) = (entry.queued.take(), std::mem::take(&mut entry.calls));
        (rest.limit, rest.is_background) = (entry.limit.take(), std::mem::take(&mut entry.is_background));
        let (queued, limit, is_background) = (rest.queued, rest.limit, rest.is_background);
        let rest = self.flights.insert(rest);
        match queued {
            Some(Queued { parked: Some(zone), .. }) => self.zones.replace(zone, &mut self.flights, flight.0, rest),
            Some(Queued { lane, .. }) => self.lanes[lane as usize].replace(&mut self.flights, flight.0, rest),
            None => {}
        }
        if limit.is_some() {
            self.limits[BACKGROUND_LIMIT].replace(&mut self.flights, flight.0, rest);
        }
        if is_background {
            self.background[self.background_of(flight)].replace(&mut self.flights, flight.0, rest);
        }
        Some(FlightId(rest))
    }

    /// Returns the number of landed flights with waiters to be told.
    pub(super) fn landed(&self) -> usize {
        self.landed
    }

    pub(super) fn has_landed(&self, flight: FlightId) -> bool {
        self.get(flight).is_some_and(|flight| flight.landed)
    }

    /// Returns whether a waiter has been told since the last call of this.
    pub(super) fn has_moved(&mut self, flight: FlightId) -> bool {
        self.get_mut(flight).is_some_and(|flight| std::mem::take(&mut flight.has_moved))
    }

    pub(super) fn waiters(&self, flight: FlightId) -> impl Iterator<Item = &W> {
        self.get(flight).into_iter().flat_map(|flight| flight.waiters.iter()).map(|waiting| &waiting.waiter)
    }

    /// Returns how a flight stands. Nothing is true of a flight that is over.
    pub(super) fn standing(&self, flight: FlightId) -> Standing {
        self.get(flight).map_or_else(Standing::default, |flight| Standing {
            shared: flight.shared,
            hedged: flight.hedged,
            is_sought: flight.queued.is_some() || flight.is_called_for(),
            is_waited_for: !flight.waiters.is_empty(),
        })
    }

    pub(super) fn is_shared(&self, flight: FlightId) -> bool {
        self.get(flight).is_some_and(|flight| flight.shared)
    }

    pub(super) fn is_hedged(&self, flight: FlightId) -> bool {
        self.get(flight).is_some_and(|flight| flight.hedged)
    }

    pub(super) fn first_deadline(&self) -> Option<Instant> {
        let [without_relief, with_relief] = &self.deadlines;
        let first = |list| self.first_in(list).map(|(at, _)| at);
        let limit = |list| self.first_limit(list).map(|(at, _)| at);
        let [background, landed] = &self.limits;
        let other = self.other_deadlines.first().map(|&(at, ..)| at);
        let waiters = Instant::earlier(Instant::earlier(first(without_relief), first(with_relief)), other);
        Instant::earlier(waiters, Instant::earlier(limit(background), limit(landed)))
    }

    /// Returns the first waiter of a list of deadlines, with its deadline.
    fn first_in(&self, deadlines: &List<DEADLINE>) -> Option<(Instant, Ticket)> {
        let flight = FlightId(deadlines.first(&self.flights)?);
        let (waiter, waiting) = self.get(flight)?.waiters.first()?;
        Some((waiting.deadline?.at, Ticket { flight, waiter }))
    }

    fn first_limit(&self, limits: &List<LIMIT>) -> Option<(Instant, FlightId)> {
        let flight = FlightId(limits.first(&self.flights)?);
        Some((self.get(flight)?.limit?, flight))
    }

    #[cfg(test)]
    pub(super) fn deadlines(&self) -> usize {
        let lists = self.deadlines.iter().map(List::len).chain(self.limits.iter().map(List::len));
        lists.sum::<usize>() + self.other_deadlines.len()
    }

    /// Returns the waiter or flight with the first deadline, if that is not after `now`.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        let first = self.deadlines.iter().filter_map(|list| self.first_in(list));
        let other = self.other_deadlines.first().map(|&(at, waiter, flight)| (at, Ticket { flight, waiter }));
        let waiters = first.chain(other).map(|(at, ticket)| (at, Due::Waiter(ticket)));
        let background = self.first_limit(&self.limits[BACKGROUND_LIMIT]);
        let landed = self.first_limit(&self.limits[LANDED_LIMIT]);
        let flights = background.map(|(at, flight)| (at, Due::Background(flight))).into_iter();
        let flights = flights.chain(landed.map(|(at, flight)| (at, Due::Landed(flight))));
        waiters.chain(flights).filter(|(at, _)| *at <= now).min_by_key(|(at, _)| *at).map(|(_, due)| due)
    }

    /// Returns since when a flight has been queued or called for.
    pub(super) fn sought_since(&self, flight: FlightId) -> Option<Instant> {
        let flight = self.get(flight)?;
        flight.sought.filter(|_| flight.queued.is_some() || flight.is_called_for())
    }

    /// Returns whether a flight goes on without waiters.
    pub(super) fn is_background(&self, flight: FlightId) -> bool {
        self.get(flight).is_some_and(|flight| flight.is_background)
    }

    /// Sets whether a flight goes on without waiters.
    pub(super) fn set_background(&mut self, flight: FlightId, background: bool) {
        let list = self.background_of(flight);
        let Some(entry) = self.get_mut(flight) else { return };
        match (std::mem::replace(&mut entry.is_background, background), background) {
            (false, true) => self.background[list].push_back(&mut self.flights, flight.0),
            (true, false) => {
                self.background[list].remove(&mut self.flights, flight.0);
                self.unlimit(flight);
            }
            _ => {}
        }
    }

    fn background_of(&self, flight: FlightId) -> usize {
        usize::from(flight.0.number > self.flushed)
    }

    /// Returns a background flight. If `flushed`, only one that began before everything was flushed.
    pub(super) fn first_background(&self, flushed: bool) -> Option<FlightId> {
        let lists = self.background.iter().take(if flushed { 1 } else { 2 });
        lists.filter_map(|list| list.first(&self.flights)).next().map(FlightId)
    }

    /// Sets the limit of a flight, unless it has one. Returns whether it was set.
    pub(super) fn limit(&mut self, flight: FlightId, limit: Instant) -> bool {
        let Some(entry) = self.get_mut(flight).filter(|flight| flight.limit.is_none()) else { return false };
        entry.limit = Some(limit);
        let list = usize::from(entry.landed);
        self.limits[list].push_back(&mut self.flights, flight.0);
        true
    }

    pub(super) fn unlimit(&mut self, flight: FlightId) {
        let Some(entry) = self.get_mut(flight) else { return };
        let list = usize::from(entry.landed);
        if entry.limit.take().is_some() {
            self.limits[list].remove(&mut self.flights, flight.0);
        }
    }

    /// Removes the call of `worker` from a flight. `answered` is false if its result says nothing about the name.
    pub(super) fn end_call(&mut self, flight: FlightId, worker: WorkerId, answered: bool) {
        let Some(entry) = self.get_mut(flight) else { return };
        let place = entry.calls.iter_mut().find(|call| call.is_some_and(|call| call.worker == worker));
        let Some(ended) = place.and_then(Option::take) else { return };
        for other in entry.calls.iter_mut().flatten() {
            other.superseded |= answered && other.number < ended.number;
        }
    }

    /// Returns the workers that call for a flight, and since when.
    pub(super) fn calls(&self, flight: FlightId) -> impl Iterator<Item = (WorkerId, Instant)> {
        let calls = self.get(flight).into_iter().flat_map(|flight| &flight.calls).flatten();
        calls.map(|call| (call.worker, call.since))
    }

    /// Returns whether the answer of the call of `worker` for a flight may be given to later callers.
    pub(super) fn is_cacheable(&self, flight: FlightId, worker: WorkerId) -> bool {
        let is_last_word = |call: &Calling| call.worker == worker && !call.superseded;
        let entry = self.get(flight).filter(|_| !self.is_flushed(flight));
        entry.is_some_and(|entry| entry.calls.iter().flatten().any(is_last_word))
    }

    /// Returns whether a call is running that is not older than `age`, or any call if `age` is `None`. A call does not count if
    /// a later one has answered: it was slow then.
    pub(super) fn has_call_younger_than(&self, flight: FlightId, now: Instant, age: Option<Duration>) -> bool {
        let is_young = |since| age.is_none_or(|age| now.saturating_duration_since(since) <= age);
        let mut calls = self.get(flight).into_iter().flat_map(|flight| &flight.calls).flatten();
        calls.any(|call| !call.superseded && is_young(call.since))
    }

    /// Removes a flight if it has no waiter, no place in a lane and no call.
    pub(super) fn remove_if_over(&mut self, flight: FlightId) {
        let Some(entry) = self.get(flight) else { return };
        if !entry.waiters.is_empty() || entry.queued.is_some() || entry.is_called_for() {
            return;
        }
        let (hash, landed, is_background, is_limited) =
            (entry.hash, entry.landed, entry.is_background, entry.limit.is_some());
        if is_background || is_limited {
            self.set_background(flight, false);
            self.unlimit(flight);
        }
        if landed {
            self.landed -= 1;
        } else if !self.is_flushed(flight) {
            self.unset_name(hash, flight);
        }
        self.flights.remove(flight.0);
    }

    /// Returns whether a flight has no waiters.
    pub(super) fn is_deserted(&self, flight: FlightId) -> bool {
        self.get(flight).is_some_and(|flight| flight.waiters.is_empty())
    }
}
