use std::sync::Arc;

use super::closing::{Phase, Wakeup};
use super::errands::Errand;
use super::roster::CloserId;
use super::{Shell, State};
use crate::engine::{Expired, Tick};
use crate::error::Error;
use crate::foreign::caught;
use crate::sync::{self, Instant, thread};
use crate::waiter::{Reply, Waiter};

/// Runs the timekeeper: does what is due, and sleeps until the next thing is.
pub(super) fn run(shell: &Arc<Shell>) {
    if caught(|| keep(shell)).is_err() {
        let mut state = shell.lock();
        state.engine.timekeeper_lost();
        shell.roster.set_timekeeper(None);
        let rouse = state.engine.rouse(sync::now());
        shell.rouse(state, rouse);
    }
}

fn keep(shell: &Arc<Shell>) {
    shell.roster.set_timekeeper(Some(thread::current()));
    shell.roster.join_former_timekeepers();
    loop {
        while shell.run_stranded_errand() {}
        shell.start_runners();
        shell.join_ended();
        let now = sync::now();
        let mut state = shell.lock();
        let is_end = state.phase(shell.roster.others(None, None)) == Phase::Joined;
        let due = state.take_due_closers(now, is_end);
        if !due.is_empty() {
            drop(state);
            due.into_iter().for_each(|(id, wakeup)| shell.wake_closer(id, wakeup));
            continue;
        }
        // Rouses nobody: this is the timekeeper, and it is awake.
        _ = state.set_alarm();
        match state.engine.tick(now) {
            Tick::Sleep { expired, unheard, rouse, stopped, idle, until } => {
                let told: Vec<_> =
                    expired.into_iter().map(|expired| (expired.landed, state.expire(expired, now))).collect();
                let unheard = unheard.into_iter().filter_map(|(news, why)| Some((state.board(news)?, why)));
                let unheard: Vec<_> = unheard.collect();
                drop(state);
                idle.into_iter().for_each(|worker| shell.wake(worker));
                shell.stop(stopped);
                shell.rouse_all(rouse);
                let told = told.into_iter().map(|(landed, (waiter, reply))| (landed, Errand::told(waiter, reply)));
                // A result may hold something foreign. If its caller has left, an errand drops it with the waiter.
                shell.send(told.filter(|(landed, told)| landed.is_some() || told.wakes()).map(|(_, told)| told));
                unheard.into_iter().for_each(|(board, why)| shell.post_failure(board, why));
                sleep(until);
            }
            Tick::Leave => {
                // Under the lock: another timekeeper may be on its way once it is released.
                return shell.roster.set_timekeeper(None);
            }
        }
    }
}

impl State {
    /// Returns the reply for a waiter whose deadline has passed: a result, if there is one by now, a stale answer, a fallback, or
    /// a timeout.
    fn expire(&mut self, expired: Expired<Arc<Waiter>>, now: Instant) -> (Arc<Waiter>, Reply) {
        let Expired { waiter, name, since, shared, hedged, relief, landed } = expired;
        if let Some(landed) = landed {
            let reply = self.reply(landed, &waiter);
            return (waiter, reply);
        }
        let began = since.unwrap_or(now).max(waiter.asked);
        let queued = began.saturating_duration_since(waiter.asked);
        let in_call = now.saturating_duration_since(began);
        let error = Error::timed_out(&name, queued, in_call);
        // As of `asked`: the answer lasts until the deadline, though perhaps not until the timekeeper has come.
        let instead = waiter.in_place_of(&error, relief.then_some(waiter.asked));
        let result = instead.map(|addrs| addrs.after(queued, in_call)).ok_or(error);
        (waiter, Reply { result, queued, in_call, waited: queued + in_call, shared, hedged })
    }
}

impl Shell {
    fn wake_closer(self: &Arc<Self>, closer: CloserId, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Foreign(waker) => self.wake_apart(closer, waker),
            Wakeup::Unpark(thread) => thread.unpark(),
        }
        self.lock().wakes_closer();
    }
}

/// Sleeps until roused or until `until`. May return sooner.
fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => thread::park_timeout(until.saturating_duration_since(sync::now())),
        None => thread::park(),
    }
}
