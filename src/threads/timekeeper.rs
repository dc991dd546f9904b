use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::Threads;
use crate::engine::Tick;
use crate::foreign::caught;

/// The timekeeper's thread: does what is due, and sleeps until the next thing is.
pub(super) fn run(threads: &Arc<Threads>) {
    threads.lock().timekeeper = Some(thread::current());
    loop {
        let now = Instant::now();
        let mut state = threads.lock();
        let unclosed = std::mem::take(&mut state.unclosed);
        if !unclosed.is_empty() {
            drop(state);
            _ = caught(|| drop(unclosed));
            continue;
        }
        match state.engine.tick(now) {
            Tick::Sleep { until, rouse } => {
                drop(state);
                threads.rouse(rouse);
                sleep(until);
            }
            Tick::Leave => {
                state.timekeeper = None;
                return;
            }
        }
    }
}

/// Sleeps until roused or until `until`, or less.
pub(super) fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
        None => thread::park(),
    }
}
