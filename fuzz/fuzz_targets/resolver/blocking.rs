//! Foreign code that blocks: wakers, subscribers, and destructors of thread-locals.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use gaiter::{Answer, AsyncBackend, Backend, Builder, Error, Resolver};
use tracing::span::Id;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

use crate::support;
use crate::support::backend::{Kind, Scripted};
use crate::support::callers::Witness;
use crate::support::log::Ledger;
use crate::support::panics::DELIBERATE;

/// How much later than its bound an event may be, on a busy machine.
pub const MARGIN: Duration = Duration::from_secs(30);

/// How long a thread is held at most: longer than [`MARGIN`], and shorter than libFuzzer lets an input run. A caller that had to
/// wait for it then fails an assertion instead of hanging.
const LONGEST: Duration = Duration::from_secs(45);

/// How long a dawdling waker blocks.
const DAWDLE: Duration = Duration::from_millis(50);

/// In a name, this makes the call leave a thread-local behind whose destructor blocks.
pub const LINGERS: &str = "lingers";

/// Number of times that foreign code ran on the timekeeper.
static MISPLACED: AtomicUsize = AtomicUsize::new(0);

pub fn misplaced() -> usize {
    MISPLACED.load(Ordering::SeqCst)
}

/// Returns whether this is one of the resolver's threads. No other thread is ever blocked. Counts the timekeeper as misplaced.
fn is_the_crates() -> bool {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    MISPLACED.fetch_add(usize::from(name == "gaiter-time"), Ordering::SeqCst);
    name.starts_with("gaiter")
}

/// Blocks foreign code on the resolver's threads until it is opened.
#[derive(Clone, Default)]
pub struct Hold(Arc<(Mutex<bool>, Condvar)>);

impl Hold {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    fn pass(&self, longest: Duration) {
        let (is_open, changed) = &*self.0;
        drop(changed.wait_timeout_while(is_open.lock().unwrap(), longest, |is_open| !*is_open).unwrap());
    }

    /// Makes the end of this thread block.
    fn linger(&self) {
        thread_local!(static LOCAL: RefCell<Option<Lingers>> = const { RefCell::new(None) });
        LOCAL.with_borrow_mut(|lingers| _ = lingers.get_or_insert_with(|| Lingers(self.clone())));
    }
}

struct Lingers(Hold);

impl Drop for Lingers {
    fn drop(&mut self) {
        self.0.pass(LONGEST);
    }
}

/// How a waker behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Woken {
    Noop,
    Panicking,
    /// Looks at the resolver, which deadlocks if a lock is held.
    Curious,
    Blocking,
    /// Blocks for [`DAWDLE`].
    Dawdling,
    /// Makes the end of its thread block.
    Lingering,
}

impl Woken {
    pub fn blocks(self) -> bool {
        matches!(self, Self::Blocking | Self::Dawdling | Self::Lingering)
    }

    pub fn waker(self, resolver: &Resolver, hold: &Hold) -> Waker {
        Arc::new(Hostile(self, resolver.clone(), hold.clone())).into()
    }
}

struct Hostile(Woken, Resolver, Hold);

impl Wake for Hostile {
    fn wake(self: Arc<Self>) {
        let may_block = is_the_crates();
        match self.0 {
            Woken::Panicking => std::panic::panic_any(DELIBERATE),
            Woken::Curious => _ = self.1.stats(),
            Woken::Blocking if may_block => self.2.pass(LONGEST),
            Woken::Dawdling if may_block => self.2.pass(DAWDLE),
            Woken::Lingering if may_block => self.2.linger(),
            Woken::Noop | Woken::Blocking | Woken::Dawdling | Woken::Lingering => {}
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        is_the_crates();
    }
}

/// Returns a subscriber that blocks when a span is exited or closed.
pub fn subscriber(hold: &Hold) -> (Dispatch, Vec<Witness>) {
    let all = Witness::new(true);
    (registry().with(Ledger(all.log.clone())).with(Holding(hold.clone())).into(), vec![all])
}

struct Holding(Hold);

impl Holding {
    fn pass(&self) {
        if is_the_crates() {
            self.0.pass(LONGEST);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Holding {
    fn on_exit(&self, _: &Id, _: LayerContext<'_, S>) {
        self.pass();
    }

    fn on_close(&self, _: Id, _: LayerContext<'_, S>) {
        self.pass();
    }
}

/// The backend of the tests. Its calls may leave a thread-local behind that blocks.
#[derive(Clone)]
pub struct Guest(pub Scripted, pub Hold);

impl Guest {
    pub fn builder(self, calls: usize) -> Builder {
        match self.0.kind {
            Kind::Blocking => support::plain().backend(self).max_lookups(calls),
            Kind::Async => support::plain().async_backend(self).max_lookups(calls),
            Kind::Drivers => support::plain().async_backend(self).driver_threads(3).max_lookups(calls),
        }
    }

    fn arrive(&self, name: &str) {
        if is_the_crates() && name.contains(LINGERS) {
            self.1.linger();
        }
    }
}

impl Backend for Guest {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        self.arrive(name);
        Backend::lookup(&self.0, name)
    }

    fn emits_events(&self) -> bool {
        self.0.emits_events
    }
}

impl AsyncBackend for Guest {
    type Session = ();

    fn new_session(&self) {}

    fn lookup(&self, (): &(), name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        self.arrive(name);
        AsyncBackend::lookup(&self.0, &(), name)
    }
}

/// Wakes the thread that waits in [`by`].
struct Parked(Thread, AtomicBool);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        is_the_crates();
        self.1.store(true, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// Polls a future when it is woken, and unless `wakes_come` every 5 ms as well. Returns `None` if it is not ready by `limit`.
pub fn by<F: Future + Unpin>(limit: Instant, wakes_come: bool, mut future: F) -> Option<F::Output> {
    let parked = Arc::new(Parked(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&parked));
    loop {
        let polled = promptly("a poll", || Pin::new(&mut future).poll(&mut Context::from_waker(&waker)));
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        while !parked.1.swap(false, Ordering::SeqCst) {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            thread::park_timeout(if wakes_come { left } else { left.min(Duration::from_millis(5)) });
            if !wakes_come {
                break;
            }
        }
    }
}

/// Does `work`, and asserts that nothing blocks it.
pub fn promptly<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    assert!(began.elapsed() < MARGIN, "{what} took {:?}", began.elapsed());
    done
}

/// Asserts that at most `bound` threads of this process have the name `called`. Waits for threads that are just ending.
pub fn await_at_most(bound: usize, called: &str) {
    let limit = Instant::now() + MARGIN / 2;
    while threads(called) > bound {
        assert!(Instant::now() < limit, "more than {bound} threads {called}");
        thread::sleep(Duration::from_micros(100));
    }
}

fn threads(called: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("it is there on Linux");
    // A thread that ends meanwhile has no name any more.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == called).count()
}
