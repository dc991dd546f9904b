use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::addrs::Addrs;
use crate::engine::Ticket;
use crate::error::{Error, ErrorKind};
use crate::name::Name;
use crate::order::Order;
use crate::shell::{Ask, Epochs, Shell, leak};
use crate::sync::{self, Instant};
use crate::trace::{self, Outcome, Scope};
use crate::waiter::{Reply, Waiter};

/// The future of a lookup, from [`Resolver::resolve`](crate::Resolver::resolve).
///
/// The lookup has begun when the future is returned. It needs no runtime. The future can be polled on any executor and from any
/// thread, and moved between them. If it is polled after it has completed, it returns an error. In a forked child, a future from
/// before the fork starts a new lookup when it is polled.
///
/// # Cancel safety
///
/// Dropping the future leaves the lookup, at once and without blocking. Other callers of the same name are not affected. If there
/// are none, a queued call is removed from the queue, a blocking call runs to its end and fills the cache, and the future of an
/// async backend is dropped.
#[must_use = "dropping this future abandons the lookup"]
pub struct Resolving {
    state: State,
}

enum State {
    /// The result was there at once; `None` after it was returned.
    Ready(Option<Result<Addrs, Error>>),
    Waiting(Waiting),
}

/// A caller that waits for a flight. Dropping this leaves the flight.
struct Waiting {
    epochs: Arc<Epochs>,
    shell: Arc<Shell>,
    name: Name,
    waiter: Arc<Waiter>,
    /// `None` once the reply is there.
    ticket: Option<Ticket>,
    scope: Option<Scope>,
}

impl Resolving {
    pub(crate) fn ready(result: Result<Addrs, Error>) -> Self {
        Self { state: State::Ready(Some(result)) }
    }

    /// Puts the addresses into this order, if they are there.
    #[inline]
    pub(crate) fn arrange(&mut self, order: Order) {
        if let State::Ready(Some(Ok(addrs))) = &mut self.state {
            addrs.arrange(order);
        }
    }

    pub(crate) fn start(epochs: &Arc<Epochs>, name: Name) -> Self {
        Self { state: State::start(Arc::clone(epochs), name) }
    }

    /// Blocks the calling thread until the lookup ends, for programs without a runtime.
    ///
    /// The resolver's [timeout](crate::Builder::timeout) bounds the wait. Must not be called from async code, whose other tasks it
    /// would hold up.
    ///
    /// ```
    /// let addrs = gaiter::Resolver::new().resolve("localhost").wait()?;
    /// assert!(addrs.len() > 0);
    /// # Ok::<(), gaiter::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error that the future would give.
    pub fn wait(self) -> Result<Addrs, Error> {
        self.wait_until(None)
    }

    /// Blocks the calling thread as [`wait`](Self::wait) does, for at most `timeout`. For callers that have a deadline of their own.
    ///
    /// # Errors
    ///
    /// Returns the error that the future would give. When `timeout` has passed, leaves the lookup as dropping the future does, and
    /// returns an error that [`is_timeout`](Error::is_timeout), without [times](Error::time_queued).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Addrs, Error> {
        self.wait_until(sync::now().checked_add(timeout))
    }

    fn wait_until(mut self, deadline: Option<Instant>) -> Result<Addrs, Error> {
        // Needs no waker, whose making allocates and registers a thread-local destructor.
        if let State::Ready(Some(result)) = self.state {
            return result;
        }
        let waker = sync::unparker();
        loop {
            if let Poll::Ready(result) = Pin::new(&mut self).poll(&mut Context::from_waker(&waker)) {
                return result;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(sync::now()));
            match left {
                None => sync::thread::park(),
                Some(Duration::ZERO) => return Err(self.timed_out()),
                Some(left) => sync::thread::park_timeout(left),
            }
        }
    }

    /// Leaves the lookup.
    fn timed_out(self) -> Error {
        let error = Error::from(ErrorKind::Timeout);
        match &self.state {
            State::Waiting(waiting) => error.about(&waiting.name),
            State::Ready(_) => error,
        }
    }
}

// For the reasons that `Resolver` has.
impl UnwindSafe for Resolving {}
impl RefUnwindSafe for Resolving {}

impl State {
    fn start(epochs: Arc<Epochs>, name: Name) -> Self {
        let shell = Arc::clone(epochs.current());
        let setup = epochs.setup();
        let (mut scope, custody) = trace::begin(&name, setup.spans, setup.traced);
        let waiter = Arc::new(Waiter::new(sync::now(), custody));
        match shell.ask(&name, Arc::clone(&waiter)) {
            Ask::Waits(ticket) => Self::Waiting(Waiting { epochs, shell, name, waiter, ticket: Some(ticket), scope }),
            Ask::Given(given) => {
                close_scope(&shell, waiter.take_custody(), None);
                if let Some(scope) = scope.take() {
                    let outcome = Outcome::new(&given, false, false, Duration::ZERO, Duration::ZERO);
                    close_scope(&shell, Some(scope), Some(outcome));
                }
                Self::Ready(Some(given))
            }
        }
    }
}

impl Future for Resolving {
    type Output = Result<Addrs, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Ready(result) => take_ready(result),
            State::Waiting(_) => self.poll_waiting(cx),
        }
    }
}

impl Resolving {
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Addrs, Error>> {
        if let State::Waiting(waiting) = &self.state {
            if waiting.shell.is_inherited() {
                let epochs = Arc::clone(&waiting.epochs);
                let order = epochs.setup().policy.order();
                self.state = State::start(epochs, waiting.name.clone());
                self.arrange(order);
            }
        }
        let reply = match &mut self.state {
            State::Ready(result) => return take_ready(result),
            State::Waiting(waiting) => ready!(waiting.waiter.poll(cx)),
        };
        Poll::Ready(match mem::replace(&mut self.state, State::Ready(None)) {
            State::Waiting(waiting) => waiting.end(reply),
            State::Ready(_) => completed(),
        })
    }
}

#[inline]
fn take_ready(result: &mut Option<Result<Addrs, Error>>) -> Poll<Result<Addrs, Error>> {
    match result.take() {
        Some(result) => Poll::Ready(result),
        None => Poll::Ready(completed()),
    }
}

#[cold]
fn completed() -> Result<Addrs, Error> {
    Err(Error::new(ErrorKind::Other, "a lookup was polled after it had completed"))
}

impl Waiting {
    fn end(mut self, reply: Reply) -> Result<Addrs, Error> {
        self.ticket = None;
        #[cfg(feature = "metrics")]
        self.record(Some(&reply));
        let Reply { result, queued, in_call, shared, hedged, .. } = reply;
        let result = match result {
            Ok(addrs) => Ok(addrs.arranged(self.epochs.setup().policy.order())),
            // In this caller's spelling, which may differ from that of the first caller.
            Err(error) => Err(error.about(&self.name)),
        };
        if let Some(scope) = self.scope.take() {
            close_scope(&self.shell, Some(scope), Some(Outcome::new(&result, shared, hedged, queued, in_call)));
        }
        result
    }

    /// Records how long the caller waited, until it left if there is no reply.
    #[cfg(feature = "metrics")]
    fn record(&self, reply: Option<&Reply>) {
        let result = reply.map(|reply| reply.result.as_ref().map(drop));
        let waited =
            reply.map_or_else(|| sync::now().saturating_duration_since(self.waiter.asked), |reply| reply.waited);
        self.epochs.setup().labels.record(&self.name, result, waited);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.shell.is_inherited() {
            // A lock in there, or in the span's subscriber, may be held by a thread that is not in this process.
            leak(&self.shell);
            leak(&self.waiter);
            mem::forget(self.scope.take());
            return;
        }
        if let Some(ticket) = self.ticket {
            self.shell.leave(ticket);
            #[cfg(feature = "metrics")]
            self.record(self.waiter.take_reply().as_ref());
        }
        close_scope(&self.shell, self.waiter.leave(), None);
        close_scope(&self.shell, self.scope.take(), None);
    }
}

/// Closes a scope on this thread, or on a thread of the crate's if that is not possible here.
fn close_scope(shell: &Arc<Shell>, scope: Option<Scope>, outcome: Option<Outcome>) {
    if let Some(Err(scope)) = scope.map(|scope| scope.close(outcome)) {
        shell.release_later(scope);
    }
}

impl fmt::Debug for Resolving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolving").finish_non_exhaustive()
    }
}
