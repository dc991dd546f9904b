//! A cache hit through hyper's `Service`, beside the cache that people paste around a resolver today: a
//! `RwLock<HashMap>` whose entries expire. `cargo bench --bench hit`
//!
//! Both are measured in turn in one run, round by round; what is printed is the median, and the ratio of the medians.

use std::collections::HashMap;
use std::future::Future;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Barrier, RwLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use gaiter::{ErrorKind, Resolver};
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

const ROUNDS: usize = 21;
const HITS: usize = 200_000;

/// As pasted: the answer cloned out of the map under a read lock, unless it has expired.
#[derive(Clone, Default)]
struct Pasted(Arc<RwLock<Entries>>);

/// When each expires, and what it gives.
type Entries = HashMap<String, (Instant, Vec<SocketAddr>)>;

impl Pasted {
    fn call(&self, name: Name) -> std::future::Ready<Option<std::vec::IntoIter<SocketAddr>>> {
        let map = self.0.read().unwrap();
        let kept = map.get(name.as_str()).filter(|(expires, _)| Instant::now() < *expires);
        std::future::ready(kept.map(|(_, addrs)| addrs.clone().into_iter()))
    }
}

fn hit_pasted(pasted: &Pasted, name: Name) {
    let mut lookup = pasted.call(name);
    match Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(addrs)) => _ = black_box(addrs),
        _ => panic!("not a hit"),
    }
}

fn hit_gaiter(resolver: &mut Resolver, name: Name) {
    let mut lookup = resolver.call(name);
    match Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(addrs)) => _ = black_box(addrs),
        _ => panic!("not a hit"),
    }
}

/// Nanoseconds a hit takes, on each of so many threads at once.
fn time<S: Clone + Send + Sync>(threads: usize, subject: &S, hit: impl Fn(&mut S, usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let elapsed: Vec<Duration> = thread::scope(|scope| {
        let run = |thread: usize| {
            let (barrier, hit, mut subject) = (&barrier, &hit, subject.clone());
            scope.spawn(move || {
                barrier.wait();
                let began = Instant::now();
                (0..HITS).for_each(|number| hit(&mut subject, number + thread));
                began.elapsed()
            })
        };
        let handles: Vec<_> = (0..threads).map(run).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    elapsed.iter().map(Duration::as_nanos).sum::<u128>() as f64 / (threads * HITS) as f64
}

fn median(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

fn main() {
    let addrs = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))];
    let resolver = Resolver::builder().backend(move |_: &str| Ok::<_, ErrorKind>(addrs)).build();
    let pasted = Pasted::default();
    let names: Vec<Name> = (0..64).map(|number| format!("service-{number}.example.com").parse().unwrap()).collect();
    for name in &names {
        futures::executor::block_on(resolver.resolve(name.as_str())).unwrap();
        let entry = (Instant::now() + Duration::from_secs(3600), addrs.map(|ip| SocketAddr::new(ip, 0)).into());
        pasted.0.write().unwrap().insert(name.as_str().to_owned(), entry);
    }

    for (threads, count) in [(1, 1), (1, 64), (2, 1), (2, 64)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // Fresh for 27 seconds at least, which a round does not take.
            names.iter().for_each(|name| _ = futures::executor::block_on(resolver.resolve(name.as_str())).unwrap());
            ours.push(time(threads, &resolver, |resolver, number| hit_gaiter(resolver, names[number % count].clone())));
            theirs.push(time(threads, &pasted, |pasted, number| hit_pasted(pasted, names[number % count].clone())));
        }
        let ((a, a_min, a_max), (b, b_min, b_max)) = (median(ours), median(theirs));
        println!(
            "hit, {threads} thread(s), {count} name(s): gaiter {a:.0} ns ({a_min:.0} to {a_max:.0}), \
             RwLock<HashMap> {b:.0} ns ({b_min:.0} to {b_max:.0}), ratio {:.2}",
            a / b
        );
    }
}
