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
/// that of [`Untold`].
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
    /// settled. Returns the waiters to be told.
    pub(super) fn land(&mut self, result: Result<Answer, Error>) -> Untold<'a> {
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
        let whom = match (landed, waiter) {
            (Some(landed), _) => {
                state.landings.insert(landed, landing);
                Whom::All(landed)
            }
            (None, Some(waiter)) => {
                let (reply, rest) = landing.into_reply(&waiter);
                state.count(&reply);
                Whom::One(waiter, reply, rest)
            }
            (None, None) => Whom::Nobody(landing.result.err()),
        };
        shell.rouse(guard, Rouse { timekeeper, worker: None });
        shell.stop(stopped);
        news.into_iter().for_each(|(board, result)| shell.post(board, result));
        Untold { shell, whom }
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

/// The waiters on a call that has its result. They are told when this is dropped.
pub(super) struct Untold<'a> {
    shell: &'a Arc<Shell>,
    whom: Whom,
}

/// The waiters to be told. An error that none of them gets is dropped with them, because its destructor may be foreign.
enum Whom {
    Nobody(Option<Error>),
    One(Arc<Waiter>, Reply, Option<Error>),
    All(Landed),
}

impl Untold<'_> {
    /// Returns the flight if anybody waits for it, and leaves it to others to tell them.
    #[cfg(feature = "async-backend")]
    pub(super) fn later(mut self) -> Option<Landed> {
        match mem::replace(&mut self.whom, Whom::Nobody(None)) {
            Whom::All(landed) => Some(landed),
            whom => {
                self.whom = whom;
                None
            }
        }
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        let error = match mem::replace(&mut self.whom, Whom::Nobody(None)) {
            Whom::Nobody(error) => error,
            Whom::One(waiter, reply, error) => {
                tell(waiter, reply);
                error
            }
            Whom::All(landed) => return self.shell.tell_all(landed),
        };
        if error.is_some() {
            _ = caught(|| drop(error));
        }
    }
}
