//! The one-shot between a waiting caller and the thread that ends its flight.

use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::addrs::{Addrs, Source};
use crate::cache::Old;
use crate::error::Error;
use crate::fallbacks::Standby;
use crate::sync::{Instant, Mutex, MutexGuard};
use crate::trace::Scope;

/// The reply to a caller.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) result: Result<Addrs, Error>,
    pub(crate) queued: Duration,
    pub(crate) in_call: Duration,
    /// How long the caller waited.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only a metric"))]
    pub(crate) waited: Duration,
    pub(crate) shared: bool,
    pub(crate) hedged: bool,
}

impl Reply {
    /// Returns the reply to a caller that has not waited.
    pub(crate) fn of(result: Result<Addrs, Error>) -> Self {
        let zero = Duration::ZERO;
        Self { result, queued: zero, in_call: zero, waited: zero, shared: false, hedged: false }
    }
}

pub(crate) struct Waiter {
    /// When the caller asked.
    pub(crate) asked: Instant,
    slot: Mutex<Slot>,
}

/// The contents of a waiter. All of it is foreign, so it is only moved in and out under the lock.
struct Slot {
    custody: Option<Scope>,
    /// True once a custody that is lent must not come back.
    left: bool,
    /// What is given if a lookup fails or takes too long. Boxed, since few waiters have anything.
    instead: Option<Box<Instead>>,
    waker: Option<Waker>,
    reply: Option<Reply>,
}

struct Instead {
    /// An old answer.
    old: Option<Old>,
    standby: Option<Standby>,
}

impl Waiter {
    pub(crate) fn new(asked: Instant, custody: Option<Scope>) -> Self {
        Self { asked, slot: Mutex::new(Slot { custody, left: false, instead: None, waker: None, reply: None }) }
    }

    /// Takes the reply if it is there. Otherwise keeps the waker of `cx`, to be woken when it comes.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Reply> {
        let mut slot = self.lock();
        if let Some(reply) = slot.reply.take() {
            return Poll::Ready(reply);
        }
        if slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(slot);
        let waker = cx.waker().clone();

        let mut slot = self.lock();
        // The reply may have come while the waker was cloned, and found none to wake.
        if let Some(reply) = slot.reply.take() {
            return Poll::Ready(reply);
        }
        let old = slot.waker.replace(waker);
        drop(slot);
        drop(old);
        Poll::Pending
    }

    /// Hands in the reply. Returns the waker, which must be woken with no lock held.
    ///
    /// A waiter is in the engine until it gets its reply, and so gets one.
    #[must_use]
    pub(crate) fn fill(&self, reply: Reply) -> Option<Waker> {
        let mut slot = self.lock();
        let replaced = slot.reply.replace(reply);
        let waker = slot.waker.take();
        drop(slot);
        drop(replaced);
        waker
    }

    /// Sets what may be given in place of an error: an old answer, or else a fallback of the program's.
    pub(crate) fn set_instead(&self, old: Option<Old>, standby: Option<Standby>) {
        if old.is_some() || standby.is_some() {
            let instead = Box::new(Instead { old, standby });
            self.lock().instead = Some(instead);
        }
    }

    /// Returns what the caller gets in place of an error, if there is anything: the old answer if it may be given at `now`, or the
    /// fallback. With `None` for `now`, the fallback alone.
    pub(crate) fn in_place_of(&self, error: &Error, now: impl Into<Option<Instant>>) -> Option<Addrs> {
        let (slot, now) = (self.lock(), now.into());
        let Instead { old, standby } = &**slot.instead.as_ref()?;
        let old = old.as_ref().filter(|old| !error.is_final() && now.is_some_and(|now| old.is_usable(now)));
        old.map(|old| old.addrs(Source::Stale)).or_else(|| standby.as_ref()?.in_place_of(error))
    }

    /// Takes the reply, if it is there.
    #[cfg(feature = "metrics")]
    pub(crate) fn take_reply(&self) -> Option<Reply> {
        self.lock().reply.take()
    }

    /// Takes the custody, which is for the thread that runs the call, for good. If it is lent now, it is not returned.
    pub(crate) fn take_custody(&self) -> Option<Scope> {
        let mut slot = self.lock();
        slot.left = true;
        slot.custody.take()
    }

    /// Drops everything of a caller that has left, even if others still have this waiter. Returns the custody, to be closed.
    pub(crate) fn leave(&self) -> Option<Scope> {
        let mut slot = self.lock();
        slot.left = true;
        let (custody, instead, waker) = (slot.custody.take(), slot.instead.take(), slot.waker.take());
        drop(slot);
        drop((instead, waker));
        custody
    }

    /// Takes the custody for a while.
    #[cfg(feature = "async-backend")]
    pub(crate) fn borrow_custody(&self) -> Option<Scope> {
        self.lock().custody.take()
    }

    /// Puts the custody back. If the caller has left meanwhile, returns it, and this thread must close it.
    #[cfg(feature = "async-backend")]
    pub(crate) fn return_custody(&self, custody: Scope) -> Option<Scope> {
        let mut slot = self.lock();
        if slot.left {
            return Some(custody);
        }
        slot.custody = Some(custody);
        None
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::error::ErrorKind;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_waker_is_woken_once_and_none_is_kept() {
        let waiter = Waiter::new(Instant::now(), None);
        let [first, last] = [Arc::new(Count::default()), Arc::new(Count::default())];
        for count in [&first, &last, &last] {
            let waker = Waker::from(Arc::clone(count));
            assert!(waiter.poll(&Context::from_waker(&waker)).is_pending());
        }
        let result = Err(ErrorKind::NotFound.into());
        waiter.fill(Reply::of(result)).expect("a waker").wake();
        assert_eq!([&first, &last].map(|count| count.0.load(Ordering::Relaxed)), [0, 1]);
        assert_eq!([&first, &last].map(Arc::strong_count), [1, 1]);
        assert!(waiter.poll(&Context::from_waker(Waker::noop())).is_ready());
    }
}
