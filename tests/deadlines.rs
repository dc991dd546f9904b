//! Nobody waits for longer than the resolver's timeout, and a call that is stuck does not poison its name.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{ErrorKind, Resolver};
use support::backend::{ADDR, Scripted};
use support::gate::{Gate, OpenOnDrop};

const TIMEOUT: Duration = Duration::from_millis(20);

fn scripted(max_threads: usize) -> (Scripted, Resolver) {
    let backend = Scripted::default();
    let builder = support::plain().backend(backend.clone()).timeout(TIMEOUT).max_threads(max_threads);
    (backend, builder.build())
}

#[test]
fn a_caller_gets_a_timeout_that_says_what_it_waited_for() {
    let (backend, resolver) = scripted(1);
    let _open = OpenOnDrop(&backend.gate);
    let running = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    let queued = resolver.resolve("queued");
    let [running, queued] = block_on(join_all([running, queued])).try_into().unwrap();

    let error = running.expect_err("a timeout");
    assert!(error.is_timeout());
    assert_eq!((error.kind(), error.name()), (ErrorKind::Timeout, Some("hang")));
    let total = error.time_queued().unwrap() + error.time_in_call().unwrap();
    assert!(total >= TIMEOUT && error.time_in_call() > Some(Duration::ZERO), "{error}");
    assert!(error.to_string().starts_with("failed to resolve hang: timed out (queued "), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);

    let error = queued.expect_err("a timeout");
    assert!(error.is_timeout() && error.time_queued() >= Some(TIMEOUT), "{error}");
    assert_eq!(error.time_in_call(), Some(Duration::ZERO), "it never began");

    let stats = resolver.stats();
    assert_eq!((stats.timed_out, stats.queued, stats.running), (2, 0, 1), "the call goes on, the queued name does not");
    assert_eq!(backend.calls(), 1);
}

#[test]
fn without_a_timeout_a_caller_waits_for_the_call() {
    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).timeout(None).build();
    let _open = OpenOnDrop(&backend.gate);
    assert_eq!(resolver.config().timeout, None);
    let lookup = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    backend.gate.open();
    block_on(lookup).expect("an answer");
}

#[test]
fn a_stuck_call_does_not_poison_its_name() {
    // The first two calls hang; whatever comes after them answers.
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
    // Those who come before it counts as stuck still join it.
    while let Err(error) = block_on(resolver.resolve("stuck")) {
        assert!(error.is_timeout());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn timeouts_of_thousands_are_each_given_once() {
    let (backend, resolver) = scripted(2);
    let _open = OpenOnDrop(&backend.gate);
    let lookups = (0..5000).map(|number| resolver.resolve(format!("hang-{}", number % 100)));
    for result in block_on(join_all(lookups)) {
        assert!(result.expect_err("a timeout").is_timeout());
    }
    let stats = resolver.stats();
    assert_eq!((stats.started, stats.timed_out, stats.queued), (5000, 5000, 0));
}
