//! Runs every operation of a resolver again and again on four threads: `soak SECONDS`, in a namespace, beside `scripted-server`.
//!
//! After each round nothing runs, and memory, threads and descriptors must be what they were after the first round. Meant to run
//! under valgrind, which also sees the memory of libc.

#[path = "../../support/counting.rs"]
#[allow(dead_code, reason = "only bytes are counted here")]
mod counting;

use std::net::ToSocketAddrs as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use counting::Counting;
use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{CacheConfig, Resolver, Source};
use gaiter_real_dns::namespace;

/// Number of rounds. The first one warms up.
const ROUNDS: u32 = 6;
const THREADS: usize = 4;

/// How many bytes the heap may grow between rounds. Covers the spare capacity of maps and thread-locals, which are no leaks.
const SLACK: isize = 64 << 10;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let seconds = env::args().nth(1).and_then(|seconds| seconds.parse().ok());
    let (Some(seconds), true) = (seconds, namespace::is_inside()) else {
        eprintln!("usage, in a namespace of the test bed: soak SECONDS");
        return ExitCode::FAILURE;
    };
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let began = Instant::now();
    while ("ok.test", 0).to_socket_addrs().is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "the server has not started");
    }

    let round = Duration::from_secs(seconds) / ROUNDS;
    let turns = AtomicUsize::new(0);
    let found = AtomicUsize::new(0);
    let mut first = None;
    for number in 1..=ROUNDS {
        thread::scope(|scope| {
            let resolver = Resolver::builder().cache(CacheConfig::new().max_names(64).ttl(Duration::from_millis(200)));
            let resolver = resolver.max_lookups(16).thread_keep_alive(Duration::from_millis(50)).build();
            for seed in 0..THREADS {
                let (resolver, turns, found) = (resolver.clone(), &turns, &found);
                scope.spawn(move || work(&resolver, seed as u64 + 1, Instant::now() + round, turns, found));
            }
        });
        // Calls without waiters run out by themselves.
        let began = Instant::now();
        while threads() > 1 {
            assert!(began.elapsed() < Duration::from_secs(60), "{} threads do not leave", threads());
            thread::sleep(Duration::from_millis(10));
        }
        let now = (Counting::bytes(), descriptors());
        println!(
            "round {number}: {} turns so far, {} bytes, {} descriptors",
            turns.load(Ordering::Relaxed),
            now.0,
            now.1
        );
        let first = first.get_or_insert(now);
        // Nearly half of the names have addresses from the server.
        let found = found.swap(0, Ordering::Relaxed);
        assert!(found > 0, "no name has answered");
        assert!(now.0 - first.0 <= SLACK && now.1 == first.1, "memory or threads grow");
    }
    ExitCode::SUCCESS
}

fn work(shared: &Resolver, seed: u64, until: Instant, turns: &AtomicUsize, found: &AtomicUsize) {
    let mut state = seed;
    // Knuth's constants. The same names on every run suffice here.
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    const KINDS: [&str; 13] = [
        "ok-N.test",
        "ok-N.test",
        "a-N.test",
        "many-30-N.test",
        "chain-4-N.test",
        "nx-N.test",
        "nodata-N.test",
        "servfail-N.test",
        "slow-20-N.test",
        "localhost",
        "127.0.0.1",
        "no such name N",
        "",
    ];
    while Instant::now() < until {
        let mut name = || match random(1_000) {
            // Rare, since its caller waits for 1 second.
            0 => "silent.test".to_owned(),
            _ => KINDS[random(KINDS.len() as u64) as usize].replace('N', &random(200).to_string()),
        };
        let (one, many) = (name(), (0..20).map(|_| name()).collect::<Vec<_>>());
        turns.fetch_add(1, Ordering::Relaxed);
        match random(12) {
            0 => drop(shared.resolve(one)),
            1 => drop(block_on(join_all(many.into_iter().map(|name| shared.resolve(name))))),
            2 => shared.flush(),
            3 => {
                let own = Resolver::new();
                let addrs = block_on(own.resolve(one));
                found.fetch_add(
                    usize::from(addrs.is_ok_and(|addrs| addrs.source() == Source::Lookup)),
                    Ordering::Relaxed,
                );
            }
            4 => {
                let own = Resolver::builder().timeout(Duration::from_millis(30)).build();
                let waiting: Vec<_> = many.into_iter().map(|name| own.resolve(name)).collect();
                let _ = own.shutdown().within(Duration::from_millis(20)).wait();
                drop(waiting);
            }
            _ => drop(block_on(shared.resolve(one))),
        }
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("procfs is mounted").count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("procfs is mounted").count()
}
