use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use crate::name::Name;

/// One flight; later flights have greater ids, so that their order is that of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FlightId(u64);

/// One waiter on one flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    flight: FlightId,
    waiter: u64,
}

/// One lookup in progress, with the callers that wait for it.
#[derive(Debug)]
struct Flight<W> {
    name: Name,
    /// By number, which is the order in which they joined.
    waiters: BTreeMap<u64, W>,
    phase: Phase,
    shared: bool,
}

#[derive(Debug)]
enum Phase {
    Queued { since: Instant },
    Flying { since: Instant },
}

/// All flights, at most one for a name.
#[derive(Debug)]
pub(super) struct Flights<W> {
    flights: HashMap<FlightId, Flight<W>>,
    by_name: HashMap<Name, FlightId>,
    queue: BTreeSet<FlightId>,
    last_id: u64,
}

impl<W> Flights<W> {
    pub(super) fn new() -> Self {
        Self { flights: HashMap::new(), by_name: HashMap::new(), queue: BTreeSet::new(), last_id: 0 }
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn join(&mut self, now: Instant, name: Name, waiter: W) -> Ticket {
        let number = self.new_id();
        let flight = match self.by_name.get(&name) {
            Some(&flight) => flight,
            None => {
                let flight = FlightId(number);
                self.by_name.insert(name.clone(), flight);
                self.queue.insert(flight);
                flight
            }
        };
        let entry = self.flights.entry(flight).or_insert_with(|| Flight {
            name,
            waiters: BTreeMap::new(),
            phase: Phase::Queued { since: now },
            shared: false,
        });
        entry.shared |= flight != FlightId(number);
        entry.waiters.insert(number, waiter);
        Ticket { flight, waiter: number }
    }

    pub(super) fn leave(&mut self, Ticket { flight, waiter }: Ticket) -> Option<W> {
        let entry = self.flights.get_mut(&flight)?;
        let left = entry.waiters.remove(&waiter);
        if entry.waiters.is_empty() && matches!(entry.phase, Phase::Queued { .. }) {
            self.remove(flight);
        }
        left
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Since when the head of the queue has been waiting.
    pub(super) fn oldest_queued(&self) -> Option<Instant> {
        match self.flights.get(self.queue.first()?)?.phase {
            Phase::Queued { since } => Some(since),
            Phase::Flying { .. } => None,
        }
    }

    /// Takes the head off the queue: it flies from now on.
    pub(super) fn pop_queued(&mut self, now: Instant) -> Option<(FlightId, Name)> {
        let id = self.queue.pop_first()?;
        let flight = self.flights.get_mut(&id)?;
        flight.phase = Phase::Flying { since: now };
        Some((id, flight.name.clone()))
    }

    /// Whoever has waited longest for a flight.
    pub(super) fn oldest_waiter(&self, flight: FlightId) -> Option<&W> {
        self.flights.get(&flight)?.waiters.values().next()
    }

    /// Ends a flight that was taken: its waiters, since when it flew, and whether it was shared.
    pub(super) fn land(&mut self, flight: FlightId) -> Option<(Vec<W>, Instant, bool)> {
        let Flight { waiters, phase: Phase::Flying { since } | Phase::Queued { since }, shared, .. } =
            self.remove(flight)?;
        Some((waiters.into_values().collect(), since, shared))
    }

    /// Ends every flight that was not taken.
    pub(super) fn drain_queued(&mut self) -> Vec<W> {
        let mut waiters = Vec::new();
        while let Some(flight) = self.queue.pop_first() {
            waiters.extend(self.remove(flight).into_iter().flat_map(|flight| flight.waiters.into_values()));
        }
        waiters
    }

    fn remove(&mut self, flight: FlightId) -> Option<Flight<W>> {
        self.queue.remove(&flight);
        let removed = self.flights.remove(&flight)?;
        self.by_name.remove(&removed.name);
        Some(removed)
    }
}
