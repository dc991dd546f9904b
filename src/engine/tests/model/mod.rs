//! Tests the engine against a model of it and of its shell, in virtual time. The sequence of operations decides what happens
//! between two steps of the shell.

mod check;
mod shell;
mod telling;

#[cfg(fuzzing)]
pub use self::check::Scenario;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::engine::flights::Lane;
use crate::engine::tests::ops::NAMES;
use crate::engine::*;

const MAX_THREADS: usize = 4;
const MAX_QUEUED: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_millis(1800);

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
    tellings: BTreeMap<Landed, Telling>,
    /// Flights that go on without waiters, and until when, if their calls can be stopped.
    background: BTreeMap<Flight, Option<Instant>>,
    /// Workers whose calls must be dropped, until the engine names them.
    stopping: BTreeMap<WorkerId, (Flight, Instant, bool)>,
    known: BTreeSet<u8>,
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
            engine: Engine::new(limits.clone()),
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
            tellings: BTreeMap::new(),
            background: BTreeMap::new(),
            stopping: BTreeMap::new(),
            known: BTreeSet::new(),
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
            self.asked.remove(&flight);
        }
        if self.calls(flight).is_empty() {
            self.sought.insert(flight, since);
        }
        self.last += 1;
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
        let calls = self.calls(flight);
        let stuck = |since: &Instant| self.now().saturating_duration_since(*since) > TIMEOUT;
        !self.queued.contains_key(&flight) && calls.iter().all(stuck) && calls.len() < 2
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

    fn count(&self, lane: Lane) -> usize {
        self.queued.values().filter(|(_, queued)| *queued == lane).count()
    }

    /// Returns whether a lane has room for another name.
    fn has_room(&self, lane: Lane) -> bool {
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

    /// Ends a flight without waiters, unless it goes on in the background: dequeues it, and stops its calls if possible.
    fn tidy(&mut self, flight: Flight) {
        if !self.is_waited_for(flight) && (self.closed.is_some() || !self.background.contains_key(&flight)) {
            self.queued.remove(&flight);
            self.stop_calls(flight);
        }
        if !self.is_sought(flight) {
            self.background.remove(&flight);
        }
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
            if !new && now.saturating_duration_since(*since) >= Duration::from_millis(20) {
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
    fn make_do(&mut self, flight: Flight) {
        if flight != self.flight(flight.name) {
            return;
        }
        if !self.queued.contains_key(&flight) {
            self.limit(flight);
        } else if self.has_room(Lane::Refresh) {
            self.enqueue(flight, Lane::Refresh, self.sought[&flight]);
        }
    }

    /// Ends the background flights that match. Flights with waiters go on for these.
    fn sweep(&mut self, is_swept: impl Fn(&Flight) -> bool, mut stopped: Stopped) {
        for flight in self.background.keys().copied().filter(is_swept).collect::<Vec<_>>() {
            self.background.remove(&flight);
            if !self.is_waited_for(flight) {
                self.queued.remove(&flight);
                self.stop_calls(flight);
            }
        }
        loop {
            let swept = self.input(|engine, _| engine.sweep());
            self.rouse_timekeeper(swept.timekeeper);
            stopped.extend(swept.stopped);
            if !swept.more {
                break;
            }
        }
        self.stop(stopped);
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
