//! How waits end: with a result, or because a deadline has passed.

use std::time::Duration;

use super::calls::Run;
use super::crew::WorkerId;
use super::flights::{Due, FlightId, Lane, Left, Standing};
use super::outcomes::{Expired, Finished, Landed, Stopped, Telling};
use super::watches::is_answer;
use super::{BATCH, Engine, Execution};
use crate::error::ErrorKind;
use crate::sync::Instant;

/// How long the timekeeper waits for another waiter of a landed flight to be told, before it tells the rest. By then the waker
/// or the subscriber of another caller blocks the thread that should tell them.
const STALL: Duration = Duration::from_millis(20);

impl<W> Engine<W> {
    /// Ends the call of a worker with its result. The worker does this exactly once, tells the waiters, and then takes the next
    /// call or retires.
    pub(crate) fn finish(&mut self, worker: WorkerId, now: Instant, result: Result<(), ErrorKind>) -> Finished<W> {
        let now = self.at(now);
        let could_hedge = self.hedging.may_hedge(self.calls.hedges());
        let answered = is_answer(result);
        let Some(run) = self.calls.finish(worker, &mut self.flights.zones, now, answered) else {
            let (waiter, landed, stopped) = (None, None, Vec::new());
            return Finished { waiter, landed, since: now, shared: false, hedged: false, stopped, timekeeper: None };
        };
        let Run { flight, hash, since, is_hedge } = run;
        let took = now.saturating_duration_since(since);
        if answered {
            self.hedging.answered(took);
            if self.limits.timeout.is_none_or(|timeout| took <= timeout) {
                self.known.insert(hash);
            }
        }
        self.flights.end_call(flight, worker, answered);
        let Standing { shared, hedged, is_sought: another, is_waited_for } = self.flights.standing(flight);
        self.stats.hedges_won += u64::from(is_hedge && answered && another && is_waited_for);
        let (mut waiter, mut landed, mut rest, mut timekeeper) = (None, None, Some(flight), None);
        if !answered && another {
            // The other call may still answer.
        } else if shared || self.limits.execution == Execution::Async {
            // The waiters stay in the engine, with their deadlines. The driver has other flights to tell, and a shared call
            // closes the span of one of its callers, whose subscriber may block.
            if is_waited_for {
                rest = self.land(flight);
                landed = Some(Landed(flight));
                // The only waiter of the only landed flight is told before any other caller's code runs.
                if shared || self.flights.landed() > 1 {
                    self.flights.limit(flight, now.checked_add(STALL).unwrap_or(now));
                    timekeeper = self.rouse_timekeeper();
                }
            }
        } else {
            waiter = self.flights.pop_waiter(flight);
        }
        let stopped = rest.map(|flight| self.tidy(flight)).unwrap_or_default();
        // The timekeeper may not know of a call that can be hedged now.
        if !could_hedge && self.hedging.may_hedge(self.calls.hedges()) {
            timekeeper = timekeeper.or_else(|| self.rouse_timekeeper());
        }
        timekeeper = timekeeper.or_else(|| self.tend_watches());
        Finished { waiter, landed, since, shared, hedged, stopped, timekeeper }
    }

    /// Marks a flight as landed. Returns the flight in which other calls for the name go on.
    fn land(&mut self, flight: FlightId) -> Option<FlightId> {
        let watch = self.watch_on(flight);
        let rest = self.flights.land(flight);
        match rest {
            Some(rest) => {
                for (worker, _) in self.flights.calls(rest) {
                    self.calls.move_to(worker, rest);
                }
            }
            // The result was no news for a watch that still waits.
            None => self.ask_again(watch, None),
        }
        rest
    }

    /// Makes the timekeeper tell the waiters of a landed flight if the thread that should do so blocks. Called before other
    /// callers' code runs on that thread.
    #[cfg(feature = "async-backend")]
    pub(crate) fn watch(&mut self, Landed(flight): Landed, now: Instant) -> Option<super::RouseTimekeeper> {
        let now = self.at(now);
        let is_set = self.flights.limit(flight, now.checked_add(STALL).unwrap_or(now));
        if is_set { self.rouse_timekeeper() } else { None }
    }

    /// Removes the waiter that has waited longest for a result, to be told of it. The result must be [counted](Self::count),
    /// too.
    pub(crate) fn tell(&mut self, Landed(flight): Landed) -> Telling<W> {
        let waiter = self.flights.pop_waiter(flight);
        self.flights.remove_if_over(flight);
        Telling { waiter, timekeeper: self.dismiss_timekeeper() }
    }

    /// Returns whether the result of the call of `worker` may be given to later callers: not after a flush, and not after the
    /// answer of a call that began later.
    pub(crate) fn is_cacheable(&self, worker: WorkerId) -> bool {
        self.calls.flight(worker).is_some_and(|flight| self.flights.is_cacheable(flight, worker))
    }

    /// Removes a batch of waiters whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> (Vec<Expired<W>>, Stopped) {
        let mut expired = Vec::new();
        let mut stopped = Vec::new();
        for _ in 0..BATCH {
            match self.flights.due(now) {
                None => break,
                Some(Due::Background(flight)) => {
                    self.flights.set_background(flight, false);
                    stopped.extend(self.tidy(flight));
                }
                Some(Due::Landed(flight)) if self.flights.has_moved(flight) => {
                    self.flights.unlimit(flight);
                    self.flights.limit(flight, now.checked_add(STALL).unwrap_or(now));
                }
                Some(Due::Landed(flight)) => {
                    let name = self.flights.name(flight).cloned();
                    if let (Some(waiter), Some(name)) = (self.flights.pop_waiter(flight), name) {
                        let shared = self.flights.is_shared(flight);
                        let landed = Some(Landed(flight));
                        let hedged = self.flights.is_hedged(flight);
                        expired.push(Expired { waiter, name, since: None, shared, hedged, relief: false, landed });
                    }
                    // Clears the mark that taking the waiter out has set. Only waiters that others tell count.
                    self.flights.has_moved(flight);
                    self.flights.remove_if_over(flight);
                }
                Some(Due::Waiter(ticket)) => {
                    let Some(Left { waiter, name, relief }) = self.flights.leave(ticket) else { break };
                    let flight = ticket.flight;
                    let since = self.flights.calls(flight).map(|(_, since)| since).max();
                    let (shared, hedged) = (self.flights.is_shared(flight), self.flights.is_hedged(flight));
                    let landed = self.flights.has_landed(flight).then_some(Landed(flight));
                    match (landed, relief) {
                        (Some(_), _) => {}
                        (None, true) => self.stats.answered += 1,
                        (None, false) => self.stats.timed_out += 1,
                    }
                    if landed.is_none() && relief && !self.closed {
                        self.keep_in_background(flight, now);
                    }
                    stopped.extend(self.tidy(flight));
                    expired.push(Expired { waiter, name, since, shared, hedged, relief, landed });
                }
            }
        }
        self.demote_stopped(&stopped, now);
        (expired, stopped)
    }

    /// Keeps a flight in the background after its last waiter got an old answer instead, unless the name was flushed since.
    fn keep_in_background(&mut self, flight: FlightId, now: Instant) {
        let is_wanted = self.flights.is_deserted(flight) && !self.flights.is_flushed(flight);
        let Some(since) = self.flights.sought_since(flight).filter(|_| is_wanted) else {
            return;
        };
        if !self.flights.is_queued(flight) {
            self.flights.set_background(flight, true);
            self.limit_background(flight, now);
        } else if self.flights.name(flight).is_some_and(|name| self.has_room(Lane::Refresh, name, Some(flight), now)) {
            self.flights.dequeue(flight);
            self.enqueue_in_background(flight, since, now);
        }
    }

    pub(super) fn enqueue_in_background(&mut self, flight: FlightId, since: Instant, now: Instant) {
        self.enqueue(flight, since, Lane::Refresh, now);
        // A call that the flight already has may hang, and hold the worker that this one waits for.
        if self.flights.calls(flight).next().is_some() {
            self.limit_background(flight, now);
        }
    }

    /// Sets when the calls of a background flight are stopped, if they can be. No waiter's deadline would end them.
    pub(super) fn limit_background(&mut self, flight: FlightId, now: Instant) {
        let is_limited = self.limits.execution == Execution::Async && self.flights.is_background(flight);
        let limit = self.limits.timeout.filter(|_| is_limited).and_then(|timeout| now.checked_add(timeout));
        limit.into_iter().for_each(|limit| _ = self.flights.limit(flight, limit));
    }
}
