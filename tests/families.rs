//! Callers get the families that the program wants, from one call.

mod support;

use std::net::SocketAddr;

use futures::executor::block_on;
use gaiter::{Error, ErrorKind, Family, Source};
use support::backend::Scripted;
use support::lasting;

fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn one_call_is_made_and_the_cache_has_what_callers_get() {
    let all = addrs(&["[fe80::1%3]:0", "192.0.2.1:0", "[2001:db8::1]:0"]);
    let wanted = addrs(&["192.0.2.1:0", "[fe80::1%3]:0", "[2001:db8::1]:0"]);
    let resolver = support::plain().backend(move |_: &str| Ok::<_, Error>(all.clone())).family(Family::PreferV4);
    let resolver = resolver.cache(lasting()).build();
    assert_eq!(resolver.config().family, Family::PreferV4);
    for source in [Source::Lookup, Source::Cache] {
        let given = block_on(resolver.resolve("name.example")).unwrap();
        assert_eq!(given.source(), source);
        assert_eq!(given.collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn a_name_without_the_only_family_has_no_address() {
    let backend = Scripted::default();
    let resolver = support::plain().cache(lasting()).backend(backend.clone()).family(Family::V6Only).build();
    for cached in [false, true] {
        let error = block_on(resolver.resolve("name.example")).unwrap_err();
        assert_eq!((error.kind(), error.is_cached()), (ErrorKind::NoData, cached));
        assert_eq!(error.to_string(), "failed to resolve name.example: host has no IPv6 address");
    }
    assert_eq!(backend.calls(), 1);
    assert_eq!(block_on(resolver.resolve("127.0.0.1")).unwrap().source(), Source::Literal, "not an answer");
}

#[test]
fn addresses_of_another_family_are_not_judged() {
    let mixed = addrs(&["8.8.8.8:0", "[fd00::1]:0"]);
    let builder = support::plain().backend(move |_: &str| Ok::<_, Error>(mixed.clone()));
    let builder = builder.filter(gaiter::AddrFilter::public_only());
    assert!(block_on(builder.clone().build().resolve("name.example")).unwrap_err().is_denied());
    let resolver = builder.family(Family::V4Only).build();
    assert_eq!(block_on(resolver.resolve("name.example")).unwrap().len(), 1);
}
