use std::time::Duration;

use super::Execution;
use super::slab::{Key, List, Slab};
use crate::sync::Instant;

/// Time between a thread that the system has refused and the next attempt.
const RETRY: Duration = Duration::from_millis(100);

/// The ID of a worker. A worker makes one call after another, on a thread of its own or as a task on the driver's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(super) Key);

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
    /// All workers that were started and are not gone.
    workers: Slab<Worker, 1>,
    /// Number of these that have left, and whose threads have not ended: destructors of thread-locals take time.
    leaving: usize,
    /// Sleeping workers, the most recent last. That one is woken first, so that workers that are not needed can leave.
    idle: List<IDLE>,
    rising: Option<WorkerId>,
    /// After a refusal, no thread is started before this.
    not_before: Option<Instant>,
    timekeeper: Timekeeper,
}

const IDLE: usize = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    /// At work, or on the way to it.
    Active,
    Idle {
        since: Instant,
    },
    /// Woken to leave, unless there is work when it arrives.
    Dismissed,
    Leaving,
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
            workers: Slab::new(),
            leaving: 0,
            idle: List::default(),
            rising: None,
            not_before: None,
            timekeeper: Timekeeper::Absent,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers.len() == 0
    }

    /// Returns whether there is no worker that could take a call.
    pub(super) fn has_nobody(&self) -> bool {
        self.workers.len() == self.leaving
    }

    /// Returns whether there is no place for another worker, and none is idle.
    pub(super) fn is_full(&self) -> bool {
        self.workers.len() >= self.max_workers && self.idle.len() == 0
    }

    /// Returns whether there is exactly one worker.
    pub(super) fn is_last(&self) -> bool {
        self.workers.len() == 1
    }

    /// Notes that a worker has arrived. Returns whether it was on the way.
    pub(super) fn arrive(&mut self, worker: WorkerId) -> bool {
        self.rising.take_if(|rising| *rising == worker).is_some()
    }

    /// Puts a worker to sleep. Returns how to rouse the timekeeper, if that is needed.
    pub(super) fn idle(&mut self, worker: WorkerId, now: Instant) -> Option<RouseTimekeeper> {
        if let Some(state) = self.workers.get_mut(worker.0) {
            *state = Worker::Idle { since: now };
            self.idle.push_back(&mut self.workers, worker.0);
        }
        self.rouse_timekeeper(self.next_dismissal(), true)
    }

    pub(super) fn is_idle(&self, worker: WorkerId) -> bool {
        matches!(self.workers.get(worker.0), Some(Worker::Idle { .. }))
    }

    /// Returns when the keep-alive of the first idle worker ends. The timekeeper watches this. A worker that woke by itself
    /// would have to set the system's timer each time that it sleeps, which costs more than everything else it does.
    pub(super) fn next_dismissal(&self) -> Option<Instant> {
        match self.workers.get(self.idle.first(&self.workers)?)? {
            Worker::Idle { since } => since.checked_add(self.thread_keep_alive),
            _ => None,
        }
    }

    /// Dismisses idle workers whose keep-alive has ended. Returns them, to be woken.
    pub(super) fn dismiss_tired(&mut self, now: Instant) -> Vec<WorkerId> {
        let mut tired = Vec::new();
        while self.next_dismissal().is_some_and(|at| at <= now) {
            tired.extend(self.dismiss_first());
        }
        tired
    }

    /// Dismisses all idle workers: each takes the work there is, or leaves. Returns them, to be woken.
    pub(super) fn dismiss_idle(&mut self) -> Vec<WorkerId> {
        std::iter::from_fn(|| self.dismiss_first()).collect()
    }

    fn dismiss_first(&mut self) -> Option<WorkerId> {
        let first = self.idle.first(&self.workers)?;
        self.set(WorkerId(first), Worker::Dismissed);
        Some(WorkerId(first))
    }

    /// Returns whether a worker that has arrived was dismissed, and clears that.
    pub(super) fn is_dismissed(&mut self, worker: WorkerId) -> bool {
        let was_dismissed = self.workers.get(worker.0) == Some(&Worker::Dismissed);
        if was_dismissed {
            self.set(worker, Worker::Active);
        }
        was_dismissed
    }

    /// Sets the state of a worker. Removes it from the idle ones if it was one of them.
    fn set(&mut self, worker: WorkerId, state: Worker) {
        let Some(former) = self.workers.get_mut(worker.0) else { return };
        if let Worker::Idle { .. } = std::mem::replace(former, state) {
            self.idle.remove(&mut self.workers, worker.0);
        }
    }

    /// Notes that a worker that is not idle leaves. Its place is free once its thread has ended, or at once if it is a task.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        match self.execution {
            Execution::Blocking => {
                self.set(worker, Worker::Leaving);
                self.leaving += 1;
            }
            Execution::Async => self.lose(worker, None),
        }
    }

    /// Removes a worker that has ended. Returns whether it had left before.
    pub(super) fn forget(&mut self, worker: WorkerId) -> bool {
        let had_left = self.workers.get(worker.0) == Some(&Worker::Leaving);
        if had_left {
            self.leaving -= 1;
        } else {
            self.arrive(worker);
        }
        self.lose(worker, None);
        had_left
    }

    /// Removes the idle workers.
    #[cfg(feature = "async-backend")]
    pub(super) fn forget_idle(&mut self) {
        while let Some(worker) = self.dismiss_first() {
            self.lose(worker, None);
        }
    }

    /// Returns the number of workers, those about to end included, and of idle workers.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.workers.len(), self.idle.len())
    }

    /// Removes a worker that has ended or never started. If others are alive, no thread is started before `not_before`.
    fn lose(&mut self, worker: WorkerId, not_before: Option<Instant>) {
        self.set(worker, Worker::Active);
        self.workers.remove(worker.0);
        self.not_before = if self.has_nobody() { None } else { self.not_before.max(not_before) };
    }

    /// Picks a worker for the head of a lane. A thread may be started for it from `from` on.
    pub(super) fn rouse_worker(&mut self, from: Instant, now: Instant) -> Option<RouseWorker> {
        if self.rising.is_some() {
            return None;
        }
        if let Some(worker) = self.idle.last(&self.workers).map(WorkerId) {
            self.set(worker, Worker::Active);
            self.rising = Some(worker);
            return Some(RouseWorker::Wake(worker));
        }
        if self.start_at(from).is_none_or(|at| now < at) {
            return None;
        }
        self.not_before = None;
        let worker = WorkerId(self.workers.insert(Worker::Active));
        self.rising = Some(worker);
        Some(RouseWorker::Start(worker))
    }

    /// Returns from when on a thread is started for that head, given that the crew [is busy](Self::is_busy).
    pub(super) fn start_at(&self, from: Instant) -> Option<Instant> {
        if self.workers.len() >= self.max_workers {
            return None;
        }
        Some(self.not_before.map_or(from, |not_before| from.max(not_before)))
    }

    /// Returns whether no worker is idle or on the way.
    pub(super) fn is_busy(&self) -> bool {
        self.rising.is_none() && self.idle.len() == 0
    }

    pub(super) fn worker_refused(&mut self, now: Instant) {
        if let Some(refused) = self.rising.take() {
            self.lose(refused, now.checked_add(RETRY));
        }
    }

    pub(super) fn timekeeper_refused(&mut self, untried: Option<WorkerId>) {
        self.timekeeper = Timekeeper::Absent;
        if let Some(untried) = untried.filter(|_| self.rising == untried) {
            self.rising = None;
            self.lose(untried, None);
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
