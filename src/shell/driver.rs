//! The driver: one thread that builds, runs and drops a Tokio runtime. The workers of an async backend are tasks on it.

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
use crate::engine::{Engine, Landed, Rouse, RouseWorker, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::foreign::caught;
use crate::name::Name;
use crate::sync::{self, MutexGuard};
use crate::trace::Scope;
use crate::waiter::Waiter;

/// Orders for the driver. Exists from before the driver starts until it ends.
pub(super) struct Inbox {
    orders: Vec<Order>,
    bell: Arc<Notify>,
}

pub(super) enum Order {
    /// Runs a new worker.
    Start(WorkerId),
    /// Runs a worker that slept.
    Wake(WorkerId),
    /// Drops the call of a worker, unless it is another one by now.
    Stop(WorkerId),
}

/// Maximum number of drivers. All but one of them are about to end: what a session holds may take its time to drop.
const DRIVERS: usize = 4;

impl Shell {
    /// Passes an order to the driver, and starts the driver if there is none.
    pub(super) fn order(self: &Arc<Self>, mut state: MutexGuard<'_, State>, order: Order) -> io::Result<()> {
        if state.driver.is_some() {
            tell(state, [order]);
            return Ok(());
        }
        let bell = Arc::new(Notify::new());
        bell.notify_one();
        state.driver = Some(Inbox { orders: vec![order], bell: Arc::clone(&bell) });
        drop(state);
        let started = if self.roster.count(Kind::Driver) < DRIVERS {
            self.start("gaiter-driver", Key::Driver, move |shell| run(shell, &bell))
        } else {
            Err(io::Error::other("earlier threads of the resolver take their time to end"))
        };
        started.inspect_err(|_| self.lock().driver = None)
    }
}

/// Passes orders to the driver, if there is one.
pub(super) fn tell(mut state: MutexGuard<'_, State>, orders: impl IntoIterator<Item = Order>) {
    let Some(inbox) = &mut state.driver else { return };
    inbox.orders.extend(orders);
    let bell = Arc::clone(&inbox.bell);
    drop(state);
    bell.notify_one();
}

fn run(shell: &Arc<Shell>, bell: &Arc<Notify>) {
    // Dropped however this function ends.
    let _lost = Lost { shell, bell };
    // Not a `LocalSet`, whose tasks wake the runtime by a system call each time, even on its own thread.
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return refuse(shell, error),
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
        let Some(inbox) = state.driver.take_if(|inbox| Arc::ptr_eq(&inbox.bell, self.bell)) else { return };
        for order in inbox.orders {
            if let Order::Start(worker) | Order::Wake(worker) = order {
                state.engine.forget(worker);
            }
        }
        let rouse = state.engine.driver_lost(now);
        self.shell.rouse(state, rouse);
    }
}

/// Tells all waiters that there is no runtime.
fn refuse(shell: &Arc<Shell>, error: io::Error) {
    let mut state = shell.lock();
    state.driver = None;
    // The only worker that was on the way.
    state.engine.worker_refused(sync::now());
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
            state.driver = None;
            return true;
        }
        let orders = state.driver.as_mut().map(|inbox| mem::take(&mut inbox.orders)).unwrap_or_default();
        let is_stale = |order: &Order| matches!(order, Order::Stop(worker) if !state.engine.is_stopped(*worker));
        let orders: Vec<Order> = orders.into_iter().filter(|order| !is_stale(order)).collect();
        drop(state);
        for order in orders {
            match order {
                Order::Start(worker) => driver.spawn(worker, false),
                Order::Wake(worker) => driver.spawn(worker, true),
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
        task::spawn_local(work(Rc::clone(self), worker, slept));
    }

    fn stop(&self, worker: WorkerId) {
        if let Some(stop) = self.stops.borrow().get(&worker) {
            stop.told.set(true);
            stop.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Does the same as [`Shell::rouse`], without a detour through the inbox.
    fn rouse(self: &Rc<Self>, state: MutexGuard<'_, State>, rouse: Rouse) {
        if state.engine.has_no_worker() {
            self.bell.notify_one();
        }
        self.shell.rouse(state, Rouse { worker: None, ..rouse });
        match rouse.worker {
            Some(RouseWorker::Start(worker)) => self.spawn(worker, false),
            Some(RouseWorker::Wake(worker)) => self.spawn(worker, true),
            None => {}
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
async fn work(driver: Rc<Driver>, worker: WorkerId, mut slept: bool) {
    let mut task = Task { driver: &driver, worker, has_left: false };
    let lend = |waiter: &Arc<Waiter>| Some((Arc::clone(waiter), waiter.borrow_custody()?));
    loop {
        let rouse = |state: MutexGuard<'_, State>, rouse| driver.rouse(state, rouse);
        match driver.shell.next_step(worker, mem::take(&mut slept), lend, rouse) {
            Step::Call(call, lender) => fly(&driver, worker, call, lender).await,
            Step::Again => {}
            Step::Sleep | Step::Leave => {
                task.has_left = true;
                return;
            }
        }
        // Lets other tasks run: the next call may be ready at once, and so may the one after that.
        task::consume_budget().await;
    }
}

/// A guard of a worker's task. If it is dropped with the driver's runtime, the worker is gone.
struct Task<'a> {
    driver: &'a Rc<Driver>,
    worker: WorkerId,
    /// Whether the worker sleeps or has left.
    has_left: bool,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.has_left {
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
        let mut landed = false;
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
            call.land(result);
            landed = true;
        });
        if !landed {
            return Poll::Pending;
        }
        let landed = call.take().and_then(|mut call| call.end_later());
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
            call.land(Err(Error::panicked(None)));
            driver.tell_later(call.end_later());
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
