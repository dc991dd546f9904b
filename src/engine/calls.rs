use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::crew::WorkerId;
use super::flights::{FlightId, Lane};
use crate::name::Name;

/// Number of calls of a share below which a name gets a thread at once if none is idle. More threads than this make most
/// lookups slower, because they outrun the DNS server.
const EAGER: usize = 64;

/// How long a call counts towards [`EAGER`]. One that has run for longer waits rather than works. If no call of a share has had
/// its result for this long, none counts.
const PATIENCE: Duration = Duration::from_millis(20);

/// The call of each worker, from when the worker takes a flight until it asks for the next. At most one for each.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: HashMap<WorkerId, Call>,
    shares: Shares,
}

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

#[derive(Debug, Default)]
struct InShare {
    /// All calls, by when they began, until their workers are done with them.
    calls: BTreeSet<(Instant, WorkerId)>,
    /// Of these, the calls that run: they have no result yet, and are not stopped.
    running: BTreeSet<(Instant, WorkerId)>,
    last_result: Option<Instant>,
}

#[derive(Debug)]
struct Call {
    flight: FlightId,
    name: Name,
    since: Instant,
    share: Share,
    /// Set once the call has its result, and its worker tells the waiters, or once it is stopped.
    over: Option<End>,
    /// Whether it was counted as abandoned.
    abandoned: bool,
}

/// How a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    /// Its worker must drop it, or has done so.
    Stopped,
}

impl Calls {
    pub(super) fn begin(&mut self, worker: WorkerId, flight: FlightId, name: Name, share: Share, now: Instant) {
        let in_share = self.shares.get_mut(share);
        in_share.calls.insert((now, worker));
        in_share.running.insert((now, worker));
        self.calls.insert(worker, Call { flight, name, since: now, share, over: None, abandoned: false });
    }

    /// Marks the call of `worker` as finished, because it has its result. Returns its flight and name, and when it began.
    pub(super) fn finish(&mut self, worker: WorkerId, now: Instant) -> Option<(FlightId, Name, Instant)> {
        let call = self.calls.get_mut(&worker).filter(|call| call.over.is_none())?;
        call.over = Some(End::Finished);
        let in_share = self.shares.get_mut(call.share);
        in_share.running.remove(&(call.since, worker));
        in_share.last_result = in_share.last_result.max(Some(now));
        Some((call.flight, call.name.clone(), call.since))
    }

    /// Marks the call of `worker` as stopped, so that it is dropped.
    pub(super) fn stop(&mut self, worker: WorkerId) {
        if let Some(call) = self.calls.get_mut(&worker) {
            call.over = Some(End::Stopped);
            self.shares.get_mut(call.share).running.remove(&(call.since, worker));
        }
    }

    /// Returns the known name that `worker` calls for, if its call waits rather than works.
    pub(super) fn hung_known(&self, worker: WorkerId, now: Instant) -> Option<&Name> {
        let call = self.calls.get(&worker).filter(|call| call.share == Share::Known)?;
        (now.saturating_duration_since(call.since) >= PATIENCE).then_some(&call.name)
    }

    pub(super) fn is_stopped(&self, worker: WorkerId) -> bool {
        self.calls.get(&worker).is_some_and(|call| call.over == Some(End::Stopped))
    }

    /// Removes the call of `worker`, if it has one, and returns how it ended.
    pub(super) fn end(&mut self, worker: WorkerId) -> Option<End> {
        let call = self.calls.remove(&worker)?;
        let in_share = self.shares.get_mut(call.share);
        in_share.calls.remove(&(call.since, worker));
        in_share.running.remove(&(call.since, worker));
        Some(call.over.unwrap_or(End::Finished))
    }

    /// Returns the number of workers with a call of `share`, until each is done with its call.
    pub(super) fn workers_in(&self, share: Share) -> usize {
        self.shares.get(share).calls.len()
    }

    /// Returns the number of calls of `share` that run.
    pub(super) fn running_in(&self, share: Share) -> usize {
        self.shares.get(share).running.len()
    }

    /// Returns the number of calls that run.
    pub(super) fn running(&self) -> usize {
        self.running_in(Share::Known) + self.running_in(Share::Other)
    }

    /// Returns the number of calls that have run for longer than `long`.
    pub(super) fn running_long(&self, now: Instant, long: Duration) -> usize {
        let Some(then) = now.checked_sub(long) else { return 0 };
        // The oldest come first.
        let older = |in_share: &InShare| in_share.running.iter().take_while(|&&(since, _)| since < then).count();
        older(&self.shares.known) + older(&self.shares.other)
    }

    /// Returns from when on a thread may be started for a call of `share` that has been queued since `queued`.
    pub(super) fn start_from(&self, share: Share, queued: Instant) -> Instant {
        let in_share = self.shares.get(share);
        let Some(&(eager, _)) = in_share.calls.iter().nth_back(EAGER - 1) else { return queued };
        let stalled = in_share.last_result.map_or(queued, |last| last.max(queued));
        let since = eager.min(stalled);
        queued.max(since.checked_add(PATIENCE).unwrap_or(since))
    }

    /// Returns when the oldest running call for a known name began.
    pub(super) fn oldest_known(&self) -> Option<Instant> {
        self.shares.known.running.first().map(|&(since, _)| since)
    }

    /// Moves the oldest running call for a known name to the other share, and returns its name.
    pub(super) fn demote_oldest_known(&mut self) -> Option<&Name> {
        let Shares { known, other } = &mut self.shares;
        let (since, worker) = known.running.pop_first()?;
        let call = self.calls.get_mut(&worker)?;
        call.share = Share::Other;
        known.calls.remove(&(since, worker));
        other.calls.insert((since, worker));
        other.running.insert((since, worker));
        Some(&call.name)
    }

    pub(super) fn flight(&self, worker: WorkerId) -> Option<FlightId> {
        self.calls.get(&worker).map(|call| call.flight)
    }

    /// Moves the call of `worker` to `flight`, in which the lookup of its name goes on.
    pub(super) fn move_to(&mut self, worker: WorkerId, flight: FlightId) {
        if let Some(call) = self.calls.get_mut(&worker) {
            call.flight = flight;
        }
    }

    pub(super) fn flights(&self) -> Vec<FlightId> {
        self.calls.values().map(|call| call.flight).collect()
    }

    /// Returns the name and the age of every call that a worker is not done with, the oldest first.
    pub(super) fn outstanding(&self, now: Instant) -> Vec<(Name, Duration)> {
        let age = |call: &Call| now.saturating_duration_since(call.since);
        let mut calls: Vec<_> = self.calls.values().map(|call| (call.name.clone(), age(call))).collect();
        calls.sort_by(|(a_name, a), (b_name, b)| b.cmp(a).then_with(|| a_name.as_str().cmp(b_name.as_str())));
        calls
    }

    /// Marks all calls as abandoned. Returns how many were not so before.
    pub(super) fn abandon(&mut self) -> usize {
        let mut new = 0;
        for call in self.calls.values_mut() {
            new += usize::from(!std::mem::replace(&mut call.abandoned, true));
        }
        new
    }
}
