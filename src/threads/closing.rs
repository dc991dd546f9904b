//! Closing, and waiting for the end of what is outstanding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{State, Threads, roster};
use crate::engine::{Rouse, Tally};
use crate::error::{Error, ErrorKind};
use crate::name::Name;

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
}

impl State {
    fn is_drained(&self) -> bool {
        self.engine.is_drained() && self.errands.is_over()
    }

    /// When the timekeeper is to come for one of them. For none, where there is nothing left for them to wait for but the
    /// timekeeper itself.
    pub(super) fn alarm(&self) -> Option<Instant> {
        if self.engine.is_idle() && self.errands.is_over() {
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
    pub(super) fn close(self: &Arc<Self>) {
        let closing = self.lock().engine.close();
        closing.idle.into_iter().for_each(|worker| self.wake(worker));
        self.rouse(Rouse { timekeeper: closing.timekeeper, worker: None });
    }

    /// Cancels what has not begun.
    pub(crate) fn abort_queued(&self) {
        let mut state = self.lock();
        let waiters = state.engine.abort_queued();
        state.engine.count_closed(waiters.len());
        drop(state);
        self.fail(waiters, &ErrorKind::Closed.into());
    }

    /// Leaves everything that is outstanding to itself; nobody waits for it any longer.
    pub(crate) fn give_up(&self) -> Outcome {
        let now = Instant::now();
        let mut state = self.lock();
        let given_up = state.engine.give_up(now);
        let tally = state.engine.tally();
        drop(state);
        self.fail(given_up.waiters, &Error::from(ErrorKind::Closed));
        Outcome { tally, abandoned: given_up.abandoned }
    }

    /// Whether the end has come: every lookup has finished, and every thread has left and been joined. If not, `cx` is woken
    /// when it has, and at `deadline`.
    pub(crate) fn poll_end(
        self: &Arc<Self>,
        closer: &mut Option<CloserId>,
        deadline: Option<Instant>,
        cx: &Context<'_>,
    ) -> Poll<Outcome> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        let mut left = Vec::new();
        if state.is_drained() {
            left = state.roster.take_left(None);
            // Someone who has started a thread may yet have to put its handle there.
            if state.roster.is_empty() {
                let tally = state.engine.tally();
                drop(state);
                roster::join(left);
                return Poll::Ready(Outcome { tally, abandoned: Vec::new() });
            }
        }
        let closers = &mut state.closers;
        let id = *closer.get_or_insert_with(|| {
            closers.last += 1;
            CloserId(closers.last)
        });
        let old = closers.closers.insert(id, Closer { deadline, waker: Some(waker) });
        let alarm = state.alarm();
        let rouse = state.engine.set_alarm(alarm);
        drop(state);
        drop(old);
        roster::join(left);
        self.rouse(rouse);
        Poll::Pending
    }

    /// One who waited for the end does not any more.
    pub(crate) fn forget_closer(self: &Arc<Self>, closer: CloserId) {
        let mut state = self.lock();
        let forgotten = state.closers.closers.remove(&closer);
        let alarm = state.alarm();
        let rouse = state.engine.set_alarm(alarm);
        drop(state);
        drop(forgotten);
        self.rouse(rouse);
    }
}
