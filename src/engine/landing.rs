//! How a wait ends: with a result, or because its time is up.

use std::time::{Duration, Instant};

use super::crew::WorkerId;
use super::flights::{Due, FlightId, Lane, Left};
use super::outcomes::{Expired, Finished, Landed, Stopped, Telling};
use super::{BATCH, Engine, Execution};
use crate::error::ErrorKind;

/// When nobody has told a waiter of a result for so long, the waker or the subscriber of another one blocks whoever should, and
/// the timekeeper sees to those that are left.
const STALL: Duration = Duration::from_millis(20);

impl<W> Engine<W> {
    /// The call of a worker is over. It says so exactly once, tells the waiters, and then takes the next or retires.
    pub(crate) fn finish(&mut self, worker: WorkerId, now: Instant, result: Result<(), ErrorKind>) -> Finished<W> {
        let Some((flight, name, since)) = self.calls.finish(worker, now) else {
            let (waiter, landed, stopped) = (None, None, Vec::new());
            return Finished { waiter, landed, since: now, shared: false, stopped, timekeeper: None };
        };
        let answered = matches!(result, Ok(()) | Err(ErrorKind::NotFound | ErrorKind::NoData));
        let in_time = self.limits.timeout.is_none_or(|timeout| now.saturating_duration_since(since) <= timeout);
        if answered && in_time {
            self.known.insert(&name);
        }
        self.flights.end_call(flight, worker, answered);
        let shared = self.flights.is_shared(flight);
        let another = self.flights.is_queued(flight) || self.flights.calls(flight).next().is_some();
        let (mut waiter, mut landed, mut rest, mut timekeeper) = (None, None, Some(flight), None);
        if !answered && another {
            // That one may do better.
        } else if shared || self.limits.execution == Execution::Async {
            // The driver has others to tell as well, and one who shares a call waits for the span of the one it runs for.
            if !self.flights.is_deserted(flight) {
                rest = self.land(flight);
                landed = Some(Landed(flight));
                // One that nobody else has waited with, or lands with, is told before any other's code runs.
                if shared || self.flights.landed() > 1 {
                    self.flights.limit(flight, now.checked_add(STALL).unwrap_or(now));
                    timekeeper = self.rouse_timekeeper();
                }
            }
        } else {
            waiter = self.flights.pop_waiter(flight);
        }
        let stopped = rest.map(|flight| self.tidy(flight)).unwrap_or_default();
        Finished { waiter, landed, since, shared, stopped, timekeeper }
    }

    /// Gives the flight in which calls for the name that go on do so.
    fn land(&mut self, flight: FlightId) -> Option<FlightId> {
        let rest = self.flights.land(flight);
        if let Some(rest) = rest {
            for (worker, _) in self.flights.calls(rest) {
                self.calls.move_to(worker, rest);
            }
        }
        rest
    }

    /// Other callers' code is about to run on the thread that is to tell those who wait for a flight: has the timekeeper see to
    /// them if that blocks.
    #[cfg(feature = "async-backend")]
    pub(crate) fn watch(&mut self, Landed(flight): Landed, now: Instant) -> Option<super::RouseTimekeeper> {
        let is_set = self.flights.limit(flight, now.checked_add(STALL).unwrap_or(now));
        if is_set { self.rouse_timekeeper() } else { None }
    }

    /// Takes out the waiter that has waited longest for a result, to be told of it. It is to be counted, too.
    pub(crate) fn tell(&mut self, Landed(flight): Landed) -> Telling<W> {
        let waiter = self.flights.pop_waiter(flight);
        self.flights.remove_if_over(flight);
        Telling { waiter, timekeeper: self.dismiss_timekeeper() }
    }

    /// Whether the result of the call of `worker` may be given to those who ask later: not after a flush, and not after the
    /// answer of a call that began later.
    pub(crate) fn is_cacheable(&self, worker: WorkerId) -> bool {
        self.calls.flight(worker).is_some_and(|flight| self.flights.is_cacheable(flight, worker))
    }

    /// Takes out some of those whose time is up.
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
                        expired.push(Expired { waiter, name, since: None, shared, relief: false, landed });
                    }
                    // This was nobody else's doing.
                    self.flights.has_moved(flight);
                    self.flights.remove_if_over(flight);
                }
                Some(Due::Waiter(ticket)) => {
                    let Some(Left { waiter, name, relief }) = self.flights.leave(ticket) else { break };
                    let flight = ticket.flight;
                    let since = self.flights.calls(flight).map(|(_, since)| since).max();
                    let shared = self.flights.is_shared(flight);
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
                    expired.push(Expired { waiter, name, since, shared, relief, landed });
                }
            }
        }
        self.demote_stopped(&stopped, now);
        (expired, stopped)
    }

    /// A stale answer is given instead, and the name is still to be looked up, unless it was flushed since.
    fn keep_in_background(&mut self, flight: FlightId, now: Instant) {
        let is_wanted = self.flights.is_deserted(flight) && !self.flights.is_flushed(flight);
        let Some(since) = self.flights.sought_since(flight).filter(|_| is_wanted) else {
            return;
        };
        if !self.flights.is_queued(flight) {
            self.flights.set_background(flight, true);
            self.limit_background(flight, now);
        } else if self.has_room(Lane::Refresh) {
            self.flights.dequeue(flight);
            self.enqueue_in_background(flight, since, now);
        }
    }

    pub(super) fn enqueue_in_background(&mut self, flight: FlightId, since: Instant, now: Instant) {
        self.flights.enqueue(flight, since, Lane::Refresh);
        // A call that it has already may hang, and have what this one waits for.
        if self.flights.calls(flight).next().is_some() {
            self.limit_background(flight, now);
        }
    }

    /// Has the calls of a background flight stopped in time, if they can be. Nobody else's deadline would see to it.
    pub(super) fn limit_background(&mut self, flight: FlightId, now: Instant) {
        let is_limited = self.limits.execution == Execution::Async && self.flights.is_background(flight);
        let limit = self.limits.timeout.filter(|_| is_limited).and_then(|timeout| now.checked_add(timeout));
        limit.into_iter().for_each(|limit| _ = self.flights.limit(flight, limit));
    }
}
