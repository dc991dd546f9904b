use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::Threads;
use crate::addrs::{Addrs, Answer};
use crate::engine::{Finished, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::sync;
use crate::waiter::{Reply, Waiter};

/// A call in the hands of its worker. However it ends, it ends once, and every waiter gets its reply: `Drop` sees to it.
pub(super) struct Call<'a> {
    threads: &'a Arc<Threads>,
    id: WorkerId,
    pub(super) name: Name,
    has_landed: bool,
    /// Until it has replied.
    landed: Option<Landed>,
}

/// A call that has its result, and those who are to get it.
struct Landed {
    result: Result<Answer, Error>,
    waiters: Vec<Arc<Waiter>>,
    /// For each of them.
    replies: Vec<Reply>,
}

impl<'a> Call<'a> {
    pub(super) fn new(threads: &'a Arc<Threads>, id: WorkerId, name: Name) -> Self {
        Self { threads, id, name, has_landed: false, landed: None }
    }

    /// It has its result: the flight is over, and what is to be told to whom is settled.
    pub(super) fn land(&mut self, result: Result<Answer, Error>) {
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
        let at = sync::now();
        let kind = result.as_ref().map(|_| ()).map_err(Error::kind);
        let mut guard = self.threads.lock();
        let state = &mut *guard;
        // Before the flight is gone, so that whoever finds neither is the first to ask.
        if let Some(_since) = state.engine.lasts(self.id) {
            self.threads.store.fill(&mut state.index, &self.name, &kept, at);
        }
        let finished = state.engine.finish(self.id, at, kind);
        let replies = finished.waiters.iter().map(|waiter| reply(waiter, &result, &finished, at)).collect::<Vec<_>>();
        let answered = replies.iter().filter(|reply| reply.result.is_ok()).count();
        state.engine.count(answered, kind.err().map(|kind| (kind, replies.len() - answered)));
        drop(guard);
        self.threads.stop(finished.stopped);
        self.has_landed = true;
        self.landed = Some(Landed { result, waiters: finished.waiters, replies });
    }

    /// Replies; gives the kind of its failure.
    pub(super) fn end(self) -> Option<ErrorKind> {
        self.landed.as_ref().and_then(|landed| landed.result.as_ref().err()).map(Error::kind)
    }

    /// Whether anybody gets its result.
    #[cfg(feature = "async-backend")]
    pub(super) fn has_replies(&self) -> bool {
        self.landed.as_ref().is_some_and(|landed| !landed.waiters.is_empty())
    }

    /// Replies, and leaves it to others to wake those who wait.
    #[cfg(feature = "async-backend")]
    pub(super) fn end_quietly(mut self) -> Vec<Waker> {
        self.reply()
    }

    fn reply(&mut self) -> Vec<Waker> {
        let Some(Landed { result, waiters, replies }) = self.landed.take() else { return Vec::new() };
        // Everyone has its reply before the first waker runs, which may take its time.
        let fill = |(waiter, reply): (&Arc<Waiter>, Reply)| waiter.fill(reply);
        let wakers = waiters.iter().zip(replies).filter_map(fill).collect();
        // With the destructor of a backend's error, which is foreign too.
        _ = caught(|| drop((waiters, result)));
        wakers
    }

    /// It was stopped, and the engine knows: there is nobody to be told.
    #[cfg(feature = "async-backend")]
    pub(super) fn forget(mut self) {
        self.has_landed = true;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.has_landed {
            self.land(Err(Error::panicked(None)));
        }
        self.reply().into_iter().for_each(|waker| _ = caught(|| waker.wake()));
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
