//! The metrics that a recorder gets are the documented ones, and agree with the statistics.

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use gaiter::{Resolver, Source, Stats};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use support::WATCHDOG;
use support::backend::Scripted;
use support::gate::OpenOnDrop;
use support::lasting;
use support::panics::DELIBERATE;

/// The name of a metric, and its labels.
type Id = (String, Vec<(String, String)>);

/// Keeps what a recorder gets.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    /// The type and the unit of each metric.
    described: BTreeMap<String, (&'static str, String)>,
    set: BTreeMap<Id, f64>,
    recorded: BTreeMap<Id, Vec<f64>>,
}

/// A metric that was registered.
struct Handle(Kept, Id);

impl Kept {
    fn describe(&self, key: &KeyName, kind: &'static str, unit: Option<Unit>) {
        let unit = unit.expect("a unit").as_str().to_owned();
        self.0.lock().unwrap().described.insert(key.as_str().to_owned(), (kind, unit));
    }

    fn handle(&self, key: &Key) -> Arc<Handle> {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        Arc::new(Handle(self.clone(), (key.name().to_owned(), labels.collect())))
    }

    /// Returns the value of a metric without labels.
    fn value(&self, name: &str) -> Option<f64> {
        self.0.lock().unwrap().set.get(&(name.to_owned(), Vec::new())).copied()
    }

    /// Returns the number of durations that were recorded, by the value of their only label.
    fn durations(&self) -> BTreeMap<String, usize> {
        let book = self.0.lock().unwrap();
        let counts = book.recorded.iter().map(|((name, labels), values)| {
            assert_eq!(name, "dns.lookup.duration");
            let label = labels.iter().map(|(key, value)| format!("{key}={value}"));
            (label.collect::<Vec<_>>().join(","), values.len())
        });
        counts.collect()
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, "counter", unit);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, "gauge", unit);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, "histogram", unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key))
    }
}

impl CounterFn for Handle {
    fn increment(&self, value: u64) {
        *self.0.0.lock().unwrap().set.entry(self.1.clone()).or_default() += value as f64;
    }

    fn absolute(&self, _: u64) {
        panic!("not every recorder lets {} be set", self.1.0);
    }
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        panic!("{} is set", self.1.0);
    }

    fn decrement(&self, _: f64) {
        panic!("{} is set", self.1.0);
    }

    fn set(&self, value: f64) {
        self.0.0.lock().unwrap().set.insert(self.1.clone(), value);
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.0.0.lock().unwrap().recorded.entry(self.1.clone()).or_default().push(value);
    }
}

fn await_stats(resolver: &Resolver, until: impl Fn(&Stats) -> bool) -> Stats {
    let began = Instant::now();
    loop {
        let stats = resolver.stats();
        if until(&stats) {
            return stats;
        }
        assert!(began.elapsed() < WATCHDOG, "{stats:?}");
        std::thread::yield_now();
    }
}

/// Polls once.
fn poll<F: Future + Unpin>(future: &mut F) -> bool {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn value_of(stats: &Stats, field: &str) -> u64 {
    let debug = format!("{stats:?}");
    let (_, rest) = debug.split_once(&format!(" {field}: ")).unwrap_or_else(|| panic!("no {field} in {debug}"));
    rest.split([',', ' ']).next().unwrap().parse().unwrap()
}

/// One caller of each kind, and a resolver that has calls running and names queued.
#[test]
fn metrics_are_those_of_the_table_and_agree_with_the_statistics() {
    let backend = Scripted::default();
    let resolver = backend.builder(2).cache(lasting()).reserved_for_known(0).max_queued(1).build();
    let _open = OpenOnDrop(&backend.gate);
    let recorder = Kept::default();
    let stats = with_local_recorder(&recorder, || {
        for name in ["ok", "ok", "error", "panic"] {
            _ = block_on(resolver.resolve(name));
        }
        let _running = [resolver.resolve("hang-1"), resolver.resolve("hang-2")];
        backend.gate.await_arrivals(2);
        let _joined = resolver.resolve("hang-1");
        let _queued = resolver.resolve("queued");
        assert!(block_on(resolver.resolve("refused")).is_err_and(|error| error.is_overloaded()));
        // Taken before the callers leave.
        let stats = await_stats(&resolver, |stats| stats.idle_threads == 0 && stats.running_long == 2);
        resolver.publish_metrics();
        assert_eq!(resolver.stats(), stats, "nothing has changed meanwhile");
        // Adds to no counter.
        resolver.publish_metrics();
        stats
    });
    let [hits, started, refused] = [stats.hits, stats.started, stats.refused];
    assert_eq!((hits, started, refused, stats.shared, stats.queued, stats.running), (1, 7, 1, 1, 1, 2));
    assert_eq!(stats.cached_names, 2, "an answer and a failure: a panic says nothing of a name");

    let lib = include_str!("../src/lib.rs");
    let rows =
        lib.lines().filter_map(|line| line.strip_prefix("//! | `")).filter(|line| line.matches('|').count() == 5);
    let mut documented = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [name, kind, unit, _, value, _] = cells[..] else { panic!("{row}") };
        let unit = if unit == "count" { "count" } else { "seconds" };
        documented.insert(name.to_owned(), (kind, unit.to_owned()));
        if name != "dns.lookup.duration" {
            let field = value.trim_start_matches("[`Stats::").trim_end_matches("`]");
            assert_eq!(name, format!("gaiter.{field}"));
            assert_eq!(recorder.value(name), Some(value_of(&stats, field) as f64), "{name}");
        }
    }
    let described = recorder.0.lock().unwrap().described.clone();
    assert_eq!(
        described
            .iter()
            .map(|(name, &(kind, ref unit))| (name.clone(), (kind, unit.clone())))
            .collect::<BTreeMap<_, _>>(),
        documented
    );
    assert_eq!(recorder.0.lock().unwrap().set.len() + 1, documented.len(), "all are set but the histogram");
}

#[test]
fn every_caller_who_waited_is_in_the_histogram_once() {
    let backend = Scripted::default();
    let resolver = backend.builder(4).build();
    let impatient = backend.builder(4).timeout(Duration::from_millis(1)).build();
    let _open = OpenOnDrop(&backend.gate);
    let recorder = Kept::default();
    with_local_recorder(&recorder, || {
        block_on(resolver.resolve("ok")).unwrap();
        block_on(resolver.resolve("error")).unwrap_err();
        block_on(resolver.resolve("panic")).unwrap_err();
        block_on(impatient.resolve("hang-1")).unwrap_err();
        // Left while it hangs, polled or not.
        let mut polled = resolver.resolve("hang-2");
        assert!(!poll(&mut polled));
        drop((polled, resolver.resolve("hang-3")));
        // Dropped with its result in it.
        let answered = resolver.resolve("ok");
        await_stats(&resolver, |stats| stats.answered == 2);
        // The reply is counted before it is handed over, so wait for the thread's next step.
        await_stats(&resolver, |stats| stats.idle_threads > 0);
        drop(answered);
        // Nobody has waited for these.
        block_on(resolver.resolve("192.0.2.1")).unwrap();
        block_on(resolver.resolve("")).unwrap_err();
        resolver.close();
        block_on(resolver.resolve("ok")).unwrap_err();
    });
    let expected = [
        ("", 2),
        ("error.type=not_found", 1),
        ("error.type=panicked", 1),
        ("error.type=timeout", 1),
        ("error.type=cancelled", 2),
    ];
    assert_eq!(recorder.durations(), expected.map(|(label, count)| (label.to_owned(), count)).into());
    let ended = |stats: Stats| stats.answered + stats.failed.values().sum::<u64>() + stats.timed_out + stats.cancelled;
    assert_eq!(ended(resolver.stats()) + ended(impatient.stats()), recorder.durations().values().sum::<usize>() as u64);
}

/// Else a program that asks early and awaits late would seem to have slow lookups.
#[test]
fn a_duration_ends_with_the_result_and_not_with_the_poll() {
    let resolver = Scripted::default().builder(1).build();
    let recorder = Kept::default();
    let asked = Instant::now();
    let lookup = resolver.resolve("ok");
    await_stats(&resolver, |stats| stats.answered == 1);
    let most = asked.elapsed();
    // Passes time that must not count.
    while asked.elapsed() < most * 2 {}
    with_local_recorder(&recorder, || block_on(lookup)).unwrap();
    let recorded = recorder.0.lock().unwrap().recorded.values().next().unwrap()[0];
    assert!(recorded > 0.0 && recorded <= most.as_secs_f64(), "{recorded} of {most:?}");
}

#[test]
fn a_hit_calls_no_recorder() {
    let resolver = Scripted::default().builder(1).cache(lasting()).build();
    block_on(resolver.resolve("ok")).unwrap();
    let recorder = Kept::default();
    with_local_recorder(&recorder, || {
        assert_eq!(block_on(resolver.resolve("OK")).unwrap().source(), Source::Cache);
    });
    assert_eq!(recorder.durations(), BTreeMap::new());
    let book = recorder.0.lock().unwrap();
    assert_eq!((book.described.len(), book.set.len()), (0, 0));
}

#[test]
fn labels_are_those_that_were_asked_for() {
    let builder = Scripted::default().builder(1).metrics_label("payments").metrics_question_name(true);
    let resolver = builder.build();
    assert_eq!(resolver.config().metrics_label.as_deref(), Some("payments"));
    assert!(resolver.config().metrics_question_name);
    let recorder = Kept::default();
    with_local_recorder(&recorder, || {
        block_on(resolver.resolve("Ok.example")).unwrap();
        block_on(resolver.resolve("error")).unwrap_err();
        resolver.publish_metrics();
    });
    let ok = "gaiter.resolver=payments,dns.question.name=Ok.example".to_owned();
    let error = "gaiter.resolver=payments,error.type=not_found,dns.question.name=error".to_owned();
    assert_eq!(recorder.durations(), [(ok, 1), (error, 1)].into());
    let label = vec![("gaiter.resolver".to_owned(), "payments".to_owned())];
    assert!(recorder.0.lock().unwrap().set.keys().all(|(_, labels)| *labels == label));
}

/// A recorder that uses the resolver, and then panics.
struct Hostile(Resolver);

impl Recorder for Hostile {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.use_and_panic()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.use_and_panic()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.use_and_panic()
    }
}

impl Hostile {
    fn use_and_panic(&self) -> ! {
        // Blocks for ever if a lock is held.
        _ = self.0.stats();
        self.0.flush();
        std::panic::panic_any(DELIBERATE)
    }
}

#[test]
fn no_lock_is_held_while_a_recorder_runs_and_its_panic_harms_no_lookup() {
    let before = support::panics::unexpected();
    let backend = Scripted::default();
    let resolver = backend.builder(2).build();
    let _open = OpenOnDrop(&backend.gate);
    with_local_recorder(&Hostile(resolver.clone()), || {
        assert_eq!(block_on(resolver.resolve("ok")).unwrap().len(), 1);
        block_on(resolver.resolve("error")).unwrap_err();
        drop(resolver.resolve("hang"));
        resolver.publish_metrics();
    });
    let stats = await_stats(&resolver, |stats| stats.cancelled == 1);
    assert_eq!((stats.answered, support::panics::unexpected()), (1, before));
}

#[test]
fn counters_of_several_resolvers_and_threads_add_up() {
    let recorder = Kept::default();
    let resolvers = [(); 2].map(|()| Resolver::builder().backend(Scripted::default()).build());
    std::thread::scope(|scope| {
        for resolver in resolvers.iter().chain(&resolvers) {
            let recorder = &recorder;
            scope.spawn(move || {
                for _ in 0..100 {
                    block_on(resolver.resolve("ok")).unwrap();
                    with_local_recorder(recorder, || resolver.publish_metrics());
                }
            });
        }
    });
    let sum = |count: fn(&Stats) -> u64| resolvers.iter().map(|resolver| count(&resolver.stats())).sum::<u64>();
    assert_eq!(recorder.value("gaiter.hits"), Some(sum(|stats| stats.hits) as f64));
    assert_eq!(recorder.value("gaiter.started"), Some(sum(|stats| stats.started) as f64));
}
