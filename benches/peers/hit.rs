//! A warm name through hyper's `Service` and one poll. Includes reading the clock and checking the expiry.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use gaiter::{CacheConfig, ErrorKind, Resolver};
use hickory_resolver::TokioResolver;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service as _;

use crate::crowd::Instantly;
use crate::measure::rounds;
use crate::peers::{self, Pasted};
use crate::report::Line;
use crate::{Run, addrs};

const HITS: usize = 100_000;

/// Returns how many nanoseconds a hit takes on each of `threads` threads at once.
fn time<S: Clone + Send + Sync>(threads: usize, hits: usize, subject: &S, hit: impl Fn(&mut S, usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let elapsed: Vec<Duration> = thread::scope(|scope| {
        let run = |thread: usize| {
            let (barrier, hit, mut subject) = (&barrier, &hit, subject.clone());
            scope.spawn(move || {
                barrier.wait();
                let began = Instant::now();
                (0..hits).for_each(|number| hit(&mut subject, number + thread));
                began.elapsed()
            })
        };
        let handles: Vec<_> = (0..threads).map(run).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    elapsed.iter().map(Duration::as_nanos).sum::<u128>() as f64 / (threads * hits) as f64
}

/// Returns the output of a future that is ready at the first poll.
fn ready<F: Future + Unpin>(mut future: F) -> F::Output {
    match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not a hit"),
    }
}

pub fn hit_gaiter(resolver: &mut Resolver, name: Name) {
    black_box(ready(resolver.call(name)).expect("a hit"));
}

fn hit_pasted(pasted: &mut Pasted, name: Name) {
    black_box(ready(pasted.call(name)).expect("a hit"));
}

pub fn run(run: &Run) -> Vec<Line> {
    let resolver = Resolver::builder().backend(|_: &str| Ok::<_, ErrorKind>(addrs())).build();
    let pasted = Pasted::default();
    let names: Vec<Name> = (0..64).map(|number| format!("ok-{number}.service.test").parse().unwrap()).collect();
    let fill = || names.iter().for_each(|name| _ = futures::executor::block_on(resolver.resolve(name.as_str())));
    names.iter().for_each(|name| pasted.insert(name.as_str(), addrs().map(|ip| (ip, 0).into()).into()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let hickory = run.dns.then(|| {
        let hickory = peers::hickory(true);
        names.iter().for_each(|name| _ = runtime.block_on(hickory.lookup_ip(name.as_str())).expect("an answer"));
        hickory
    });
    let hit_hickory = |hickory: &mut TokioResolver, name: Name| {
        black_box(ready(std::pin::pin!(hickory.lookup_ip(name.as_str()))).expect("a hit"));
    };

    let mut lines = Vec::new();
    for (threads, count, target) in [(1, 1, 1.0), (1, 64, 1.0), (2, 1, 0.6), (2, 64, 0.8)] {
        let mut ours = || {
            // Fresh for at least 27 seconds, which is longer than a round.
            fill();
            time(threads, HITS, &resolver, |resolver, number| hit_gaiter(resolver, names[number % count].clone()))
        };
        let mut theirs =
            || time(threads, HITS, &pasted, |pasted, number| hit_pasted(pasted, names[number % count].clone()));
        let mut hickorys = || {
            let Some(hickory) = &hickory else { return f64::NAN };
            time(threads, HITS / 20, hickory, |hickory, number| hit_hickory(hickory, names[number % count].clone()))
        };
        let figures = rounds(run.rounds(31), &mut [&mut ours, &mut theirs, &mut hickorys]);
        let scenario = format!("hit, {threads} thread{}, {count} name{}", s(threads), s(count));
        lines.push(Line::new(&scenario, "ns", &figures[0], "RwLock<HashMap>", &figures[1]).at_most(target));
        if hickory.is_some() {
            lines.push(Line::new(&scenario, "ns", &figures[0], "hickory", &figures[2]).at_most(0.04));
        }
    }
    lines
}

/// Makes the given number of hits, or of misses that are answered at once, and little else, to count instructions.
pub fn play_instructions(arguments: &[String]) {
    let [what, count] = arguments else { panic!("{arguments:?}") };
    let cache = if what == "hit" { CacheConfig::new() } else { CacheConfig::disabled() };
    let mut resolver = Resolver::builder().cache(cache).backend(Instantly).build();
    let name: Name = "ok-1.service.test".parse().unwrap();
    _ = futures::executor::block_on(resolver.resolve(name.as_str())).expect("an answer");
    for _ in 0..count.parse().expect("a number") {
        match what.as_str() {
            "hit" => hit_gaiter(&mut resolver, name.clone()),
            _ => _ = futures::executor::block_on(resolver.call(name.clone())).expect("an answer"),
        }
    }
}

fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Resolves an address instead of a name.
pub fn literal(run: &Run) -> Vec<Line> {
    let mut resolver = Resolver::new();
    let name: Name = "192.0.2.1".parse().unwrap();
    let time = |turn: &mut dyn FnMut()| {
        let began = Instant::now();
        (0..HITS).for_each(|_| turn());
        began.elapsed().as_nanos() as f64 / HITS as f64
    };
    let mut ours = || time(&mut || hit_gaiter(&mut resolver, name.clone()));
    // Both clone the name.
    let mut theirs = || time(&mut || _ = black_box(black_box(name.clone()).as_str().parse::<std::net::IpAddr>()));
    let figures = rounds(run.rounds(31), &mut [&mut ours, &mut theirs]);
    vec![Line::new("literal", "ns", &figures[0], "str::parse::<IpAddr>", &figures[1]).at_most(2.0)]
}
