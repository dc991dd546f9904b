//! Hundreds of lookups hang in `getaddrinfo`, and nothing else suffers.

use std::future::Future;
use std::io::Read as _;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use gaiter::{CacheConfig, Hedge, Resolver, Source};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;
use tokio::task::JoinSet;

use crate::peers::hyper_lookup;
use crate::support::{LONG, ask, await_that, cast, plain, resident, threads_named};

const HUNG: usize = 600;

/// Compares gaiter and hyper-util, each in a process, against one server. Each process prints its line of the table.
pub fn six_hundred_silent_names_harm_nobody() {
    let _server = Server::start();
    println!("  {HUNG} silent names in flight, each given up by glibc after 10 s:");
    println!(
        "  {:>14} {:>16} {:>16} {:>16} {:>8} {:>10}",
        "", "known name", "tokio::fs", "spawn_blocking", "threads", "memory"
    );
    for who in ["gaiter", "GaiResolver"] {
        let mut child = cast("hung", &[who]);
        let status = child.wait().expect("it was started");
        let mut printed = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
        assert!(status.success(), "{who}: {status}");
        print!("{printed}");
    }
}

/// Runs in a child of the trial.
pub fn play(arguments: &[String]) {
    let [who] = arguments else { panic!("{arguments:?}") };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let resolver = plain().build();
    let is_gaiter = who == "gaiter";
    let lookup = move |name: String| {
        let resolver = resolver.clone();
        async move {
            match is_gaiter {
                true => resolver.resolve(name).await.map(drop).map_err(|error| error.to_string()),
                false => hyper_lookup(&name).await.map(drop).map_err(|error| error.to_string()),
            }
        }
    };
    runtime.block_on(async {
        lookup("ok-known.test".to_owned()).await.expect("an answer");
        let (threads, memory) = (threads_named(""), resident());
        let mut hung = JoinSet::new();
        for index in 0..HUNG {
            hung.spawn(lookup(format!("silent-{index}.test")));
        }
        // Until 448 threads hang: all 512 less gaiter's 64 for known names. Gives up after 4 of glibc's 10 seconds.
        let began = Instant::now();
        while threads_named("") < threads + 448 && began.elapsed() < Duration::from_secs(4) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (known, fs, noop) = tokio::join!(
            timed(lookup("ok-known.test".to_owned())),
            timed(tokio::fs::metadata("/")),
            timed(async { tokio::task::spawn_blocking(|| ()).await }),
        );
        let (threads, memory) = (threads_named("") - threads, resident() - memory);
        println!("  {who:>14} {known:>16.1?} {fs:>16.1?} {noop:>16.1?} {threads:>8} {memory:>6} KiB");
        if is_gaiter {
            assert!(hung.try_join_next().is_none(), "something waited for what hangs");
        }
    });
    // Dropping the runtime would wait for threads that hang.
    std::process::exit(0);
}

async fn timed<T, E: std::fmt::Debug>(what: impl Future<Output = Result<T, E>>) -> Duration {
    let began = Instant::now();
    what.await.expect("it does not fail");
    began.elapsed()
}

pub fn cancelled_callers_are_gone_at_once() {
    let server = Server::start();
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    let resolver = plain().max_lookups(32).thread_keep_alive(Duration::from_millis(10)).build();
    ask(&resolver, "ok-known.test").expect("an answer");
    let hung: Vec<_> = (0..HUNG).map(|index| resolver.resolve(format!("held-{index}.test"))).collect();
    await_that("calls", || server.count("held-0.test") > 0);
    drop(hung);
    let stats = resolver.stats();
    assert_eq!((stats.queued, stats.cancelled), (0, HUNG as u64), "{stats:?}");
    assert!(stats.running > 0 && stats.threads <= 32, "{stats:?}");
    ask(&resolver, "ok-known.test").expect("an answer on a thread that was kept");
    assert!(resolver.stats().running > 0, "which waited for nothing");
    // The calls end, and their threads.
    server.set_held(false);
    await_that("no thread", || resolver.stats().threads == 0);
    await_that("no thread of the system's", || threads_named("gaiter") <= 1);

    // A call without waiters still fills the cache.
    server.set_held(true);
    let resolver = Resolver::builder().cache(CacheConfig::new().ttl(LONG)).hedge(Hedge::off()).build();
    let lookup = resolver.resolve("held.test");
    await_that("the call", || server.count("held.test") > 0);
    drop(lookup);
    server.set_held(false);
    await_that("a hit", || block_on(resolver.resolve("held.test")).expect("an answer").source() == Source::Cache);
    assert_eq!(server.count("held.test"), 2, "the one call's");
}
