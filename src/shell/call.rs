use std::mem;
use std::sync::Arc;

use super::Shell;
use super::landing::{Landing, tell};
use crate::addrs::Answer;
use crate::clock::Moment;
use crate::engine::{Landed, Rouse, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::waiter::{Reply, Waiter};

/// A call in the hands of its worker. However it ends, it ends once, and every waiter gets its reply: `Drop` sees to it.
pub(super) struct Call<'a> {
    shell: &'a Arc<Shell>,
    id: WorkerId,
    pub(super) name: Name,
    stage: Stage,
}

/// How far a call is.
#[expect(clippy::large_enum_variant, reason = "there is one for each call that runs")]
enum Stage {
    Running,
    /// It has its result, which the only one that waits has yet to be told, if anybody waits.
    LandedForOne(Landing, Option<(Arc<Waiter>, Reply)>),
    /// It has its result, which several have yet to be told.
    Landed(Landed),
    Over,
}

impl<'a> Call<'a> {
    pub(super) fn new(shell: &'a Arc<Shell>, id: WorkerId, name: Name) -> Self {
        Self { shell, id, name, stage: Stage::Running }
    }

    /// It has its result: the flight is over, and what is to be told to whom is settled. Says whether
    /// the call may have broken libc's resolver in its thread.
    pub(super) fn land(&mut self, result: Result<Answer, Error>) -> bool {
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
        let at = Moment::now();
        let kind = result.as_ref().map(|_| ()).map_err(Error::kind);
        let may_be_broken = result.as_ref().is_err_and(Error::may_have_broken_libc);
        let mut guard = self.shell.lock();
        let state = &mut *guard;
        // Before the flight is gone, so that whoever finds neither is the first to ask.
        if state.engine.is_cacheable(self.id) {
            self.shell.store.fill(&mut state.index, &self.name, &kept, at);
        }
        let finished = state.engine.finish(self.id, at.exact, kind);
        let landing = Landing { result, since: finished.since, at: at.exact, shared: finished.shared };
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
        may_be_broken
    }

    /// Replies.
    fn end(&mut self) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::LandedForOne(landing, told) => {
                // With the destructor of a backend's error, which is foreign.
                _ = caught(|| drop(landing));
                told.into_iter().for_each(|(waiter, reply)| tell(waiter, reply));
            }
            Stage::Landed(landed) => self.shell.tell_all(landed),
            Stage::Running | Stage::Over => {}
        }
    }

    /// Leaves it to others to reply, if anybody waits.
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

    /// It was stopped, and the engine knows: there is nobody to be told.
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
