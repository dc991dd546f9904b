use std::sync::Arc;
use std::time::Instant;

use super::Threads;
use super::roster::Key;
use super::timekeeper::sleep;
use crate::addrs::Answer;
use crate::engine::{Next, Rouse, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::trace::Scope;
use crate::waiter::Reply;

/// A worker's thread: makes one call after another until it has idled long enough.
pub(super) fn run(threads: &Arc<Threads>, id: WorkerId) {
    let mut slept = false;
    loop {
        let now = Instant::now();
        let mut state = threads.lock();
        match if slept { state.engine.woke(id, now) } else { state.engine.take(id, now) } {
            Next::Call { name, rouse } => {
                // The custody alone, and not its waiter: a call that hangs holds nothing of a caller that leaves. The oldest
                // waiter's may be with another call for this name.
                let custody = state.engine.waiters(id).find_map(|waiter| waiter.take_custody());
                drop(state);
                slept = false;
                threads.rouse(rouse);
                let call = Call { threads, id, name, result: None };
                if call.run(custody) == Some(ErrorKind::System) {
                    // After one such as EMFILE, libc's resolver state may stay broken in this thread.
                    let rouse = threads.lock().engine.retire(id, Instant::now());
                    return leave(threads, id, rouse);
                }
            }
            Next::Sleep { until } => {
                drop(state);
                slept = true;
                sleep(until);
            }
            Next::Leave { rouse } => {
                drop(state);
                return leave(threads, id, rouse);
            }
        }
    }
}

/// The engine has forgotten this worker.
fn leave(threads: &Arc<Threads>, id: WorkerId, rouse: Rouse) {
    threads.rouse(rouse);
    threads.depart(threads.lock(), Key::Worker(id));
}

/// A call in the hands of its worker. However it ends, it ends once, and every waiter gets its reply: `Drop` sees to it.
struct Call<'a> {
    threads: &'a Arc<Threads>,
    id: WorkerId,
    name: Name,
    result: Option<Result<Answer, Error>>,
}

impl Call<'_> {
    /// Makes the call and replies; gives the kind of its failure.
    fn run(mut self, custody: Option<Scope>) -> Option<ErrorKind> {
        let Self { threads, name, result, .. } = &mut self;
        let mut call = || {
            let answer = caught(|| threads.setup.backend.lookup(name.as_str()));
            let answer = answer.unwrap_or_else(|panic| Err(Error::panicked(panic.0)));
            *result = Some(match answer {
                Ok(answer) if answer.as_slice().is_empty() => Err(ErrorKind::NoData.into()),
                answer => answer,
            });
        };
        match custody {
            Some(scope) => scope.run(call),
            None => call(),
        }
        self.result.as_ref().and_then(|result| result.as_ref().err()).map(Error::kind)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(Error::panicked(None)));
        let result = result.map_err(|error| error.about(&self.name));
        let now = Instant::now();
        let kind = result.as_ref().map(|_| ()).map_err(Error::kind);
        let finished = self.threads.lock().engine.finish(self.id, now, kind);
        let reply = |asked| Reply {
            result: result.clone(),
            queued: finished.since.saturating_duration_since(asked),
            in_call: now.saturating_duration_since(finished.since),
            shared: finished.shared,
        };
        // Everyone has its reply before the first waker runs, which may take its time.
        let wakers: Vec<_> = finished.waiters.iter().filter_map(|waiter| waiter.fill(reply(waiter.asked))).collect();
        for waker in wakers {
            _ = caught(|| waker.wake());
        }
        // With the destructor of a backend's error, which is foreign too.
        _ = caught(|| drop((finished.waiters, result)));
    }
}
