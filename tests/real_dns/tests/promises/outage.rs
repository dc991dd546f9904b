//! The server goes silent under load, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use gaiter::{CacheConfig, ErrorKind, Hedge, Resolver, Source};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;

use crate::support::{ask, await_that, ips, plain, tally, threads_named};

const KNOWN: usize = 40;
const THREADS: usize = 24;

/// `RUNNERS` of `src/shell/errands.rs`: how many threads run errands at most, if none begins for a time.
const ERRANDS: usize = 64;

/// How long glibc waits for the server before it gives up.
const PATIENCE: Duration = Duration::from_secs(1);
const COOLDOWN: Duration = Duration::from_secs(1);

fn known(index: usize) -> String {
    format!("ok-known-{index}.test")
}

pub fn a_server_goes_silent_under_load_and_comes_back() {
    let server = Server::start();
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let cache = CacheConfig::new()
        .ttl(Duration::from_millis(100))
        .stale_while_revalidate(Duration::from_millis(100))
        .stale_if_error(Duration::from_secs(3600))
        .stale_answer_timeout(Duration::from_millis(50))
        .cooldown(COOLDOWN);
    let resolver = Resolver::builder().cache(cache).max_lookups(THREADS).timeout(Duration::from_secs(2)).build();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let load = Arc::new(Load::default());
    for index in 0..KNOWN {
        let name = known(index);
        await_that("an answer while all is well", || ask(&resolver, &name).is_ok());
        runtime.spawn(ask_for_ever(resolver.clone(), load.clone(), name));
    }

    server.set_silent(true);
    // Stale or old answers. Callers of known names notice nothing but the age of their answers.
    await_that("stale answers", || load.stale.load(Ordering::SeqCst) > 20 * KNOWN);
    let strangers: Vec<_> = (0..200).map(|index| resolver.resolve(format!("ok-new-{index}.test"))).collect();
    let mut most = 0;
    let errors = strangers.into_iter().map(|lookup| {
        most = most.max(threads_named("gaiter"));
        assert!(resolver.stats().threads <= THREADS);
        block_on(lookup).expect_err("nobody answers").kind()
    });
    let errors = tally(errors);
    assert!(errors.keys().all(|kind| [ErrorKind::Timeout, ErrorKind::Temporary].contains(kind)), "{errors:?}");
    // One more is the timekeeper. An errand takes no time here, but one that the machine holds up gets others beside it.
    assert!(most <= THREADS + 1 + ERRANDS, "{most} threads");
    let stale = load.stale.load(Ordering::SeqCst);
    await_that("more of them", || load.stale.load(Ordering::SeqCst) > stale + 20 * KNOWN);
    assert_eq!(load.failed.load(Ordering::SeqCst), 0, "a known name failed");
    println!(
        "  silent: {} stale answers for known names, new names {errors:?}, {most} threads at most",
        load.stale.load(Ordering::SeqCst)
    );

    server.set_number(99);
    server.set_silent(false);
    let back = Instant::now();
    await_that("answers from the server", || {
        (0..KNOWN).all(|index| {
            ask(&resolver, &known(index)).is_ok_and(|ips| ips.iter().any(|ip| ip.to_string().ends_with(".99")))
        })
    });
    let recovered = back.elapsed();
    println!(
        "  back: every known name has its new address after {recovered:?} (cooldown {COOLDOWN:?}, glibc's patience {PATIENCE:?})"
    );
    // Calls that are in flight when the server comes back run out first. Three times that for a busy machine.
    assert!(recovered < 3 * (COOLDOWN + PATIENCE), "{recovered:?}");
    for index in 0..200 {
        let name = format!("ok-new-{index}.test");
        if let Err(error) = ask(&resolver, &name) {
            // A machine that stands still for glibc's patience is another failure.
            assert!(!error.is_cached(), "{name} failed before: {error:?}");
            await_that("an answer", || ask(&resolver, &name).is_ok());
        }
    }
    load.over.store(true, Ordering::SeqCst);
    assert_eq!(load.failed.load(Ordering::SeqCst), 0, "a known name failed");
}

/// Second calls of slow lookups are earned by answers, so that an outage gets only the few that were saved up.
pub fn second_calls_add_little_to_an_outage() {
    const NAMES: usize = 200;
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let queries = |hedge: Hedge| {
        let server = Server::start();
        let resolver = plain().hedge(hedge).max_lookups(64).timeout(Duration::from_secs(60)).build();
        // More than enough answers to save up as many second calls as there can be.
        for index in 0..NAMES {
            let name = format!("ok-before-{index}.test");
            await_that("an answer while all is well", || ask(&resolver, &name).is_ok());
        }
        server.set_silent(true);
        let before = server.questions().len();
        // Of different zones: no bound but that of all places holds them back.
        let lookups: Vec<_> = (0..NAMES).map(|index| resolver.resolve(format!("ok.silent-{index}.test"))).collect();
        for lookup in lookups {
            assert_eq!(block_on(lookup).expect_err("nobody answers").kind(), ErrorKind::Temporary);
        }
        (server.questions().len() - before, resolver.stats().hedged)
    };
    let (without, none) = queries(Hedge::off());
    let (with, hedged) = queries(Hedge::adaptive());
    println!("  {NAMES} silent names: {with} queries with {hedged} second calls, {without} queries without any");
    assert_eq!(none, 0);
    assert!(hedged > 0, "nothing was measured");
    assert!(with * 100 <= without * 115, "{with} and {without}");
}

#[derive(Default)]
struct Load {
    stale: AtomicUsize,
    failed: AtomicUsize,
    over: AtomicBool,
}

async fn ask_for_ever(resolver: Resolver, load: Arc<Load>, name: String) {
    while !load.over.load(Ordering::SeqCst) {
        match resolver.resolve(&name).await {
            Ok(addrs) if ips(&addrs).is_empty() => unreachable!("an answer has an address"),
            Ok(addrs) if addrs.source() == Source::Stale => load.stale.fetch_add(1, Ordering::SeqCst),
            Ok(_) => 0,
            Err(_) => load.failed.fetch_add(1, Ordering::SeqCst),
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
