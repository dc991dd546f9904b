//! Errands: foreign code that belongs to no call, run on threads of its own. The timekeeper runs an errand only if no thread
//! can be had for it, so that no blocking waker keeps it from the next deadline.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::Shell;
use super::roster::{CloserId, Key, Kind};
use crate::error::Error;
use crate::foreign::{caught, wake_all};
use crate::sync::{self, Instant};
use crate::trace::Scope;
use crate::waiter::{Reply, Waiter};

/// Maximum number of threads that run errands, unless more lookups than this may run.
const RUNNERS: usize = 64;

/// If no errand has begun for this long, those that run are taken to block, and others get a thread.
const STALL: Duration = Duration::from_millis(20);

/// The errands that wait, and the threads that run errands.
#[derive(Default)]
pub(super) struct Errands {
    waiting: VecDeque<Errand>,
    /// Number of threads that run errands. Each ends when it finds none.
    runners: usize,
    /// Number of runners that have an errand, which may block them.
    busy: usize,
    /// When an errand last began, or when the first waiting one came.
    moved: Option<Instant>,
    /// Whether the operating system has refused a thread for the waiting errands.
    is_refused: bool,
}

pub(super) enum Errand {
    /// Drops a waiter that was told, which may be the last handle of something foreign, and wakes its caller.
    Told(Arc<Waiter>, Option<Waker>),
    /// Closes a scope that could not be closed where its lookup ended.
    Release(Scope),
    /// Wakes a watcher.
    Wake(Waker),
    /// Drops an error, whose source is foreign.
    Drop(Error),
}

impl Errands {
    /// Returns whether no errand waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns when the timekeeper must check whether the running errands block.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let moved = self.moved.filter(|_| !self.waiting.is_empty())?;
        Some(moved.checked_add(STALL).unwrap_or(moved))
    }

    /// Returns the number of runners to start for waiting errands, at most `free`: as many as are blocked, or 1 if there is
    /// no runner. Blocked runners are counted once per stall.
    fn wanted(&mut self, now: Instant, free: usize) -> usize {
        let is_stalled = self.alarm().is_some_and(|at| at <= now);
        if is_stalled {
            self.moved = Some(now);
        }
        let blocked = if is_stalled && self.busy == self.runners { self.runners } else { 0 };
        let wanted = if self.runners == 0 { 1 } else { blocked };
        wanted.min(self.waiting.len()).min(free)
    }

    /// Takes an errand that must be run without a thread of its own, because none could be had.
    fn take_stranded(&mut self) -> Option<Errand> {
        if self.runners == 0 && self.is_refused { self.waiting.pop_front() } else { None }
    }
}

impl Errand {
    /// Hands a waiter its reply, and returns the rest as an errand for another thread.
    pub(super) fn told(waiter: Arc<Waiter>, reply: Reply) -> Self {
        let waker = waiter.fill(reply);
        Self::Told(waiter, waker)
    }

    /// Returns false for a waiter that has no waker.
    pub(super) fn wakes(&self) -> bool {
        !matches!(self, Self::Told(_, None))
    }

    fn run(self) {
        match self {
            Self::Told(waiter, waker) => {
                _ = caught(|| drop(waiter));
                wake_all(waker);
            }
            Self::Release(scope) => _ = caught(|| drop(scope)),
            Self::Wake(waker) => wake_all([waker]),
            Self::Drop(error) => _ = caught(|| drop(error)),
        }
    }
}

impl Shell {
    /// Runs errands on other threads, in no particular order.
    pub(super) fn send(self: &Arc<Self>, errands: impl IntoIterator<Item = Errand>) {
        let errands: Vec<Errand> = errands.into_iter().collect();
        if errands.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.errands.is_empty() {
            state.errands.moved = Some(sync::now());
        }
        state.errands.waiting.extend(errands);
        let rouse = state.set_alarm();
        self.rouse(state, rouse);
        self.start_runners();
        let mut state = self.lock();
        // With no thread at all, and none to be had, only this thread can run them.
        while !state.engine.has_timekeeper() {
            let Some(errand) = state.errands.take_stranded() else { return };
            drop(state);
            errand.run();
            state = self.lock();
        }
    }

    /// Starts threads for waiting errands, if needed.
    pub(super) fn start_runners(self: &Arc<Self>) {
        let bound = self.setup.limits.max_calls.max(RUNNERS);
        let mut state = self.lock();
        while !state.errands.is_empty() {
            let now = sync::now();
            let free = bound.saturating_sub(self.roster.count(Kind::Errand));
            let wanted = state.errands.wanted(now, free);
            if wanted == 0 {
                return;
            }
            state.errands.runners += wanted;
            drop(state);
            let refused = (0..wanted).filter(|_| self.start("gaiter-errand", Key::Errand, run).is_err()).count();
            state = self.lock();
            state.errands.runners -= refused;
            state.errands.is_refused = refused > 0;
            if refused > 0 {
                drop(state);
                // The timekeeper runs errands that got no thread.
                return self.roster.unpark_timekeeper();
            }
        }
    }

    /// Wakes a closer on a thread of its own, however many errands are blocked.
    pub(super) fn wake_apart(self: &Arc<Self>, closer: CloserId, waker: Waker) {
        let waker = Arc::new(Mutex::new(Some(waker)));
        let take = |waker: &Mutex<Option<Waker>>| waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let theirs = Arc::clone(&waker);
        let run = move |_: &Arc<Self>| wake_all(take(&theirs));
        if self.start("gaiter-errand", |number| Key::Closer(closer, number), run).is_err() {
            wake_all(take(&waker));
        }
    }

    /// Runs one errand here, if no thread could be had for it. Returns whether it did.
    pub(super) fn run_stranded_errand(&self) -> bool {
        let stranded = self.lock().errands.take_stranded();
        stranded.map(Errand::run).is_some()
    }
}

fn run(shell: &Arc<Shell>) {
    let mut state = shell.lock();
    while let Some(errand) = state.errands.waiting.pop_front() {
        state.errands.busy += 1;
        state.errands.moved = Some(sync::now());
        drop(state);
        errand.run();
        state = shell.lock();
        state.errands.busy -= 1;
    }
    state.errands.runners -= 1;
}

#[cfg(all(test, not(gaiter_loom)))]
mod tests {
    use super::*;

    /// Returns `count` waiting errands, and as many runners, each of which is blocked.
    fn blocked(count: usize) -> (Errands, Instant) {
        let now = Instant::now();
        let waiting = (0..count).map(|_| Errand::Told(Arc::new(Waiter::new(now, None)), None)).collect();
        (Errands { waiting, runners: count, busy: count, moved: Some(now), is_refused: false }, now)
    }

    #[test]
    fn those_that_are_blocked_are_made_up_for_after_a_while() {
        let (mut errands, now) = blocked(3);
        assert_eq!(errands.wanted(now, 100), 0);
        let at = errands.alarm().expect("a look at them");
        assert_eq!(errands.wanted(at, 2), 2, "no more than there may be");
        let at = errands.alarm().expect("another look");
        assert_eq!(errands.wanted(at, 100), 3);
        errands.busy -= 1;
        assert_eq!(errands.wanted(at + STALL, 100), 0, "one is free");
    }

    /// Otherwise the timekeeper would spin.
    #[test]
    fn where_there_may_be_no_more_runners_the_next_look_is_later() {
        let (mut errands, now) = blocked(3);
        for step in 1..10 {
            let now = now + step * STALL;
            assert_eq!(errands.wanted(now, 0), 0);
            assert!(errands.alarm().is_some_and(|at| at > now));
        }
    }

    #[test]
    fn there_is_nothing_to_look_at_where_none_waits() {
        let (mut errands, now) = blocked(0);
        assert_eq!((errands.alarm(), errands.wanted(now + STALL, 1)), (None, 0));
    }
}
