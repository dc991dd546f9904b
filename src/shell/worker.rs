//! Workers: each makes one call after another. Those of a blocking backend are threads, those of an async one are tasks on the
//! [driver](super::driver).

use std::sync::Arc;

use super::call::Call;
use super::{Shell, State};
use crate::backend::Backend;
use crate::engine::{Next, Rouse, WorkerId};
use crate::error::Error;
use crate::foreign::caught;
use crate::sync::{self, MutexGuard, thread};
use crate::trace::Scope;
use crate::waiter::Waiter;

/// What a worker does next.
pub(super) enum Step<'a, C> {
    /// Makes a call, in the custody of a waiter.
    Call(Call<'a>, Option<C>),
    /// Asks again.
    Again,
    Sleep,
    Leave,
}

impl Shell {
    /// Asks the engine what `worker` does next: after a call or at its start, or if it `slept`, after it has woken.
    ///
    /// `custody` gets the custody of a waiter, if calls have one, and `rouse` starts or wakes whom the engine named, before the step is taken. It is
    /// told whether the worker goes on.
    pub(super) fn next_step<C>(
        self: &Arc<Self>,
        worker: WorkerId,
        slept: bool,
        custody: Option<impl Fn(&Arc<Waiter>) -> Option<C>>,
        rouse: impl FnOnce(MutexGuard<'_, State>, Rouse, bool),
    ) -> Step<'_, C> {
        let now = sync::now();
        let mut state = self.lock();
        let next = if slept { state.engine.woke(worker, now) } else { state.engine.take(worker, now) };
        let (step, named) = match next {
            Next::Call { name, rouse } => {
                // The oldest waiter's custody may be with the other call for this name, of which there is one at most.
                let custody = custody.and_then(|custody| state.engine.waiters(worker).take(2).find_map(custody));
                // From here on the call ends its flight, whatever happens.
                (Step::Call(Call::new(self, worker, name), custody), rouse)
            }
            Next::Again => (Step::Again, Rouse::default()),
            Next::Sleep { rouse } => (Step::Sleep, rouse),
            Next::Leave { rouse } => (Step::Leave, rouse),
        };
        rouse(state, named, matches!(step, Step::Call(..) | Step::Again));
        step
    }
}

/// The thread of a worker.
pub(super) fn run(shell: &Arc<Shell>, worker: WorkerId) {
    let Some(backend) = shell.setup.origin.blocking() else { return };
    // The custody alone, and not its waiter: a call that hangs holds nothing of a caller that leaves.
    let custody = shell.setup.traced.then_some(|waiter: &Arc<Waiter>| waiter.take_custody());
    let mut slept = false;
    shell.lock().workers.insert(worker, thread::current());
    loop {
        match shell.next_step(worker, slept, custody, |state, rouse, _| shell.rouse(state, rouse)) {
            Step::Call(call, custody) => {
                slept = false;
                if make_call(call, backend, custody) {
                    // After an error such as EMFILE, libc's resolver state may stay broken in this thread.
                    let mut state = shell.lock();
                    let rouse = state.engine.retire(worker, sync::now());
                    return shell.rouse(state, rouse);
                }
            }
            Step::Again => slept = false,
            Step::Sleep => {
                slept = true;
                thread::park();
            }
            Step::Leave => return,
        }
    }
}

/// Makes a call and replies. Returns whether it may have broken libc's resolver in this thread.
fn make_call(mut call: Call<'_>, backend: &dyn Backend, custody: Option<Scope>) -> bool {
    let (mut may_be_broken, mut replies) = (false, None);
    let mut make = || {
        let result =
            caught(|| backend.lookup(call.name.as_str())).unwrap_or_else(|panic| Err(Error::panicked(panic.0)));
        may_be_broken = result.as_ref().is_err_and(Error::may_have_broken_libc);
        // While the custody is still held: its subscriber may ask for this very name when it is let go, and must not
        // find a flight there that waits for it.
        replies = Some(call.land(result));
    };
    match custody {
        Some(scope) => scope.run_and_close(&mut make),
        None => make(),
    }
    drop(replies);
    may_be_broken
}
