use std::time::{Duration, Instant};

use super::Limits;

/// Up to this many calls at once, a new name gets a thread at once if none is idle. More threads than this make most
/// lookups slower, not faster, since they outrun the DNS server.
const EAGER: usize = 64;

/// Above [`EAGER`], a thread is started only when the head of the queue has waited this long: then the calls are hanging
/// rather than busy.
const PATIENCE: Duration = Duration::from_millis(20);

/// After the system refused a thread, the next is tried this much later.
const RETRY: Duration = Duration::from_millis(100);

/// A thread that runs lookups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkerId(u64);

/// Whom the shell is to start or wake; the timekeeper first.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rouse {
    pub(crate) timekeeper: Option<RouseTimekeeper>,
    pub(crate) worker: Option<RouseWorker>,
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
    limits: Limits,
    /// Workers started and not left, whatever they do.
    alive: usize,
    calling: usize,
    /// Sleeping workers, the one that has slept shortest last: it is woken first, so that those not needed can leave.
    idle: Vec<(WorkerId, Instant)>,
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
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            alive: 0,
            calling: 0,
            idle: Vec::new(),
            rising: None,
            not_before: None,
            timekeeper: Timekeeper::Absent,
            last_id: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.alive == 0
    }

    /// A worker is here; says whether it was expected.
    pub(super) fn arrive(&mut self, worker: WorkerId) -> bool {
        let expected = self.rising == Some(worker);
        if expected {
            self.rising = None;
        }
        expected
    }

    pub(super) fn begin_call(&mut self) {
        self.calling += 1;
    }

    pub(super) fn end_call(&mut self) {
        self.calling = self.calling.saturating_sub(1);
    }

    /// Puts a worker to sleep; says until when.
    pub(super) fn idle(&mut self, worker: WorkerId, now: Instant) -> Option<Instant> {
        self.idle.push((worker, now));
        now.checked_add(self.limits.thread_idle)
    }

    /// A worker woke by itself: until when it is to sleep on, or `None` if it has slept enough and is gone.
    pub(super) fn idle_out(&mut self, worker: WorkerId, now: Instant) -> Option<Option<Instant>> {
        let slot = self.idle.iter().position(|&(id, _)| id == worker);
        let since = slot.and_then(|slot| self.idle.get(slot)).map_or(now, |&(_, since)| since);
        let until = since.checked_add(self.limits.thread_idle);
        if until.is_none_or(|until| now < until) {
            return Some(until);
        }
        self.idle.retain(|&(id, _)| id != worker);
        self.lose_one(None);
        None
    }

    /// A worker is no more, or never was. With others alive no thread is to be started before `not_before`.
    fn lose_one(&mut self, not_before: Option<Instant>) {
        self.alive = self.alive.saturating_sub(1);
        self.not_before = if self.is_empty() { None } else { self.not_before.max(not_before) };
    }

    /// Picks a worker for the head of the queue, which has waited since `queued`.
    pub(super) fn rouse_worker(&mut self, queued: Option<Instant>, now: Instant) -> Option<RouseWorker> {
        let queued = queued?;
        if self.rising.is_some() {
            return None;
        }
        if let Some((worker, _)) = self.idle.pop() {
            self.rising = Some(worker);
            return Some(RouseWorker::Wake(worker));
        }
        if self.start_at(queued).is_none_or(|at| now < at) {
            return None;
        }
        self.not_before = None;
        self.last_id += 1;
        let worker = WorkerId(self.last_id);
        self.alive += 1;
        self.rising = Some(worker);
        Some(RouseWorker::Start(worker))
    }

    /// From when a thread may be started for a queue whose head has waited since `queued`, none being idle or on the way.
    fn start_at(&self, queued: Instant) -> Option<Instant> {
        if self.alive >= self.limits.max_threads {
            return None;
        }
        let patience = if self.calling < EAGER { Duration::ZERO } else { PATIENCE };
        let at = queued.checked_add(patience)?;
        Some(self.not_before.map_or(at, |not_before| at.max(not_before)))
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

    /// When the timekeeper has to look again, given the head of the queue.
    pub(super) fn next_tick(&self, queued: Option<Instant>) -> Option<Instant> {
        if self.rising.is_some() || !self.idle.is_empty() {
            return None;
        }
        self.start_at(queued?)
    }

    /// The timekeeper, if it has to hear of something: that it is needed, that it has to wake earlier, or that it may leave.
    pub(super) fn rouse_timekeeper(&mut self, queued: Option<Instant>) -> Option<RouseTimekeeper> {
        let next = self.next_tick(queued);
        let needed = match self.timekeeper {
            Timekeeper::Awake => false,
            Timekeeper::Absent => !self.is_empty(),
            Timekeeper::Asleep { until } => {
                self.is_empty() || next.is_some_and(|next| until.is_none_or(|until| next < until))
            }
        };
        if needed { self.call_timekeeper() } else { None }
    }

    pub(super) fn call_timekeeper(&mut self) -> Option<RouseTimekeeper> {
        match std::mem::replace(&mut self.timekeeper, Timekeeper::Awake) {
            Timekeeper::Awake => None,
            Timekeeper::Absent => Some(RouseTimekeeper::Start),
            Timekeeper::Asleep { .. } => Some(RouseTimekeeper::Wake),
        }
    }

    pub(super) fn timekeeper_sleeps(&mut self, until: Option<Instant>) {
        self.timekeeper = Timekeeper::Asleep { until };
    }

    pub(super) fn timekeeper_left(&mut self) {
        self.timekeeper = Timekeeper::Absent;
    }
}
