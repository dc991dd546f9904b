//! A lookup works on any executor, on none, and after the runtime that asked first is gone.

mod support;

use std::time::Duration;

use gaiter::{Addrs, Error, Resolver};
use support::backend::{ADDR, Scripted};
use support::gate::OpenOnDrop;
use tokio::runtime::{Builder, Runtime};

fn check(addrs: Result<Addrs, Error>) {
    assert_eq!(addrs.expect("an answer").map(|addr| addr.ip()).collect::<Vec<_>>(), [ADDR]);
}

fn scripted() -> (Scripted, Resolver) {
    let backend = Scripted::default();
    (backend.clone(), support::plain().backend(backend).build())
}

/// Every failure and success that there is, with and without the system.
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

#[test]
fn on_a_multi_thread_runtime() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { tokio::spawn(lookups(scripted().1)).await.expect("no panic") });
}

#[test]
fn on_a_current_thread_runtime_without_drivers() {
    Builder::new_current_thread().build().unwrap().block_on(lookups(scripted().1));
}

#[test]
fn under_a_paused_clock() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(lookups(scripted().1));
}

#[test]
fn without_a_runtime() {
    futures::executor::block_on(lookups(scripted().1));
}

#[test]
fn inside_another_block_on() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { futures::executor::block_on(lookups(scripted().1)) });
}

#[test]
fn a_flight_outlives_the_runtime_that_started_it() {
    let (backend, resolver) = scripted();
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

#[test]
fn dropping_a_runtime_does_not_wait_for_a_lookup_that_hangs() {
    let (backend, resolver) = scripted();
    let _open = OpenOnDrop(&backend.gate);
    let runtime = Runtime::new().unwrap();
    runtime.spawn(async move { resolver.resolve("hang").await });
    backend.gate.await_arrivals(1);
    drop(runtime);
    assert_eq!(backend.gate.arrived(), 1, "this runs while the gate is shut");
}
