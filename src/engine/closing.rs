//! How flights end without a result: flushed, refused a thread, closed, given up on.

use std::time::Instant;

use super::flights::FlightId;
use super::outcomes::{Batch, Closing, Flushed, GivenUp, Stopped, Swept};
use super::{BATCH, Engine};
use crate::name::Name;

impl<W> Engine<W> {
    /// What was asked for until now is for those who wait for it alone; of every name. To be followed by
    /// [`sweep`](Self::sweep).
    pub(crate) fn flush(&mut self) -> Flushed {
        Flushed { _names: self.flights.flush(), stopped: Vec::new() }
    }

    /// The same, of one name.
    pub(crate) fn flush_name(&mut self, name: &Name) -> Flushed {
        let flight = self.flights.flush_name(name);
        Flushed { stopped: flight.map(|flight| self.end_background(flight)).unwrap_or_default(), ..Flushed::default() }
    }

    /// Admission stops; what is outstanding goes on, and threads leave as soon as they have nothing to do. To be followed by
    /// [`sweep`](Self::sweep).
    pub(crate) fn close(&mut self) -> Closing {
        self.closed = true;
        Closing { idle: self.crew.dismiss_idle(), timekeeper: self.rouse_timekeeper() }
    }

    /// Ends some of the background flights whose answers nobody will get: flushed ones, or all once closed.
    pub(crate) fn sweep(&mut self) -> Swept {
        let mut stopped = Vec::new();
        for _ in 0..BATCH {
            let Some(flight) = self.flights.first_background(!self.closed) else {
                return Swept { stopped, more: false, timekeeper: self.dismiss_timekeeper() };
            };
            stopped.extend(self.end_background(flight));
        }
        Swept { stopped, more: true, timekeeper: None }
    }

    /// A flight goes on for those who wait for it, if anybody does.
    fn end_background(&mut self, flight: FlightId) -> Stopped {
        self.flights.set_background(flight, false);
        if self.flights.is_deserted(flight) {
            // Without a count: it was not outstanding.
            self.flights.dequeue(flight);
        }
        self.tidy(flight)
    }

    /// Takes out some of those who wait in the queue, if no thread is left to come for them, or no timekeeper for their
    /// deadlines.
    pub(crate) fn strand(&mut self) -> Batch<W> {
        if self.crew.has_nobody() || self.crew.is_timekeeper_absent() {
            return self.abort_queued();
        }
        Batch { waiters: Vec::new(), more: false }
    }

    /// Cancels some of what is queued and has not begun; gives those who waited for it.
    pub(crate) fn abort_queued(&mut self) -> Batch<W> {
        let mut waiters = Vec::new();
        for _ in 0..BATCH {
            let Some(flight) = self.flights.first_queued() else { return Batch { waiters, more: false } };
            // Those who have a call that hangs wait on for that.
            let has_call = self.flights.calls(flight).next().is_some();
            if !has_call {
                waiters.extend(self.flights.pop_waiter(flight));
            }
            // With the last of them, or a worker might take it for nobody before the next batch.
            if has_call || self.flights.is_deserted(flight) {
                self.dequeue(flight);
                self.flights.remove_if_over(flight);
            }
        }
        Batch { waiters, more: true }
    }

    /// Nobody waits any longer for what runs. To be preceded by [`abort_queued`](Self::abort_queued), and followed by
    /// [`abort_running`](Self::abort_running).
    ///
    /// Takes as long as there are calls, since it names them all; a shutdown does so once.
    pub(crate) fn give_up(&mut self, now: Instant) -> GivenUp {
        let abandoned = self.calls.outstanding(now);
        self.stats.abandoned += self.calls.abandon() as u64;
        let flights = self.calls.flights();
        let stopped = flights.iter().flat_map(|&flight| self.stop_calls(flight)).collect();
        // Beside those that another shutdown has given up on and has yet to tell.
        self.given_up.extend(flights);
        GivenUp { abandoned, stopped }
    }

    /// Takes out some of those who wait for calls that were given up on. What has its result is told.
    pub(crate) fn abort_running(&mut self) -> Batch<W> {
        let mut waiters = Vec::new();
        for _ in 0..BATCH {
            let Some(&flight) = self.given_up.last() else { return Batch { waiters, more: false } };
            match if self.flights.has_landed(flight) { None } else { self.flights.pop_waiter(flight) } {
                Some(waiter) => waiters.push(waiter),
                None => {
                    self.given_up.pop();
                    self.flights.remove_if_over(flight);
                }
            }
        }
        Batch { waiters, more: true }
    }
}
