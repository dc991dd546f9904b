//! The bounds of threads and queue hold while calls hang, and known names do not wait behind those calls.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{ErrorKind, Resolver};
use support::backend::{ADDR, Kind, Scripted};
use support::gate::{Gate, OpenOnDrop};

fn over_the_bound_a_name_is_refused_at_once_and_joining_is_not(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(1).max_queued(2).build();
    let _open = OpenOnDrop(&backend.gate);
    let mut waiting = vec![resolver.resolve("hang")];
    backend.gate.await_arrivals(1);
    waiting.extend(["a", "b"].map(|name| resolver.resolve(name)));
    let error = block_on(resolver.resolve("c")).expect_err("refused");
    assert!(error.is_overloaded());
    assert_eq!((error.kind(), error.name()), (ErrorKind::Overloaded, Some("c")));
    waiting.extend(["a", "b", "hang"].map(|name| resolver.resolve(name)));
    // A place in the queue that is given up is free for another name.
    drop(waiting.remove(1));
    drop(waiting.remove(2));
    waiting.push(resolver.resolve("c"));
    backend.gate.open();
    assert!(block_on(join_all(waiting)).iter().all(Result::is_ok));
    assert_eq!(resolver.stats().refused, 1);
}

fn a_caller_that_waits_for_one_lookup_at_a_time_is_never_refused(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(1).max_queued(0).build();
    let _open = OpenOnDrop(&backend.gate);
    for number in 0..5_000 {
        block_on(resolver.resolve(format!("ok-{number}"))).expect("there is a place for it");
    }
    // Dropping a lookup makes room at once if its call can be stopped.
    for number in 0..if kind.stops() { 500 } else { 0 } {
        drop(resolver.resolve(format!("hang-{number}")));
        block_on(resolver.resolve("ok")).expect("there is a place for it");
    }
}

fn a_known_name_is_answered_while_more_names_hang_than_there_are_threads(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(16).build();
    let _open = OpenOnDrop(&backend.gate);
    assert_eq!(resolver.config().reserved_for_known, 2);
    block_on(resolver.resolve("known")).expect("an answer");

    let hung: Vec<_> = (0..40).map(|number| resolver.resolve(format!("hang-{number}"))).collect();
    backend.gate.await_arrivals(14);
    for round in 0..100 {
        block_on(resolver.resolve("known")).expect("an answer, while the gate is shut");
        assert_eq!(backend.calls(), 16 + round, "by a call of its own");
    }
    assert_eq!(backend.gate.arrived(), 14, "new names hang on all threads but those that are kept");
    let stats = resolver.stats();
    assert!(stats.threads <= 16 && stats.queued == 26, "{stats:?}");
    backend.gate.open();
    assert!(block_on(join_all(hung)).iter().all(Result::is_ok));
}

fn a_full_queue_of_new_names_does_not_refuse_a_known_one(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(2).max_queued(1).build();
    let _open = OpenOnDrop(&backend.gate);
    block_on(resolver.resolve("known")).expect("an answer");
    let running = resolver.resolve("hang-a");
    backend.gate.await_arrivals(1);
    let queued = resolver.resolve("hang-b");
    assert!(block_on(resolver.resolve("hang-c")).expect_err("full").is_overloaded());
    block_on(resolver.resolve("known")).expect("an answer");
    drop((running, queued));
}

/// The reservation limits new names only: known names may take every thread.
#[test]
fn known_names_that_fall_silent_together_take_every_thread_until_their_calls_return() {
    let (gate, silent) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let (held, is_silent) = (gate.clone(), Arc::clone(&silent));
    let backend = move |name: &str| {
        if name != "known" && is_silent.load(Ordering::SeqCst) {
            held.pass();
        }
        Ok::<_, ErrorKind>([ADDR])
    };
    let resolver = support::plain().backend(backend).max_lookups(4).reserved_for_known(2).timeout(None).build();
    let _open = OpenOnDrop(&gate);
    let names = ["known", "a", "b", "c", "d"];
    assert!(names.into_iter().all(|name| block_on(resolver.resolve(name)).is_ok()));

    silent.store(true, Ordering::SeqCst);
    let hung: Vec<_> = names[1..].iter().map(|name| resolver.resolve(name)).collect();
    gate.await_arrivals(4);
    let waits = resolver.resolve("known");
    let stats = resolver.stats();
    assert_eq!((stats.running, stats.queued), (4, 1));
    gate.open();
    assert!(block_on(join_all(hung)).iter().all(Result::is_ok));
    block_on(waits).expect("an answer");
}

#[test]
fn every_setting_can_be_read_back() {
    let resolver = Resolver::builder().max_lookups(0).reserved_for_known(9).max_queued(7).build();
    let config = resolver.config();
    assert_eq!((config.max_lookups, config.reserved_for_known, config.max_queued), (1, 0, 7));
    assert_eq!(Resolver::builder().max_lookups(80).build().config().reserved_for_known, 10);
    let defaults = Resolver::new().config().clone();
    assert!((1..=512).contains(&defaults.max_lookups));
    assert_eq!((defaults.max_queued, defaults.timeout), (1024, Some(std::time::Duration::from_secs(10))));
}

over_every_kind! {
    a_caller_that_waits_for_one_lookup_at_a_time_is_never_refused
    over_the_bound_a_name_is_refused_at_once_and_joining_is_not
    a_known_name_is_answered_while_more_names_hang_than_there_are_threads
    a_full_queue_of_new_names_does_not_refuse_a_known_one
}
