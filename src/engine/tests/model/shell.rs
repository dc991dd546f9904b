//! What the shell does with the engine, and what that is to come to.

use super::*;
use crate::engine::tests::ops::Op;

impl Model {
    pub(super) fn rouse(&mut self, rouse: Rouse) {
        self.rouse_timekeeper(rouse.timekeeper);
        let on_the_way = |doing: &Doing| matches!(doing, Doing::Starting | Doing::Waking);
        match rouse.worker {
            Some(RouseWorker::Start(id)) => {
                assert!(self.closed.is_some() || self.pick(0, on_the_way).is_none(), "two on the way");
                assert!(self.doings().all(|doing| !matches!(doing, Doing::Sleeping { .. })), "beside an idle one");
                self.last_worker += 1;
                self.workers.insert(self.last_worker, (id, Doing::Starting));
                assert!(self.workers.len() <= self.limits.max_calls);
            }
            Some(RouseWorker::Wake(id)) => {
                assert_eq!(self.pick(0, on_the_way), None, "two on the way");
                self.wake(id);
            }
            None => {}
        }
    }

    /// Wakes a worker to leave; gives since when it has slept.
    pub(super) fn dismiss(&mut self, id: WorkerId) -> Instant {
        let (_, doing) = self.workers.values_mut().find(|(worker, _)| *worker == id).expect("a live worker");
        let Doing::Sleeping { since } = *doing else { panic!("dismissed while {doing:?}") };
        *doing = Doing::Dismissed;
        since
    }

    pub(super) fn wake(&mut self, id: WorkerId) {
        let (_, doing) = self.workers.values_mut().find(|(worker, _)| *worker == id).expect("a live worker");
        assert!(matches!(doing, Doing::Sleeping { .. }), "woken while {doing:?}");
        *doing = Doing::Waking;
    }

    pub(super) fn rouse_timekeeper(&mut self, rouse: Option<RouseTimekeeper>) {
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
    pub(super) fn end(&mut self, token: &Token) -> Waits {
        self.waiting.remove(&token.id).expect("ended once, and only if it waits")
    }

    /// The engine has named those whose calls are to be dropped.
    pub(super) fn stop(&mut self, stopped: Stopped) {
        let (count, named) = (stopped.len(), stopped.into_iter().collect::<BTreeSet<_>>());
        assert_eq!((count, &named), (self.stopping.len(), &self.stopping.keys().copied().collect()), "stopped");
        assert!(named.iter().all(|&id| self.engine.is_stopped(id)));
        self.stopping.clear();
    }

    pub(super) fn ask(&mut self, name: u8) {
        self.last += 1;
        let id = self.last;
        let token = Token { id, engine_runs: Rc::clone(&self.engine_runs) };
        // Of either case, which is one name.
        let letter = if id % 2 == 0 { b'a' + name } else { b'A' + name };
        let text = Name::parse(&char::from(letter).to_string()).unwrap();
        let relief = (id % 3 == 0).then_some(PATIENCE);
        let asked = self.input(|engine, now| engine.ask(now, text, token, relief));

        let flight = self.flight(name);
        let in_progress = self.is_sought(flight);
        match asked {
            Asked::Refused { waiter, why } => {
                assert_eq!(waiter.id, id);
                self.counted.refused += 1;
                let room = self.has_room(self.lane_of(name));
                match why {
                    ErrorKind::Closed => assert!(self.closed.is_some()),
                    ErrorKind::Overloaded => assert!(self.closed.is_none() && !in_progress && !room),
                    _ => panic!("refused for {why:?}"),
                }
            }
            Asked::Waits { ticket, rouse } => {
                assert!(self.closed.is_none(), "admitted after close");
                self.counted.started += 1;
                if self.is_waited_for(flight) {
                    self.shared.insert(flight);
                }
                let mut joins = in_progress;
                let for_nobody = self.queued.get(&flight).is_some_and(|(_, lane)| *lane == Lane::Refresh);
                if for_nobody || self.wants_call(flight) {
                    if in_progress && !for_nobody {
                        self.demote_stuck();
                    }
                    let lane = self.lane_of(name);
                    let room = self.has_room(lane);
                    assert!(room || in_progress, "over the bound");
                    if room {
                        joins = !self.calls(flight).is_empty();
                        self.enqueue(flight, lane, self.now());
                    }
                }
                self.counted.shared += u64::from(joins);
                let deadline = self.now() + relief.unwrap_or(TIMEOUT);
                self.waiting.insert(id, Waits { flight, ticket, deadline, relief: relief.is_some() });
                self.rouse(rouse);
            }
        }
    }

    /// A worker has asked the engine what to do.
    pub(super) fn turn(&mut self, key: u64, input: impl FnOnce(&mut Engine<Token>, WorkerId, Instant) -> Next) {
        let (id, before) = self.workers[&key].clone();
        // It is done with what it did.
        self.workers.insert(key, (id, Doing::Starting));
        self.abandoned.remove(&key);
        match self.input(|engine, now| input(engine, id, now)) {
            Next::Call { name, rouse } => {
                let name = number(&name);
                let head = |lane: Lane| {
                    let lane = self.queued.iter().filter(|(_, (_, queued))| *queued == lane);
                    lane.min_by_key(|(_, (order, _))| *order).map(|(&flight, _)| flight)
                };
                let may_take_new = self.threads_of_new() < self.limits.max_calls - self.limits.kept_for_known;
                let others = || head(Lane::New).or_else(|| head(Lane::Refresh)).filter(|_| may_take_new);
                let next = head(Lane::Known).or_else(others);
                let flight = next.expect("a call for nothing that may be called for");
                assert_eq!(name, flight.name, "the known before the new, those before refreshes, and each in order");
                let (_, lane) = self.queued.remove(&flight).expect("queued");
                assert!(self.calls(flight).len() < 2, "a third call for {flight:?}");

                let longest = self.waiting.iter().filter(|(_, waits)| waits.flight == flight).map(|(&id, _)| id);
                assert!(lane == Lane::Refresh || longest.clone().next().is_some(), "a call for nobody");
                let waiters: Vec<u32> = self.engine.waiters(id).map(|token| token.id).collect();
                assert_eq!(waiters, longest.collect::<Vec<_>>(), "the call runs for the one that waits longest");
                self.workers.insert(key, (id, Doing::Calling { flight, since: self.now(), new: lane != Lane::Known }));
                // It is for those who wait by now, if an earlier one's time was up.
                if self.for_nobody.contains_key(&flight) {
                    self.limit(flight);
                }
                self.rouse(rouse);
            }
            Next::Sleep { rouse } => {
                // Who wakes for no reason sleeps on.
                let since = if let Doing::Sleeping { since } = before { since } else { self.now() };
                self.workers.insert(key, (id, Doing::Sleeping { since }));
                assert!(
                    self.limits.execution == Execution::Blocking || self.workers.len() == 1,
                    "an idle task beside another"
                );
                assert_eq!(rouse.worker, None);
                self.rouse(rouse);
            }
            Next::Leave { rouse } => {
                self.workers.remove(&key);
                let spare = self.limits.execution == Execution::Async && !self.workers.is_empty();
                assert!(spare || self.closed.is_some() || before == Doing::Dismissed, "the last one left");
                self.rouse(rouse);
            }
        }
    }

    pub(super) fn finish(&mut self, key: u64, result: Result<(), ErrorKind>) {
        let (id, Doing::Calling { flight, since, new }) = self.workers[&key].clone() else { unreachable!() };
        assert_eq!(self.engine.lasts(id), (flight == self.flight(flight.name)).then_some(since), "what is kept");
        self.workers.insert(key, (id, Doing::Replying { new }));
        let finished = self.input(|engine, now| {
            let finished = engine.finish(id, now, result);
            let count = finished.waiters.len();
            engine.count(if result.is_ok() { count } else { 0 }, result.err().map(|kind| (kind, count)));
            finished
        });
        assert_eq!((finished.since, finished.shared), (since, self.shared.contains(&flight)));
        let ended: Vec<Waits> = finished.waiters.iter().map(|token| self.end(token)).collect();
        assert!(ended.iter().all(|waits| waits.flight == flight), "an answer for another name");
        match result {
            Ok(()) => self.counted.answered += ended.len() as u64,
            Err(kind) => self.counted.fail(kind, ended.len() as u64),
        }

        let answered = result != Err(ErrorKind::Temporary);
        let stopped = finished.stopped;
        if answered || !self.is_sought(flight) {
            assert!(!self.is_waited_for(flight), "someone was left out");
        } else {
            assert!(ended.is_empty(), "another call may do better");
        }
        if answered && self.now().saturating_duration_since(since) <= TIMEOUT {
            self.known.insert(flight.name);
        }
        self.tidy(flight);
        self.stop(stopped);
        let again = self.input(|engine, now| engine.finish(id, now, Ok(())));
        assert!(again.waiters.is_empty(), "a call that ends twice");
    }

    pub(super) fn tick(&mut self) {
        match self.input(Engine::tick) {
            Tick::Sleep { expired, rouse, stopped, idle, until } => {
                self.demote_stuck();
                for expired in &expired {
                    let deadline = self.waiting[&expired.waiter.id].deadline;
                    self.forsake(deadline);
                    let waits = self.end(&expired.waiter);
                    assert!(waits.deadline <= self.now(), "before its time");
                    assert_eq!((waits.relief, waits.flight.name), (expired.relief, number(&expired.name)));
                    let calls = self.calls(waits.flight);
                    assert_eq!(expired.since, calls.iter().copied().max());
                    assert_eq!(expired.shared, self.shared.contains(&waits.flight));
                    *if waits.relief { &mut self.counted.answered } else { &mut self.counted.timed_out } += 1;
                    if waits.relief && !self.is_waited_for(waits.flight) && self.closed.is_none() {
                        self.make_do(waits.flight);
                    }
                    self.tidy(waits.flight);
                }
                self.forsake(self.now());
                self.demote_stopped();
                self.stop(stopped);
                assert!(self.waiting.values().all(|waits| waits.deadline > self.now()), "someone waits for too long");
                if self.alarm.is_none_or(|alarm| alarm > self.now()) {
                    assert!(until.is_none_or(|until| until > self.now()), "the timekeeper would spin");
                }
                self.keeper = Keeper::Asleep { until };
                self.rouse(rouse);
                for id in idle {
                    let since = self.dismiss(id);
                    assert!(
                        self.now().saturating_duration_since(since) >= self.limits.thread_idle,
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
    pub(super) fn cancel_queued(&mut self, tokens: &[Token], why: ErrorKind) {
        let in_vain = |flight: &Flight| self.calls(*flight).is_empty();
        let cancelled: BTreeSet<Flight> = self.queued.keys().copied().filter(in_vain).collect();
        self.queued.clear();
        self.for_nobody.retain(|flight, _| !cancelled.contains(flight));
        for token in tokens {
            assert!(cancelled.contains(&self.end(token).flight));
        }
        self.counted.fail(why, tokens.len() as u64);
        assert!(!self.waiting.values().any(|waits| cancelled.contains(&waits.flight)), "someone was left out");
    }

    pub(super) fn step(&mut self, op: Op) {
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
                    self.counted.cancelled += 1;
                    self.tidy(waits.flight);
                    self.demote_stopped();
                    self.stop(leaving.stopped);
                    assert!(self.input(|engine, now| engine.leave(ticket, now)).waiter.is_none(), "left twice");
                }
            }
            Op::Refresh { name } => {
                let flight = self.flight(name);
                let rouse = self.input(|engine, now| engine.refresh(now, text(name)));
                let full = !self.has_room(Lane::Refresh);
                assert_eq!(rouse.is_none(), full || self.closed.is_some(), "refused for no reason");
                let Some(rouse) = rouse else { return };
                if self.wants_call(flight) {
                    self.counted.refreshed += 1;
                    self.enqueue(flight, Lane::Refresh, self.now());
                }
                self.rouse(rouse);
            }
            Op::Flush { name } => {
                match name {
                    Some(name) => self.flushes[usize::from(name)] += 1,
                    None => self.flushes.iter_mut().for_each(|flushes| *flushes += 1),
                }
                let name = name.map(text);
                self.input(|engine, _| engine.flush(name.as_ref()));
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
            Op::Retire { which } if self.limits.execution == Execution::Blocking => {
                if let Some(key) = self.pick(which, |doing| matches!(doing, Doing::Replying { .. })) {
                    let (id, _) = self.workers.remove(&key).expect("picked");
                    self.abandoned.remove(&key);
                    let rouse = self.input(|engine, now| engine.retire(id, now));
                    self.rouse(rouse);
                }
            }
            Op::Pass { millis } => {
                self.clock += Duration::from_millis(millis.into());
                self.lag = Duration::from_millis(u64::from(millis % 7));
            }
            Op::Close => {
                let mut outstanding = self.outstanding();
                if self.closed.is_none() {
                    let deserted = |flight: &Flight| !self.is_waited_for(*flight);
                    for flight in self.for_nobody.keys().copied().filter(deserted).collect::<Vec<_>>() {
                        // What is queued for nobody is not outstanding.
                        outstanding -= usize::from(self.queued.remove(&flight).is_some());
                        self.stop_calls(flight);
                        self.for_nobody.remove(&flight);
                    }
                }
                self.closed.get_or_insert(outstanding);
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
                self.cancel_queued(&tokens, ErrorKind::Closed);
            }
            Op::GiveUp if self.closed.is_some() => {
                let GivenUp { waiters, abandoned, stopped } = self.input(Engine::give_up);
                let busy = |(&key, (_, doing)): (&u64, &(_, Doing))| is_busy(doing).then_some(key);
                let busy: BTreeSet<u64> = self.workers.iter().filter_map(busy).collect();
                self.input(|engine, _| engine.count(0, Some((ErrorKind::Closed, waiters.len()))));
                waiters.iter().for_each(|token| _ = self.end(token));
                assert!(self.waiting.is_empty(), "someone still waits");
                self.queued.clear();
                assert_eq!(abandoned.len(), busy.len(), "what is left behind is named");
                assert!(abandoned.is_sorted_by(|(_, a), (_, b)| a >= b), "the longest first");
                self.counted.fail(ErrorKind::Closed, waiters.len() as u64);
                self.counted.abandoned += busy.difference(&self.abandoned).count() as u64;
                self.abandoned = busy;
                self.flights().into_iter().for_each(|flight| self.tidy(flight));
                self.stop(stopped);
            }
            Op::Alarm { .. } | Op::AbortQueued | Op::GiveUp | Op::Retire { .. } => {}
        }
        self.check();
    }

    pub(super) fn refused(&mut self, refused: Refused<Token>) {
        let count = refused.stranded.len();
        self.input(|engine, _| engine.count(0, Some((ErrorKind::ThreadRefused, count))));
        if !refused.stranded.is_empty() || self.workers.is_empty() || self.keeper == Keeper::Absent {
            self.cancel_queued(&refused.stranded, ErrorKind::ThreadRefused);
        }
        self.rouse(refused.rouse);
    }
}

pub(super) fn text(name: u8) -> Name {
    Name::parse(&char::from(b'a' + name).to_string()).unwrap()
}

fn number(name: &Name) -> u8 {
    name.as_str().to_ascii_lowercase().as_bytes()[0] - b'a'
}
