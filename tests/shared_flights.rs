//! Callers of one name share one call, and no caller is hurt by what happens to another.

mod support;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{ErrorKind, Resolver};
use support::backend::{ADDR, Kind, Scripted};
use support::gate::OpenOnDrop;
use support::panics::{self, DELIBERATE};

fn scripted(kind: Kind, calls: usize) -> (Scripted, Resolver) {
    let backend = Scripted::new(kind);
    (backend.clone(), backend.builder(calls).reserved_for_known(0).build())
}

fn callers_of_one_name_share_one_call_whatever_its_case(kind: Kind) {
    let (backend, resolver) = scripted(kind, 8);
    let _open = OpenOnDrop(&backend.gate);
    let lookups: Vec<_> =
        (0..1000).map(|n| resolver.resolve(if n % 2 == 0 { "hang.Example" } else { "HANG.eXAMPLE" })).collect();
    backend.gate.await_arrivals(1);
    backend.gate.open();
    for addrs in block_on(join_all(lookups)) {
        assert_eq!(addrs.expect("an answer").next().map(|addr| addr.ip()), Some(ADDR));
    }
    assert_eq!(backend.calls(), 1);
}

fn different_names_run_side_by_side(kind: Kind) {
    let (backend, resolver) = scripted(kind, 64);
    let _open = OpenOnDrop(&backend.gate);
    let lookups: Vec<_> = (0..64).map(|n| resolver.resolve(format!("hang-{n}"))).collect();
    backend.gate.await_arrivals(64);
    backend.gate.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
}

fn a_queue_that_stands_gets_threads_beyond_the_first_sixty_four(kind: Kind) {
    let (backend, resolver) = scripted(kind, 100);
    let _open = OpenOnDrop(&backend.gate);
    let lookups: Vec<_> = (0..150).map(|n| resolver.resolve(format!("hang-{n}"))).collect();
    backend.gate.await_arrivals(100);
    assert_eq!(backend.gate.arrived(), 100, "and no more");
    backend.gate.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
}

fn a_panic_is_its_own_callers_alone(kind: Kind) {
    panics::unexpected();
    let (backend, resolver) = scripted(kind, 1);
    for _ in 0..3 {
        let lookups = ["panic", "panic", "ok"].map(|name| resolver.resolve(name));
        let [first, second, other] = block_on(join_all(lookups)).try_into().unwrap();
        for error in [first, second].map(|result| result.expect_err("a panic")) {
            assert_eq!(error.kind(), ErrorKind::Panicked);
            assert_eq!(error.name(), Some("panic"));
            assert!(error.to_string().ends_with(DELIBERATE), "{error}");
        }
        other.expect("the thread goes on");
    }
    drop(backend);
}

#[test]
fn no_address_is_an_error() {
    let resolver = support::plain().backend(|_: &str| Ok::<_, ErrorKind>([] as [IpAddr; 0])).build();
    let error = block_on(resolver.resolve("empty.example")).expect_err("nothing");
    assert_eq!((error.kind(), error.name()), (ErrorKind::NoData, Some("empty.example")));
}

fn a_queued_name_that_nobody_waits_for_is_never_called(kind: Kind) {
    let (backend, resolver) = scripted(kind, 1);
    let _open = OpenOnDrop(&backend.gate);
    let hanging = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    drop(resolver.resolve("left"));
    let stayed = resolver.resolve("stayed");
    backend.gate.open();
    assert!(block_on(hanging).is_ok() && block_on(stayed).is_ok());
    assert_eq!(backend.calls(), 2);
}

#[test]
fn the_backend_runs_on_the_resolvers_own_threads() {
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&threads);
    let resolver = support::plain()
        .backend(move |_: &str| {
            seen.lock().unwrap().insert(thread::current().name().map(str::to_owned));
            Ok::<_, ErrorKind>([ADDR])
        })
        .build();
    block_on(resolver.resolve("ok")).expect("an answer");
    assert_eq!(*threads.lock().unwrap(), HashSet::from([Some("gaiter".to_owned())]));
}

fn a_lookup_that_has_completed_says_so_without_a_panic(kind: Kind) {
    let (_, resolver) = scripted(kind, 1);
    for name in ["ok", "127.0.0.1"] {
        let mut lookup = resolver.resolve(name);
        block_on(&mut lookup).expect("an answer");
        let again = lookup.poll_unpin(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(again, Poll::Ready(Err(error)) if error.kind() == ErrorKind::Other));
    }
}

over_every_kind! {
    callers_of_one_name_share_one_call_whatever_its_case
    different_names_run_side_by_side
    a_queue_that_stands_gets_threads_beyond_the_first_sixty_four
    a_panic_is_its_own_callers_alone
    a_queued_name_that_nobody_waits_for_is_never_called
    a_lookup_that_has_completed_says_so_without_a_panic
}
