//! A warm name, as hyper's connector asks for it. Includes reading the clock, checking the expiry and reading every address.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use gaiter::{AddrFilter, CacheConfig, ErrorKind, Order, Resolver};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

use crate::measure::rounds;
use crate::peers::{self, Direct, Parsing, Pasted, connect};
use crate::report::Line;
use crate::{Run, addrs};

const HITS: usize = 100_000;

/// Returns how many nanoseconds a hit takes on each of `threads` threads at once.
fn time<S>(threads: usize, hits: usize, subject: &S, names: &[String]) -> f64
where
    S: Service<Name, Response: Iterator<Item = SocketAddr>> + Clone + Sync,
{
    let barrier = Barrier::new(threads);
    let elapsed: Vec<Duration> = thread::scope(|scope| {
        let run = |thread: usize| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                let began = Instant::now();
                block_on(async {
                    for number in 0..hits {
                        hit(subject, &names[(number + thread) % names.len()]).await;
                    }
                });
                began.elapsed()
            })
        };
        let handles: Vec<_> = (0..threads).map(run).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    elapsed.iter().map(Duration::as_nanos).sum::<u128>() as f64 / (threads * hits) as f64
}

/// A lookup that needs no call.
pub async fn hit<S>(subject: &S, name: &str)
where
    S: Service<Name, Response: Iterator<Item = SocketAddr>> + Clone,
{
    black_box(connect(subject, name).await.expect("a hit"));
}

pub fn run(run: &Run) -> Vec<Line> {
    let resolver = Resolver::builder().backend(|_: &str| Ok::<_, ErrorKind>(addrs())).build();
    let pasted = Pasted::default();
    let names: Vec<String> = (0..64).map(|number| format!("a-2-{number}.service.test")).collect();
    let fill = || names.iter().for_each(|name| _ = resolver.resolve(name).wait().expect("an answer"));
    names.iter().for_each(|name| pasted.insert(name.as_str(), addrs().map(|ip| (ip, 0).into()).into()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let hickory = run.dns.then(|| {
        let hickory = Direct(Arc::new(peers::hickory(true)));
        runtime.block_on(async {
            for name in &names {
                connect(&hickory, name).await.expect("an answer");
            }
        });
        hickory
    });

    let mut lines = Vec::new();
    for (threads, count, target) in [(1, 1, 0.85), (1, 64, 0.85), (2, 1, 0.55), (2, 64, 0.55)] {
        let asked = &names[..count];
        let mut ours = || {
            // Fresh for at least 4.5 seconds, which is longer than a round.
            fill();
            time(threads, HITS, &resolver, asked)
        };
        let mut theirs = || time(threads, HITS, &pasted, asked);
        let mut hickorys = || hickory.as_ref().map_or(f64::NAN, |hickory| time(threads, HITS / 20, hickory, asked));
        let figures = rounds(run.rounds(31), &mut [&mut ours, &mut theirs, &mut hickorys]);
        let scenario = format!("hit, {threads} thread{}, {count} name{}", s(threads), s(count));
        lines.push(Line::new(&scenario, "ns", &figures[0], "RwLock<HashMap>", &figures[1]).at_most(target));
        if hickory.is_some() {
            lines.push(Line::new(&scenario, "ns", &figures[0], "hickory", &figures[2]).at_most(0.04));
        }
    }
    lines
}

/// Makes `count` lookups of a kind and little else, to count instructions. Misses go to `getaddrinfo`, which reads these names as
/// addresses and so needs neither files nor servers.
pub fn play_instructions(arguments: &[String]) {
    let [what, count] = arguments else { panic!("{arguments:?}") };
    let count = count.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let new_names = || (0..count).map(|number: usize| format!("0x7f.1.{}.{}", number >> 8, number & 255));
    runtime.block_on(async {
        match what.as_str() {
            "hit" | "filtered-hit" | "rotated-hit" | "shuffled-hit" => {
                let filter = AddrFilter::any().deny_net(IpAddr::from([127, 0, 0, 1])).deny_name(".internal");
                let filter = (what == "filtered-hit").then_some(filter);
                let builder = Resolver::builder().backend(|_: &str| Ok::<_, ErrorKind>(addrs()));
                let order = match what.as_str() {
                    "rotated-hit" => Order::Rotate,
                    "shuffled-hit" => Order::Shuffle,
                    _ => Order::Platform,
                };
                let resolver = builder.filter(filter).order(order).build();
                for _ in 0..=count {
                    hit(&resolver, "api.example.com").await;
                }
            }
            "pasted-hit" => {
                let pasted = Pasted::default();
                pasted.insert("api.example.com", addrs().map(|ip| (ip, 0).into()).into());
                for _ in 0..=count {
                    hit(&pasted, "api.example.com").await;
                }
            }
            "floor" => {
                for name in new_names() {
                    assert_eq!((name.as_str(), 0).to_socket_addrs().expect("an address").count(), 1);
                }
            }
            "miss" | "miss-cached" => {
                let cache = if what == "miss" { CacheConfig::disabled() } else { CacheConfig::new() };
                let resolver = Resolver::builder().cache(cache).build();
                for name in new_names() {
                    assert_eq!(connect(&resolver, &name).await, Some(1));
                }
            }
            "gai-miss" => {
                for name in new_names() {
                    assert_eq!(connect(&GaiResolver::new(), &name).await, Some(1));
                }
            }
            _ => panic!("{what}"),
        }
    });
}

fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Resolves an address instead of a name.
pub fn literal(run: &Run) -> Vec<Line> {
    let (resolver, literal) = (Resolver::new(), ["192.0.2.1".to_owned()]);
    let mut ours = || time(1, HITS, &resolver, &literal);
    let mut theirs = || time(1, HITS, &Parsing, &literal);
    let figures = rounds(run.rounds(31), &mut [&mut ours, &mut theirs]);
    vec![Line::new("literal", "ns", &figures[0], "str::parse::<IpAddr>", &figures[1]).at_most(2.0)]
}
