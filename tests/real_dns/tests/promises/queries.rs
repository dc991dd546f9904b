//! How many queries lookups cost, by the server's own count.

use std::net::IpAddr;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{CacheConfig, ErrorKind, Hedge, Resolver, Source};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::{Question, Server};

use crate::peers::std_lookup;
use crate::support::{LONG, ask, await_that, ips, plain};

/// Number of queries of one call: A and AAAA.
const ONE_CALL: usize = 2;

pub fn a_thousand_callers_cost_one_call() {
    let server = Server::start();
    // glibc does not repeat a question.
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    for resolver in [plain().build(), Resolver::builder().hedge(Hedge::off()).build()] {
        server.set_held(true);
        let before = server.count("held.test");
        let callers: Vec<_> = (0..1_000).map(|_| resolver.resolve("held.test")).collect();
        // glibc sends both questions at once.
        await_that("the queries", || server.count("held.test") == before + ONE_CALL);
        server.set_held(false);
        for addrs in block_on(join_all(callers)) {
            assert_eq!(ips(&addrs.expect("an answer")).len(), 2);
        }
        assert_eq!(server.count("held.test"), before + ONE_CALL);
        assert_eq!(resolver.stats().shared, 999);
    }
}

pub fn a_cached_name_costs_none_and_a_refresh_one_call() {
    let server = Server::start();
    // glibc does not repeat a question.
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    let cache = CacheConfig::new().ttl(Duration::from_secs(1)).stale_while_revalidate(LONG);
    let resolver = Resolver::builder().cache(cache).hedge(Hedge::off()).build();
    server.set_held(false);
    let first = ask(&resolver, "held.test").expect("an answer");
    assert_eq!(server.count("held.test"), ONE_CALL);

    // The server is silent, so every answer is from the cache.
    server.set_silent(true);
    let callers = |count: usize| {
        block_on(join_all((0..count).map(|_| resolver.resolve("held.test"))))
            .into_iter()
            .map(|addrs| addrs.expect("an answer"))
            .collect::<Vec<_>>()
    };
    let mut fresh = 0;
    await_that("an answer that is stale", || {
        let stale = callers(1)[0].source() != Source::Cache;
        fresh += usize::from(!stale);
        stale
    });
    println!("  {fresh} lookups were hits and cost no query");

    // The background refresh hangs. The 1,000 callers that come meanwhile wait for nothing and start nothing.
    await_that("the refresh", || server.count("held.test") == 2 * ONE_CALL);
    for addrs in callers(1_000) {
        assert_eq!((addrs.source(), ips(&addrs)), (Source::Stale, first.clone()));
    }
    assert_eq!(server.count("held.test"), 2 * ONE_CALL, "one call refreshes");
}

/// Returns the questions about names that contain `tag`, with the tag cut out.
fn asked(server: &Server, tag: &str) -> Vec<Question> {
    let mut questions = server.questions();
    questions.retain(|question| question.name.contains(tag));
    for question in &mut questions {
        question.name = question.name.replace(tag, "");
    }
    // The two questions of a call may arrive in either order.
    questions.sort_by(|one, other| (&one.name, &one.kind, one.tcp).cmp(&(&other.name, &other.kind, other.tcp)));
    questions
}

pub fn a_search_list_costs_what_glibc_asks() {
    let server = Server::start();
    for ndots in [1, 2, 5] {
        let search = "search one.absent.test two.absent.test found.test";
        namespace::write("resolv.conf", &format!("nameserver 127.0.0.1\n{search}\noptions ndots:{ndots} timeout:30\n"));
        let (ours, theirs) = (format!("gaiter{ndots}"), format!("std{ndots}"));
        for name in ["ok-TAG", "ok-TAG.", "ok-TAG.www", "nx-TAG", "nx-TAG.www.sub", "many-30-TAG"] {
            let by_gaiter = ask(&plain().build(), &name.replace("TAG", &ours)).ok();
            assert_eq!(by_gaiter, std_lookup(&name.replace("TAG", &theirs)).ok(), "{name}");
        }
        let (ours, theirs) = (asked(&server, &ours), asked(&server, &theirs));
        assert!(!ours.is_empty());
        assert_eq!(ours, theirs, "ndots:{ndots}");
        println!("  ndots:{ndots}: {} queries for six names, as many as std's", ours.len());
    }
}

/// Tests that "no such name" is cached for its TTL and a server's failure for its cooldown, without a query meanwhile.
pub fn failures_are_asked_again_when_they_may_be() {
    let server = Server::start();
    let cache = CacheConfig::new().negative_ttl(LONG).cooldown(LONG);
    let resolver = Resolver::builder().cache(cache).hedge(Hedge::off()).build();
    let kinds =
        [("nx.test", ErrorKind::NotFound), ("nodata.test", ErrorKind::NoData), ("servfail.test", ErrorKind::Temporary)];
    for (name, kind) in kinds {
        let error = ask(&resolver, name).expect_err("an error");
        assert_eq!((error.kind(), error.is_cached()), (kind, false), "{error:?}");
        let cost = server.count(name);
        for _ in 0..10 {
            let error = ask(&resolver, name).expect_err("an error");
            assert_eq!((error.kind(), error.is_cached()), (kind, true), "{error:?}");
        }
        assert_eq!(server.count(name), cost, "{name}");
        resolver.flush_name(name);
        assert!(ask(&resolver, name).is_err_and(|error| !error.is_cached()));
        assert_eq!(server.count(name), 2 * cost, "{name}");
    }
    // A failure is forgotten after its cooldown.
    let resolver = Resolver::builder().cache(CacheConfig::new().cooldown(Duration::from_millis(1))).build();
    namespace::write("resolv.conf", "nameserver 127.0.0.2\n");
    assert_eq!(ask(&resolver, "ok.test").expect_err("nobody is there").kind(), ErrorKind::Temporary);
    namespace::write("resolv.conf", "nameserver 127.0.0.1\n");
    let mut found: Vec<IpAddr> = Vec::new();
    await_that("an answer", || {
        found = ask(&resolver, "ok.test").unwrap_or_default();
        !found.is_empty()
    });
}
