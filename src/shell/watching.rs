//! Watches: what is known of each watched name, for all its watchers, and how they hear of changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::errands::Errand;
use super::{Rouse, Shell, State};
use crate::addrs::{Addrs, Answer};
use crate::cache::CacheConfig;
use crate::engine::{News, Schedule, WatchId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::sync::{self, Mutex, MutexGuard};

/// Maximum number of addresses that are kept beside those of the latest answer.
const MAX_KEPT: usize = 1024;

/// A set of addresses: sorted, and each once.
pub(crate) type Set = Arc<[SocketAddr]>;

/// What is known of a watched name, for all its watchers.
pub(crate) struct Board {
    /// `None` if the addresses never change.
    name: Option<Name>,
    posted: Mutex<Posted>,
}

/// The contents of a board. Errors and wakers are foreign, so they are only moved in and out under the lock.
struct Posted {
    /// The number of the latest news. Those with lower numbers are out of date.
    number: u64,
    latest: Option<Latest>,
    /// Addresses that were in one of the answers before the latest, and the number of answers since then that lack them, which
    /// rises.
    kept: Vec<(SocketAddr, u32)>,
    error: Option<Error>,
    is_closed: bool,
    watchers: BTreeMap<u64, Watcher>,
    last_watcher: u64,
}

/// The latest answer.
struct Latest {
    /// In the order of the answer.
    addrs: Addrs,
    set: Set,
    is_fallback: bool,
}

struct Watcher {
    /// The number of answers in a row that lack an address before it goes. Not zero.
    keep: u32,
    waker: Option<Waker>,
}

/// What becomes of a board that has changed. Must be dropped, and wake, with no lock held.
#[derive(Default)]
struct Change {
    error: Option<Error>,
    wakers: Vec<Waker>,
}

impl Latest {
    fn new(addrs: Addrs, is_fallback: bool) -> Self {
        let mut set: Vec<SocketAddr> = addrs.clone().collect();
        set.sort_unstable();
        set.dedup();
        Self { addrs, set: set.into(), is_fallback }
    }
}

impl Posted {
    /// Returns the addresses that a watcher sees.
    fn set(&self, keep: u32) -> Option<Set> {
        let latest = self.latest.as_ref()?;
        let kept: Vec<_> = self.kept_for(keep).collect();
        if kept.is_empty() {
            return Some(Arc::clone(&latest.set));
        }
        let mut set: Vec<_> = latest.set.iter().copied().chain(kept).collect();
        set.sort_unstable();
        Some(set.into())
    }

    fn kept_for(&self, keep: u32) -> impl Iterator<Item = SocketAddr> {
        self.kept.iter().take_while(move |(_, lacking)| *lacking < keep).map(|&(addr, _)| addr)
    }

    /// Returns what a watcher sees, unless that is what it was `given` before.
    fn changed(&self, watcher: u64, given: Option<&Set>) -> Option<(Set, Addrs)> {
        let keep = self.watchers.get(&watcher)?.keep;
        let set = self.set(keep).filter(|set| given != Some(set))?;
        let addrs = &self.latest.as_ref()?.addrs;
        let mut kept = self.kept_for(keep).peekable();
        if kept.peek().is_none() {
            return Some((set, addrs.clone()));
        }
        let all: Answer = addrs.clone().chain(kept).collect();
        Some((set, Addrs::looked_up(all).with_source(addrs.source())))
    }

    fn set_latest(&mut self, latest: Latest) {
        let most = self.watchers.values().map(|watcher| watcher.keep).max().unwrap_or(1);
        let former = self.latest.take();
        // A fallback was never an answer.
        let former = former.iter().filter(|former| !former.is_fallback && !latest.is_fallback);
        let former = former.flat_map(|former| former.set.iter().map(|&addr| (addr, 0)));
        let kept = former.chain(self.kept.drain(..)).map(|(addr, lacking)| (addr, lacking + 1));
        let is_kept = |(addr, lacking): &(SocketAddr, u32)| *lacking < most && latest.set.binary_search(addr).is_err();
        self.kept = kept.filter(is_kept).take(MAX_KEPT).collect();
        self.latest = Some(latest);
    }

    /// Replaces the latest answer. Returns the wakers of the watchers that see another set now.
    fn post(&mut self, latest: Latest) -> Vec<Waker> {
        let mut keeps: Vec<u32> = self.watchers.values().map(|watcher| watcher.keep).collect();
        keeps.sort_unstable();
        keeps.dedup();
        let before: Vec<_> = keeps.iter().map(|&keep| self.set(keep)).collect();
        self.set_latest(latest);
        let changed = keeps.into_iter().zip(before).filter(|(keep, before)| self.set(*keep) != *before);
        let changed: Vec<u32> = changed.map(|(keep, _)| keep).collect();
        let watchers = self.watchers.values_mut().filter(|watcher| changed.contains(&watcher.keep));
        watchers.filter_map(|watcher| watcher.waker.take()).collect()
    }
}

impl Board {
    pub(super) fn new(name: Option<&Name>, addrs: Option<Addrs>) -> Self {
        let posted = Posted {
            number: 0,
            latest: addrs.map(|addrs| Latest::new(addrs, false)),
            kept: Vec::new(),
            error: None,
            is_closed: false,
            watchers: BTreeMap::new(),
            last_watcher: 0,
        };
        Self { name: name.cloned(), posted: Mutex::new(posted) }
    }

    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watcher. Returns its number.
    pub(crate) fn join(&self, keep: u32) -> u64 {
        let mut posted = self.lock();
        posted.last_watcher += 1;
        let watcher = posted.last_watcher;
        posted.watchers.insert(watcher, Watcher { keep, waker: None });
        watcher
    }

    pub(crate) fn set_keep(&self, watcher: u64, keep: u32) {
        self.lock().watchers.get_mut(&watcher).into_iter().for_each(|watcher| watcher.keep = keep);
    }

    /// Removes a watcher.
    pub(crate) fn leave(&self, watcher: u64) {
        let left = self.lock().watchers.remove(&watcher);
        drop(left);
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.lock().error.clone()
    }

    /// Returns what a watcher sees, unless that is what it was `given` before, or `None` if it has ended. Otherwise keeps the waker of
    /// `cx`, to be woken when that may have changed.
    pub(crate) fn poll(&self, watcher: u64, given: Option<&Set>, cx: &Context<'_>) -> Poll<Option<(Set, Addrs)>> {
        let look = |posted: &Posted| match posted.is_closed {
            true => Some(None),
            false => posted.changed(watcher, given).map(Some),
        };
        let posted = self.lock();
        if let Some(news) = look(&posted) {
            return Poll::Ready(news);
        }
        let waker = posted.watchers.get(&watcher).and_then(|watcher| watcher.waker.as_ref());
        if waker.is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(posted);
        let waker = cx.waker().clone();

        let mut posted = self.lock();
        // News may have come while the waker was cloned, and found none to wake.
        if let Some(news) = look(&posted) {
            return Poll::Ready(news);
        }
        let place = posted.watchers.get_mut(&watcher);
        let old = place.and_then(|watcher| watcher.waker.replace(waker));
        drop(posted);
        drop(old);
        Poll::Pending
    }

    /// Posts the result of a lookup, unless it is out of date. `standby` returns the fallback for an error.
    fn post(
        &self,
        number: u64,
        result: Result<Answer, Error>,
        standby: impl FnOnce(&Error) -> Option<Addrs>,
    ) -> Change {
        let (latest, error) = match result {
            Ok(answer) => (Some(Latest::new(Addrs::looked_up(answer), false)), None),
            Err(error) => {
                let needs_fallback = self.lock().latest.as_ref().is_none_or(|latest| latest.is_fallback);
                let fallback = if needs_fallback { standby(&error) } else { None };
                (fallback.map(|addrs| Latest::new(addrs, true)), Some(error))
            }
        };
        let mut posted = self.lock();
        if number <= posted.number || posted.is_closed {
            return Change { error, wakers: Vec::new() };
        }
        posted.number = number;
        let is_wanted =
            |latest: &Latest| !latest.is_fallback || posted.latest.as_ref().is_none_or(|old| old.is_fallback);
        let latest = latest.filter(is_wanted);
        let wakers = latest.map(|latest| posted.post(latest)).unwrap_or_default();
        Change { error: std::mem::replace(&mut posted.error, error), wakers }
    }

    /// Forgets all addresses. Watchers keep what they were given until there is an answer.
    fn flush(&self, number: u64) {
        if self.name.is_some() {
            let mut posted = self.lock();
            posted.number = posted.number.max(number);
            posted.latest = None;
            posted.kept.clear();
        }
    }

    /// Ends all watches.
    fn close(&self) -> Change {
        let mut error = Error::from(ErrorKind::Closed);
        if let Some(name) = &self.name {
            error = error.about(name);
        }
        let mut posted = self.lock();
        posted.is_closed = true;
        (posted.latest, posted.kept) = (None, Vec::new());
        let wakers = posted.watchers.values_mut().filter_map(|watcher| watcher.waker.take()).collect();
        Change { error: posted.error.replace(error), wakers }
    }
}

/// Returns how often watched names are looked up.
pub(crate) fn schedule(cache: &CacheConfig) -> Schedule {
    let least = if cache.cooldown.is_zero() { Duration::from_secs(1) } else { cache.cooldown };
    Schedule { least, usual: cache.ttl }
}

/// Returns how long an answer lasts: as in the cache, but for the jitter.
pub(super) fn lasts(cache: &CacheConfig, answer: &Answer) -> Duration {
    answer.ttl().map_or(cache.ttl, |ttl| ttl.min(cache.max_ttl).max(cache.min_ttl))
}

impl State {
    /// Returns the board that news are for.
    pub(super) fn board(&self, News { watch, number }: News) -> Option<(Arc<Board>, u64)> {
        Some((Arc::clone(self.boards.get(&watch)?), number))
    }
}

impl Shell {
    /// Adds a watcher of `name`, or of `fixed` addresses. Returns `None` if the resolver is closed.
    pub(crate) fn watch(
        self: &Arc<Self>,
        name: Option<&Name>,
        fixed: Option<&Addrs>,
        keep: u32,
    ) -> Option<(WatchId, Arc<Board>, u64)> {
        let cached = name.and_then(|name| self.cached(name.borrowed(), |given| given)).and_then(Result::ok);
        let mut state = self.lock();
        let watching = state.engine.add_watcher(sync::now(), name)?;
        let board = state.boards.entry(watching.watch);
        let board = Arc::clone(board.or_insert_with(|| Arc::new(Board::new(name, fixed.cloned().or(cached)))));
        // Under the lock of the state, so that the board's close comes after.
        let watcher = board.join(keep);
        self.rouse(state, Rouse { timekeeper: watching.timekeeper, worker: None });
        Some((watching.watch, board, watcher))
    }

    /// Removes a watcher.
    pub(crate) fn unwatch(self: &Arc<Self>, watch: WatchId, board: &Board, watcher: u64) {
        board.leave(watcher);
        let mut state = self.lock();
        let unwatched = state.engine.remove_watcher(watch);
        let over = if unwatched.is_over { state.boards.remove(&watch) } else { None };
        self.rouse(state, Rouse { timekeeper: unwatched.timekeeper, worker: None });
        drop(over);
    }

    /// Starts the timekeeper, which watches need, if the system has refused it before.
    pub(crate) fn keep_time(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.engine.has_timekeeper() {
            let rouse = state.engine.rouse(sync::now());
            self.rouse(state, rouse);
        }
    }

    /// Tells the watchers of a name the result of its lookup.
    pub(super) fn post(self: &Arc<Self>, (board, number): (Arc<Board>, u64), result: Result<Answer, Error>) {
        let change = self.post_on(&board, number, result);
        self.send(change.wakers.into_iter().map(Errand::Wake));
        _ = caught(|| drop((change.error, board)));
    }

    /// Tells the watchers of a name that its lookup has failed without a call that has ended. Runs nothing foreign here.
    pub(super) fn post_failure(self: &Arc<Self>, (board, number): (Arc<Board>, u64), why: ErrorKind) {
        let timeout = self.setup.limits.timeout.unwrap_or_default();
        let error = match &board.name {
            Some(name) if why == ErrorKind::Timeout => Error::timed_out(name, Duration::ZERO, timeout),
            Some(name) => Error::from(why).about(name),
            None => why.into(),
        };
        let Change { error, wakers } = self.post_on(&board, number, Err(error));
        let foreign = error.filter(Error::is_foreign).map(Errand::Drop);
        self.send(wakers.into_iter().map(Errand::Wake).chain(foreign));
    }

    fn post_on(&self, board: &Board, number: u64, result: Result<Answer, Error>) -> Change {
        board.post(number, result, |error| {
            self.setup.policy.standby(board.name.as_ref()?.borrowed())?.in_place_of(error)
        })
    }

    /// Makes boards forget what they knew, or if the resolver is closed ends the watches.
    pub(super) fn sweep_boards(self: &Arc<Self>, boards: Vec<(Arc<Board>, u64)>, is_closed: bool) {
        for (board, number) in boards {
            if !is_closed {
                board.flush(number);
                continue;
            }
            let Change { error, wakers } = board.close();
            self.send(wakers.into_iter().map(Errand::Wake));
            _ = caught(|| drop((error, board)));
        }
    }
}
