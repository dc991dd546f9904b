use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::shell::{CloserId, Ending, Shell, Wakeup};
use crate::sync;
use crate::sync::thread;

/// The future of a shutdown, from [`Resolver::shutdown`](crate::Resolver::shutdown): it completes when every lookup that was
/// outstanding has finished and every thread of the resolver has left.
///
/// Without a bound it waits for as long as the lookups take. [`within`](Self::within) and [`until`](Self::until) make it give
/// up: callers who still wait then get an error that [`is_closed`](crate::Error::is_closed), at once, and the report names
/// the calls that were left behind. Those end on their own, on their threads, whenever they do; those of an async backend are
/// dropped.
///
/// A thread has left when the destructors of its thread-locals have run. Polling waits for none of them: those that have not
/// ended when it gives up are in the report.
///
/// It needs no runtime. Several may wait at once, each with bounds of its own; one that gives up ends the wait of callers,
/// and not that of the others, which go on until the calls have ended.
///
/// # Cancel safety
///
/// Dropping it stops the waiting and nothing else: the resolver stays closed. Another call of
/// [`Resolver::shutdown`](crate::Resolver::shutdown) resumes.
#[must_use = "nothing waits for the end unless it is polled"]
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

    /// Gives up after `grace`, counted from now. Default: never.
    pub fn within(mut self, grace: Duration) -> Self {
        self.deadline = sync::now().checked_add(grace);
        self
    }

    /// Gives up when `signal` completes, whatever it gives: the `cancelled()` of a `CancellationToken`, a second Ctrl-C.
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

    /// Cancels, now, what has not begun: those who wait for it get an error that
    /// [`is_closed`](crate::Error::is_closed).
    pub fn abort_queued(self) -> Self {
        if !self.shell.is_inherited() {
            self.shell.abort_queued();
        }
        self
    }

    fn poll_with(&mut self, wakeup: Wakeup, cx: &mut Context<'_>) -> Poll<ShutdownReport> {
        // In a forked child: nothing that was outstanding is here.
        if self.shell.is_inherited() {
            return Poll::Ready(ShutdownReport {
                finished: 0,
                cancelled: 0,
                abandoned: Vec::new(),
                threads: 0,
                joined: true,
            });
        }
        // First, since it is foreign and may have the thread's token for unparking.
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
            // The end has come just now.
            self.deadline = Some(sync::now());
            let noop = Wakeup::Foreign(Waker::noop().clone());
            if let Poll::Ready(outcome) = self.shell.poll_end(&mut self.closer, self.deadline, noop) {
                return Poll::Ready(outcome.into());
            }
        }
        Poll::Ready(outcome.into())
    }

    /// Waits on the calling thread, for programs without a runtime.
    ///
    /// Blocks it for as long as the future would take to complete: without [`within`](Self::within) or
    /// [`until`](Self::until), until the last lookup has ended. Not for use in async code.
    pub fn wait(mut self) -> ShutdownReport {
        let waker = sync::unparker();
        loop {
            let wakeup = Wakeup::Unpark(thread::current());
            if let Poll::Ready(report) = self.poll_with(wakeup, &mut Context::from_waker(&waker)) {
                return report;
            }
            // Should there be no thread to wake it, the deadline is kept all the same.
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

/// The first of two to complete.
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

/// What became of the lookups that were outstanding when the resolver was closed.
///
/// As text it is one line: `2 lookups finished, 1 cancelled, 1 abandoned: slow.example (4.2s)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls that ran to their end.
    pub finished: usize,
    /// Calls that were queued and never ran; and those of an async backend that were dropped because nobody waited any longer.
    pub cancelled: usize,
    /// Calls that were still running when the shutdown gave up, the longest first. A thread's call runs until its callers have
    /// been told.
    pub abandoned: Vec<Abandoned>,
    /// Threads that had not ended when the shutdown gave up: those of the abandoned calls, and those of callers' wakers that
    /// block. The one that keeps the time is not counted.
    pub threads: usize,
    /// Every thread was joined.
    joined: bool,
}

/// A call that a shutdown has left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abandoned {
    /// The name that was looked up.
    pub name: String,
    /// How long ago it began.
    pub running: Duration,
}

impl ShutdownReport {
    /// Whether nothing was left behind: every thread has left and was joined, and nothing of the resolver runs any more. (What an async
    /// backend has started on other threads, such as with Tokio's `spawn_blocking`, is its own affair.)
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
