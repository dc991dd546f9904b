use std::mem;
use std::sync::Arc;

use super::Shell;
use super::landing::{Course, Landing, tell};
use super::watching::lasts;
use crate::addrs::Answer;
use crate::clock::Moment;
use crate::engine::{Finished, Landed, Rouse, WorkerId};
use crate::error::Error;
use crate::foreign::caught;
use crate::name::Name;
use crate::waiter::{Reply, Waiter};

/// A call in the hands of its worker. However it ends, it ends once, and every waiter gets its reply: `Drop` ensures that, and
/// that of [`Replies`].
pub(super) struct Call<'a> {
    shell: &'a Arc<Shell>,
    id: WorkerId,
    pub(super) name: Name,
    is_over: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(shell: &'a Arc<Shell>, id: WorkerId, name: Name) -> Self {
        Self { shell, id, name, is_over: false }
    }

    /// Records the result of the call. The flight lands, unless another call may do better, and the reply to each waiter is
    /// settled.
    pub(super) fn land(&mut self, result: Result<Answer, Error>) -> Replies<'a> {
        let shell = self.shell;
        let result = result.and_then(|answer| shell.setup.policy.apply(&self.name, answer));
        let result = result.map_err(|error| error.about(&self.name));
        // Before the lock is taken: this formats a backend's error, which is foreign code.
        let kept = result.as_ref().map_err(|error| {
            caught(|| error.clone().cached()).unwrap_or_else(|_| Error::from(error.kind()).about(&self.name).cached())
        });
        let at = Moment::now();
        let mut guard = shell.lock();
        let state = &mut *guard;
        // Before the flight is gone, so that a caller that finds neither is the first to ask.
        if state.engine.is_cacheable(self.id) {
            shell.store.fill(&mut state.index, &self.name, kept.as_ref().map(|answer| *answer), at);
        }
        let lasts = result.as_ref().map(|answer| lasts(&shell.setup.cache, answer)).map_err(Error::kind);
        let news = state.engine.news(self.id, at.exact, lasts).and_then(|news| state.board(news));
        let news = news.map(|board| (board, result.clone()));
        let kind = result.as_ref().map(drop).map_err(Error::kind);
        let finished = state.engine.finish(self.id, at.exact, kind);
        self.is_over = true;
        let Finished { waiter, landed, since, shared, hedged, stopped, timekeeper } = finished;
        let landing = Landing { result, course: Course { since, at: at.exact, shared, hedged } };
        let to = match (landed, waiter) {
            (Some(landed), _) => {
                state.landings.insert(landed, landing);
                Recipients::All(landed)
            }
            (None, Some(waiter)) => {
                let (reply, rest) = landing.into_reply(&waiter);
                state.count(&reply);
                Recipients::One(waiter, reply, rest)
            }
            (None, None) => Recipients::Nobody(landing.result.err()),
        };
        // From here on these have the waiters, whatever happens.
        let replies = Replies { shell, to };
        shell.rouse(guard, Rouse { timekeeper, worker: None });
        shell.stop(stopped);
        news.into_iter().for_each(|(board, result)| shell.post(board, result));
        replies
    }

    /// Forgets a call that was stopped. The engine knows, and there is nobody to tell.
    #[cfg(feature = "async-backend")]
    pub(super) fn forget(mut self) {
        self.is_over = true;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            drop(self.land(Err(Error::panicked(None))));
        }
    }
}

/// The replies to the waiters on a call that has its result. Hands them out when it is dropped.
pub(super) struct Replies<'a> {
    shell: &'a Arc<Shell>,
    to: Recipients,
}

/// The waiters who get a reply, and an error that none of them gets. Its destructor may be foreign, so it is not dropped before.
enum Recipients {
    Nobody(Option<Error>),
    One(Arc<Waiter>, Reply, Option<Error>),
    All(Landed),
}

impl Replies<'_> {
    /// Returns the flight if it has waiters, for others to tell them.
    #[cfg(feature = "async-backend")]
    pub(super) fn later(mut self) -> Option<Landed> {
        match mem::replace(&mut self.to, Recipients::Nobody(None)) {
            Recipients::All(landed) => Some(landed),
            to => {
                self.to = to;
                None
            }
        }
    }
}

impl Drop for Replies<'_> {
    fn drop(&mut self) {
        let error = match mem::replace(&mut self.to, Recipients::Nobody(None)) {
            Recipients::Nobody(error) => error,
            Recipients::One(waiter, reply, error) => {
                tell(waiter, reply);
                error
            }
            Recipients::All(landed) => return self.shell.tell_all(landed),
        };
        if error.is_some() {
            _ = caught(|| drop(error));
        }
    }
}
