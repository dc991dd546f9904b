use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::crew::WorkerId;
use super::flights::{FlightId, Lane};
use crate::name::Name;

/// What each worker does: one call at most, from when it takes a flight until it comes back.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: HashMap<WorkerId, Call>,
    in_lane: [usize; 2],
}

#[derive(Debug)]
struct Call {
    flight: FlightId,
    name: Name,
    since: Instant,
    lane: Lane,
    /// It has its result, and its worker is telling the waiters.
    replying: bool,
}

impl Calls {
    pub(super) fn begin(&mut self, worker: WorkerId, flight: FlightId, name: Name, lane: Lane, now: Instant) {
        self.in_lane[lane as usize] += 1;
        self.calls.insert(worker, Call { flight, name, since: now, lane, replying: false });
    }

    /// The call of `worker` has its result: its flight and name, and when it began.
    pub(super) fn finish(&mut self, worker: WorkerId) -> Option<(FlightId, Name, Instant)> {
        let call = self.calls.get_mut(&worker).filter(|call| !call.replying)?;
        call.replying = true;
        Some((call.flight, call.name.clone(), call.since))
    }

    /// The call of `worker` is done with, if it had one.
    pub(super) fn end(&mut self, worker: WorkerId) -> bool {
        let Some(call) = self.calls.remove(&worker) else { return false };
        self.in_lane[call.lane as usize] -= 1;
        true
    }

    /// How many threads the calls of a lane have, until they are done with.
    pub(super) fn in_lane(&self, lane: Lane) -> usize {
        self.in_lane[lane as usize]
    }

    /// Has a call count as that of a new name.
    pub(super) fn demote(&mut self, worker: WorkerId) {
        if let Some(call) = self.calls.get_mut(&worker).filter(|call| call.lane == Lane::Known) {
            call.lane = Lane::New;
            self.in_lane[Lane::Known as usize] -= 1;
            self.in_lane[Lane::New as usize] += 1;
        }
    }

    pub(super) fn flight(&self, worker: WorkerId) -> Option<FlightId> {
        self.calls.get(&worker).map(|call| call.flight)
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

    /// How many calls run, and how many of them longer than `long`.
    pub(super) fn count_running(&self, now: Instant, long: Duration) -> (usize, usize) {
        let running = || self.calls.values().filter(|call| !call.replying);
        (running().count(), running().filter(|call| now.saturating_duration_since(call.since) > long).count())
    }
}
