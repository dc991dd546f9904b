//! Watched names: when each is looked up next, for all its watchers together.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::HashTable;

use super::crew::{RouseTimekeeper, WorkerId};
use super::flights::{FlightId, Hashed};
use super::outcomes::{News, Unwatched, Watching};
use super::slab::{Key, List, Slab};
use super::{BATCH, Engine};
use crate::error::ErrorKind;
use crate::name::Name;
use crate::sync::Instant;

/// A watched name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId(Key);

/// How often watched names are looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// The shortest time from an answer to the next lookup, and the time until the first retry. Not zero.
    pub(crate) least: Duration,
    /// The longest time until a retry of a name that has never answered.
    pub(crate) usual: Duration,
}

#[derive(Debug)]
struct Watched {
    /// `None` if its addresses never change. Its watchers then hear only of the end.
    name: Option<(Name, u64)>,
    watchers: usize,
    state: State,
    /// When the timekeeper comes for it.
    due: Option<Instant>,
    /// The longest time until a retry.
    most: Duration,
    /// The time until the next retry.
    retry: Duration,
    /// The number of flushes that it has heard of.
    flushes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A lookup is in progress, or was when the watch last heard.
    Asking,
    /// The lookup has ended without a result.
    Lost(ErrorKind),
}

// The only kind of lists that a watch is in.
const SEEN: usize = 0;

/// All watched names.
#[derive(Debug)]
pub(super) struct Watches {
    schedule: Schedule,
    watched: Slab<Watched, 1>,
    by_name: HashTable<WatchId>,
    /// In a tree, because answers last for times of any length.
    due: BTreeSet<(Instant, WatchId)>,
    /// Those that have not heard of the last flush, and the others.
    lists: [List<SEEN>; 2],
    /// Number of flushes of all names.
    flushes: u64,
    /// The number of the last news.
    last: u64,
}

/// The value of `flushes` in a watch whose very name was flushed.
const FLUSHED: u64 = u64::MAX;

impl Watches {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            watched: Slab::new(),
            by_name: HashTable::new(),
            due: BTreeSet::new(),
            lists: Default::default(),
            flushes: 0,
            last: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watched.len() == 0
    }

    pub(super) fn first_due(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    fn find(&self, Hashed { name, hash }: Hashed<'_>) -> Option<WatchId> {
        let is_it = |&watch: &WatchId| {
            let named = self.watched.get(watch.0).and_then(|watched| watched.name.as_ref());
            named.is_some_and(|(watched, _)| watched == name)
        };
        self.by_name.find(hash, is_it).copied()
    }

    fn add(&mut self, name: Option<Hashed<'_>>, now: Instant) -> WatchId {
        let watched = Watched {
            name: name.map(|Hashed { name, hash }| (name.clone(), hash)),
            watchers: 1,
            state: State::Idle,
            due: None,
            most: self.schedule.usual.max(self.schedule.least),
            retry: self.schedule.least,
            flushes: self.flushes,
        };
        let watch = WatchId(self.watched.insert(watched));
        self.lists[1].push_back(&mut self.watched, watch.0);
        if let Some(Hashed { hash, .. }) = name {
            let Self { by_name, watched, .. } = self;
            let hash_of = |watch: &WatchId| watched.get(watch.0).and_then(|watched| watched.name.as_ref());
            by_name.insert_unique(hash, watch, |watch| hash_of(watch).map_or(0, |(_, hash)| *hash));
            self.set_due(watch, Some(now));
        }
        watch
    }

    fn remove(&mut self, watch: WatchId) {
        self.set_due(watch, None);
        let Some(watched) = self.watched.get(watch.0) else { return };
        let (list, hash) = (self.list_of(watched), watched.name.as_ref().map(|(_, hash)| *hash));
        self.lists[list].remove(&mut self.watched, watch.0);
        if let Some(Ok(entry)) = hash.map(|hash| self.by_name.find_entry(hash, |&other| other == watch)) {
            entry.remove();
        }
        self.watched.remove(watch.0);
    }

    fn list_of(&self, watched: &Watched) -> usize {
        usize::from(watched.flushes == self.flushes)
    }

    fn set_due(&mut self, watch: WatchId, due: Option<Instant>) {
        let Some(watched) = self.watched.get_mut(watch.0) else { return };
        if let Some(former) = std::mem::replace(&mut watched.due, due) {
            self.due.remove(&(former, watch));
        }
        self.due.extend(due.map(|due| (due, watch)));
    }

    fn set_state(&mut self, watch: WatchId, state: State) {
        self.watched.get_mut(watch.0).into_iter().for_each(|watched| watched.state = state);
    }

    fn next_news(&mut self, watch: WatchId) -> News {
        self.last += 1;
        News { watch, number: self.last }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn due_of(&self, watch: WatchId) -> Option<Instant> {
        self.watched.get(watch.0)?.due
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_asking(&self, watch: WatchId) -> bool {
        self.watched.get(watch.0).is_some_and(|watched| watched.state == State::Asking)
    }

    /// Makes every watch ask again.
    pub(super) fn flush(&mut self) {
        self.flushes += 1;
        let [flushed, present] = &mut self.lists;
        flushed.append(&mut self.watched, present);
    }

    /// Makes the watch of `name` ask again.
    pub(super) fn flush_name(&mut self, name: Hashed<'_>) {
        let Some(watch) = self.find(name) else { return };
        let Some(watched) = self.watched.get_mut(watch.0) else { return };
        if std::mem::replace(&mut watched.flushes, FLUSHED) == self.flushes {
            self.lists[1].remove(&mut self.watched, watch.0);
            self.lists[0].push_back(&mut self.watched, watch.0);
        }
    }

    /// Returns the next watch that has not heard of a flush, which it then has.
    fn next_flushed(&mut self) -> Option<WatchId> {
        let watch = self.lists[0].first(&self.watched)?;
        self.lists[0].remove(&mut self.watched, watch);
        self.watched.get_mut(watch)?.flushes = self.flushes;
        self.lists[1].push_back(&mut self.watched, watch);
        Some(WatchId(watch))
    }

    /// Schedules the next lookup after an answer that lasts for `lasts`.
    fn answered(&mut self, watch: WatchId, lasts: Duration, now: Instant, jitter: u8) {
        let Schedule { least, .. } = self.schedule;
        let Some(watched) = self.watched.get_mut(watch.0) else { return };
        let lasts = lasts.max(least);
        (watched.state, watched.most, watched.retry) = (State::Idle, lasts, least);
        self.set_due(watch, now.checked_add(spread(lasts, jitter)));
    }

    /// Schedules the retry of a lookup that has failed.
    fn failed(&mut self, watch: WatchId, now: Instant, jitter: u8) {
        let Some(watched) = self.watched.get_mut(watch.0) else { return };
        let retry = watched.retry;
        (watched.state, watched.retry) = (State::Idle, retry.saturating_mul(2).min(watched.most));
        self.set_due(watch, now.checked_add(spread(retry, jitter)));
    }
}

/// Returns `time` and up to a tenth more, so that names that are watched together are not asked for together. Not less: a server
/// that caches would answer with what is left of the TTL.
fn spread(time: Duration, jitter: u8) -> Duration {
    time.saturating_add(time / 2550 * u32::from(jitter))
}

impl<W> Engine<W> {
    /// Adds a watcher of `name`, or of addresses that never change. Returns `None` if the engine is closed.
    pub(crate) fn add_watcher(&mut self, now: Instant, name: Option<&Name>) -> Option<Watching> {
        if self.closed {
            return None;
        }
        let now = self.at(now);
        let name = name.map(|name| self.hashed(name));
        let found = name.and_then(|name| self.watches.find(name));
        let watch = found.unwrap_or_else(|| self.watches.add(name, now));
        if let Some(watched) = self.watches.watched.get_mut(watch.0).filter(|_| found.is_some()) {
            watched.watchers += 1;
        }
        Some(Watching { watch, timekeeper: self.rouse_timekeeper() })
    }

    /// Removes a watcher. Its lookup in progress goes on in the background.
    pub(crate) fn remove_watcher(&mut self, watch: WatchId) -> Unwatched {
        let Some(watched) = self.watches.watched.get_mut(watch.0) else {
            return Unwatched { is_over: false, timekeeper: None };
        };
        watched.watchers -= 1;
        let is_over = watched.watchers == 0;
        if is_over {
            self.watches.remove(watch);
        }
        Unwatched { is_over, timekeeper: self.dismiss_timekeeper() }
    }

    /// Schedules the next lookup for the watch of a name after a call for it, whose answer lasts for this time. Precedes
    /// [`finish`](Self::finish). Returns `None` if the result is no news, as that of a call from before a flush.
    pub(crate) fn news(&mut self, worker: WorkerId, now: Instant, result: Result<Duration, ErrorKind>) -> Option<News> {
        if self.closed || self.watches.is_empty() || !self.is_cacheable(worker) {
            return None;
        }
        let flight = self.calls.flight(worker)?;
        let another = self.flights.is_queued(flight) || self.flights.calls(flight).count() > 1;
        if another && !is_answer(result.map(drop)) {
            // It may still answer.
            return None;
        }
        let watch = self.watches.find(self.hashed(self.flights.name(flight)?))?;
        let now = self.at(now);
        let jitter = self.jitter(watch);
        match result {
            Ok(lasts) => self.watches.answered(watch, lasts, now, jitter),
            Err(_) => self.watches.failed(watch, now, jitter),
        }
        Some(self.watches.next_news(watch))
    }

    /// Starts lookups for a batch of the watches that are due. Returns those whose lookups have failed without a call that has ended.
    pub(super) fn seek_due(&mut self, now: Instant) -> Vec<(News, ErrorKind)> {
        let mut failed = Vec::new();
        for _ in 0..BATCH {
            let Some(&(_, watch)) = self.watches.due.first().filter(|(at, _)| *at <= now) else { break };
            let why = match self.watches.watched.get(watch.0) {
                Some(Watched { state: State::Asking, .. }) => Some(ErrorKind::Timeout),
                Some(Watched { state: State::Lost(why), .. }) => Some(*why),
                Some(Watched { name: Some((name, hash)), .. }) => {
                    let (name, hash) = (name.clone(), *hash);
                    let is_sought = self.seek(Hashed { name: &name, hash }, now);
                    (!is_sought).then_some(ErrorKind::Overloaded)
                }
                _ => None,
            };
            match why {
                Some(why) => {
                    let jitter = self.jitter(watch);
                    self.watches.failed(watch, now, jitter);
                    failed.push((self.watches.next_news(watch), why));
                }
                None => {
                    let timeout = self.limits.timeout.map(|timeout| timeout.max(self.watches.schedule.least));
                    self.watches.set_state(watch, State::Asking);
                    self.watches.set_due(watch, timeout.and_then(|timeout| now.checked_add(timeout)));
                }
            }
        }
        failed
    }

    /// Returns whether a lookup of a watched name is in progress or could be queued.
    fn seek(&mut self, name: Hashed<'_>, now: Instant) -> bool {
        let is_coming = self.flights.find(name).is_some_and(|flight| self.is_coming(flight, now));
        is_coming || self.seek_in_background(name, now)
    }

    /// Returns the watch that waits for a flight.
    pub(super) fn watch_on(&self, flight: FlightId) -> Option<WatchId> {
        // Mostly there is none.
        if self.watches.is_empty() {
            return None;
        }
        let name = self.hashed(self.flights.name(flight)?);
        // Others of the name have landed, or were flushed.
        self.flights.find(name).filter(|current| *current == flight)?;
        let watch = self.watches.find(name)?;
        self.watches.watched.get(watch.0).filter(|watched| watched.state == State::Asking).map(|_| watch)
    }

    /// Makes a watch ask again if the flight that it waits for is gone without a result: at once, or if there is an error later.
    pub(super) fn lose(&mut self, flight: FlightId, watch: Option<WatchId>, why: Option<ErrorKind>) {
        if self.flights.name(flight).is_none() {
            self.ask_again(watch, why);
        }
    }

    /// Makes a watch whose lookup has ended without news ask again: at once, or if there is an error later.
    pub(super) fn ask_again(&mut self, watch: Option<WatchId>, why: Option<ErrorKind>) {
        let Some(watch) = watch else { return };
        self.watches.set_state(watch, why.map_or(State::Idle, State::Lost));
        self.watches.set_due(watch, Some(self.latest));
    }

    /// Removes a batch of watches if the engine is closed. Otherwise makes a batch of those ask again that were flushed. Returns
    /// their watchers' news.
    pub(super) fn sweep_watches(&mut self) -> Vec<News> {
        let mut swept = Vec::new();
        if self.closed {
            self.watches.flush();
        }
        while swept.len() < BATCH {
            let Some(watch) = self.watches.next_flushed() else { break };
            swept.push(self.watches.next_news(watch));
            if self.closed {
                self.watches.remove(watch);
            } else if self.watches.watched.get(watch.0).is_some_and(|watched| watched.name.is_some()) {
                self.watches.set_state(watch, State::Idle);
                self.watches.set_due(watch, Some(self.latest));
            }
        }
        swept
    }

    /// Makes the timekeeper come earlier, if a watch is due before anything else.
    pub(super) fn tend_watches(&mut self) -> Option<RouseTimekeeper> {
        if self.watches.is_empty() { None } else { self.rouse_timekeeper() }
    }

    fn jitter(&self, watch: WatchId) -> u8 {
        self.hasher.hash_one((watch, self.watches.last)) as u8
    }
}

/// Returns whether a result says something about the name that no other call would change.
pub(super) fn is_answer(result: Result<(), ErrorKind>) -> bool {
    matches!(result, Ok(()) | Err(ErrorKind::NotFound | ErrorKind::NoData | ErrorKind::Denied))
}
