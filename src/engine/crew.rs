use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::Execution;

/// Time between a thread that the system has refused and the next attempt.
const RETRY: Duration = Duration::from_millis(100);

/// The ID of a worker. A worker makes one call after another, on a thread of its own or as a task on the driver's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(u64);

/// The timekeeper and the worker that the shell starts or wakes, in this order.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rouse {
    pub(crate) timekeeper: Option<RouseTimekeeper>,
    pub(crate) worker: Option<RouseWorker>,
}

impl Rouse {
    /// Merges two values. If both name a timekeeper or a worker, that of `self` is used.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { timekeeper: self.timekeeper.or(other.timekeeper), worker: self.worker.or(other.worker) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouseTimekeeper {
    Start,
    Wake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouseWorker {
    Start(WorkerId),
    Wake(WorkerId),
}

/// The workers and the timekeeper: how many there are, which ones sleep, and which one is on the way.
///
/// At most one worker is on the way at a time. It rouses the next before it calls. So a burst of requests costs its callers one
/// wake-up in all, and starts no more threads than the burst still needs when they arrive.
#[derive(Debug)]
pub(super) struct Crew {
    execution: Execution,
    max_workers: usize,
    thread_keep_alive: Duration,
    /// Number of workers that were started and are not gone.
    alive: usize,
    /// Of these, the workers that have left, and whose threads have not ended: destructors of thread-locals take time.
    leaving: BTreeSet<WorkerId>,
    /// Sleeping workers, and since when each sleeps, the most recent last. That one is woken first, so that workers that are
    /// not needed can leave.
    idle: VecDeque<(WorkerId, Instant)>,
    /// Workers that were woken to leave, unless there is work when they arrive.
    dismissed: BTreeSet<WorkerId>,
    rising: Option<WorkerId>,
    /// After a refusal, no thread is started before this.
    not_before: Option<Instant>,
    timekeeper: Timekeeper,
    last_id: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Timekeeper {
    Absent,
    /// Starting, woken or at work. Its next tick comes without another wake-up.
    Awake,
    Asleep {
        until: Option<Instant>,
    },
}

impl Crew {
    pub(super) fn new(execution: Execution, max_workers: usize, thread_keep_alive: Duration) -> Self {
        Self {
            execution,
            max_workers,
            thread_keep_alive,
            alive: 0,
            leaving: BTreeSet::new(),
            idle: VecDeque::new(),
            dismissed: BTreeSet::new(),
            rising: None,
            not_before: None,
            timekeeper: Timekeeper::Absent,
            last_id: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.alive == 0
    }

    /// Returns whether there is no worker that could take a call.
    pub(super) fn has_nobody(&self) -> bool {
        self.alive == self.leaving.len()
    }

    /// Returns whether there is exactly one worker.
    pub(super) fn is_last(&self) -> bool {
        self.alive == 1
    }

    /// Notes that a worker has arrived. Returns whether it was on the way.
    pub(super) fn arrive(&mut self, worker: WorkerId) -> bool {
        let expected = self.rising == Some(worker);
        if expected {
            self.rising = None;
        }
        expected
    }

    /// Puts a worker to sleep. Returns how to rouse the timekeeper, if that is needed.
    pub(super) fn idle(&mut self, worker: WorkerId, now: Instant) -> Option<RouseTimekeeper> {
        self.idle.push_back((worker, now));
        self.rouse_timekeeper(self.next_dismissal(), true)
    }

    pub(super) fn is_idle(&self, worker: WorkerId) -> bool {
        self.idle.iter().any(|&(id, _)| id == worker)
    }

    /// Returns when the keep-alive of the first idle worker ends. The timekeeper watches this. A worker that woke by itself
    /// would have to set the system's timer each time that it sleeps, which costs more than everything else it does.
    pub(super) fn next_dismissal(&self) -> Option<Instant> {
        self.idle.front().and_then(|(_, since)| since.checked_add(self.thread_keep_alive))
    }

    /// Dismisses idle workers whose keep-alive has ended. Returns them, to be woken.
    pub(super) fn dismiss_tired(&mut self, now: Instant) -> Vec<WorkerId> {
        let mut tired = Vec::new();
        while self.next_dismissal().is_some_and(|at| at <= now) {
            tired.extend(self.idle.pop_front().map(|(worker, _)| worker));
        }
        self.dismissed.extend(&tired);
        tired
    }

    /// Dismisses all idle workers: each takes the work there is, or leaves. Returns them, to be woken.
    pub(super) fn dismiss_idle(&mut self) -> Vec<WorkerId> {
        let idle: Vec<WorkerId> = self.idle.drain(..).map(|(worker, _)| worker).collect();
        self.dismissed.extend(&idle);
        idle
    }

    /// Returns whether a worker that has arrived was dismissed, and clears that.
    pub(super) fn is_dismissed(&mut self, worker: WorkerId) -> bool {
        self.dismissed.remove(&worker)
    }

    /// Notes that a worker that is not idle leaves. Its place is free once its thread has ended, or at once if it is a task.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        match self.execution {
            Execution::Blocking => _ = self.leaving.insert(worker),
            Execution::Async => self.lose_one(None),
        }
    }

    /// Removes a worker that has ended. Returns whether it had left before.
    pub(super) fn forget(&mut self, worker: WorkerId) -> bool {
        let had_left = self.leaving.remove(&worker);
        if !had_left {
            self.idle.retain(|&(idle, _)| idle != worker);
            self.dismissed.remove(&worker);
            self.arrive(worker);
        }
        self.lose_one(None);
        had_left
    }

    /// Removes all workers, except one that is on the way.
    #[cfg(feature = "async-backend")]
    pub(super) fn forget_all(&mut self) {
        self.idle.clear();
        self.dismissed.clear();
        self.alive = usize::from(self.rising.is_some());
    }

    /// Returns the number of workers, those about to end included, and of idle workers.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.alive, self.idle.len())
    }

    /// Removes a worker that has ended or never started. If others are alive, no thread is started before `not_before`.
    fn lose_one(&mut self, not_before: Option<Instant>) {
        self.alive = self.alive.saturating_sub(1);
        self.not_before = if self.has_nobody() { None } else { self.not_before.max(not_before) };
    }

    /// Picks a worker for the head of a lane. A thread may be started for it from `from` on.
    pub(super) fn rouse_worker(&mut self, from: Instant, now: Instant) -> Option<RouseWorker> {
        if self.rising.is_some() {
            return None;
        }
        if let Some((worker, _)) = self.idle.pop_back() {
            self.rising = Some(worker);
            return Some(RouseWorker::Wake(worker));
        }
        if self.start_at(from).is_none_or(|at| now < at) {
            return None;
        }
        self.not_before = None;
        self.last_id += 1;
        let worker = WorkerId(self.last_id);
        self.alive += 1;
        self.rising = Some(worker);
        Some(RouseWorker::Start(worker))
    }

    /// Returns from when on a thread is started for that head, given that no worker is idle or on the way.
    fn start_at(&self, from: Instant) -> Option<Instant> {
        if self.alive >= self.max_workers {
            return None;
        }
        Some(self.not_before.map_or(from, |not_before| from.max(not_before)))
    }

    /// Returns when a thread must be started for that head, unless a worker takes it before.
    pub(super) fn next_start(&self, from: Instant) -> Option<Instant> {
        if self.rising.is_some() || !self.idle.is_empty() {
            return None;
        }
        self.start_at(from)
    }

    pub(super) fn worker_refused(&mut self, now: Instant) {
        self.rising = None;
        self.lose_one(now.checked_add(RETRY));
    }

    pub(super) fn timekeeper_refused(&mut self, untried: Option<WorkerId>) {
        self.timekeeper = Timekeeper::Absent;
        if untried.is_some() && self.rising == untried {
            self.rising = None;
            self.lose_one(None);
        }
    }

    /// Returns how to rouse the timekeeper, if it is needed, must wake earlier, or may leave.
    pub(super) fn rouse_timekeeper(&mut self, next: Option<Instant>, needed: bool) -> Option<RouseTimekeeper> {
        let (rouse, has_to_hear) = match self.timekeeper {
            Timekeeper::Awake => return None,
            Timekeeper::Absent => (RouseTimekeeper::Start, needed),
            Timekeeper::Asleep { until } => {
                let earlier = next.is_some_and(|next| until.is_none_or(|until| next < until));
                (RouseTimekeeper::Wake, earlier || !needed)
            }
        };
        if !has_to_hear {
            return None;
        }
        self.timekeeper = Timekeeper::Awake;
        Some(rouse)
    }

    pub(super) fn is_timekeeper_awake(&self) -> bool {
        self.timekeeper == Timekeeper::Awake
    }

    pub(super) fn is_timekeeper_absent(&self) -> bool {
        self.timekeeper == Timekeeper::Absent
    }

    pub(super) fn timekeeper_sleeps(&mut self, until: Option<Instant>) {
        self.timekeeper = Timekeeper::Asleep { until };
    }

    pub(super) fn timekeeper_left(&mut self) {
        self.timekeeper = Timekeeper::Absent;
    }
}
