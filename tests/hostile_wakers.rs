//! Wakers that panic, block or use the resolver harm no other caller. Nor do subscribers that resolve names.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{Resolver, Resolving};
use support::backend::Scripted;
use support::gate::{Gate, OpenOnDrop};
use support::panics::{self, DELIBERATE};
use tracing::instrument::WithSubscriber;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

/// A waker that calls a function.
struct Waking<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Waking<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn waker(wake: impl Fn() + Send + Sync + 'static) -> Waker {
    Arc::new(Waking(wake)).into()
}

fn is_pending(lookup: &mut Resolving, waker: &Waker) -> bool {
    Pin::new(lookup).poll(&mut Context::from_waker(waker)).is_pending()
}

/// Returns a lookup of a name that hangs for each of the wakers, which it is to wake.
fn begun(resolver: &Resolver, wakers: &[Waker]) -> Vec<Resolving> {
    loop {
        let mut lookups: Vec<_> = wakers.iter().map(|_| resolver.resolve("hang")).collect();
        // On a busy machine they may have timed out by now.
        if lookups.iter_mut().zip(wakers).all(|(lookup, waker)| is_pending(lookup, waker)) {
            return lookups;
        }
    }
}

#[test]
fn at_an_answer() {
    panics::unexpected();
    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).max_lookups(4).reserved_for_known(0).build();
    let (_open, blocked, entered) = (OpenOnDrop(&backend.gate), Gate::default(), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    let mut lookups: Vec<_> = ["hang-a", "hang-a", "hang-b", "hang-c"].map(|name| resolver.resolve(name)).into();
    let (inside, again, signal) = (blocked.clone(), resolver.clone(), entered.clone());
    let wakers = [
        waker(|| std::panic::panic_any(DELIBERATE)),
        Waker::noop().clone(),
        waker(move || inside.pass()),
        waker(move || {
            drop(again.resolve("asked in a waker"));
            drop(again.stats());
            signal.open();
        }),
    ];
    assert!(lookups.iter_mut().zip(&wakers).all(|(lookup, waker)| is_pending(lookup, waker)));
    backend.gate.await_arrivals(3);
    backend.gate.open();
    blocked.await_arrivals(1);
    entered.await_open();
    // One waker still blocks. Its caller has the answer, and everything else goes on.
    for lookup in lookups {
        block_on(lookup).expect("an answer");
    }
    for number in 0..10 {
        block_on(resolver.resolve(format!("ok-{number}"))).expect("the other threads go on");
    }
    // The others are outstanding until their threads have taken the next step.
    while resolver.stats().idle_threads + 1 < resolver.stats().threads {
        std::thread::yield_now();
    }
    // The lookup is outstanding until its worker returns from the waker.
    let report = resolver.shutdown().within(Duration::from_millis(5)).wait();
    assert_eq!(report.abandoned.iter().map(|abandoned| abandoned.name.as_str()).collect::<Vec<_>>(), ["hang-b"]);
    blocked.open();
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn at_a_timeout() {
    panics::unexpected();
    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).timeout(Duration::from_millis(10)).build();
    let (_open, blocked, entered) = (OpenOnDrop(&backend.gate), Gate::default(), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    let (inside, again, signal) = (blocked.clone(), resolver.clone(), entered.clone());
    let wakers = [
        waker(|| std::panic::panic_any(DELIBERATE)),
        waker(move || inside.pass()),
        waker(move || {
            drop(again.resolve("asked in a waker"));
            signal.open();
        }),
    ];
    let lookups = begun(&resolver, &wakers);
    blocked.await_arrivals(1);
    entered.await_open();
    // While a waker blocks, other deadlines are kept.
    for _ in 0..5 {
        assert!(block_on(resolver.resolve("hang")).expect_err("a timeout").is_timeout());
    }
    for mut lookup in lookups {
        let polled = Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(error)) if error.is_timeout()));
    }
    backend.gate.open();
    blocked.open();
    assert!(resolver.shutdown().wait().is_clean());
}

/// Every call has ended. The shutdown waits only for a waker that blocks.
#[test]
fn at_a_timeout_and_a_shutdown_keeps_its_deadline() {
    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).timeout(Duration::from_millis(10)).build();
    let (_open, blocked) = (OpenOnDrop(&backend.gate), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    let inside = blocked.clone();
    let _lookups = begun(&resolver, &[waker(move || inside.pass())]);
    blocked.await_arrivals(1);
    backend.gate.open();
    resolver.close();
    while resolver.stats().threads > 0 {
        std::thread::yield_now();
    }
    // Only the timekeeper wakes this shutdown.
    let report = block_on(resolver.shutdown().within(Duration::from_millis(5)));
    assert!(report.abandoned.is_empty() && report.threads > 0, "{report}");
    blocked.open();
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn at_the_end_of_a_shutdown() {
    panics::unexpected();
    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).build();
    let _open = OpenOnDrop(&backend.gate);
    let lookup = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    drop(lookup);
    let mut shutdowns = [resolver.shutdown(), resolver.shutdown()];
    let woken = Gate::default();
    let signal = woken.clone();
    let wakers = [waker(|| std::panic::panic_any(DELIBERATE)), waker(move || signal.open())];
    for (shutdown, waker) in shutdowns.iter_mut().zip(&wakers) {
        assert!(Pin::new(shutdown).poll(&mut Context::from_waker(waker)).is_pending());
    }
    backend.gate.open();
    woken.await_open();
    for shutdown in shutdowns {
        assert!(shutdown.wait().is_clean());
    }
}

/// A layer that resolves a name in each of its callbacks.
struct Resolves {
    resolver: OnceLock<Resolver>,
    asked: Arc<AtomicUsize>,
}

impl Resolves {
    fn resolve(&self) {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        // Each lookup runs the callbacks again, so there is a limit.
        if let Some(resolver) = self.resolver.get().filter(|_| number < 1000) {
            let mut lookup = resolver.resolve(format!("ok-{number}"));
            _ = Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Resolves {
    fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: LayerContext<'_, S>) {
        self.resolve();
    }

    fn on_event(&self, _: &Event<'_>, _: LayerContext<'_, S>) {
        self.resolve();
    }

    fn on_enter(&self, _: &Id, _: LayerContext<'_, S>) {
        self.resolve();
    }

    fn on_exit(&self, _: &Id, _: LayerContext<'_, S>) {
        self.resolve();
    }

    fn on_close(&self, _: Id, _: LayerContext<'_, S>) {
        self.resolve();
    }
}

#[test]
fn a_subscriber_may_resolve_names_in_its_callbacks() {
    let panics_before = panics::unexpected();
    let resolver = support::plain().backend(Scripted::default()).build();
    let asked = Arc::new(AtomicUsize::new(0));
    let layer = Resolves { resolver: OnceLock::from(resolver.clone()), asked: Arc::clone(&asked) };
    let answers = async {
        let span = tracing::info_span!("request");
        for number in 0..10 {
            let lookup = span.in_scope(|| resolver.resolve(format!("outer-{number}")));
            lookup.await.expect("an answer");
        }
    };
    block_on(answers.with_subscriber(registry().with(layer)));
    assert!(asked.load(Ordering::Relaxed) > 10);
    assert!(resolver.shutdown().wait().is_clean());
    assert_eq!(panics::unexpected(), panics_before);
}
