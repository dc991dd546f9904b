use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::crew::WorkerId;
use super::flights::{FlightId, Lane};
use crate::name::Name;

/// Up to this many calls of a lane at once, a name gets a thread at once if none is idle. More threads than this make most
/// lookups slower, not faster, since they outrun the DNS server.
const EAGER: usize = 64;

/// A call that has run this long waits rather than works, and does not count towards [`EAGER`] any more; and if none of a
/// lane's has ended for so long, none counts.
const PATIENCE: Duration = Duration::from_millis(20);

/// What each worker does: one call at most, from when it takes a flight until it comes back.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: HashMap<WorkerId, Call>,
    /// Of the names that are known, and of the others.
    lanes: [InLane; 2],
}

#[derive(Debug, Default)]
struct InLane {
    /// By when they began, until they are done with.
    calls: BTreeSet<(Instant, WorkerId)>,
    /// Of these, those that have no result yet.
    running: BTreeSet<(Instant, WorkerId)>,
    last_result: Option<Instant>,
}

#[derive(Debug)]
struct Call {
    flight: FlightId,
    name: Name,
    since: Instant,
    lane: Lane,
    /// It has its result, and its worker is telling the waiters; or it is stopped.
    over: Option<End>,
    /// It was reported as left behind.
    abandoned: bool,
}

/// How a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    /// It is to be dropped, or was.
    Stopped,
}

impl Calls {
    pub(super) fn begin(&mut self, worker: WorkerId, flight: FlightId, name: Name, lane: Lane, now: Instant) {
        self.lanes[lane as usize].calls.insert((now, worker));
        self.lanes[lane as usize].running.insert((now, worker));
        self.calls.insert(worker, Call { flight, name, since: now, lane, over: None, abandoned: false });
    }

    /// The call of `worker` has its result: its flight and name, and when it began.
    pub(super) fn finish(&mut self, worker: WorkerId, now: Instant) -> Option<(FlightId, Name, Instant)> {
        let call = self.calls.get_mut(&worker).filter(|call| call.over.is_none())?;
        call.over = Some(End::Finished);
        let lane = &mut self.lanes[call.lane as usize];
        lane.running.remove(&(call.since, worker));
        lane.last_result = lane.last_result.max(Some(now));
        Some((call.flight, call.name.clone(), call.since))
    }

    /// The call of `worker` is to be dropped.
    pub(super) fn stop(&mut self, worker: WorkerId) {
        if let Some(call) = self.calls.get_mut(&worker) {
            call.over = Some(End::Stopped);
            self.lanes[call.lane as usize].running.remove(&(call.since, worker));
        }
    }

    /// The known name that the call of `worker` is for, if it has been waiting rather than working.
    pub(super) fn hung_known(&self, worker: WorkerId, now: Instant) -> Option<&Name> {
        let call = self.calls.get(&worker).filter(|call| call.lane == Lane::Known)?;
        (now.saturating_duration_since(call.since) >= PATIENCE).then_some(&call.name)
    }

    pub(super) fn is_stopped(&self, worker: WorkerId) -> bool {
        self.calls.get(&worker).is_some_and(|call| call.over == Some(End::Stopped))
    }

    /// The call of `worker` is done with, if it had one.
    pub(super) fn end(&mut self, worker: WorkerId) -> Option<End> {
        let call = self.calls.remove(&worker)?;
        self.lanes[call.lane as usize].calls.remove(&(call.since, worker));
        self.lanes[call.lane as usize].running.remove(&(call.since, worker));
        Some(call.over.unwrap_or(End::Finished))
    }

    /// How many threads the calls of a lane have, until they are done with.
    pub(super) fn in_lane(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].calls.len()
    }

    /// How many calls of a lane run.
    pub(super) fn running_in(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].running.len()
    }

    /// How many calls run.
    pub(super) fn running(&self) -> usize {
        self.lanes.iter().map(|lane| lane.running.len()).sum()
    }

    /// How many calls have run for longer than `long`.
    pub(super) fn running_long(&self, now: Instant, long: Duration) -> usize {
        let Some(then) = now.checked_sub(long) else { return 0 };
        // The oldest stand first.
        self.lanes.iter().map(|lane| lane.running.iter().take_while(|&&(since, _)| since < then).count()).sum()
    }

    /// From when a thread may be started for the head of a lane that has been waiting since `queued`.
    pub(super) fn start_from(&self, lane: Lane, queued: Instant) -> Instant {
        let lane = &self.lanes[lane as usize];
        let Some(&(eager, _)) = lane.calls.iter().nth_back(EAGER - 1) else { return queued };
        let stalled = lane.last_result.map_or(queued, |last| last.max(queued));
        let since = eager.min(stalled);
        queued.max(since.checked_add(PATIENCE).unwrap_or(since))
    }

    /// When the call for a known name began that has run longest.
    pub(super) fn oldest_known(&self) -> Option<Instant> {
        self.lanes[Lane::Known as usize].running.first().map(|&(since, _)| since)
    }

    /// Has that call count as one for a new name; gives its name.
    pub(super) fn demote_oldest_known(&mut self) -> Option<&Name> {
        let [known, new] = &mut self.lanes;
        let (since, worker) = known.running.pop_first()?;
        let call = self.calls.get_mut(&worker)?;
        call.lane = Lane::New;
        known.calls.remove(&(since, worker));
        new.calls.insert((since, worker));
        new.running.insert((since, worker));
        Some(&call.name)
    }

    pub(super) fn flight(&self, worker: WorkerId) -> Option<FlightId> {
        self.calls.get(&worker).map(|call| call.flight)
    }

    /// The call of `worker` is for the same name, which goes on as `flight`.
    pub(super) fn move_to(&mut self, worker: WorkerId, flight: FlightId) {
        if let Some(call) = self.calls.get_mut(&worker) {
            call.flight = flight;
        }
    }

    pub(super) fn flights(&self) -> Vec<FlightId> {
        self.calls.values().map(|call| call.flight).collect()
    }

    /// The names that are being called for or replied to, and for how long; the longest first.
    pub(super) fn outstanding(&self, now: Instant) -> Vec<(Name, Duration)> {
        let age = |call: &Call| now.saturating_duration_since(call.since);
        let mut calls: Vec<_> = self.calls.values().map(|call| (call.name.clone(), age(call))).collect();
        calls.sort_by(|(a_name, a), (b_name, b)| b.cmp(a).then_with(|| a_name.as_str().cmp(b_name.as_str())));
        calls
    }

    /// All calls are left behind from here on; says how many were not before.
    pub(super) fn abandon(&mut self) -> usize {
        let mut new = 0;
        for call in self.calls.values_mut() {
            new += usize::from(!std::mem::replace(&mut call.abandoned, true));
        }
        new
    }
}
