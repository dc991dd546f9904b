//! Each caller gets the addresses in an order of its own, if the program wants that, and families keep their places.

mod support;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{CacheConfig, Error, ErrorKind, Order, Resolver, Source};
use support::gate::{Gate, OpenOnDrop};

const HOUR: Duration = Duration::from_secs(3600);
const ORDERS: [Order; 3] = [Order::Platform, Order::Rotate, Order::Shuffle];

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Two addresses of IPv6 before four of IPv4: more than are stored inline.
fn mixed() -> Vec<IpAddr> {
    ips(&["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"])
}

/// As many as are stored inline.
fn inline() -> Vec<IpAddr> {
    ips(&["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"])
}

fn resolver(addrs: Vec<IpAddr>, order: Order) -> Resolver {
    let builder = Resolver::builder().backend(move |_: &str| Ok::<_, Error>(addrs.clone())).order(order);
    builder.cache(CacheConfig::new().ttl(HOUR)).build()
}

fn ask(resolver: &Resolver, name: &str) -> Vec<IpAddr> {
    block_on(resolver.resolve(name)).expect("an answer").map(|addr| addr.ip()).collect()
}

/// Asks on eight threads, 10,000 times in all, and returns how often each address came first.
fn firsts(resolver: &Resolver) -> HashMap<IpAddr, usize> {
    ask(resolver, "name.example");
    let count = || {
        let mut counts = HashMap::new();
        for _ in 0..1250 {
            *counts.entry(ask(resolver, "name.example")[0]).or_default() += 1;
        }
        counts
    };
    let counts: Vec<HashMap<IpAddr, usize>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sum = HashMap::new();
    counts.into_iter().flatten().for_each(|(ip, count)| *sum.entry(ip).or_default() += count);
    assert_eq!(resolver.stats().hits, 10_000);
    sum
}

#[test]
fn callers_are_spread_over_the_addresses_of_the_first_family() {
    for (addrs, len) in [(mixed(), 2), (inline(), 2), (mixed()[2..].to_vec(), 4)] {
        for order in ORDERS {
            let counts = firsts(&resolver(addrs.clone(), order));
            let counts: Vec<usize> = addrs.iter().map(|ip| counts.get(ip).copied().unwrap_or(0)).collect();
            println!("{order:?}: {counts:?}");
            let even = 10_000 / len;
            // For a random order, five times the standard deviation.
            let off = match order {
                Order::Platform => {
                    assert_eq!(counts[0], 10_000);
                    continue;
                }
                Order::Rotate => 8 * 4,
                _ => 250,
            };
            assert!(counts[..len].iter().all(|count| count.abs_diff(even) <= off), "{order:?}: {counts:?}");
            assert!(counts[len..].iter().all(|count| *count == 0), "IPv6 stays first: {counts:?}");
        }
    }
}

#[test]
fn the_default_is_the_order_of_the_backend() {
    assert_eq!(Resolver::new().config().order, Order::Platform);
    let resolver = resolver(mixed(), Order::default());
    (0..20).for_each(|_| assert_eq!(ask(&resolver, "name.example"), mixed()));
}

/// With a shared counter, each of the names would get the same addresses again and again.
#[test]
fn names_that_a_thread_asks_for_in_turn_are_all_rotated() {
    let resolver = resolver(mixed()[2..].to_vec(), Order::Rotate);
    let mut firsts = HashMap::new();
    for turn in 0..4000 {
        let name = format!("{}.example", turn % 4);
        *firsts.entry((turn % 4, ask(&resolver, &name)[0])).or_insert(0_usize) += 1;
    }
    assert_eq!(firsts.len(), 16);
    assert!(firsts.values().all(|count| count.abs_diff(250) <= 12), "{firsts:?}");
}

#[test]
fn callers_that_share_a_call_get_different_orders() {
    for order in [Order::Rotate, Order::Shuffle] {
        let gate = Gate::default();
        let _open = OpenOnDrop(&gate);
        let backend = {
            let gate = gate.clone();
            move |_: &str| {
                gate.pass();
                Ok::<_, Error>(inline())
            }
        };
        let resolver = support::plain().backend(backend).order(order).build();
        let lookups: Vec<_> = (0..64).map(|_| resolver.resolve("name.example")).collect();
        gate.await_arrivals(1);
        gate.open();
        let firsts = block_on(join_all(lookups)).into_iter().map(|addrs| {
            let addrs = addrs.expect("an answer");
            assert_eq!(addrs.source(), Source::Lookup);
            let ips: Vec<_> = addrs.map(|addr| addr.ip()).collect();
            assert!(ips[..2].iter().all(IpAddr::is_ipv6) && ips[2..].iter().all(IpAddr::is_ipv4));
            ips[0]
        });
        assert!(firsts.filter(|first| *first == inline()[0]).count().abs_diff(32) < 28, "{order:?}");
    }
}

#[test]
fn stale_answers_are_ordered_too() {
    // The second one is read under the lock.
    for name in ["name.example", &"long.".repeat(20)] {
        let gate = Gate::default();
        let _open = OpenOnDrop(&gate);
        let (backend, calls) = (gate.clone(), AtomicUsize::new(0));
        let backend = move |_: &str| {
            if calls.fetch_add(1, Ordering::SeqCst) > 0 {
                backend.pass();
            }
            Ok::<_, Error>(inline())
        };
        let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(HOUR);
        let resolver = Resolver::builder().backend(backend).order(Order::Shuffle).cache(cache).build();
        ask(&resolver, name);
        let firsts: Vec<_> = (0..64)
            .map(|_| {
                let mut addrs = block_on(resolver.resolve(name)).expect("an answer");
                (addrs.source(), addrs.next().expect("an address").ip())
            })
            .collect();
        for ip in &inline()[..2] {
            assert!(firsts.contains(&(Source::Stale, *ip)), "{firsts:?}");
        }
    }
}

#[test]
fn overrides_and_fallbacks_stay_as_the_program_gave_them() {
    let own = mixed();
    for order in ORDERS {
        let builder = Resolver::builder().backend(|_: &str| Err::<Vec<IpAddr>, _>(ErrorKind::Temporary)).order(order);
        let builder = builder.override_host("own.example", own.clone()).fallback_host("fails.example", own.clone());
        let resolver = builder.build();
        for _ in 0..20 {
            assert_eq!(ask(&resolver, "own.example"), own);
            assert_eq!(ask(&resolver, "fails.example"), own);
            assert_eq!(ask(&resolver, "192.0.2.1"), ips(&["192.0.2.1"]));
        }
    }
}
