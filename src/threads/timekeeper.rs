use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::Threads;
use super::errands::Errand;
use super::roster::Key;
use crate::engine::{Expired, Tick};
use crate::error::Error;
use crate::sync::{self, thread};
use crate::waiter::{Reply, Waiter};

/// The timekeeper's thread: does what is due, and sleeps until the next thing is.
pub(super) fn run(threads: &Arc<Threads>, key: Key) {
    threads.lock().timekeeper = Some(thread::current());
    loop {
        while threads.run_stranded_errand() {}
        let now = sync::now();
        let mut state = threads.lock();
        let due = state.take_due_closers(now);
        if !due.is_empty() {
            drop(state);
            threads.send_urgently(due);
            continue;
        }
        let alarm = state.alarm();
        // For this thread, which is awake.
        _ = state.engine.set_alarm(alarm);
        match state.engine.tick(now) {
            Tick::Sleep { expired, rouse, stopped, idle, until } => {
                drop(state);
                idle.into_iter().for_each(|worker| threads.wake(worker));
                threads.stop(stopped);
                let mut wakers = threads.try_rouse(rouse);
                wakers.extend(expired.into_iter().filter_map(|expired| tell(expired, now)));
                threads.send(wakers.into_iter().map(Errand::Wake));
                if !threads.has_stranded_errand() {
                    sleep(until);
                }
            }
            Tick::Leave => {
                state.timekeeper = None;
                return threads.depart(state, key);
            }
        }
    }
}

/// Gives a waiter its timeout; the waker is to be woken elsewhere.
fn tell(expired: Expired<Arc<Waiter>>, now: Instant) -> Option<Waker> {
    let Expired { waiter, name, since, shared, relief } = expired;
    let began = since.unwrap_or(now).max(waiter.asked);
    let queued = began.saturating_duration_since(waiter.asked);
    let in_call = now.saturating_duration_since(began);
    // It lasts until then, though perhaps not until the timekeeper has come.
    let fallback = if relief { waiter.fallback(waiter.asked) } else { None };
    let result = match fallback {
        Some(addrs) => Ok(addrs.after(queued, in_call)),
        None => Err(Error::timed_out(&name, queued, in_call)),
    };
    waiter.fill(Reply { result, queued, in_call, shared })
}

/// Sleeps until roused or until `until`, or less.
fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => thread::park_timeout(until.saturating_duration_since(sync::now())),
        None => thread::park(),
    }
}
