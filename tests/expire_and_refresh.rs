//! A program can make the next caller wait for a lookup without losing the old answer, and start lookups ahead of any caller.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{AddrFilter, Builder, CacheConfig, ErrorKind, Hedge, Resolver, Source};
use support::backend::{Kind, Scripted};
use support::gate::{Gate, OpenOnDrop};

const HOUR: Duration = Duration::from_secs(3600);

/// A backend whose answer, or failure, is set by the test.
#[derive(Clone)]
struct Moving {
    /// The last byte of the address. 0 is a failure, 255 a name that does not exist, and a call for 254 stops at the gate.
    now: Arc<AtomicU8>,
    gate: Gate,
    calls: Arc<AtomicUsize>,
}

impl Moving {
    fn new() -> (Self, Resolver) {
        Self::with(|builder| builder)
    }

    fn with(change: impl FnOnce(Builder) -> Builder) -> (Self, Resolver) {
        let this = Self { now: Arc::new(AtomicU8::new(1)), gate: Gate::default(), calls: Arc::default() };
        let backend = this.clone();
        let builder = Resolver::builder().backend(move |_: &str| {
            backend.calls.fetch_add(1, Ordering::SeqCst);
            match backend.now.load(Ordering::SeqCst) {
                0 => return Err(ErrorKind::Temporary),
                255 => return Err(ErrorKind::NotFound),
                254 => backend.gate.pass(),
                _ => {}
            }
            Ok(IpAddr::from([192, 0, 2, backend.now.load(Ordering::SeqCst)]))
        });
        let builder = builder.hedge(Hedge::off());
        (
            this,
            change(
                builder
                    .cache(CacheConfig::new().ttl(HOUR).cooldown(HOUR).negative_ttl(HOUR).stale_answer_timeout(HOUR)),
            )
            .build(),
        )
    }

    fn set(&self, now: u8) {
        self.now.store(now, Ordering::SeqCst);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn ask(resolver: &Resolver) -> (Source, u8) {
    let mut addrs = block_on(resolver.resolve("name.example")).expect("an answer");
    match addrs.next().expect("an address").ip() {
        IpAddr::V4(ip) => (addrs.source(), ip.octets()[3]),
        ip => panic!("{ip}"),
    }
}

fn await_idle(resolver: &Resolver) {
    while resolver.stats().running + resolver.stats().queued > 0 {
        thread::yield_now();
    }
}

#[test]
fn the_next_caller_after_an_expiry_waits_for_a_lookup() {
    let (moving, resolver) = Moving::new();
    resolver.expire("name.example");
    assert_eq!(ask(&resolver), (Source::Lookup, 1));
    moving.set(2);
    assert_eq!(ask(&resolver), (Source::Cache, 1));
    resolver.expire("other.example");
    assert_eq!(ask(&resolver), (Source::Cache, 1));
    resolver.expire("NAME.example");
    assert_eq!(ask(&resolver), (Source::Lookup, 2));
    assert_eq!(ask(&resolver), (Source::Cache, 2));
    assert_eq!(moving.calls(), 2);
}

#[test]
fn an_expired_answer_is_given_if_the_lookup_fails() {
    let (moving, resolver) = Moving::new();
    assert_eq!(ask(&resolver), (Source::Lookup, 1));
    moving.set(0);
    for _ in 0..3 {
        resolver.expire("name.example");
        assert_eq!(ask(&resolver), (Source::Stale, 1));
    }
    assert_eq!(moving.calls(), 2, "no other lookup during the cooldown");
}

#[test]
fn an_expired_no_such_name_is_looked_up_again() {
    let (moving, resolver) = Moving::new();
    moving.set(255);
    for cached in [false, true] {
        assert_eq!(block_on(resolver.resolve("name.example")).expect_err("there is none").is_cached(), cached);
    }
    moving.set(3);
    resolver.expire("name.example");
    assert_eq!(ask(&resolver), (Source::Lookup, 3));
}

#[test]
fn what_is_no_name_can_be_expired_too() {
    let (_, resolver) = Moving::new();
    ["", "a\0b", "127.0.0.1", &"x".repeat(2000)].into_iter().for_each(|name| resolver.expire(name));
    resolver.close();
    resolver.expire("name.example");
}

#[test]
fn callers_after_an_expiry_share_one_lookup() {
    let (moving, resolver) = Moving::new();
    let _open = OpenOnDrop(&moving.gate);
    assert_eq!(ask(&resolver), (Source::Lookup, 1));
    moving.set(254);
    let lookups: Vec<_> = (0..10)
        .map(|_| {
            resolver.expire("name.example");
            resolver.resolve("name.example")
        })
        .collect();
    moving.gate.await_arrivals(1);
    moving.gate.open();
    for lookup in lookups {
        assert_eq!(block_on(lookup).expect("an answer").source(), Source::Lookup);
    }
    assert_eq!(moving.calls(), 2);
}

#[test]
fn a_refresh_replaces_a_fresh_answer_and_nobody_waits() {
    let (moving, resolver) = Moving::new();
    assert_eq!(ask(&resolver), (Source::Lookup, 1));
    moving.set(2);
    resolver.refresh("NAME.example").expect("it is taken");
    // Callers get the old answer or the new one, and both at once.
    while ask(&resolver) == (Source::Cache, 1) {
        thread::yield_now();
    }
    assert_eq!(ask(&resolver), (Source::Cache, 2));
    let stats = resolver.stats();
    assert_eq!((moving.calls(), stats.refreshed, stats.started), (2, 1, 1));
}

#[test]
fn a_refresh_of_a_name_that_is_not_cached_fills_the_cache() {
    let (moving, resolver) = Moving::new();
    resolver.refresh("name.example").expect("it is taken");
    await_idle(&resolver);
    assert_eq!(ask(&resolver), (Source::Cache, 1));
    assert_eq!(moving.calls(), 1);
}

#[test]
fn a_refresh_that_fails_keeps_the_answer() {
    let (moving, resolver) = Moving::new();
    assert_eq!(ask(&resolver), (Source::Lookup, 1));
    moving.set(0);
    resolver.refresh("name.example").expect("it is taken");
    await_idle(&resolver);
    assert_eq!(ask(&resolver), (Source::Cache, 1));
    assert_eq!(moving.calls(), 2);
}

fn callers_join_a_refresh(kind: Kind) {
    let backend = Scripted::new(kind);
    let _open = OpenOnDrop(&backend.gate);
    let resolver = backend.builder(4).cache(CacheConfig::new()).build();
    for _ in 0..3 {
        resolver.refresh("hang").expect("it is taken, or in progress");
    }
    backend.gate.await_arrivals(1);
    let lookup = resolver.resolve("hang");
    backend.gate.open();
    assert_eq!(block_on(lookup).expect("an answer").source(), Source::Lookup);
    assert_eq!((backend.calls(), resolver.stats().refreshed), (1, 1));
}

over_every_kind! { callers_join_a_refresh }

#[test]
fn a_refresh_is_refused_when_too_many_wait() {
    let backend = Scripted::default();
    let _open = OpenOnDrop(&backend.gate);
    let resolver = backend.builder(2).reserved_for_known(1).max_queued(1).cache(CacheConfig::new()).build();
    resolver.refresh("hang-1").expect("it is taken");
    backend.gate.await_arrivals(1);
    resolver.refresh("hang-2").expect("it is queued");
    let error = resolver.refresh("hang-3").expect_err("the queue is full");
    assert_eq!((error.is_overloaded(), error.name()), (true, Some("hang-3")));
}

#[test]
fn a_refresh_says_why_it_is_not_taken() {
    let kind = |resolver: &Resolver, name: &str| resolver.refresh(name).map_err(|error| error.kind());
    let (moving, resolver) = Moving::with(|builder| {
        let filter = AddrFilter::any().deny_name("denied.example").deny_net(IpAddr::from([127, 0, 0, 1]));
        let builder = builder.override_host("none.example", Vec::<IpAddr>::new()).filter(filter);
        builder.override_host("own.example", IpAddr::V4(Ipv4Addr::BROADCAST))
    });
    assert_eq!(kind(&resolver, "own.example"), Ok(()));
    assert_eq!(kind(&resolver, "192.0.2.1"), Ok(()));
    assert_eq!(kind(&resolver, "127.0.0.1"), Err(ErrorKind::Denied));
    assert_eq!(kind(&resolver, "none.example"), Err(ErrorKind::NoData));
    assert_eq!(kind(&resolver, "denied.example"), Err(ErrorKind::Denied));
    assert_eq!(kind(&resolver, "a\0b"), Err(ErrorKind::InvalidName));
    resolver.close();
    assert_eq!(kind(&resolver, "name.example"), Err(ErrorKind::Closed));
    let (_, without_cache) = Moving::with(|builder| builder.cache(CacheConfig::disabled()));
    assert_eq!(kind(&without_cache, "name.example"), Err(ErrorKind::Other));
    assert_eq!(moving.calls(), 0);
}
