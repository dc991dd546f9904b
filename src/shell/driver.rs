//! The drivers: threads that each build, run and drop a Tokio runtime. The workers of an async backend are tasks on them.
//!
//! A worker has no state while it sleeps, and may wake on any driver. All drivers end when there is no worker left.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hashbrown::HashMap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task;

use super::call::Call;
use super::roster::{Key, Kind};
use super::worker::Step;
use super::{Shell, State};
use crate::addrs::Answer;
use crate::backend::{Driven, Lookup, Origin, Session};
use crate::engine::{Engine, Landed, Rouse, RouseWorker, Stopped, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::sync::{self, Instant, MutexGuard};
use crate::trace::Scope;
use crate::waiter::Waiter;

/// Orders for a driver. Exists from before the driver starts until it ends.
pub(super) struct Inbox {
    orders: Vec<Order>,
    /// Number of workers that the driver runs or has orders to run.
    workers: usize,
    /// Also identifies the driver.
    bell: Arc<Notify>,
}

enum Order {
    /// Runs a worker, a new one or one that slept.
    Run { worker: WorkerId, slept: bool },
    /// Drops the call of a worker, unless it is another one by now, or another driver's.
    Stop(WorkerId),
}

/// Maximum number of threads for each driver that may run. All but one of them are about to end: what a session holds may
/// take its time to drop.
const DRIVERS: usize = 4;

impl Inbox {
    /// Orders the driver to run a worker. Returns the bell to ring.
    fn put(&mut self, worker: WorkerId, slept: bool) -> Arc<Notify> {
        self.workers += 1;
        self.orders.push(Order::Run { worker, slept });
        Arc::clone(&self.bell)
    }
}

impl State {
    /// Returns the driver that runs the next worker: the one with the fewest. Returns `None` if another driver must start, because
    /// all are busy and fewer than `most`.
    fn next_driver(&mut self, most: usize) -> Option<&mut Inbox> {
        let may_start = self.drivers.len() < most;
        let least = self.drivers.iter_mut().min_by_key(|inbox| inbox.workers)?;
        Some(least).filter(|least| !may_start || least.workers == 0)
    }

    fn inbox(&mut self, bell: &Arc<Notify>) -> Option<&mut Inbox> {
        self.drivers.iter_mut().find(|inbox| Arc::ptr_eq(&inbox.bell, bell))
    }

    fn remove_driver(&mut self, bell: &Arc<Notify>) -> Option<Inbox> {
        let index = self.drivers.iter().position(|inbox| Arc::ptr_eq(&inbox.bell, bell))?;
        Some(self.drivers.remove(index))
    }

    /// Passes the workers that a driver had yet to run to another driver. If there is none, they are gone. Returns whether there
    /// is another.
    fn hand_on(&mut self, inbox: Inbox, now: Instant) -> bool {
        let workers = inbox.orders.into_iter().filter_map(|order| match order {
            Order::Run { worker, slept } => Some((worker, slept)),
            Order::Stop(_) => None,
        });
        for (worker, slept) in workers {
            match self.next_driver(self.drivers.len()) {
                Some(other) => other.put(worker, slept).notify_one(),
                None if slept => self.engine.forget(worker),
                None => self.engine.worker_refused(now),
            }
        }
        !self.drivers.is_empty()
    }

    /// Returns the number of drivers that run no worker.
    pub(super) fn idle_drivers(&self) -> usize {
        self.drivers.iter().filter(|inbox| inbox.workers == 0).count()
    }

    /// Tells the drivers if no worker is left, so that they end.
    pub(super) fn end_drivers(&self) {
        if self.engine.has_no_worker() {
            self.drivers.iter().for_each(|inbox| inbox.bell.notify_one());
        }
    }
}

impl Shell {
    /// Unlocks the state, then runs a worker on the driver that has the fewest, or on another one that it starts. If there is no
    /// driver and none can start, the worker is gone.
    pub(super) fn drive(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        worker: WorkerId,
        slept: bool,
    ) -> io::Result<()> {
        if let Some(driver) = state.next_driver(self.setup.drivers) {
            let bell = driver.put(worker, slept);
            drop(state);
            bell.notify_one();
            return Ok(());
        }
        let mut inbox = Inbox { orders: Vec::new(), workers: 0, bell: Arc::default() };
        let bell = inbox.put(worker, slept);
        bell.notify_one();
        state.drivers.push(inbox);
        drop(state);
        let started = if self.roster.count(Kind::Driver) < self.setup.drivers.saturating_mul(DRIVERS) {
            let bell = Arc::clone(&bell);
            self.start("gaiter-driver", Key::Driver, move |shell| run(shell, &bell))
        } else {
            Err(io::Error::other("earlier threads of the resolver take their time to end"))
        };
        started.or_else(|error| {
            let mut state = self.lock();
            let is_handed_on = state.remove_driver(&bell).is_some_and(|inbox| state.hand_on(inbox, sync::now()));
            if is_handed_on { Ok(()) } else { Err(error) }
        })
    }

    /// Drops calls that nobody waits for.
    pub(super) fn stop_calls(&self, stopped: &Stopped) {
        let mut state = self.lock();
        // A driver that runs no worker has none of these calls.
        let busy = state.drivers.iter_mut().filter(|inbox| inbox.workers > 0);
        let told = busy.map(|inbox| {
            inbox.orders.extend(stopped.iter().copied().map(Order::Stop));
            Arc::clone(&inbox.bell)
        });
        let bells: Vec<_> = told.collect();
        drop(state);
        bells.iter().for_each(|bell| bell.notify_one());
    }
}

fn run(shell: &Arc<Shell>, bell: &Arc<Notify>) {
    // Dropped however this function ends.
    let _lost = Lost { shell, bell };
    // Not a `LocalSet`, whose tasks wake the runtime by a system call each time, even on its own thread.
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return refuse(shell, bell, error),
    };
    let driver = Rc::new(Driver {
        shell: Arc::clone(shell),
        bell: Arc::clone(bell),
        session: RefCell::default(),
        untold: RefCell::default(),
        watched: Cell::default(),
        stops: RefCell::default(),
    });
    let over = Cell::new(false);
    // A panic leaves `over` set, and ends the loop too.
    while !over.replace(true) {
        // Panics at its end if a backend has left Tokio's own context in disorder.
        _ = caught(|| runtime.block_on(async { over.set(drive(&driver).await) }));
        // Waiters are told outside the runtime, which is not theirs.
        driver.tell_all();
    }
    // May panic for the same reason, when its guard is dropped.
    _ = caught(|| {
        // What the session holds of this runtime is dropped before it.
        let _inside = runtime.enter();
        _ = caught(|| drop(driver.session.take()));
    });
    // Drops the tasks that are left. Does not wait for what the backend may be running on Tokio's threads.
    _ = caught(|| runtime.shutdown_background());
    // Tells the waiters whose calls were dropped with their tasks.
    driver.tell_all();
}

/// A guard that reports a driver's workers as gone if the driver ends unexpectedly.
struct Lost<'a> {
    shell: &'a Arc<Shell>,
    bell: &'a Arc<Notify>,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        let now = sync::now();
        let mut state = self.shell.lock();
        let Some(inbox) = state.remove_driver(self.bell) else { return };
        // Workers that sleep can wake on another driver.
        let rouse = if state.hand_on(inbox, now) { state.engine.rouse(now) } else { state.engine.driver_lost(now) };
        state.end_drivers();
        self.shell.rouse(state, rouse);
    }
}

/// Passes the workers of a driver without a runtime to another driver. If there is none, fails all waiters.
fn refuse(shell: &Arc<Shell>, bell: &Arc<Notify>, error: io::Error) {
    let mut state = shell.lock();
    let Some(inbox) = state.remove_driver(bell) else { return };
    if state.hand_on(inbox, sync::now()) {
        return;
    }
    drop(state);
    shell.fail(&Error::new(ErrorKind::System, error), Engine::strand);
    let mut state = shell.lock();
    let rouse = state.engine.rouse(sync::now());
    shell.rouse(state, rouse);
}

/// Carries out orders. Returns false when waiters must be told, and true when no worker is left.
async fn drive(driver: &Rc<Driver>) -> bool {
    loop {
        driver.bell.notified().await;
        let mut state = driver.shell.lock();
        if state.engine.has_no_worker() {
            // Orders that are left can only stop calls that have ended.
            state.remove_driver(&driver.bell);
            return true;
        }
        let orders = state.inbox(&driver.bell).map(|inbox| mem::take(&mut inbox.orders)).unwrap_or_default();
        let is_stale = |order: &Order| matches!(order, Order::Stop(worker) if !state.engine.is_stopped(*worker));
        let orders: Vec<Order> = orders.into_iter().filter(|order| !is_stale(order)).collect();
        drop(state);
        for order in orders {
            match order {
                Order::Run { worker, slept } => driver.spawn(worker, slept),
                Order::Stop(worker) => driver.stop(worker),
            }
        }
        if !driver.untold.borrow().is_empty() {
            return false;
        }
    }
}

struct Driver {
    shell: Arc<Shell>,
    bell: Arc<Notify>,
    /// Created when a call first needs it.
    session: RefCell<Option<Rc<Session>>>,
    /// Flights that have landed, and whose waiters have not been told.
    untold: RefCell<Vec<Landed>>,
    /// Number of these that the timekeeper watches.
    watched: Cell<usize>,
    /// The stop signals of the calls that run.
    stops: RefCell<HashMap<WorkerId, Rc<Stop>>>,
}

/// A signal that ends a call.
#[derive(Default)]
struct Stop {
    told: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Driver {
    fn spawn(self: &Rc<Self>, worker: WorkerId, slept: bool) {
        task::spawn_local(work(Task { driver: Rc::clone(self), worker, has_left: Cell::default() }, slept));
    }

    fn stop(&self, worker: WorkerId) {
        if let Some(stop) = self.stops.borrow().get(&worker) {
            stop.told.set(true);
            stop.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Does the same as [`Shell::rouse`], without a detour through the inbox if no other driver has fewer workers. `stays` tells
    /// whether the worker that rouses makes a call next.
    fn rouse(self: &Rc<Self>, mut state: MutexGuard<'_, State>, rouse: Rouse, stays: bool) {
        state.end_drivers();
        let mut own = 0;
        if let Some(inbox) = state.inbox(&self.bell) {
            inbox.workers -= usize::from(!stays);
            own = inbox.workers;
        }
        let next = rouse.worker.and_then(|_| state.next_driver(self.shell.setup.drivers));
        let Some(worker) = rouse.worker.filter(|_| next.is_some_and(|next| next.workers >= own)) else {
            return self.shell.rouse(state, rouse);
        };
        if let Some(inbox) = state.inbox(&self.bell) {
            inbox.workers += 1;
        }
        self.shell.rouse(state, Rouse { worker: None, ..rouse });
        match worker {
            RouseWorker::Start(worker) => self.spawn(worker, false),
            RouseWorker::Wake(worker) => self.spawn(worker, true),
        }
    }

    /// Tells the waiters of a flight later, when everything else that is ready has had its turn.
    ///
    /// If they were told at once, each would take the processor from the driver, and find nothing more to do once it has
    /// looked at its own answer.
    fn tell_later(&self, landed: Option<Landed>) {
        if let Some(landed) = landed {
            self.untold.borrow_mut().push(landed);
            self.bell.notify_one();
        }
    }

    /// Makes the timekeeper watch the flights whose waiters have not been told: foreign code is about to run, and may block.
    fn watch_untold(&self) {
        let untold = self.untold.borrow();
        for &landed in &untold[self.watched.replace(untold.len())..] {
            let mut state = self.shell.lock();
            let timekeeper = state.engine.watch(landed, sync::now());
            self.shell.rouse(state, Rouse { timekeeper, worker: None });
        }
    }

    fn tell_all(&self) {
        self.watched.set(0);
        let untold = self.untold.take();
        untold.into_iter().for_each(|landed| self.shell.tell_all(landed));
    }

    /// Returns the session. It is created outside any scope, because it outlives every caller.
    fn session(&self) -> Result<Rc<Session>, Error> {
        if let Some(session) = &*self.session.borrow() {
            return Ok(Rc::clone(session));
        }
        let Origin::Async(backend) = &self.shell.setup.origin else { return Err(ErrorKind::Other.into()) };
        let session = caught(|| Driven::new_session(Arc::clone(backend))).map_err(|panic| Error::panicked(panic.0))?;
        Ok(Rc::clone(self.session.borrow_mut().insert(Rc::new(session))))
    }
}

/// Runs the task of a worker. A worker that sleeps has no task: another one is spawned when it is woken.
async fn work(task: Task, mut slept: bool) {
    let Task { driver, worker, has_left } = &task;
    let lend = |waiter: &Arc<Waiter>| Some((Arc::clone(waiter), waiter.borrow_custody()?));
    loop {
        let rouse = |state: MutexGuard<'_, State>, rouse, stays| driver.rouse(state, rouse, stays);
        match driver.shell.next_step(*worker, mem::take(&mut slept), Some(lend), rouse) {
            Step::Call(call, lender) => fly(driver, *worker, call, lender).await,
            Step::Again => {}
            Step::Sleep | Step::Leave => return has_left.set(true),
        }
        // Lets other tasks run: the next call may be ready at once, and so may the one after that.
        task::consume_budget().await;
    }
}

/// A guard of a worker's task. If it is dropped with the driver's runtime, the worker is gone.
struct Task {
    driver: Rc<Driver>,
    worker: WorkerId,
    /// Whether the worker sleeps or has left.
    has_left: Cell<bool>,
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.has_left.get() {
            // Other threads are roused when the driver is known to be lost.
            self.driver.shell.lock().engine.forget(self.worker);
        }
    }
}

/// Makes a call and replies, unless the call is stopped first.
async fn fly(driver: &Driver, worker: WorkerId, call: Call<'_>, lender: Option<Loan>) {
    let stop = Rc::new(Stop::default());
    driver.stops.borrow_mut().insert(worker, Rc::clone(&stop));
    let custody = Custody::new(lender);
    let mut flying = Flying { driver, session: driver.session(), future: None, call: Some(call), custody };
    let landed = poll_fn(|cx| flying.poll(&stop, cx)).await;
    driver.tell_later(landed);
    driver.stops.borrow_mut().remove(&worker);
}

/// A call that is a future. It is made, polled and dropped in the scope that the call runs in.
struct Flying<'a> {
    driver: &'a Driver,
    session: Result<Rc<Session>, Error>,
    future: Option<Lookup>,
    /// `None` once the call is over.
    call: Option<Call<'a>>,
    custody: Custody,
}

impl Flying<'_> {
    fn poll(&mut self, stop: &Stop, cx: &mut Context<'_>) -> Poll<Option<Landed>> {
        let Self { driver, session, future, call, custody } = self;
        driver.watch_untold();
        if stop.told.get() {
            custody.run(|| forget(future));
            call.take().into_iter().for_each(Call::forget);
            return Poll::Ready(None);
        }
        stop.waker.set(Some(cx.waker().clone()));
        let mut replies = None;
        custody.run(|| {
            let Some(call) = call else { return };
            let result = match caught(|| poll(future, session, &call.name, cx)) {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(result)) => result,
                Err(panic) => Err(Error::panicked(panic.0)),
            };
            forget(future);
            // Still in the scope: its subscriber may ask for this very name when the scope is released, and must not find a
            // flight there that waits for it.
            replies = Some(call.land(result));
        });
        let Some(replies) = replies else { return Poll::Pending };
        let landed = replies.later();
        *call = None;
        // A lender that waits on, for another call, keeps its custody for that call.
        if landed.is_some() {
            custody.release();
        }
        Poll::Ready(landed)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        let Self { driver, future, call, custody, .. } = self;
        if future.is_some() {
            custody.run(|| forget(future));
        }
        // The call is dropped with the task. Its waiters are told later, outside the runtime.
        if let Some(call) = call {
            driver.tell_later(call.land(Err(Error::panicked(None))).later());
        }
    }
}

fn poll(
    future: &mut Option<Lookup>,
    session: &Result<Rc<Session>, Error>,
    name: &Name,
    cx: &mut Context<'_>,
) -> Poll<Result<Answer, Error>> {
    let session = match session {
        Ok(session) => session,
        Err(error) => return Poll::Ready(Err(error.clone())),
    };
    future.get_or_insert_with(|| session(name.as_str())).as_mut().poll(cx)
}

fn forget(future: &mut Option<Lookup>) {
    let future = future.take();
    _ = caught(|| drop(future));
}

/// A custody, and the waiter that has lent it.
type Loan = (Arc<Waiter>, Scope);

/// The scope that a call runs in: the custody of one of its callers, or only the subscriber of that caller once it has left.
struct Custody {
    /// The waiter that lends the custody. It has the custody between two polls, so that the custody ends when its caller
    /// leaves.
    lender: Option<Arc<Waiter>>,
    lent: Option<Scope>,
    subscriber: Option<Scope>,
}

impl Custody {
    fn new(lender: Option<Loan>) -> Self {
        let subscriber = lender.as_ref().map(|(_, scope)| scope.outside());
        let (lender, lent) = lender.unzip();
        Self { lender, lent, subscriber }
    }

    /// Runs `f`, which must not panic, in the scope. A call that nobody waited for has no scope.
    fn run(&mut self, f: impl FnOnce()) {
        let mut lent = self.lent.take().or_else(|| self.lender.as_ref()?.borrow_custody());
        match lent.as_mut().or(self.subscriber.as_mut()) {
            Some(scope) => scope.run(f),
            None => f(),
        }
        if let (Some(lender), Some(scope)) = (&self.lender, lent) {
            drop(lender.return_custody(scope));
        }
    }

    /// Drops the lender and its custody.
    fn release(&mut self) {
        // The waiter may be the last handle of its waker.
        _ = caught(|| drop(self.lender.take().map(|lender| lender.take_custody())));
    }
}

impl Drop for Custody {
    fn drop(&mut self) {
        if let (Some(lender), Some(scope)) = (&self.lender, self.lent.take()) {
            drop(lender.return_custody(scope));
        }
        _ = caught(|| drop(self.lender.take()));
    }
}
