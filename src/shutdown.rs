use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::shell::{CloserId, Ending, Shell, Wakeup};
use crate::sync::thread;
use crate::sync::{self, Instant};

/// The future of a shutdown, from [`Resolver::shutdown`](crate::Resolver::shutdown).
///
/// It completes when all outstanding lookups have finished and all threads of the resolver have ended. It needs no runtime.
///
/// Without a bound it waits for as long as the lookups take. [`within`](Self::within) and [`until`](Self::until) bound it. When it
/// gives up, callers that still wait get an error that [`is_closed`](crate::Error::is_closed) at once, and the report names the
/// calls that were left behind. Blocking calls then end on their own; the futures of an async backend are dropped.
///
/// A thread has ended when the destructors of its thread-locals have run. Polling does not block on them. A thread that has not ended
/// when the future gives up is counted in the report.
///
/// Several shutdowns may run at once, each with its own bounds. When one gives up, all callers get an error. The other shutdowns
/// keep waiting for the calls to end.
///
/// # Cancel safety
///
/// Dropping the future stops the waiting. The resolver stays closed. Another call of
/// [`Resolver::shutdown`](crate::Resolver::shutdown) resumes the waiting.
#[must_use = "nothing waits for the lookups in progress unless this future is polled"]
pub struct Shutdown<'a> {
    shell: Arc<Shell>,
    deadline: Option<Instant>,
    until: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    closer: Option<CloserId>,
}

impl<'a> Shutdown<'a> {
    pub(crate) fn new(shell: Arc<Shell>) -> Self {
        Self { shell, deadline: None, until: None, closer: None }
    }

    /// Gives up after `grace`, counted from this call. Default: never. A later call replaces an earlier one.
    pub fn within(mut self, grace: Duration) -> Self {
        self.deadline = sync::now().checked_add(grace);
        self
    }

    /// Gives up when `signal` completes, with any output. Examples are the `cancelled()` of a `CancellationToken` and a second
    /// Ctrl-C.
    ///
    /// If this is called more than once, the first signal to complete counts.
    pub fn until<'b, F>(self, signal: F) -> Shutdown<'b>
    where
        'a: 'b,
        F: Future + Send + 'b,
    {
        let signal = Box::pin(async move { _ = signal.await });
        let mut shutdown: Shutdown<'b> = self;
        shutdown.until = Some(match shutdown.until.take() {
            None => signal,
            Some(first) => Box::pin(Either { first, second: signal }),
        });
        shutdown
    }

    /// Cancels the queued lookups at once. Their callers get an error that [`is_closed`](crate::Error::is_closed).
    pub fn abort_queued(self) -> Self {
        if !self.shell.is_inherited() {
            self.shell.abort_queued();
        }
        self
    }

    fn poll_with(&mut self, wakeup: Wakeup, cx: &mut Context<'_>) -> Poll<ShutdownReport> {
        // In a forked child nothing is outstanding.
        if self.shell.is_inherited() {
            return Poll::Ready(ShutdownReport {
                finished: 0,
                cancelled: 0,
                abandoned: Vec::new(),
                threads: 0,
                joined: true,
            });
        }
        // First, since it is foreign and may take the thread's token for unparking.
        let signalled = self.until.as_mut().is_some_and(|signal| signal.as_mut().poll(cx).is_ready());
        if signalled {
            self.until = None;
        }
        if let Poll::Ready(outcome) = self.shell.poll_end(&mut self.closer, self.deadline, wakeup) {
            return Poll::Ready(outcome.into());
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= sync::now());
        if !late && !signalled {
            return Poll::Pending;
        }
        let outcome = self.shell.give_up(self.closer);
        if outcome.abandoned.is_empty() && outcome.threads == 0 {
            // The last lookup has just ended.
            self.deadline = Some(sync::now());
            let noop = Wakeup::Foreign(Waker::noop().clone());
            if let Poll::Ready(outcome) = self.shell.poll_end(&mut self.closer, self.deadline, noop) {
                return Poll::Ready(outcome.into());
            }
        }
        Poll::Ready(outcome.into())
    }

    /// Blocks the calling thread until the shutdown is complete, for programs without a runtime.
    ///
    /// Without [`within`](Self::within) or [`until`](Self::until) it blocks until the last lookup has ended. Must not be called from
    /// async code, whose other tasks it would hold up.
    pub fn wait(mut self) -> ShutdownReport {
        let waker = sync::unparker();
        loop {
            let wakeup = Wakeup::Unpark(thread::current());
            if let Poll::Ready(report) = self.poll_with(wakeup, &mut Context::from_waker(&waker)) {
                return report;
            }
            // The deadline is kept even if no thread is left that could unpark this one.
            match self.deadline {
                Some(deadline) => thread::park_timeout(deadline.saturating_duration_since(sync::now())),
                None => thread::park(),
            }
        }
    }
}

impl Future for Shutdown<'_> {
    type Output = ShutdownReport;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ShutdownReport> {
        self.poll_with(Wakeup::Foreign(cx.waker().clone()), cx)
    }
}

impl Drop for Shutdown<'_> {
    fn drop(&mut self) {
        if self.shell.is_inherited() {
            crate::shell::leak(&self.shell);
        } else if let Some(closer) = self.closer {
            self.shell.forget_closer(closer);
        }
    }
}

/// Completes with the first of two futures.
struct Either<'a> {
    first: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    second: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

impl Future for Either<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.first.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.second.as_mut().poll(cx)
    }
}

impl fmt::Debug for Shutdown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// The result of a [`Shutdown`]: what became of the lookups that were outstanding when the resolver was closed.
///
/// It displays as one line: `2 lookups finished, 1 cancelled, 1 abandoned: slow.example (4.2s)`. If threads other than those of
/// abandoned calls had not ended, the line goes on: `; 1 more thread had not ended`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Number of calls that were outstanding at the close and then ran to their end, failed ones and background refreshes included. 0 if
    /// the resolver was idle. [`Stats`](crate::Stats) has the totals.
    pub finished: usize,
    /// Number of queued calls that never ran, and of calls of an async backend that were dropped because nobody waited for them.
    pub cancelled: usize,
    /// Calls that were still running when the shutdown gave up, the longest first. A blocking call counts as running until
    /// its callers have been woken.
    pub abandoned: Vec<Abandoned>,
    /// Number of threads that had not ended when the shutdown gave up. They run abandoned calls, callers' wakers that block, or
    /// destructors of thread-locals. The thread that keeps deadlines is not counted.
    pub threads: usize,
    /// Whether every thread was joined.
    joined: bool,
}

/// A call that a [`Shutdown`] has left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abandoned {
    /// The name.
    pub name: String,
    /// How long the call had been running.
    pub running: Duration,
}

impl ShutdownReport {
    /// Returns whether nothing was left behind: every call has ended, and every thread has ended and was joined.
    ///
    /// Threads that an async backend has started itself, for example with Tokio's `spawn_blocking`, are not considered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.joined && self.abandoned.is_empty() && self.threads == 0
    }
}

impl From<Ending> for ShutdownReport {
    fn from(Ending { tally, abandoned, threads, joined }: Ending) -> Self {
        let abandoned = abandoned.into_iter().map(|(name, running)| Abandoned { name: name.to_string(), running });
        Self { finished: tally.finished, cancelled: tally.cancelled, abandoned: abandoned.collect(), threads, joined }
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.finished == 1 { "" } else { "s" };
        let Self { finished, cancelled, abandoned, threads, joined: _ } = self;
        write!(f, "{finished} lookup{plural} finished, {cancelled} cancelled, {} abandoned", abandoned.len())?;
        for (number, Abandoned { name, running }) in abandoned.iter().enumerate() {
            let before = if number == 0 { ": " } else { ", " };
            write!(f, "{before}{} ({running:.1?})", name.escape_debug())?;
        }
        match threads.saturating_sub(abandoned.len()) {
            0 => Ok(()),
            1 => f.write_str("; 1 more thread had not ended"),
            more => write!(f, "; {more} more threads had not ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_clean_if_neither_call_nor_thread_is_left() {
        let report = |abandoned: &[Abandoned], threads| {
            ShutdownReport { finished: 1, cancelled: 0, abandoned: abandoned.to_vec(), threads, joined: threads == 0 }
                .is_clean()
        };
        let call = Abandoned { name: "a".into(), running: Duration::ZERO };
        assert!(report(&[], 0));
        assert!(!report(&[], 1) && !report(std::slice::from_ref(&call), 0) && !report(&[call], 1));
    }
}
