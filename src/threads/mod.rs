//! The shell around the engine: it locks, asks, unlocks, and only then acts.

mod asking;
mod call;
mod closing;
#[cfg(feature = "async-backend")]
mod driver;
mod epoch;
mod errands;
#[cfg(all(test, gaiter_loom))]
mod models;
mod roster;
mod timekeeper;
mod worker;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

pub(crate) use self::asking::Ask;
pub(crate) use self::closing::{CloserId, Outcome as ClosingOutcome};
pub(crate) use self::epoch::{Epochs, leak};

use self::closing::Closers;
#[cfg(feature = "async-backend")]
use self::driver::{Inbox, Order};
use self::errands::{Errand, Errands};
use self::roster::{Key, Roster};
use crate::backend::Origin;
use crate::cache::{Cache, Index, Store};
use crate::engine::{Engine, Limits, Refused, Rouse, RouseTimekeeper, RouseWorker, Stopped, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::ffi;
use crate::foreign::{Panic, caught};
use crate::stats::Stats;
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{self, AtomicBool, Mutex, MutexGuard};
use crate::trace::Scope;
use crate::waiter::{Reply, Waiter};

/// What one resolver's threads are to do, in this process and in its children.
pub(crate) struct Setup {
    pub(crate) origin: Origin,
    /// Whether calls are to run inside their caller's span.
    pub(crate) traced: bool,
    pub(crate) limits: Limits,
    pub(crate) stack: Option<usize>,
    pub(crate) cache: Cache,
    closed: AtomicBool,
}

impl Setup {
    pub(crate) fn new(origin: Origin, limits: Limits, stack: Option<usize>, cache: Cache) -> Self {
        let traced = match &origin {
            // A backend that panics over this has not said that it emits none.
            Origin::Blocking(backend) => caught(|| backend.emits_events()).unwrap_or(true),
            #[cfg(feature = "async-backend")]
            Origin::Async(_) => true,
        };
        Self { origin, traced, limits, stack, cache, closed: AtomicBool::new(false) }
    }

    /// Whether everything new is to be refused.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // A flag that stands for itself: the engine's own is what decides a race.
        self.closed.load(Ordering::Relaxed)
    }
}

/// The threads of one resolver, with the engine they share. They start when a lookup needs them and leave when they idle.
pub(crate) struct Threads {
    /// Read by anyone, and written under the lock of the state: so an answer is in it before its flight is gone, and who
    /// finds neither under that lock is the first to ask.
    store: Store,
    state: Mutex<State>,
    setup: Arc<Setup>,
    /// Of the process whose threads they are.
    generation: u64,
}

struct State {
    engine: Engine<Arc<Waiter>>,
    /// For writing to the store.
    index: Index,
    roster: Roster,
    /// There while it runs.
    timekeeper: Option<Thread>,
    #[cfg(feature = "async-backend")]
    driver: Option<Inbox>,
    errands: Errands,
    closers: Closers,
}

impl Threads {
    fn new(setup: Arc<Setup>, generation: u64) -> Self {
        let mut engine = Engine::new(setup.limits.clone());
        if setup.is_closed() {
            // Nobody is there to be told.
            _ = engine.close();
        }
        let state = State {
            engine,
            index: Index::default(),
            roster: Roster::default(),
            timekeeper: None,
            #[cfg(feature = "async-backend")]
            driver: None,
            errands: Errands::default(),
            closers: Closers::default(),
        };
        Self { store: Store::new(setup.cache.clone()), state: Mutex::new(state), setup, generation }
    }

    /// Whether these are the threads of a process that this one was forked from. Nothing of theirs may be locked then, or
    /// dropped: whoever held a lock is not here.
    #[inline]
    pub(crate) fn are_foreign(&self) -> bool {
        self.generation != ffi::generation()
    }

    /// Has a scope closed on a thread of the crate's.
    pub(crate) fn close_later(self: &Arc<Self>, scope: Scope) {
        self.send([Errand::Close(scope)]);
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = sync::now();
        self.lock().engine.stats(now)
    }

    /// Lets go of the state, then starts or wakes whom the engine named.
    fn rouse(self: &Arc<Self>, state: MutexGuard<'_, State>, rouse: Rouse) {
        // What most asks come to, and need not lock again for.
        if let Rouse { timekeeper: None, worker: Some(RouseWorker::Wake(worker)) } = rouse {
            return self.wake_in(state, worker);
        }
        drop(state);
        // Those of other callers, perhaps, where a thread was refused.
        for waker in self.try_rouse(rouse) {
            _ = caught(|| waker.wake());
        }
    }

    /// Starts or wakes whom the engine named; gives the wakers of those who are told that no thread could be had.
    #[must_use]
    fn try_rouse(self: &Arc<Self>, mut rouse: Rouse) -> Vec<Waker> {
        let mut wakers = Vec::new();
        loop {
            let refused = match self.rouse_once(rouse) {
                Ok(()) => return wakers,
                Err(refused) => refused,
            };
            let (Refused { stranded, rouse: next }, error) = refused;
            wakers.extend(self.fail(stranded, &Error::new(ErrorKind::ThreadRefused, error)));
            rouse = next;
        }
    }

    fn rouse_once(self: &Arc<Self>, rouse: Rouse) -> Result<(), (Refused<Arc<Waiter>>, io::Error)> {
        match rouse.timekeeper {
            Some(RouseTimekeeper::Start) => {
                let key = self.lock().roster.new_key();
                if let Err(error) = self.start("gaiter-time", key, move |threads| timekeeper::run(threads, key)) {
                    let untried = match rouse.worker {
                        Some(RouseWorker::Start(worker)) => Some(worker),
                        Some(RouseWorker::Wake(worker)) => {
                            self.wake(worker);
                            None
                        }
                        None => None,
                    };
                    let refused = self.lock().engine.timekeeper_refused(untried);
                    // The worker that was not tried may have been all that the driver was waiting for.
                    #[cfg(feature = "async-backend")]
                    driver::tell(self.lock(), []);
                    return Err((refused, error));
                }
            }
            Some(RouseTimekeeper::Wake) => self.unpark(|state| state.timekeeper.clone()),
            None => {}
        }
        match rouse.worker {
            Some(RouseWorker::Start(worker)) => {
                let started = match &self.setup.origin {
                    Origin::Blocking(_) => {
                        self.start("gaiter", Key::Worker(worker), move |threads| worker::run(threads, worker))
                    }
                    #[cfg(feature = "async-backend")]
                    Origin::Async(_) => self.order(self.lock(), Order::Start(worker)),
                };
                started.map_err(|error| (self.lock().engine.worker_refused(sync::now()), error))
            }
            Some(RouseWorker::Wake(worker)) => {
                self.wake(worker);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Has waiters fail who never had a call; gives their wakers.
    #[must_use]
    fn fail(&self, waiters: Vec<Arc<Waiter>>, error: &Error) -> Vec<Waker> {
        let now = sync::now();
        let reply = |waiter: &Arc<Waiter>| {
            let queued = now.saturating_duration_since(waiter.asked);
            let fallback = if error.is_closed() { None } else { waiter.fallback(now) };
            let result = fallback.map(|addrs| addrs.after(queued, Duration::ZERO)).ok_or_else(|| error.clone());
            Reply { result, queued, in_call: Duration::ZERO, shared: false }
        };
        let replies: Vec<_> = waiters.iter().map(reply).collect();
        let answered = replies.iter().filter(|reply| reply.result.is_ok()).count();
        self.lock().engine.count(answered, Some((error.kind(), replies.len() - answered)));
        let wakers = waiters.iter().zip(replies).filter_map(|(waiter, reply)| waiter.fill(reply)).collect();
        _ = caught(|| drop(waiters));
        wakers
    }

    fn wake(&self, worker: WorkerId) {
        self.wake_in(self.lock(), worker);
    }

    fn wake_in(&self, state: MutexGuard<'_, State>, worker: WorkerId) {
        match &self.setup.origin {
            Origin::Blocking(_) => {
                let thread = state.roster.thread(Key::Worker(worker));
                drop(state);
                thread.iter().for_each(Thread::unpark);
            }
            // It is there, since this worker is.
            #[cfg(feature = "async-backend")]
            Origin::Async(_) => driver::tell(state, [Order::Wake(worker)]),
        }
    }

    /// Has calls dropped that nobody waits for.
    fn stop(&self, stopped: Stopped) {
        #[cfg(feature = "async-backend")]
        if !stopped.is_empty() {
            driver::tell(self.lock(), stopped.into_iter().map(Order::Stop));
        }
        #[cfg(not(feature = "async-backend"))]
        drop(stopped);
    }

    fn unpark(&self, thread: impl FnOnce(&State) -> Option<Thread>) {
        let thread = thread(&self.lock());
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    fn start(self: &Arc<Self>, name: &str, key: Key, run: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
        let mut builder = thread::Builder::new().name(name.to_owned());
        if let Some(stack) = self.setup.stack {
            builder = builder.stack_size(stack);
        }
        let threads = Arc::clone(self);
        let body = move || {
            threads.lock().roster.begin(key);
            run(&threads);
            // The last handle, perhaps, of what is foreign.
            _ = caught(|| drop(threads));
        };
        self.lock().roster.enlist(key);
        // `spawn` panics on some of what it cannot do, an absurd stack size for one.
        let started = match caught(|| builder.spawn(body)) {
            Ok(started) => started,
            Err(Panic(message)) => Err(io::Error::other(message.unwrap_or_default())),
        };
        let mut state = self.lock();
        match started {
            Ok(handle) => state.roster.store(key, handle),
            Err(error) => {
                state.roster.strike(key);
                return Err(error);
            }
        }
        // It may have left by now, and only this handle have been missing.
        let wakers = state.take_closers();
        drop(state);
        wakers.into_iter().for_each(|waker| _ = caught(|| waker.wake()));
        Ok(())
    }

    /// A thread's last act.
    fn depart(self: &Arc<Self>, mut state: MutexGuard<'_, State>, key: Key) {
        state.roster.leave(key);
        let wakers = state.take_closers();
        // Those who left before; and not at the very end, when they may be running the wakers of those who wait for it,
        // which join them.
        let others = if state.is_drained() { Vec::new() } else { state.roster.take_left(Some(key)) };
        let alarm = state.alarm();
        let rouse = state.engine.set_alarm(alarm);
        self.rouse(state, rouse);
        self.join(others);
        wakers.into_iter().for_each(|waker| _ = caught(|| waker.wake()));
    }

    /// Joins threads that have left, on a thread that may itself be one of them.
    fn join(&self, left: Vec<JoinHandle<()>>) {
        if left.is_empty() {
            return;
        }
        for thread in left.into_iter().filter(|left| left.thread().id() != thread::current().id()) {
            _ = thread.join();
        }
        let mut state = self.lock();
        state.roster.joined();
        let wakers = state.take_closers();
        drop(state);
        wakers.into_iter().for_each(|waker| _ = caught(|| waker.wake()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only the crate's own code runs under the lock, and none of it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
