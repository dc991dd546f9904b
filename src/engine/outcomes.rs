//! The results of the engine's inputs, which say what the shell does next.

use std::time::Duration;

use super::crew::{Rouse, RouseTimekeeper, WorkerId};
use super::flights::{FlightId, Ticket};
use super::watches::WatchId;
use crate::error::ErrorKind;
use crate::name::Name;
use crate::sync::Instant;

/// The result of [`ask`](super::Engine::ask).
#[must_use]
#[derive(Debug)]
pub(crate) enum Asked<W> {
    /// The caller waits. It leaves with the ticket.
    Waits { ticket: Ticket, rouse: Rouse },
    /// The caller is refused, because the engine is `Closed` or `Overloaded`.
    Refused { waiter: W, why: ErrorKind },
}

/// The next step of a worker.
#[must_use]
#[derive(Debug)]
pub(crate) enum Next {
    /// Rouse, then make the call, then [`finish`](super::Engine::finish).
    Call { name: Name, rouse: Rouse },
    /// [`take`](super::Engine::take) again: there is more to do than one input may.
    Again,
    /// Rouse the timekeeper, sleep until roused, then report that it [`woke`](super::Engine::woke).
    Sleep { rouse: Rouse },
    /// Rouse, then end. A thread's place is free once the engine is told to [`forget`](super::Engine::forget) it.
    Leave { rouse: Rouse },
}

/// The result of [`finish`](super::Engine::finish).
#[must_use]
#[derive(Debug)]
pub(crate) struct Finished<W> {
    /// The only waiter that this call ever had, if it still waits.
    pub(crate) waiter: Option<W>,
    /// Set if several callers have waited, or foreign code may run before they are told. They are told one by one.
    pub(crate) landed: Option<Landed>,
    /// When the call began.
    pub(crate) since: Instant,
    /// Whether more than one caller ever waited for it.
    pub(crate) shared: bool,
    /// Whether a second call was made because the first was slow.
    pub(crate) hedged: bool,
    /// The other call for the name, stopped because this one ended first.
    pub(crate) stopped: Stopped,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// A flight that has its result, and waiters to be told of it with [`tell`](super::Engine::tell).
///
/// They stay in the engine until then, with their deadlines, because telling one runs foreign code, which may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Landed(pub(super) FlightId);

/// The result of [`tell`](super::Engine::tell).
#[must_use]
#[derive(Debug)]
pub(crate) struct Telling<W> {
    /// The next waiter to be told, or `None` if all have been.
    pub(crate) waiter: Option<W>,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// A batch of waiters that get the same reply.
#[must_use]
#[derive(Debug)]
pub(crate) struct Batch<W> {
    pub(crate) waiters: Vec<W>,
    /// Whether there may be more.
    pub(crate) more: bool,
}

/// The next step of the timekeeper.
#[must_use]
#[derive(Debug)]
pub(crate) enum Tick<W> {
    /// Tell the expired waiters, and the watches whose lookups have failed without a call that has ended. Rouse, stop the
    /// stopped calls, and wake the idle workers, whose keep-alive has ended. Then sleep until roused or until `until` (`None`: no
    /// limit), and [`tick`](super::Engine::tick) again.
    Sleep {
        expired: Vec<Expired<W>>,
        unheard: Vec<(News, ErrorKind)>,
        rouse: Rouse,
        stopped: Stopped,
        idle: Vec<WorkerId>,
        until: Option<Instant>,
    },
    /// End the thread. The engine has forgotten it.
    Leave,
}

/// Workers whose calls must be dropped in progress, because nobody waits for them any more. Each then takes its next call.
/// Always empty if calls block.
pub(crate) type Stopped = Vec<WorkerId>;

/// The result of [`leave`](super::Engine::leave).
#[must_use]
#[derive(Debug)]
pub(crate) struct Leaving<W> {
    /// The waiter, or `None` if it had left before or has its reply.
    pub(crate) waiter: Option<W>,
    pub(crate) stopped: Stopped,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// A waiter whose deadline has passed, or a waiter of a landed flight that was not told in time.
#[derive(Debug)]
pub(crate) struct Expired<W> {
    pub(crate) waiter: W,
    pub(crate) name: Name,
    /// When the latest call for the name began, if one is running.
    pub(crate) since: Option<Instant>,
    pub(crate) shared: bool,
    pub(crate) hedged: bool,
    /// Whether it has an old answer to fall back on.
    pub(crate) relief: bool,
    /// Set if there is a result, which the waiter gets. It has not been counted yet.
    pub(crate) landed: Option<Landed>,
}

/// The result of a flush.
#[must_use]
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    pub(crate) stopped: Stopped,
}

/// The result of [`sweep`](super::Engine::sweep).
#[must_use]
#[derive(Debug)]
pub(crate) struct Swept {
    pub(crate) stopped: Stopped,
    /// Watches that end if the engine is closed, and otherwise must forget what they knew before this news.
    pub(crate) watches: Vec<News>,
    /// Whether there may be more flights or watches.
    pub(crate) more: bool,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// The result of [`add_watcher`](super::Engine::add_watcher).
#[must_use]
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) watch: WatchId,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// The result of [`remove_watcher`](super::Engine::remove_watcher).
#[must_use]
#[derive(Debug)]
pub(crate) struct Unwatched {
    /// Whether this was the last watcher.
    pub(crate) is_over: bool,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// News for the watchers of a name.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) watch: WatchId,
    /// The place in the order of all news. News that come after others with a higher number are out of date.
    pub(crate) number: u64,
}

/// The shell's alarm for the timekeeper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Alarm {
    #[default]
    Unset,
    /// The timekeeper stays.
    Stay,
    /// The timekeeper stays, and comes at this time.
    At(Instant),
}

impl Alarm {
    pub(super) fn at(self) -> Option<Instant> {
        if let Self::At(at) = self { Some(at) } else { None }
    }
}

/// The result of [`close`](super::Engine::close).
#[must_use]
#[derive(Debug)]
pub(crate) struct Closing {
    /// Workers to be woken, so that they leave.
    pub(crate) idle: Vec<WorkerId>,
    pub(crate) timekeeper: Option<RouseTimekeeper>,
}

/// The result of [`give_up`](super::Engine::give_up).
#[must_use]
#[derive(Debug)]
pub(crate) struct GivenUp {
    /// The names and ages of the outstanding calls.
    pub(crate) abandoned: Vec<(Name, Duration)>,
    pub(crate) stopped: Stopped,
}
