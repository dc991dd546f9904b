//! 10,000 lookups of a backend that hangs, each dropped at a random point, leave nothing behind.
//!
//! The only test of its binary, because it measures the process's memory.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use support::backend::{Kind, Scripted};
use support::counting::Counting;
use support::gate::OpenOnDrop;
use support::log::Log;
use support::strict::Strict;
use tracing::{Dispatch, dispatcher, info_span};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An xorshift64 generator, whose sequence is the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Builds a resolver, drops 10,000 lookups at random points, and shuts it down.
fn round(kind: Kind, seed: u64, traced: bool) {
    let log = Log::default();
    let own = Dispatch::new(Strict::new(log.clone()));
    let backend = Scripted { emits_events: traced, ..Scripted::new(kind) };
    let resolver = backend.builder(8).reserved_for_known(0).build();
    let open = OpenOnDrop(&backend.gate);
    let mut random = Random(seed);
    let mut held = Vec::new();
    for number in 0..10_000 {
        let name = format!("hang-{}", random.below(2000));
        let mut lookup = dispatcher::with_default(&own, || info_span!("request").in_scope(|| resolver.resolve(name)));
        if random.below(2) == 0 {
            _ = Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop()));
        }
        match random.below(3) {
            0 => drop(lookup),
            1 => held.push(lookup),
            _ => {
                held.push(lookup);
                drop(held.swap_remove(random.below(held.len())));
            }
        }
        // Stays below the queue's bound, so that nothing is refused.
        while held.len() > 500 {
            drop(held.swap_remove(random.below(held.len())));
        }
        if number == 5_000 {
            backend.gate.await_arrivals(8);
        }
    }
    drop(held);

    // The gate is still shut.
    let stats = resolver.stats();
    assert_eq!(stats.queued, 0);
    let threads = match kind {
        Kind::Blocking => 8,
        #[cfg(feature = "async-backend")]
        Kind::Async => 1,
        #[cfg(feature = "async-backend")]
        Kind::Drivers => 3,
    };
    assert_eq!((stats.running, stats.threads), (if kind.stops() { 0 } else { 8 }, threads));
    assert_eq!((stats.started, stats.cancelled, stats.refused), (10_000, 10_000, 0));
    if kind.stops() {
        log.await_closed();
    } else if !traced {
        log.look(|seen| assert_eq!(seen.open.len(), 0, "spans are open"));
    }
    drop(open);
    assert!(resolver.shutdown().wait().is_clean());
    log.look(|seen| assert_eq!((seen.open.len(), &*seen.failures), (0, &[][..])));
}

#[test]
fn not_a_byte_is_left() {
    for &kind in Kind::ALL {
        // These rounds make the allocations that are made once and kept.
        round(kind, 7, true);
        round(kind, 7, false);
        for seed in [11, 13] {
            for traced in [true, false] {
                let before = Counting::bytes();
                round(kind, seed, traced);
                assert_eq!(Counting::bytes() - before, 0, "{kind:?}, seed {seed}, traced: {traced}");
            }
        }
    }
}
