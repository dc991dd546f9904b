//! How long others wait for the engine's lock while a full cache is written to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use gaiter::{CacheConfig, ErrorKind, Resolver};

use crate::measure::rounds;
use crate::report::Line;
use crate::{Run, addrs};

/// Writes per round. They take less than a scheduler's time slice, so that in most rounds no thread is preempted with the lock.
const WRITES: usize = 50;

/// A resolver whose cache is full of visited names.
struct Full {
    resolver: Resolver,
    names: Vec<String>,
    /// Number of names so far, evicted ones included.
    named: usize,
    /// Whether the backend fails, with an error that is not cached.
    fails: Arc<AtomicBool>,
}

impl Full {
    fn new(count: usize) -> Self {
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let backend = move |_: &str| if failing.load(Ordering::Relaxed) { Err(ErrorKind::System) } else { Ok(addrs()) };
        let cache = CacheConfig::new().max_names(count).ttl(Duration::from_secs(86_400));
        let resolver = Resolver::builder().cache(cache).backend(backend).build();
        let mut full = Self { resolver, names: Vec::with_capacity(count + WRITES), named: 0, fails };
        full.add(count);
        full
    }

    fn add(&mut self, count: usize) {
        let new: Vec<_> = (self.named..self.named + count).map(|number| format!("ok-{number}.service.test")).collect();
        for names in new.chunks(1_000) {
            let lookups: Vec<_> = names.iter().map(|name| self.resolver.resolve(name)).collect();
            lookups.into_iter().for_each(|lookup| _ = block_on(lookup).expect("an answer"));
        }
        self.names.extend(new);
        self.named += count;
    }

    /// Visits every name in the cache, and adds none. An evicted name fails, and is removed from `names`.
    fn visit(&mut self) {
        self.fails.store(true, Ordering::Relaxed);
        self.names.retain(|name| block_on(self.resolver.resolve(name)).is_ok());
        self.fails.store(false, Ordering::Relaxed);
        assert_eq!(self.names.len(), self.resolver.config().cache.max_names, "the cache is full");
    }

    /// Returns how many microseconds the slowest `stats` of another thread took while names were added.
    fn adding(&mut self) -> f64 {
        self.visit();
        self.worst_during(|full| full.add(WRITES))
    }

    /// Returns the same while names were flushed one by one.
    fn flushing(&mut self) -> f64 {
        self.visit();
        let step = self.names.len() / WRITES;
        let worst = self.worst_during(|full| {
            (0..WRITES).for_each(|turn| full.resolver.flush_name(full.names.swap_remove(turn * (step - 1))));
        });
        self.add(WRITES);
        worst
    }

    fn worst_during(&mut self, write: impl FnOnce(&mut Self)) -> f64 {
        let (resolver, began, ended) = (self.resolver.clone(), AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut worst = Duration::ZERO;
                loop {
                    let asked = Instant::now();
                    _ = resolver.stats();
                    worst = worst.max(asked.elapsed());
                    began.store(true, Ordering::Relaxed);
                    if ended.load(Ordering::Relaxed) {
                        return worst;
                    }
                }
            });
            while !began.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            write(self);
            ended.store(true, Ordering::Relaxed);
            watch.join().expect("no panic").as_secs_f64() * 1e6
        })
    }
}

pub fn run(run: &Run) -> Vec<Line> {
    let large = if run.quick { 100_000 } else { 1_000_000 };
    let (mut few, mut many) = (Full::new(10_000), Full::new(large));
    let count = run.rounds(101);
    let adding = rounds(count, &mut [&mut || many.adding(), &mut || few.adding()]);
    let flushing = rounds(count, &mut [&mut || many.flushing(), &mut || few.flushing()]);
    let line = |what: &str, figures: &[Vec<f64>]| {
        let scenario = format!("the slowest stats() while names are {what} a full cache of {large}");
        Line::new(&scenario, "us", &figures[0], "itself with 10,000", &figures[1]).at_most(3.0)
    };
    vec![line("added to", &adding), line("flushed from", &flushing)]
}
