//! Closing, and waiting for shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::roster::{CloserId, Others};
use super::{Shell, State};
use crate::engine::{Alarm, Engine, Rouse, Tally};
use crate::error::ErrorKind;
use crate::foreign;
use crate::name::Name;
use crate::sync::thread::Thread;
use crate::sync::{self, Instant};

/// How long a closer waits for threads that have only destructors of thread-locals left to run. Mostly that takes
/// microseconds.
const PATIENCE: Duration = Duration::from_millis(1);

/// Maximum number of times that a closer is woken again because the thread that wakes it has not ended.
const TRIES: u32 = 20;

/// How long a closer that gives up waits for the thread that woke it, so as not to count it. That thread runs only the
/// closer's own waker.
const PATIENCE_AT_LAST: Duration = Duration::from_millis(20);

/// The closers: all who wait for shutdown.
#[derive(Default)]
pub(super) struct Closers {
    closers: BTreeMap<CloserId, Closer>,
    last: u64,
    /// Number of closers that were taken to be woken and have no thread for that yet.
    waking: usize,
    /// Number of closers that found the end and wait for the timekeeper to leave. Meanwhile it stays for none of the others.
    ending: usize,
}

struct Closer {
    /// When the closer is woken even if the end has not come.
    deadline: Option<Instant>,
    /// `None` once the closer was woken.
    wakeup: Option<Wakeup>,
    /// How often the closer found no thread but those that wake it.
    tries: u32,
}

/// How far shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// Closed, with something outstanding: a lookup, an errand, or a closer to be woken.
    Draining,
    /// Nothing is outstanding, but threads have not been joined.
    Drained,
    /// Every thread has been joined, except the timekeeper and the current thread.
    Joined,
}

/// How a closer is woken.
pub(crate) enum Wakeup {
    Foreign(Waker),
    /// Unparks a thread that sleeps in the crate's own code.
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

/// The result of a shutdown.
pub(crate) struct Ending {
    pub(crate) tally: Tally,
    pub(crate) abandoned: Vec<(Name, Duration)>,
    /// Number of threads that had not ended, except the timekeeper.
    pub(crate) threads: usize,
    /// Whether all threads were joined, including the timekeeper.
    pub(crate) joined: bool,
}

impl Closers {
    /// Returns the closers that have not been woken.
    fn waiting(&self) -> impl Iterator<Item = &Closer> {
        self.closers.values().filter(|closer| closer.wakeup.is_some())
    }

    /// Returns when the timekeeper must come for a closer.
    fn alarm(&self) -> Alarm {
        match self.waiting().filter_map(|closer| closer.deadline).min() {
            _ if self.ending > 0 || self.waiting().next().is_none() => Alarm::Unset,
            Some(first) => Alarm::At(first),
            None => Alarm::Stay,
        }
    }
}

impl State {
    /// Returns what the timekeeper must stay for, or come for, that the engine does not know of.
    pub(super) fn alarm(&self) -> Alarm {
        match (self.closers.alarm(), self.errands.alarm()) {
            (Alarm::At(first), Some(at)) => Alarm::At(first.min(at)),
            (_, Some(at)) => Alarm::At(at),
            (alarm, None) => alarm,
        }
    }

    /// Returns how far shutdown has come, given which threads are left.
    pub(super) fn phase(&self, others: Others) -> Phase {
        let is_drained = self.engine.is_idle() && self.errands.is_empty() && self.closers.waking == 0;
        match others {
            _ if !self.engine.is_closed() => Phase::Open,
            _ if !is_drained => Phase::Draining,
            Others::Gone => Phase::Joined,
            _ => Phase::Drained,
        }
    }

    /// Takes the wakeups of closers that must hear that the end has come, or whose deadline has passed.
    pub(super) fn take_due_closers(&mut self, now: Instant, is_end: bool) -> Vec<(CloserId, Wakeup)> {
        let is_due = |closer: &Closer| is_end || closer.deadline.is_some_and(|deadline| deadline <= now);
        let due = self.closers.closers.iter_mut().filter(|(_, closer)| is_due(closer));
        let due: Vec<_> = due.filter_map(|(&id, closer)| Some((id, closer.wakeup.take()?))).collect();
        self.closers.waking += due.len();
        due
    }

    /// Records that one of these closers has a thread to wake it, or was woken.
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

    /// Cancels lookups that have not begun.
    pub(crate) fn abort_queued(self: &Arc<Self>) {
        self.fail(&ErrorKind::Closed.into(), Engine::abort_queued);
    }

    /// Gives up on everything outstanding: fails its waiters, and leaves the rest to itself.
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
        // With the last waiter nothing may be outstanding any more, and the threads may have ended before.
        self.roster.unpark_timekeeper();
        Ending { tally, abandoned: given_up.abandoned, threads, joined: false }
    }

    /// Returns which threads are left, except the timekeeper and the current thread. Joins those that have ended, and waits
    /// for those that are about to.
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

    /// Returns how shutdown ended, once every lookup has finished and every thread has ended and been joined. Otherwise keeps
    /// `wakeup` for that moment and for `deadline`, unless `deadline` has passed.
    ///
    /// Blocks for at most 2 milliseconds, and for as long as the timekeeper takes to end. The timekeeper goes last, and runs
    /// nothing foreign.
    pub(crate) fn poll_end(
        self: &Arc<Self>,
        closer: &mut Option<CloserId>,
        deadline: Option<Instant>,
        wakeup: Wakeup,
    ) -> Poll<Ending> {
        let mut others = self.others(*closer);
        let mut state = self.lock();
        if others == Others::Left && state.phase(others) == Phase::Drained {
            // The end is near, and the timekeeper may have left: a second look may save starting another one.
            drop(state);
            others = self.others(*closer);
            state = self.lock();
        }
        let old = closer.and_then(|closer| state.closers.closers.remove(&closer));
        let tries = old.as_ref().map_or(0, |closer| closer.tries) + u32::from(matches!(others, Others::Wake(_)));
        let threads = match others {
            Others::Gone => Some(0),
            // Otherwise a waker that does not return would delay the end for ever.
            Others::Wake(threads) if tries > TRIES => Some(threads),
            _ => None,
        };
        // Checked again under the lock: closers may be being woken by now, on threads of their own.
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
            // Closers that have not heard of the end yet hear of it first.
            self.roster.unpark_timekeeper();
        }
        self.wake_forlorn_closers();
        Poll::Pending
    }

    /// Wakes all closers if there is no timekeeper, because no thread can be had for one.
    fn wake_forlorn_closers(&self) {
        let mut state = self.lock();
        if state.closers.ending > 0 || state.engine.has_timekeeper() {
            return;
        }
        let forlorn: Vec<_> = state.closers.closers.values_mut().filter_map(|closer| closer.wakeup.take()).collect();
        drop(state);
        forlorn.into_iter().for_each(Wakeup::wake);
    }

    /// Removes a closer that no longer waits.
    pub(crate) fn forget_closer(self: &Arc<Self>, closer: CloserId) {
        let mut state = self.lock();
        let forgotten = state.closers.closers.remove(&closer);
        let rouse = state.set_alarm();
        self.rouse(state, rouse);
        drop(forgotten);
    }
}
