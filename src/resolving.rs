use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::addrs::Addrs;
use crate::engine::Ticket;
use crate::error::{Error, ErrorKind};
use crate::name::Name;
use crate::threads::Threads;
use crate::trace::{self, Outcome, Scope};
use crate::waiter::{Reply, Waiter};

/// The future of a lookup, from [`Resolver::resolve`](crate::Resolver::resolve).
///
/// The lookup began when the future was made. It needs no runtime and can be polled on any executor, from any thread, and
/// moved between them. Polled again after it has given its result, it gives an error.
///
/// # Cancel safety
///
/// Dropping it leaves the lookup at once and without blocking. A lookup that nobody waits for any more never starts if it
/// was still queued; if it was running it goes on alone, since a call of `getaddrinfo` cannot be stopped. Others who wait
/// for the same name are not affected.
#[must_use = "futures do nothing unless polled"]
pub struct Resolving {
    state: State,
}

enum State {
    /// The result was there without a lookup.
    Ready(Result<Addrs, Error>),
    Waiting(Waiting),
    Done,
}

/// A caller that waits for a flight. Dropping it leaves the flight.
struct Waiting {
    threads: Arc<Threads>,
    waiter: Arc<Waiter>,
    ticket: Ticket,
    scope: Option<Scope>,
}

impl Resolving {
    pub(crate) fn ready(result: Result<Addrs, Error>) -> Self {
        Self { state: State::Ready(result) }
    }

    pub(crate) fn start(threads: &Arc<Threads>, name: Name) -> Self {
        let (scope, custody) = trace::begin(&name, threads.traced);
        let waiter = Arc::new(Waiter::new(Instant::now(), custody));
        let ticket = threads.ask(name, Arc::clone(&waiter));
        Self { state: State::Waiting(Waiting { threads: Arc::clone(threads), waiter, ticket, scope }) }
    }
}

impl Future for Resolving {
    type Output = Result<Addrs, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = match &self.state {
            State::Waiting(waiting) => match waiting.waiter.poll(cx) {
                Poll::Ready(reply) => Some(reply),
                Poll::Pending => return Poll::Pending,
            },
            State::Ready(_) | State::Done => None,
        };
        Poll::Ready(match (std::mem::replace(&mut self.state, State::Done), reply) {
            (State::Waiting(waiting), Some(reply)) => waiting.end(reply),
            (State::Ready(result), _) => result,
            _ => Err(Error::new(ErrorKind::Other, "a lookup was polled after it had completed")),
        })
    }
}

impl Waiting {
    fn end(mut self, reply: Reply) -> Result<Addrs, Error> {
        let Reply { result, queued, in_call, shared } = reply;
        if let Some(scope) = self.scope.take() {
            let addresses = result.as_ref().map(|answer| answer.as_slice().len()).map_err(Error::clone);
            self.close(scope, Some(Outcome { addresses, shared, queued, in_call }));
        }
        result.map(|answer| Addrs::looked_up(answer, queued, in_call))
    }

    fn close(&self, scope: Scope, outcome: Option<Outcome>) {
        if let Err(scope) = scope.close(outcome) {
            self.threads.close_later(scope);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.threads.leave(self.ticket);
        for scope in [self.waiter.take_custody(), self.scope.take()].into_iter().flatten() {
            self.close(scope, None);
        }
        drop(self.waiter.take_waker());
    }
}

impl fmt::Debug for Resolving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolving").finish_non_exhaustive()
    }
}
