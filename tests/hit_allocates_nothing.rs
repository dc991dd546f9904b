//! A cache hit through hyper's `Service` allocates nothing.
//!
//! The only test of its binary, because it counts allocations.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::executor::block_on;
use gaiter::{Resolver, Source};
use hyper_util::client::legacy::connect::dns::Name;
use support::backend::Scripted;
use tower_service::Service;

struct Counting;

thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

// SAFETY: forwards to `System`, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn not_once() {
    let mut resolver = Resolver::builder().backend(Scripted::default()).build();
    let names: Vec<Name> = (0..2000).map(|_| "ok.Example".parse().unwrap()).collect();
    block_on(resolver.resolve("OK.example")).expect("an answer");
    // Makes the allocations that a thread makes once.
    assert_eq!(block_on(resolver.resolve("ok.example")).expect("an answer").source(), Source::Cache);

    let before = ALLOCATIONS.get();
    for name in names {
        let mut lookup = resolver.call(name);
        let Poll::Ready(Ok(addrs)) = Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a hit waits for nothing");
        };
        assert_eq!(addrs.source(), Source::Cache);
        assert_eq!(addrs.count(), 1);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
