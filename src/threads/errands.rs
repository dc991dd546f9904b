//! Foreign code that is nobody's call, run on threads of its own: the timekeeper runs none, so that no waker that blocks
//! keeps it from the next deadline.

use std::sync::Arc;
use std::task::Waker;

use super::Threads;
use super::roster::Key;
use crate::foreign::caught;
use crate::trace::Scope;

/// So many threads run errands at most. What blocks one of them costs the others no more than that.
const RUNNERS: usize = 4;

pub(super) enum Errand {
    Wake(Waker),
    /// A scope that could not be closed where its lookup ended.
    Close(Scope),
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
        let mut state = self.lock();
        state.errands.extend(errands);
        while state.runners < RUNNERS.min(state.errands.len()) {
            state.runners += 1;
            let key = state.roster.new_key();
            drop(state);
            let started = self.start("gaiter-errand", key, move |threads| run(threads, key));
            state = self.lock();
            if started.is_err() {
                state.runners -= 1;
                break;
            }
        }
    }

    /// Runs one errand that waits, if no thread could be had for it.
    pub(super) fn run_stranded_errand(&self) -> bool {
        let mut state = self.lock();
        let stranded = if state.runners == 0 { state.errands.pop_front() } else { None };
        drop(state);
        stranded.map(Errand::run).is_some()
    }
}

fn run(threads: &Arc<Threads>, key: Key) {
    loop {
        let mut state = threads.lock();
        let Some(errand) = state.errands.pop_front() else {
            state.runners -= 1;
            return threads.depart(state, key);
        };
        drop(state);
        errand.run();
    }
}
