//! The driver: one thread with a Tokio runtime, which it builds, runs and drops. The workers of an async backend are tasks on it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hashbrown::HashMap;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{self, LocalSet};

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

/// What the driver has yet to do; there from before it starts until it ends.
pub(super) struct Inbox {
    orders: Vec<Order>,
    bell: Arc<Notify>,
}

pub(super) enum Order {
    /// A worker is to come for what there is: for the first time, or from its sleep.
    Start(WorkerId),
    Wake(WorkerId),
    /// The call that a worker has is to be dropped, unless it is another one by now.
    Stop(WorkerId),
}

/// So many drivers there may be, all but one of them about to end: what a session has may take its time to go.
const DRIVERS: usize = 4;

impl Shell {
    /// Hands the driver an order, and starts it if it is not there.
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

/// Hands the driver orders, if it is there.
pub(super) fn tell(mut state: MutexGuard<'_, State>, orders: impl IntoIterator<Item = Order>) {
    let Some(inbox) = &mut state.driver else { return };
    inbox.orders.extend(orders);
    let bell = Arc::clone(&inbox.bell);
    drop(state);
    bell.notify_one();
}

fn run(shell: &Arc<Shell>, bell: &Arc<Notify>) {
    // However it ends.
    let _lost = Lost { shell, bell };
    let runtime = match Builder::new_current_thread().enable_all().build() {
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
    let local = LocalSet::new();
    let over = Cell::new(false);
    // It is over too if it does not say so.
    while !over.replace(true) {
        // A backend that leaves Tokio's own context in disorder has this panic at its end.
        _ = caught(|| local.block_on(&runtime, async { over.set(drive(&driver).await) }));
        // Outside the runtime, which is none of the callers'.
        driver.tell_all();
    }
    // As does this, where its guard is dropped.
    _ = caught(|| {
        // What the session has of this runtime goes before it.
        let _inside = runtime.enter();
        _ = caught(|| drop(local));
        _ = caught(|| drop(driver.session.take()));
    });
    // Those whose calls were dropped with their tasks.
    driver.tell_all();
    // Without waiting for what the backend may have running on threads of Tokio's.
    _ = caught(|| runtime.shutdown_background());
}

/// Where a driver ends without having said so, its workers are no more.
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

/// There is no runtime to be had: everyone who waits is told.
fn refuse(shell: &Arc<Shell>, error: io::Error) {
    let mut state = shell.lock();
    state.driver = None;
    // The one worker that was on the way.
    state.engine.worker_refused(sync::now());
    drop(state);
    shell.fail(&Error::new(ErrorKind::System, error), Engine::strand);
    let mut state = shell.lock();
    let rouse = state.engine.rouse(sync::now());
    shell.rouse(state, rouse);
}

/// Obeys orders until somebody is to be woken or there is no worker left; says whether it is over, as it is for want of workers.
async fn drive(driver: &Rc<Driver>) -> bool {
    loop {
        driver.bell.notified().await;
        let mut state = driver.shell.lock();
        if state.engine.has_no_worker() {
            // What there may be is to stop calls that have ended.
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
    /// Made when a call first needs it.
    session: RefCell<Option<Rc<Session>>>,
    /// Flights that have landed.
    untold: RefCell<Vec<Landed>>,
    /// How many of them the timekeeper knows of.
    watched: Cell<usize>,
    /// The calls that run.
    stops: RefCell<HashMap<WorkerId, Rc<Stop>>>,
}

/// How a call is told to end.
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

    /// Does what [`Shell::rouse`] does, without a detour through the inbox.
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

    /// Has callers told when everything else that is ready has had its turn: one at a time, each would take the processor from the
    /// driver, to find nothing more to do when it has looked at its own answer.
    fn tell_later(&self, landed: Option<Landed>) {
        if let Some(landed) = landed {
            self.untold.borrow_mut().push(landed);
            self.bell.notify_one();
        }
    }

    /// Others' code is about to run, which may block.
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

    /// In nobody's scope: it outlives every caller.
    fn session(&self) -> Result<Rc<Session>, Error> {
        if let Some(session) = &*self.session.borrow() {
            return Ok(Rc::clone(session));
        }
        let Origin::Async(backend) = &self.shell.setup.origin else { return Err(ErrorKind::Other.into()) };
        let session = caught(|| Driven::new_session(Arc::clone(backend))).map_err(|panic| Error::panicked(panic.0))?;
        Ok(Rc::clone(self.session.borrow_mut().insert(Rc::new(session))))
    }
}

/// The task of a worker. One that sleeps is no task: another is spawned when it is woken.
async fn work(driver: Rc<Driver>, worker: WorkerId, mut slept: bool) {
    let mut task = Task { driver: &driver, worker, has_left: false };
    let lend = |waiter: &Arc<Waiter>| Some((Arc::clone(waiter), waiter.borrow_custody()?));
    loop {
        let rouse = |state: MutexGuard<'_, State>, rouse| driver.rouse(state, rouse);
        match driver.shell.next_step(worker, mem::take(&mut slept), lend, rouse) {
            Step::Call(name, lender) => fly(&driver, worker, Call::new(&driver.shell, worker, name), lender).await,
            Step::Sleep | Step::Leave => {
                task.has_left = true;
                return;
            }
        }
        // The next call may be ready at once, and the one after that.
        task::consume_budget().await;
    }
}

/// A worker that is a task. One that is dropped with the driver's runtime is no more.
struct Task<'a> {
    driver: &'a Rc<Driver>,
    worker: WorkerId,
    /// It sleeps, or has left.
    has_left: bool,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            // Others are roused when the driver is known to be lost.
            self.driver.shell.lock().engine.forget(self.worker);
        }
    }
}

/// Makes a call and replies, unless it is stopped before.
async fn fly(driver: &Driver, worker: WorkerId, call: Call<'_>, lender: Option<Loan>) {
    let stop = Rc::new(Stop::default());
    driver.stops.borrow_mut().insert(worker, Rc::clone(&stop));
    let custody = Custody::new(lender);
    let mut flying = Flying { driver, session: driver.session(), future: None, call: Some(call), custody };
    let landed = poll_fn(|cx| flying.poll(&stop, cx)).await;
    driver.tell_later(landed);
    driver.stops.borrow_mut().remove(&worker);
}

/// A call that is a future, which is made, polled and dropped in the scope that it runs in.
struct Flying<'a> {
    driver: &'a Driver,
    session: Result<Rc<Session>, Error>,
    future: Option<Lookup>,
    /// `None` when it is over.
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
            // Still inside: the subscriber may ask for this very name when the scope is let go, and must not find a flight
            // there that waits for it.
            call.land(result);
            landed = true;
        });
        if !landed {
            return Poll::Pending;
        }
        let landed = call.take().and_then(|mut call| call.end_later());
        // Whoever waits on, for another call, is still who that one runs for.
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
        // With the task and its runtime, inside which nobody is told.
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

/// A scope, and whom it is of.
type Loan = (Arc<Waiter>, Scope);

/// The scope that a call runs in: that of one of its callers, or when that one has left, what remains of it, its subscriber.
struct Custody {
    /// Whom the scope is of, and with whom it is between two polls, so that it ends when its caller leaves.
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

    /// Runs `f`, which does not panic, in the scope; in nobody's, if it is a call for nobody.
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

    /// Lets go of the caller.
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
