//! No caller waits for longer than the resolver's timeout, and a stuck call does not poison its name.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{ErrorKind, Resolver};
use support::backend::{ADDR, Kind, Scripted};
use support::gate::{Gate, OpenOnDrop};

const TIMEOUT: Duration = Duration::from_millis(20);

fn scripted(kind: Kind, calls: usize) -> (Scripted, Resolver) {
    let backend = Scripted::new(kind);
    (backend.clone(), backend.builder(calls).timeout(TIMEOUT).build())
}

fn a_caller_gets_a_timeout_that_says_what_it_waited_for(kind: Kind) {
    let (backend, resolver, results) = loop {
        let (backend, resolver) = scripted(kind, 1);
        // An async call is dropped at its deadline, which may let the second lookup run. It must fail either way.
        let names = ["hang", if kind.stops() { "error" } else { "queued" }];
        let results = block_on(join_all(names.map(|name| resolver.resolve(name))));
        // On a busy machine the time may be over before the call begins, and then there is none.
        if backend.gate.arrived() > 0 {
            break (backend, resolver, results);
        }
        backend.gate.open();
    };
    let _open = OpenOnDrop(&backend.gate);
    let [running, queued] = results.try_into().unwrap();

    let error = running.expect_err("a timeout");
    assert!(error.is_timeout());
    assert_eq!((error.kind(), error.name()), (ErrorKind::Timeout, Some("hang")));
    let total = error.time_queued().unwrap() + error.time_in_call().unwrap();
    assert!(total >= TIMEOUT && error.time_in_call() > Some(Duration::ZERO), "{error}");
    assert!(error.to_string().starts_with("failed to resolve hang: timed out (queued "), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);

    let error = queued.expect_err("a timeout");
    if kind.stops() {
        assert_eq!(resolver.stats().running, 0, "the call does not go on");
        return;
    }
    assert!(error.is_timeout() && error.time_queued() >= Some(TIMEOUT), "{error}");
    assert_eq!(error.time_in_call(), Some(Duration::ZERO), "it never began");

    let stats = resolver.stats();
    assert_eq!((stats.timed_out, stats.queued, stats.running), (2, 0, 1), "the call goes on, the queued name does not");
    assert_eq!(backend.calls(), 1);
}

fn without_a_timeout_a_caller_waits_for_the_call(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(4).timeout(None).build();
    let _open = OpenOnDrop(&backend.gate);
    assert_eq!(resolver.config().timeout, None);
    let lookup = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    backend.gate.open();
    block_on(lookup).expect("an answer");
}

#[test]
fn a_stuck_call_does_not_poison_its_name() {
    // The first call hangs. Later calls answer.
    let (gate, calls) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (shut, count) = (gate.clone(), Arc::clone(&calls));
    let _open = OpenOnDrop(&gate);
    let resolver = support::plain()
        .timeout(TIMEOUT)
        .backend(move |_: &str| {
            if count.fetch_add(1, Ordering::SeqCst) < 1 {
                shut.pass();
            }
            Ok::<_, ErrorKind>([ADDR])
        })
        .build();
    let error = block_on(resolver.resolve("stuck")).expect_err("a timeout");
    assert!(error.is_timeout());
    // Callers that come before the call counts as stuck still join it.
    while let Err(error) = block_on(resolver.resolve("stuck")) {
        assert!(error.is_timeout());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

fn timeouts_of_thousands_are_each_given_once(kind: Kind) {
    let (backend, resolver) = scripted(kind, 2);
    let _open = OpenOnDrop(&backend.gate);
    let lookups = (0..5000).map(|number| resolver.resolve(format!("hang-{}", number % 100)));
    for result in block_on(join_all(lookups)) {
        assert!(result.expect_err("a timeout").is_timeout());
    }
    let stats = resolver.stats();
    assert_eq!((stats.started, stats.timed_out, stats.queued), (5000, 5000, 0));
}

over_every_kind! {
    a_caller_gets_a_timeout_that_says_what_it_waited_for
    without_a_timeout_a_caller_waits_for_the_call
    timeouts_of_thousands_are_each_given_once
}
