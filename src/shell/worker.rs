use std::sync::Arc;

use super::Shell;
use super::call::Call;
use crate::backend::Backend;
use crate::engine::{Next, WorkerId};
use crate::error::Error;
use crate::foreign::caught;
use crate::sync::{self, thread};
use crate::trace::Scope;

/// A worker's thread: makes one call after another until it has idled long enough.
pub(super) fn run(shell: &Arc<Shell>, id: WorkerId) {
    let Some(backend) = shell.setup.origin.blocking() else { return };
    let mut slept = false;
    shell.lock().workers.insert(id, thread::current());
    loop {
        let now = sync::now();
        let mut state = shell.lock();
        match if slept { state.engine.woke(id, now) } else { state.engine.take(id, now) } {
            Next::Call { name, rouse } => {
                // The custody alone, and not its waiter: a call that hangs holds nothing of a caller that leaves. The oldest
                // waiter's may be with another call for this name, of which there is one.
                let waiters = state.engine.waiters(id).take(if shell.setup.traced { 2 } else { 0 });
                let custody = waiters.filter_map(|waiter| waiter.take_custody()).next();
                slept = false;
                let call = Call::new(shell, id, name);
                shell.rouse(state, rouse);
                if make(call, backend, custody) {
                    // After one such as EMFILE, libc's resolver state may stay broken in this thread.
                    let mut state = shell.lock();
                    let rouse = state.engine.retire(id, sync::now());
                    return shell.rouse(state, rouse);
                }
            }
            Next::Sleep { rouse } => {
                slept = true;
                shell.rouse(state, rouse);
                thread::park();
            }
            Next::Leave { rouse } => return shell.rouse(state, rouse),
        }
    }
}

/// Makes a call and replies. Says whether it may have broken libc's resolver in this thread.
fn make(mut call: Call<'_>, backend: &dyn Backend, custody: Option<Scope>) -> bool {
    let mut may_be_broken = false;
    let mut make = || {
        let answer = caught(|| backend.lookup(call.name.as_str()));
        // While the custody is still held: its subscriber may ask for this very name when it is let go, and must not
        // find a flight there that waits for it.
        may_be_broken = call.land(answer.unwrap_or_else(|panic| Err(Error::panicked(panic.0))));
    };
    match custody {
        Some(scope) => scope.run(&mut make),
        None => make(),
    }
    may_be_broken
}
