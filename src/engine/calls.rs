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
    shares: Shares,
}

/// The share of the places that a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Known,
    /// New names, and background refreshes: one of those that hangs is no better than a new name that does.
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
    share: Share,
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
    pub(super) fn begin(&mut self, worker: WorkerId, flight: FlightId, name: Name, share: Share, now: Instant) {
        let in_share = self.shares.get_mut(share);
        in_share.calls.insert((now, worker));
        in_share.running.insert((now, worker));
        self.calls.insert(worker, Call { flight, name, since: now, share, over: None, abandoned: false });
    }

    /// The call of `worker` has its result: its flight and name, and when it began.
    pub(super) fn finish(&mut self, worker: WorkerId, now: Instant) -> Option<(FlightId, Name, Instant)> {
        let call = self.calls.get_mut(&worker).filter(|call| call.over.is_none())?;
        call.over = Some(End::Finished);
        let in_share = self.shares.get_mut(call.share);
        in_share.running.remove(&(call.since, worker));
        in_share.last_result = in_share.last_result.max(Some(now));
        Some((call.flight, call.name.clone(), call.since))
    }

    /// The call of `worker` is to be dropped.
    pub(super) fn stop(&mut self, worker: WorkerId) {
        if let Some(call) = self.calls.get_mut(&worker) {
            call.over = Some(End::Stopped);
            self.shares.get_mut(call.share).running.remove(&(call.since, worker));
        }
    }

    /// The known name that the call of `worker` is for, if it has been waiting rather than working.
    pub(super) fn hung_known(&self, worker: WorkerId, now: Instant) -> Option<&Name> {
        let call = self.calls.get(&worker).filter(|call| call.share == Share::Known)?;
        (now.saturating_duration_since(call.since) >= PATIENCE).then_some(&call.name)
    }

    pub(super) fn is_stopped(&self, worker: WorkerId) -> bool {
        self.calls.get(&worker).is_some_and(|call| call.over == Some(End::Stopped))
    }

    /// The call of `worker` is done with, if it had one.
    pub(super) fn end(&mut self, worker: WorkerId) -> Option<End> {
        let call = self.calls.remove(&worker)?;
        let in_share = self.shares.get_mut(call.share);
        in_share.calls.remove(&(call.since, worker));
        in_share.running.remove(&(call.since, worker));
        Some(call.over.unwrap_or(End::Finished))
    }

    /// Number of workers whose calls are of a share, until each is done with its call.
    pub(super) fn workers_in(&self, share: Share) -> usize {
        self.shares.get(share).calls.len()
    }

    /// Number of a share's calls that run.
    pub(super) fn running_in(&self, share: Share) -> usize {
        self.shares.get(share).running.len()
    }

    /// Number of calls that run.
    pub(super) fn running(&self) -> usize {
        self.running_in(Share::Known) + self.running_in(Share::Other)
    }

    /// How many calls have run for longer than `long`.
    pub(super) fn running_long(&self, now: Instant, long: Duration) -> usize {
        let Some(then) = now.checked_sub(long) else { return 0 };
        // The oldest stand first.
        let older = |in_share: &InShare| in_share.running.iter().take_while(|&&(since, _)| since < then).count();
        older(&self.shares.known) + older(&self.shares.other)
    }

    /// From when a thread may be started for a call of `share` that has been queued since `queued`.
    pub(super) fn start_from(&self, share: Share, queued: Instant) -> Instant {
        let in_share = self.shares.get(share);
        let Some(&(eager, _)) = in_share.calls.iter().nth_back(EAGER - 1) else { return queued };
        let stalled = in_share.last_result.map_or(queued, |last| last.max(queued));
        let since = eager.min(stalled);
        queued.max(since.checked_add(PATIENCE).unwrap_or(since))
    }

    /// When the call for a known name began that has run longest.
    pub(super) fn oldest_known(&self) -> Option<Instant> {
        self.shares.known.running.first().map(|&(since, _)| since)
    }

    /// Counts that call against the other share from now on. Returns its name.
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
