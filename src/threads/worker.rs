use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::Instant;

use super::roster::Key;
use super::{State, Threads};
use crate::addrs::{Addrs, Answer};
use crate::engine::{Finished, Next, Rouse, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::trace::Scope;
use crate::waiter::{Reply, Waiter};

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
                slept = false;
                threads.rouse(state, rouse);
                let call = Call { threads, id, name, landed: None };
                if call.run(custody) == Some(ErrorKind::System) {
                    // After one such as EMFILE, libc's resolver state may stay broken in this thread.
                    let mut state = threads.lock();
                    let rouse = state.engine.retire(id, Instant::now());
                    return leave(threads, id, state, rouse);
                }
            }
            Next::Sleep { rouse } => {
                slept = true;
                threads.rouse(state, rouse);
                thread::park();
            }
            Next::Leave { rouse } => {
                return leave(threads, id, state, rouse);
            }
        }
    }
}

/// The engine has forgotten this worker.
fn leave(threads: &Arc<Threads>, id: WorkerId, state: MutexGuard<'_, State>, rouse: Rouse) {
    threads.rouse(state, rouse);
    threads.depart(threads.lock(), Key::Worker(id));
}

/// A call in the hands of its worker. However it ends, it ends once, and every waiter gets its reply: `Drop` sees to it.
struct Call<'a> {
    threads: &'a Arc<Threads>,
    id: WorkerId,
    name: Name,
    landed: Option<Landed>,
}

/// A call that has its result, and those who are to get it.
struct Landed {
    result: Result<Answer, Error>,
    waiters: Vec<Arc<Waiter>>,
    /// For each of them.
    replies: Vec<Reply>,
}

impl Call<'_> {
    /// Makes the call and replies; gives the kind of its failure.
    fn run(mut self, custody: Option<Scope>) -> Option<ErrorKind> {
        let mut call = || {
            let answer = caught(|| self.threads.setup.backend.lookup(self.name.as_str()));
            // While the custody is still held: its subscriber may ask for this very name when it is let go, and must not
            // find a flight there that waits for it.
            self.land(answer.unwrap_or_else(|panic| Err(Error::panicked(panic.0))));
        };
        match custody {
            Some(scope) => scope.run(&mut call),
            None => call(),
        }
        self.landed.as_ref().and_then(|landed| landed.result.as_ref().err()).map(Error::kind)
    }

    fn land(&mut self, result: Result<Answer, Error>) {
        let result = match result {
            Ok(answer) if answer.is_empty() => Err(ErrorKind::NoData.into()),
            result => result,
        };
        let result = result.map_err(|error| error.about(&self.name));
        // Before the lock is taken: it has the text of what is foreign.
        let kept = result.clone().map_err(|error| {
            let kind = error.kind();
            caught(|| error.cached()).unwrap_or_else(|_| Error::from(kind).about(&self.name).cached())
        });
        let at = Instant::now();
        let kind = result.as_ref().map(|_| ()).map_err(Error::kind);
        let mut state = self.threads.lock();
        let state = &mut *state;
        // Before the flight is gone, so that whoever finds neither is the first to ask.
        if let Some(since) = state.engine.lasts(self.id) {
            self.threads.store.fill(&mut state.index, &self.name, &kept, since, at);
        }
        let finished = state.engine.finish(self.id, at, kind);
        let replies = finished.waiters.iter().map(|waiter| reply(waiter, &result, &finished, at)).collect::<Vec<_>>();
        let answered = replies.iter().filter(|reply| reply.result.is_ok()).count();
        state.engine.count(answered, kind.err().map(|kind| (kind, replies.len() - answered)));
        self.landed = Some(Landed { result, waiters: finished.waiters, replies });
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.landed.is_none() {
            self.land(Err(Error::panicked(None)));
        }
        let Some(Landed { result, waiters, replies }) = self.landed.take() else { return };
        // Everyone has its reply before the first waker runs, which may take its time.
        let fill = |(waiter, reply): (&Arc<Waiter>, Reply)| waiter.fill(reply);
        let wakers: Vec<_> = waiters.iter().zip(replies).filter_map(fill).collect();
        for waker in wakers {
            _ = caught(|| waker.wake());
        }
        // With the destructor of a backend's error, which is foreign too.
        _ = caught(|| drop((waiters, result)));
    }
}

/// What a waiter gets from a call: its result, or where that is a failure which says nothing of the name, what the waiter has
/// to make do with.
fn reply(waiter: &Waiter, result: &Result<Answer, Error>, finished: &Finished<Arc<Waiter>>, at: Instant) -> Reply {
    let queued = finished.since.saturating_duration_since(waiter.asked);
    let in_call = at.saturating_duration_since(finished.since);
    let result = match result {
        Ok(answer) => Ok(Addrs::looked_up(answer.clone())),
        Err(error) if error.is_not_found() => Err(error.clone()),
        Err(error) => waiter.fallback(at).ok_or_else(|| error.clone()),
    };
    let result = result.map(|addrs| addrs.after(queued, in_call));
    Reply { result, queued, in_call, shared: finished.shared }
}
