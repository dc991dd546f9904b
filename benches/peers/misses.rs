//! Lookups one after another, without a cache: how much gaiter adds to the cost of `getaddrinfo` itself.

use std::hint::black_box;
use std::net::ToSocketAddrs as _;
use std::time::Instant;

use gaiter::{CacheConfig, Resolver};
use hyper_util::client::legacy::connect::dns::GaiResolver;
use tokio::runtime::{Builder, Runtime};
use tracing::Instrument as _;
use tracing_subscriber::Registry;

use crate::measure::{Figure, rounds};
use crate::peers::{connect, lookup_host};
use crate::report::Line;
use crate::{Child, Run};

const LOOKUPS: usize = 100;

/// Runs one process, pinned or not. Returns each subject's figures of all rounds, in microseconds per lookup.
pub fn play(arguments: &[String]) -> Vec<Vec<f64>> {
    let [count, name, runtime, spans, cache] = arguments else { panic!("{arguments:?}") };
    let current = |runtime: &str| runtime == "current-thread";
    let spans = spans == "spans";
    if spans {
        tracing::subscriber::set_global_default(Registry::default()).expect("the first");
    }
    let new_runtime = || -> Runtime {
        let mut builder = if current(runtime) { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        builder.worker_threads(2).enable_all().build().unwrap()
    };
    let (ours, gais, tokios) = (new_runtime(), new_runtime(), new_runtime());
    let cache = if cache == "cache" { CacheConfig::new() } else { CacheConfig::disabled() };
    let resolver = Resolver::builder().cache(cache).build();
    let mut number = 0;
    // Each name is looked up once, by one subject.
    let mut names = move || -> Vec<String> {
        let names = (number..number + LOOKUPS).map(|number| match name.as_str() {
            "localhost" => name.clone(),
            _ => format!("a-2-{number}.service.test"),
        });
        number += LOOKUPS;
        names.collect()
    };
    let names = std::cell::RefCell::new(&mut names);
    let new_names = || (*names.borrow_mut())();
    let each = |began: Instant| began.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64;
    macro_rules! subject {
        ($runtime:expr, $resolver:expr, $lookup:expr) => {
            || {
                let (names, resolver) = (new_names(), $resolver.clone());
                let turn = async move {
                    let began = Instant::now();
                    for name in &names {
                        let lookup = $lookup(&resolver, name);
                        let found =
                            if spans { lookup.instrument(tracing::info_span!("request")).await } else { lookup.await };
                        assert!(found.expect("an answer") > 0);
                    }
                    began
                };
                let began = if current(runtime) {
                    $runtime.block_on(turn)
                } else {
                    $runtime.block_on(async { tokio::spawn(turn).await.expect("it does not panic") })
                };
                each(began)
            }
        };
    }
    let mut floor = || {
        let names = new_names();
        let began = Instant::now();
        for name in &names {
            assert!((name.as_str(), 0).to_socket_addrs().expect("an answer").map(black_box).count() > 0);
        }
        each(began)
    };
    let mut gaiter = subject!(ours, resolver, connect);
    let mut gai = subject!(gais, GaiResolver::new(), connect);
    let mut host = subject!(tokios, (), |_: &(), name| lookup_host(name));
    rounds(count.parse().expect("a number"), &mut [&mut floor, &mut gaiter, &mut gai, &mut host])
}

pub fn run(run: &Run) -> Vec<Line> {
    let mut lines = Vec::new();
    let count = run.rounds(121).to_string();
    for name in ["localhost", "new names"] {
        if name == "new names" && !run.dns {
            continue;
        }
        let wanted = if name == "localhost" { 0.9 } else { 1.0 };
        for (runtime, spans, cache, pinned, target) in [
            ("current-thread", "", "", true, wanted),
            ("current-thread", "", "cache", true, 1.0),
            ("two workers", "", "", true, 0.9),
            ("two workers", "spans", "", true, 0.9),
            ("current-thread", "", "", false, 1.0),
            ("two workers", "", "", false, 1.0),
        ] {
            // The name would be a hit.
            if name == "localhost" && cache == "cache" {
                continue;
            }
            let child = Child::new("misses", &[&count, name, runtime, spans, cache]);
            let figures: Vec<Vec<f64>> = if pinned { child.pinned() } else { child }.told();
            let [floor, ours, gais, hosts] = &figures[..] else { panic!("four subjects") };
            let one = if pinned { ", one CPU" } else { "" };
            let scenario = format!("{name}, {runtime}{}{}{one}", comma(spans), comma(cache));
            if pinned {
                println!("    the floor is {:.1} us", Figure::of(floor.clone()).median);
                // Round by round, because a disturbance affects the floor of its round too.
                let over =
                    |figures: &[f64]| figures.iter().zip(floor).map(|(it, floor)| it - floor).collect::<Vec<_>>();
                let scenario = format!("{scenario}, over the floor");
                lines.push(Line::new(&scenario, "us", &over(ours), "GaiResolver", &over(gais)).at_most(target));
                lines.push(Line::new(&scenario, "us", &over(ours), "lookup_host", &over(hosts)).at_most(target));
            } else {
                lines.push(Line::new(&scenario, "us", ours, "GaiResolver", gais).at_most(target));
                lines.push(Line::new(&scenario, "us", ours, "lookup_host", hosts).at_most(target));
            }
        }
    }
    lines
}

fn comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", {text}") }
}
