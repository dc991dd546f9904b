//! The shell around the engine. It locks, asks the engine, unlocks, and only then acts.

mod asking;
mod call;
mod closing;
#[cfg(feature = "async-backend")]
mod driver;
mod epoch;
mod errands;
mod landing;
#[cfg(all(test, gaiter_loom))]
mod models;
mod roster;
mod timekeeper;
mod watching;
mod worker;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

pub(crate) use self::asking::Ask;
pub(crate) use self::closing::{Ending, Wakeup};
pub(crate) use self::epoch::{Epochs, Open, leak};
pub(crate) use self::roster::CloserId;
pub(crate) use self::watching::{Board, Set, schedule};
pub(crate) use crate::engine::WatchId;

use self::closing::Closers;
#[cfg(feature = "async-backend")]
use self::driver::Inbox;
use self::errands::{Errand, Errands};
use self::landing::Landing;
use self::roster::{Key, Kind, Roster};
use crate::backend::Origin;
use crate::cache::{CacheConfig, Index, Store};
use crate::engine::{Batch, Engine, Landed, Limits, Rouse, RouseTimekeeper, RouseWorker, Stopped, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::ffi;
use crate::foreign::caught;
#[cfg(feature = "metrics")]
use crate::metrics::Labels;
use crate::policy::{Policy, Rules};
use crate::stats::{AtOnce, Stats};
use crate::sync::thread::{self, Thread};
use crate::sync::{self, AtomicBool, Mutex, MutexGuard};
use crate::trace::Scope;
use crate::waiter::{Reply, Waiter};

/// The setup of one resolver's threads, in this process and in its forked children.
pub(crate) struct Setup {
    pub(crate) origin: Origin,
    /// Whether calls run inside their caller's span.
    pub(crate) traced: bool,
    /// Whether lookups have a span.
    pub(crate) spans: bool,
    #[cfg(feature = "metrics")]
    pub(crate) labels: Labels,
    pub(crate) limits: Limits,
    pub(crate) stack: Option<usize>,
    pub(crate) cache: CacheConfig,
    pub(crate) policy: Policy,
    /// Maximum number of drivers, not counting those that are about to end.
    #[cfg(feature = "async-backend")]
    pub(crate) drivers: usize,
    closed: AtomicBool,
}

impl Setup {
    pub(crate) fn new(
        origin: Origin,
        limits: Limits,
        stack: Option<usize>,
        cache: CacheConfig,
        rules: Rules,
        #[cfg(feature = "async-backend")] drivers: usize,
    ) -> Self {
        let traced = match &origin {
            // A backend that panics here has not said that it emits none.
            Origin::Blocking(backend) => caught(|| backend.emits_events()).unwrap_or(true),
            #[cfg(feature = "async-backend")]
            Origin::Async(_) => true,
        };
        // Without a cache, nothing is remembered.
        let cooldown = if cache.is_enabled() { cache.cooldown } else { Duration::ZERO };
        let policy = Policy::new(rules, cooldown);
        let closed = AtomicBool::new(false);
        Self {
            origin,
            traced,
            spans: true,
            #[cfg(feature = "metrics")]
            labels: Labels::default(),
            limits,
            stack,
            cache,
            policy,
            #[cfg(feature = "async-backend")]
            drivers,
            closed,
        }
    }

    /// Returns whether new lookups are refused.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: the flag guards nothing else, and the engine's own flag decides races.
        self.closed.load(Ordering::Relaxed)
    }
}

/// The threads of one resolver, and the engine they share. They start when a lookup needs them, and leave when they idle.
pub(crate) struct Shell {
    /// Read by any thread, and written only under the lock of the state. So an answer is in the store before its flight is
    /// gone, and a caller that finds neither under that lock is the first to ask.
    store: Store,
    state: Mutex<State>,
    at_once: AtOnce,
    /// The statistics that were last published.
    #[cfg(feature = "metrics")]
    published: Mutex<Stats>,
    roster: Arc<Roster>,
    setup: Arc<Setup>,
    /// Generation of the process that these threads belong to.
    generation: u64,
}

struct State {
    engine: Engine<Arc<Waiter>>,
    /// Required for writing to the store.
    index: Index,
    /// Threads of workers, for waking them.
    workers: HashMap<WorkerId, Thread>,
    /// Results of flights that have landed, for waiters that have not been told yet.
    landings: HashMap<Landed, Landing>,
    /// What is known of each watched name. As many as the engine has watches.
    boards: HashMap<WatchId, Arc<Board>>,
    #[cfg(feature = "async-backend")]
    drivers: Vec<Inbox>,
    errands: Errands,
    closers: Closers,
}

impl State {
    fn count(&mut self, reply: &Reply) {
        self.engine.count(reply.result.as_ref().map(drop).map_err(Error::kind));
    }

    /// Passes the shell's [alarm](Self::alarm) to the engine. Returns the timekeeper if it must be roused for that.
    fn set_alarm(&mut self) -> Rouse {
        let alarm = self.alarm();
        Rouse { timekeeper: self.engine.set_alarm(alarm), worker: None }
    }
}

impl Shell {
    fn new(setup: Arc<Setup>, at_once: AtOnce, generation: u64) -> Self {
        let mut engine = Engine::new(setup.limits.clone(), sync::now());
        if setup.is_closed() {
            // There is no thread to wake yet.
            _ = engine.close();
        }
        let store = Store::new(setup.cache.clone());
        let state = State {
            engine,
            index: store.index(),
            workers: HashMap::new(),
            landings: HashMap::new(),
            boards: HashMap::new(),
            #[cfg(feature = "async-backend")]
            drivers: Vec::new(),
            errands: Errands::default(),
            closers: Closers::default(),
        };
        let roster = Arc::new(Roster::new(generation));
        Self {
            store,
            state: Mutex::new(state),
            at_once,
            #[cfg(feature = "metrics")]
            published: Mutex::default(),
            roster,
            setup,
            generation,
        }
    }

    /// Returns whether this process was forked from the one that these threads belong to.
    ///
    /// If so, this process must neither lock nor drop anything of theirs, because a thread of the parent may hold a lock.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        self.generation != ffi::generation()
    }

    /// Closes a scope on one of the crate's threads.
    pub(crate) fn release_later(self: &Arc<Self>, scope: Scope) {
        self.send([Errand::Release(scope)]);
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = sync::now();
        let state = self.lock();
        let mut stats = state.engine.stats(now);
        stats.cached_names = self.store.len(&state.index);
        #[cfg(feature = "async-backend")]
        if matches!(self.setup.origin, Origin::Async(_)) {
            stats.idle_threads = state.idle_drivers();
        }
        drop(state);
        // Drivers that are slow to end count too.
        stats.threads = stats.threads.max(self.roster.count(Kind::Driver));
        self.at_once.add_to(&mut stats);
        stats
    }

    /// Publishes the statistics as metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn publish(&self) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        // Under this lock, so that counters have risen since the statistics before.
        let stats = self.stats();
        let before = std::mem::replace(&mut *published, stats.clone());
        drop(published);
        self.setup.labels.publish(&stats, &before);
    }

    /// Unlocks the state, then starts or wakes the threads that the engine named.
    fn rouse(self: &Arc<Self>, state: MutexGuard<'_, State>, rouse: Rouse) {
        // The most common case, which need not lock again.
        if let Rouse { timekeeper: None, worker: Some(RouseWorker::Wake(worker)) } = rouse {
            return self.wake_in(state, worker);
        }
        drop(state);
        if rouse != Rouse::default() {
            self.rouse_all(rouse);
        }
    }

    /// Starts or wakes the threads that the engine named. If no thread can be started for the queue, tells its waiters.
    fn rouse_all(self: &Arc<Self>, mut rouse: Rouse) {
        while let Err(error) = self.rouse_once(rouse) {
            self.fail(&Error::new(ErrorKind::ThreadRefused, error), Engine::strand);
            let mut state = self.lock();
            rouse = if state.engine.has_timekeeper() { state.engine.rouse(sync::now()) } else { Rouse::default() };
        }
    }

    fn rouse_once(self: &Arc<Self>, rouse: Rouse) -> io::Result<()> {
        match rouse.timekeeper {
            Some(RouseTimekeeper::Start) => {
                if let Err(error) = self.start("gaiter-time", Key::Timekeeper, timekeeper::run) {
                    let untried = match rouse.worker {
                        Some(RouseWorker::Start(worker)) => Some(worker),
                        Some(RouseWorker::Wake(worker)) => {
                            self.wake(worker);
                            None
                        }
                        None => None,
                    };
                    self.lock().engine.timekeeper_refused(untried);
                    // The drivers may have been waiting for the untried worker alone.
                    #[cfg(feature = "async-backend")]
                    self.lock().end_drivers();
                    return Err(error);
                }
            }
            Some(RouseTimekeeper::Wake) => self.roster.unpark_timekeeper(),
            None => {}
        }
        match rouse.worker {
            Some(RouseWorker::Start(worker)) => match &self.setup.origin {
                Origin::Blocking(_) => self
                    .start("gaiter", |_| Key::Worker(worker), move |shell| worker::run(shell, worker))
                    .inspect_err(|_| self.lock().engine.worker_refused(sync::now())),
                #[cfg(feature = "async-backend")]
                Origin::Async(_) => self.drive(self.lock(), worker, false),
            },
            Some(RouseWorker::Wake(worker)) => {
                self.wake(worker);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Fails waiters whose lookups will have no result. `take` removes them from the engine, one batch at a time.
    ///
    /// A waiter that has something in place of `error` gets that.
    fn fail(self: &Arc<Self>, error: &Error, take: impl Fn(&mut Engine<Arc<Waiter>>) -> Batch<Arc<Waiter>>) {
        loop {
            let now = sync::now();
            let mut state = self.lock();
            let Batch { waiters, more } = take(&mut state.engine);
            let reply = |waiter: &Arc<Waiter>| {
                let queued = now.saturating_duration_since(waiter.asked);
                let instead = waiter.in_place_of(error, now);
                let result = instead.map(|addrs| addrs.after(queued, Duration::ZERO)).ok_or_else(|| error.clone());
                Reply { queued, waited: queued, ..Reply::of(result) }
            };
            let replies: Vec<_> = waiters.iter().map(reply).collect();
            replies.iter().for_each(|reply| state.count(reply));
            drop(state);
            let told = waiters.into_iter().zip(replies).map(|(waiter, reply)| Errand::told(waiter, reply));
            // Without a waker nothing foreign is dropped here: the reply is the crate's own, and so is what is left of the
            // caller.
            self.send(told.filter(Errand::wakes));
            if !more {
                return;
            }
        }
    }

    fn wake(self: &Arc<Self>, worker: WorkerId) {
        self.wake_in(self.lock(), worker);
    }

    fn wake_in(self: &Arc<Self>, state: MutexGuard<'_, State>, worker: WorkerId) {
        match &self.setup.origin {
            Origin::Blocking(_) => {
                let thread = state.workers.get(&worker).cloned();
                drop(state);
                thread.iter().for_each(Thread::unpark);
            }
            #[cfg(feature = "async-backend")]
            Origin::Async(_) => {
                if let Err(error) = self.drive(state, worker, true) {
                    self.fail(&Error::new(ErrorKind::ThreadRefused, error), Engine::strand);
                }
            }
        }
    }

    /// Drops calls that nobody waits for.
    fn stop(&self, stopped: Stopped) {
        #[cfg(feature = "async-backend")]
        if !stopped.is_empty() {
            self.stop_calls(&stopped);
        }
        #[cfg(not(feature = "async-backend"))]
        drop(stopped);
    }

    fn start(
        self: &Arc<Self>,
        name: &str,
        key: impl FnOnce(u64) -> Key,
        run: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> io::Result<()> {
        let mut builder = thread::Builder::new().name(name.to_owned());
        if let Some(stack) = self.setup.stack {
            builder = builder.stack_size(stack);
        }
        let shell = Arc::clone(self);
        self.roster.start(key, builder, move || {
            _ = caught(|| run(&shell));
            // May be the last handle of foreign values.
            drop(shell);
        })
    }

    /// Joins threads that have ended, which frees their places.
    fn join_ended(self: &Arc<Self>) {
        let mut rouse = Rouse::default();
        self.roster.join_ended(|key| {
            if let Key::Worker(worker) = key {
                let mut state = self.lock();
                state.workers.remove(&worker);
                state.engine.forget(worker);
                rouse = state.engine.rouse(sync::now()).or(rouse);
            }
        });
        self.rouse_all(rouse);
    }

    #[cfg(all(test, gaiter_loom))]
    pub(crate) fn are_threads_joined(&self) -> bool {
        self.roster.others(None, None) == roster::Others::Gone
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only the crate's own code runs under the lock, and none of it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
