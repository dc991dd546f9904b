//! Telling the waiters of a flight that has landed.

use std::sync::Arc;

use super::{Shell, State};
use crate::addrs::{Addrs, Answer};
use crate::engine::{Landed, Rouse, Telling};
use crate::error::{Error, ErrorKind};
use crate::foreign::{caught, wake_all};
use crate::sync::Instant;
use crate::waiter::{Reply, Waiter};

/// The result of a call.
pub(super) struct Landing {
    pub(super) result: Result<Answer, Error>,
    /// When the call began.
    pub(super) since: Instant,
    /// When the call ended.
    pub(super) at: Instant,
    /// Whether more than one caller waited for it.
    pub(super) shared: bool,
    /// Whether a second call was made because the first was slow.
    pub(super) hedged: bool,
}

impl Landing {
    /// Returns the reply for a waiter: the result, or what the waiter has in place of an error.
    pub(super) fn reply(&self, waiter: &Waiter) -> Reply {
        let queued = self.since.saturating_duration_since(waiter.asked);
        let in_call = self.at.saturating_duration_since(self.since);
        let result = match &self.result {
            Ok(answer) => Ok(Addrs::looked_up(answer.clone())),
            Err(error) => waiter.in_place_of(error, self.at).ok_or_else(|| error.clone()),
        };
        let result = result.map(|addrs| addrs.after(queued, in_call));
        let waited = self.at.saturating_duration_since(waiter.asked);
        Reply { result, queued, in_call, waited, shared: self.shared, hedged: self.hedged }
    }
}

impl State {
    /// Returns the reply for a waiter of a flight that has landed, and counts it.
    pub(super) fn reply(&mut self, landed: Landed, waiter: &Waiter) -> Reply {
        let reply = match self.landings.get(&landed) {
            Some(landing) => landing.reply(waiter),
            // Never happens: the landing stays until the engine has no waiter left.
            None => Reply::of(Err(ErrorKind::Other.into())),
        };
        self.count(&reply);
        reply
    }
}

impl Shell {
    /// Tells the waiters of a flight that has landed, one after another.
    ///
    /// Each stays in the engine until its turn, so that its deadline is kept while the waker of another one blocks.
    pub(super) fn tell_all(self: &Arc<Self>, landed: Landed) {
        loop {
            let mut state = self.lock();
            let Telling { waiter, timekeeper } = state.engine.tell(landed);
            let told = waiter.map(|waiter| (state.reply(landed, &waiter), waiter));
            let landing = if told.is_none() { state.landings.remove(&landed) } else { None };
            self.rouse(state, Rouse { timekeeper, worker: None });
            match told {
                Some((reply, waiter)) => tell(waiter, reply),
                // Runs the destructor of a backend's error, which is foreign.
                None => {
                    _ = caught(|| drop(landing));
                    return;
                }
            }
        }
    }
}

/// Hands a waiter its reply, and wakes its caller.
pub(super) fn tell(waiter: Arc<Waiter>, reply: Reply) {
    let waker = waiter.fill(reply);
    _ = caught(|| drop(waiter));
    wake_all(waker);
}
