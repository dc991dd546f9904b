//! Many callers at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gaiter::{Answer, Backend, CacheConfig, Error, Resolver};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::measure::{cpu_time, rounds, threads};
use crate::peers::{Peer, hickory_at};
use crate::report::Line;
use crate::{Child, Run, addrs};

const TASKS: usize = 1_000;
const NAMES_EACH: usize = 4;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The cost of a flood; times are per lookup.
#[derive(Serialize, Deserialize)]
pub struct Flood {
    micros: f64,
    cpu_micros: f64,
    threads: f64,
    failed: usize,
}

/// Runs one process: each task looks up its own names, one after another.
pub fn play_flood(arguments: &[String]) -> Flood {
    let [who] = arguments else { panic!("{arguments:?}") };
    let runtime = runtime();
    let peer = runtime.block_on(async { Peer::named(who) });
    runtime.block_on(peer.lookup("ok-first.test".to_owned()));
    let (cpu, began) = (cpu_time(), Instant::now());
    let tasks = (0..TASKS).map(|task| {
        let peer = peer.clone();
        runtime.spawn(async move {
            let mut failed = 0;
            for number in 0..NAMES_EACH {
                failed += usize::from(!peer.lookup(format!("ok-{task}-{number}.test")).await);
            }
            failed
        })
    });
    let failed = runtime.block_on(join_all(tasks.collect::<Vec<_>>()));
    let each = |cost: f64| cost / (TASKS * NAMES_EACH) as f64;
    let flood = Flood {
        micros: each(began.elapsed().as_secs_f64() * 1e6),
        cpu_micros: each(cpu_time() - cpu),
        // Threads that were started are still there.
        threads: threads() as f64,
        failed: failed.into_iter().map(|failed| failed.expect("no panic")).sum(),
    };
    // Does not wait for threads that hang in a retry.
    runtime.shutdown_background();
    flood
}

/// Floods with each peer in turn, `count` times, and prints how many of the lookups failed.
fn in_turns<const N: usize>(
    peers: [&str; N],
    count: usize,
    lookups: usize,
    flood: impl Fn(&str) -> Flood,
) -> [Vec<Flood>; N] {
    let mut floods = [const { Vec::new() }; N];
    for round in 0..count {
        for turn in 0..N {
            let who = (round + turn) % N;
            floods[who].push(flood(peers[who]));
        }
    }
    for (who, floods) in peers.iter().zip(&floods) {
        let failed: usize = floods.iter().map(|flood| flood.failed).sum();
        println!("    {who}: {failed} of {} lookups failed", count * lookups);
    }
    floods
}

fn figures(floods: &[Flood], figure: fn(&Flood) -> f64) -> Vec<f64> {
    floods.iter().map(figure).collect()
}

pub fn flood(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let count = run.rounds(9);
    let peers = ["gaiter", "GaiResolver", "hickory"];
    let floods = in_turns(peers, count, TASKS * NAMES_EACH, |peer| Child::new("flood", &[peer]).told());
    let of = |who: usize, figure| figures(&floods[who], figure);
    let line = |what, unit, who: usize, figure: fn(&Flood) -> f64| {
        Line::new(&format!("1,000 tasks, new names, {what}"), unit, &of(0, figure), peers[who], &of(who, figure))
    };
    vec![
        line("time a lookup", "us", 1, |flood| flood.micros).at_most(1.0 / 1.1),
        line("time a lookup", "us", 2, |flood| flood.micros),
        line("processor time a lookup", "us", 1, |flood| flood.cpu_micros).at_most(1.0),
        line("processor time a lookup", "us", 2, |flood| flood.cpu_micros),
        line("threads", "", 1, |flood| flood.threads).at_most(70.0 / 512.0),
        line("threads", "", 2, |flood| flood.threads),
    ]
}

/// Looks up the given number of names at once, on the given runtime.
pub fn play_hickory(arguments: &[String]) -> Flood {
    let [who, runtime, lookups] = arguments else { panic!("{arguments:?}") };
    let mut builder = match runtime.as_str() {
        "current-thread" => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let peer = runtime.block_on(async { Peer::named(who) });
    let lookups: usize = lookups.parse().expect("a number");
    // Programs have more than one thread, and the kernel treats them differently: sockets then cost half as much again.
    std::thread::spawn(|| {
        loop {
            std::thread::park()
        }
    });
    // Of one family, since only one of the peers sorts two.
    let all = |round: &'static str| {
        let tasks = (0..lookups).map(|number| {
            let peer = peer.clone();
            runtime.spawn(async move { peer.lookup(format!("a-1-{number}.{round}.test")).await })
        });
        runtime.block_on(join_all(tasks.collect::<Vec<_>>()))
    };
    // Grows the table of descriptors first: a process with several threads waits for the kernel when it grows.
    all("first");
    let (cpu, began) = (cpu_time(), Instant::now());
    let found = all("second");
    let each = |cost: f64| cost / lookups as f64;
    Flood {
        micros: each(began.elapsed().as_secs_f64() * 1e6),
        cpu_micros: each(cpu_time() - cpu),
        threads: threads() as f64,
        failed: found.into_iter().filter(|found| !matches!(found, Ok(true))).count(),
    }
}

/// Compares hickory through gaiter with hickory used directly.
pub fn hickory(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let count = run.rounds(21);
    let peers = ["gaiter's Hickory", "hickory"];
    let mut lines = Vec::new();
    for (runtime, lookups) in [("current-thread", 5_000), ("two workers", 5_000), ("two workers", 500)] {
        let floods = in_turns(peers, count, lookups, |peer| {
            Child::new("hickory", &[peer, runtime, &lookups.to_string()]).told()
        });
        let of = |who: usize, figure| figures(&floods[who], figure);
        let line = |what, figure: fn(&Flood) -> f64| {
            let scenario = format!("{lookups} names at once by hickory, {runtime}, {what}");
            Line::new(&scenario, "us", &of(0, figure), peers[1], &of(1, figure))
        };
        lines.push(line("time a lookup", |flood| flood.micros).at_most(1.0 / 0.95));
        lines.push(line("processor time a lookup", |flood| flood.cpu_micros));
    }
    lines
}

/// Compares hickory through gaiter, on one driver and on two, with hickory used directly: with the system's settings and a cache each.
pub fn from_system(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let count = run.rounds(11);
    let peers = ["Hickory::from_system", "Hickory::from_system on 2 drivers", "hickory from_system"];
    let floods = in_turns(peers, count, TASKS * NAMES_EACH, |peer| Child::new("flood", &[peer]).told());
    let of = |who: usize, figure| figures(&floods[who], figure);
    let line = |who: usize, what, figure: fn(&Flood) -> f64| {
        let scenario = format!("{}, 1,000 tasks, new names, {what}", peers[who]);
        Line::new(&scenario, "us", &of(who, figure), peers[2], &of(2, figure))
    };
    vec![
        line(0, "time a lookup", |flood| flood.micros).at_most(1.0 / 0.95),
        line(1, "time a lookup", |flood| flood.micros).at_most(1.0 / 0.95),
        line(0, "processor time a lookup", |flood| flood.cpu_micros),
        line(1, "processor time a lookup", |flood| flood.cpu_micros),
    ]
}

/// Answers at once, so that only the cost of getting to the backend and back remains.
pub struct Instantly;

impl Backend for Instantly {
    fn lookup(&self, _: &str) -> Result<Answer, Error> {
        Ok(addrs().into())
    }

    fn emits_events(&self) -> bool {
        false
    }
}

/// Looks up 1,000 names at once, before any thread has started.
pub fn burst(run: &Run) -> Vec<Line> {
    let mut ours = || {
        let runtime = runtime();
        let resolver = Resolver::builder().cache(CacheConfig::disabled()).backend(Instantly).build();
        runtime.block_on(async {
            let began = Instant::now();
            let lookups = (0..TASKS).map(|number| resolver.resolve(format!("ok-{number}.test")));
            for lookup in join_all(lookups.collect::<Vec<_>>()).await {
                lookup.expect("an answer");
            }
            began.elapsed().as_secs_f64() * 1e6
        })
    };
    let mut theirs = || {
        let runtime = runtime();
        runtime.block_on(async {
            let began = Instant::now();
            let lookups = (0..TASKS).map(|_| tokio::task::spawn_blocking(|| Instantly.lookup("")));
            for lookup in join_all(lookups.collect::<Vec<_>>()).await {
                lookup.expect("no panic").expect("an answer");
            }
            began.elapsed().as_secs_f64() * 1e6
        })
    };
    let figures = rounds(run.rounds(21), &mut [&mut ours, &mut theirs]);
    let scenario = "burst of 1,000 names, answered at once";
    vec![Line::new(scenario, "us", &figures[0], "spawn_blocking", &figures[1]).at_most(0.1)]
}

/// The cost of 1,000 callers of one name, for each peer: milliseconds and queries, round by round.
type Herds = Vec<(String, Vec<f64>, Vec<f64>)>;

/// Address of this scenario's own server, whose count can be read.
const OWN_SERVER: [u8; 4] = [127, 0, 0, 9];

pub fn play_herd(arguments: &[String]) -> Herds {
    let [count] = arguments else { panic!("{arguments:?}") };
    let server = Server::start_on("127.0.0.9:53");
    namespace::write("resolv.conf", "nameserver 127.0.0.9\n");
    let runtime = runtime();
    let hickory = runtime.block_on(async { Arc::new(hickory_at(OWN_SERVER.into(), true)) });
    let peers = [
        ("gaiter", Peer::named("gaiter")),
        ("GaiResolver", Peer::named("GaiResolver")),
        ("lookup_host", Peer::named("lookup_host")),
        ("hickory", Peer::Hickory(hickory)),
    ];
    let mut herds: Herds = peers.iter().map(|(who, _)| ((*who).to_owned(), Vec::new(), Vec::new())).collect();
    for round in 0..count.parse::<usize>().expect("a number") {
        for turn in 0..peers.len() {
            let ((who, peer), (_, millis, queries)) = (&peers[(round + turn) % 4], &mut herds[(round + turn) % 4]);
            let name = format!("slow-50-{round}.{who}.test").to_lowercase();
            let began = Instant::now();
            let callers = (0..TASKS).map(|_| {
                let (peer, name) = (peer.clone(), name.clone());
                runtime.spawn(async move { peer.lookup(name).await })
            });
            let found = runtime.block_on(join_all(callers.collect::<Vec<_>>()));
            millis.push(began.elapsed().as_secs_f64() * 1e3);
            let lost = found.into_iter().filter(|found| !matches!(found, Ok(true))).count();
            if lost > 0 {
                eprintln!("    {who}: {lost} callers got no answer, the server's buffer having run over");
            }
            queries.push(server.count(&name) as f64);
        }
    }
    namespace::write("resolv.conf", namespace::RESOLV);
    herds
}

pub fn herd(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let herds: Herds = Child::new("herd", &[&run.rounds(11).to_string()]).told();
    let [ours, others @ ..] = &herds[..] else { panic!("four peers") };
    let server = vec![Duration::from_millis(50).as_secs_f64() * 1e3; ours.1.len()];
    let scenario = "1,000 callers of one new name";
    let mut lines = vec![Line::new(scenario, "ms", &ours.1, "the server's own 50 ms", &server).at_most(1.1)];
    for ((_, millis, queries), peer) in others.iter().zip(["GaiResolver", "lookup_host", "hickory"]) {
        lines.push(Line::new(scenario, "ms", &ours.1, peer, millis));
        lines.push(Line::new(&format!("{scenario}, queries"), "", &ours.2, peer, queries));
    }
    lines
}
