//! Telling the waiters of a flight that has landed.

use std::sync::Arc;

use super::{Shell, State};
use crate::addrs::{Addrs, Answer};
use crate::engine::{Landed, Rouse, Telling};
use crate::error::{Error, ErrorKind};
use crate::foreign::{caught, wake_all};
use crate::sync::Instant;
use crate::waiter::{Reply, Waiter};

/// A call that has its result.
pub(super) struct Landing {
    pub(super) result: Result<Answer, Error>,
    pub(super) course: Course,
}

/// The course of a call.
#[derive(Clone, Copy)]
pub(super) struct Course {
    /// When it began.
    pub(super) since: Instant,
    /// When it ended.
    pub(super) at: Instant,
    /// Whether more than one caller waited for it.
    pub(super) shared: bool,
    /// Whether a second call was made because the first was slow.
    pub(super) hedged: bool,
}

impl Landing {
    /// Returns the reply for a waiter: the result, or what the waiter has in place of an error.
    pub(super) fn reply(&self, waiter: &Waiter) -> Reply {
        let result = match &self.result {
            Ok(answer) => Ok(Addrs::looked_up(answer.clone())),
            Err(error) => waiter.in_place_of(error, self.course.at).ok_or_else(|| error.clone()),
        };
        self.course.reply(waiter, result)
    }

    /// Returns the reply for the only waiter, and the error if the waiter has something in place of it.
    pub(super) fn into_reply(self, waiter: &Waiter) -> (Reply, Option<Error>) {
        let Self { result, course } = self;
        match result {
            Ok(answer) => (course.reply(waiter, Ok(Addrs::looked_up(answer))), None),
            Err(error) => match waiter.in_place_of(&error, course.at) {
                Some(addrs) => (course.reply(waiter, Ok(addrs)), Some(error)),
                None => (course.reply(waiter, Err(error)), None),
            },
        }
    }
}

impl Course {
    fn reply(self, waiter: &Waiter, result: Result<Addrs, Error>) -> Reply {
        let Self { since, at, shared, hedged } = self;
        let queued = since.saturating_duration_since(waiter.asked);
        let in_call = at.saturating_duration_since(since);
        let waited = at.saturating_duration_since(waiter.asked);
        Reply { result: result.map(|addrs| addrs.after(queued, in_call)), queued, in_call, waited, shared, hedged }
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
