//! The shell around the engine: it locks, asks, unlocks, and only then acts.

mod timekeeper;
mod worker;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::engine::{Engine, Limits, Refused, Rouse, RouseTimekeeper, RouseWorker, Ticket, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::{Panic, caught};
use crate::name::Name;
use crate::trace::Scope;
use crate::waiter::{Reply, Waiter};

/// The threads of one resolver, with the engine they share. They start when a lookup needs them and leave when they idle.
pub(crate) struct Threads {
    state: Mutex<State>,
    backend: Arc<dyn Backend>,
    /// Whether calls are to run inside their caller's span.
    pub(crate) traced: bool,
    stack: Option<usize>,
}

struct State {
    engine: Engine<Arc<Waiter>>,
    workers: HashMap<WorkerId, Thread>,
    timekeeper: Option<Thread>,
    /// Scopes that could not be closed where their lookup ended.
    unclosed: Vec<Scope>,
}

impl Threads {
    pub(crate) fn new(backend: Arc<dyn Backend>, limits: Limits, stack: Option<usize>) -> Self {
        let state =
            State { engine: Engine::new(limits), workers: HashMap::new(), timekeeper: None, unclosed: Vec::new() };
        // A backend that panics over this has not said that it emits none.
        let traced = caught(|| backend.emits_events()).unwrap_or(true);
        Self { state: Mutex::new(state), backend, traced, stack }
    }

    /// Asks for `name`; the waiter gets exactly one reply, unless it leaves.
    pub(crate) fn ask(self: &Arc<Self>, name: Name, waiter: Arc<Waiter>) -> Ticket {
        let now = waiter.asked;
        let asked = self.lock().engine.ask(now, name, waiter);
        self.rouse(asked.rouse);
        asked.ticket
    }

    /// The waiter's caller has lost interest.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let left = self.lock().engine.leave(ticket);
        drop(left);
    }

    /// Has a scope closed on a thread of the crate's.
    pub(crate) fn close_later(self: &Arc<Self>, scope: Scope) {
        let mut state = self.lock();
        state.unclosed.push(scope);
        let rouse = state.engine.call_timekeeper();
        drop(state);
        self.rouse(rouse);
    }

    /// Starts or wakes whom the engine named.
    fn rouse(self: &Arc<Self>, rouse: Rouse) {
        match rouse.timekeeper {
            Some(RouseTimekeeper::Start) => {
                if let Err(error) = self.start("gaiter-time", timekeeper::run) {
                    let untried = match rouse.worker {
                        Some(RouseWorker::Start(worker)) => Some(worker),
                        _ => None,
                    };
                    let refused = self.lock().engine.timekeeper_refused(untried);
                    self.refused(refused, error);
                    if untried.is_some() {
                        return;
                    }
                }
            }
            Some(RouseTimekeeper::Wake) => self.unpark(|state| state.timekeeper.clone()),
            None => {}
        }
        match rouse.worker {
            Some(RouseWorker::Start(worker)) => {
                if let Err(error) = self.start("gaiter", move |threads| worker::run(threads, worker)) {
                    let refused = self.lock().engine.worker_refused(Instant::now());
                    self.refused(refused, error);
                }
            }
            Some(RouseWorker::Wake(worker)) => self.unpark(|state| state.workers.get(&worker).cloned()),
            None => {}
        }
    }

    fn refused(self: &Arc<Self>, refused: Refused<Arc<Waiter>>, error: io::Error) {
        let error = Error::new(ErrorKind::ThreadRefused, error);
        for waiter in refused.stranded {
            let reply = Reply {
                result: Err(error.clone()),
                queued: Instant::now().saturating_duration_since(waiter.asked),
                in_call: Duration::ZERO,
                shared: false,
            };
            // The caller whose ask this is may be one of many.
            _ = caught(|| waiter.reply(reply));
        }
        self.rouse(refused.rouse);
    }

    fn unpark(&self, thread: impl FnOnce(&State) -> Option<Thread>) {
        let thread = thread(&self.lock());
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    fn start(self: &Arc<Self>, name: &str, run: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
        let threads = Arc::clone(self);
        let mut builder = thread::Builder::new().name(name.to_owned());
        if let Some(stack) = self.stack {
            builder = builder.stack_size(stack);
        }
        // `spawn` panics on some of what it cannot do, an absurd stack size for one.
        match caught(|| builder.spawn(move || run(&threads))) {
            Ok(spawned) => spawned.map(drop),
            Err(Panic(message)) => Err(io::Error::other(message.unwrap_or_default())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only the crate's own code runs under the lock, and none of it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
