//! Memory, and costs that must not grow with the number of names.

use std::hint::black_box;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use gaiter::{Answer, Backend, CacheConfig, Error, Resolver};
use hyper_util::client::legacy::connect::dns::Name;
use papaya::HashMap;

use crate::hit::hit;
use crate::measure::{heap, resident, rounds, threads};
use crate::peers::{self, Peer};
use crate::report::Line;
use crate::{Child, Run, addrs};

/// Answers at once, except for names that begin with `hang`, which wait for the gate.
#[derive(Clone, Default)]
struct Gated(Arc<(Mutex<bool>, Condvar)>);

impl Gated {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open));
    }
}

impl Backend for Gated {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        if name.starts_with("hang") {
            self.pass();
        }
        Ok(addrs().into())
    }

    fn emits_events(&self) -> bool {
        false
    }
}

const NAMES: usize = 5_000;

/// Returns how many bytes one item takes. Runs in its own process, where nothing else uses the heap.
pub fn play_memory(arguments: &[String]) -> f64 {
    let [who, what] = arguments else { panic!("{arguments:?}") };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gated = Gated::default();
    let each = |before: f64, count: usize| (heap() - before) / count as f64;
    match (what.as_str(), who.as_str()) {
        ("cached", "gaiter") => {
            let resolver = Resolver::builder().cache(CacheConfig::new().max_names(2 * NAMES)).build();
            let fill = |from: usize, to: usize| {
                (from..to)
                    .for_each(|number| _ = block_on(resolver.resolve(format!("ok-{number}.test"))).expect("found"));
            };
            fill(0, 100);
            let before = heap();
            fill(100, 100 + NAMES);
            each(before, NAMES)
        }
        ("cached", "hickory") => runtime.block_on(async {
            let hickory = peers::hickory(true);
            for number in 0..100 {
                _ = hickory.lookup_ip(format!("ok-{number}.test")).await.expect("found");
            }
            let before = heap();
            for number in 100..100 + NAMES {
                _ = hickory.lookup_ip(format!("ok-{number}.test")).await.expect("found");
            }
            each(before, NAMES)
        }),
        ("queued", "gaiter") => {
            let builder = Resolver::builder().cache(CacheConfig::disabled()).timeout(None).backend(gated.clone());
            let resolver = builder.max_lookups(2).reserved_for_known(1).max_queued(2 * NAMES).build();
            let first = resolver.resolve("hang-first.test");
            while resolver.stats().running == 0 {
                std::thread::yield_now();
            }
            let mut waiting = Vec::with_capacity(NAMES);
            let before = heap();
            waiting.extend((0..NAMES).map(|number| resolver.resolve(format!("hang-{number}.test"))));
            let bytes = each(before, NAMES) + size_of_val(&waiting[0]) as f64;
            gated.open();
            drop((first, waiting));
            bytes
        }
        ("queued", "spawn_blocking") => {
            let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(1).build().unwrap();
            let lookup = |name: String| {
                let gated = gated.clone();
                runtime.spawn_blocking(move || gated.lookup(&name))
            };
            let first = lookup("hang-first.test".to_owned());
            std::thread::sleep(Duration::from_millis(50));
            let mut waiting = Vec::with_capacity(NAMES);
            let before = heap();
            waiting.extend((0..NAMES).map(|number| lookup(format!("hang-{number}.test"))));
            let bytes = each(before, NAMES) + size_of_val(&waiting[0]) as f64;
            gated.open();
            drop((first, waiting));
            bytes
        }
        ("idle", "gaiter") => {
            let mut resolvers = Vec::with_capacity(100);
            let before = heap();
            resolvers.extend((0..100).map(|_| Resolver::new()));
            each(before, 100)
        }
        ("idle", "hickory") => runtime.block_on(async {
            let mut resolvers = Vec::with_capacity(100);
            let before = heap();
            resolvers.extend((0..100).map(|_| {
                // With the default settings and the default servers.
                hickory_resolver::TokioResolver::builder_with_config(Default::default(), Default::default()).build()
            }));
            each(before, 100)
        }),
        ("thread", who) => runtime.block_on(async {
            let peer = Peer::named(who);
            peer.lookup("ok-first.test".to_owned()).await;
            let (count, before) = (threads(), resident());
            for index in 0..64 {
                let peer = peer.clone();
                tokio::spawn(async move { peer.lookup(format!("silent-{index}.test")).await });
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let bytes = (resident() - before) * 1024.0 / (threads() - count) as f64;
            println!("{bytes}");
            std::process::exit(0);
        }),
        _ => panic!("{who}, {what}"),
    }
}

pub fn memory(run: &Run) -> Vec<Line> {
    let mut lines = Vec::new();
    for (what, scenario, peer, needs_dns, target) in [
        ("cached", "memory of a cached name with two addresses", "hickory", true, Some(1.0)),
        ("queued", "memory of a queued name, its future included", "spawn_blocking", false, None),
        ("idle", "memory of an idle resolver", "hickory", false, None),
        ("thread", "memory of a thread in a call", "GaiResolver", true, None),
    ] {
        if needs_dns && !run.dns {
            continue;
        }
        let told = |who: &str| (0..3).map(|_| Child::new("memory", &[who, what]).told()).collect::<Vec<f64>>();
        let line = Line::unpaired(scenario, "bytes", &told("gaiter"), peer, &told(peer));
        lines.push(match target {
            Some(target) => line.at_most(target),
            None => line,
        });
    }
    lines
}

/// Returns how many nanoseconds one of `turns` turns takes.
fn each(turns: usize, mut turn: impl FnMut(usize)) -> f64 {
    let began = Instant::now();
    (0..turns).for_each(&mut turn);
    began.elapsed().as_nanos() as f64 / turns as f64
}

/// Returns a resolver with `count` names in its cache, all fresh for a day, and the names.
fn filled(count: usize) -> (Resolver, Vec<Name>) {
    let cache = CacheConfig::new().max_names(2 * count).ttl(Duration::from_secs(86_400));
    let resolver = Resolver::builder().cache(cache).backend(Gated::default()).max_queued(count).build();
    let names: Vec<Name> = (0..count).map(|number| format!("ok-{number}.service.test").parse().unwrap()).collect();
    for names in names.chunks(1_000) {
        let lookups: Vec<_> = names.iter().map(|name| resolver.resolve(name.as_str())).collect();
        lookups.into_iter().for_each(|lookup| _ = block_on(lookup).expect("an answer"));
    }
    (resolver, names)
}

/// Returns an index of a walk over all `count` items that no prefetcher predicts.
fn stride(turn: usize, count: usize) -> usize {
    turn.wrapping_mul(0x9E37_79B1) % count
}

pub fn growth(run: &Run) -> Vec<Line> {
    let mut lines = Vec::new();
    let large = if run.quick { 100_000 } else { 1_000_000 };
    let (few, few_names) = filled(10);
    let (many, many_names) = filled(large);
    let hot = |resolver: &Resolver, names: &[Name]| each(100_000, |_| block_on(hit(resolver, names[7].as_str())));
    let mut with_many = || hot(&many, &many_names);
    let mut with_few = || hot(&few, &few_names);
    let figures = rounds(run.rounds(21), &mut [&mut with_many, &mut with_few]);
    let scenario = format!("a hot name among {large}");
    lines.push(Line::new(&scenario, "ns", &figures[0], "itself among 10", &figures[1]).at_most(1.1));

    // As many threads may read this map at once as gaiter's cache. It holds only the addresses.
    let bare: HashMap<Box<str>, [std::net::IpAddr; 2], hashbrown::DefaultHashBuilder> = HashMap::default();
    many_names.iter().for_each(|name| _ = bare.pin().insert(name.as_str().into(), addrs()));
    let mut uniform = || each(200_000, |turn| block_on(hit(&many, many_names[stride(turn, large)].as_str())));
    let mut store = || {
        each(200_000, |turn| {
            let name = many_names[stride(turn, large)].clone();
            black_box(*bare.pin().get(name.as_str()).expect("it is there"));
        })
    };
    let figures = rounds(run.rounds(11), &mut [&mut uniform, &mut store]);
    let scenario = format!("any name of {large}");
    lines.push(Line::new(&scenario, "ns", &figures[0], "a bare get of papaya", &figures[1]).at_most(1.2));
    drop(bare);

    let miss = |hanging: usize| {
        let gated = Gated::default();
        let builder = Resolver::builder().cache(CacheConfig::disabled()).timeout(None).backend(gated.clone());
        let resolver = builder.max_lookups(4).reserved_for_known(2).max_queued(20_000).build();
        _ = block_on(resolver.resolve("ok.test")).expect("an answer");
        let hung: Vec<_> = (0..hanging).map(|number| resolver.resolve(format!("hang-{number}.test"))).collect();
        (resolver, gated, hung)
    };
    let ((alone, gate, hung), (crowded, other_gate, others)) = (miss(1), miss(10_000));
    let one = |resolver: &Resolver| each(2_000, |_| _ = block_on(resolver.resolve("ok.test")).expect("an answer"));
    let figures = rounds(run.rounds(21), &mut [&mut || one(&crowded), &mut || one(&alone)]);
    let scenario = "a miss with 10,000 names in flight";
    lines.push(Line::new(scenario, "ns", &figures[0], "itself with 1", &figures[1]).at_most(1.2));
    gate.open();
    other_gate.open();
    drop((hung, others));
    lines
}
