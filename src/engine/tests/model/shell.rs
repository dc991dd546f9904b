//! Plays the shell: gives the engine its inputs, and checks their results.

use super::*;
use crate::engine::outcomes::GivenUp;
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

    /// Wakes a worker to leave. Returns since when it has slept.
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
                self.is_keeper_refused = false;
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

    /// Ends the wait of a waiter that was taken out of the engine.
    pub(super) fn end(&mut self, token: &Token) -> Waits {
        self.waiting.remove(&token.id).expect("ended once, and only if it waits")
    }

    /// Checks the workers that the engine has named, whose calls must be dropped.
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
        // Upper and lower case are the same name.
        let letter = if id % 2 == 0 { b'a' + name } else { b'A' + name };
        let text = Name::parse(&(char::from(letter).to_string() + suffix(name))).unwrap();
        let relief = id % 3 == 0;
        let asked = self.input(|engine, now| engine.ask(now, &text, token, relief));

        let flight = self.flight(name);
        let in_progress = self.is_sought(flight);
        match asked {
            Asked::Refused { waiter, why } => {
                assert_eq!(waiter.id, id);
                self.counted.refused += 1;
                let room = self.had_room(self.lane_of(name), name, false);
                match why {
                    ErrorKind::Closed => assert!(self.closed.is_some()),
                    ErrorKind::Overloaded => assert!(self.closed.is_none() && !in_progress && !room),
                    _ => panic!("refused for {why:?}"),
                }
            }
            Asked::Waits { ticket, rouse } => {
                assert!(self.closed.is_none(), "admitted after close");
                self.counted.started += 1;
                if !in_progress && !self.is_waited_for(flight) {
                    // The previous flight is over.
                    self.shared.remove(&flight);
                    self.hedged.remove(&flight);
                    self.asked.remove(&flight);
                }
                if !self.asked.insert(flight) {
                    self.shared.insert(flight);
                }
                let asked = self.asked.clone();
                let mut joins = in_progress;
                let background = self.queued.get(&flight).is_some_and(|(_, lane)| *lane == Lane::Refresh);
                if background || self.wants_call(flight) {
                    if in_progress && !background {
                        self.demote_stuck();
                    }
                    let lane = self.lane_of(name);
                    let is_queued = self.engine.flights.lane(ticket.flight) == Some(lane);
                    let room = self.had_room(lane, name, is_queued);
                    assert!(room || in_progress, "over the bound");
                    if room {
                        joins = !self.calls(flight).is_empty();
                        self.enqueue(flight, lane, self.now());
                    }
                }
                self.asked = asked;
                self.counted.shared += u64::from(joins);
                let deadline = self.now() + if relief { PATIENCE } else { TIMEOUT };
                self.waiting.insert(id, Waits { flight, ticket, deadline, relief, landed: None });
                self.rouse(rouse);
            }
        }
    }

    /// Makes a worker ask the engine what it does next.
    pub(super) fn turn(&mut self, key: u64, input: impl FnOnce(&mut Engine<Token>, WorkerId, Instant) -> Next) {
        let (id, before) = self.workers[&key].clone();
        // Its last step is over.
        self.workers.insert(key, (id, Doing::Starting));
        self.abandoned.remove(&key);
        match self.input(|engine, now| input(engine, id, now)) {
            Next::Call { name, rouse } => {
                let name = number(&name);
                let may_take_new = self.threads_of_new() < self.limits.max_calls - self.limits.reserved_for_known;
                let called = self.engine.calls.flight(id);
                // The same input may have queued it, because its call is slow.
                let hedged = self.flights().into_iter().find(|flight| self.engine_flight(*flight) == called);
                if let Some(flight) = hedged.filter(|flight| !self.queued.contains_key(flight)) {
                    self.hedge(flight, self.lane_of(flight.name));
                }
                let is_it = |flight: &Flight| flight.name == name && self.engine_flight(*flight) == called;
                // Names of one zone are in the order in which they were parked, which the engine alone knows. So are flights of one name, of
                // which a flush leaves several.
                let flights = |name: u8| self.queued.keys().filter(|flight| flight.name == name).count();
                let is_alone = |name: u8| Self::zone(name) != Self::zone(0) && flights(name) == 1;
                let may_run =
                    |flight: &Flight| may_take_new && (self.is_over_parked() || !self.is_blocked(flight.name));
                let head = |lane: Lane, of: &dyn Fn(&Flight) -> bool| {
                    let lane = self.queued.iter().filter(|(flight, (_, queued))| *queued == lane && of(flight));
                    lane.min_by_key(|(_, (order, _))| *order).map(|(&flight, _)| flight)
                };
                let next = if head(Lane::Known, &|_| true).is_some() {
                    head(Lane::Known, &|_| true)
                } else if !is_alone(name) {
                    let is_it = |flight: &Flight| is_it(flight) && may_run(flight);
                    head(Lane::New, &is_it).or_else(|| head(Lane::Refresh, &is_it))
                } else {
                    let may_run = |flight: &Flight| is_alone(flight.name) && may_run(flight);
                    let next = head(Lane::New, &may_run).or_else(|| head(Lane::Refresh, &may_run));
                    // A refresh that was parked comes with the new names.
                    let parked = || head(Lane::Refresh, &|flight| is_it(flight) && may_run(flight));
                    next.filter(|next| is_it(next)).or_else(parked)
                };
                let flight = next.expect("a call for nothing that may be called for");
                assert_eq!(name, flight.name, "the known before the new, those before refreshes, and each in order");
                let (_, lane) = self.queued.remove(&flight).expect("queued");
                let second = !self.calls(flight).is_empty();
                assert!(self.calls(flight).len() < 2, "a third call for {flight:?}");
                let hedge = self.hedging.remove(&flight);
                if hedge {
                    self.hedged.insert(flight);
                    self.counted.hedged += 1;
                }

                let waits_for_it = |waits: &Waits| waits.flight == flight && waits.landed.is_none();
                let longest = self.waiting.iter().filter(|(_, waits)| waits_for_it(waits)).map(|(&id, _)| id);
                assert!(lane == Lane::Refresh || longest.clone().next().is_some(), "a call for nobody");
                let waiters: Vec<u32> = self.engine.waiters(id).map(|token| token.id).collect();
                assert_eq!(waiters, longest.collect::<Vec<_>>(), "the call runs for the one that waits longest");
                self.last += 1;
                let (since, new, number) = (self.now(), lane != Lane::Known, self.last);
                let calling = Doing::Calling { flight, since, new, number, superseded: false, second, hedge };
                self.workers.insert(key, (id, calling));
                // It has left the background if an earlier limit has passed. The call is then for its waiters.
                if self.background.contains_key(&flight) {
                    self.limit(flight);
                }
                self.rouse(rouse);
            }
            Next::Again => self.turn(key, Engine::take),
            Next::Sleep { rouse } => {
                assert!(matches!(before, Doing::Sleeping { .. }) || !self.can_run(), "sleeps beside work");
                // A worker that wakes for no reason sleeps on.
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
                match self.limits.execution {
                    Execution::Blocking => _ = self.workers.insert(key, (id, Doing::Leaving)),
                    Execution::Async => _ = self.workers.remove(&key),
                }
                let spare = self.limits.execution == Execution::Async && !self.workers.is_empty();
                assert!(spare || self.closed.is_some() || before == Doing::Dismissed, "the last one left");
                self.rouse(rouse);
            }
        }
    }

    pub(super) fn finish(&mut self, key: u64, result: Result<(), ErrorKind>) {
        let (id, Doing::Calling { flight, since, new, number, superseded, hedge, .. }) = self.workers[&key].clone()
        else {
            unreachable!()
        };
        let is_last_word = flight == self.flight(flight.name) && !superseded;
        assert_eq!(self.engine.is_cacheable(id), is_last_word, "what is kept");
        let lasts = self.lasts();
        let (news, finished) = self.input(|engine, now| {
            let news = engine.news(id, now, result.map(|()| lasts));
            let finished = engine.finish(id, now, result);
            finished.waiter.iter().for_each(|_| engine.count(result));
            (news, finished)
        });
        self.hear(flight, is_last_word, result, news);
        self.workers.insert(key, (id, Doing::Replying { new, landed: finished.landed }));
        let (shared, hedged) = (self.shared.contains(&flight), self.hedged.contains(&flight));
        assert_eq!((finished.since, finished.shared, finished.hedged), (since, shared, hedged));
        let answered = result != Err(ErrorKind::Temporary);
        let wins = hedge && answered && self.is_sought(flight) && self.is_waited_for(flight);
        self.counted.hedges_won += u64::from(wins);
        if answered && new {
            self.answers.insert(Self::zone(flight.name), self.now());
        }
        let ended = finished.waiter.iter().map(|token| self.end(token)).collect::<Vec<_>>();
        assert!(ended.iter().all(|waits| waits.flight == flight), "an answer for another name");
        match result {
            Ok(()) => self.counted.answered += ended.len() as u64,
            Err(kind) => self.counted.fail(kind, ended.len() as u64),
        }
        if answered {
            for (_, doing) in self.workers.values_mut() {
                if let Doing::Calling { flight: called, number: other, superseded, .. } = doing {
                    *superseded |= *called == flight && *other < number;
                }
            }
        }
        if let Some(landed) = finished.landed {
            assert!(shared || self.limits.execution == Execution::Async, "one who need wait for nobody");
            let mut count = 0;
            for waits in self.waiting.values_mut().filter(|waits| waits.flight == flight && waits.landed.is_none()) {
                waits.landed = Some(landed);
                count += 1;
            }
            assert!(count > 0, "nobody is to be told");
            self.shared.remove(&flight);
            self.hedged.remove(&flight);
            // Other callers' code may block the thread that should tell them.
            let limited = shared || self.tellings.keys().any(|&other| self.is_to_be_told(other));
            let limit = limited.then(|| self.now() + Duration::from_millis(20));
            self.tellings.insert(landed, Telling { flight, result, limit, has_moved: false });
        }
        self.rouse_timekeeper(finished.timekeeper);

        let stopped = finished.stopped;
        if answered || !self.is_sought(flight) {
            assert!(!self.is_waited_for(flight), "someone was left out");
        } else {
            assert!(ended.is_empty() && finished.landed.is_none(), "another call may do better");
        }
        if answered && self.now().saturating_duration_since(since) <= TIMEOUT {
            self.known.insert(flight.name);
        }
        self.tidy(flight);
        self.stop(stopped);
        let again = self.input(|engine, now| engine.finish(id, now, Ok(())));
        assert!(again.waiter.is_none() && again.landed.is_none(), "a call that ends twice");
    }

    /// Makes the timekeeper come, and come again at once as long as something is due.
    pub(super) fn tick(&mut self) {
        let (mut all_expired, mut all_stopped, mut all_slept) = (Vec::new(), Vec::new(), Vec::new());
        let mut all_unheard = Vec::new();
        // A batch returns nothing if its flights only get more time, or end in the background, or its watches only ask. Each does so
        // once, and a watch again if its flight ends.
        let mut quiet = (self.tellings.len() + self.background.len() + 2 * self.watched.len()) / BATCH + 1;
        loop {
            match self.input(Engine::tick) {
                Tick::Sleep { expired, unheard, rouse, stopped, idle, until } => {
                    assert!(unheard.len() <= BATCH);
                    all_unheard.extend(unheard);
                    assert!(expired.len() <= BATCH);
                    let is_quiet = expired.is_empty() && stopped.is_empty();
                    quiet -= usize::from(is_quiet);
                    all_expired.extend(expired);
                    all_stopped.extend(stopped);
                    self.rouse_from_tick(rouse, &idle);
                    all_slept.extend(idle.into_iter().map(|id| self.dismiss(id)));
                    self.keeper = Keeper::Asleep { until };
                    // The next batch may end the waits that a second call was queued for.
                    self.follow();
                    if quiet == 0 || until.is_none_or(|until| until > self.now()) {
                        break;
                    }
                }
                Tick::Leave => {
                    self.keeper = Keeper::Absent;
                    break;
                }
            }
        }
        self.demote_stuck();
        for expired in &all_expired {
            if let Some(landed) = expired.landed {
                self.count_told(landed);
                let waits = self.end(&expired.waiter);
                let telling = &self.tellings[&landed];
                let is_stalled = telling.limit.is_some_and(|limit| limit <= self.now());
                assert!(
                    waits.landed == Some(landed) && (waits.deadline <= self.now() || is_stalled),
                    "before its time"
                );
                continue;
            }
            let deadline = self.waiting[&expired.waiter.id].deadline;
            // The engine takes waiters before background flights that are due at the same time.
            self.forsake(deadline - Duration::from_nanos(1));
            let waits = self.end(&expired.waiter);
            assert!(waits.landed.is_none() && waits.deadline <= self.now(), "before its time");
            assert_eq!((waits.relief, waits.flight.name), (expired.relief, number(&expired.name)));
            let calls = self.calls(waits.flight);
            assert_eq!(expired.since, calls.iter().copied().max());
            assert_eq!(expired.shared, self.shared.contains(&waits.flight));
            assert_eq!(expired.hedged, self.hedged.contains(&waits.flight));
            *if waits.relief { &mut self.counted.answered } else { &mut self.counted.timed_out } += 1;
            if waits.relief && !self.is_waited_for(waits.flight) && self.closed.is_none() {
                self.make_do(waits.flight, waits.ticket.flight);
            }
            self.tidy(waits.flight);
        }
        self.forsake(self.now());
        self.demote_stopped();
        self.stop(all_stopped);
        self.seek(all_unheard);
        assert!(self.waiting.values().all(|waits| waits.deadline > self.now()), "someone waits for too long");
        for telling in self.tellings.values_mut().filter(|telling| telling.limit.is_some_and(|at| at <= self.clock)) {
            telling.has_moved = true;
        }
        for since in all_slept {
            assert!(
                self.now().saturating_duration_since(since) >= self.limits.thread_keep_alive,
                "sent away before its time"
            );
        }
        match self.keeper {
            Keeper::Asleep { until: Some(until) } if until <= self.now() => {
                let alarm = matches!(self.alarm, Alarm::At(alarm) if alarm <= self.now());
                let is_idle = self.workers.is_empty() && self.waiting.is_empty() && self.watched.is_empty();
                let leaves = is_idle && self.alarm == Alarm::Unset;
                assert!(alarm || leaves, "the timekeeper would spin");
            }
            Keeper::Absent => {
                assert!(self.workers.is_empty() && self.waiting.is_empty() && self.alarm == Alarm::Unset);
                assert!(self.watched.is_empty(), "the timekeeper left a watch");
            }
            _ => {}
        }
    }

    fn rouse_from_tick(&mut self, rouse: Rouse, idle: &[WorkerId]) {
        assert_eq!(rouse.timekeeper, None, "it is awake");
        assert!(!matches!(rouse.worker, Some(RouseWorker::Wake(id)) if idle.contains(&id)), "woken and sent away");
        self.rouse(rouse);
    }

    /// Ends the thread of a worker that has left.
    pub(super) fn end_thread(&mut self, key: u64) {
        let (id, doing) = self.workers.remove(&key).expect("picked");
        assert_eq!(doing, Doing::Leaving);
        let rouse = self.input(|engine, now| {
            engine.forget(id);
            engine.rouse(now)
        });
        self.rouse(rouse);
    }

    /// Fails a batch of queued waiters without a call, whose lookups never run.
    fn cancel_queued(&mut self, tokens: &[Token], why: ErrorKind) {
        for token in tokens {
            let waits = self.end(token);
            let flight = waits.flight;
            assert!(waits.landed.is_none() && self.queued.contains_key(&flight), "told without having been queued");
            assert!(self.calls(flight).is_empty(), "its call goes on");
            let mut others = self.waiting.iter().filter(|(_, waits)| waits.flight == flight && waits.landed.is_none());
            assert!(others.all(|(&id, _)| id > token.id), "the one that has waited longest");
            self.counted.fail(why, 1);
        }
        for flight in self.queued.keys().copied().collect::<Vec<_>>() {
            let is_queued = self.engine_flight(flight).is_some_and(|flight| self.engine.flights.is_queued(flight));
            if !is_queued {
                let has_call = !self.calls(flight).is_empty();
                assert!(has_call || !self.is_waited_for(flight), "someone was left out");
                self.queued.remove(&flight);
                if !has_call {
                    self.background.remove(&flight);
                }
                self.lose(flight, true);
            }
        }
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
                    self.rouse_timekeeper(leaving.timekeeper);
                    assert!(self.input(|engine, now| engine.leave(ticket, now)).waiter.is_none(), "left twice");
                }
            }
            Op::Watch { name } => self.watch(name),
            Op::Unwatch { name } => self.unwatch(name),
            Op::Refresh { name } => {
                let flight = self.flight(name);
                let rouse = self.input(|engine, now| engine.refresh(now, &text(name)));
                let full = !self.had_room(Lane::Refresh, name, rouse.is_some());
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
                let is_flushed = |flight: &Flight| name.is_none_or(|name| flight.name == name);
                let flushed = self.input(|engine, _| match name {
                    Some(name) => engine.flush_name(&text(name)),
                    None => engine.flush(),
                });
                // The flush of one name ends its background flight at once.
                self.sweep(is_flushed, flushed.stopped);
            }
            Op::Worker { which } => {
                let able = |doing: &Doing| {
                    matches!(doing, Doing::Starting | Doing::Waking | Doing::Dismissed | Doing::Sleeping { .. })
                };
                if let Some(key) = self.pick(which, able) {
                    if self.keeper == Keeper::Starting {
                        // The shell starts the timekeeper first, and the worker only if that succeeds.
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
                        self.input(Engine::worker_refused);
                        let alone = !self.has_somebody();
                        self.refused();
                        let waits = |waits: &Waits| waits.landed.is_none();
                        assert!(!alone || !self.waiting.values().any(waits), "nobody was left for them");
                    }
                }
            }
            Op::Timekeeper if self.keeper != Keeper::Absent => self.tick(),
            Op::RefuseTimekeeper if self.keeper == Keeper::Starting => {
                (self.keeper, self.alarm) = (Keeper::Absent, Alarm::Unset);
                self.is_keeper_refused = true;
                let untried = self.pick(0, |doing| *doing == Doing::Starting);
                let id = untried.and_then(|key| self.workers.remove(&key)).map(|(id, _)| id);
                self.input(|engine, _| engine.timekeeper_refused(id));
                self.refused();
            }
            Op::Timekeeper | Op::RefuseTimekeeper => {}
            Op::Alarm { millis } if self.closed.is_some() => {
                self.alarm = match millis {
                    None => Alarm::Unset,
                    Some(millis) if millis % 5 == 0 => Alarm::Stay,
                    Some(millis) => Alarm::At(self.clock + Duration::from_millis(millis.into())),
                };
                let alarm = self.alarm;
                let rouse = self.input(|engine, _| engine.set_alarm(alarm));
                self.rouse_timekeeper(rouse);
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
                    self.take(key);
                }
            }
            Op::Tell { which } => {
                let all: Vec<Landed> = self.tellings.keys().copied().collect();
                if let Some(&landed) = all.get(usize::from(which) % all.len().max(1)) {
                    // A thread does not ask again once it has nothing more to tell.
                    if self.is_to_be_told(landed) || self.limits.execution == Execution::Async {
                        self.tell(landed);
                    }
                }
            }
            Op::End { which } => {
                if let Some(key) = self.pick(which, |doing| *doing == Doing::Leaving) {
                    self.end_thread(key);
                }
            }
            Op::Retire { which } if self.limits.execution == Execution::Blocking => {
                if let Some(key) = self.pick(which, |doing| matches!(doing, Doing::Replying { .. })) {
                    self.tell_those_of(key);
                    let id = self.workers[&key].0;
                    self.workers.insert(key, (id, Doing::Leaving));
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
                    // A queued lookup without waiters is not outstanding.
                    let is_idle = |flight: &&Flight| self.queued.contains_key(flight) && !self.is_waited_for(**flight);
                    outstanding -= self.background.keys().filter(is_idle).count();
                }
                self.closed.get_or_insert(outstanding);
                let closing = self.input(|engine, _| engine.close());
                closing.idle.into_iter().for_each(|id| _ = self.dismiss(id));
                self.rouse_timekeeper(closing.timekeeper);
                self.sweep(|_| true, Vec::new());
            }
            Op::AbortQueued if self.closed.is_some() => {
                // The sequence of operations decides what comes between two batches.
                let (tokens, _) = self.take_batch(ErrorKind::Closed, Engine::abort_queued);
                self.cancel_queued(&tokens, ErrorKind::Closed);
            }
            Op::GiveUp if self.closed.is_some() => {
                self.drain_queue(ErrorKind::Closed, Engine::abort_queued);
                let GivenUp { abandoned, stopped } = self.input(Engine::give_up);
                let mut running = Vec::new();
                loop {
                    let (tokens, more) = self.take_batch(ErrorKind::Closed, Engine::abort_running);
                    running.extend(tokens);
                    if !more {
                        break;
                    }
                }
                let busy = |(&key, (_, doing)): (&u64, &(_, Doing))| is_busy(doing).then_some(key);
                let busy: BTreeSet<u64> = self.workers.iter().filter_map(busy).collect();
                running.iter().for_each(|token| _ = self.end(token));
                assert!(self.waiting.values().all(|waits| waits.landed.is_some()), "someone still waits");
                assert_eq!(abandoned.len(), busy.len(), "what is left behind is named");
                assert!(abandoned.is_sorted_by(|(_, a), (_, b)| a >= b), "the longest first");
                self.counted.fail(ErrorKind::Closed, running.len() as u64);
                self.counted.abandoned += busy.difference(&self.abandoned).count() as u64;
                self.abandoned = busy;
                self.flights().into_iter().for_each(|flight| self.tidy(flight));
                self.stop(stopped);
            }
            Op::Alarm { .. } | Op::AbortQueued | Op::GiveUp | Op::Retire { .. } => {}
        }
        self.check();
    }

    /// Takes a batch of waiters out of the engine whose lookups have no result. Returns whether there may be more.
    fn take_batch(&mut self, why: ErrorKind, take: impl Fn(&mut Engine<Token>) -> Batch<Token>) -> (Vec<Token>, bool) {
        let Batch { waiters, more } = self.input(|engine, _| {
            let batch = take(engine);
            batch.waiters.iter().for_each(|_| engine.count(Err(why)));
            batch
        });
        assert!(waiters.len() <= BATCH);
        (waiters, more)
    }

    /// Takes all queued waiters without a call out of the engine.
    fn drain_queue(&mut self, why: ErrorKind, take: impl Fn(&mut Engine<Token>) -> Batch<Token>) {
        loop {
            let (tokens, more) = self.take_batch(why, &take);
            self.cancel_queued(&tokens, why);
            if !more {
                return assert!(self.queued.is_empty(), "something was left in the queue");
            }
        }
    }

    fn refused(&mut self) {
        if !self.has_somebody() || self.keeper == Keeper::Absent {
            self.drain_queue(ErrorKind::ThreadRefused, Engine::strand);
        } else {
            let (stranded, more) = self.take_batch(ErrorKind::ThreadRefused, Engine::strand);
            assert!(stranded.is_empty() && !more, "someone may come for them");
        }
        if self.keeper != Keeper::Absent {
            let rouse = self.input(|engine, now| engine.rouse(now));
            self.rouse(rouse);
        }
    }
}

pub(super) fn text(name: u8) -> Name {
    Name::parse(&(char::from(b'a' + name).to_string() + suffix(name))).unwrap()
}

/// Returns what puts the first four names into one zone.
fn suffix(name: u8) -> &'static str {
    if Model::zone(name) == Model::zone(0) { ".zone.test" } else { "" }
}

fn number(name: &Name) -> u8 {
    name.as_str().to_ascii_lowercase().as_bytes()[0] - b'a'
}
