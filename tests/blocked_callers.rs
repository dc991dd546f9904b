//! A caller whose waker or subscriber blocks delays no other caller, not even one that shares its call.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use gaiter::Resolving;
use support::backend::{Kind, Scripted};
use support::gate::{Gate, OpenOnDrop};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// A waker that arrives at a gate, and blocks until the gate is open.
struct Stopping(Gate);

impl Wake for Stopping {
    fn wake(self: Arc<Self>) {
        self.0.pass();
    }
}

fn waker(gate: &Gate) -> Waker {
    Arc::new(Stopping(gate.clone())).into()
}

/// A waker that opens a gate.
struct Opening(Gate);

impl Wake for Opening {
    fn wake(self: Arc<Self>) {
        self.0.open();
    }
}

fn is_pending(lookup: &mut Resolving, waker: &Waker) -> bool {
    Pin::new(lookup).poll(&mut Context::from_waker(waker)).is_pending()
}

/// Waits until a lookup is woken, and returns its result.
fn woken(mut lookup: Resolving) -> Result<gaiter::Addrs, gaiter::Error> {
    let gate = Gate::default();
    let waker = Waker::from(Arc::new(Opening(gate.clone())));
    if let Poll::Ready(result) = Pin::new(&mut lookup).poll(&mut Context::from_waker(&waker)) {
        return result;
    }
    gate.await_open();
    match Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("woken for nothing"),
    }
}

fn a_waker_that_blocks_delays_nobody_who_shares_the_call(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(4).timeout(None).build();
    let (_open, blocked) = (OpenOnDrop(&backend.gate), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    let [mut first, mut second, third] = ["hang", "hang", "hang"].map(|name| resolver.resolve(name));
    // Two wakers block, so that the order in which waiters are woken does not matter.
    assert!([&mut first, &mut second].into_iter().all(|lookup| is_pending(lookup, &waker(&blocked))));
    let third = std::thread::spawn(move || woken(third));
    backend.gate.await_arrivals(1);
    backend.gate.open();
    blocked.await_arrivals(2);
    third.join().expect("woken").expect("an answer, while the others' wakers block");
    blocked.open();
    assert!(resolver.shutdown().wait().is_clean());
}

/// Tests callers that get no answer: each has a deadline of its own.
fn a_waker_that_blocks_delays_no_deadline(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(4).timeout(Duration::from_millis(20)).build();
    let (_open, blocked) = (OpenOnDrop(&backend.gate), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    // Errands begin with 1 thread, so 8 wakers that block need more threads.
    let mut stopped = Vec::new();
    while stopped.len() < 8 {
        let mut lookup = resolver.resolve("hang");
        // On a busy machine its time may be over by now.
        if is_pending(&mut lookup, &waker(&blocked)) {
            stopped.push(lookup);
        }
    }
    blocked.await_arrivals(4);
    let error = woken(resolver.resolve("hang")).expect_err("no answer");
    assert!(error.is_timeout());
    backend.gate.open();
    blocked.open();
    assert!(resolver.shutdown().wait().is_clean());
}

/// A subscriber that blocks in `exit` or in `try_close`.
struct Blocking {
    gate: Gate,
    on_exit: bool,
    last: AtomicU64,
}

/// Begins a lookup inside a subscriber that blocks.
///
/// Keeps another dispatcher alive: if the only subscriber is a scoped one, tracing may treat the span as disabled.
fn inside(subscriber: impl Into<Dispatch>, begin: impl FnOnce() -> Resolving) -> Resolving {
    static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
    LazyLock::force(&OTHER);
    tracing::dispatcher::with_default(&subscriber.into(), begin)
}

impl Subscriber for Blocking {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {
        if self.on_exit {
            self.gate.pass();
        }
    }

    fn try_close(&self, _: Id) -> bool {
        if !self.on_exit {
            self.gate.pass();
        }
        true
    }
}

fn a_subscriber_that_blocks_delays_nobody_who_shares_the_call(kind: Kind) {
    for on_exit in [true, false] {
        let backend = Scripted::new(kind);
        // The subscriber blocks the driver of an async backend. Its callers then depend on their deadlines.
        let timeout = if kind.stops() { Some(Duration::from_millis(50)) } else { None };
        let resolver = backend.builder(4).timeout(timeout).build();
        let (_open, blocked) = (OpenOnDrop(&backend.gate), Gate::default());
        let unblock = OpenOnDrop(&blocked);
        let subscriber = Blocking { gate: blocked.clone(), on_exit, last: AtomicU64::new(0) };
        let subscriber = Dispatch::new(subscriber);
        // With `on_exit` the driver blocks right after the first poll.
        let begun = if on_exit && kind.stops() { &blocked } else { &backend.gate };
        let mut first = Vec::new();
        while begun.arrived() == 0 {
            // On a busy machine the time of the others may have been over before a call began.
            if resolver.stats().timed_out == first.len() as u64 {
                first.push(inside(subscriber.clone(), || resolver.resolve("hang")));
            }
            std::thread::yield_now();
        }
        let others = [0, 1].map(|_| {
            let lookup = resolver.resolve("hang");
            std::thread::spawn(move || woken(lookup))
        });
        backend.gate.open();
        for other in others {
            let result = other.join().expect("woken, while the first one's subscriber blocks");
            assert!(result.is_ok() || kind.stops() && result.is_err_and(|error| error.is_timeout()));
        }
        drop(unblock);
        drop(first);
        assert!(resolver.shutdown().wait().is_clean());
    }
}

/// Tests a call that still runs inside the span of a caller that has left.
#[test]
fn the_subscriber_of_one_who_has_left_delays_nobody() {
    let backend = Scripted::default();
    let resolver = backend.builder(4).timeout(None).build();
    let (_open, blocked) = (OpenOnDrop(&backend.gate), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    let subscriber = Blocking { gate: blocked.clone(), on_exit: true, last: AtomicU64::new(0) };
    let first = inside(subscriber, || resolver.resolve("hang"));
    backend.gate.await_arrivals(1);
    let last = resolver.resolve("hang");
    let last = std::thread::spawn(move || woken(last));
    drop(first);
    backend.gate.open();
    last.join().expect("woken").expect("an answer, while the other's subscriber blocks");
}

/// Tests two lookups that land in the same turn of the driver, before the caller of the first is told.
#[cfg(feature = "async-backend")]
#[test]
fn the_subscriber_of_another_lookup_delays_nobody() {
    let gates = [Gate::default(), Gate::default()];
    let backend = {
        let gates = gates.clone();
        move |name: &str| {
            let ([first, second], is_first) = (gates.clone(), name == "first");
            async move {
                if is_first { &first } else { &second }.passed().await;
                second.open();
                Ok::<_, gaiter::Error>(support::backend::ADDR)
            }
        }
    };
    let resolver = support::plain().async_backend(backend).timeout(None).build();
    let (_open, blocked) = (gates.each_ref().map(OpenOnDrop), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    let first = resolver.resolve("first");
    let subscriber = Blocking { gate: blocked.clone(), on_exit: false, last: AtomicU64::new(0) };
    let second = inside(subscriber, || resolver.resolve("second"));
    gates.iter().for_each(|gate| gate.await_arrivals(1));
    gates[0].open();
    woken(first).expect("an answer, while the other's subscriber blocks");
    blocked.open();
    drop(second);
}

#[test]
fn shutdowns_whose_wakers_block_delay_no_deadline() {
    let backend = Scripted::default();
    let resolver = backend.builder(1).timeout(Duration::from_millis(50)).build();
    let (_open, blocked) = (OpenOnDrop(&backend.gate), Gate::default());
    let _unblock = OpenOnDrop(&blocked);
    let lookup = resolver.resolve("hang");
    let mut shutdowns = Vec::new();
    while shutdowns.len() < 80 {
        let mut shutdown = resolver.shutdown().within(Duration::from_millis(5));
        // On a busy machine its time may be over by now.
        if Pin::new(&mut shutdown).poll(&mut Context::from_waker(&waker(&blocked))).is_pending() {
            shutdowns.push(shutdown);
        }
    }
    blocked.await_arrivals(80);
    assert!(woken(lookup).expect_err("no answer").is_timeout());
}

over_every_kind! {
    a_waker_that_blocks_delays_nobody_who_shares_the_call
    a_waker_that_blocks_delays_no_deadline
    a_subscriber_that_blocks_delays_nobody_who_shares_the_call
}
