//! A cache hit allocates nothing, neither through hyper's `Service` nor by `wait`.
//!
//! The only test of its binary, because it counts allocations.

mod support;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{CacheConfig, Error, Order, Resolver, Source};
use hyper_util::client::legacy::connect::dns::Name;
use support::counting::Counting;
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two addresses of each family are stored inline. Three are not.
fn addrs(each: u8) -> Vec<IpAddr> {
    let v6 = (0..each).map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()]));
    v6.chain((0..each).map(|last| IpAddr::from([192, 0, 2, last]))).collect()
}

fn count(order: Order, each: u8) {
    let cache = CacheConfig::new().ttl(Duration::from_secs(3600));
    let builder = Resolver::builder().backend(move |_: &str| Ok::<_, Error>(addrs(each))).cache(cache).order(order);
    let mut resolver = builder.build();
    let names: Vec<Name> = (0..2000).map(|_| "ok.Example".parse().unwrap()).collect();
    block_on(resolver.resolve("OK.example")).expect("an answer");
    // Makes the allocations that a thread makes once.
    assert_eq!(block_on(resolver.resolve("ok.example")).expect("an answer").source(), Source::Cache);

    let before = Counting::on_this_thread();
    for name in names {
        let mut lookup = resolver.call(name);
        let Poll::Ready(Ok(mut addrs)) = Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a hit waits for nothing");
        };
        assert_eq!(addrs.source(), Source::Cache);
        // One by one, and the rest at once.
        assert!(addrs.next().is_some());
        assert_eq!(addrs.count(), usize::from(2 * each - 1));
        assert_eq!(resolver.resolve("ok.example").wait().expect("an answer").count(), usize::from(2 * each));
    }
    assert_eq!(Counting::on_this_thread() - before, 0, "{order:?} of {each} addresses of each family");
}

#[test]
fn not_once() {
    for order in [Order::Platform, Order::Rotate, Order::Shuffle] {
        (1..4).for_each(|each| count(order, each));
    }
}
