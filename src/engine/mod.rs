//! The state of everything in progress, as a plain struct: no thread, clock, lock or I/O of its own.
//!
//! Each input is a method that takes the time and returns, as its own type, what the shell is to do. Waiters are moved out
//! and never dropped in here, since the engine runs under a lock and what a waiter holds is foreign. The time may run
//! backwards from one input to the next: it is read before the lock is taken.

mod calls;
mod closing;
mod crew;
mod flights;
mod known;
mod landing;
mod outcomes;
mod waiters;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use std::time::{Duration, Instant};

pub(crate) use self::crew::{Rouse, RouseTimekeeper, RouseWorker, WorkerId};
pub(crate) use self::flights::Ticket;
pub(crate) use self::outcomes::{Alarm, Asked, Batch, Expired, Landed, Leaving, Next, Stopped, Telling, Tick};

use self::calls::{Calls, End, Share};
use self::crew::Crew;
use self::flights::{Deadline, FlightId, Flights, Lane, Left};
use self::known::Known;
use crate::error::ErrorKind;
use crate::name::Name;
use crate::stats::Stats;

/// How many waiters or flights one input takes at the most: the lock that the engine is under is held no longer for more of
/// them. The shell comes again for the rest.
const BATCH: usize = if cfg!(any(test, fuzzing)) { 3 } else { 64 };

/// What is bounded, and how long things may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) execution: Execution,
    /// Calls at once, and so workers.
    pub(crate) max_calls: usize,
    /// Of these, the ones that are for known names alone.
    pub(crate) reserved_for_known: usize,
    /// Names in each lane.
    pub(crate) max_queued: usize,
    pub(crate) thread_keep_alive: Duration,
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
    /// What the timekeeper has to do that is not the engine's.
    alarm: Alarm,
    /// Flights whose waiters a shutdown has given up on.
    given_up: Vec<FlightId>,
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
            crew: Crew::new(limits.execution, limits.max_calls, limits.thread_keep_alive),
            known: Known::default(),
            closed: false,
            alarm: Alarm::Unset,
            given_up: Vec::new(),
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

    /// Whether a lane takes one more: as many as may wait, and as many as may run beside the calls that do. A call that has
    /// its result does not, though its thread may still be telling those who waited for it.
    fn has_room(&self, lane: Lane) -> bool {
        let share = Share::of(lane);
        let theirs = self.max_workers_for(share).saturating_sub(self.calls.running_in(share));
        let free = theirs.min(self.limits.max_calls.saturating_sub(self.calls.running()));
        self.flights.queued(lane) < self.limits.max_queued.saturating_add(free)
    }

    /// Number of workers that the calls of a share may have.
    fn max_workers_for(&self, share: Share) -> usize {
        match share {
            Share::Known => self.limits.max_calls,
            Share::Other => self.limits.max_calls.saturating_sub(self.limits.reserved_for_known),
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
            return Leaving { waiter: None, stopped: Vec::new(), timekeeper: None };
        };
        self.stats.cancelled += 1;
        let stopped = self.tidy(ticket.flight);
        self.demote_stopped(&stopped, now);
        Leaving { waiter: Some(waiter), stopped, timekeeper: self.dismiss_timekeeper() }
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
            self.enqueue_in_background(flight, now, now);
        }
        Some(self.rouse(now))
    }

    /// Whether a lookup of `name` has been on its way for as long as `patience`.
    pub(crate) fn is_slow(&self, now: Instant, name: &Name, patience: Duration) -> bool {
        let since = self.flights.find(name).and_then(|flight| self.flights.sought_since(flight));
        since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }

    /// Drops what a flight has no need of once everyone has left it, unless it goes on in the background: its place in the
    /// queue, calls that can be stopped, and itself.
    fn tidy(&mut self, flight: FlightId) -> Stopped {
        let mut stopped = Vec::new();
        if !self.flights.is_deserted(flight) {
            return stopped;
        }
        if self.closed || !self.flights.is_background(flight) {
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
            self.flights.end_call(flight, worker, false);
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
        self.crew.leave(worker);
        self.rouse(now)
    }

    /// The thread of a worker has ended, or its task: after it has left, or because it panicked. To be followed by
    /// [`rouse`](Self::rouse).
    pub(crate) fn forget(&mut self, worker: WorkerId) {
        if !self.crew.forget(worker) {
            self.end_call(worker);
        }
    }

    /// The driver has ended, and not for want of workers: those that sleep are no more, as are those that were
    /// [forgotten](Self::forget).
    #[cfg(feature = "async-backend")]
    pub(crate) fn driver_lost(&mut self, now: Instant) -> Rouse {
        self.crew.forget_all();
        self.rouse(now)
    }

    /// A thread's call is outstanding until here, so that the replies and all that they drop are done.
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
        let lane = Lane::ALL.into_iter().find(|&lane| self.open_from(lane).is_some());
        let popped = lane.and_then(|lane| Some((lane, self.flights.pop(lane, worker, now)?)));
        let Some((lane, (flight, name))) = popped else {
            let is_spare = self.limits.execution == Execution::Async && !self.crew.is_last();
            if self.closed || is_dismissed || is_spare {
                self.crew.leave(worker);
                return Next::Leave { rouse: self.rouse(now) };
            }
            return Next::Sleep { rouse: Rouse { timekeeper: self.crew.idle(worker, now), worker: None } };
        };
        self.calls.begin(worker, flight, name.clone(), Share::of(lane), now);
        if lane == Lane::Refresh {
            self.limit_background(flight, now);
        }
        Next::Call { name, rouse: self.rouse(now) }
    }

    /// Those who wait for the call of `worker`, the one that has waited longest first.
    pub(crate) fn waiters(&self, worker: WorkerId) -> impl Iterator<Item = &W> {
        self.calls.flight(worker).into_iter().flat_map(|flight| self.flights.waiters(flight))
    }

    /// A waiter that was given out gets addresses, or a failure.
    pub(crate) fn count(&mut self, result: Result<(), ErrorKind>) {
        match result {
            Ok(()) => self.stats.answered += 1,
            Err(kind) => self.stats.fail(kind, 1),
        }
    }

    /// The operating system refused the worker that was to be started. With others alive the queue is left to them, and to
    /// another try at a later tick; without, to [`strand`](Self::strand), before anybody is roused.
    pub(crate) fn worker_refused(&mut self, now: Instant) {
        self.crew.worker_refused(now);
    }

    /// The operating system refused the timekeeper, and the worker that was to be started after it, if there was one, was
    /// not tried. The queue is left to [`strand`](Self::strand).
    pub(crate) fn timekeeper_refused(&mut self, untried: Option<WorkerId>) {
        self.crew.timekeeper_refused(untried);
        self.alarm = Alarm::Unset;
    }

    /// The timekeeper has ended, and not because it was told to leave.
    pub(crate) fn timekeeper_lost(&mut self) {
        self.crew.timekeeper_left();
    }

    /// The timekeeper has started or woken.
    pub(crate) fn tick(&mut self, now: Instant) -> Tick<W> {
        self.demote_stuck(now);
        let (expired, stopped) = self.expire(now);
        let may_leave = self.may_leave();
        if may_leave && expired.is_empty() && stopped.is_empty() {
            self.crew.timekeeper_left();
            return Tick::Leave;
        }
        let worker = self.rouse_worker(now);
        let idle = self.crew.dismiss_tired(now);
        let until = if may_leave { Some(now) } else { self.next_tick() };
        self.crew.timekeeper_sleeps(until);
        Tick::Sleep { expired, rouse: Rouse { timekeeper: None, worker }, stopped, idle, until }
    }

    /// Has the timekeeper stay for `alarm`, or come at that, and not in vain for an earlier one that is no longer wanted.
    pub(crate) fn set_alarm(&mut self, alarm: Alarm) -> Option<RouseTimekeeper> {
        self.alarm = alarm;
        self.rouse_timekeeper()
    }

    /// Returns whether nothing is in progress and there is no worker. There may be a timekeeper.
    pub(crate) fn is_idle(&self) -> bool {
        self.crew.is_empty() && self.flights.is_empty()
    }

    /// Whether a timekeeper is there, or on the way.
    pub(crate) fn has_timekeeper(&self) -> bool {
        !self.crew.is_timekeeper_absent()
    }

    fn may_leave(&self) -> bool {
        self.is_idle() && self.alarm == Alarm::Unset
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn stats(&self, now: Instant) -> Stats {
        let mut stats = self.stats.clone();
        stats.queued = Lane::ALL.into_iter().map(|lane| self.flights.queued(lane)).sum();
        stats.running = self.calls.running();
        stats.running_long = self.calls.running_long(now, Duration::from_secs(1));
        (stats.threads, stats.idle_threads) = self.crew.count();
        if self.limits.execution == Execution::Async {
            // The driver's, which idles if its last worker does.
            let is_idle = stats.threads == stats.idle_threads;
            stats.threads = stats.threads.min(1);
            stats.idle_threads = if is_idle { stats.threads } else { 0 };
        }
        stats
    }

    /// Returns from when on a worker may be started for the head of `lane`: `None` if there is no head, or none may be taken now,
    /// because the calls of its share have all workers that they may have.
    fn open_from(&self, lane: Lane) -> Option<Instant> {
        let head = self.flights.head(lane)?;
        let share = Share::of(lane);
        if self.calls.workers_in(share) >= self.max_workers_for(share) {
            return None;
        }
        // A task is cheap.
        let is_async = self.limits.execution == Execution::Async;
        Some(if is_async { head } else { self.calls.start_from(share, head) })
    }

    fn rouse_worker(&mut self, now: Instant) -> Option<RouseWorker> {
        Lane::ALL.into_iter().find_map(|lane| self.crew.rouse_worker(self.open_from(lane)?, now))
    }

    fn rouse_timekeeper(&mut self) -> Option<RouseTimekeeper> {
        self.crew.rouse_timekeeper(self.next_tick(), !self.may_leave())
    }

    /// Has the timekeeper leave if that was the last thing in progress.
    fn dismiss_timekeeper(&mut self) -> Option<RouseTimekeeper> {
        if self.may_leave() { self.crew.rouse_timekeeper(None, false) } else { None }
    }

    /// When the timekeeper has to look again.
    fn next_tick(&self) -> Option<Instant> {
        let start = Lane::ALL.into_iter().filter_map(|lane| self.crew.next_start(self.open_from(lane)?)).min();
        let others = [self.next_stuck(), self.flights.first_deadline(), self.crew.next_dismissal(), self.alarm.at()];
        start.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Whom to start or wake for what there is.
    pub(crate) fn rouse(&mut self, now: Instant) -> Rouse {
        let worker = self.rouse_worker(now);
        Rouse { timekeeper: self.rouse_timekeeper(), worker }
    }
}
