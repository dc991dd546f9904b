//! Tests what only async backends do: their futures end when nobody waits, share a session that lives as long as the driver,
//! and run inside a runtime. The other files test every kind of backend.
#![cfg(feature = "async-backend")]

mod support;

use std::future::{pending, ready};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{Addrs, Answer, AsyncBackend, CacheConfig, Error, ErrorKind, Hedge, Resolver, Source};
use support::backend::{ADDR, Kind, Scripted};
use support::gate::{Gate, OpenOnDrop};
use support::log::Log;
use support::panics::{self, DELIBERATE};
use support::strict::Strict;
use tokio::runtime::Handle;
use tracing::{Dispatch, dispatcher, info, info_span};

/// Long enough for the driver to start and a future to begin, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a gate when it is dropped.
struct Dropped(Gate);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Returns a backend whose calls hang, and open `dropped` when they are dropped.
fn hanging(dropped: &Gate) -> impl AsyncBackend + use<> {
    let (dropped, began) = (dropped.clone(), Gate::default());
    move |_: &str| {
        let (dropped, began) = (Dropped(dropped.clone()), began.clone());
        async move {
            let _dropped = dropped;
            began.passed().await;
            Ok::<Answer, Error>(pending().await)
        }
    }
}

#[test]
fn a_future_is_dropped_when_the_last_caller_leaves_and_not_before() {
    let dropped = Gate::default();
    let resolver = support::plain().async_backend(hanging(&dropped)).build();
    let callers = [(); 3].map(|()| resolver.resolve("name"));
    let [first, second, last] = callers;
    drop((first, second));
    let stats = resolver.stats();
    assert_eq!(stats.running + stats.queued, 1);
    drop(last);
    let stats = resolver.stats();
    assert_eq!((stats.running, stats.cancelled), (0, 3));
    assert!(block_on(resolver.shutdown()).is_clean(), "nothing is waited for");
}

#[test]
fn a_future_whose_callers_have_had_their_time_is_dropped() {
    let dropped = Gate::default();
    let resolver = support::plain().async_backend(hanging(&dropped)).timeout(TIMEOUT).build();
    assert!(block_on(resolver.resolve("name")).expect_err("a timeout").is_timeout());
    dropped.await_open();
    assert_eq!(resolver.stats().running, 0);
}

/// Returns a backend whose first answer comes at once and expires at once. Later answers wait for the gate and last 1 hour.
fn slow_later(gate: &Gate, calls: &Arc<AtomicUsize>) -> impl AsyncBackend + use<> {
    let (gate, calls) = (gate.clone(), Arc::clone(calls));
    move |_: &str| {
        let (gate, first) = (gate.clone(), calls.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            if first {
                return Ok::<_, Error>(Answer::from(ADDR).with_ttl(Duration::ZERO));
            }
            gate.passed().await;
            Ok(Answer::from(ADDR).with_ttl(Duration::from_secs(3600)))
        }
    }
}

/// Resolves a name until the answer's source is not `source`, and returns that answer.
fn until_not(resolver: &Resolver, source: Source) -> Addrs {
    loop {
        let addrs = block_on(resolver.resolve("name")).expect("an answer");
        if addrs.source() != source {
            return addrs;
        }
    }
}

#[test]
fn what_callers_make_do_without_goes_on_and_fills_the_cache() {
    let (gate, calls) = (Gate::default(), Arc::default());
    let _open = OpenOnDrop(&gate);
    let cache =
        CacheConfig::new().min_ttl(Duration::ZERO).max_ttl(Duration::MAX).stale_while_revalidate(Duration::ZERO);
    let resolver = Resolver::builder()
        .async_backend(slow_later(&gate, &calls))
        .cache(cache.stale_answer_timeout(TIMEOUT))
        .hedge(Hedge::off())
        .build();
    block_on(resolver.resolve("name")).expect("an answer");
    let stale = until_not(&resolver, Source::Cache);
    assert_eq!(stale.source(), Source::Stale, "patience is over");
    gate.await_arrivals(1);
    assert_eq!(resolver.stats().running, 1, "nobody waits, and it goes on");
    gate.open();
    assert_eq!(until_not(&resolver, Source::Stale).source(), Source::Cache);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_refresh_that_hangs_is_dropped_in_its_time() {
    let (dropped, calls) = (Gate::default(), AtomicUsize::new(0));
    let opens = dropped.clone();
    let backend = move |_: &str| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        let dropped = (!first).then(|| Dropped(opens.clone()));
        async move {
            if dropped.is_some() {
                pending::<()>().await;
            }
            Ok::<_, Error>(Answer::from(ADDR).with_ttl(Duration::ZERO))
        }
    };
    let cache = CacheConfig::new().min_ttl(Duration::ZERO).max_ttl(Duration::MAX);
    let resolver = Resolver::builder().async_backend(backend).cache(cache).timeout(TIMEOUT).build();
    block_on(resolver.resolve("name")).expect("an answer");
    assert_eq!(until_not(&resolver, Source::Cache).source(), Source::Stale, "at once");
    dropped.await_open();
    assert_eq!((resolver.stats().running, resolver.stats().refreshed), (0, 1));
}

/// A backend that records on which thread, and whether inside a runtime, its sessions are made, used and dropped.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Noted>>>);

type Noted = (&'static str, ThreadId, bool);

struct NotingSession(Noting);

impl Noting {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push((what, thread::current().id(), Handle::try_current().is_ok()));
    }
}

impl Drop for NotingSession {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

impl AsyncBackend for Noting {
    type Session = NotingSession;

    fn new_session(&self) -> NotingSession {
        self.note("made");
        NotingSession(self.clone())
    }

    fn lookup(&self, session: &NotingSession, _: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let noting = session.0.clone();
        async move {
            // Spawning a task needs a runtime around this future.
            tokio::spawn(async move { noting.note("used") })
                .await
                .map_err(|error| Error::new(ErrorKind::Other, error))?;
            Ok(ADDR.into())
        }
    }
}

#[test]
fn a_session_lives_and_dies_with_the_driver() {
    let noting = Noting::default();
    let resolver = support::plain().async_backend(noting.clone()).build();
    let lookups = (0..10).map(|number| resolver.resolve(number.to_string() + ".name"));
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    assert!(block_on(resolver.shutdown()).is_clean());
    let noted = noting.0.lock().unwrap().clone();
    let (_, driver, _) = noted[0];
    assert!(noted.iter().all(|&(_, thread, inside)| (thread, inside) == (driver, true)), "{noted:?}");
    let what: Vec<_> = noted.iter().map(|&(what, ..)| what).collect();
    assert_eq!((what[0], &what[1..11], what[11], what.len()), ("made", &["used"; 10][..], "dropped", 12));
    assert_ne!(driver, thread::current().id());
}

#[test]
fn the_driver_leaves_when_it_has_idled_and_comes_back() {
    let noting = Noting::default();
    let resolver = support::plain().async_backend(noting.clone()).thread_keep_alive(Duration::ZERO).build();
    for round in 1..20 {
        block_on(resolver.resolve("name")).expect("an answer");
        let began = std::time::Instant::now();
        let dropped = || noting.0.lock().unwrap().iter().filter(|(what, ..)| *what == "dropped").count();
        while dropped() < round {
            assert!(began.elapsed() < support::WATCHDOG, "it stays");
            thread::yield_now();
        }
    }
}

#[test]
fn a_panic_costs_its_own_lookup_wherever_it_is() {
    struct Panics(AtomicUsize);
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(DELIBERATE);
        }
    }
    impl AsyncBackend for Panics {
        type Session = Bomb;
        fn new_session(&self) -> Bomb {
            if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                std::panic::panic_any(DELIBERATE);
            }
            Bomb
        }
        fn lookup(&self, _: &Bomb, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
            if name == "in the call" {
                std::panic::panic_any(DELIBERATE);
            }
            let bomb = (name == "in the drop").then(|| Bomb);
            let in_the_future = name == "in the future";
            async move {
                tokio::task::yield_now().await;
                if in_the_future {
                    std::panic::panic_any(DELIBERATE);
                }
                let _bomb = bomb.map(Box::new);
                Ok(ADDR.into())
            }
        }
    }
    let before = panics::unexpected();
    let resolver = support::plain().async_backend(Panics(AtomicUsize::new(0))).build();
    for name in ["in the session", "in the call", "in the future", "in the drop"] {
        assert_eq!(block_on(resolver.resolve(name)).expect_err("it panicked").kind(), ErrorKind::Panicked, "{name}");
        block_on(resolver.resolve("nowhere")).expect("an answer");
    }
    let report = block_on(resolver.shutdown());
    assert_eq!((report.finished, report.is_clean()), (0, true));
    assert_eq!(panics::unexpected(), before);
}

#[test]
fn what_a_backend_leaves_behind_in_tokio_stops_no_driver() {
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = other.handle().clone();
    let backend = move |_: &str| {
        std::mem::forget(handle.enter());
        async { Ok::<_, Error>(ADDR) }
    };
    panics::unexpected();
    let resolver = support::plain().async_backend(backend).build();
    for number in 0..3 {
        block_on(resolver.resolve(format!("name-{number}"))).expect("an answer");
    }
    assert!(block_on(resolver.shutdown()).is_clean());
}

/// Leaves Tokio's context in disorder when it is dropped.
struct Disorder;

impl Drop for Disorder {
    fn drop(&mut self) {
        std::mem::forget(Handle::current().enter());
    }
}

struct LeavesDisorder;

impl AsyncBackend for LeavesDisorder {
    type Session = Disorder;

    fn new_session(&self) -> Disorder {
        Disorder
    }

    fn lookup(&self, _: &Disorder, _: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        ready(Ok([ADDR].into()))
    }
}

#[test]
fn what_a_session_leaves_behind_in_tokio_keeps_no_driver() {
    panics::unexpected();
    let resolver = support::plain().async_backend(LeavesDisorder).build();
    block_on(resolver.resolve("ok")).expect("an answer");
    let report = resolver.shutdown().wait();
    assert!(report.is_clean(), "{report}");
    assert_eq!(resolver.stats().threads, 0);
}

/// A waker that panics where Tokio runs it, inside the driver.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(panics::DELIBERATE);
    }
}

#[test]
fn a_driver_that_is_lost_is_made_up_for() {
    panics::unexpected();
    let gate = Gate::default();
    let backend = {
        let gate = gate.clone();
        move |name: &str| {
            let (gate, name) = (gate.clone(), name.to_owned());
            async move {
                if name == "lost" {
                    gate.passed().await;
                    let mut sleep = Box::pin(tokio::time::sleep(Duration::from_millis(1)));
                    let bomb = Waker::from(Arc::new(Bomb));
                    assert!(sleep.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
                    pending::<()>().await;
                }
                Ok::<_, Error>(ADDR)
            }
        }
    };
    let resolver = support::plain().async_backend(backend).max_lookups(1).reserved_for_known(0).build();
    let _open = OpenOnDrop(&gate);
    let lost = resolver.resolve("lost");
    gate.await_arrivals(1);
    let queued = resolver.resolve("queued");
    gate.open();
    assert_eq!(block_on(lost).expect_err("its driver is gone").kind(), ErrorKind::Panicked);
    block_on(queued).expect("another driver");
    block_on(resolver.resolve("later")).expect("an answer");
    assert!(resolver.shutdown().wait().is_clean());
}

/// A waker that acts inside `wake`, as an inline executor does: it records whether it is inside a runtime, and opens a gate.
struct Inline(Gate, Mutex<Option<bool>>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        *self.1.lock().unwrap() = Some(Handle::try_current().is_ok());
        self.0.open();
    }
}

#[test]
fn callers_are_woken_outside_the_drivers_runtime() {
    let resolver = Scripted::new(Kind::Async).builder(4).build();
    let inline = Arc::new(Inline(Gate::default(), Mutex::default()));
    let waker = Waker::from(Arc::clone(&inline));
    let mut lookup = resolver.resolve("ok");
    if pin!(&mut lookup).poll(&mut Context::from_waker(&waker)).is_pending() {
        inline.0.await_open();
        assert_eq!(*inline.1.lock().unwrap(), Some(false));
    }
    block_on(resolver.shutdown());
}

#[test]
fn nothing_of_a_caller_that_left_is_kept_while_others_wait() {
    let backend = Scripted::new(Kind::Async);
    let _open = OpenOnDrop(&backend.gate);
    let resolver = backend.builder(4).build();
    let inline = Arc::new(Inline(Gate::default(), Mutex::default()));
    let waker = Waker::from(Arc::clone(&inline));
    let mut first = resolver.resolve("hang");
    assert!(pin!(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
    backend.gate.await_arrivals(1);
    let _second = resolver.resolve("hang");
    drop((waker, first));
    assert_eq!(Arc::strong_count(&inline), 1);
}

#[test]
fn a_future_may_ask_its_own_resolver() {
    let own = Arc::new(OnceLock::<Resolver>::new());
    let asks = Arc::clone(&own);
    let backend = move |name: &str| {
        let (asks, alias) = (Arc::clone(&asks), name.strip_prefix("alias-").map(str::to_owned));
        async move {
            match (alias, asks.get()) {
                (Some(name), Some(resolver)) => resolver.resolve(name).await.map(Iterator::collect::<Answer>),
                _ => Ok(ADDR.into()),
            }
        }
    };
    let resolver = own.get_or_init(|| support::plain().async_backend(backend).max_lookups(8).build());
    let addrs = block_on(resolver.resolve("alias-alias-alias-name")).expect("an answer");
    assert_eq!(addrs.map(|addr| addr.ip()).collect::<Vec<_>>(), [ADDR]);
}

#[test]
fn a_future_that_blocks_holds_up_no_deadline() {
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    let blocks = gate.clone();
    let backend = move |_: &str| {
        let blocks = blocks.clone();
        async move {
            blocks.pass();
            Ok::<_, Error>(ADDR)
        }
    };
    let resolver = support::plain().async_backend(backend).timeout(TIMEOUT).build();
    for result in block_on(join_all(["a", "b", "c"].map(|name| resolver.resolve(name)))) {
        assert!(result.expect_err("the driver is blocked").is_timeout());
    }
    gate.await_arrivals(1);
    assert_eq!(gate.arrived(), 1);
}

#[test]
fn every_poll_is_inside_the_callers_span() {
    let backend = |_: &str| async {
        for _ in 0..3 {
            info!("poll");
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(ADDR)
    };
    let resolver = support::plain().async_backend(backend).build();
    let log = Log::default();
    let dispatch = Dispatch::new(Strict::new(log.clone()));
    let lookup = dispatcher::with_default(&dispatch, || info_span!("request").in_scope(|| resolver.resolve("name")));
    block_on(lookup).expect("an answer");
    let inside = ("poll".to_owned(), vec!["request", "resolve"]);
    log.look(|seen| {
        assert_eq!(seen.failures, [""; 0]);
        assert_eq!(seen.events, vec![inside; 3]);
    });
}

#[test]
fn the_span_of_a_caller_that_leaves_closes_while_others_wait_for_its_call() {
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    let shut = gate.clone();
    let backend = move |_: &str| {
        let shut = shut.clone();
        async move {
            info!("early");
            shut.passed().await;
            info!("late");
            Ok::<_, Error>(ADDR)
        }
    };
    let resolver = support::plain().async_backend(backend).build();
    let [own, others] = [(); 2].map(|()| Log::default());
    let ask = |log: &Log| {
        let dispatch = Dispatch::new(Strict::new(log.clone()));
        dispatcher::with_default(&dispatch, || info_span!("request").in_scope(|| resolver.resolve("hang")))
    };
    let starter = ask(&own);
    gate.await_arrivals(1);
    let joiner = ask(&others);
    drop(starter);
    own.await_closed();
    assert_eq!(resolver.stats().running, 1);
    gate.open();
    block_on(joiner).expect("an answer");
    others.await_closed();
    // After its caller has left, a future runs under the subscriber that it began on, outside any span: it may hold spans of it.
    let early = ("early".to_owned(), vec!["request", "resolve"]);
    own.look(|seen| assert_eq!(seen.events, [early, ("late".to_owned(), vec![])]));
    others.look(|seen| assert_eq!(seen.events, []));
    for log in [own, others] {
        log.look(|seen| assert_eq!(seen.failures, [""; 0]));
    }
}

#[test]
fn its_settings_can_be_read_back() {
    let builder = || Resolver::builder().async_backend(Scripted::new(Kind::Async));
    let config = builder().max_lookups(80).build().config().clone();
    assert_eq!((config.max_lookups, config.reserved_for_known), (80, 10));
    let config = builder().max_lookups(0).reserved_for_known(5).build().config().clone();
    assert_eq!((config.max_lookups, config.reserved_for_known), (1, 0));
    assert!((1..=1024).contains(&builder().build().config().max_lookups));
    // A bound applies to whichever backend is set, before or after it. A default is that of the last backend.
    let config =
        Resolver::builder().max_lookups(800).async_backend(Scripted::new(Kind::Async)).build().config().clone();
    assert_eq!((config.max_lookups, config.reserved_for_known), (800, 100));
    let blocking = builder().backend(Scripted::default()).build();
    assert_eq!(blocking.config().max_lookups, Resolver::new().config().max_lookups);
}

#[test]
fn resolvers_may_share_a_backend() {
    let calls = Arc::default();
    let gate = Gate::default();
    gate.open();
    let backend = Arc::new(slow_later(&gate, &calls));
    for _ in 0..2 {
        let resolver = Resolver::builder().async_backend(Arc::clone(&backend)).build();
        assert_eq!(resolver.resolve("ok").wait().expect("an answer").count(), 1);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}
