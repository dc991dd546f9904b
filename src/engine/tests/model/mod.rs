//! The engine against a model of it and of its shell, in virtual time: what may happen between two steps of the shell is left
//! to the sequence of operations.

mod check;
mod shell;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::engine::flights::Lane;
use crate::engine::*;

const MAX_THREADS: usize = 4;
const KEPT: usize = 1;
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
        name: u8,
        since: Instant,
        new: bool,
    },
    Replying {
        name: u8,
        new: bool,
    },
    /// Its call is to be dropped.
    Stopped {
        new: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Keeper {
    Absent,
    Starting,
    Waking,
    Asleep { until: Option<Instant> },
}

struct Waits {
    name: u8,
    ticket: Ticket,
    deadline: Instant,
    /// It has something to make do with.
    relief: bool,
}

struct Model {
    engine: Engine<Token>,
    execution: Execution,
    thread_idle: Duration,
    engine_runs: Rc<Cell<bool>>,
    clock: Instant,
    /// How far back the next times lie that the engine is given.
    lag: Duration,
    waiting: BTreeMap<u32, Waits>,
    /// Names that wait for a thread: in which order, and in which lane.
    queued: BTreeMap<u8, (u32, Lane)>,
    /// Names that are looked up though nobody waits, and until when, where that can be ended.
    for_nobody: BTreeMap<u8, Option<Instant>>,
    /// Workers whose calls are to be dropped, and that the engine has not named yet.
    stopping: BTreeMap<WorkerId, (u8, Instant, bool)>,
    known: BTreeSet<u8>,
    workers: BTreeMap<u64, (WorkerId, Doing)>,
    keeper: Keeper,
    alarm: Option<Instant>,
    /// How much was outstanding when it was closed.
    closed: Option<usize>,
    last: u32,
    last_worker: u64,
}

impl Model {
    fn new(execution: Execution, thread_idle: Duration) -> Self {
        let limits = Limits {
            execution,
            max_calls: MAX_THREADS,
            kept_for_known: KEPT,
            max_queued: MAX_QUEUED,
            thread_idle,
            timeout: Some(TIMEOUT),
        };
        Self {
            engine: Engine::new(limits),
            execution,
            thread_idle,
            engine_runs: Rc::default(),
            clock: Instant::now() + Duration::from_secs(100),
            lag: Duration::ZERO,
            waiting: BTreeMap::new(),
            queued: BTreeMap::new(),
            for_nobody: BTreeMap::new(),
            stopping: BTreeMap::new(),
            known: BTreeSet::new(),
            workers: BTreeMap::new(),
            keeper: Keeper::Absent,
            alarm: None,
            closed: None,
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

    /// When each call for `name` began.
    fn calls(&self, name: u8) -> Vec<Instant> {
        let since = |doing: &Doing| match doing {
            Doing::Calling { name: called, since, .. } if *called == name => Some(*since),
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

    /// Who has a call.
    fn busy(&self) -> usize {
        let busy =
            |doing: &&Doing| matches!(doing, Doing::Calling { .. } | Doing::Replying { .. } | Doing::Stopped { .. });
        self.doings().filter(busy).count()
    }

    /// What has not come to its end, in the report's sense.
    fn outstanding(&self) -> usize {
        self.queued.len() + self.busy()
    }

    fn is_waited_for(&self, name: u8) -> bool {
        self.waiting.values().any(|waits| waits.name == name)
    }

    /// Names whose calls are stuck are known no longer.
    fn demote_stuck(&mut self) {
        let now = self.now();
        for (_, doing) in self.workers.values_mut() {
            if let Doing::Calling { name, since, new: new @ false } = doing {
                if now.saturating_duration_since(*since) > TIMEOUT {
                    *new = true;
                    self.known.remove(name);
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
        let (all, new) = (self.busy(), self.threads_of_new());
        let known = lane == Lane::Known;
        let theirs = if known { MAX_THREADS - (all - new) } else { (MAX_THREADS - KEPT).saturating_sub(new) };
        waiting < MAX_QUEUED + theirs.min(MAX_THREADS - all)
    }

    /// What nobody waits for is not called for, nor called for any longer where that can be helped.
    fn tidy(&mut self, name: u8) {
        if !self.is_waited_for(name) && (self.closed.is_some() || !self.for_nobody.contains_key(&name)) {
            self.queued.remove(&name);
            self.stop_calls(name);
        }
        if !self.queued.contains_key(&name) && self.calls(name).is_empty() {
            self.for_nobody.remove(&name);
        }
    }

    fn stop_calls(&mut self, name: u8) {
        if self.execution == Execution::Blocking {
            return;
        }
        for (id, doing) in self.workers.values_mut() {
            match *doing {
                Doing::Calling { name: called, new, since } if called == name => {
                    *doing = Doing::Stopped { new };
                    self.stopping.insert(*id, (name, since, new));
                }
                _ => {}
            }
        }
    }

    /// A known name whose call was stopped after it had waited is known no longer.
    fn demote_stopped(&mut self) {
        let now = self.now();
        for (name, since, new) in self.stopping.values() {
            if !new && now.saturating_duration_since(*since) >= Duration::from_millis(20) {
                self.known.remove(name);
            }
        }
    }

    /// Nobody need wait for `name`, from now on for no longer than a deadline, if that can be helped.
    fn limit(&mut self, name: u8) {
        let limit = (self.execution == Execution::Async).then_some(self.now() + TIMEOUT);
        let entry = self.for_nobody.entry(name).or_default();
        *entry = entry.or(limit);
    }

    /// Nobody waits for `name` any more, but its answer is wanted.
    fn make_do(&mut self, name: u8) {
        if !self.queued.contains_key(&name) {
            self.limit(name);
        } else if self.has_room(Lane::Refresh) {
            self.last += 1;
            self.queued.insert(name, (self.last, Lane::Refresh));
            self.for_nobody.entry(name).or_default();
        }
    }

    /// What nobody waits for ends when its time is up.
    fn forsake(&mut self, time: Instant) {
        let due = |(&name, limit): (&u8, &Option<Instant>)| limit.is_some_and(|limit| limit <= time).then_some(name);
        for name in self.for_nobody.iter().filter_map(due).collect::<Vec<_>>() {
            self.for_nobody.remove(&name);
            self.tidy(name);
        }
    }
}
