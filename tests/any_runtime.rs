//! A lookup works on any executor, without one, and after the runtime that started it is gone.

mod support;

use std::thread;
use std::time::Duration;

use gaiter::{Addrs, Error, ErrorKind, Resolver, Source};
use support::backend::{ADDR, Kind, Scripted};
use support::gate::{Gate, OpenOnDrop};
use tokio::runtime::{Builder, Runtime};

fn check(addrs: Result<Addrs, Error>) {
    assert_eq!(addrs.expect("an answer").map(|addr| addr.ip()).collect::<Vec<_>>(), [ADDR]);
}

fn scripted(kind: Kind) -> (Scripted, Resolver) {
    let backend = Scripted::new(kind);
    (backend.clone(), backend.builder(16).build())
}

/// Makes lookups that succeed and lookups that fail, with the scripted backend and with the system.
async fn lookups(resolver: Resolver) {
    check(resolver.resolve("ok").await);
    assert!(resolver.resolve("error").await.is_err());
    assert!(resolver.resolve("").await.is_err());
    assert_eq!(resolver.resolve("::1").await.expect("itself").len(), 1);
    assert!(Resolver::new().resolve("localhost").await.expect("an answer").all(|addr| addr.ip().is_loopback()));
    let many: Vec<_> = (0..100).map(|number| resolver.resolve(format!("ok-{number}"))).collect();
    for lookup in many {
        check(lookup.await);
    }
}

fn on_a_multi_thread_runtime(kind: Kind) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { tokio::spawn(lookups(scripted(kind).1)).await.expect("no panic") });
}

fn on_a_current_thread_runtime_without_drivers(kind: Kind) {
    Builder::new_current_thread().build().unwrap().block_on(lookups(scripted(kind).1));
}

fn under_a_paused_clock(kind: Kind) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(lookups(scripted(kind).1));
}

fn without_a_runtime(kind: Kind) {
    futures::executor::block_on(lookups(scripted(kind).1));
}

fn inside_another_block_on(kind: Kind) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { futures::executor::block_on(lookups(scripted(kind).1)) });
}

fn a_flight_outlives_the_runtime_that_started_it(kind: Kind) {
    let (backend, resolver) = scripted(kind);
    let _open = OpenOnDrop(&backend.gate);
    let first = Runtime::new().unwrap();
    let second = Runtime::new().unwrap();

    let starter = first.spawn({
        let lookup = resolver.resolve("hang");
        async move { check(lookup.await) }
    });
    backend.gate.await_arrivals(1);
    let joiner = second.spawn({
        let lookup = resolver.resolve("hang");
        async move { check(lookup.await) }
    });
    first.shutdown_timeout(Duration::ZERO);
    assert!(futures::executor::block_on(starter).expect_err("cancelled").is_cancelled());

    backend.gate.open();
    second.block_on(joiner).expect("no panic");
    assert_eq!(backend.calls(), 1);
}

fn dropping_a_runtime_does_not_wait_for_a_lookup_that_hangs(kind: Kind) {
    let (backend, resolver) = scripted(kind);
    let _open = OpenOnDrop(&backend.gate);
    let runtime = Runtime::new().unwrap();
    runtime.spawn(async move { resolver.resolve("hang").await });
    backend.gate.await_arrivals(1);
    drop(runtime);
    assert_eq!(backend.gate.arrived(), 1, "this runs while the gate is shut");
}

over_every_kind! {
    on_a_multi_thread_runtime
    on_a_current_thread_runtime_without_drivers
    under_a_paused_clock
    without_a_runtime
    inside_another_block_on
    a_flight_outlives_the_runtime_that_started_it
    dropping_a_runtime_does_not_wait_for_a_lookup_that_hangs
}

#[test]
fn a_thread_without_a_runtime_waits_by_itself() {
    let resolver = Scripted::default().builder(16).build();
    assert_eq!(resolver.resolve("ok").wait().expect("an answer").count(), 1);
    assert_eq!(resolver.resolve("error").wait().expect_err("no answer").kind(), ErrorKind::NotFound);
    assert_eq!(resolver.resolve("127.0.0.1").wait().expect("an answer").source(), Source::Literal);
    // Unparking by others does not end the wait.
    thread::current().unpark();
    let gate = Gate::default();
    let waiting = Scripted { gate: gate.clone(), ..Scripted::default() }.builder(1).build();
    let waiter = thread::spawn(move || waiting.resolve("hang").wait());
    gate.await_arrivals(1);
    waiter.thread().unpark();
    gate.open();
    assert_eq!(waiter.join().unwrap().expect("an answer").count(), 1);
    resolver.close();
    assert!(resolver.resolve("ok").wait().expect_err("no answer").is_closed());
}

#[test]
fn a_thread_may_wait_for_less_than_the_resolvers_timeout() {
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    let resolver = Scripted { gate: gate.clone(), ..Scripted::default() }.builder(1).timeout(None).build();
    let hanging = resolver.resolve("hang");
    gate.await_arrivals(1);
    let error = hanging.wait_timeout(Duration::from_millis(20)).expect_err("no answer");
    assert_eq!((error.kind(), error.name(), error.time_in_call()), (ErrorKind::Timeout, Some("hang"), None));
    assert_eq!((resolver.stats().cancelled, resolver.stats().running), (1, 1));
    // Times that have passed, and that never pass.
    assert!(resolver.resolve("hang").wait_timeout(Duration::ZERO).expect_err("no answer").is_timeout());
    assert_eq!(resolver.resolve("127.0.0.1").wait_timeout(Duration::ZERO).expect("an answer").count(), 1);
    let waiting = resolver.resolve("hang");
    let waiter = thread::spawn(|| waiting.wait_timeout(Duration::MAX));
    gate.open();
    assert_eq!(waiter.join().unwrap().expect("an answer").count(), 1);
}
