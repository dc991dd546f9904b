use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::Execution;

/// After the system refused a thread, the next is tried this much later.
const RETRY: Duration = Duration::from_millis(100);

/// Who makes one call after another, on a thread of its own or as a task on the driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(u64);

/// Whom the shell is to start or wake; the timekeeper first.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rouse {
    pub(crate) timekeeper: Option<RouseTimekeeper>,
    pub(crate) worker: Option<RouseWorker>,
}

impl Rouse {
    /// Both, of two that come one after the other.
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

/// The threads: who calls, who sleeps, and who is on the way.
///
/// At most one worker is on the way at a time, and rouses the next before it calls. So a burst of asks costs its callers one
/// wake-up in all, and no more threads come than the burst still needs when they arrive.
#[derive(Debug)]
pub(super) struct Crew {
    execution: Execution,
    max_workers: usize,
    thread_keep_alive: Duration,
    /// Workers started and not gone, whatever they do.
    alive: usize,
    /// Of these, the ones that have left, and whose threads have not ended: the destructors of thread-locals take their time.
    leaving: BTreeSet<WorkerId>,
    /// Sleeping workers, the one that has slept shortest last: it is woken first, so that those not needed can leave.
    idle: VecDeque<(WorkerId, Instant)>,
    /// Those who have slept enough and are to leave, unless there is something to do when they come.
    dismissed: BTreeSet<WorkerId>,
    rising: Option<WorkerId>,
    /// No start before this, after a refusal.
    not_before: Option<Instant>,
    timekeeper: Timekeeper,
    last_id: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Timekeeper {
    Absent,
    /// Starting, woken or at work: it comes for its next tick by itself.
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

    /// Whether there is no worker that could take a call.
    pub(super) fn has_nobody(&self) -> bool {
        self.alive == self.leaving.len()
    }

    /// Whether there is one worker, and no more.
    pub(super) fn is_last(&self) -> bool {
        self.alive == 1
    }

    /// A worker is here; says whether it was expected.
    pub(super) fn arrive(&mut self, worker: WorkerId) -> bool {
        let expected = self.rising == Some(worker);
        if expected {
            self.rising = None;
        }
        expected
    }

    /// Puts a worker to sleep; says whether the timekeeper has to hear of it.
    pub(super) fn idle(&mut self, worker: WorkerId, now: Instant) -> Option<RouseTimekeeper> {
        self.idle.push_back((worker, now));
        self.rouse_timekeeper(self.next_dismissal(), true)
    }

    pub(super) fn is_idle(&self, worker: WorkerId) -> bool {
        self.idle.iter().any(|&(id, _)| id == worker)
    }

    /// When the first idle worker has slept enough. The timekeeper sees to it: a worker that woke by itself would have to set
    /// the system's timer each time that it sleeps, which costs more than all else that it does.
    pub(super) fn next_dismissal(&self) -> Option<Instant> {
        self.idle.front().and_then(|(_, since)| since.checked_add(self.thread_keep_alive))
    }

    /// Has the idle workers that have slept enough leave; gives them, to be woken.
    pub(super) fn dismiss_tired(&mut self, now: Instant) -> Vec<WorkerId> {
        let mut tired = Vec::new();
        while self.next_dismissal().is_some_and(|at| at <= now) {
            tired.extend(self.idle.pop_front().map(|(worker, _)| worker));
        }
        self.dismissed.extend(&tired);
        tired
    }

    /// Has every idle worker come for what there is, or leave; gives them, to be woken.
    pub(super) fn dismiss_idle(&mut self) -> Vec<WorkerId> {
        let idle: Vec<WorkerId> = self.idle.drain(..).map(|(worker, _)| worker).collect();
        self.dismissed.extend(&idle);
        idle
    }

    /// A worker that was dismissed is here; says whether it was.
    pub(super) fn is_dismissed(&mut self, worker: WorkerId) -> bool {
        self.dismissed.remove(&worker)
    }

    /// A worker that is not idle leaves. Its place is free when its thread has ended, or at once if it is a task.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        match self.execution {
            Execution::Blocking => _ = self.leaving.insert(worker),
            Execution::Async => self.lose_one(None),
        }
    }

    /// A worker is no more; says whether it had left.
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

    /// No worker is left but one that is on the way.
    #[cfg(feature = "async-backend")]
    pub(super) fn forget_all(&mut self) {
        self.idle.clear();
        self.dismissed.clear();
        self.alive = usize::from(self.rising.is_some());
    }

    /// All threads, those about to end included, and the idle ones.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.alive, self.idle.len())
    }

    /// A worker is no more, or never was. With others alive no thread is to be started before `not_before`.
    fn lose_one(&mut self, not_before: Option<Instant>) {
        self.alive = self.alive.saturating_sub(1);
        self.not_before = if self.has_nobody() { None } else { self.not_before.max(not_before) };
    }

    /// Picks a worker for the head of a lane, for which a thread may be started from `from` on.
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

    /// From when a thread is started for that head, none being idle or on the way.
    fn start_at(&self, from: Instant) -> Option<Instant> {
        if self.alive >= self.max_workers {
            return None;
        }
        Some(self.not_before.map_or(from, |not_before| from.max(not_before)))
    }

    /// When a thread is to be started for that head, if nobody comes for it before.
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

    /// The timekeeper, if it has to hear of something: that it is needed, that it has to wake earlier, or that it may leave.
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
