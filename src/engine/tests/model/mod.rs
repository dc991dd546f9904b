//! The engine against a model of it and of its shell, in virtual time: what may happen between two steps of the shell is left
//! to the sequence of operations.

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

/// What those who ask for a name share, until it is flushed.
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
        /// Which call it is, in the order in which they began.
        number: u32,
        /// A later one has answered.
        superseded: bool,
    },
    /// It tells those who waited, one by one, where there are several.
    Replying {
        new: bool,
        landed: Option<Landed>,
    },
    /// Its call is to be dropped.
    Stopped {
        new: bool,
    },
    /// Its thread has yet to end.
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
    /// It has something to make do with.
    relief: bool,
    /// Its result is there, and it is to be told.
    landed: Option<Landed>,
}

/// A flight whose waiters are to be told.
struct Telling {
    flight: Flight,
    result: Result<(), ErrorKind>,
    /// When the timekeeper tells them, unless someone has been told since that was set.
    limit: Option<Instant>,
    has_moved: bool,
}

struct Model {
    engine: Engine<Token>,
    limits: Limits,
    engine_runs: Rc<Cell<bool>>,
    clock: Instant,
    /// How far back the next times lie that the engine is given.
    lag: Duration,
    waiting: BTreeMap<u32, Waits>,
    /// How often each name was flushed.
    flushes: [u32; NAMES as usize],
    /// Flights that wait for a thread: in which order, and in which lane.
    queued: BTreeMap<Flight, (u32, Lane)>,
    /// Since when each flight has been queued or called for, if it is.
    sought: BTreeMap<Flight, Instant>,
    /// Flights that someone has waited for.
    asked: BTreeSet<Flight>,
    /// Flights that more than one has waited for.
    shared: BTreeSet<Flight>,
    tellings: BTreeMap<Landed, Telling>,
    /// Flights that go on though nobody waits, and until when, where that can be ended.
    background: BTreeMap<Flight, Option<Instant>>,
    /// Workers whose calls are to be dropped, and that the engine has not named yet.
    stopping: BTreeMap<WorkerId, (Flight, Instant, bool)>,
    known: BTreeSet<u8>,
    workers: BTreeMap<u64, (WorkerId, Doing)>,
    keeper: Keeper,
    alarm: Alarm,
    /// How much was outstanding when it was closed.
    closed: Option<usize>,
    /// Workers whose calls a shutdown has left behind.
    abandoned: BTreeSet<u64>,
    /// What the engine is to have counted.
    counted: Stats,
    last: u32,
    last_worker: u64,
}

impl Model {
    fn new(limits: Limits) -> Self {
        Self {
            engine: Engine::new(limits.clone()),
            limits,
            engine_runs: Rc::default(),
            clock: Instant::now() + Duration::from_secs(100),
            lag: Duration::ZERO,
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

    fn now(&self) -> Instant {
        self.clock - self.lag
    }

    /// Runs one input; what it returns is dropped by the caller.
    fn input<T>(&mut self, f: impl FnOnce(&mut Engine<Token>, Instant) -> T) -> T {
        let now = self.now();
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

    /// What asks for `name` join now.
    fn flight(&self, name: u8) -> Flight {
        Flight { name, flushes: self.flushes[usize::from(name)] }
    }

    /// When each call for a flight began.
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

    /// Whether a worker could take a call, now or later.
    fn has_somebody(&self) -> bool {
        self.doings().any(|doing| *doing != Doing::Leaving)
    }

    /// Who has a call.
    fn busy(&self) -> usize {
        self.doings().filter(|doing| is_busy(doing)).count()
    }

    /// What has not come to its end, in the report's sense.
    fn outstanding(&self) -> usize {
        self.queued.len() + self.busy()
    }

    fn is_waited_for(&self, flight: Flight) -> bool {
        self.waiting.values().any(|waits| waits.flight == flight && waits.landed.is_none())
    }

    /// Whether someone waits to be told.
    fn is_to_be_told(&self, landed: Landed) -> bool {
        self.waiting.values().any(|waits| waits.landed == Some(landed))
    }

    /// Whether a flight is queued or called for.
    fn is_sought(&self, flight: Flight) -> bool {
        self.queued.contains_key(&flight) || !self.calls(flight).is_empty()
    }

    fn enqueue(&mut self, flight: Flight, lane: Lane, since: Instant) {
        if !self.is_sought(flight) && !self.is_waited_for(flight) {
            // The one that there was before is over.
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

    /// Whether another call is wanted for a flight: none is on its way that is not stuck, and there are not two.
    fn wants_call(&self, flight: Flight) -> bool {
        let calls = self.calls(flight);
        let stuck = |since: &Instant| self.now().saturating_duration_since(*since) > TIMEOUT;
        !self.queued.contains_key(&flight) && calls.iter().all(stuck) && calls.len() < 2
    }

    /// Names whose calls are stuck are known no longer.
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

    /// Whether a lane has room for one more name.
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

    /// What nobody waits for is not called for, nor called for any longer where that can be helped.
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

    /// A known name whose call was stopped after it had waited is known no longer.
    fn demote_stopped(&mut self) {
        let now = self.now();
        for (flight, since, new) in self.stopping.values() {
            if !new && now.saturating_duration_since(*since) >= Duration::from_millis(20) {
                self.known.remove(&flight.name);
            }
        }
    }

    /// Nobody need wait for a flight, from now on for no longer than a deadline, if that can be helped.
    fn limit(&mut self, flight: Flight) {
        let limit = (self.limits.execution == Execution::Async).then_some(self.now() + TIMEOUT);
        let entry = self.background.entry(flight).or_default();
        *entry = entry.or(limit);
    }

    /// Nobody waits for a flight any more, but its answer is wanted.
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

    /// What is in the background and matches ends: those who wait for it still do.
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

    /// What nobody waits for ends when its time is up.
    fn forsake(&mut self, time: Instant) {
        let due = |(&flight, limit): (&Flight, &Option<Instant>)| limit.is_some_and(|at| at <= time).then_some(flight);
        for flight in self.background.iter().filter_map(due).collect::<Vec<_>>() {
            self.background.remove(&flight);
            self.tidy(flight);
        }
    }

    /// Flights of which there is anything.
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
