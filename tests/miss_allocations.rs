//! Counts what a miss allocates, on all threads together.
//!
//! The only test of its binary, because it counts allocations.

mod support;

use std::net::IpAddr;

use futures::executor::block_on;
use gaiter::{Answer, CacheConfig, Error, Resolver, Untraced};
use support::counting::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MISSES: usize = 2000;

/// Returns the number of allocations for one miss, on average, once the cache is full.
fn per_miss(cache: CacheConfig) -> f64 {
    let backend = |_: &str| Ok::<_, Error>(Answer::from(IpAddr::from([192, 0, 2, 1])));
    let resolver = Resolver::builder().backend(Untraced(backend)).cache(cache).build();
    let names: Vec<String> = (0..2 * MISSES).map(|number| format!("{number}.example")).collect();
    let (first, then) = names.split_at(MISSES);
    let look_up = |name: &String| assert_eq!(block_on(resolver.resolve(name)).expect("an answer").count(), 1);
    first.iter().for_each(look_up);
    let before = Counting::allocations();
    then.iter().for_each(look_up);
    let allocations = Counting::allocations() - before;
    // All threads have left, and allocate nothing for the next resolver.
    assert!(resolver.shutdown().wait().is_clean());
    allocations as f64 / MISSES as f64
}

#[test]
fn a_miss_allocates_the_name_and_the_place_where_its_caller_waits() {
    let without = per_miss(CacheConfig::disabled());
    let with = per_miss(CacheConfig::new());
    assert!(without <= 2.1, "{without} without a cache");
    assert!(with <= 3.1, "{with} with a cache");
}
