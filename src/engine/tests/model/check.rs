//! What holds after every step, and in the end.

use proptest::prelude::*;

use super::*;
use crate::engine::tests::ops::{Op, op};

impl Model {
    /// What holds after every step.
    pub(super) fn check(&self) {
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
    pub(super) fn settle(&mut self, hung: &BTreeSet<u8>) {
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
