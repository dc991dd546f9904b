//! Closing, and waiting for the end of what is outstanding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{State, Threads};
use crate::engine::{Rouse, Tally};
use crate::error::ErrorKind;
use crate::foreign::caught;
use crate::name::Name;
use crate::sync;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CloserId(u64);

/// Those who wait for the end.
#[derive(Default)]
pub(super) struct Closers {
    closers: BTreeMap<CloserId, Closer>,
    last: u64,
}

struct Closer {
    /// When it is to be woken even if the end has not come; `None` once it was.
    deadline: Option<Instant>,
    waker: Option<Waker>,
}

/// How a shutdown ended.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) abandoned: Vec<(Name, Duration)>,
    /// Threads that had not left and been joined.
    pub(crate) threads: usize,
}

impl State {
    pub(super) fn is_drained(&self) -> bool {
        self.engine.is_drained() && self.errands.is_over()
    }

    /// When the timekeeper is to come for one of them. For none, where there is nobody left for them to wait for but the
    /// timekeeper itself.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let timekeeper = usize::from(self.timekeeper.is_some());
        if self.engine.is_idle() && self.errands.is_over() && self.roster.staying() <= timekeeper {
            return None;
        }
        self.closers.closers.values().filter_map(|closer| closer.deadline).min()
    }

    /// The wakers of those whose deadline has come.
    pub(super) fn take_due_closers(&mut self, now: Instant) -> Vec<Waker> {
        let due = |closer: &&mut Closer| closer.deadline.is_some_and(|deadline| deadline <= now);
        let take = |closer: &mut Closer| {
            closer.deadline = None;
            closer.waker.take()
        };
        self.closers.closers.values_mut().filter(due).filter_map(take).collect()
    }

    /// The wakers of all who wait for the end, if it has come.
    pub(super) fn take_closers(&mut self) -> Vec<Waker> {
        if !self.is_drained() {
            return Vec::new();
        }
        self.closers.closers.values_mut().filter_map(|closer| closer.waker.take()).collect()
    }
}

impl Threads {
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.lock();
        let closing = state.engine.close();
        let stopped = closing.stopped;
        self.rouse(state, Rouse { timekeeper: closing.timekeeper, worker: None });
        closing.idle.into_iter().for_each(|worker| self.wake(worker));
        self.stop(stopped);
    }

    /// Cancels what has not begun.
    pub(crate) fn abort_queued(&self) {
        let mut state = self.lock();
        let waiters = state.engine.abort_queued();
        drop(state);
        let wakers = self.fail(waiters, &ErrorKind::Closed.into());
        wakers.into_iter().for_each(|waker| _ = caught(|| waker.wake()));
    }

    /// Leaves everything that is outstanding to itself; nobody waits for it any longer.
    pub(crate) fn give_up(&self) -> Outcome {
        let now = sync::now();
        let mut state = self.lock();
        let given_up = state.engine.give_up(now);
        let (tally, threads) = (state.engine.tally(), state.roster.len());
        drop(state);
        self.stop(given_up.stopped);
        let wakers = self.fail(given_up.waiters, &ErrorKind::Closed.into());
        wakers.into_iter().for_each(|waker| _ = caught(|| waker.wake()));
        Outcome { tally, abandoned: given_up.abandoned, threads }
    }

    /// Whether the end has come: every lookup has finished, and every thread has left and been joined. If not, `cx` is woken
    /// when it has, and at `deadline`, but not when that is past already.
    ///
    /// Joins what has left, unless the deadline is past: a thread that ends may be held up by thread-locals, or by the waker of
    /// another who waits for the same.
    pub(crate) fn poll_end(
        self: &Arc<Self>,
        closer: &mut Option<CloserId>,
        deadline: Option<Instant>,
        cx: &Context<'_>,
    ) -> Poll<Outcome> {
        let waker = cx.waker().clone();
        let late = deadline.is_some_and(|deadline| deadline <= sync::now());
        let mut state = self.lock();
        // While another joins, or one that has started a thread has yet to put its handle there, they come back to all.
        if state.is_drained() && state.roster.have_all_left() && !late {
            let left = state.roster.take_left(None);
            drop(state);
            self.join(left);
            state = self.lock();
        }
        if state.is_drained() && state.roster.len() == 0 {
            let outcome = Outcome { tally: state.engine.tally(), abandoned: Vec::new(), threads: 0 };
            drop(state);
            drop(waker);
            return Poll::Ready(outcome);
        }
        if late {
            return Poll::Pending;
        }
        let closers = &mut state.closers;
        let id = *closer.get_or_insert_with(|| {
            closers.last += 1;
            CloserId(closers.last)
        });
        let old = closers.closers.insert(id, Closer { deadline, waker: Some(waker) });
        let alarm = state.alarm();
        let rouse = state.engine.set_alarm(alarm);
        self.rouse(state, rouse);
        drop(old);
        Poll::Pending
    }

    /// One who waited for the end does not any more.
    pub(crate) fn forget_closer(self: &Arc<Self>, closer: CloserId) {
        let mut state = self.lock();
        let forgotten = state.closers.closers.remove(&closer);
        let alarm = state.alarm();
        let rouse = state.engine.set_alarm(alarm);
        self.rouse(state, rouse);
        drop(forgotten);
    }
}
