//! What each input comes to, and what the shell is to do about it.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::crew::{Rouse, RouseTimekeeper, WorkerId};
use super::flights::{FlightId, Ticket};
use crate::error::ErrorKind;
use crate::name::Name;

/// A caller has asked.
#[must_use]
#[derive(Debug)]
pub(crate) enum Asked<W> {
    /// The caller waits; it leaves with the ticket.
    Waits { ticket: Ticket, rouse: Rouse },
    /// `Closed` or `Overloaded`.
    Refused { waiter: W, why: ErrorKind },
}

/// What a worker is to do next.
#[must_use]
#[derive(Debug)]
pub(crate) enum Next {
    /// Rouse first, then call, then [`finish`](super::Engine::finish).
    Call { name: Name, rouse: Rouse },
    /// Rouse the timekeeper, sleep until roused, then say [`woke`](super::Engine::woke).
    Sleep { rouse: Rouse },
    /// Rouse, and end. A thread's place is free once the engine is told to [`forget`](super::Engine::forget) it.
    Leave { rouse: Rouse },
}

/// A call is over.
#[must_use]
#[derive(Debug)]
pub(crate) struct Finished<W> {
    /// The only one that ever waited for this call, if it still does.
    pub(crate) waiter: Option<W>,
    /// Where several waited, or foreign code may come between: they are told one by one.
    pub(crate) landed: Option<Landed>,
    /// When the call began.
    pub(crate) since: Instant,
    /// Whether more than one caller ever waited for it.
    pub(crate) shared: bool,
    /// The other call for the name, which has come second.
    pub(crate) stopped: Stopped,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// A flight that has its result, and waiters to be told of it with [`tell`](super::Engine::tell).
///
/// They stay in the engine until then, with their deadlines: telling one runs foreign code, which may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Landed(pub(super) FlightId);

/// The next waiter to be told of a result.
#[must_use]
#[derive(Debug)]
pub(crate) struct Telling<W> {
    /// `None` if all have been.
    pub(crate) waiter: Option<W>,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// Some of those who are to be told the same.
#[must_use]
#[derive(Debug)]
pub(crate) struct Batch<W> {
    pub(crate) waiters: Vec<W>,
    /// There are others, or there may be.
    pub(crate) more: bool,
}

/// What the timekeeper is to do next.
#[must_use]
#[derive(Debug)]
pub(crate) enum Tick<W> {
    /// Tell the expired, rouse, stop the stopped, wake the idle, who have slept enough and leave, sleep until roused or until
    /// then (`None`: for good), then [`tick`](super::Engine::tick) again.
    Sleep { expired: Vec<Expired<W>>, rouse: Rouse, stopped: Stopped, idle: Vec<WorkerId>, until: Option<Instant> },
    /// End the thread: the engine has forgotten it.
    Leave,
}

/// The workers whose calls are to be dropped where they are, because nobody waits for them any more; each then takes the next.
/// None where calls block.
pub(crate) type Stopped = Vec<WorkerId>;

/// A caller has left.
#[must_use]
#[derive(Debug)]
pub(crate) struct Leaving<W> {
    /// `None` if it had left before, or has its reply.
    pub(crate) waiter: Option<W>,
    pub(crate) stopped: Stopped,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// A waiter whose deadline has come, or who has waited for long enough to be told of a result.
#[derive(Debug)]
pub(crate) struct Expired<W> {
    pub(crate) waiter: W,
    pub(crate) name: Name,
    /// Since when the call for the name has been running, if it is.
    pub(crate) since: Option<Instant>,
    pub(crate) shared: bool,
    /// It was the time at which it makes do with something else.
    pub(crate) relief: bool,
    /// There is a result, which it gets. It has not been counted yet.
    pub(crate) landed: Option<Landed>,
}

/// Names were flushed.
#[must_use]
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// To be dropped where no lock is held.
    pub(super) _names: HashMap<Name, FlightId>,
    pub(crate) stopped: Stopped,
}

/// Background flights were ended that nobody gets anything of.
#[must_use]
#[derive(Debug)]
pub(crate) struct Swept {
    pub(crate) stopped: Stopped,
    /// There are others, or there may be.
    pub(crate) more: bool,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// What the timekeeper is to stay for, or come for, that is not the engine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Alarm {
    #[default]
    Unset,
    /// It stays.
    Stay,
    /// It stays, and comes then.
    At(Instant),
}

impl Alarm {
    pub(super) fn at(self) -> Option<Instant> {
        if let Self::At(at) = self { Some(at) } else { None }
    }
}

/// The engine is closed.
#[must_use]
#[derive(Debug)]
pub(crate) struct Closing {
    /// To be woken, so that they leave.
    pub(crate) idle: Vec<WorkerId>,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// Nobody waits any more.
#[must_use]
#[derive(Debug)]
pub(crate) struct GivenUp {
    /// The calls that still run, and for how long they have.
    pub(crate) abandoned: Vec<(Name, Duration)>,
    pub(crate) stopped: Stopped,
}
