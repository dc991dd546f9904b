//! How flights end without a result: by a flush, a refused thread, closing, or a shutdown that gives up.

use super::flights::FlightId;
use super::outcomes::{Batch, Closing, Flushed, GivenUp, Stopped, Swept};
use super::{BATCH, Engine};
use crate::error::ErrorKind;
use crate::name::Name;
use crate::sync::Instant;

impl<W> Engine<W> {
    /// Makes later callers of any name start anew: present flights are for their present waiters only. Must be followed by
    /// [`sweep`](Self::sweep).
    pub(crate) fn flush(&mut self) -> Flushed {
        self.flights.flush();
        self.watches.flush();
        Flushed::default()
    }

    /// Does the same for one name, and ends its background flight at once.
    pub(crate) fn flush_name(&mut self, name: &Name) -> Flushed {
        let name = self.hashed(name);
        let flight = self.flights.flush_name(name);
        self.watches.flush_name(name);
        Flushed { stopped: flight.map(|flight| self.end_background(flight)).unwrap_or_default() }
    }

    /// Stops admission. Outstanding lookups go on, and threads leave as soon as they have nothing to do. Must be followed by
    /// [`sweep`](Self::sweep).
    pub(crate) fn close(&mut self) -> Closing {
        self.closed = true;
        Closing { idle: self.crew.dismiss_idle(), timekeeper: self.rouse_timekeeper() }
    }

    /// Ends a batch of background flights whose answers nobody will get: flushed ones, or all of them if the engine is closed.
    /// Then does so with watches, or if they were flushed, makes them ask again.
    pub(crate) fn sweep(&mut self) -> Swept {
        let mut stopped = Vec::new();
        for _ in 0..BATCH {
            let Some(flight) = self.flights.first_background(!self.closed) else {
                let watches = self.sweep_watches();
                let more = watches.len() == BATCH;
                return Swept { stopped, watches, more, timekeeper: self.dismiss_timekeeper() };
            };
            stopped.extend(self.end_background(flight));
        }
        Swept { stopped, watches: Vec::new(), more: true, timekeeper: None }
    }

    /// Takes a flight out of the background. It goes on only if it has waiters.
    fn end_background(&mut self, flight: FlightId) -> Stopped {
        self.flights.set_background(flight, false);
        if self.flights.is_deserted(flight) {
            // Not counted as cancelled, because it was not outstanding.
            self.flights.dequeue(flight);
        }
        self.tidy(flight)
    }

    /// Removes a batch of queued waiters if no worker is left to come for them, or no timekeeper for their deadlines.
    pub(crate) fn strand(&mut self) -> Batch<W> {
        if self.crew.has_nobody() || self.crew.is_timekeeper_absent() {
            return self.abort_queued();
        }
        Batch { waiters: Vec::new(), more: false }
    }

    /// Cancels a batch of queued lookups, and returns their waiters.
    pub(crate) fn abort_queued(&mut self) -> Batch<W> {
        let mut waiters = Vec::new();
        for _ in 0..BATCH {
            let Some(flight) = self.flights.first_queued() else { return Batch { waiters, more: false } };
            // Its waiters go on waiting for that call, which hangs.
            let has_call = self.flights.calls(flight).next().is_some();
            if !has_call {
                waiters.extend(self.flights.pop_waiter(flight));
            }
            // Together with its last waiter. Otherwise a worker might call for nobody before the next batch.
            if has_call || self.flights.is_deserted(flight) {
                let watch = self.watch_on(flight);
                self.dequeue(flight);
                self.flights.remove_if_over(flight);
                self.lose(flight, watch, Some(ErrorKind::ThreadRefused));
            }
        }
        Batch { waiters, more: true }
    }

    /// Gives up on every call that is outstanding. Must be preceded by [`abort_queued`](Self::abort_queued), and followed by
    /// [`abort_running`](Self::abort_running).
    ///
    /// Takes time in proportion to the number of calls, because it names them all. A shutdown does this once.
    pub(crate) fn give_up(&mut self, now: Instant) -> GivenUp {
        let now = self.at(now);
        let abandoned = self.calls.outstanding(now);
        self.stats.abandoned += self.calls.abandon() as u64;
        let flights = self.calls.flights();
        let stopped = flights.iter().flat_map(|&flight| self.stop_calls(flight)).collect();
        // Another shutdown may have given up on flights before, and not told their waiters yet.
        self.given_up.extend(flights);
        GivenUp { abandoned, stopped }
    }

    /// Removes a batch of waiters on calls that were given up on. Waiters on a flight that has landed stay, and are told its
    /// result.
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
