use std::mem;
use std::sync::Arc;

use super::Shell;
use super::landing::{Landing, tell};
use super::watching::lasts;
use crate::addrs::Answer;
use crate::clock::Moment;
use crate::engine::{Landed, Rouse, WorkerId};
use crate::error::Error;
use crate::foreign::caught;
use crate::name::Name;
use crate::waiter::{Reply, Waiter};

/// A call in the hands of its worker. However it ends, it ends once, and every waiter gets its reply: `Drop` ensures that.
pub(super) struct Call<'a> {
    shell: &'a Arc<Shell>,
    id: WorkerId,
    pub(super) name: Name,
    stage: Stage,
}

/// The progress of a call.
#[expect(clippy::large_enum_variant, reason = "there is one for each call that runs")]
enum Stage {
    Running,
    /// Has its result. The only waiter has yet to be told, if there is one.
    LandedForOne(Landing, Option<(Arc<Waiter>, Reply)>),
    /// Has its result. The waiters of the flight have yet to be told.
    Landed(Landed),
    Over,
}

impl<'a> Call<'a> {
    pub(super) fn new(shell: &'a Arc<Shell>, id: WorkerId, name: Name) -> Self {
        Self { shell, id, name, stage: Stage::Running }
    }

    /// Records the result of the call. The flight lands, unless another call may do better, and the reply to each waiter is
    /// settled. Returns whether the call may have broken libc's resolver in its thread.
    pub(super) fn land(&mut self, result: Result<Answer, Error>) -> bool {
        let result = result.and_then(|answer| self.shell.setup.policy.apply(&self.name, answer));
        let result = result.map_err(|error| error.about(&self.name));
        // Before the lock is taken: this formats a backend's error, which is foreign code.
        let kept = result.clone().map_err(|error| {
            let kind = error.kind();
            caught(|| error.cached()).unwrap_or_else(|_| Error::from(kind).about(&self.name).cached())
        });
        let at = Moment::now();
        let kind = result.as_ref().map(|_| ()).map_err(Error::kind);
        let may_be_broken = result.as_ref().is_err_and(Error::may_have_broken_libc);
        let mut guard = self.shell.lock();
        let state = &mut *guard;
        // Before the flight is gone, so that a caller that finds neither is the first to ask.
        if state.engine.is_cacheable(self.id) {
            self.shell.store.fill(&mut state.index, &self.name, &kept, at);
        }
        let lasts = result.as_ref().map(|answer| lasts(&self.shell.setup.cache, answer)).map_err(Error::kind);
        let news = state.engine.news(self.id, at.exact, lasts).and_then(|news| state.board(news));
        let news = news.map(|board| (board, result.clone()));
        let finished = state.engine.finish(self.id, at.exact, kind);
        let (since, at) = (finished.since, at.exact);
        let landing = Landing { result, since, at, shared: finished.shared, hedged: finished.hedged };
        self.stage = match finished.landed {
            Some(landed) => {
                state.landings.insert(landed, landing);
                Stage::Landed(landed)
            }
            None => {
                let told = finished.waiter.map(|waiter| {
                    let reply = landing.reply(&waiter);
                    state.count(&reply);
                    (waiter, reply)
                });
                Stage::LandedForOne(landing, told)
            }
        };
        self.shell.rouse(guard, Rouse { timekeeper: finished.timekeeper, worker: None });
        self.shell.stop(finished.stopped);
        news.into_iter().for_each(|(board, result)| self.shell.post(board, result));
        may_be_broken
    }

    /// Replies to the waiters.
    fn end(&mut self) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::LandedForOne(landing, told) => {
                // Runs the destructor of a backend's error, which is foreign.
                _ = caught(|| drop(landing));
                told.into_iter().for_each(|(waiter, reply)| tell(waiter, reply));
            }
            Stage::Landed(landed) => self.shell.tell_all(landed),
            Stage::Running | Stage::Over => {}
        }
    }

    /// Returns the flight if anybody waits for it, and leaves it to others to reply.
    #[cfg(feature = "async-backend")]
    pub(super) fn end_later(&mut self) -> Option<Landed> {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Landed(landed) => Some(landed),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// Forgets a call that was stopped. The engine knows, and there is nobody to tell.
    #[cfg(feature = "async-backend")]
    pub(super) fn forget(mut self) {
        self.stage = Stage::Over;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Stage::Running = self.stage {
            self.land(Err(Error::panicked(None)));
        }
        self.end();
    }
}
