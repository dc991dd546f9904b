//! A fallback is given once a lookup has failed, and at no other time.

mod support;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{Addrs, Answer, Builder, CacheConfig, Error, ErrorKind, Resolver, Source};
use support::backend::{ADDR, Kind, Scripted};
use support::gate::OpenOnDrop;
use support::lasting;

const HOUR: Duration = Duration::from_secs(3600);
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

/// A resolver for a name with a fallback, whose lookups fail as long as `fails` has an error.
struct Failing {
    fails: Arc<Mutex<Option<ErrorKind>>>,
    calls: Arc<AtomicUsize>,
    resolver: Resolver,
}

fn failing(kind: ErrorKind, change: impl FnOnce(Builder) -> Builder) -> Failing {
    let (fails, calls) = (Arc::new(Mutex::new(Some(kind))), Arc::<AtomicUsize>::default());
    let (shared, count) = (Arc::clone(&fails), Arc::clone(&calls));
    let backend = move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        shared.lock().unwrap().map_or(Ok(ADDR), Err)
    };
    let builder = support::plain().cache(lasting()).backend(backend).fallback_host("Name.example", OWN);
    Failing { fails, calls, resolver: change(builder).build() }
}

impl Failing {
    fn ask(&self, name: &str) -> Result<Addrs, Error> {
        block_on(self.resolver.resolve(name))
    }

    fn source(&self) -> Source {
        self.ask("name.example").expect("addresses").source()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn cooldown(cooldown: Duration) -> impl Fn(Builder) -> Builder {
    move |builder| builder.cache(CacheConfig::new().cooldown(cooldown))
}

#[test]
fn it_is_given_for_its_name_alone_and_after_a_lookup_alone() {
    let it = failing(ErrorKind::Temporary, cooldown(HOUR));
    let addrs = it.ask("NAME.example").expect("addresses");
    assert_eq!((addrs.source(), it.calls()), (Source::Fallback, 1));
    assert_eq!(addrs.map(|addr| addr.ip()).collect::<Vec<_>>(), [OWN]);
    assert!(it.ask("other.example").unwrap_err().is_temporary());
    assert!(it.ask("name.example.").unwrap_err().is_temporary(), "another name");

    let it = failing(ErrorKind::Temporary, cooldown(HOUR));
    *it.fails.lock().unwrap() = None;
    assert_eq!(it.source(), Source::Lookup);
}

#[test]
fn it_is_remembered_for_the_cooldown_whatever_the_failure() {
    // Failures of the first kind are cached, those of the second are not.
    for kind in [ErrorKind::Temporary, ErrorKind::System] {
        let it = failing(kind, cooldown(HOUR));
        for _ in 0..3 {
            assert_eq!(it.source(), Source::Fallback);
        }
        assert_eq!(it.calls(), 1, "{kind:?}");
        let stats = it.resolver.stats();
        assert_eq!((stats.answered, stats.hits, stats.failed.len()), (1, 2, 0));

        let it = failing(kind, cooldown(Duration::ZERO));
        for _ in 0..3 {
            assert_eq!(it.source(), Source::Fallback);
        }
        assert_eq!(it.calls(), 3, "{kind:?}");
        *it.fails.lock().unwrap() = None;
        assert_eq!(it.source(), Source::Lookup);

        let it = failing(kind, |builder| builder.cache(CacheConfig::disabled()));
        for _ in 0..3 {
            assert_eq!(it.source(), Source::Fallback);
        }
        assert_eq!(it.calls(), 3, "without a cache");
    }
}

#[test]
fn no_such_name_stands_unless_the_fallback_is_for_that_too() {
    for kind in [ErrorKind::NotFound, ErrorKind::NoData] {
        let it = failing(kind, |builder| builder);
        assert!(!it.resolver.config().fallback_on_not_found);
        for _ in 0..2 {
            assert_eq!(it.ask("name.example").unwrap_err().kind(), kind);
        }
        let it = failing(kind, |builder| builder.fallback_on_not_found(true));
        for _ in 0..2 {
            assert_eq!(it.source(), Source::Fallback);
        }
        assert_eq!(it.calls(), 1);
    }
}

#[test]
fn an_old_answer_of_the_names_own_comes_first() {
    let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).stale_if_error(HOUR);
    let it = failing(ErrorKind::Temporary, |builder| builder.cache(cache));
    *it.fails.lock().unwrap() = None;
    assert_eq!(it.source(), Source::Lookup);
    *it.fails.lock().unwrap() = Some(ErrorKind::Temporary);
    assert_eq!(it.source(), Source::Stale);
    it.resolver.flush();
    assert_eq!(it.source(), Source::Fallback);
}

#[test]
fn an_answer_that_comes_late_replaces_it() {
    let backend = Scripted::default();
    let _open = OpenOnDrop(&backend.gate);
    let builder = backend.builder(4).cache(CacheConfig::new().cooldown(HOUR)).timeout(Duration::from_millis(1));
    let resolver = builder.fallback_host("hang.example", OWN).build();
    let source = || block_on(resolver.resolve("hang.example")).expect("addresses").source();
    // The timeout may pass before the call begins, and then there is none.
    while backend.gate.arrived() == 0 {
        resolver.flush();
        assert_eq!(source(), Source::Fallback);
    }
    backend.gate.open();
    // Nobody can wait for the call, which has no callers. It has ended when its answer is in the cache.
    while source() == Source::Fallback {
        thread::yield_now();
    }
    assert_eq!(source(), Source::Cache);
}

over_every_kind! {
    a_caller_gets_it_when_the_timeout_has_passed
    callers_that_share_a_call_all_get_it
    it_is_given_if_the_queue_is_full_but_not_after_the_end
}

fn a_caller_gets_it_when_the_timeout_has_passed(kind: Kind) {
    let backend = Scripted::new(kind);
    let _open = OpenOnDrop(&backend.gate);
    let builder = backend.builder(4).cache(CacheConfig::new().cooldown(HOUR)).timeout(Duration::from_millis(1));
    let resolver = builder.fallback_host("hang.example", OWN).build();
    let addrs = block_on(resolver.resolve("hang.example")).expect("addresses");
    assert_eq!(addrs.source(), Source::Fallback);
    assert!(addrs.time_queued() + addrs.time_in_call() >= Duration::from_millis(1));
    // The next callers need not wait for the timeout.
    for _ in 0..3 {
        assert_eq!(block_on(resolver.resolve("hang.example")).expect("addresses").source(), Source::Fallback);
    }
    assert_eq!(resolver.stats().timed_out, 1);
}

fn callers_that_share_a_call_all_get_it(kind: Kind) {
    let backend = Scripted::new(kind);
    let resolver = backend.builder(4).fallback_host("panic.example", OWN).build();
    let lookups: Vec<_> = (0..10).map(|_| resolver.resolve("panic.example")).collect();
    for lookup in lookups {
        assert_eq!(block_on(lookup).expect("addresses").source(), Source::Fallback);
    }
}

fn it_is_given_if_the_queue_is_full_but_not_after_the_end(kind: Kind) {
    let backend = Scripted::new(kind);
    let _open = OpenOnDrop(&backend.gate);
    let resolver = backend.builder(1).max_queued(0).fallback_host("name.example", OWN).build();
    let hangs = resolver.resolve("hang.example");
    backend.gate.await_arrivals(1);
    assert_eq!(block_on(resolver.resolve("name.example")).expect("addresses").source(), Source::Fallback);
    assert!(block_on(resolver.resolve("other.example")).unwrap_err().is_overloaded());
    resolver.close();
    assert!(block_on(resolver.resolve("name.example")).unwrap_err().is_closed());
    drop(hangs);

    let builder = backend.builder(1).cache(CacheConfig::new().cooldown(HOUR));
    let resolver = builder.fallback_host("panic.example", OWN).build();
    for _ in 0..2 {
        assert_eq!(block_on(resolver.resolve("panic.example")).expect("addresses").source(), Source::Fallback);
    }
    resolver.close();
    assert!(block_on(resolver.resolve("panic.example")).unwrap_err().is_closed(), "also while it is remembered");
}

#[test]
fn a_lookup_that_is_given_up_at_the_end_has_no_fallback() {
    let backend = Scripted::default();
    let _open = OpenOnDrop(&backend.gate);
    let resolver = backend.builder(1).fallback_host("hang.example", OWN).build();
    let lookup = resolver.resolve("hang.example");
    backend.gate.await_arrivals(1);
    let report = resolver.shutdown().within(Duration::ZERO).wait();
    assert_eq!(report.abandoned.len(), 1);
    assert!(block_on(lookup).unwrap_err().is_closed());
}

#[test]
fn an_empty_fallback_is_none() {
    let nothing = Answer::from(Vec::<IpAddr>::new());
    let it = failing(ErrorKind::Temporary, |builder| builder.fallback_host("name.example", nothing));
    assert!(it.ask("name.example").unwrap_err().is_temporary());
}
