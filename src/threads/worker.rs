use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::Threads;
use super::timekeeper::sleep;
use crate::addrs::Answer;
use crate::engine::{FlightId, Next, Rouse, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::trace::Scope;
use crate::waiter::Reply;

/// What a worker does between two visits to the engine.
enum Turn {
    Call { flight: Flight, custody: Option<Scope>, rouse: Rouse },
    Sleep { until: Option<Instant> },
    Leave { rouse: Rouse },
}

/// A worker's thread: takes flights until it has idled long enough.
pub(super) fn run(threads: &Arc<Threads>, id: WorkerId) {
    threads.lock().workers.insert(id, thread::current());
    let mut slept = false;
    loop {
        match turn(threads, id, slept) {
            Turn::Call { flight, custody, rouse } => {
                slept = false;
                threads.rouse(rouse);
                flight.fly(custody);
            }
            Turn::Sleep { until } => {
                slept = true;
                sleep(until);
            }
            Turn::Leave { rouse } => return threads.rouse(rouse),
        }
    }
}

fn turn(threads: &Arc<Threads>, id: WorkerId, slept: bool) -> Turn {
    let now = Instant::now();
    let mut state = threads.lock();
    let next = if slept { state.engine.woke(id, now) } else { state.engine.take(id, now) };
    match next {
        Next::Call { flight, name, oldest, rouse } => {
            // The custody alone, and not the waiter: a call that hangs holds nothing of a caller that leaves.
            let custody = oldest.and_then(|waiter| waiter.take_custody());
            let flight = Flight { threads: Arc::clone(threads), id: flight, name, result: None };
            Turn::Call { flight, custody, rouse }
        }
        Next::Sleep { until } => Turn::Sleep { until },
        Next::Leave { rouse } => {
            state.workers.remove(&id);
            Turn::Leave { rouse }
        }
    }
}

/// A flight in the hands of a worker. However it ends, it ends once, and every waiter gets its reply: `Drop` sees to it.
struct Flight {
    threads: Arc<Threads>,
    id: FlightId,
    name: Name,
    result: Option<Result<Answer, Error>>,
}

impl Flight {
    fn fly(mut self, custody: Option<Scope>) {
        let backend = Arc::clone(&self.threads.backend);
        let mut call = || {
            let answer = caught(|| backend.lookup(self.name.as_str()));
            self.result = Some(answer.unwrap_or_else(|panic| Err(Error::panicked(panic.0))));
        };
        match custody {
            Some(scope) => scope.run(call),
            None => call(),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let result = match self.result.take() {
            Some(Ok(answer)) if answer.as_slice().is_empty() => Err(ErrorKind::NoData.into()),
            Some(result) => result,
            None => Err(Error::panicked(None)),
        };
        let result = result.map_err(|error| error.about(&self.name));
        let now = Instant::now();
        let finished = self.threads.lock().engine.finish(self.id, now);
        for waiter in finished.waiters {
            let reply = Reply {
                result: result.clone(),
                queued: finished.taken.saturating_duration_since(waiter.asked),
                in_call: now.saturating_duration_since(finished.taken),
                shared: finished.shared,
            };
            // Wakers are foreign, and so is the destructor of a backend's error.
            _ = caught(|| {
                waiter.reply(reply);
                drop(waiter);
            });
        }
        _ = caught(|| drop(result));
    }
}
