//! A lookup with a timeout, polled first on one runtime, and on another once the first has ended. A timer of Tokio's panics then.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};

use futures::executor::block_on;
use futures::future::poll_immediate;
use gaiter_ecosystem::WATCHDOG;
use gaiter_ecosystem::gate::{Gate, OpenOnDrop};

use super::{TIMEOUT, builder, runtime};

/// Polls a lookup on one runtime, ends that while the call hangs, and awaits the rest on another.
fn moved<T>(gate: &Gate, lookup: impl Future<Output = T>) -> T {
    let _open = OpenOnDrop(gate);
    let [first, second] = [runtime(), runtime()];
    let mut lookup = Box::pin(lookup);
    assert!(first.block_on(poll_immediate(&mut lookup)).is_none());
    gate.await_arrivals(1);
    first.shutdown_background();
    assert!(second.block_on(poll_immediate(&mut lookup)).is_none(), "the call hangs still");
    gate.open();
    second.block_on(lookup)
}

#[test]
fn gaiters_lookup_goes_on() {
    let gate = Gate::default();
    let resolver = builder(&gate).timeout(WATCHDOG).build();
    assert_eq!(moved(&gate, resolver.resolve("hang.test")).expect("an answer").len(), 1);
}

#[test]
fn gaiters_timeout_needs_no_runtime() {
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    let first = runtime();
    let mut lookup = builder(&gate).timeout(TIMEOUT).build().resolve("hang.test");
    assert!(first.block_on(poll_immediate(&mut lookup)).is_none());
    first.shutdown_background();
    assert!(block_on(lookup).expect_err("the call hangs").is_timeout());
}

/// What hyper's `GaiResolver` does for a lookup, with a timeout around it.
#[test]
#[ignore = "panics: it shows the failure that gaiter is free of"]
fn a_lookup_on_the_runtimes_own_threads_panics() {
    let gate = Gate::default();
    let ours = gate.clone();
    let lookup = async {
        let call = tokio::task::spawn_blocking(move || {
            ours.pass();
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        });
        tokio::time::timeout(WATCHDOG, call).await.expect("in time").expect("an answer")
    };
    assert_eq!(moved(&gate, lookup), IpAddr::V4(Ipv4Addr::LOCALHOST));
}
