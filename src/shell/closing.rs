//! Closing, and waiting for the end of what is outstanding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::roster::{CloserId, Others};
use super::{Shell, State};
use crate::engine::{Alarm, Engine, Rouse, Tally};
use crate::error::ErrorKind;
use crate::foreign;
use crate::name::Name;
use crate::sync;
use crate::sync::thread::Thread;

/// How long one who waits for the end waits for threads that run nothing any more but the destructors of their thread-locals.
/// Mostly that takes microseconds.
const PATIENCE: Duration = Duration::from_millis(1);

/// So often one who waits for the end is woken again because the thread that wakes it has not ended.
const TRIES: u32 = 20;

/// How long one who gives up waits for the thread that has woken it, so as not to count it. Its waker is its own affair.
const PATIENCE_AT_LAST: Duration = Duration::from_millis(20);

/// Those who wait for the end.
#[derive(Default)]
pub(super) struct Closers {
    closers: BTreeMap<CloserId, Closer>,
    last: u64,
    /// How many were taken to be woken and have no thread for that yet.
    waking: usize,
    /// How many have found the end and wait for the timekeeper to leave, which stays for none of the others meanwhile.
    ending: usize,
}

struct Closer {
    /// When it is to be woken even if the end has not come.
    deadline: Option<Instant>,
    /// `None` once it was woken.
    wakeup: Option<Wakeup>,
    /// How often it found no thread but those that wake it.
    tries: u32,
}

/// How far the end of the threads has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// Closed, while something is outstanding: a lookup, an errand, or a closer to be woken.
    Draining,
    /// Nothing is outstanding, but threads have not been joined.
    Drained,
    /// Every thread has been joined, but for the timekeeper and the one that asks.
    Joined,
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
            Self::Foreign(waker) => foreign::wake_all([waker]),
            Self::Unpark(thread) => thread.unpark(),
        }
    }
}

/// How a shutdown ended.
pub(crate) struct Ending {
    pub(crate) tally: Tally,
    pub(crate) abandoned: Vec<(Name, Duration)>,
    /// Threads that had not ended, beside the timekeeper.
    pub(crate) threads: usize,
    /// All were joined, the timekeeper too.
    pub(crate) joined: bool,
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

    /// Returns how far the end has come, given which threads are left.
    pub(super) fn phase(&self, others: Others) -> Phase {
        let is_drained = self.engine.is_idle() && self.errands.is_empty() && self.closers.waking == 0;
        match others {
            _ if !self.engine.is_closed() => Phase::Open,
            _ if !is_drained => Phase::Draining,
            Others::Gone => Phase::Joined,
            _ => Phase::Drained,
        }
    }

    /// Those who wait for the end and have to hear that it has come, or that their deadline has.
    pub(super) fn take_due_closers(&mut self, now: Instant, is_end: bool) -> Vec<(CloserId, Wakeup)> {
        let is_due = |closer: &Closer| is_end || closer.deadline.is_some_and(|deadline| deadline <= now);
        let due = self.closers.closers.iter_mut().filter(|(_, closer)| is_due(closer));
        let due: Vec<_> = due.filter_map(|(&id, closer)| Some((id, closer.wakeup.take()?))).collect();
        self.closers.waking += due.len();
        due
    }

    /// One of those is being woken.
    pub(super) fn wakes_closer(&mut self) {
        self.closers.waking -= 1;
    }
}

impl Shell {
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
    pub(crate) fn give_up(self: &Arc<Self>, closer: Option<CloserId>) -> Ending {
        // First, so that no call that ends now makes room for another.
        self.fail(&ErrorKind::Closed.into(), Engine::abort_queued);
        let now = sync::now();
        let mut state = self.lock();
        let given_up = state.engine.give_up(now);
        let tally = state.engine.tally();
        drop(state);
        let threads = self.roster.count_others(closer, PATIENCE_AT_LAST);
        self.stop(given_up.stopped);
        self.fail(&ErrorKind::Closed.into(), Engine::abort_running);
        Ending { tally, abandoned: given_up.abandoned, threads, joined: false }
    }

    /// What is left beside the timekeeper and this thread. Joins what has ended, and waits for what is about to.
    fn others(self: &Arc<Self>, closer: Option<CloserId>) -> Others {
        let until = sync::now().checked_add(PATIENCE);
        loop {
            self.join_ended();
            let others = self.roster.others(closer, until);
            if others != Others::ToBeJoined {
                return others;
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
    ) -> Poll<Ending> {
        let mut others = self.others(*closer);
        let mut state = self.lock();
        if others == Others::Left && state.phase(others) == Phase::Drained {
            // It is near, and the timekeeper may have left meanwhile: another look may spare another one.
            drop(state);
            others = self.others(*closer);
            state = self.lock();
        }
        let old = closer.and_then(|closer| state.closers.closers.remove(&closer));
        let tries = old.as_ref().map_or(0, |closer| closer.tries) + u32::from(matches!(others, Others::Wake(_)));
        let threads = match others {
            Others::Gone => Some(0),
            // A waker that goes on after it has woken would keep the end from coming for ever.
            Others::Wake(threads) if tries > TRIES => Some(threads),
            _ => None,
        };
        // Once more under the lock: others may be woken by now, on threads of their own.
        let is_drained = |state: &State| state.phase(others) >= Phase::Drained;
        let is_end = threads.filter(|_| is_drained(&state) && self.roster.others(*closer, None) == others);
        if let Some(threads) = is_end.filter(|_| state.closers.waiting().next().is_none()) {
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
            self.wake_forlorn_closers();
            return Poll::Ready(Ending { tally, abandoned: Vec::new(), threads, joined: threads == 0 });
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
        state.closers.closers.insert(id, Closer { deadline, wakeup: Some(wakeup), tries });
        let rouse = state.set_alarm();
        self.rouse(state, rouse);
        drop(old);
        if is_end.is_some() {
            // Those who have yet to hear of it hear of it first.
            self.roster.unpark_timekeeper();
        }
        self.wake_forlorn_closers();
        Poll::Pending
    }

    /// Wakes those who wait for the end where there is no timekeeper, and no thread to be had for one.
    fn wake_forlorn_closers(&self) {
        let mut state = self.lock();
        if state.closers.ending > 0 || state.engine.has_timekeeper() {
            return;
        }
        let forlorn: Vec<_> = state.closers.closers.values_mut().filter_map(|closer| closer.wakeup.take()).collect();
        drop(state);
        forlorn.into_iter().for_each(Wakeup::wake);
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
