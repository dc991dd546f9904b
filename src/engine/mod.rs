//! The state of everything in progress, as a plain struct: no thread, clock, lock or I/O of its own.
//!
//! Each input is a method that takes the time and returns, as its own type, what the shell is to do. Waiters are moved out
//! and never dropped in here, since the engine runs under a lock and what a waiter holds is foreign. The time may run
//! backwards from one input to the next: it is read before the lock is taken.

mod calls;
mod crew;
mod flights;
mod known;
mod outcomes;
mod waiters;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use std::time::{Duration, Instant};

pub(crate) use self::crew::{Rouse, RouseTimekeeper, RouseWorker, WorkerId};
pub(crate) use self::flights::Ticket;
pub(crate) use self::outcomes::{Asked, Closing, Expired, Finished, GivenUp, Leaving, Next, Refused, Stopped, Tick};

use self::calls::{Calls, End};
use self::crew::Crew;
use self::flights::{Deadline, Due, FlightId, Flights, Lane, Left};
use self::known::Known;
use crate::error::ErrorKind;
use crate::name::Name;
use crate::stats::Stats;

/// What is bounded, and how long things may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) execution: Execution,
    /// Calls at once, and so workers.
    pub(crate) max_calls: usize,
    /// Of these, the ones that are for known names alone.
    pub(crate) kept_for_known: usize,
    /// Names in each lane.
    pub(crate) max_queued: usize,
    pub(crate) thread_idle: Duration,
    pub(crate) timeout: Option<Duration>,
}

/// What a worker is, and a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Execution {
    /// A thread, and its call blocks it: nothing can stop it.
    Blocking,
    /// A task on the driver's thread, and its call is a future, which is dropped when nobody waits for it any more. More
    /// calls cost no more threads; the driver's stays while there is a worker, so the last one idles.
    Async,
}

/// Flights, the lanes of those that wait for a thread, their deadlines, the calls, the threads, and which names are known.
///
/// `W` is what waits for a flight's answer; the engine keeps it, gives it back, and never looks inside.
#[derive(Debug)]
pub(crate) struct Engine<W> {
    limits: Limits,
    flights: Flights<W>,
    calls: Calls,
    crew: Crew,
    known: Known,
    closed: bool,
    /// When the timekeeper is to come for something that is not the engine's.
    alarm: Option<Instant>,
    stats: Stats,
    tally: Tally,
}

/// What has become, since the engine was closed, of the lookups that were outstanding then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Calls that ran to their end.
    pub(crate) finished: usize,
    /// Queued lookups that never ran.
    pub(crate) cancelled: usize,
}

impl<W> Engine<W> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            flights: Flights::new(),
            calls: Calls::default(),
            crew: Crew::new(limits.max_calls, limits.thread_idle),
            known: Known::default(),
            closed: false,
            alarm: None,
            stats: Stats::default(),
            tally: Tally::default(),
            limits,
        }
    }

    /// A caller asks for `name`: it joins the flight there is, or starts one at the end of its lane. Where it has something
    /// else to make do with, it waits for no longer than `relief`.
    pub(crate) fn ask(&mut self, now: Instant, name: Name, waiter: W, relief: Option<Duration>) -> Asked<W> {
        let why = match self.admit(now, &name) {
            Ok(lane) => {
                let wait = [relief, self.limits.timeout].into_iter().flatten().min();
                let deadline = wait.and_then(|wait| now.checked_add(wait));
                let deadline = deadline.map(|at| Deadline { at, relief: relief.is_some() });
                self.stats.started += 1;
                let (ticket, joined) = self.flights.join(name, waiter, deadline);
                self.stats.shared += u64::from(joined);
                if let Some(lane) = lane {
                    self.flights.enqueue(ticket.flight, now, lane);
                }
                return Asked::Waits { ticket, rouse: self.rouse(now) };
            }
            Err(why) => why,
        };
        self.stats.refused += 1;
        Asked::Refused { waiter, why }
    }

    /// The lane in which a call has to be queued for one more who asks for `name`; `None` if what there is will do.
    fn admit(&mut self, now: Instant, name: &Name) -> Result<Option<Lane>, ErrorKind> {
        if self.closed {
            return Err(ErrorKind::Closed);
        }
        if let Some(flight) = self.flights.find(name) {
            // What nobody waited for until now.
            if self.flights.lane(flight) == Some(Lane::Refresh) {
                let lane = self.lane_of(name);
                let promoted = self.has_room(lane) && self.flights.dequeue(flight);
                return Ok(promoted.then_some(lane));
            }
            // A call that has run longer than a deadline is stuck; its name gets a second one, and no third.
            if self.flights.is_queued(flight)
                || self.flights.has_call_younger_than(flight, now, self.limits.timeout)
                || self.flights.calls(flight).count() >= 2
            {
                return Ok(None);
            }
            self.demote_stuck(now);
            let lane = self.lane_of(name);
            // Joining is never refused: over the bound it waits for the call that there is.
            return Ok(self.has_room(lane).then_some(lane));
        }
        let lane = self.lane_of(name);
        if self.has_room(lane) { Ok(Some(lane)) } else { Err(ErrorKind::Overloaded) }
    }

    fn lane_of(&self, name: &Name) -> Lane {
        if self.known.contains(name) { Lane::Known } else { Lane::New }
    }

    /// Whether a lane takes one more: as many as may wait, and as many as the threads that it may still get will take.
    fn has_room(&self, lane: Lane) -> bool {
        let threads = self.threads_for(lane).saturating_sub(self.calls_of(lane));
        let free = threads.min(self.limits.max_calls.saturating_sub(self.calls.len()));
        self.flights.queued(lane) < self.limits.max_queued.saturating_add(free)
    }

    /// How many threads a lane has.
    fn calls_of(&self, lane: Lane) -> usize {
        self.calls.in_lane(caller(lane))
    }

    /// How many threads a lane may have.
    fn threads_for(&self, lane: Lane) -> usize {
        match lane {
            Lane::Known => self.limits.max_calls,
            Lane::New | Lane::Refresh => self.limits.max_calls.saturating_sub(self.limits.kept_for_known),
        }
    }

    /// Names whose calls have run longer than a deadline are known no longer, nor are their calls those of known names. This
    /// goes by the calls, since their callers may have left before their time.
    fn demote_stuck(&mut self, now: Instant) {
        while self.next_stuck().is_some_and(|at| at <= now) {
            if let Some(name) = self.calls.demote_oldest_known() {
                self.known.remove(name);
            }
        }
    }

    /// When the first call for a known name will have run longer than a deadline.
    fn next_stuck(&self) -> Option<Instant> {
        self.calls.oldest_known()?.checked_add(self.limits.timeout?)?.checked_add(Duration::from_nanos(1))
    }

    /// A caller leaves, whatever has become of its flight. A queued flight that nobody waits for any more is gone.
    pub(crate) fn leave(&mut self, ticket: Ticket, now: Instant) -> Leaving<W> {
        let Some(Left { waiter, .. }) = self.flights.leave(ticket) else {
            return Leaving { waiter: None, stopped: Vec::new() };
        };
        self.stats.cancelled += 1;
        let stopped = self.tidy(ticket.flight);
        self.demote_stopped(&stopped, now);
        Leaving { waiter: Some(waiter), stopped }
    }

    /// A call that was stopped before it could be found stuck leaves its name known no longer all the same: else names that never
    /// answer could keep what is kept for those that do, one short-lived call after another.
    fn demote_stopped(&mut self, stopped: &Stopped, now: Instant) {
        for &worker in stopped {
            if let Some(name) = self.calls.hung_known(worker, now) {
                self.known.remove(name);
            }
        }
    }

    /// A name is to be looked up for nobody, when there is nothing better to do: `None` if there is too much.
    pub(crate) fn refresh(&mut self, now: Instant, name: Name) -> Option<Rouse> {
        if self.closed || !self.has_room(Lane::Refresh) {
            return None;
        }
        let flight = self.flights.find_or_begin(name);
        let coming = self.flights.is_queued(flight)
            || self.flights.has_call_younger_than(flight, now, self.limits.timeout)
            || self.flights.calls(flight).count() >= 2;
        if !coming {
            self.stats.refreshed += 1;
            self.enqueue_for_nobody(flight, now, now);
        }
        Some(self.rouse(now))
    }

    /// Whether a lookup of `name` has been on its way for as long as `patience`.
    pub(crate) fn is_slow(&self, now: Instant, name: &Name, patience: Duration) -> bool {
        let since = self.flights.find(name).and_then(|flight| self.flights.sought_since(flight));
        since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }

    /// What was asked for until now lasts for those who wait for it alone; of `name`, or of every name where it is none.
    pub(crate) fn flush(&mut self, name: Option<&Name>) {
        self.flights.flush(name);
    }

    /// Drops what a flight has no need of once everyone has left it, unless it is for nobody anyway: its place in the queue,
    /// calls that can be stopped, and itself.
    fn tidy(&mut self, flight: FlightId) -> Stopped {
        let mut stopped = Vec::new();
        if !self.flights.is_deserted(flight) {
            return stopped;
        }
        if self.closed || !self.flights.is_for_nobody(flight) {
            self.dequeue(flight);
            stopped = self.stop_calls(flight);
        }
        self.flights.remove_if_over(flight);
        stopped
    }

    /// Whatever becomes of a flight's calls is of no interest any more: they are stopped where they can be.
    fn stop_calls(&mut self, flight: FlightId) -> Stopped {
        if self.limits.execution == Execution::Blocking {
            return Vec::new();
        }
        let stopped: Stopped = self.flights.calls(flight).map(|(worker, _)| worker).collect();
        for &worker in &stopped {
            self.flights.end_call(flight, worker);
            self.calls.stop(worker);
        }
        stopped
    }

    fn dequeue(&mut self, flight: FlightId) {
        let was_queued = self.flights.dequeue(flight);
        self.tally.cancelled += usize::from(self.closed && was_queued);
    }

    /// A worker that has just started, or has nothing left to do for its last call, asks for work.
    pub(crate) fn take(&mut self, worker: WorkerId, now: Instant) -> Next {
        self.crew.arrive(worker);
        self.end_call(worker);
        self.next(worker, now)
    }

    /// A worker that was told to sleep has woken, for whatever reason.
    pub(crate) fn woke(&mut self, worker: WorkerId, now: Instant) -> Next {
        if self.crew.arrive(worker) || !self.crew.is_idle(worker) {
            return self.next(worker, now);
        }
        Next::Sleep { rouse: Rouse::default() }
    }

    /// A worker leaves after its call, because libc's state in its thread may be broken.
    pub(crate) fn retire(&mut self, worker: WorkerId, now: Instant) -> Rouse {
        self.end_call(worker);
        self.crew.leave();
        self.rouse(now)
    }

    /// A call is outstanding until here, so that the replies and all that they drop are done.
    fn end_call(&mut self, worker: WorkerId) {
        match self.calls.end(worker).filter(|_| self.closed) {
            Some(End::Finished) => self.tally.finished += 1,
            Some(End::Stopped) => self.tally.cancelled += 1,
            None => {}
        }
    }

    /// Whether the call that `worker` has is to be dropped.
    #[cfg_attr(not(any(test, fuzzing, feature = "async-backend")), expect(dead_code, reason = "there is no driver"))]
    pub(crate) fn is_stopped(&self, worker: WorkerId) -> bool {
        self.calls.is_stopped(worker)
    }

    /// Whether there is no worker, and none on the way.
    #[cfg_attr(not(any(test, fuzzing, feature = "async-backend")), expect(dead_code, reason = "there is no driver"))]
    pub(crate) fn has_no_worker(&self) -> bool {
        self.crew.is_empty()
    }

    fn next(&mut self, worker: WorkerId, now: Instant) -> Next {
        let is_dismissed = self.crew.is_dismissed(worker);
        let lane = self.open_lanes().next().map(|(lane, _)| lane);
        let popped = lane.and_then(|lane| Some((lane, self.flights.pop(lane, worker, now)?)));
        let Some((lane, (flight, name))) = popped else {
            let is_spare = self.limits.execution == Execution::Async && !self.crew.is_last();
            if self.closed || is_dismissed || is_spare {
                self.crew.leave();
                return Next::Leave { rouse: self.rouse(now) };
            }
            return Next::Sleep { rouse: Rouse { timekeeper: self.crew.idle(worker, now), worker: None } };
        };
        self.calls.begin(worker, flight, name.clone(), caller(lane), now);
        if lane == Lane::Refresh {
            self.limit_for_nobody(flight, now);
        }
        Next::Call { name, rouse: self.rouse(now) }
    }

    /// Those who wait for the call of `worker`, the one that has waited longest first.
    pub(crate) fn waiters(&self, worker: WorkerId) -> impl Iterator<Item = &W> {
        self.calls.flight(worker).into_iter().flat_map(|flight| self.flights.waiters(flight))
    }

    /// The call of a worker is over. It says so exactly once, tells the waiters, and then takes the next or retires.
    pub(crate) fn finish(&mut self, worker: WorkerId, now: Instant, result: Result<(), ErrorKind>) -> Finished<W> {
        let Some((flight, name, since)) = self.calls.finish(worker, now) else {
            return Finished { waiters: Vec::new(), since: now, shared: false, stopped: Vec::new() };
        };
        let answered = matches!(result, Ok(()) | Err(ErrorKind::NotFound | ErrorKind::NoData));
        let in_time = self.limits.timeout.is_none_or(|timeout| now.saturating_duration_since(since) <= timeout);
        if answered && in_time {
            self.known.insert(&name);
        }
        self.flights.end_call(flight, worker);
        let shared = self.flights.is_shared(flight);
        let another = self.flights.is_queued(flight) || self.flights.calls(flight).next().is_some();
        let waiters = if answered || !another { self.flights.take_waiters(flight) } else { Vec::new() };
        let stopped = self.tidy(flight);
        Finished { waiters, since, shared, stopped }
    }

    /// Since when the call of `worker` has been running, if its result may be given to those who ask later: not after a
    /// flush.
    pub(crate) fn lasts(&self, worker: WorkerId) -> Option<Instant> {
        let flight = self.calls.flight(worker).filter(|&flight| !self.flights.is_flushed(flight))?;
        self.flights.calls(flight).find(|&(caller, _)| caller == worker).map(|(_, since)| since)
    }

    /// Of waiters that were given out, so many got addresses, and so many a failure.
    pub(crate) fn count(&mut self, answered: usize, failed: Option<(ErrorKind, usize)>) {
        self.stats.answered += answered as u64;
        if let Some((kind, failed)) = failed {
            self.stats.fail(kind, failed as u64);
        }
    }

    /// The operating system refused the worker that was to be started. With others alive the queue is left to them, and to
    /// another try at a later tick.
    pub(crate) fn worker_refused(&mut self, now: Instant) -> Refused<W> {
        self.crew.worker_refused(now);
        let stranded = if self.crew.is_empty() { self.abort_queued() } else { Vec::new() };
        Refused { stranded, rouse: self.rouse(now) }
    }

    /// The operating system refused the timekeeper, and the worker that was to be started after it, if there was one, was
    /// not tried. Without a timekeeper nobody may wait in the queue: no later try would be made for them.
    pub(crate) fn timekeeper_refused(&mut self, untried: Option<WorkerId>) -> Refused<W> {
        self.crew.timekeeper_refused(untried);
        self.alarm = None;
        Refused { stranded: self.abort_queued(), rouse: Rouse::default() }
    }

    /// The timekeeper has started or woken.
    pub(crate) fn tick(&mut self, now: Instant) -> Tick<W> {
        self.demote_stuck(now);
        let (expired, stopped) = self.expire(now);
        if self.is_idle() && self.alarm.is_none() {
            self.crew.timekeeper_left();
            return Tick::Leave;
        }
        let worker = self.rouse_worker(now);
        let idle = self.crew.dismiss_tired(now);
        let until = self.next_tick();
        self.crew.timekeeper_sleeps(until);
        Tick::Sleep { expired, rouse: Rouse { timekeeper: None, worker }, stopped, idle, until }
    }

    fn expire(&mut self, now: Instant) -> (Vec<Expired<W>>, Stopped) {
        let mut expired = Vec::new();
        let mut stopped = Vec::new();
        while let Some(due) = self.flights.due(now) {
            let ticket = match due {
                Due::Waiter(ticket) => ticket,
                Due::Nobody(flight) => {
                    self.flights.forsake(flight);
                    stopped.extend(self.tidy(flight));
                    continue;
                }
            };
            let Some(Left { waiter, name, relief }) = self.flights.leave(ticket) else { break };
            if relief {
                self.stats.answered += 1;
            } else {
                self.stats.timed_out += 1;
            }
            let since = self.flights.calls(ticket.flight).map(|(_, since)| since).max();
            let shared = self.flights.is_shared(ticket.flight);
            if relief && !self.closed {
                self.keep_for_nobody(ticket.flight, now);
            }
            stopped.extend(self.tidy(ticket.flight));
            expired.push(Expired { waiter, name, since, shared, relief });
        }
        self.demote_stopped(&stopped, now);
        (expired, stopped)
    }

    /// What those who waited make do without is still what they asked for.
    fn keep_for_nobody(&mut self, flight: FlightId, now: Instant) {
        let Some(since) = self.flights.sought_since(flight).filter(|_| self.flights.is_deserted(flight)) else {
            return;
        };
        if !self.flights.is_queued(flight) {
            self.flights.keep(flight);
            self.limit_for_nobody(flight, now);
        } else if self.has_room(Lane::Refresh) {
            self.flights.dequeue(flight);
            self.enqueue_for_nobody(flight, since, now);
        }
    }

    fn enqueue_for_nobody(&mut self, flight: FlightId, since: Instant, now: Instant) {
        self.flights.enqueue(flight, since, Lane::Refresh);
        // A call that it has already may hang, and have what this one waits for.
        if self.flights.calls(flight).next().is_some() {
            self.limit_for_nobody(flight, now);
        }
    }

    /// Has a call that runs for nobody stopped in its time, if it can be. Nobody else's deadline would see to it.
    fn limit_for_nobody(&mut self, flight: FlightId, now: Instant) {
        let limit = self.limits.timeout.and_then(|timeout| now.checked_add(timeout));
        if let Some(limit) = limit.filter(|_| self.limits.execution == Execution::Async) {
            self.flights.limit(flight, limit);
        }
    }

    /// Has the timekeeper come at `alarm`, and not in vain for an earlier one that is no longer wanted.
    pub(crate) fn set_alarm(&mut self, alarm: Option<Instant>) -> Rouse {
        self.alarm = alarm;
        Rouse { timekeeper: self.rouse_timekeeper(), worker: None }
    }

    /// Admission stops; what is outstanding goes on, and threads leave as soon as they have nothing to do.
    pub(crate) fn close(&mut self) -> Closing {
        // First to go is what nobody waits for.
        let mut stopped = Vec::new();
        for flight in self.flights.all_for_nobody() {
            if self.flights.is_deserted(flight) {
                self.flights.dequeue(flight);
                stopped.extend(self.stop_calls(flight));
                self.flights.remove_if_over(flight);
            }
        }
        self.closed = true;
        Closing { idle: self.crew.dismiss_idle(), timekeeper: self.rouse_timekeeper(), stopped }
    }

    /// Cancels what is queued and has not begun; gives those who waited for it.
    #[must_use]
    pub(crate) fn abort_queued(&mut self) -> Vec<W> {
        let mut waiters = Vec::new();
        for flight in self.flights.all_queued() {
            self.dequeue(flight);
            // Those who have a call that hangs wait on for that.
            if self.flights.calls(flight).next().is_none() {
                waiters.extend(self.flights.take_waiters(flight));
                self.flights.remove_if_over(flight);
            }
        }
        waiters
    }

    /// Nobody waits any longer, for what is queued or for what runs.
    pub(crate) fn give_up(&mut self, now: Instant) -> GivenUp<W> {
        let mut waiters = self.abort_queued();
        let abandoned = self.calls.outstanding(now);
        self.stats.abandoned += self.calls.abandon() as u64;
        let mut stopped = Vec::new();
        for flight in self.calls.flights() {
            waiters.extend(self.flights.take_waiters(flight));
            stopped.extend(self.stop_calls(flight));
            self.flights.remove_if_over(flight);
        }
        GivenUp { waiters, abandoned, stopped }
    }

    /// Nothing is in progress, and there is no worker.
    pub(crate) fn is_idle(&self) -> bool {
        self.crew.is_empty() && self.flights.is_empty()
    }

    /// Nothing will ever be in progress again, and there is no thread.
    pub(crate) fn is_drained(&self) -> bool {
        self.closed && self.is_idle() && self.crew.is_timekeeper_absent()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn stats(&self, now: Instant) -> Stats {
        let mut stats = self.stats.clone();
        stats.queued = [Lane::Known, Lane::New, Lane::Refresh].map(|lane| self.flights.queued(lane)).iter().sum();
        (stats.running, stats.running_long) = self.calls.count_running(now, Duration::from_secs(1));
        (stats.threads, stats.idle_threads) = self.crew.count();
        if self.limits.execution == Execution::Async {
            // The driver's, which idles if its last worker does.
            let is_idle = stats.threads == stats.idle_threads;
            stats.threads = stats.threads.min(1);
            stats.idle_threads = if is_idle { stats.threads } else { 0 };
        }
        stats
    }

    /// The lanes whose heads a worker may take now: that of the known names first, and the others only onto threads that are
    /// not kept for them. With each, from when on a thread may be started for its head.
    fn open_lanes(&self) -> impl Iterator<Item = (Lane, Instant)> + use<W> {
        let open = [Lane::Known, Lane::New, Lane::Refresh].map(|lane| {
            let head = self.flights.head(lane).filter(|_| self.calls_of(lane) < self.threads_for(lane))?;
            // A task is cheap.
            let is_async = self.limits.execution == Execution::Async;
            Some((lane, if is_async { head } else { self.calls.start_from(caller(lane), head) }))
        });
        open.into_iter().flatten()
    }

    fn rouse_worker(&mut self, now: Instant) -> Option<RouseWorker> {
        self.open_lanes().find_map(|(_, from)| self.crew.rouse_worker(from, now))
    }

    fn rouse_timekeeper(&mut self) -> Option<RouseTimekeeper> {
        self.crew.rouse_timekeeper(self.next_tick(), self.alarm.is_some())
    }

    /// When the timekeeper has to look again.
    fn next_tick(&self) -> Option<Instant> {
        let start = self.open_lanes().filter_map(|(_, from)| self.crew.next_start(from)).min();
        let others = [self.next_stuck(), self.flights.first_deadline(), self.crew.next_dismissal(), self.alarm];
        start.into_iter().chain(others.into_iter().flatten()).min()
    }

    fn rouse(&mut self, now: Instant) -> Rouse {
        let worker = self.rouse_worker(now);
        Rouse { timekeeper: self.rouse_timekeeper(), worker }
    }
}

/// As what the calls of a lane count: a refresh that hangs is no better than a new name that does.
fn caller(lane: Lane) -> Lane {
    if lane == Lane::Refresh { Lane::New } else { lane }
}
