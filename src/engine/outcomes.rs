//! What each input comes to, and what the shell is to do about it.

use std::time::{Duration, Instant};

use super::crew::{Rouse, RouseTimekeeper, WorkerId};
use super::flights::Ticket;
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
    /// Rouse, and end the thread: the engine has forgotten it.
    Leave { rouse: Rouse },
}

/// A call is over.
#[must_use]
#[derive(Debug)]
pub(crate) struct Finished<W> {
    /// Those who get this call's result: none, if it failed and another call for the name may do better.
    pub(crate) waiters: Vec<W>,
    /// When the call began.
    pub(crate) since: Instant,
    /// Whether more than one caller ever waited for it.
    pub(crate) shared: bool,
    /// The other call for the name, which has come second.
    pub(crate) stopped: Stopped,
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
}

/// A waiter whose deadline has come.
#[derive(Debug)]
pub(crate) struct Expired<W> {
    pub(crate) waiter: W,
    pub(crate) name: Name,
    /// Since when the call for the name has been running, if it is.
    pub(crate) since: Option<Instant>,
    pub(crate) shared: bool,
    /// It was the time at which it makes do with something else.
    pub(crate) relief: bool,
}

/// The engine is closed.
#[must_use]
#[derive(Debug)]
pub(crate) struct Closing {
    /// To be woken, so that they leave.
    pub(crate) idle: Vec<WorkerId>,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
    pub(crate) stopped: Stopped,
}

/// Nobody waits any more.
#[must_use]
#[derive(Debug)]
pub(crate) struct GivenUp<W> {
    pub(crate) waiters: Vec<W>,
    /// The calls that still run, and for how long they have.
    pub(crate) abandoned: Vec<(Name, Duration)>,
    pub(crate) stopped: Stopped,
}
