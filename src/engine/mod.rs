//! The state of everything in progress, as a plain struct without a thread, clock, lock or I/O of its own.
//!
//! Each input is a method. It takes the time, and returns what the shell does next, in a type of its own. Waiters are moved out
//! and never dropped here: the engine runs under a lock, and waiters hold foreign values. The time may run backwards from one
//! input to the next, because it is read before the lock is taken. An earlier time than the latest one counts as the latest.

mod calls;
mod closing;
mod crew;
mod flights;
mod hedging;
mod known;
mod landing;
mod outcomes;
mod parking;
mod slab;
mod waiters;
mod watches;
mod zones;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::DefaultHashBuilder;

pub(crate) use self::crew::{Rouse, RouseTimekeeper, RouseWorker, WorkerId};
pub(crate) use self::flights::Ticket;
pub use self::hedging::Hedge;
pub(crate) use self::outcomes::{
    Alarm, Asked, Batch, Expired, Finished, Landed, Leaving, News, Next, Stopped, Swept, Telling, Tick,
};
pub(crate) use self::watches::{Schedule, WatchId};

use self::calls::{Beginning, Calls, End, Share};
use self::crew::Crew;
use self::flights::{Deadline, FlightId, Flights, Hashed, Lane, Left, Taken};
use self::hedging::Hedging;
use self::known::Known;
use self::watches::Watches;
use crate::error::ErrorKind;
use crate::name::Name;
use crate::stats::Stats;
use crate::sync::Instant;

/// Maximum number of waiters or flights that one input takes, so that more of them do not keep the lock for longer. The shell
/// comes again for the rest.
const BATCH: usize = if cfg!(any(test, fuzzing)) { 3 } else { 64 };

/// The limits of an engine: bounds and durations.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) execution: Execution,
    /// Maximum number of concurrent calls, and so of workers.
    pub(crate) max_calls: usize,
    /// Number of these reserved for known names.
    pub(crate) reserved_for_known: usize,
    /// Maximum number of names in each lane when no more calls may run.
    pub(crate) max_queued: usize,
    pub(crate) thread_keep_alive: Duration,
    pub(crate) timeout: Option<Duration>,
    /// How long a caller with an old answer to fall back on waits, if that is less than the timeout.
    pub(crate) patience: Duration,
    pub(crate) hedge: Hedge,
    pub(crate) schedule: Schedule,
}

/// How workers and calls run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Execution {
    /// A worker is a thread. Its call blocks the thread, and nothing can stop it.
    Blocking,
    /// A worker is a task on the driver's thread. Its call is a future, which is dropped when nobody waits for it any more.
    /// More calls need no more threads. The driver stays while there is a worker, so the last worker idles.
    Async,
}

/// Flights with their lanes and deadlines, calls, workers, the timekeeper, and known names.
///
/// `W` is a waiter on a flight. The engine keeps it, returns it, and never looks inside.
#[derive(Debug)]
pub(crate) struct Engine<W> {
    limits: Limits,
    hasher: DefaultHashBuilder,
    /// The latest time of an input.
    latest: Instant,
    flights: Flights<W>,
    calls: Calls,
    crew: Crew,
    known: Known,
    hedging: Hedging,
    watches: Watches,
    closed: bool,
    /// The alarm that the shell has set for the timekeeper.
    alarm: Alarm,
    /// Flights that a shutdown has given up on, until their waiters are taken out.
    given_up: Vec<FlightId>,
    stats: Stats,
    tally: Tally,
}

/// How lookups have ended that were outstanding when the engine was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Number of calls that ran to their end.
    pub(crate) finished: usize,
    /// Number of queued lookups that never ran, and of calls that were stopped.
    pub(crate) cancelled: usize,
}

impl<W> Engine<W> {
    /// `now` is the time before the first input.
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            latest: now,
            flights: Flights::new(limits.max_calls.saturating_sub(limits.reserved_for_known)),
            calls: Calls::new(),
            crew: Crew::new(limits.execution, limits.max_calls, limits.thread_keep_alive),
            known: Known::default(),
            hedging: Hedging::new(limits.hedge, limits.max_calls),
            watches: Watches::new(limits.schedule),
            closed: false,
            alarm: Alarm::Unset,
            given_up: Vec::new(),
            stats: Stats::default(),
            tally: Tally::default(),
            limits,
        }
    }

    /// Returns the time of an input: `now`, or that of an earlier input if that is later.
    fn at(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn hashed<'a>(&self, name: &'a Name) -> Hashed<'a> {
        Hashed { name, hash: self.hasher.hash_one(name) }
    }

    /// Adds a caller of `name` to the flight in progress, or queues a new flight at the end of its lane. A caller with an old
    /// answer to fall back on has `relief`.
    pub(crate) fn ask(&mut self, now: Instant, name: &Name, waiter: W, relief: bool) -> Asked<W> {
        let now = self.at(now);
        self.settle(now);
        let name = self.hashed(name);
        let why = match self.admit(now, name) {
            Ok((flight, lane)) => {
                let patience = relief.then_some(self.limits.patience);
                let wait = [patience, self.limits.timeout].into_iter().flatten().min();
                let deadline = wait.and_then(|wait| now.checked_add(wait)).map(|at| Deadline { at, relief });
                self.stats.started += 1;
                let flight = flight.unwrap_or_else(|| self.flights.begin(name));
                let (ticket, joined) = self.flights.join(flight, waiter, deadline);
                self.stats.shared += u64::from(joined);
                match lane {
                    Some(lane) => self.enqueue(flight, now, lane, now),
                    None => self.reconsider(flight, now),
                }
                return Asked::Waits { ticket, rouse: self.rouse_at(now) };
            }
            Err(why) => why,
        };
        self.stats.refused += 1;
        Asked::Refused { waiter, why }
    }

    /// Returns the flight for another caller of `name`, if there is one, and the lane in which a call must be queued. The flight
    /// in progress is enough if that is `None`.
    fn admit(&mut self, now: Instant, name: Hashed<'_>) -> Result<(Option<FlightId>, Option<Lane>), ErrorKind> {
        if self.closed {
            return Err(ErrorKind::Closed);
        }
        let Some(flight) = self.flights.find(name) else {
            let lane = self.lane_of(name.hash);
            return if self.has_room(lane, name.name, None, now) {
                Ok((None, Some(lane)))
            } else {
                Err(ErrorKind::Overloaded)
            };
        };
        // A queued refresh becomes the caller's lookup, if the lane for that has room.
        if self.flights.lane(flight) == Some(Lane::Refresh) {
            let lane = self.lane_of(name.hash);
            let promoted = self.has_room(lane, name.name, Some(flight), now) && self.flights.dequeue(flight);
            return Ok((Some(flight), promoted.then_some(lane)));
        }
        if self.is_coming(flight, now) {
            return Ok((Some(flight), None));
        }
        self.demote_stuck(now);
        let lane = self.lane_of(name.hash);
        // Joining is never refused. If the lane is full, the caller waits for the call that is running.
        Ok((Some(flight), self.has_room(lane, name.name, Some(flight), now).then_some(lane)))
    }

    /// Returns whether a flight needs no other call. A call that has run for longer than the timeout is stuck: its name gets a
    /// second call, but no third.
    fn is_coming(&self, flight: FlightId, now: Instant) -> bool {
        self.flights.is_queued(flight)
            || self.flights.has_call_younger_than(flight, now, self.limits.timeout)
            || self.flights.calls(flight).count() >= 2
    }

    fn lane_of(&self, hash: u64) -> Lane {
        if self.known.contains(hash) { Lane::Known } else { Lane::New }
    }

    /// Returns the maximum number of workers for the calls of a share.
    fn max_workers_for(&self, share: Share) -> usize {
        match share {
            Share::Known => self.limits.max_calls,
            Share::Other => self.limits.max_calls.saturating_sub(self.limits.reserved_for_known),
        }
    }

    /// Demotes known names with a call that has run for longer than the timeout. They become new names, and the call moves to
    /// the other share. The age of the call decides, because its callers may have left before their deadlines.
    fn demote_stuck(&mut self, now: Instant) {
        while self.next_stuck().is_some_and(|at| at <= now) {
            if let Some(hash) = self.calls.demote_oldest_known() {
                self.known.remove(hash);
            }
            self.count_zones(now);
        }
    }

    /// Returns when the oldest call for a known name will have run for longer than the timeout.
    fn next_stuck(&self) -> Option<Instant> {
        self.calls.oldest_known()?.checked_add(self.limits.timeout?)?.checked_add(Duration::from_nanos(1))
    }

    /// Removes the waiter of a caller that leaves, whatever has become of its flight. A queued flight without waiters goes too,
    /// unless it is a background refresh.
    pub(crate) fn leave(&mut self, ticket: Ticket, now: Instant) -> Leaving<W> {
        let Some(Left { waiter, .. }) = self.flights.leave(ticket) else {
            return Leaving { waiter: None, stopped: Vec::new(), timekeeper: None };
        };
        self.stats.cancelled += 1;
        let now = self.at(now);
        let stopped = self.tidy(ticket.flight);
        self.demote_stopped(&stopped, now);
        Leaving { waiter: Some(waiter), stopped, timekeeper: self.dismiss_timekeeper() }
    }

    /// Demotes known names whose calls hung and were stopped before they counted as stuck. Otherwise names that never answer
    /// could hold the workers reserved for known names, one short call after another.
    fn demote_stopped(&mut self, stopped: &Stopped, now: Instant) {
        for &worker in stopped {
            if let Some(hash) = self.calls.hung_known(worker, now) {
                self.known.remove(hash);
            }
        }
    }

    /// Queues a background lookup of `name`, in the lane that is served last, unless a call is coming already. Returns `None`
    /// if there is no room, or the engine is closed.
    pub(crate) fn refresh(&mut self, now: Instant, name: &Name) -> Option<Rouse> {
        let now = self.at(now);
        self.settle(now);
        self.seek_in_background(self.hashed(name), now).then(|| self.rouse_at(now))
    }

    /// Queues a background lookup, unless a call is coming already. Returns whether there was room.
    fn seek_in_background(&mut self, name: Hashed<'_>, now: Instant) -> bool {
        let flight = self.flights.find(name);
        if self.closed || !self.has_room(Lane::Refresh, name.name, flight, now) {
            return false;
        }
        let flight = flight.unwrap_or_else(|| self.flights.begin(name));
        if !self.is_coming(flight, now) {
            self.stats.refreshed += 1;
            self.enqueue_in_background(flight, now, now);
        }
        true
    }

    /// Returns whether a lookup of `name` has been in progress for longer than a caller with an old answer waits.
    pub(crate) fn is_slow(&self, now: Instant, name: &Name) -> bool {
        let since = self.flights.find(self.hashed(name)).and_then(|flight| self.flights.sought_since(flight));
        since.is_some_and(|since| now.is_after(since, self.limits.patience))
    }

    /// Ends a flight without waiters, unless it goes on in the background. Dequeues it, stops its calls if they can be stopped,
    /// and removes it once nothing of it is left.
    fn tidy(&mut self, flight: FlightId) -> Stopped {
        let mut stopped = Vec::new();
        if !self.flights.is_deserted(flight) {
            return stopped;
        }
        let watch = self.watch_on(flight);
        if self.closed || !self.flights.is_background(flight) {
            self.dequeue(flight);
            stopped = self.stop_calls(flight);
        }
        self.flights.remove_if_over(flight);
        self.lose(flight, watch, None);
        stopped
    }

    /// Stops the calls of a flight whose results are no longer wanted, if they can be stopped.
    fn stop_calls(&mut self, flight: FlightId) -> Stopped {
        if self.limits.execution == Execution::Blocking {
            return Vec::new();
        }
        let stopped: Stopped = self.flights.calls(flight).map(|(worker, _)| worker).collect();
        for &worker in &stopped {
            self.flights.end_call(flight, worker, false);
            self.calls.stop(worker, &mut self.flights.zones, self.latest);
        }
        stopped
    }

    fn dequeue(&mut self, flight: FlightId) {
        let was_queued = self.flights.dequeue(flight);
        self.tally.cancelled += usize::from(self.closed && was_queued);
    }

    /// Returns what a worker does next, after it has started or is done with its last call.
    pub(crate) fn take(&mut self, worker: WorkerId, now: Instant) -> Next {
        self.crew.arrive(worker);
        self.end_call(worker);
        let now = self.at(now);
        self.next(worker, now)
    }

    /// Returns what a worker does next, after it was told to sleep and has woken, for whatever reason.
    pub(crate) fn woke(&mut self, worker: WorkerId, now: Instant) -> Next {
        if self.crew.arrive(worker) || !self.crew.is_idle(worker) {
            let now = self.at(now);
            return self.next(worker, now);
        }
        Next::Sleep { rouse: Rouse::default() }
    }

    /// Ends a worker after its call, because libc's state in its thread may be broken.
    pub(crate) fn retire(&mut self, worker: WorkerId, now: Instant) -> Rouse {
        self.end_call(worker);
        self.crew.leave(worker);
        self.rouse(now)
    }

    /// Removes a worker whose thread or task has ended, after it has left or because it panicked. Must be followed by
    /// [`rouse`](Self::rouse).
    pub(crate) fn forget(&mut self, worker: WorkerId) {
        if !self.crew.forget(worker) {
            self.end_call(worker);
        }
    }

    /// Removes the sleeping workers, because the driver has ended while it had workers. The others must have been
    /// [forgotten](Self::forget) before.
    #[cfg(feature = "async-backend")]
    pub(crate) fn driver_lost(&mut self, now: Instant) -> Rouse {
        self.crew.forget_idle();
        self.rouse(now)
    }

    /// Ends the call of a worker. A thread's call is outstanding until here, so that its replies are sent and everything that
    /// they drop is dropped.
    fn end_call(&mut self, worker: WorkerId) {
        match self.calls.end(worker, &mut self.flights.zones, self.latest).filter(|_| self.closed) {
            Some(End::Finished) => self.tally.finished += 1,
            Some(End::Stopped) => self.tally.cancelled += 1,
            None => {}
        }
    }

    /// Returns whether the call of `worker` must be dropped.
    #[cfg_attr(not(any(test, fuzzing, feature = "async-backend")), expect(dead_code, reason = "there is no driver"))]
    pub(crate) fn is_stopped(&self, worker: WorkerId) -> bool {
        self.calls.is_stopped(worker)
    }

    /// Returns whether there is no worker, and none on the way.
    #[cfg_attr(not(any(test, fuzzing, feature = "async-backend")), expect(dead_code, reason = "there is no driver"))]
    pub(crate) fn has_no_worker(&self) -> bool {
        self.crew.is_empty()
    }

    fn next(&mut self, worker: WorkerId, now: Instant) -> Next {
        let more = self.settle(now);
        self.hedge(now, true);
        let head = |lane| Some((lane, self.open_head(lane)?.0));
        let head = if self.flights.are_queued() { Lane::ALL.into_iter().find_map(head) } else { None };
        if more && head.is_none_or(|(lane, _)| lane != Lane::Known) {
            return Next::Again;
        }
        let is_dismissed = self.crew.is_dismissed(worker);
        let Some(name) = head.and_then(|(_, flight)| self.begin(worker, flight, now)) else {
            let is_spare = self.limits.execution == Execution::Async && !self.crew.is_last();
            if self.closed || is_dismissed || is_spare {
                self.crew.leave(worker);
                return Next::Leave { rouse: self.rouse_at(now) };
            }
            return Next::Sleep { rouse: Rouse { timekeeper: self.crew.idle(worker, now), worker: None } };
        };
        Next::Call { name, rouse: self.rouse_at(now) }
    }

    /// Begins a call of `worker` for a queued flight, and returns the name.
    fn begin(&mut self, worker: WorkerId, flight: FlightId, now: Instant) -> Option<Name> {
        let lane = self.flights.lane(flight)?;
        let share = Share::of(lane);
        // Counted before the name leaves its zone's queue, which the zone may not outlast.
        let parked = self.flights.name(flight).filter(|_| self.flights.is_parked(flight) && share == Share::Other);
        let zone = parked.map(|name| self.zone_of(name)).map(|zone| self.flights.zones.begin(zone));
        let Taken { name, hash, is_second, is_hedge } = self.flights.take(flight, worker, now)?;
        self.stats.hedged += u64::from(is_hedge);
        let beginning = Beginning { share, zone, is_second, is_hedge };
        self.calls.begin(worker, flight, Hashed { name: &name, hash }, beginning, now);
        if lane == Lane::Refresh {
            self.limit_background(flight, now);
        }
        Some(name)
    }

    /// Returns the waiters on the call of `worker`, the one that has waited longest first.
    pub(crate) fn waiters(&self, worker: WorkerId) -> impl Iterator<Item = &W> {
        self.calls.flight(worker).into_iter().flat_map(|flight| self.flights.waiters(flight))
    }

    /// Counts the result that a waiter gets after it was taken out.
    pub(crate) fn count(&mut self, result: Result<(), ErrorKind>) {
        match result {
            Ok(()) => self.stats.answered += 1,
            Err(kind) => self.stats.fail(kind, 1),
        }
    }

    /// Removes the worker that was to be started, because the operating system refused it. If other workers are alive, they
    /// take the queue, and a later tick tries again. If not, [`strand`](Self::strand) must empty the queue before anybody is
    /// roused.
    pub(crate) fn worker_refused(&mut self, now: Instant) {
        let now = self.at(now);
        self.crew.worker_refused(now);
    }

    /// Removes the timekeeper, because the operating system refused it, and the worker that was `untried` because of that.
    /// [`strand`](Self::strand) must then empty the queue.
    pub(crate) fn timekeeper_refused(&mut self, untried: Option<WorkerId>) {
        self.crew.timekeeper_refused(untried);
        self.alarm = Alarm::Unset;
    }

    /// Removes the timekeeper, because it has ended without being told to leave.
    pub(crate) fn timekeeper_lost(&mut self) {
        self.crew.timekeeper_left();
    }

    /// Returns what the timekeeper does next, after it has started or woken.
    pub(crate) fn tick(&mut self, now: Instant) -> Tick<W> {
        let now = self.at(now);
        self.demote_stuck(now);
        let (expired, stopped) = self.expire(now);
        let may_leave = self.may_leave();
        if may_leave && expired.is_empty() && stopped.is_empty() {
            self.crew.timekeeper_left();
            return Tick::Leave;
        }
        self.settle(now);
        // After all deadlines, which may end the flights that watches wait for.
        let unheard = if self.flights.due(now).is_none() { self.seek_due(now) } else { Vec::new() };
        self.hedge(now, false);
        let worker = self.rouse_worker(now);
        let idle = self.crew.dismiss_tired(now);
        let until = if may_leave { Some(now) } else { self.next_tick() };
        self.crew.timekeeper_sleeps(until);
        Tick::Sleep { expired, unheard, rouse: Rouse { timekeeper: None, worker }, stopped, idle, until }
    }

    /// Makes the timekeeper stay for `alarm`, or come at its time. Replaces the previous alarm.
    pub(crate) fn set_alarm(&mut self, alarm: Alarm) -> Option<RouseTimekeeper> {
        self.alarm = alarm;
        self.rouse_timekeeper()
    }

    /// Returns whether nothing is in progress and there is no worker. There may be a timekeeper.
    pub(crate) fn is_idle(&self) -> bool {
        self.crew.is_empty() && self.flights.is_empty()
    }

    /// Returns whether there is a timekeeper, or one is on the way.
    pub(crate) fn has_timekeeper(&self) -> bool {
        !self.crew.is_timekeeper_absent()
    }

    fn may_leave(&self) -> bool {
        self.is_idle() && self.watches.first_due().is_none() && self.alarm == Alarm::Unset
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn stats(&self, now: Instant) -> Stats {
        let mut stats = self.stats.clone();
        let lanes: usize = Lane::ALL.into_iter().map(|lane| self.flights.queued(lane)).sum();
        stats.queued = lanes + self.flights.zones.parked();
        stats.running = self.calls.running();
        stats.running_long = self.calls.running_long(now, Duration::from_secs(1));
        (stats.threads, stats.idle_threads) = self.crew.count();
        if self.limits.execution == Execution::Async {
            // The driver is the only thread. It idles if its last worker does.
            let is_idle = stats.threads == stats.idle_threads;
            stats.threads = stats.threads.min(1);
            stats.idle_threads = if is_idle { stats.threads } else { 0 };
        }
        stats
    }

    /// Returns the head of `lane`, and since when it has been waiting. Returns `None` if the lane is empty, or the calls of its
    /// share have the maximum number of workers.
    #[inline]
    fn open_head(&self, lane: Lane) -> Option<(FlightId, Instant)> {
        let head = self.flights.head(lane, self.latest)?;
        let share = Share::of(lane);
        (self.calls.workers_in(share) < self.max_workers_for(share)).then_some(head)
    }

    /// Returns from when on a worker may be started for the [head](Self::open_head) of `lane`.
    fn open_from(&self, lane: Lane) -> Option<Instant> {
        let (_, head) = self.open_head(lane)?;
        // Tasks are cheap, so nothing is gained by waiting.
        let is_async = self.limits.execution == Execution::Async;
        Some(if is_async { head } else { self.calls.start_from(Share::of(lane), head) })
    }

    fn rouse_worker(&mut self, now: Instant) -> Option<RouseWorker> {
        if !self.flights.are_queued() {
            return None;
        }
        Lane::ALL.into_iter().find_map(|lane| self.crew.rouse_worker(self.open_from(lane)?, now))
    }

    fn rouse_timekeeper(&mut self) -> Option<RouseTimekeeper> {
        // It looks for itself before it sleeps.
        if self.crew.is_timekeeper_awake() {
            return None;
        }
        self.crew.rouse_timekeeper(self.next_tick(), !self.may_leave())
    }

    /// Makes the timekeeper leave if nothing is in progress any more, or come for a watch that is due.
    fn dismiss_timekeeper(&mut self) -> Option<RouseTimekeeper> {
        if self.may_leave() { self.crew.rouse_timekeeper(None, false) } else { self.tend_watches() }
    }

    /// Returns when the timekeeper must come next.
    fn next_tick(&self) -> Option<Instant> {
        let due = [
            self.next_start(),
            self.flights.first_deadline(),
            self.next_stuck(),
            self.next_hedge(),
            self.crew.next_dismissal(),
            self.alarm.at(),
            self.watches.first_due(),
        ];
        due.into_iter().fold(None, Instant::earlier)
    }

    /// Returns when a worker must be started for the head of a lane, unless another takes it before.
    fn next_start(&self) -> Option<Instant> {
        // Mostly one is on the way.
        if !self.flights.are_queued() || !self.crew.is_busy() {
            return None;
        }
        let start = |lane| self.crew.start_at(self.open_from(lane)?);
        Lane::ALL.into_iter().map(start).fold(None, Instant::earlier)
    }

    /// Picks the worker and the timekeeper to start or wake for the work there is.
    pub(crate) fn rouse(&mut self, now: Instant) -> Rouse {
        let now = self.at(now);
        self.rouse_at(now)
    }

    fn rouse_at(&mut self, now: Instant) -> Rouse {
        self.settle(now);
        self.hedge(now, false);
        let worker = self.rouse_worker(now);
        Rouse { timekeeper: self.rouse_timekeeper(), worker }
    }
}
