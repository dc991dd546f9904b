//! The ways of a caller through the cache to the engine: asking and leaving, refreshing and flushing.

use std::sync::Arc;
use std::time::Duration;

use super::{Shell, State};
use crate::addrs::{Addrs, Source};
use crate::cache::{Look, Old, Seen};
use crate::clock::Coarse;
use crate::engine::{Asked, Rouse, Swept, Ticket};
use crate::error::{Error, ErrorKind};
use crate::fallbacks::Standby;
use crate::name::{Name, NameRef};
use crate::sync::{self, Instant};
use crate::waiter::Waiter;

/// The outcome of [`Shell::ask`].
pub(crate) enum Ask {
    /// The caller waits. It leaves with the ticket.
    Waits(Ticket),
    Given(Result<Addrs, Error>),
}

impl Shell {
    /// Looks up a name in the cache. Returns what `give` makes of the result, if callers are answered with it at once.
    #[inline]
    pub(crate) fn cached<T>(
        self: &Arc<Self>,
        name: NameRef<'_>,
        give: impl Fn(Result<Addrs, Error>) -> T,
    ) -> Option<T> {
        let hit = || self.at_once.count_hit();
        let otherwise = |seen| self.cached_otherwise(name, seen).map(&give);
        self.store.read(name, Coarse::now, hit, |addrs| give(Ok(addrs)), otherwise)
    }

    #[cold]
    fn cached_otherwise(self: &Arc<Self>, name: NameRef<'_>, seen: Seen) -> Option<Result<Addrs, Error>> {
        match seen {
            Seen::Stale(addrs) => {
                self.at_once.count_stale();
                Some(Ok(addrs))
            }
            Seen::Unsettled => self.cached_by_the_lock(name),
            Seen::Nothing => None,
        }
    }

    /// Looks up a name in the cache under the lock of the state.
    fn cached_by_the_lock(self: &Arc<Self>, name: NameRef<'_>) -> Option<Result<Addrs, Error>> {
        let now = sync::now();
        let mut state = self.lock();
        let look = self.store.look(&mut state.index, name, now);
        let rouse = match look {
            // The cache has this name, so it is valid.
            Look::Stale { refresh: true, .. } => Name::parse(name.as_str())
                .map_or_else(|_| Rouse::default(), |name| self.refresh(&mut state, now, &name)),
            _ => Rouse::default(),
        };
        self.rouse(state, rouse);
        match self.give(look, || self.setup.policy.standby(name)) {
            Given::Now(given) => Some(given),
            Given::Later(_) => None,
        }
    }

    /// Returns what the cache has for a caller, or `standby` in place of a failure. Counts the caller if that answers it now.
    fn give(&self, look: Look, standby: impl FnOnce() -> Option<Standby>) -> Given {
        let (old, source) = match look {
            Look::Old(old) => return Given::Later(Some(old)),
            Look::Nothing => return Given::Later(None),
            Look::Failed(error) => {
                self.at_once.count_hit();
                let instead = standby().and_then(|standby| standby.in_place_of(&error));
                return Given::Now(instead.ok_or(error));
            }
            Look::Fresh(old) => {
                self.at_once.count_hit();
                (old, Source::Cache)
            }
            Look::Stale { old, .. } => {
                self.at_once.count_stale();
                (old, Source::Stale)
            }
        };
        Given::Now(Ok(old.addrs(source)))
    }

    /// Starts a background refresh of a name, which the cache has no fresh answer for.
    fn refresh(&self, state: &mut State, now: Instant, name: &Name) -> Rouse {
        state.engine.refresh(now, name).unwrap_or_else(|| {
            self.store.release(&mut state.index, name);
            Rouse::default()
        })
    }

    /// Asks for `name`. If the answer is not returned here, the waiter gets exactly one reply, unless it leaves.
    pub(crate) fn ask(self: &Arc<Self>, name: &Name, waiter: Arc<Waiter>) -> Ask {
        let now = waiter.asked;
        let mut standby = self.setup.policy.standby(name.borrowed());
        let mut state = self.lock();
        let is_closed = state.engine.is_closed();
        let look = if is_closed { Look::Nothing } else { self.store.look(&mut state.index, name.borrowed(), now) };
        let wants_refresh = matches!(look, Look::Stale { refresh: true, .. });
        let old = match self.give(look, || standby.take()) {
            Given::Now(given) => {
                let rouse = if wants_refresh { self.refresh(&mut state, now, name) } else { Rouse::default() };
                self.rouse(state, rouse);
                return Ask::Given(given);
            }
            Given::Later(old) => old,
        };
        if let Some(standby) = standby.as_ref().filter(|_| old.is_none() && !state.engine.is_closed()) {
            if let Some(addrs) = standby.in_use() {
                drop(state);
                self.at_once.count_hit();
                return Ask::Given(Ok(addrs));
            }
        }
        let patience = self.setup.cache.stale_answer_timeout;
        let relief = match old {
            // Others have waited this long for a lookup in progress, and no caller need do so again.
            Some(old) if state.engine.is_slow(now, name) => {
                let rouse = self.refresh(&mut state, now, name);
                self.rouse(state, rouse);
                self.at_once.count_stale();
                return Ask::Given(Ok(old.addrs(Source::Stale)));
            }
            Some(old) => {
                // An answer that expires sooner is given if the lookup fails before that, but sets no deadline.
                let lasts = now.checked_add(patience).is_some_and(|then| old.is_usable(then));
                waiter.set_instead(Some(old), standby);
                lasts
            }
            None => {
                waiter.set_instead(None, standby);
                false
            }
        };
        match state.engine.ask(now, name, waiter, relief) {
            Asked::Waits { ticket, rouse } => {
                self.rouse(state, rouse);
                Ask::Waits(ticket)
            }
            Asked::Refused { waiter, why } => {
                drop(state);
                let error = Error::from(why).about(name);
                let instead = waiter.in_place_of(&error, now);
                drop(waiter);
                Ask::Given(instead.ok_or(error))
            }
        }
    }

    /// Forgets the cached answer of `name`, or of every name if `None`. Results of lookups in progress are not cached.
    pub(crate) fn flush(self: &Arc<Self>, name: Option<&Name>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let (names, answers) = match name {
            Some(name) => {
                self.store.flush_name(&mut state.index, name);
                (state.engine.flush_name(name), None)
            }
            None => (state.engine.flush(), Some(self.store.flush(&mut state.index))),
        };
        drop(guard);
        drop(answers);
        self.stop(names.stopped);
        self.sweep();
    }

    /// Makes the cached answer of a name old, unless this was done less than `cooldown` ago.
    pub(crate) fn expire(&self, name: NameRef<'_>, cooldown: Duration) {
        let now = Coarse::now();
        let mut state = self.lock();
        self.store.expire(&mut state.index, name, now, cooldown);
    }

    /// Returns the cached addresses of a name, however old they are.
    #[cfg(feature = "hyper")]
    pub(crate) fn peek(&self, name: NameRef<'_>) -> Option<Addrs> {
        self.store.peek(&mut self.lock().index, name)
    }

    /// Starts a background lookup of a name, whatever the cache has, unless one is in progress.
    pub(crate) fn prefetch(self: &Arc<Self>, name: &Name) -> Result<(), Error> {
        let now = sync::now();
        let mut state = self.lock();
        match state.engine.refresh(now, name) {
            Some(rouse) => {
                self.rouse(state, rouse);
                Ok(())
            }
            None => {
                let why = if state.engine.is_closed() { ErrorKind::Closed } else { ErrorKind::Overloaded };
                drop(state);
                Err(Error::from(why).about(name))
            }
        }
    }

    /// Ends background lookups whose answers nobody will get, and watches if the resolver is closed. Watches that were flushed ask
    /// again.
    pub(super) fn sweep(self: &Arc<Self>) {
        let mut more = true;
        while more {
            let mut state = self.lock();
            let Swept { stopped, watches, more: is_more, timekeeper } = state.engine.sweep();
            let is_closed = state.engine.is_closed();
            let boards = watches.iter().filter_map(|&news| state.board(news)).collect();
            if is_closed {
                watches.iter().for_each(|news| _ = state.boards.remove(&news.watch));
            }
            self.rouse(state, Rouse { timekeeper, worker: None });
            self.stop(stopped);
            self.sweep_boards(boards, is_closed);
            more = is_more;
        }
    }

    /// Removes a waiter whose caller has lost interest.
    pub(crate) fn leave(self: &Arc<Self>, ticket: Ticket) {
        let now = sync::now();
        let mut state = self.lock();
        let left = state.engine.leave(ticket, now);
        self.rouse(state, Rouse { timekeeper: left.timekeeper, worker: None });
        self.stop(left.stopped);
        drop(left.waiter);
    }
}

/// A cached result for a caller.
enum Given {
    Now(Result<Addrs, Error>),
    /// Given only if a lookup fails or takes too long.
    Later(Option<Old>),
}
