//! Foreign code that is nobody's call, run on threads of its own: the timekeeper runs none, so that no waker that blocks
//! keeps it from the next deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::Threads;
use super::roster::Key;
use crate::foreign::caught;
use crate::sync::thread::Thread;
use crate::trace::Scope;

/// So many threads run errands at most. A waker that blocks costs the others one of these; when it has cost all of them,
/// errands wait.
const RUNNERS: usize = 4;

/// What is to be run, and who runs it.
#[derive(Default)]
pub(super) struct Errands {
    waiting: VecDeque<Errand>,
    runners: usize,
    /// Of the runners, those that have an errand, which may block them.
    busy: usize,
}

pub(super) enum Errand {
    Wake(Waker),
    /// A scope that could not be closed where its lookup ended.
    Close(Scope),
}

impl Errands {
    /// Whether none is being run. One that waits then found no thread, and is no reason to wait for it in turn.
    pub(super) fn is_over(&self) -> bool {
        self.runners == 0
    }

    fn wants_runner(&self, bound: usize) -> bool {
        self.runners < bound && self.runners - self.busy < self.waiting.len()
    }
}

impl Errand {
    fn run(self) {
        _ = caught(|| match self {
            Self::Wake(waker) => waker.wake(),
            Self::Close(scope) => drop(scope),
        });
    }
}

impl Threads {
    /// Has errands run, in no order.
    pub(super) fn send(self: &Arc<Self>, errands: impl IntoIterator<Item = Errand>) {
        self.send_at_most(RUNNERS, errands);
    }

    /// Has those who wait for the end of it all woken, however many errands are blocked.
    pub(super) fn send_urgently(self: &Arc<Self>, wakers: Vec<Waker>) {
        self.send_at_most(usize::MAX, wakers.into_iter().map(Errand::Wake));
    }

    fn send_at_most(self: &Arc<Self>, runners: usize, errands: impl IntoIterator<Item = Errand>) {
        let mut state = self.lock();
        state.errands.waiting.extend(errands);
        while state.errands.wants_runner(runners) {
            state.errands.runners += 1;
            let key = state.roster.new_key();
            drop(state);
            let started = self.start("gaiter-errand", key, move |threads| run(threads, key));
            state = self.lock();
            if started.is_err() {
                state.errands.runners -= 1;
                // It runs what no thread could be had for.
                let timekeeper = state.timekeeper.clone();
                drop(state);
                timekeeper.inspect(Thread::unpark);
                return;
            }
        }
    }

    pub(super) fn has_stranded_errand(&self) -> bool {
        let state = self.lock();
        state.errands.runners == 0 && !state.errands.waiting.is_empty()
    }

    /// Runs one errand here, if no thread could be had for it.
    pub(super) fn run_stranded_errand(&self) -> bool {
        let mut state = self.lock();
        let stranded = if state.errands.runners == 0 { state.errands.waiting.pop_front() } else { None };
        drop(state);
        stranded.map(Errand::run).is_some()
    }
}

fn run(threads: &Arc<Threads>, key: Key) {
    let mut state = threads.lock();
    while let Some(errand) = state.errands.waiting.pop_front() {
        state.errands.busy += 1;
        drop(state);
        errand.run();
        state = threads.lock();
        state.errands.busy -= 1;
    }
    state.errands.runners -= 1;
    threads.depart(state, key);
}
