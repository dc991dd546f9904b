//! Tests async backends on several drivers: each has a thread, a runtime and a session of its own, and is busy, slow or lost for
//! itself. `tests/support` runs the promises on three drivers too.
#![cfg(feature = "async-backend")]

mod support;

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{Answer, AsyncBackend, Error, ErrorKind, Resolver, Resolving};
use support::backend::ADDR;
use support::gate::{Gate, OpenOnDrop};
use support::panics::{self, DELIBERATE};

/// A backend that does what the name says: `block…` blocks its thread at `calls`, `hang…` waits there without blocking, `lost…` waits
/// at `losses` and then takes its driver along. Everything else answers at once.
#[derive(Clone, Default)]
struct Noting {
    calls: Gate,
    losses: Gate,
    /// Where a session blocks while it is dropped.
    ends: Gate,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Default)]
struct Noted {
    /// Threads on which sessions were made.
    made: Vec<ThreadId>,
    dropped: Vec<ThreadId>,
    /// Number of lookups that began on each thread.
    lookups: HashMap<ThreadId, usize>,
    /// Number of futures that were dropped.
    over: usize,
}

struct Session(Noting);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.ends.pass();
        self.0.noted.lock().unwrap().dropped.push(thread::current().id());
    }
}

struct Over(Noting);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.noted.lock().unwrap().over += 1;
    }
}

/// A waker that panics where Tokio runs it, inside the driver.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(DELIBERATE);
    }
}

impl AsyncBackend for Noting {
    type Session = Session;

    fn new_session(&self) -> Session {
        self.noted.lock().unwrap().made.push(thread::current().id());
        Session(self.clone())
    }

    fn lookup(&self, session: &Session, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let (this, name) = (session.0.clone(), name.to_owned());
        *this.noted.lock().unwrap().lookups.entry(thread::current().id()).or_default() += 1;
        async move {
            let _over = Over(this.clone());
            if name.starts_with("block") {
                this.calls.pass();
            } else if name.starts_with("hang") {
                this.calls.passed().await;
            } else if name.starts_with("lost") {
                this.losses.passed().await;
                let mut sleep = Box::pin(tokio::time::sleep(Duration::from_millis(1)));
                let bomb = Waker::from(Arc::new(Bomb));
                assert!(sleep.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
                pending::<()>().await;
            }
            Ok(ADDR.into())
        }
    }
}

impl Noting {
    fn resolver(&self, drivers: usize) -> Resolver {
        support::plain().async_backend(self.clone()).driver_threads(drivers).build()
    }

    fn drivers(&self) -> Vec<ThreadId> {
        let mut drivers = self.noted.lock().unwrap().made.clone();
        drivers.sort_by_key(|id| format!("{id:?}"));
        drivers.dedup();
        drivers
    }

    /// Starts lookups one after another. Each has begun when the next one is asked for.
    fn begin(&self, resolver: &Resolver, what: &str, count: usize) -> Vec<Resolving> {
        let gate = if what == "lost" { &self.losses } else { &self.calls };
        let before = gate.arrived();
        let begin = |number: usize| {
            let lookup = resolver.resolve(format!("{what}-{number}"));
            gate.await_arrivals(before + number + 1);
            lookup
        };
        (0..count).map(begin).collect()
    }
}

/// Waits for something that another thread does soon and nobody can wait for.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < support::WATCHDOG, "{what}");
        thread::yield_now();
    }
}

#[test]
fn lookups_run_at_the_same_time_each_driver_with_its_own_session() {
    let backend = Noting::default();
    backend.ends.open();
    let _open = OpenOnDrop(&backend.calls);
    let resolver = backend.resolver(3);
    // Asked for at once, as each blocks its thread: none passes the gate before all three are there.
    let lookups: Vec<_> = (0..3).map(|number| resolver.resolve(format!("block-{number}"))).collect();
    backend.calls.await_arrivals(3);
    assert_eq!(backend.drivers().len(), 3);
    let stats = resolver.stats();
    assert_eq!((stats.threads, stats.idle_threads, stats.running), (3, 0, 3));
    backend.calls.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    until("they idle", || resolver.stats().idle_threads == 3);
    assert!(block_on(resolver.shutdown()).is_clean());
    let noted = backend.noted.lock().unwrap();
    assert_eq!((noted.made.len(), noted.lookups.len(), resolver.stats().threads), (3, 3, 0));
    assert!(noted.dropped.iter().all(|driver| noted.made.contains(driver)), "each where it was made");
}

#[test]
fn one_lookup_at_a_time_needs_one_driver() {
    let backend = Noting::default();
    backend.ends.open();
    let resolver = backend.resolver(3);
    for number in 0..100 {
        block_on(resolver.resolve(format!("name-{number}"))).expect("an answer");
    }
    assert_eq!(resolver.stats().threads, 1);
    assert!(resolver.shutdown().wait().is_clean());
    assert_eq!(backend.drivers().len(), 1);
}

#[test]
fn drivers_share_the_lookups_evenly() {
    let backend = Noting::default();
    backend.ends.open();
    let _open = OpenOnDrop(&backend.calls);
    let resolver = backend.resolver(3);
    let lookups = backend.begin(&resolver, "hang", 12);
    let each = || backend.noted.lock().unwrap().lookups.values().copied().collect::<Vec<usize>>();
    assert_eq!(each(), [4, 4, 4]);
    drop(lookups);
    until("they hang on", || resolver.stats().idle_threads == 3);
    // In a burst, a driver that takes one lookup finds the next one queued.
    let lookups: Vec<_> = (0..24).map(|number| resolver.resolve(format!("hang-again-{number}"))).collect();
    backend.calls.await_arrivals(12 + 24);
    assert_eq!(each(), [12, 12, 12]);
    backend.calls.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn a_call_that_nobody_waits_for_is_dropped_on_whichever_driver_it_is() {
    let backend = Noting::default();
    backend.ends.open();
    let _open = OpenOnDrop(&backend.calls);
    let resolver = backend.resolver(3);
    let lookups = backend.begin(&resolver, "hang", 9);
    for (number, lookup) in lookups.into_iter().enumerate() {
        drop(lookup);
        until("it hangs on", || backend.noted.lock().unwrap().over == number + 1);
    }
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn a_driver_that_blocks_holds_up_no_other() {
    let backend = Noting::default();
    backend.ends.open();
    let _open = OpenOnDrop(&backend.calls);
    let resolver = backend.resolver(2);
    let blocked = backend.begin(&resolver, "block", 1);
    for number in 0..20 {
        block_on(resolver.resolve(format!("name-{number}"))).expect("an answer of the other");
    }
    backend.calls.open();
    assert!(block_on(join_all(blocked)).iter().all(Result::is_ok));
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn a_driver_that_is_lost_costs_its_own_calls() {
    panics::unexpected();
    for _ in 0..20 {
        let backend = Noting::default();
        backend.ends.open();
        let _open = OpenOnDrop(&backend.calls);
        let resolver = backend.resolver(2);
        let lost = backend.begin(&resolver, "lost", 1);
        let well = backend.begin(&resolver, "hang", 1);
        assert_eq!(resolver.stats().threads, 2);
        backend.losses.open();
        for lookup in lost {
            assert_eq!(block_on(lookup).expect_err("its driver is gone").kind(), ErrorKind::Panicked);
        }
        until("it has not ended", || resolver.stats().threads == 1);
        for number in 0..5 {
            block_on(resolver.resolve(format!("name-{number}"))).expect("an answer");
        }
        let more = backend.begin(&resolver, "hang-more", 4);
        backend.calls.open();
        assert!(block_on(join_all(well.into_iter().chain(more))).iter().all(Result::is_ok));
        assert!(resolver.shutdown().wait().is_clean());
    }
}

#[test]
fn all_drivers_may_be_lost() {
    panics::unexpected();
    for _ in 0..20 {
        let backend = Noting::default();
        backend.ends.open();
        let resolver = backend.resolver(2);
        let lost = backend.begin(&resolver, "lost", 2);
        backend.losses.open();
        for lookup in lost {
            assert_eq!(block_on(lookup).expect_err("its driver is gone").kind(), ErrorKind::Panicked);
        }
        block_on(resolver.resolve("name")).expect("an answer");
        assert!(resolver.shutdown().wait().is_clean());
        assert_eq!(resolver.stats().threads, 0);
    }
}

#[test]
fn sessions_that_are_slow_to_end_hold_up_nobody() {
    let backend = Noting::default();
    let (_open, _end) = (OpenOnDrop(&backend.calls), OpenOnDrop(&backend.ends));
    let builder = support::plain().async_backend(backend.clone()).driver_threads(2);
    let resolver = builder.thread_keep_alive(Duration::ZERO).build();
    let lookups: Vec<_> = (0..2).map(|number| resolver.resolve(format!("block-{number}"))).collect();
    backend.calls.await_arrivals(2);
    backend.calls.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    backend.ends.await_arrivals(2);
    for slow in 3..=5 {
        block_on(resolver.resolve("name")).expect("an answer of a new driver");
        backend.ends.await_arrivals(slow);
    }
    assert_eq!(resolver.stats().threads, 5);
    let report = resolver.shutdown().within(Duration::ZERO).wait();
    assert_eq!((report.abandoned.len(), report.threads), (0, 5), "{report}");
    backend.ends.open();
    assert!(resolver.shutdown().wait().is_clean());
}

/// At most four threads for each driver, most of which are about to end.
#[test]
fn where_no_other_driver_may_start_lookups_share_those_there_are() {
    let backend = Noting::default();
    let (_open, _end) = (OpenOnDrop(&backend.calls), OpenOnDrop(&backend.ends));
    let resolver =
        support::plain().async_backend(backend.clone()).driver_threads(2).thread_keep_alive(Duration::ZERO).build();
    for round in 1..=7 {
        block_on(resolver.resolve("name")).expect("an answer");
        backend.ends.await_arrivals(round);
    }
    let hanging = backend.begin(&resolver, "hang", 3);
    assert_eq!((resolver.stats().threads, resolver.stats().running), (8, 3));
    backend.calls.open();
    assert!(block_on(join_all(hanging)).iter().all(Result::is_ok));
    backend.ends.await_arrivals(8);
    let refused = block_on(resolver.resolve("name")).expect_err("all threads are about to end");
    assert_eq!(refused.kind(), ErrorKind::ThreadRefused);
    backend.ends.open();
    until("none ends", || block_on(resolver.resolve("name")).is_ok());
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn its_number_can_be_read_back() {
    let backend = Noting::default();
    backend.ends.open();
    for (set, is) in [(0, 1), (1, 1), (7, 7), (usize::MAX, usize::MAX)] {
        let resolver = backend.resolver(set);
        assert_eq!(resolver.config().driver_threads, is);
        block_on(resolver.resolve("name")).expect("an answer");
    }
    assert_eq!(Resolver::new().config().driver_threads, 1);
}
