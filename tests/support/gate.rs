use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::WATCHDOG;

/// A gate that calls stop at, and that tells how many have arrived.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    arrived: usize,
}

impl Gate {
    /// Arrives, and goes on when the gate is open.
    pub fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.arrived += 1;
        changed.notify_all();
        drop(changed.wait_while(state, |state| !state.open).unwrap());
    }

    pub fn open(&self) {
        let (state, changed) = &*self.0;
        // Also while a failed assertion unwinds, which may have poisoned it.
        state.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        changed.notify_all();
    }

    /// Waits until somebody has opened it.
    pub fn await_open(&self) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, _) = changed.wait_timeout_while(state, WATCHDOG, |state| !state.open).unwrap();
        assert!(state.open, "nobody has opened the gate");
    }

    /// Waits until `count` calls have arrived in all.
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

/// Opens the gate when it goes out of scope, so that a failed assertion hangs nobody.
pub struct OpenOnDrop<'a>(pub &'a Gate);

impl Drop for OpenOnDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}
