//! Tests the engine against a model of it and of its shell, in virtual time. The sequence of operations decides what happens
//! between two steps of the shell.

mod check;
mod shell;
mod telling;
mod watching;

#[cfg(fuzzing)]
pub use self::check::Scenario;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::engine::flights::{FlightId, Lane};
use crate::engine::tests::ops::NAMES;
use crate::engine::*;

const MAX_THREADS: usize = 4;
const MAX_QUEUED: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(10);
const HEDGE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(1800);
const SCHEDULE: Schedule = Schedule { least: Duration::from_secs(1), usual: Duration::from_secs(5) };

/// A waiter that must not be dropped in the engine.
#[derive(Debug)]
struct Token {
    id: u32,
    engine_runs: Rc<Cell<bool>>,
}

impl Drop for Token {
    fn drop(&mut self) {
        assert!(!self.engine_runs.get(), "waiter {} was dropped inside the engine", self.id);
    }
}

/// A lookup that callers of a name share until the name is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    name: u8,
    flushes: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Doing {
    Starting,
    Waking,
    Sleeping {
        since: Instant,
    },
    /// Woken to leave.
    Dismissed,
    Calling {
        flight: Flight,
        since: Instant,
        new: bool,
        /// The place of the call in the order in which calls began.
        number: u32,
        /// Whether a later call has answered.
        superseded: bool,
        /// Whether the flight had another call when it began.
        second: bool,
        /// Whether it was made because that was slow.
        hedge: bool,
    },
    /// It tells its waiters, one by one if there are several.
    Replying {
        new: bool,
        landed: Option<Landed>,
    },
    /// Its call must be dropped.
    Stopped {
        new: bool,
    },
    /// Its thread has not ended yet.
    Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Keeper {
    Absent,
    Starting,
    Waking,
    Asleep { until: Option<Instant> },
}

struct Waits {
    flight: Flight,
    ticket: Ticket,
    deadline: Instant,
    /// Whether it has an old answer to fall back on.
    relief: bool,
    /// Set once its result is there, and it must be told.
    landed: Option<Landed>,
}

/// A landed flight, whose waiters must be told.
struct Telling {
    flight: Flight,
    result: Result<(), ErrorKind>,
    /// When the timekeeper tells them, unless a waiter has been told since this was set.
    limit: Option<Instant>,
    has_moved: bool,
}

struct Model {
    engine: Engine<Token>,
    limits: Limits,
    engine_runs: Rc<Cell<bool>>,
    clock: Instant,
    /// How far the times that the engine gets lie behind the clock.
    lag: Duration,
    /// The latest time that the engine got.
    latest: Instant,
    waiting: BTreeMap<u32, Waits>,
    /// Number of flushes of each name.
    flushes: [u32; NAMES as usize],
    /// The order and the lane of each queued flight.
    queued: BTreeMap<Flight, (u32, Lane)>,
    /// Since when each flight has been queued or called for. May be out of date if it is neither.
    sought: BTreeMap<Flight, Instant>,
    /// Flights that a caller has waited for.
    asked: BTreeSet<Flight>,
    /// Flights that more than one caller has waited for.
    shared: BTreeSet<Flight>,
    /// Queued flights whose call is slow.
    hedging: BTreeSet<Flight>,
    /// Flights that have had a second call because the first was slow.
    hedged: BTreeSet<Flight>,
    /// The last answer of each zone, as long as the engine remembers it.
    answers: BTreeMap<u8, Instant>,
    tellings: BTreeMap<Landed, Telling>,
    /// Flights that go on without waiters, and until when, if their calls can be stopped.
    background: BTreeMap<Flight, Option<Instant>>,
    /// Queued flights that this tick has kept in the background, as far as the model knows.
    kept: BTreeSet<Flight>,
    /// Workers whose calls must be dropped, until the engine names them.
    stopping: BTreeMap<WorkerId, (Flight, Instant, bool)>,
    known: BTreeSet<u8>,
    watched: BTreeMap<u8, watching::Watched>,
    last_news: u64,
    /// Whether the system has refused the timekeeper last.
    is_keeper_refused: bool,
    workers: BTreeMap<u64, (WorkerId, Doing)>,
    keeper: Keeper,
    alarm: Alarm,
    /// Number of outstanding lookups when the engine was closed.
    closed: Option<usize>,
    /// Workers whose calls a shutdown has abandoned.
    abandoned: BTreeSet<u64>,
    /// The figures that the engine must have counted.
    counted: Stats,
    last: u32,
    last_worker: u64,
}

impl Model {
    fn new(limits: Limits) -> Self {
        let start = Instant::now() + Duration::from_secs(100);
        Self {
            engine: Engine::new(limits.clone(), start - Duration::from_secs(1)),
            limits,
            engine_runs: Rc::default(),
            clock: start,
            lag: Duration::ZERO,
            latest: start,
            waiting: BTreeMap::new(),
            flushes: [0; NAMES as usize],
            queued: BTreeMap::new(),
            sought: BTreeMap::new(),
            asked: BTreeSet::new(),
            shared: BTreeSet::new(),
            hedging: BTreeSet::new(),
            hedged: BTreeSet::new(),
            answers: BTreeMap::new(),
            tellings: BTreeMap::new(),
            background: BTreeMap::new(),
            kept: BTreeSet::new(),
            stopping: BTreeMap::new(),
            known: BTreeSet::new(),
            watched: BTreeMap::new(),
            last_news: 0,
            is_keeper_refused: false,
            workers: BTreeMap::new(),
            keeper: Keeper::Absent,
            alarm: Alarm::Unset,
            closed: None,
            abandoned: BTreeSet::new(),
            counted: Stats::default(),
            last: 0,
            last_worker: 0,
        }
    }

    /// Returns the time of the next input, as the engine takes it.
    fn now(&self) -> Instant {
        self.latest.max(self.clock - self.lag)
    }

    /// Runs one input. The caller drops what it returns.
    fn input<T>(&mut self, f: impl FnOnce(&mut Engine<Token>, Instant) -> T) -> T {
        self.latest = self.now();
        let now = self.clock - self.lag;
        self.engine_runs.set(true);
        let out = f(&mut self.engine, now);
        self.engine_runs.set(false);
        out
    }

    fn pick(&self, which: u8, of: impl Fn(&Doing) -> bool) -> Option<u64> {
        let able: Vec<u64> = self.workers.iter().filter(|(_, (_, doing))| of(doing)).map(|(&key, _)| key).collect();
        (!able.is_empty()).then(|| able[usize::from(which) % able.len()])
    }

    fn doings(&self) -> impl Iterator<Item = &Doing> {
        self.workers.values().map(|(_, doing)| doing)
    }

    /// Returns the flight that callers of `name` join now.
    fn flight(&self, name: u8) -> Flight {
        Flight { name, flushes: self.flushes[usize::from(name)] }
    }

    /// Returns the zone of a name. The first four names have one, and each of the others has its own.
    fn zone(name: u8) -> u8 {
        name.max(3)
    }

    /// Returns the number of calls for new names of a zone that are blocked from more, and whether it is.
    fn is_blocked(&self, name: u8) -> bool {
        let zone = Self::zone(name);
        let half = (self.limits.max_calls - self.limits.reserved_for_known).div_ceil(2).max(1);
        let since = |doing: &Doing| match doing {
            Doing::Calling { flight, new: true, since, .. } if Self::zone(flight.name) == zone => Some(*since),
            _ => None,
        };
        let running: Vec<Instant> = self.doings().filter_map(since).collect();
        let second = Duration::from_secs(1);
        let is_long = |since: &&Instant| self.now().saturating_duration_since(**since) > second;
        let is_silent = self.answers.get(&zone).is_none_or(|last| self.now().saturating_duration_since(*last) > second);
        running.len() >= half && (is_silent || running.iter().filter(is_long).count() >= half)
    }

    /// Returns whether zones are of no account, because too many names are parked.
    fn is_over_parked(&self) -> bool {
        self.engine.flights.zones.parked() >= self.engine.max_parked()
    }

    /// Returns the engine's own identity of a flight that is queued or waited for.
    fn engine_flight(&self, flight: Flight) -> Option<FlightId> {
        let waits = self.waiting.values().find(|waits| waits.flight == flight && waits.landed.is_none());
        let by_name = || {
            let text = shell::text(flight.name);
            self.engine.flights.find(self.engine.hashed(&text)).filter(|_| flight == self.flight(flight.name))
        };
        waits.map(|waits| waits.ticket.flight).or_else(by_name)
    }

    fn is_parked(&self, flight: Flight) -> bool {
        self.engine_flight(flight).is_some_and(|flight| self.engine.flights.is_parked(flight))
    }

    /// Notes that the engine has queued a second call because the first is slow.
    fn hedge(&mut self, flight: Flight, lane: Lane) {
        let calls = self.calls(flight);
        let [since] = calls[..] else { panic!("queued beside {calls:?}") };
        let delay = self.engine.hedging.delay().expect("it is not off");
        let age = self.now().saturating_duration_since(since);
        assert!(age >= delay, "{flight:?} before its time: {:?}, {:?}", self.workers, self.queued);
        assert!(self.closed.is_none() && self.is_waited_for(flight), "for nobody");
        // Others may have been expired just now.
        let may_wait = |other: &Flight| {
            let is_queued = |flight| self.engine.flights.is_queued(flight);
            self.hedging.contains(other) || self.is_parked(*other) || !self.engine_flight(*other).is_some_and(is_queued)
        };
        assert!(self.queued.keys().all(may_wait), "before those who have no call");
        self.enqueue(flight, lane, self.now());
        self.hedging.insert(flight);
    }

    /// Notes the second calls that the engine has queued, and the zones that it has forgotten.
    fn follow(&mut self) {
        for flight in self.flights() {
            let lane = self.engine_flight(flight).and_then(|id| self.engine.flights.lane(id));
            // A background lookup is a watch's.
            let is_new = |lane: &Lane| *lane != Lane::Refresh && !self.queued.contains_key(&flight);
            let Some(lane) = lane.filter(is_new) else { continue };
            self.hedge(flight, lane);
        }
        let queued = &self.queued;
        self.hedging.retain(|flight| queued.contains_key(flight));
        let is_new = |doing: &Doing| match doing {
            Doing::Calling { flight, new: true, .. } => Some(Self::zone(flight.name)),
            _ => None,
        };
        let parked = self.queued.keys().filter(|flight| self.is_parked(**flight)).map(|flight| Self::zone(flight.name));
        let zones: BTreeSet<u8> = self.doings().filter_map(is_new).chain(parked).collect();
        self.answers.retain(|zone, _| zones.contains(zone));
    }

    /// Returns when each call for a flight began.
    fn calls(&self, flight: Flight) -> Vec<Instant> {
        let since = |doing: &Doing| match doing {
            Doing::Calling { flight: called, since, .. } if *called == flight => Some(*since),
            _ => None,
        };
        self.doings().filter_map(since).collect()
    }

    fn threads_of_new(&self) -> usize {
        let new = |doing: &&Doing| match doing {
            Doing::Calling { new, .. } | Doing::Replying { new, .. } | Doing::Stopped { new } => *new,
            _ => false,
        };
        self.doings().filter(new).count()
    }

    /// Returns whether a worker could take a call, now or later.
    fn has_somebody(&self) -> bool {
        self.doings().any(|doing| *doing != Doing::Leaving)
    }

    /// Returns the number of workers with a call.
    fn busy(&self) -> usize {
        self.doings().filter(|doing| is_busy(doing)).count()
    }

    /// Returns the number of lookups that a shutdown would report as outstanding.
    fn outstanding(&self) -> usize {
        self.queued.len() + self.busy()
    }

    /// Returns the number of running calls that were made because another was slow.
    fn hedges(&self) -> usize {
        self.doings().filter(|doing| matches!(doing, Doing::Calling { hedge: true, .. })).count()
    }

    /// Returns whether a worker may take something from the queue.
    fn can_run(&self) -> bool {
        let may_take_new = self.threads_of_new() < self.limits.max_calls - self.limits.reserved_for_known;
        let may_run = |(flight, (_, lane)): (&Flight, &(u32, Lane))| {
            *lane == Lane::Known || may_take_new && !self.is_blocked(flight.name)
        };
        self.queued.iter().any(may_run)
    }

    fn is_waited_for(&self, flight: Flight) -> bool {
        self.waiting.values().any(|waits| waits.flight == flight && waits.landed.is_none())
    }

    /// Returns whether a waiter must be told of this landed flight.
    fn is_to_be_told(&self, landed: Landed) -> bool {
        self.waiting.values().any(|waits| waits.landed == Some(landed))
    }

    /// Returns whether a flight is queued or called for.
    fn is_sought(&self, flight: Flight) -> bool {
        self.queued.contains_key(&flight) || !self.calls(flight).is_empty()
    }

    fn enqueue(&mut self, flight: Flight, lane: Lane, since: Instant) {
        if !self.is_sought(flight) && !self.is_waited_for(flight) {
            // The previous flight is over.
            self.shared.remove(&flight);
            self.hedged.remove(&flight);
            self.asked.remove(&flight);
        }
        if self.calls(flight).is_empty() {
            self.sought.insert(flight, since);
        }
        self.last += 1;
        self.hedging.remove(&flight);
        self.queued.insert(flight, (self.last, lane));
        if lane == Lane::Refresh {
            self.background.entry(flight).or_default();
            if !self.calls(flight).is_empty() {
                self.limit(flight);
            }
        } else {
            self.background.remove(&flight);
        }
    }

    /// Returns whether a flight wants another call: it is not queued, all its calls are stuck, and there are fewer than two.
    fn wants_call(&self, flight: Flight) -> bool {
        let is_young = |doing: &Doing| match doing {
            Doing::Calling { flight: called, since, superseded: false, .. } if *called == flight => {
                self.now().saturating_duration_since(*since) <= TIMEOUT
            }
            _ => false,
        };
        !self.queued.contains_key(&flight) && !self.doings().any(is_young) && self.calls(flight).len() < 2
    }

    /// Demotes known names with a stuck call to new names.
    fn demote_stuck(&mut self) {
        let now = self.now();
        for (_, doing) in self.workers.values_mut() {
            if let Doing::Calling { flight, since, new: new @ false, .. } = doing {
                if now.saturating_duration_since(*since) > TIMEOUT {
                    *new = true;
                    self.known.remove(&flight.name);
                }
            }
        }
    }

    fn lane_of(&self, name: u8) -> Lane {
        if self.known.contains(&name) { Lane::Known } else { Lane::New }
    }

    /// Returns the number of flights in a lane that are not parked.
    fn count(&self, lane: Lane) -> usize {
        let in_lane = |(flight, (_, queued)): &(&Flight, &(u32, Lane))| *queued == lane && !self.is_parked(**flight);
        self.queued.iter().filter(in_lane).count()
    }

    /// Returns whether a lane has room for a name.
    fn has_room(&self, lane: Lane, name: u8) -> bool {
        if lane != Lane::Known && self.is_blocked(name) {
            return {
                let others = self.queued.keys().filter(|flight| **flight != self.flight(name));
                others.filter(|flight| self.is_parked(**flight)).count() < self.limits.max_queued
            };
        }
        let waiting = self.count(lane);
        let running = |which: fn(bool) -> bool| {
            self.doings().filter(|doing| matches!(doing, Doing::Calling { new, .. } if which(*new))).count()
        };
        let theirs = if lane == Lane::Known {
            self.limits.max_calls - running(|new| !new)
        } else {
            (self.limits.max_calls - self.limits.reserved_for_known).saturating_sub(running(|new| new))
        };
        waiting < self.limits.max_queued + theirs.min(self.limits.max_calls - running(|_| true))
    }

    /// Returns whether a lane had room for a name before an input that has `queued` it or not.
    fn had_room(&self, lane: Lane, name: u8, queued: bool) -> bool {
        // The same input may have parked others.
        let is_sure = self.engine.flights.zones.parked() == 0 && !self.is_blocked(name);
        if is_sure { self.has_room(lane, name) } else { queued }
    }

    /// Ends a flight without waiters, unless it goes on in the background: dequeues it, and stops its calls if possible.
    fn tidy(&mut self, flight: Flight) {
        if !self.is_waited_for(flight) && (self.closed.is_some() || !self.background.contains_key(&flight)) {
            self.queued.remove(&flight);
            self.stop_calls(flight);
        }
        if !self.is_sought(flight) {
            self.background.remove(&flight);
        }
        self.lose(flight, false);
    }

    fn stop_calls(&mut self, flight: Flight) {
        if self.limits.execution == Execution::Blocking {
            return;
        }
        for (id, doing) in self.workers.values_mut() {
            match *doing {
                Doing::Calling { flight: called, new, since, .. } if called == flight => {
                    *doing = Doing::Stopped { new };
                    self.stopping.insert(*id, (flight, since, new));
                }
                _ => {}
            }
        }
    }

    /// Demotes known names to new names if their calls were stopped while they waited rather than worked.
    fn demote_stopped(&mut self) {
        let now = self.now();
        for (flight, since, new) in self.stopping.values() {
            if !new && now.is_after(*since, Duration::from_millis(20)) {
                self.known.remove(&flight.name);
            }
        }
    }

    /// Puts a flight in the background. Its calls go on for at most the timeout from now on, if they can be stopped.
    fn limit(&mut self, flight: Flight) {
        let limit = (self.limits.execution == Execution::Async).then_some(self.now() + TIMEOUT);
        let entry = self.background.entry(flight).or_default();
        *entry = entry.or(limit);
    }

    /// Keeps a flight in the background after its last waiter got an old answer.
    fn make_do(&mut self, flight: Flight, id: FlightId) {
        if flight != self.flight(flight.name) {
            return;
        }
        if !self.queued.contains_key(&flight) {
            self.limit(flight);
        } else if self.engine.flights.is_queued(id) {
            // There was room for it, which others may have made that were expired with it. Or there was none, and a watch has queued it
            // anew since.
            self.enqueue(flight, Lane::Refresh, self.sought[&flight]);
            self.kept.insert(flight);
        }
    }

    /// Ends the background flights that match. Flights with waiters go on for these.
    fn sweep(&mut self, is_swept: impl Fn(&Flight) -> bool, mut stopped: Stopped) {
        for flight in self.background.keys().copied().filter(&is_swept).collect::<Vec<_>>() {
            self.background.remove(&flight);
            if !self.is_waited_for(flight) {
                self.queued.remove(&flight);
                self.stop_calls(flight);
            }
        }
        let mut watches = Vec::new();
        loop {
            let swept = self.input(|engine, _| engine.sweep());
            self.rouse_timekeeper(swept.timekeeper);
            stopped.extend(swept.stopped);
            watches.extend(swept.watches);
            if !swept.more {
                break;
            }
        }
        self.stop(stopped);
        self.sweep_watches(watches, |name| is_swept(&Flight { name, flushes: 0 }));
    }

    /// Ends background flights whose limit is not after `time`.
    fn forsake(&mut self, time: Instant) {
        let due = |(&flight, limit): (&Flight, &Option<Instant>)| limit.is_some_and(|at| at <= time).then_some(flight);
        for flight in self.background.iter().filter_map(due).collect::<Vec<_>>() {
            self.background.remove(&flight);
            self.tidy(flight);
        }
    }

    /// Returns the flights that are called for, waited for or queued.
    fn flights(&self) -> BTreeSet<Flight> {
        let called = self.doings().filter_map(|doing| match doing {
            Doing::Calling { flight, .. } => Some(*flight),
            _ => None,
        });
        let waited_for = self.waiting.values().filter(|waits| waits.landed.is_none()).map(|waits| waits.flight);
        called.chain(waited_for).chain(self.queued.keys().copied()).collect()
    }
}

fn is_busy(doing: &Doing) -> bool {
    matches!(doing, Doing::Calling { .. } | Doing::Replying { .. } | Doing::Stopped { .. })
}
