//! Checks what holds after every step, and at the end.

use super::shell::text;
use super::*;
use crate::engine::tests::ops::Op;

impl Model {
    /// Checks what holds after every step.
    pub(super) fn check(&mut self) {
        self.follow();
        let stats = self.engine.stats(self.now());
        let failed: u64 = stats.failed.values().sum();
        let ended = stats.answered + failed + stats.timed_out + stats.cancelled;
        assert_eq!(stats.started, ended + self.waiting.len() as u64, "callers add up");
        let Stats { queued, running, running_long, threads, idle_threads, .. } = stats;
        let counted = Stats { queued, running, running_long, threads, idle_threads, ..self.counted.clone() };
        assert_eq!(stats, counted);
        let calls = || {
            self.doings().filter_map(|doing| match doing {
                Doing::Calling { since, .. } => Some(self.now().saturating_duration_since(*since)),
                _ => None,
            })
        };
        let long = calls().filter(|age| *age > Duration::from_secs(1)).count();
        assert_eq!((queued, running, running_long), (self.queued.len(), calls().count(), long));
        let idle = self.doings().filter(|doing| matches!(doing, Doing::Sleeping { .. })).count();
        let (workers, idle) = match self.limits.execution {
            Execution::Blocking => (self.workers.len(), idle),
            // The driver is the only thread.
            Execution::Async => (self.workers.len().min(1), idle / self.workers.len().max(1)),
        };
        assert_eq!((threads, idle_threads), (workers, idle));
        assert_eq!(self.engine.has_no_worker(), self.workers.is_empty());
        for (id, doing) in self.workers.values() {
            assert_eq!(self.engine.is_stopped(*id), matches!(doing, Doing::Stopped { .. }), "{doing:?}");
        }
        assert_eq!(self.engine.is_closed(), self.closed.is_some());
        for name in 0..NAMES {
            let flight = self.flight(name);
            let since = self.sought.get(&flight).filter(|_| self.is_sought(flight));
            let is_slow = since.is_some_and(|&since| self.now().saturating_duration_since(since) >= PATIENCE);
            assert_eq!(self.engine.is_slow(self.now(), &text(name)), is_slow, "{name} since {since:?}");
        }
        assert!(self.engine.flights.zones.parked() <= self.engine.max_parked(), "over the bound of what is parked");
        assert!(self.threads_of_new() <= self.limits.max_calls, "more threads than there are");

        let drained = self.workers.is_empty() && self.closed.is_some();
        assert_eq!(self.engine.is_closed() && self.engine.is_idle(), drained && self.waiting.is_empty());
        assert_eq!(self.engine.has_timekeeper(), self.keeper != Keeper::Absent);
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
        if let Some(first) = self.background.values().flatten().min() {
            assert!(comes_by(*first), "nobody comes to stop what nobody waits for: {:?}", self.keeper);
        }
        self.check_watches(comes_by);
        let hung_known = self.doings().filter_map(|doing| match doing {
            Doing::Calling { since, new: false, .. } => Some(*since),
            _ => None,
        });
        if let Some(since) = hung_known.min() {
            assert!(comes_by(since + TIMEOUT + Duration::from_nanos(1)), "nobody comes for a stuck known name");
        }
        for (&landed, telling) in &self.tellings {
            if let Some(limit) = telling.limit.filter(|_| self.is_to_be_told(landed) && !telling.has_moved) {
                assert!(comes_by(limit.max(self.now())), "nobody comes to tell: {:?}", self.keeper);
            }
        }
        if let Alarm::At(alarm) = self.alarm {
            assert!(comes_by(alarm), "nobody comes for the alarm: {:?}", self.keeper);
        }
        assert!(self.alarm == Alarm::Unset || self.keeper != Keeper::Absent, "nobody is there for the alarm");
        let slept = self.doings().filter_map(|doing| match doing {
            Doing::Sleeping { since } => since.checked_add(self.limits.thread_keep_alive),
            _ => None,
        });
        if let Some(last) = slept.max() {
            assert!(comes_by(last), "nobody comes for the idle: {:?}", self.keeper);
        }
        if let Some(delay) = self.engine.hedging.delay().filter(|_| self.engine.hedging.may_hedge(self.hedges())) {
            for doing in self.doings() {
                if let Doing::Calling { since, second: false, .. } = doing {
                    let age = self.now().saturating_duration_since(*since);
                    let is_coming =
                        comes_by(*since + delay) || self.doings().any(|doing| matches!(doing, Doing::Stopped { .. }));
                    assert!(age >= delay || is_coming, "nobody comes to hedge");
                }
            }
        }
        // A worker or the timekeeper comes for the queue within 100 ms, if a worker may take its head.
        let can_run = self.can_run();
        let coming = |doing: &Doing| {
            matches!(doing, Doing::Starting | Doing::Waking | Doing::Replying { .. } | Doing::Stopped { .. })
        };
        assert!(
            !can_run
                || self.doings().any(coming)
                || self.workers.len() == self.limits.max_calls
                || comes_by(self.clock + Duration::from_millis(100)),
            "nobody comes for the queue: {:?}, timekeeper {:?}",
            self.workers,
            self.keeper,
        );
    }

    /// Runs everything that happens by itself, and lets time pass for it, until `end` if there is one. Calls for the names in
    /// `hung` never end. A waker blocks the threads that should tell waiters on the names in `deaf`.
    pub(super) fn settle(&mut self, hung: &BTreeSet<u8>, deaf: &BTreeSet<u8>, end: Option<Instant>) {
        for _ in 0..20_000 {
            let is_deaf = |landed: &Landed| deaf.contains(&self.tellings[landed].flight.name);
            let moving = |doing: &Doing| match doing {
                Doing::Calling { flight, .. } => !hung.contains(&flight.name),
                Doing::Replying { landed: Some(landed), .. } => {
                    self.limits.execution == Execution::Async || !is_deaf(landed)
                }
                Doing::Sleeping { .. } => false,
                _ => true,
            };
            let told = self.tellings.keys().copied().find(|landed| !is_deaf(landed));
            if let (Execution::Async, Some(landed)) = (self.limits.execution, told) {
                self.tell(landed);
            } else if let Some(key) = self.pick(0, moving) {
                match self.workers[&key].1 {
                    Doing::Leaving => self.end_thread(key),
                    Doing::Starting | Doing::Replying { .. } | Doing::Stopped { .. } => self.take(key),
                    Doing::Calling { .. } => self.finish(key, Ok(())),
                    Doing::Waking | Doing::Dismissed | Doing::Sleeping { .. } => self.turn(key, Engine::woke),
                }
            } else if matches!(self.keeper, Keeper::Starting | Keeper::Waking) {
                self.tick();
            } else {
                // Everyone sleeps or hangs, so time passes until the timekeeper wakes.
                let Keeper::Asleep { until: Some(at) } = self.keeper else { break };
                if end.is_some_and(|end| end < at) {
                    break;
                }
                (self.clock, self.lag) = (self.clock.max(at), Duration::ZERO);
                self.tick();
            }
            self.check();
        }
    }
}

/// A sequence of operations on an engine. Until everything else is over, calls for the names in `hung` do not end, and waiters
/// on the names in `deaf` are not told.
#[derive(Debug)]
pub struct Scenario {
    limits: Limits,
    hung: BTreeSet<u8>,
    deaf: BTreeSet<u8>,
    ops: Vec<Op>,
}

impl Scenario {
    /// Plays the operations, and then lets everything end.
    ///
    /// # Panics
    ///
    /// If the engine does anything that the model does not, or leaves a waiter, a lookup or a thread behind.
    pub fn play(self) {
        let Self { limits, hung, deaf, ops } = self;
        let is_async = limits.execution == Execution::Async;
        let mut model = Model::new(limits);
        for op in ops {
            model.step(op);
        }
        model.step(Op::Alarm { millis: None });
        let watched: Vec<u8> = model.watched.keys().copied().collect();
        model.unwatch_all();

        // Every wait ends, even while some names never answer.
        model.settle(&hung, &deaf, None);
        assert!(model.waiting.is_empty(), "stranded: {:?}", model.waiting.keys());
        let for_someone = |(_, lane): &(u32, Lane)| *lane != Lane::Refresh;
        assert!(!model.queued.values().any(for_someone), "queued for ever: {:?}", model.queued);
        assert!(!is_async || model.workers.is_empty(), "a call goes on for ever");

        model.settle(&BTreeSet::new(), &BTreeSet::new(), None);
        // Every watch hears, again and again.
        watched.iter().for_each(|&name| model.step(Op::Watch { name }));
        for _ in 0..2 {
            model.watched.values_mut().for_each(|watched| watched.has_heard = false);
            model.settle(&BTreeSet::new(), &BTreeSet::new(), Some(model.clock + Duration::from_secs(12)));
            assert!(model.watched.values().all(|watched| watched.has_heard), "a watch has heard nothing");
        }
        model.unwatch_all();
        model.settle(&BTreeSet::new(), &BTreeSet::new(), None);
        assert!(model.workers.is_empty(), "threads stayed: {:?}", model.workers);
        assert_eq!(model.keeper, Keeper::Absent, "the timekeeper stayed");
        model.step(Op::Close);
        assert!(model.engine.is_closed() && model.engine.is_idle());
    }
}

/// Returns limits that are small enough to be reached. Reserves at most `kept` calls, and never all.
fn limits([is_async, stays, hedges]: [bool; 3], calls: usize, kept: usize, queued: usize) -> Limits {
    let calls = calls.clamp(1, MAX_THREADS);
    Limits {
        execution: if is_async { Execution::Async } else { Execution::Blocking },
        max_calls: calls,
        reserved_for_known: kept % calls,
        max_queued: queued.min(MAX_QUEUED),
        thread_keep_alive: Duration::from_secs(if stays { 10 } else { 0 }),
        timeout: Some(TIMEOUT),
        patience: PATIENCE,
        hedge: if hedges { Hedge::after(HEDGE) } else { Hedge::off() },
        schedule: SCHEDULE,
    }
}

#[cfg(fuzzing)]
impl<'a> arbitrary::Arbitrary<'a> for Scenario {
    fn arbitrary(bytes: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        let [flags, calls, kept, queued]: [u8; 4] = bytes.arbitrary()?;
        let [hung, deaf]: [u16; 2] = bytes.arbitrary()?;
        let names = |bits: u16| (0..NAMES).filter(|name| bits >> name & 1 == 1).collect();
        let [calls, kept, queued] = [calls % 5, kept % 3, queued % 5].map(usize::from);
        Ok(Self {
            limits: limits([1, 2, 4].map(|flag| flags & flag == flag), calls, kept, queued),
            hung: names(hung),
            deaf: names(deaf),
            ops: bytes.arbitrary_iter()?.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::tests::ops::op;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_waiter_ends_once_and_nothing_is_stranded(
            flags in any::<[bool; 3]>(),
            (calls, kept, queued) in (1..=MAX_THREADS, 0..2usize, 0..=MAX_QUEUED),
            hung in prop::collection::btree_set(0..NAMES, 0..usize::from(NAMES)),
            deaf in prop::collection::btree_set(0..NAMES, 0..usize::from(NAMES)),
            ops in prop::collection::vec(op(), 0..200),
        ) {
            Scenario { limits: limits(flags, calls, kept, queued), hung, deaf, ops }.play();
        }
    }
}
