//! A call that hangs does not keep its callers waiting: a second call answers them.

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{Answer, Error, Hedge, Resolver};
use support::gate::{Gate, OpenOnDrop};

/// Returns a resolver whose first call hangs at the first gate, and the others at the second one.
fn first_hangs(gates: [&Gate; 2], hedge: Hedge) -> (Resolver, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let ([first, others], counted) = (gates.map(Gate::clone), Arc::clone(&calls));
    let backend = move |_: &str| {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 { &first } else { &others }.pass();
        Ok::<_, Error>(Answer::from(IpAddr::from([192, 0, 2, 7])))
    };
    (support::plain().backend(backend).hedge(hedge).build(), calls)
}

#[test]
fn callers_of_a_call_that_hangs_are_answered_by_a_second_one() {
    let (gate, others) = (Gate::default(), Gate::default());
    let _open = (OpenOnDrop(&gate), OpenOnDrop(&others));
    let (resolver, calls) = first_hangs([&gate, &others], Hedge::after(Duration::from_millis(1)));
    let callers: Vec<_> = (0..10).map(|_| resolver.resolve("name")).collect();
    others.open();
    for answer in block_on(join_all(callers)) {
        assert_eq!(answer.expect("an answer").count(), 1);
    }
    // The call that hangs is not joined any more.
    block_on(resolver.resolve("name")).expect("an answer");
    let stats = resolver.stats();
    assert_eq!((stats.hedged, stats.hedges_won, stats.running), (1, 1, 1));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    gate.open();
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn no_second_call_is_made_without_hedging() {
    let (gate, others) = (Gate::default(), Gate::default());
    let _open = (OpenOnDrop(&gate), OpenOnDrop(&others));
    let (resolver, calls) = first_hangs([&gate, &others], Hedge::off());
    let caller = resolver.resolve("name");
    gate.await_arrivals(1);
    others.open();
    // Other lookups come and go meanwhile.
    block_on(resolver.resolve("other")).expect("an answer");
    gate.open();
    block_on(caller).expect("an answer");
    assert_eq!((resolver.stats().hedged, calls.load(Ordering::SeqCst)), (0, 2));
    assert!(resolver.shutdown().wait().is_clean());
}

#[cfg(feature = "async-backend")]
#[test]
fn the_future_of_the_slower_call_is_dropped() {
    use std::future::pending;

    struct Dropped(Gate);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.open();
        }
    }

    let dropped = Gate::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let (theirs, counted) = (dropped.clone(), Arc::clone(&calls));
    let backend = move |_: &str| {
        let hangs = (counted.fetch_add(1, Ordering::SeqCst) == 0).then(|| Dropped(theirs.clone()));
        async move {
            if hangs.is_some() {
                pending::<()>().await;
            }
            Ok::<_, Error>(Answer::from(IpAddr::from([192, 0, 2, 7])))
        }
    };
    let resolver = Resolver::builder().async_backend(backend).hedge(Hedge::after(Duration::from_millis(1))).build();
    block_on(resolver.resolve("name")).expect("an answer");
    dropped.await_open();
    assert_eq!((calls.load(Ordering::SeqCst), resolver.stats().hedges_won), (2, 1));
    assert!(block_on(resolver.shutdown()).is_clean());
}
