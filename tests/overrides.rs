//! Overrides take the place of lookups, and can be changed at any time.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::Barrier;
use std::thread;

use futures::executor::block_on;
use gaiter::{Answer, ErrorKind, Family, Resolver, Source};
use support::backend::Scripted;
use support::lasting;

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

fn source(resolver: &Resolver, name: &str) -> Source {
    block_on(resolver.resolve(name)).unwrap_or_else(|error| panic!("{error}")).source()
}

#[test]
fn an_override_makes_no_call_in_any_case_of_letters() {
    let backend = Scripted::default();
    let builder = backend.builder(4).override_host("First.example", OWN).override_host("", OWN);
    let resolver = builder.override_host("127.0.0.1", OWN).build();
    let mut addrs = block_on(resolver.resolve("FIRST.example")).unwrap();
    assert_eq!((addrs.source(), addrs.age().is_zero()), (Source::Override, true));
    assert_eq!(addrs.next(), Some(SocketAddr::new(OWN, 0)));
    assert_eq!(backend.calls(), 0);
    assert_eq!(resolver.stats(), Resolver::new().stats(), "not counted, as addresses are not");

    assert_eq!(source(&resolver, "first.example."), Source::Lookup, "another name");
    assert_eq!(source(&resolver, "127.0.0.1"), Source::Literal);
    assert_eq!(block_on(resolver.resolve("")).unwrap_err().kind(), ErrorKind::InvalidName);
    resolver.close();
    assert!(block_on(resolver.resolve("first.example")).unwrap_err().is_closed());
}

#[test]
fn an_override_goes_before_a_cached_answer_until_it_is_removed() {
    let backend = Scripted::default();
    let resolver = support::plain().cache(lasting()).backend(backend.clone()).build();
    let clone = resolver.clone();
    source(&resolver, "name.example");
    resolver.override_host("name.example", OWN);
    assert_eq!(source(&clone, "name.example"), Source::Override);
    assert!(clone.remove_override("NAME.example"));
    assert!(!resolver.remove_override("name.example"));
    assert_eq!(source(&resolver, "name.example"), Source::Cache);
    assert_eq!(backend.calls(), 1);
}

#[test]
fn ports_are_kept_and_families_do_not_apply() {
    let both: [SocketAddr; 2] = ["198.51.100.9:8080".parse().unwrap(), "[2001:db8::9]:0".parse().unwrap()];
    let resolver = Resolver::builder().family(Family::V6Only).override_host("name.example", both).build();
    assert_eq!(block_on(resolver.resolve("name.example")).unwrap().collect::<Vec<_>>(), both);
}

#[test]
fn an_override_without_addresses_is_a_name_without_addresses() {
    let backend = Scripted::default();
    let nothing = Answer::from(Vec::<IpAddr>::new());
    let resolver = backend.builder(4).override_host("blocked.example", nothing).build();
    let error = block_on(resolver.resolve("Blocked.example")).unwrap_err();
    assert_eq!((error.kind(), error.name()), (ErrorKind::NoData, Some("Blocked.example")));
    assert_eq!(backend.calls(), 0);
}

#[test]
fn a_thread_sees_its_own_change_whatever_others_change() {
    let backend = Scripted::default();
    let resolver = Resolver::builder().backend(backend).build();
    let barrier = Barrier::new(3);
    thread::scope(|scope| {
        for number in 0..3 {
            let (resolver, barrier) = (&resolver, &barrier);
            scope.spawn(move || {
                let name = format!("name-{number}");
                barrier.wait();
                for _ in 0..300 {
                    resolver.override_host(&name, OWN);
                    assert_eq!(source(resolver, &name), Source::Override);
                    assert!(resolver.remove_override(&name));
                    assert_ne!(source(resolver, &name), Source::Override);
                }
            });
        }
    });
}
