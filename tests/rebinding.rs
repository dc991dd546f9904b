//! DNS rebinding: a name that first has a public address, and then a private one, is denied by every way on which an answer
//! reaches a caller.

mod support;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{AddrFilter, Addrs, Answer, Builder, CacheConfig, Error, ErrorKind, Resolver, Source};
use support::backend::Kind;
use support::gate::{Gate, OpenOnDrop};
use support::lasting;

const HOUR: Duration = Duration::from_secs(3600);
const NAME: &str = "rebinding.example";

/// What the name server says next.
#[derive(Clone)]
enum Says {
    Public,
    Loopback,
    Fails,
    /// Waits at the gate, and then says the other.
    After(Gate, Box<Says>),
}

/// A name server that a stranger controls, and the resolver that asks it.
struct Rebinding {
    says: Arc<Mutex<Says>>,
    resolver: Resolver,
}

fn answer(says: &Says) -> Result<Answer, Error> {
    match says {
        Says::Public => Ok(IpAddr::from([8, 8, 8, 8]).into()),
        Says::Loopback => Ok([IpAddr::from([8, 8, 8, 8]), IpAddr::from([127, 0, 0, 1])].into()),
        Says::Fails => Err(ErrorKind::Temporary.into()),
        Says::After(gate, says) => {
            gate.pass();
            answer(says)
        }
    }
}

fn with(kind: Kind, cache: CacheConfig, change: impl FnOnce(Builder) -> Builder) -> Rebinding {
    let says = Arc::new(Mutex::new(Says::Public));
    let shared = Arc::clone(&says);
    let backend = move |_: &str| {
        let says = shared.lock().unwrap().clone();
        answer(&says)
    };
    let builder = match kind {
        Kind::Blocking => support::plain().backend(backend),
        #[cfg(feature = "async-backend")]
        Kind::Async | Kind::Drivers => {
            let threads = if matches!(kind, Kind::Drivers) { 3 } else { 1 };
            let builder = support::plain().driver_threads(threads);
            builder.async_backend(move |name: &str| {
                let (backend, name) = (backend.clone(), name.to_owned());
                async move { tokio::task::spawn_blocking(move || backend(&name)).await.expect("no panic") }
            })
        }
    };
    let resolver = change(builder.cache(cache).filter(AddrFilter::public_only())).build();
    Rebinding { says, resolver }
}

impl Rebinding {
    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn ask(&self) -> Result<Addrs, Error> {
        block_on(self.resolver.resolve(NAME))
    }

    #[track_caller]
    fn source(&self) -> Source {
        let mut addrs = self.ask().expect("addresses");
        assert!(addrs.clone().all(|addr| !addr.ip().is_loopback()), "{addrs:?}");
        assert!(addrs.next().is_some());
        addrs.source()
    }

    #[track_caller]
    fn denied(&self) -> Error {
        let error = self.ask().expect_err("a denial");
        assert!(error.is_denied() && error.to_string().contains("127.0.0.1 is in 127.0.0.0/8"), "{error:?}");
        error
    }
}

over_every_kind! {
    a_lookup_is_denied_and_so_is_the_next_caller
    a_stale_answer_does_not_outlast_the_denial
    an_old_answer_is_not_given_in_place_of_a_denial
    a_fallback_is_not_given_in_place_of_a_denial
    a_failure_after_a_denial_brings_no_old_answer_back
    all_callers_of_a_call_are_denied
    an_answer_that_a_former_filter_let_through_is_not_given_again
    an_answer_that_comes_after_a_change_of_the_filter_is_judged_by_the_new_one
}

fn a_lookup_is_denied_and_so_is_the_next_caller(kind: Kind) {
    let name = with(kind, lasting().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO), |it| it);
    assert_eq!(name.source(), Source::Lookup);
    name.say(Says::Loopback);
    assert!(!name.denied().is_cached());
    assert!(name.denied().is_cached());
    name.resolver.flush();
    name.say(Says::Public);
    assert_eq!(name.source(), Source::Lookup, "a name that is public again is let through");
}

fn a_stale_answer_does_not_outlast_the_denial(kind: Kind) {
    let name = with(kind, lasting().ttl(Duration::ZERO).stale_while_revalidate(HOUR), |it| it);
    assert_eq!(name.source(), Source::Lookup);
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    name.say(Says::After(gate.clone(), Box::new(Says::Loopback)));
    // The refresh is on its way. Its answer is not public, but the stale one is.
    assert_eq!(name.source(), Source::Stale);
    gate.await_arrivals(1);
    gate.open();
    // Nobody can wait for the refresh. It has ended when the denial is in the cache.
    while name.ask().is_ok_and(|addrs| addrs.source() == Source::Stale) {
        thread::yield_now();
    }
    assert!(name.denied().is_cached());
}

fn an_old_answer_is_not_given_in_place_of_a_denial(kind: Kind) {
    let cache = lasting().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).stale_if_error(HOUR);
    let name = with(kind, cache.cooldown(Duration::ZERO), |it| it.timeout(None));
    assert_eq!(name.source(), Source::Lookup);
    name.say(Says::Fails);
    assert_eq!(name.source(), Source::Stale, "a failure is no denial");
    name.say(Says::Loopback);
    assert!(!name.denied().is_cached());
}

fn a_fallback_is_not_given_in_place_of_a_denial(kind: Kind) {
    let fallback = IpAddr::from([1, 1, 1, 1]);
    let change = |it: Builder| it.fallback_host(NAME, fallback).fallback_on_not_found(true);
    let name = with(kind, CacheConfig::disabled(), change);
    name.say(Says::Fails);
    assert_eq!(name.source(), Source::Fallback);
    name.say(Says::Loopback);
    name.denied();

    let name = with(kind, lasting(), change);
    name.say(Says::Loopback);
    assert!(!name.denied().is_cached());
    assert!(name.denied().is_cached());

    // Nor is a fallback that is private.
    let change = |it: Builder| it.fallback_host(NAME, IpAddr::from([127, 0, 0, 1]));
    let name = with(kind, lasting(), change);
    name.say(Says::Fails);
    assert!(name.ask().unwrap_err().is_temporary());
}

fn a_failure_after_a_denial_brings_no_old_answer_back(kind: Kind) {
    let cache = lasting().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).stale_if_error(HOUR);
    let name = with(kind, cache.negative_ttl(Duration::ZERO), |it| it);
    assert_eq!(name.source(), Source::Lookup);
    name.say(Says::Loopback);
    name.denied();
    name.say(Says::Fails);
    assert!(name.ask().unwrap_err().is_temporary());
}

fn all_callers_of_a_call_are_denied(kind: Kind) {
    let name = with(kind, lasting(), |it| it);
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    name.say(Says::After(gate.clone(), Box::new(Says::Loopback)));
    let lookups = ["", "."].map(|dot| name.resolver.resolve(format!("{NAME}{dot}")));
    let shared: Vec<_> = (0..10).map(|_| name.resolver.resolve(NAME)).collect();
    gate.await_arrivals(2);
    gate.open();
    for lookup in lookups.into_iter().chain(shared) {
        assert!(block_on(lookup).unwrap_err().is_denied());
    }
    assert_eq!(name.resolver.stats().failed[&ErrorKind::Denied], 12);
}

fn an_answer_that_a_former_filter_let_through_is_not_given_again(kind: Kind) {
    let old = lasting().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).stale_if_error(HOUR);
    let stale = lasting().ttl(Duration::ZERO).stale_while_revalidate(HOUR);
    for cache in [lasting(), old, stale] {
        let name = with(kind, cache, |it| it.timeout(None));
        name.resolver.set_filter(None);
        name.say(Says::Loopback);
        name.ask().expect("addresses");
        name.say(Says::Fails);
        name.ask().expect("addresses from the cache");
        name.resolver.set_filter(AddrFilter::public_only());
        assert!(name.ask().unwrap_err().is_temporary());
        name.resolver.flush();
        name.say(Says::Loopback);
        name.denied();
    }
}

fn an_answer_that_comes_after_a_change_of_the_filter_is_judged_by_the_new_one(kind: Kind) {
    let name = with(kind, lasting(), |it| it);
    name.resolver.set_filter(None);
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    name.say(Says::After(gate.clone(), Box::new(Says::Loopback)));
    let before = name.resolver.resolve(NAME);
    gate.await_arrivals(1);
    name.resolver.set_filter(AddrFilter::public_only());
    gate.open();
    assert!(block_on(before).unwrap_err().is_denied());
    name.denied();
}

#[test]
fn an_override_and_an_address_are_denied() {
    let name = with(Kind::Blocking, lasting(), |it| it.override_host(NAME, IpAddr::from([127, 0, 0, 1])));
    name.denied();
    name.resolver.override_host(NAME, IpAddr::from([8, 8, 4, 4]));
    assert_eq!(name.source(), Source::Override);
    name.resolver.override_host(NAME, [IpAddr::from([8, 8, 4, 4]), IpAddr::from([127, 0, 0, 1])]);
    name.denied();
    name.resolver.set_filter(AddrFilter::public_only().pass_rest(true));
    assert_eq!(name.source(), Source::Override);
    name.resolver.set_filter(AddrFilter::public_only().exempt_overrides(true));
    assert_eq!(name.ask().expect("addresses").len(), 2);
    assert!(block_on(name.resolver.resolve("127.0.0.1")).unwrap_err().is_denied(), "an exemption of overrides alone");
}

/// The name is judged by the rules of when its answer comes, not only of when it was asked for.
#[test]
fn a_name_that_is_denied_while_its_call_runs_is_not_let_through() {
    let name = with(Kind::Blocking, lasting(), |it| it);
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    name.say(Says::After(gate.clone(), Box::new(Says::Public)));
    let lookup = name.resolver.resolve(NAME);
    gate.await_arrivals(1);
    name.resolver.set_filter(AddrFilter::public_only().deny_name(".example"));
    gate.open();
    assert!(block_on(lookup).unwrap_err().is_denied());
    assert!(name.ask().unwrap_err().is_denied());
}
