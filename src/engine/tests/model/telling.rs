//! How the model tells the waiters of flights that have landed.

use super::*;

impl Model {
    /// Tells the waiters of a worker, if it has any to tell. The worker then comes for its next call.
    pub(super) fn take(&mut self, key: u64) {
        self.tell_those_of(key);
        self.turn(key, Engine::take);
    }

    /// Tells all waiters of a thread's call. The driver tells its waiters in its own time.
    pub(super) fn tell_those_of(&mut self, key: u64) {
        if let (Execution::Blocking, Doing::Replying { landed: Some(landed), .. }) =
            (self.limits.execution, &self.workers[&key].1)
        {
            let landed = *landed;
            while self.tell(landed) {}
        }
    }

    /// Tells a waiter of a landed flight. Returns whether there was one.
    pub(super) fn tell(&mut self, landed: Landed) -> bool {
        let told = self.input(|engine, _| engine.tell(landed));
        self.rouse_timekeeper(told.timekeeper);
        let first = self.waiting.iter().find(|(_, waits)| waits.landed == Some(landed)).map(|(&id, _)| id);
        assert_eq!(told.waiter.as_ref().map(|token| token.id), first, "the one that has waited longest");
        let Some(token) = told.waiter else {
            self.tellings.remove(&landed);
            return false;
        };
        self.count_told(landed);
        self.tellings.get_mut(&landed).expect("it has not ended").has_moved = true;
        self.end(&token);
        true
    }

    /// Counts the result that a waiter of a landed flight gets.
    pub(super) fn count_told(&mut self, landed: Landed) {
        let result = self.tellings[&landed].result;
        self.input(|engine, _| engine.count(result));
        match result {
            Ok(()) => self.counted.answered += 1,
            Err(kind) => self.counted.fail(kind, 1),
        }
    }
}
