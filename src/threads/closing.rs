//! Closing, and waiting for the end of what is outstanding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::{State, Threads};
use crate::engine::{Alarm, Engine, Rouse, Tally};
use crate::error::ErrorKind;
use crate::name::Name;
use crate::sync;
use crate::sync::thread::Thread;

/// How long one who waits for the end waits for threads that run nothing any more but the destructors of their thread-locals.
/// Mostly that takes microseconds.
const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CloserId(u64);

/// Those who wait for the end.
#[derive(Default)]
pub(super) struct Closers {
    closers: BTreeMap<CloserId, Closer>,
    last: u64,
    /// How many have found the end and wait for the timekeeper to leave, which stays for none of the others meanwhile.
    ending: usize,
    /// How many the timekeeper has yet to start a thread for that wakes them.
    waking: usize,
}

struct Closer {
    /// When it is to be woken even if the end has not come.
    deadline: Option<Instant>,
    /// `None` once it was woken.
    wakeup: Option<Wakeup>,
}

/// How one who waits for the end is woken.
pub(crate) enum Wakeup {
    Foreign(Waker),
    /// The thread sleeps in the crate's own code.
    Unpark(Thread),
}

impl Wakeup {
    fn wake(self) {
        match self {
            Self::Foreign(waker) => waker.wake(),
            Self::Unpark(thread) => thread.unpark(),
        }
    }
}

/// How a shutdown ended.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) abandoned: Vec<(Name, Duration)>,
    /// Threads that had not ended, beside the timekeeper.
    pub(crate) threads: usize,
}

impl Closers {
    /// The waiting ones.
    fn waiting(&self) -> impl Iterator<Item = &Closer> {
        self.closers.values().filter(|closer| closer.wakeup.is_some())
    }

    /// When the timekeeper is to come for one of them.
    fn alarm(&self) -> Alarm {
        match self.waiting().filter_map(|closer| closer.deadline).min() {
            _ if self.ending > 0 || self.waiting().next().is_none() => Alarm::Unset,
            Some(first) => Alarm::At(first),
            None => Alarm::Stay,
        }
    }
}

impl State {
    /// What the timekeeper is to stay for, or come for, that the engine does not know of.
    pub(super) fn alarm(&self) -> Alarm {
        match (self.closers.alarm(), self.errands.alarm()) {
            (Alarm::At(first), Some(at)) => Alarm::At(first.min(at)),
            (_, Some(at)) => Alarm::At(at),
            (alarm, None) => alarm,
        }
    }

    /// Whether nothing is left to be done for anybody, but for threads to end.
    fn is_over(&self) -> bool {
        self.engine.is_over() && self.errands.is_empty()
    }

    pub(super) fn has_closers(&self) -> bool {
        self.closers.waiting().next().is_some()
    }

    /// Those who wait for the end and have to hear that it has come, or that their deadline has. Each is to be
    /// [woken](Threads::wake_closer).
    pub(super) fn take_due_closers(&mut self, now: Instant, is_end: bool) -> Vec<Wakeup> {
        let is_due = |closer: &&mut Closer| is_end || closer.deadline.is_some_and(|deadline| deadline <= now);
        let due: Vec<_> =
            self.closers.closers.values_mut().filter(is_due).filter_map(|closer| closer.wakeup.take()).collect();
        self.closers.waking += due.iter().filter(|wakeup| matches!(wakeup, Wakeup::Foreign(_))).count();
        due
    }
}

impl Threads {
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.lock();
        let closing = state.engine.close();
        self.rouse(state, Rouse { timekeeper: closing.timekeeper, worker: None });
        closing.idle.into_iter().for_each(|worker| self.wake(worker));
        self.sweep();
    }

    /// Cancels what has not begun.
    pub(crate) fn abort_queued(self: &Arc<Self>) {
        self.fail(&ErrorKind::Closed.into(), Engine::abort_queued);
    }

    /// Leaves everything that is outstanding to itself; nobody waits for it any longer.
    pub(crate) fn give_up(self: &Arc<Self>) -> Outcome {
        // First, so that no call that ends now makes room for another.
        self.fail(&ErrorKind::Closed.into(), Engine::abort_queued);
        let now = sync::now();
        let mut state = self.lock();
        let given_up = state.engine.give_up(now);
        let tally = state.engine.tally();
        let threads = self.roster.count_others().max(state.closers.waking);
        drop(state);
        self.stop(given_up.stopped);
        self.fail(&ErrorKind::Closed.into(), Engine::abort_running);
        Outcome { tally, abandoned: given_up.abandoned, threads }
    }

    /// Whether nothing is left but the timekeeper and this thread. Joins what has ended, and waits so long for what is about to.
    pub(super) fn is_end(self: &Arc<Self>, patience: Duration) -> bool {
        loop {
            self.join_ended();
            match self.roster.are_others_gone(patience) {
                Some(true) => return self.lock().is_over(),
                Some(false) => return false,
                None => {}
            }
        }
    }

    /// Whether the end has come: every lookup has finished, and every thread has ended and been joined. If not, `wakeup` is for
    /// when it has, and for `deadline`, unless that is past already.
    ///
    /// Blocks for a millisecond at the most, and for as long as the timekeeper takes to end, which runs nothing foreign. It is the
    /// last to go.
    pub(crate) fn poll_end(
        self: &Arc<Self>,
        closer: &mut Option<CloserId>,
        deadline: Option<Instant>,
        wakeup: Wakeup,
    ) -> Poll<Outcome> {
        let is_end = self.is_end(PATIENCE);
        let mut state = self.lock();
        let old = closer.and_then(|closer| state.closers.closers.remove(&closer));
        // Once more, under the lock: the timekeeper may have started a thread meanwhile, for one whose waker it has taken.
        let is_still = state.closers.waking == 0 && self.roster.are_others_gone(Duration::ZERO) == Some(true);
        if is_end && is_still && !state.has_closers() {
            let tally = state.engine.tally();
            state.closers.ending += 1;
            let rouse = state.set_alarm();
            self.rouse(state, rouse);
            drop((old, wakeup));
            self.roster.join_timekeeper();
            let mut state = self.lock();
            state.closers.ending -= 1;
            let rouse = state.set_alarm();
            self.rouse(state, rouse);
            return Poll::Ready(Outcome { tally, abandoned: Vec::new(), threads: 0 });
        }
        if deadline.is_some_and(|deadline| deadline <= sync::now()) {
            drop(state);
            drop((old, wakeup));
            return Poll::Pending;
        }
        let id = *closer.get_or_insert_with(|| {
            state.closers.last += 1;
            CloserId(state.closers.last)
        });
        state.closers.closers.insert(id, Closer { deadline, wakeup: Some(wakeup) });
        let rouse = state.set_alarm();
        self.rouse(state, rouse);
        drop(old);
        if is_end {
            // Those who have yet to hear of it hear of it first.
            self.roster.unpark_timekeeper();
        }
        let mut state = self.lock();
        if state.closers.ending == 0 && !state.engine.has_timekeeper() {
            // There is nobody to wake this one, and no thread to be had for that.
            let wakeup = state.closers.closers.get_mut(&id).and_then(|closer| closer.wakeup.take());
            drop(state);
            wakeup.into_iter().for_each(Wakeup::wake);
        }
        Poll::Pending
    }

    /// Wakes one of those that were due.
    pub(super) fn wake_closer(self: &Arc<Self>, closer: Wakeup) {
        match closer {
            Wakeup::Foreign(waker) => {
                self.wake_apart(waker);
                self.lock().closers.waking -= 1;
            }
            Wakeup::Unpark(thread) => thread.unpark(),
        }
    }

    /// One who waited for the end does not any more.
    pub(crate) fn forget_closer(self: &Arc<Self>, closer: CloserId) {
        let mut state = self.lock();
        let forgotten = state.closers.closers.remove(&closer);
        let rouse = state.set_alarm();
        self.rouse(state, rouse);
        drop(forgotten);
    }
}
