//! Telling those who wait for a lookup that has its result.

use std::sync::Arc;
use std::time::Instant;

use super::{Shell, State};
use crate::addrs::{Addrs, Answer};
use crate::engine::{Landed, Rouse, Telling};
use crate::error::{Error, ErrorKind};
use crate::foreign::{caught, wake_all};
use crate::waiter::{Reply, Waiter};

/// What a call has come to.
pub(super) struct Landing {
    pub(super) result: Result<Answer, Error>,
    /// When the call began, and when it ended.
    pub(super) since: Instant,
    pub(super) at: Instant,
    /// Whether more than one caller waited for it.
    pub(super) shared: bool,
}

impl Landing {
    /// What a waiter gets: the result, or where that is a failure which says nothing of the name, the waiter's stale answer.
    pub(super) fn reply(&self, waiter: &Waiter) -> Reply {
        let queued = self.since.saturating_duration_since(waiter.asked);
        let in_call = self.at.saturating_duration_since(self.since);
        let result = match &self.result {
            Ok(answer) => Ok(Addrs::looked_up(answer.clone())),
            Err(error) if error.is_not_found() => Err(error.clone()),
            Err(error) => waiter.fallback(self.at).ok_or_else(|| error.clone()),
        };
        let result = result.map(|addrs| addrs.after(queued, in_call));
        Reply { result, queued, in_call, shared: self.shared }
    }
}

impl State {
    /// What a waiter of a flight that has landed gets; counts it.
    pub(super) fn reply(&mut self, landed: Landed, waiter: &Waiter) -> Reply {
        let reply = match self.landings.get(&landed) {
            Some(landing) => landing.reply(waiter),
            // It is there until the engine has no waiter left.
            None => Reply::of(Err(ErrorKind::Other.into())),
        };
        self.count(&reply);
        reply
    }
}

impl Shell {
    /// Tells those who wait for a flight that has landed, one after another. Each stays in the engine until it is its turn, so
    /// that its deadline is kept while the waker of another one blocks.
    pub(super) fn tell_all(self: &Arc<Self>, landed: Landed) {
        loop {
            let mut state = self.lock();
            let Telling { waiter, timekeeper } = state.engine.tell(landed);
            let told = waiter.map(|waiter| (state.reply(landed, &waiter), waiter));
            let landing = if told.is_none() { state.landings.remove(&landed) } else { None };
            self.rouse(state, Rouse { timekeeper, worker: None });
            match told {
                Some((reply, waiter)) => tell(waiter, reply),
                // With the destructor of a backend's error, which is foreign.
                None => {
                    _ = caught(|| drop(landing));
                    return;
                }
            }
        }
    }
}

/// Gives a waiter its reply, and wakes its caller.
pub(super) fn tell(waiter: Arc<Waiter>, reply: Reply) {
    let waker = waiter.fill(reply);
    _ = caught(|| drop(waiter));
    wake_all(waker);
}
