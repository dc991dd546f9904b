//! The state of everything in progress, as a plain struct: no thread, clock, lock or I/O of its own.
//!
//! Each input is a method that takes the time and returns, as its own type, what the shell is to do. Waiters are moved out
//! and never dropped in here, since the engine runs under a lock and what a waiter holds is foreign. The time may run
//! backwards from one input to the next: it is read before the lock is taken.

mod crew;
mod flights;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub(crate) use self::crew::{Rouse, RouseTimekeeper, RouseWorker, WorkerId};
pub(crate) use self::flights::{FlightId, Ticket};

use self::crew::Crew;
use self::flights::Flights;
use crate::name::Name;

/// How many threads there may be and how long an idle one stays.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_threads: usize,
    pub(crate) thread_idle: Duration,
}

/// Flights, the queue of those that no thread has taken, and the threads.
///
/// `W` is what waits for a flight's answer; the engine keeps it, gives it back, and never looks inside.
#[derive(Debug)]
pub(crate) struct Engine<W> {
    flights: Flights<W>,
    crew: Crew,
}

/// A caller has asked.
#[must_use]
#[derive(Debug)]
pub(crate) struct Asked {
    /// To leave with.
    pub(crate) ticket: Ticket,
    pub(crate) rouse: Rouse,
}

/// What a worker is to do next.
#[must_use]
#[derive(Debug)]
pub(crate) enum Next<'a, W> {
    /// Rouse first, then call, then [`finish`](Engine::finish).
    Call {
        flight: FlightId,
        name: Name,
        /// The one that has waited longest.
        oldest: Option<&'a W>,
        rouse: Rouse,
    },
    /// Sleep until roused or until then (`None`: for good), then say [`woke`](Engine::woke).
    Sleep { until: Option<Instant> },
    /// Rouse, and end the thread: the engine has forgotten it.
    Leave { rouse: Rouse },
}

/// A flight that is over.
#[must_use]
#[derive(Debug)]
pub(crate) struct Finished<W> {
    pub(crate) waiters: Vec<W>,
    /// When a worker took it.
    pub(crate) taken: Instant,
    /// Whether more than one caller ever waited for it.
    pub(crate) shared: bool,
}

/// The operating system has refused a thread.
#[must_use]
#[derive(Debug)]
pub(crate) struct Refused<W> {
    /// Everyone who waited in the queue, if no thread is left to come for them.
    pub(crate) stranded: Vec<W>,
    pub(crate) rouse: Rouse,
}

/// What the timekeeper is to do next.
#[must_use]
#[derive(Debug)]
pub(crate) enum Tick {
    /// Rouse, sleep until roused or until then (`None`: for good), then [`tick`](Engine::tick) again.
    Sleep { until: Option<Instant>, rouse: Rouse },
    /// End the thread: the engine has forgotten it.
    Leave,
}

impl<W> Engine<W> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { flights: Flights::new(), crew: Crew::new(limits) }
    }

    /// A caller asks for `name`: it joins the flight there is, or starts one at the end of the queue.
    pub(crate) fn ask(&mut self, now: Instant, name: Name, waiter: W) -> Asked {
        let ticket = self.flights.join(now, name, waiter);
        Asked { ticket, rouse: self.rouse(now) }
    }

    /// A caller leaves, whatever has become of its flight. A queued flight that nobody waits for any more is gone.
    #[must_use]
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.flights.leave(ticket)
    }

    /// A worker that has just started, or has nothing left to do for its last flight, asks for work.
    pub(crate) fn take(&mut self, worker: WorkerId, now: Instant) -> Next<'_, W> {
        self.crew.arrive(worker);
        self.next(worker, now)
    }

    /// A worker that was told to sleep has woken, for whatever reason.
    pub(crate) fn woke(&mut self, worker: WorkerId, now: Instant) -> Next<'_, W> {
        if self.crew.arrive(worker) {
            return self.next(worker, now);
        }
        match self.crew.idle_out(worker, now) {
            Some(until) => Next::Sleep { until },
            None => Next::Leave { rouse: self.rouse(now) },
        }
    }

    fn next(&mut self, worker: WorkerId, now: Instant) -> Next<'_, W> {
        let Some((flight, name)) = self.flights.pop_queued(now) else {
            return Next::Sleep { until: self.crew.idle(worker, now) };
        };
        self.crew.begin_call();
        let rouse = self.rouse(now);
        Next::Call { flight, name, oldest: self.flights.oldest_waiter(flight), rouse }
    }

    /// The call for a flight is over. Its worker says so exactly once, tells the waiters, and then takes the next.
    pub(crate) fn finish(&mut self, flight: FlightId, now: Instant) -> Finished<W> {
        self.crew.end_call();
        let (waiters, taken, shared) = self.flights.land(flight).unwrap_or((Vec::new(), now, false));
        Finished { waiters, taken, shared }
    }

    /// The operating system refused the worker that was to be started. With others alive the queue is left to them, and to
    /// another try at a later tick.
    pub(crate) fn worker_refused(&mut self, now: Instant) -> Refused<W> {
        self.crew.worker_refused(now);
        let stranded = if self.crew.is_empty() { self.flights.drain_queued() } else { Vec::new() };
        Refused { stranded, rouse: self.rouse(now) }
    }

    /// The operating system refused the timekeeper, and the worker that was to be started after it, if there was one, was
    /// not tried. Without a timekeeper nobody may wait in the queue: no later try would be made for them.
    pub(crate) fn timekeeper_refused(&mut self, untried: Option<WorkerId>) -> Refused<W> {
        self.crew.timekeeper_refused(untried);
        Refused { stranded: self.flights.drain_queued(), rouse: Rouse::default() }
    }

    /// There is something for the timekeeper besides time.
    pub(crate) fn call_timekeeper(&mut self) -> Rouse {
        Rouse { timekeeper: self.crew.call_timekeeper(), worker: None }
    }

    /// The timekeeper has started or woken.
    pub(crate) fn tick(&mut self, now: Instant) -> Tick {
        if self.crew.is_empty() && !self.flights.has_queued() {
            self.crew.timekeeper_left();
            return Tick::Leave;
        }
        let worker = self.crew.rouse_worker(self.flights.oldest_queued(), now);
        let until = self.crew.next_tick(self.flights.oldest_queued());
        self.crew.timekeeper_sleeps(until);
        Tick::Sleep { until, rouse: Rouse { timekeeper: None, worker } }
    }

    fn rouse(&mut self, now: Instant) -> Rouse {
        let worker = self.crew.rouse_worker(self.flights.oldest_queued(), now);
        Rouse { timekeeper: self.crew.rouse_timekeeper(self.flights.oldest_queued()), worker }
    }
}
