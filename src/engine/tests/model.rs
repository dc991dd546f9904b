//! The engine against a model of it and of its shell, in virtual time: what may happen between two steps of the shell is left
//! to the sequence of operations.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::ops::{Op, op};
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

    fn rouse(&mut self, rouse: Rouse) {
        self.rouse_timekeeper(rouse.timekeeper);
        let on_the_way = |doing: &Doing| matches!(doing, Doing::Starting | Doing::Waking);
        match rouse.worker {
            Some(RouseWorker::Start(id)) => {
                assert!(self.closed.is_some() || self.pick(0, on_the_way).is_none(), "two on the way");
                assert!(self.doings().all(|doing| !matches!(doing, Doing::Sleeping { .. })), "beside an idle one");
                self.last_worker += 1;
                self.workers.insert(self.last_worker, (id, Doing::Starting));
                assert!(self.workers.len() <= MAX_THREADS);
            }
            Some(RouseWorker::Wake(id)) => {
                assert_eq!(self.pick(0, on_the_way), None, "two on the way");
                self.wake(id);
            }
            None => {}
        }
    }

    /// Wakes a worker to leave; gives since when it has slept.
    fn dismiss(&mut self, id: WorkerId) -> Instant {
        let (_, doing) = self.workers.values_mut().find(|(worker, _)| *worker == id).expect("a live worker");
        let Doing::Sleeping { since } = *doing else { panic!("dismissed while {doing:?}") };
        *doing = Doing::Dismissed;
        since
    }

    fn wake(&mut self, id: WorkerId) {
        let (_, doing) = self.workers.values_mut().find(|(worker, _)| *worker == id).expect("a live worker");
        assert!(matches!(doing, Doing::Sleeping { .. }), "woken while {doing:?}");
        *doing = Doing::Waking;
    }

    fn rouse_timekeeper(&mut self, rouse: Option<RouseTimekeeper>) {
        match rouse {
            Some(RouseTimekeeper::Start) => {
                assert_eq!(self.keeper, Keeper::Absent);
                self.keeper = Keeper::Starting;
            }
            Some(RouseTimekeeper::Wake) => {
                assert!(matches!(self.keeper, Keeper::Asleep { .. }), "{:?}", self.keeper);
                self.keeper = Keeper::Waking;
            }
            None => {}
        }
    }

    /// A waiter is out of the engine.
    fn end(&mut self, token: &Token) -> Waits {
        self.waiting.remove(&token.id).expect("ended once, and only if it waits")
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

    /// The engine has named those whose calls are to be dropped.
    fn stop(&mut self, stopped: Stopped) {
        let (count, named) = (stopped.len(), stopped.into_iter().collect::<BTreeSet<_>>());
        assert_eq!((count, &named), (self.stopping.len(), &self.stopping.keys().copied().collect()), "stopped");
        assert!(named.iter().all(|&id| self.engine.is_stopped(id)));
        self.stopping.clear();
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

    fn ask(&mut self, name: u8) {
        self.last += 1;
        let id = self.last;
        let token = Token { id, engine_runs: Rc::clone(&self.engine_runs) };
        // Of either case, which is one name.
        let letter = if id % 2 == 0 { b'a' + name } else { b'A' + name };
        let text = Name::parse(&char::from(letter).to_string()).unwrap();
        let relief = (id % 3 == 0).then_some(PATIENCE);
        let asked = self.input(|engine, now| engine.ask(now, text, token, relief));

        let calls = self.calls(name);
        let stuck = calls.iter().all(|&since| self.now().saturating_duration_since(since) > TIMEOUT);
        let in_progress = self.queued.contains_key(&name) || !calls.is_empty();
        match asked {
            Asked::Refused { waiter, why } => {
                assert_eq!(waiter.id, id);
                let room = self.has_room(self.lane_of(name));
                match why {
                    ErrorKind::Closed => assert!(self.closed.is_some()),
                    ErrorKind::Overloaded => assert!(self.closed.is_none() && !in_progress && !room),
                    _ => panic!("refused for {why:?}"),
                }
            }
            Asked::Waits { ticket, rouse } => {
                assert!(self.closed.is_none(), "admitted after close");
                let for_nobody = self.queued.get(&name).is_some_and(|(_, lane)| *lane == Lane::Refresh);
                if for_nobody || (!self.queued.contains_key(&name) && stuck && calls.len() < 2) {
                    if in_progress && !for_nobody {
                        self.demote_stuck();
                    }
                    let lane = self.lane_of(name);
                    let room = self.has_room(lane);
                    assert!(room || in_progress, "over the bound");
                    if room {
                        self.queued.insert(name, (id, lane));
                        self.for_nobody.remove(&name);
                    }
                }
                let deadline = self.now() + relief.unwrap_or(TIMEOUT);
                self.waiting.insert(id, Waits { name, ticket, deadline, relief: relief.is_some() });
                self.rouse(rouse);
            }
        }
    }

    /// A worker has asked the engine what to do.
    fn turn(&mut self, key: u64, input: impl FnOnce(&mut Engine<Token>, WorkerId, Instant) -> Next) {
        let (id, before) = self.workers[&key].clone();
        // It is done with what it did.
        self.workers.insert(key, (id, Doing::Starting));
        match self.input(|engine, now| input(engine, id, now)) {
            Next::Call { name, rouse } => {
                let name = name.as_str().to_ascii_lowercase().as_bytes()[0] - b'a';
                let head = |lane: Lane| {
                    let lane = self.queued.iter().filter(|(_, (_, queued))| *queued == lane);
                    lane.min_by_key(|(_, (order, _))| *order).map(|(&name, _)| name)
                };
                let may_take_new = self.threads_of_new() < MAX_THREADS - KEPT;
                let others = || head(Lane::New).or_else(|| head(Lane::Refresh)).filter(|_| may_take_new);
                let next = head(Lane::Known).or_else(others);
                assert_eq!(Some(name), next, "the known before the new, those before refreshes, and each in order");
                let (_, lane) = self.queued.remove(&name).expect("queued");
                assert!(self.calls(name).len() < 2, "a third call for {name}");

                let longest = self.waiting.iter().filter(|(_, waits)| waits.name == name).map(|(&id, _)| id);
                assert!(lane == Lane::Refresh || longest.clone().next().is_some(), "a call for nobody");
                let waiters: Vec<u32> = self.engine.waiters(id).map(|token| token.id).collect();
                assert_eq!(waiters, longest.collect::<Vec<_>>(), "the call runs for the one that waits longest");
                self.workers.insert(key, (id, Doing::Calling { name, since: self.now(), new: lane != Lane::Known }));
                if lane == Lane::Refresh {
                    self.limit(name);
                }
                self.rouse(rouse);
            }
            Next::Sleep { rouse } => {
                // Who wakes for no reason sleeps on.
                let since = if let Doing::Sleeping { since } = before { since } else { self.now() };
                self.workers.insert(key, (id, Doing::Sleeping { since }));
                assert!(
                    self.execution == Execution::Blocking || self.workers.len() == 1,
                    "an idle task beside another"
                );
                assert_eq!(rouse.worker, None);
                self.rouse(rouse);
            }
            Next::Leave { rouse } => {
                self.workers.remove(&key);
                let spare = self.execution == Execution::Async && !self.workers.is_empty();
                assert!(spare || self.closed.is_some() || before == Doing::Dismissed, "the last one left");
                self.rouse(rouse);
            }
        }
    }

    fn finish(&mut self, key: u64, result: Result<(), ErrorKind>) {
        let (id, Doing::Calling { name, since, new }) = self.workers[&key].clone() else { unreachable!() };
        self.workers.insert(key, (id, Doing::Replying { name, new }));
        let finished = self.input(|engine, now| {
            let finished = engine.finish(id, now, result);
            let count = finished.waiters.len();
            engine.count(if result.is_ok() { count } else { 0 }, result.err().map(|kind| (kind, count)));
            finished
        });
        assert_eq!(finished.since, since);
        let ended: Vec<Waits> = finished.waiters.iter().map(|token| self.end(token)).collect();
        assert!(ended.iter().all(|waits| waits.name == name), "an answer for another name");

        let answered = result != Err(ErrorKind::Temporary);
        let stopped = finished.stopped;
        let another = self.queued.contains_key(&name) || !self.calls(name).is_empty();
        if answered || !another {
            assert!(!self.is_waited_for(name), "someone was left out");
        } else {
            assert!(ended.is_empty(), "another call may do better");
        }
        if answered && self.now().saturating_duration_since(since) <= TIMEOUT {
            self.known.insert(name);
        }
        self.tidy(name);
        self.stop(stopped);
        let again = self.input(|engine, now| engine.finish(id, now, Ok(())));
        assert!(again.waiters.is_empty(), "a call that ends twice");
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

    fn tick(&mut self) {
        match self.input(Engine::tick) {
            Tick::Sleep { expired, rouse, stopped, idle, until } => {
                self.demote_stuck();
                for expired in &expired {
                    let deadline = self.waiting[&expired.waiter.id].deadline;
                    self.forsake(deadline);
                    let waits = self.end(&expired.waiter);
                    assert!(waits.deadline <= self.now(), "before its time");
                    assert_eq!(waits.relief, expired.relief);
                    let calls = self.calls(waits.name);
                    assert_eq!(expired.since, calls.iter().copied().max());
                    if waits.relief && !self.is_waited_for(waits.name) && self.closed.is_none() {
                        self.make_do(waits.name);
                    }
                    self.tidy(waits.name);
                }
                self.forsake(self.now());
                self.demote_stopped();
                self.stop(stopped);
                assert!(self.waiting.values().all(|waits| waits.deadline > self.now()), "someone waits for too long");
                self.keeper = Keeper::Asleep { until };
                self.rouse(rouse);
                for id in idle {
                    let since = self.dismiss(id);
                    assert!(
                        self.now().saturating_duration_since(since) >= self.thread_idle,
                        "sent away before its time"
                    );
                }
            }
            Tick::Leave => {
                self.keeper = Keeper::Absent;
                assert!(self.workers.is_empty() && self.waiting.is_empty() && self.alarm.is_none());
            }
        }
    }

    /// Those who wait in the queue and for no call are told that their lookup will never be.
    fn cancel_queued(&mut self, tokens: &[Token]) {
        let cancelled: BTreeSet<u8> = self.queued.keys().copied().filter(|&name| self.calls(name).is_empty()).collect();
        self.queued.clear();
        self.for_nobody.retain(|name, _| !cancelled.contains(name));
        for token in tokens {
            assert!(cancelled.contains(&self.end(token).name));
        }
        assert!(!self.waiting.values().any(|waits| cancelled.contains(&waits.name)), "someone was left out");
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Ask { name } => self.ask(name),
            Op::Leave { who } => {
                let all: Vec<u32> = self.waiting.keys().copied().collect();
                if let Some(&id) = all.get(usize::from(who) % all.len().max(1)) {
                    let ticket = self.waiting[&id].ticket;
                    let leaving = self.input(|engine, now| engine.leave(ticket, now));
                    let token = leaving.waiter.expect("it was waiting");
                    assert_eq!(token.id, id);
                    let waits = self.end(&token);
                    self.tidy(waits.name);
                    self.demote_stopped();
                    self.stop(leaving.stopped);
                    assert!(self.input(|engine, now| engine.leave(ticket, now)).waiter.is_none(), "left twice");
                }
            }
            Op::Refresh { name } => {
                let text = Name::parse(&char::from(b'a' + name).to_string()).unwrap();
                let rouse = self.input(|engine, now| engine.refresh(now, text));
                let full = !self.has_room(Lane::Refresh);
                assert_eq!(rouse.is_none(), full || self.closed.is_some(), "refused for no reason");
                let Some(rouse) = rouse else { return };
                let calls = self.calls(name);
                let stuck = calls.iter().all(|&since| self.now().saturating_duration_since(since) > TIMEOUT);
                if !self.queued.contains_key(&name) && stuck && calls.len() < 2 {
                    self.last += 1;
                    self.queued.insert(name, (self.last, Lane::Refresh));
                    self.for_nobody.entry(name).or_default();
                }
                self.rouse(rouse);
            }
            Op::Worker { which } => {
                let able = |doing: &Doing| {
                    matches!(doing, Doing::Starting | Doing::Waking | Doing::Dismissed | Doing::Sleeping { .. })
                };
                if let Some(key) = self.pick(which, able) {
                    if self.keeper == Keeper::Starting {
                        // Whoever starts both starts the timekeeper first, and the worker only if that went well.
                        self.keeper = Keeper::Waking;
                    }
                    if self.workers[&key].1 == Doing::Starting {
                        self.turn(key, Engine::take);
                    } else {
                        self.turn(key, Engine::woke);
                    }
                }
            }
            Op::RefuseWorker => {
                if let Some(key) = self.pick(0, |doing| *doing == Doing::Starting) {
                    if self.keeper != Keeper::Starting {
                        self.workers.remove(&key);
                        let refused = self.input(Engine::worker_refused);
                        let alone = self.workers.is_empty();
                        self.refused(refused);
                        assert!(!alone || self.waiting.is_empty(), "nobody was left for them");
                    }
                }
            }
            Op::Timekeeper if self.keeper != Keeper::Absent => self.tick(),
            Op::RefuseTimekeeper if self.keeper == Keeper::Starting => {
                (self.keeper, self.alarm) = (Keeper::Absent, None);
                let untried = self.pick(0, |doing| *doing == Doing::Starting);
                let id = untried.and_then(|key| self.workers.remove(&key)).map(|(id, _)| id);
                let refused = self.input(|engine, _| engine.timekeeper_refused(id));
                self.refused(refused);
            }
            Op::Timekeeper | Op::RefuseTimekeeper => {}
            Op::Alarm { millis } if self.closed.is_some() => {
                self.alarm = millis.map(|millis| self.clock + Duration::from_millis(millis.into()));
                let alarm = self.alarm;
                let rouse = self.input(|engine, _| engine.set_alarm(alarm));
                self.rouse(rouse);
            }
            Op::Finish { which, result } => {
                if let Some(key) = self.pick(which, |doing| matches!(doing, Doing::Calling { .. })) {
                    self.finish(key, result);
                }
            }
            Op::Take { which } => {
                if let Some(key) =
                    self.pick(which, |doing| matches!(doing, Doing::Replying { .. } | Doing::Stopped { .. }))
                {
                    self.turn(key, Engine::take);
                }
            }
            Op::Retire { which } if self.execution == Execution::Blocking => {
                if let Some(key) = self.pick(which, |doing| matches!(doing, Doing::Replying { .. })) {
                    let (id, _) = self.workers.remove(&key).expect("picked");
                    let rouse = self.input(|engine, now| engine.retire(id, now));
                    self.rouse(rouse);
                }
            }
            Op::Pass { millis } => {
                self.clock += Duration::from_millis(millis.into());
                self.lag = Duration::from_millis(u64::from(millis % 7));
            }
            Op::Close => {
                let outstanding = self.outstanding();
                let mut refreshes = 0;
                if self.closed.is_none() {
                    // None of the queued ones is outstanding.
                    let names: Vec<u8> =
                        self.for_nobody.keys().copied().filter(|&name| !self.is_waited_for(name)).collect();
                    for name in names {
                        refreshes += usize::from(self.queued.remove(&name).is_some());
                        self.stop_calls(name);
                        self.for_nobody.remove(&name);
                    }
                }
                self.closed.get_or_insert(outstanding - refreshes);
                let closing = self.input(|engine, _| engine.close());
                self.stop(closing.stopped);
                closing.idle.into_iter().for_each(|id| _ = self.dismiss(id));
                self.rouse_timekeeper(closing.timekeeper);
            }
            Op::AbortQueued if self.closed.is_some() => {
                let tokens = self.input(|engine, _| {
                    let tokens = engine.abort_queued();
                    engine.count(0, Some((ErrorKind::Closed, tokens.len())));
                    tokens
                });
                self.cancel_queued(&tokens);
            }
            Op::GiveUp if self.closed.is_some() => {
                let GivenUp { waiters, abandoned, stopped } = self.input(Engine::give_up);
                let outstanding = self.busy();
                self.input(|engine, _| engine.count(0, Some((ErrorKind::Closed, waiters.len()))));
                waiters.iter().for_each(|token| _ = self.end(token));
                assert!(self.waiting.is_empty(), "someone still waits");
                self.queued.clear();
                assert_eq!(abandoned.len(), outstanding, "what is left behind is named");
                (0..10).for_each(|name| self.tidy(name));
                self.stop(stopped);
            }
            Op::Alarm { .. } | Op::AbortQueued | Op::GiveUp | Op::Retire { .. } => {}
        }
        self.check();
    }

    fn refused(&mut self, refused: Refused<Token>) {
        let count = refused.stranded.len();
        self.input(|engine, _| engine.count(0, Some((ErrorKind::ThreadRefused, count))));
        if !refused.stranded.is_empty() || self.workers.is_empty() || self.keeper == Keeper::Absent {
            self.cancel_queued(&refused.stranded);
        }
        self.rouse(refused.rouse);
    }

    /// What holds after every step.
    fn check(&self) {
        let stats = self.engine.stats(self.now());
        let failed: u64 = stats.failed.values().sum();
        let ended = stats.answered + failed + stats.timed_out + stats.cancelled;
        assert_eq!(stats.started, ended + self.waiting.len() as u64, "callers add up");
        let working = |doing: &&Doing| matches!(doing, Doing::Calling { .. });
        assert_eq!((stats.queued, stats.running), (self.queued.len(), self.doings().filter(working).count()));
        let threads = if self.execution == Execution::Async { self.workers.len().min(1) } else { self.workers.len() };
        assert_eq!(stats.threads, threads);
        assert!(self.threads_of_new() <= MAX_THREADS, "more threads than there are");

        let drained = self.workers.is_empty() && self.keeper == Keeper::Absent && self.closed.is_some();
        assert_eq!(self.engine.is_drained(), drained && self.waiting.is_empty());
        if let Some(outstanding) = self.closed {
            let Tally { finished, cancelled } = self.engine.tally();
            assert_eq!(finished + cancelled + self.outstanding(), outstanding, "lookups add up");
            assert!(!self.doings().any(|doing| matches!(doing, Doing::Sleeping { .. })), "an idle thread stays");
        }

        let comes_by = |time: Instant| match self.keeper {
            Keeper::Absent => false,
            Keeper::Starting | Keeper::Waking => true,
            Keeper::Asleep { until } => until.is_some_and(|until| until <= time),
        };
        if let Some(first) = self.waiting.values().map(|waits| waits.deadline).min() {
            assert!(comes_by(first), "nobody comes for a deadline: {:?}", self.keeper);
        }
        if let Some(first) = self.for_nobody.values().flatten().min() {
            assert!(comes_by(*first), "nobody comes to stop what nobody waits for: {:?}", self.keeper);
        }
        let hung_known = self.doings().filter_map(|doing| match doing {
            Doing::Calling { since, new: false, .. } => Some(*since),
            _ => None,
        });
        if let Some(since) = hung_known.min() {
            assert!(comes_by(since + TIMEOUT + Duration::from_nanos(1)), "nobody comes for a stuck known name");
        }
        if let Some(alarm) = self.alarm {
            assert!(comes_by(alarm), "nobody comes for the alarm: {:?}", self.keeper);
        }
        let slept = self.doings().filter_map(|doing| match doing {
            Doing::Sleeping { since } => since.checked_add(self.thread_idle),
            _ => None,
        });
        if let Some(last) = slept.max() {
            assert!(comes_by(last), "nobody comes for the idle: {:?}", self.keeper);
        }
        // Someone comes for whoever is queued, and soon, if a thread can be had for it.
        let known_queued = self.count(Lane::Known) > 0;
        let new_may_run = self.threads_of_new() < MAX_THREADS - KEPT;
        let can_run = known_queued || (!self.queued.is_empty() && new_may_run);
        let coming = |doing: &Doing| {
            matches!(doing, Doing::Starting | Doing::Waking | Doing::Replying { .. } | Doing::Stopped { .. })
        };
        assert!(
            !can_run
                || self.doings().any(coming)
                || self.workers.len() == MAX_THREADS
                || comes_by(self.clock + Duration::from_millis(100)),
            "nobody comes for the queue: {:?}, timekeeper {:?}",
            self.workers,
            self.keeper,
        );
    }

    /// Lets everything happen that will happen by itself, in the time it takes. Calls for the names in `hung` never end.
    fn settle(&mut self, hung: &BTreeSet<u8>) {
        for _ in 0..20_000 {
            let moving = |doing: &Doing| match doing {
                Doing::Calling { name, .. } => !hung.contains(name),
                Doing::Sleeping { .. } => false,
                _ => true,
            };
            if let Some(key) = self.pick(0, moving) {
                match self.workers[&key].1 {
                    Doing::Starting | Doing::Replying { .. } | Doing::Stopped { .. } => self.turn(key, Engine::take),
                    Doing::Calling { .. } => self.finish(key, Ok(())),
                    Doing::Waking | Doing::Dismissed | Doing::Sleeping { .. } => self.turn(key, Engine::woke),
                }
            } else if matches!(self.keeper, Keeper::Starting | Keeper::Waking) {
                self.tick();
            } else {
                // Everyone sleeps or hangs: on to the first alarm.
                let Keeper::Asleep { until: Some(at) } = self.keeper else { break };
                (self.clock, self.lag) = (self.clock.max(at), Duration::ZERO);
                self.tick();
            }
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_waiter_ends_once_and_nothing_is_stranded(
        ops in prop::collection::vec(op(), 0..200),
        hung in prop::collection::btree_set(0..10u8, 0..10),
        execution in prop_oneof![Just(Execution::Blocking), Just(Execution::Async)],
        idle in prop_oneof![Just(Duration::from_secs(10)), Just(Duration::ZERO)],
    ) {
        let mut model = Model::new(execution, idle);
        for op in ops {
            model.step(op);
        }
        model.step(Op::Alarm { millis: None });

        // While some names never answer, everyone who waits has an end.
        model.settle(&hung);
        assert!(model.waiting.is_empty(), "stranded: {:?}", model.waiting.keys());
        let for_someone = |(_, lane): &(u32, Lane)| *lane != Lane::Refresh;
        assert!(!model.queued.values().any(for_someone), "queued for ever: {:?}", model.queued);
        assert!(execution == Execution::Blocking || model.workers.is_empty(), "a call goes on for ever");

        model.settle(&BTreeSet::new());
        assert!(model.workers.is_empty(), "threads stayed: {:?}", model.workers);
        assert_eq!(model.keeper, Keeper::Absent, "the timekeeper stayed");
        model.step(Op::Close);
        assert!(model.engine.is_drained());
    }
}
