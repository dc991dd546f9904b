use std::time::Duration;

use super::crew::WorkerId;
use super::flights::{FlightId, Hashed, Lane};
use super::slab::{List, Slab};
use super::zones::{ZoneId, Zones};
use crate::name::Name;
use crate::sync::Instant;

/// Number of calls of a share below which a name gets a thread at once if none is idle. More threads than this make most
/// lookups slower, because they outrun the DNS server.
const EAGER: usize = 64;

/// How long a call counts towards [`EAGER`]. One that has run for longer waits rather than works. If no call of a share has had
/// its result for this long, none counts.
const PATIENCE: Duration = Duration::from_millis(20);

/// The call of each worker, from when the worker takes a flight until it asks for the next. At most one for each.
#[derive(Debug)]
pub(super) struct Calls {
    /// Each at the key of its worker.
    calls: Slab<Call, 4>,
    shares: Shares,
    /// Running calls of new names that have run for [`LONG`], the oldest first.
    long: List<RUNNING>,
    /// Running calls of new names that are not counted in their zones.
    uncounted: List<ZONE>,
    /// Running calls that are not slow yet, the oldest first. Second calls are in neither of these lists.
    fresh: List<PACE>,
    /// Running calls that are slow and have no second call, the oldest first.
    slow: List<PACE>,
    /// Number of running calls that were made because another was slow.
    hedges: usize,
}

/// How long a call runs until it counts as one that may never end.
const LONG: Duration = Duration::from_secs(1);

/// Maximum number of calls that one input moves from one list to the next because time has passed.
const STEPS: usize = 64;

// The kinds of lists that a call may be in.
const BEGUN: usize = 0;
const RUNNING: usize = 1;
const PACE: usize = 2;
const ZONE: usize = 3;

/// The share of the workers that a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Known,
    /// New names and background refreshes. A refresh that hangs is no better than a new name that hangs.
    Other,
}

impl Share {
    pub(super) fn of(lane: Lane) -> Self {
        match lane {
            Lane::Known => Self::Known,
            Lane::New | Lane::Refresh => Self::Other,
        }
    }
}

/// The calls of each share.
#[derive(Debug, Default)]
struct Shares {
    known: InShare,
    other: InShare,
}

impl Shares {
    fn get(&self, share: Share) -> &InShare {
        match share {
            Share::Known => &self.known,
            Share::Other => &self.other,
        }
    }

    fn get_mut(&mut self, share: Share) -> &mut InShare {
        match share {
            Share::Known => &mut self.known,
            Share::Other => &mut self.other,
        }
    }
}

/// The calls of a share, the oldest first. A call that was demoted is first, whatever its age, which is more than the timeout.
#[derive(Debug, Default)]
struct InShare {
    /// All calls, until their workers are done with them.
    begun: List<BEGUN>,
    /// Of these, the calls that run: they have no result yet, and are not stopped. Those of new names that have run for
    /// long are in [`Calls::long`].
    running: List<RUNNING>,
    last_result: Option<Instant>,
}

#[derive(Debug)]
struct Call {
    flight: FlightId,
    name: Name,
    /// The hash of the name.
    hash: u64,
    since: Instant,
    share: Share,
    /// The zone of the name, if the call runs and is counted there.
    zone: Option<ZoneId>,
    is_long: bool,
    is_hedge: bool,
    pace: Pace,
    /// Set once the call has its result, and its worker tells the waiters, or once it is stopped.
    over: Option<End>,
    /// Whether it was counted as abandoned.
    abandoned: bool,
}

/// The list of paces that a call is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Fresh,
    Slow,
    /// In none: it is a second call, or it has one, or it does not run, or nobody waits for it.
    Neither,
}

/// What is known of a call at its end.
pub(super) struct Run {
    pub(super) flight: FlightId,
    /// The hash of its name.
    pub(super) hash: u64,
    pub(super) since: Instant,
    pub(super) is_hedge: bool,
}

/// How a call begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    pub(super) share: Share,
    /// The zone of a new name, if the call is counted there.
    pub(super) zone: Option<ZoneId>,
    /// Whether its flight has another call.
    pub(super) is_second: bool,
    /// Whether it is made because that is slow.
    pub(super) is_hedge: bool,
}

/// How a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    /// Its worker must drop it, or has done so.
    Stopped,
}

impl Calls {
    pub(super) fn new() -> Self {
        let (fresh, slow) = (List::default(), List::default());
        let (long, uncounted) = (List::default(), List::default());
        Self { calls: Slab::new(), shares: Shares::default(), long, uncounted, fresh, slow, hedges: 0 }
    }

    fn get(&self, worker: WorkerId) -> Option<&Call> {
        self.calls.get(worker.0)
    }

    pub(super) fn begin(&mut self, worker: WorkerId, flight: FlightId, name: Hashed<'_>, as_: Beginning, now: Instant) {
        let Hashed { name, hash } = name;
        let Beginning { share, zone, is_second, is_hedge } = as_;
        let pace = if is_second { Pace::Neither } else { Pace::Fresh };
        let (name, since, is_long, over, abandoned) = (name.clone(), now, false, None, false);
        let call = Call { flight, name, hash, since, share, zone, is_long, is_hedge, pace, over, abandoned };
        self.calls.put(worker.0, call);
        let in_share = self.shares.get_mut(share);
        in_share.begun.push_back(&mut self.calls, worker.0);
        in_share.running.push_back(&mut self.calls, worker.0);
        if share == Share::Other && zone.is_none() {
            self.uncounted.push_back(&mut self.calls, worker.0);
        }
        self.hedges += usize::from(is_hedge);
        if pace == Pace::Fresh {
            self.fresh.push_back(&mut self.calls, worker.0);
        }
    }

    /// Marks the call of `worker` as finished, because it has its result.
    pub(super) fn finish(&mut self, worker: WorkerId, zones: &mut Zones, now: Instant, answered: bool) -> Option<Run> {
        let call = self.get(worker).filter(|call| call.over.is_none())?;
        let Call { flight, hash, since, is_hedge, .. } = *call;
        self.shares.get_mut(call.share).last_result = Some(now);
        self.end_run(worker, zones, End::Finished, answered, now);
        Some(Run { flight, hash, since, is_hedge })
    }

    /// Marks the call of `worker` as stopped, so that it is dropped.
    pub(super) fn stop(&mut self, worker: WorkerId, zones: &mut Zones, now: Instant) {
        self.end_run(worker, zones, End::Stopped, false, now);
    }

    fn end_run(&mut self, worker: WorkerId, zones: &mut Zones, end: End, answered: bool, now: Instant) {
        let Some(call) = self.calls.get_mut(worker.0) else { return };
        let (share, zone, is_long) = (call.share, call.zone.take(), call.is_long);
        if call.over.replace(end).is_some() {
            return;
        }
        self.hedges -= usize::from(call.is_hedge);
        if is_long {
            self.long.remove(&mut self.calls, worker.0);
        } else {
            self.shares.get_mut(share).running.remove(&mut self.calls, worker.0);
        }
        self.set_pace(worker, Pace::Neither);
        match zone {
            Some(zone) => zones.end(zone, is_long, answered, now),
            None if share == Share::Other => self.uncounted.remove(&mut self.calls, worker.0),
            None => {}
        }
    }

    fn set_pace(&mut self, worker: WorkerId, pace: Pace) {
        let Some(call) = self.calls.get_mut(worker.0) else { return };
        match std::mem::replace(&mut call.pace, pace) {
            Pace::Fresh => self.fresh.remove(&mut self.calls, worker.0),
            Pace::Slow => self.slow.remove(&mut self.calls, worker.0),
            Pace::Neither => {}
        }
        match pace {
            Pace::Fresh => self.fresh.push_back(&mut self.calls, worker.0),
            Pace::Slow => self.slow.push_back(&mut self.calls, worker.0),
            Pace::Neither => {}
        }
    }

    /// Returns when the oldest call that is not slow began.
    #[inline]
    pub(super) fn first_fresh(&self) -> Option<Instant> {
        Some(self.calls.get(self.fresh.first(&self.calls)?)?.since)
    }

    /// Returns whether there are slow calls, given that calls are slow after `delay`.
    #[inline]
    pub(super) fn are_slow(&self, now: Instant, delay: Duration) -> bool {
        self.slow.len() > 0 || self.first_fresh().is_some_and(|since| now.is_after(since, delay))
    }

    /// Marks a batch of calls as slow that have run for `delay`.
    pub(super) fn slow_down(&mut self, now: Instant, delay: Duration) {
        for _ in 0..STEPS {
            let Some(first) = self.fresh.first(&self.calls) else { return };
            let due = self.calls.get(first).and_then(|call| call.since.checked_add(delay));
            if due.is_none_or(|due| now < due) {
                return;
            }
            self.set_pace(WorkerId(first), Pace::Slow);
        }
    }

    /// Returns the call that was the last to become slow, with its flight and the hash of its name.
    pub(super) fn last_slow(&self) -> Option<(WorkerId, FlightId, u64)> {
        let last = self.slow.last(&self.calls)?;
        let call = self.calls.get(last)?;
        Some((WorkerId(last), call.flight, call.hash))
    }

    /// Takes a call from the slow ones.
    pub(super) fn give_up_slow(&mut self, worker: WorkerId) {
        self.set_pace(worker, Pace::Neither);
    }

    /// Counts a call as slow again, since somebody waits for it now, if it had been given up.
    pub(super) fn reconsider(&mut self, worker: WorkerId) {
        let was_given_up = |call: &Call| call.over.is_none() && call.pace == Pace::Neither && !call.is_hedge;
        if self.get(worker).is_some_and(was_given_up) {
            self.set_pace(worker, Pace::Slow);
        }
    }

    /// Returns the number of running calls that were made because another was slow.
    pub(super) fn hedges(&self) -> usize {
        self.hedges
    }

    /// Counts a batch of calls in the zones of their names. `zone` returns the hash of a name's zone.
    pub(super) fn count_zones(&mut self, zones: &mut Zones, zone: impl Fn(&Name) -> u64) {
        for _ in 0..STEPS {
            let Some(first) = self.uncounted.first(&self.calls) else { return };
            self.uncounted.remove(&mut self.calls, first);
            let Some(call) = self.calls.get_mut(first) else { return };
            let zone = zones.begin(zone(&call.name));
            call.zone = Some(zone);
            if call.is_long {
                zones.lengthen(zone);
            }
        }
    }

    /// Moves a batch of calls of new names that have run for long to [`Calls::long`].
    pub(super) fn lengthen(&mut self, zones: &mut Zones, now: Instant) {
        for _ in 0..STEPS {
            let Some(first) = self.shares.other.running.first(&self.calls) else { return };
            let Some(call) = self.calls.get_mut(first) else { return };
            if now.saturating_duration_since(call.since) <= LONG {
                return;
            }
            call.is_long = true;
            call.zone.into_iter().for_each(|zone| zones.lengthen(zone));
            self.shares.other.running.remove(&mut self.calls, first);
            self.long.push_back(&mut self.calls, first);
        }
    }

    /// Returns the hash of the known name that `worker` calls for, if its call waits rather than works.
    pub(super) fn hung_known(&self, worker: WorkerId, now: Instant) -> Option<u64> {
        let call = self.get(worker).filter(|call| call.share == Share::Known)?;
        now.is_after(call.since, PATIENCE).then_some(call.hash)
    }

    pub(super) fn is_stopped(&self, worker: WorkerId) -> bool {
        self.get(worker).is_some_and(|call| call.over == Some(End::Stopped))
    }

    /// Removes the call of `worker`, if it has one, and returns how it ended.
    pub(super) fn end(&mut self, worker: WorkerId, zones: &mut Zones, now: Instant) -> Option<End> {
        let call = self.get(worker)?;
        let (share, over) = (call.share, call.over);
        if over.is_none() {
            self.end_run(worker, zones, End::Finished, false, now);
        }
        self.shares.get_mut(share).begun.remove(&mut self.calls, worker.0);
        self.calls.take(worker.0);
        Some(over.unwrap_or(End::Finished))
    }

    /// Returns the number of workers with a call of `share`, until each is done with its call.
    pub(super) fn workers_in(&self, share: Share) -> usize {
        self.shares.get(share).begun.len()
    }

    /// Returns the number of calls of `share` that run.
    #[inline]
    pub(super) fn running_in(&self, share: Share) -> usize {
        let long = if share == Share::Other { self.long.len() } else { 0 };
        self.shares.get(share).running.len() + long
    }

    /// Returns the number of calls that run.
    pub(super) fn running(&self) -> usize {
        self.running_in(Share::Known) + self.running_in(Share::Other)
    }

    /// Returns the number of calls that have run for longer than `long`.
    pub(super) fn running_long(&self, now: Instant, long: Duration) -> usize {
        let running = [Share::Known, Share::Other].map(|share| self.shares.get(share).running.iter(&self.calls));
        running
            .into_iter()
            .flatten()
            .chain(self.long.iter(&self.calls))
            .filter(|call| now.saturating_duration_since(call.since) > long)
            .count()
    }

    /// Returns from when on a thread may be started for a call of `share` that has been queued since `queued`.
    pub(super) fn start_from(&self, share: Share, queued: Instant) -> Instant {
        let in_share = self.shares.get(share);
        if in_share.begun.len() < EAGER {
            return queued;
        }
        let Some(eager) = in_share.begun.iter_back(&self.calls).nth(EAGER - 1) else { return queued };
        let stalled = in_share.last_result.map_or(queued, |last| last.max(queued));
        let since = eager.since.min(stalled);
        queued.max(since.checked_add(PATIENCE).unwrap_or(since))
    }

    /// Returns when the oldest running call for a known name began.
    pub(super) fn oldest_known(&self) -> Option<Instant> {
        let oldest = self.shares.known.running.first(&self.calls)?;
        Some(self.calls.get(oldest)?.since)
    }

    /// Moves the oldest running call for a known name to the other share, and returns the hash of its name.
    pub(super) fn demote_oldest_known(&mut self) -> Option<u64> {
        let Shares { known, other } = &mut self.shares;
        let oldest = known.running.first(&self.calls)?;
        known.running.remove(&mut self.calls, oldest);
        known.begun.remove(&mut self.calls, oldest);
        other.begun.push_front(&mut self.calls, oldest);
        other.running.push_front(&mut self.calls, oldest);
        let call = self.calls.get_mut(oldest)?;
        call.share = Share::Other;
        let hash = call.hash;
        self.uncounted.push_back(&mut self.calls, oldest);
        Some(hash)
    }

    pub(super) fn flight(&self, worker: WorkerId) -> Option<FlightId> {
        self.get(worker).map(|call| call.flight)
    }

    /// Moves the call of `worker` to `flight`, in which the lookup of its name goes on.
    pub(super) fn move_to(&mut self, worker: WorkerId, flight: FlightId) {
        if let Some(call) = self.calls.get_mut(worker.0) {
            call.flight = flight;
        }
    }

    pub(super) fn flights(&self) -> Vec<FlightId> {
        self.calls.iter().map(|call| call.flight).collect()
    }

    /// Returns the name and the age of every call that a worker is not done with, the oldest first.
    pub(super) fn outstanding(&self, now: Instant) -> Vec<(Name, Duration)> {
        let age = |call: &Call| now.saturating_duration_since(call.since);
        let mut calls: Vec<_> = self.calls.iter().map(|call| (call.name.clone(), age(call))).collect();
        calls.sort_by(|(a_name, a), (b_name, b)| b.cmp(a).then_with(|| a_name.as_str().cmp(b_name.as_str())));
        calls
    }

    /// Marks all calls as abandoned. Returns how many were not so before.
    pub(super) fn abandon(&mut self) -> usize {
        let mut new = 0;
        for call in self.calls.iter_mut() {
            new += usize::from(!std::mem::replace(&mut call.abandoned, true));
        }
        new
    }
}
