use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};

use super::WATCHDOG;

/// A gate at which calls stop. It counts arrivals.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    arrived: usize,
    /// Wakers of the futures that wait.
    wakers: Vec<Waker>,
}

impl Gate {
    /// Arrives, and blocks until the gate is open.
    pub fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.arrived += 1;
        changed.notify_all();
        drop(changed.wait_while(state, |state| !state.open).unwrap());
    }

    /// Arrives, and waits without blocking until the gate is open.
    pub async fn passed(&self) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().arrived += 1;
        changed.notify_all();
        let wait = poll_fn(|cx| {
            let mut state = state.lock().unwrap();
            if state.open {
                return Poll::Ready(());
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        });
        wait.await;
    }

    pub fn open(&self) {
        let (state, changed) = &*self.0;
        // A failed assertion may have poisoned the lock, and opens the gate while it unwinds.
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until the gate is open.
    pub fn await_open(&self) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, _) = changed.wait_timeout_while(state, WATCHDOG, |state| !state.open).unwrap();
        assert!(state.open, "nobody has opened the gate");
    }

    /// Waits until a total of `count` calls have arrived.
    pub fn await_arrivals(&self, count: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, _) = changed.wait_timeout_while(state, WATCHDOG, |state| state.arrived < count).unwrap();
        assert!(state.arrived >= count, "{} of {count} calls have arrived", state.arrived);
    }

    pub fn arrived(&self) -> usize {
        self.0.0.lock().unwrap().arrived
    }
}

/// Opens the gate when it goes out of scope, so that a failed assertion leaves nothing hanging.
pub struct OpenOnDrop<'a>(pub &'a Gate);

impl Drop for OpenOnDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}
