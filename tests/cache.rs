//! A lookup of a name with a fresh answer makes no call, and known names keep their answers during an outage.

mod support;

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{Addrs, Answer, Backend, CacheConfig, Error, ErrorKind, Resolver, Source};
use support::backend::ADDR;
use support::gate::{Gate, OpenOnDrop};
use support::lasting;

const HOUR: Duration = Duration::from_secs(3600);

/// A backend whose next answers are set by the test.
#[derive(Clone, Default)]
struct Changing {
    calls: Arc<AtomicUsize>,
    now: Arc<Mutex<Now>>,
}

#[derive(Clone, Default)]
enum Now {
    #[default]
    Answers,
    Fails(ErrorKind),
    Hangs(Gate),
}

impl Changing {
    fn set(&self, now: Now) {
        *self.now.lock().unwrap() = now;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Backend for Changing {
    fn lookup(&self, _: &str) -> Result<Answer, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.now.lock().unwrap().clone();
        match now {
            Now::Answers => {}
            Now::Fails(kind) => return Err(Error::new(kind, "the cause")),
            Now::Hangs(gate) => gate.pass(),
        }
        Ok([ADDR].into())
    }
}

fn with(cache: CacheConfig) -> (Changing, Resolver) {
    let backend = Changing::default();
    (backend.clone(), support::plain().backend(backend).cache(cache).build())
}

fn ask(resolver: &Resolver) -> Result<Addrs, Error> {
    block_on(resolver.resolve("name.example"))
}

fn source(resolver: &Resolver) -> Source {
    ask(resolver).expect("an answer").source()
}

#[test]
fn an_answer_is_kept_and_says_so() {
    let (backend, resolver) = with(lasting());
    let first = ask(&resolver).expect("an answer");
    assert_eq!((first.source(), first.age()), (Source::Lookup, Duration::ZERO));
    let second = block_on(resolver.resolve("NAME.example")).expect("an answer");
    assert_eq!(second.source(), Source::Cache);
    assert!(second.clone().eq(first));
    // The cache's clock moves in steps.
    while ask(&resolver).expect("an answer").age().is_zero() {}
    assert_eq!(second.time_in_call(), Duration::ZERO);
    assert_eq!(block_on(resolver.resolve("::1")).expect("itself").source(), Source::Literal);
    assert_eq!(backend.calls(), 1);
}

#[test]
fn without_a_cache_every_lookup_is_a_call() {
    let (backend, resolver) = with(CacheConfig::disabled());
    for _ in 0..3 {
        assert_eq!(source(&resolver), Source::Lookup);
    }
    assert_eq!(backend.calls(), 3);
}

#[test]
fn a_caller_that_leaves_has_filled_it_all_the_same() {
    let (backend, resolver) = with(lasting());
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));
    let lookup = resolver.resolve("name.example");
    gate.await_arrivals(1);
    drop(lookup);
    // A lookup that begins now joins the call. When the call has ended, its answer is cached.
    let joined = resolver.resolve("name.example");
    gate.open();
    assert_eq!(block_on(joined).expect("an answer").source(), Source::Lookup);
    assert_eq!(source(&resolver), Source::Cache);
    assert_eq!(backend.calls(), 1);
}

#[test]
fn ten_thousand_on_a_stale_name_make_one_call_and_wait_for_none() {
    let (backend, resolver) = with(CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(HOUR));
    ask(&resolver).expect("an answer");
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tasks: Vec<_> = (0..10_000)
        .map(|_| {
            let resolver = resolver.clone();
            runtime.spawn(async move { resolver.resolve("name.example").await.expect("an answer").source() })
        })
        .collect();
    for source in runtime.block_on(join_all(tasks)) {
        assert_eq!(source.expect("no panic"), Source::Stale, "while the gate is shut");
    }
    gate.await_arrivals(1);
    assert_eq!(backend.calls(), 2);
    assert_eq!(resolver.stats().refreshed, 1);
}

#[test]
fn a_refresh_is_nobodys_and_its_answer_is_everybodys() {
    // The first answer expires at once. The second one lasts.
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let resolver = support::plain()
        .backend(move |_: &str| {
            let answer = Answer::from([ADDR]);
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            Ok::<_, Error>(answer.with_ttl(if first { Duration::ZERO } else { HOUR }))
        })
        .cache(CacheConfig::new().min_ttl(Duration::ZERO).stale_while_revalidate(HOUR))
        .build();
    assert_eq!(source(&resolver), Source::Lookup);
    assert_eq!(source(&resolver), Source::Stale);
    // Nobody can wait for the refresh. It has ended when the answer is fresh.
    while source(&resolver) == Source::Stale {
        thread::yield_now();
    }
    assert_eq!(source(&resolver), Source::Cache);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn two_callers_over_a_hundred_thousand_names_make_as_many_calls() {
    let (backend, resolver) = with(lasting().max_names(200_000));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let resolver = resolver.clone();
            thread::spawn(move || {
                for number in 0..100_000 {
                    block_on(resolver.resolve(format!("n{number}.example"))).expect("an answer");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("no panic");
    }
    assert_eq!(backend.calls(), 100_000);
}

#[test]
fn known_names_keep_answering_while_the_backend_fails() {
    for kind in [ErrorKind::Temporary, ErrorKind::System, ErrorKind::Panicked] {
        let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).cooldown(HOUR);
        let (backend, resolver) = with(cache);
        ask(&resolver).expect("an answer");
        backend.set(Now::Fails(kind));
        assert_eq!(source(&resolver), Source::Stale, "after one that failed with {kind:?}");
        for _ in 0..10 {
            assert_eq!(source(&resolver), Source::Stale, "at once");
        }
        assert_eq!(backend.calls(), 2, "none of them made a call");
    }
}

#[test]
fn recovery_is_noticed_within_a_cooldown() {
    let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    let (backend, resolver) = with(cache.cooldown(Duration::from_millis(5)));
    ask(&resolver).expect("an answer");
    backend.set(Now::Fails(ErrorKind::Temporary));
    assert_eq!(source(&resolver), Source::Stale);
    backend.set(Now::Answers);
    while source(&resolver) == Source::Stale {
        thread::yield_now();
    }
    assert_eq!(backend.calls(), 3, "the first after the cooldown");
}

#[test]
fn known_names_keep_answering_while_the_backend_hangs() {
    let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    let (backend, resolver) = with(cache.stale_answer_timeout(Duration::from_millis(20)));
    ask(&resolver).expect("an answer");
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));
    let waited = ask(&resolver).expect("the old answer");
    assert_eq!(waited.source(), Source::Stale);
    assert!(waited.time_queued() + waited.time_in_call() >= Duration::from_millis(20));
    gate.await_arrivals(1);
    for _ in 0..100 {
        let at_once = ask(&resolver).expect("the old answer");
        assert_eq!((at_once.source(), at_once.time_in_call()), (Source::Stale, Duration::ZERO));
    }
    assert_eq!(backend.calls(), 2, "one call hangs, and nobody makes another");

    backend.set(Now::Answers);
    gate.open();
    while source(&resolver) == Source::Stale {
        thread::yield_now();
    }
}

#[test]
fn past_the_limit_the_error_is_the_real_one() {
    let cache =
        CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).stale_if_error(Duration::ZERO);
    let (backend, resolver) = with(cache.cooldown(HOUR));
    ask(&resolver).expect("an answer");
    backend.set(Now::Fails(ErrorKind::Temporary));
    let error = ask(&resolver).expect_err("nothing is kept");
    assert!(error.is_temporary() && !error.is_cached());
    // During the cooldown the same error comes from the cache, with its cause as text.
    let error = ask(&resolver).expect_err("still");
    assert!(error.is_temporary() && error.is_cached());
    assert!(error.to_string().ends_with("temporary failure in name resolution: the cause"), "{error}");
    assert_eq!(backend.calls(), 2);
}

#[test]
fn an_authoritative_no_takes_the_place_of_an_old_answer() {
    for kind in [ErrorKind::NotFound, ErrorKind::NoData] {
        let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).negative_ttl(HOUR);
        let (backend, resolver) = with(cache);
        ask(&resolver).expect("an answer");
        backend.set(Now::Fails(kind));
        assert!(!ask(&resolver).expect_err("a real one").is_cached());
        backend.set(Now::Fails(ErrorKind::Temporary));
        let kept = ask(&resolver).expect_err("from the cache");
        assert_eq!((kept.kind(), kept.is_cached(), kept.name()), (kind, true, Some("name.example")));
        assert_eq!(backend.calls(), 2);
    }
}

#[test]
fn what_says_nothing_of_the_name_is_not_kept() {
    for kind in [ErrorKind::System, ErrorKind::Panicked, ErrorKind::Other] {
        let (backend, resolver) = with(CacheConfig::new().negative_ttl(HOUR).cooldown(HOUR));
        backend.set(Now::Fails(kind));
        for calls in 1..4 {
            assert!(!ask(&resolver).expect_err("a failure").is_cached());
            assert_eq!(backend.calls(), calls);
        }
    }
}

#[test]
fn a_flush_forgets_what_was_asked_before_it() {
    for by_name in [true, false] {
        let (backend, resolver) = with(lasting());
        let flush = || if by_name { resolver.flush_name("NAME.example") } else { resolver.flush() };
        ask(&resolver).expect("an answer");
        assert_eq!(source(&resolver), Source::Cache);
        flush();
        let gate = Gate::default();
        let _open = OpenOnDrop(&gate);
        backend.set(Now::Hangs(gate.clone()));
        let before = resolver.resolve("name.example");
        gate.await_arrivals(1);
        flush();
        // This lookup has a flight of its own, whose answer is cached.
        let after = resolver.resolve("name.example");
        gate.await_arrivals(2);
        gate.open();
        assert_eq!(block_on(before).expect("an answer").source(), Source::Lookup);
        assert_eq!(block_on(after).expect("an answer").source(), Source::Lookup);
        assert_eq!(source(&resolver), Source::Cache);
        assert_eq!(backend.calls(), 3);
    }
}

#[test]
fn the_answer_of_a_lookup_from_before_a_flush_is_not_kept() {
    let (backend, resolver) = with(lasting());
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));
    let before = resolver.resolve("name.example");
    gate.await_arrivals(1);
    resolver.flush();
    gate.open();
    block_on(before).expect("an answer");
    assert_eq!(source(&resolver), Source::Lookup);
    assert_eq!(source(&resolver), Source::Cache);
}

#[test]
fn an_old_answer_is_given_where_a_new_name_is_refused() {
    let backend = Changing::default();
    let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    let resolver = support::plain().backend(backend.clone()).cache(cache.cooldown(Duration::ZERO)).max_lookups(1);
    let resolver = resolver.max_queued(1).build();
    ask(&resolver).expect("an answer");
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));
    let hung = resolver.resolve("hung.example");
    gate.await_arrivals(1);
    let queued = resolver.resolve("queued.example");
    assert_eq!(source(&resolver), Source::Stale, "the queue is full");
    assert!(block_on(resolver.resolve("new.example")).expect_err("the queue is full").is_overloaded());
    drop((hung, queued));
}

#[test]
fn a_timeout_shorter_than_ones_patience_gives_the_old_answer_too() {
    let backend = Changing::default();
    let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    let timeout = Duration::from_millis(10);
    let resolver = support::plain().backend(backend.clone()).cache(cache).timeout(timeout).build();
    // On a busy machine, even an instant answer may take longer than the timeout.
    while ask(&resolver).is_err() {}
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));
    assert_eq!(source(&resolver), Source::Stale);
    assert!(block_on(resolver.resolve("new.example")).expect_err("nothing is kept").is_timeout());
}

#[test]
fn an_old_answer_about_to_go_is_not_waited_for() {
    // The answer is usable now, but gone before `stale_answer_timeout` has passed. The caller waits for the call.
    let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    let (backend, resolver) = with(cache.stale_if_error(HOUR).stale_answer_timeout(2 * HOUR));
    ask(&resolver).expect("an answer");
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));
    let lookup = resolver.resolve("name.example");
    gate.await_arrivals(1);
    gate.open();
    assert_eq!(block_on(lookup).expect("the new answer").source(), Source::Lookup);
}

#[test]
fn what_was_waited_for_in_vain_is_looked_up_all_the_same() {
    let backend = Changing::default();
    let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    let resolver = support::plain().backend(backend.clone()).max_lookups(1).timeout(None);
    let resolver = resolver.cache(cache.stale_answer_timeout(Duration::from_millis(5))).build();
    ask(&resolver).expect("an answer");
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    backend.set(Now::Hangs(gate.clone()));
    let hung = resolver.resolve("hung.example");
    gate.await_arrivals(1);
    // No caller waits for the name any more, but it is still in the queue.
    assert_eq!(source(&resolver), Source::Stale);
    assert_eq!(resolver.stats().queued, 1);
    gate.open();
    block_on(hung).expect("an answer");
    gate.await_arrivals(2);
}

#[test]
fn a_refresh_is_undertaken_beside_other_lookups() {
    let (_, resolver) = with(CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(HOUR));
    for number in 0..100 {
        let name = format!("n{number}.example");
        block_on(resolver.resolve(&name)).expect("an answer");
        let new = resolver.resolve(format!("new-{number}.example"));
        assert_eq!(block_on(resolver.resolve(&name)).expect("an answer").source(), Source::Stale);
        block_on(new).expect("an answer");
    }
    assert_eq!(resolver.stats().refreshed, 100);
}

thread_local! {
    static AT_THE_END: RefCell<Option<AsksAtTheEnd>> = const { RefCell::new(None) };
}

struct AsksAtTheEnd(Resolver, Gate);

impl Drop for AsksAtTheEnd {
    fn drop(&mut self) {
        drop(self.0.resolve("name.example"));
        self.1.open();
    }
}

#[test]
fn a_thread_may_ask_at_its_very_end() {
    for first in [true, false] {
        let (_, resolver) = with(lasting());
        let asked = Gate::default();
        let end = AsksAtTheEnd(resolver.clone(), asked.clone());
        thread::spawn(move || {
            if first {
                AT_THE_END.with(|place| place.borrow_mut().take());
            }
            ask(&resolver).expect("an answer");
            assert_eq!(source(&resolver), Source::Cache);
            AT_THE_END.with(|place| *place.borrow_mut() = Some(end));
        })
        .join()
        .expect("no panic");
        asked.await_open();
    }
}

#[test]
fn after_close_not_even_a_hit_is_given() {
    let (_, resolver) = with(lasting());
    ask(&resolver).expect("an answer");
    resolver.close();
    assert!(ask(&resolver).expect_err("closed").is_closed());
}

#[test]
fn what_a_later_call_has_said_stands_against_an_earlier_one() {
    let (backend, gate) = (Changing::default(), Gate::default());
    let _open = OpenOnDrop(&gate);
    let builder = support::plain().backend(backend.clone()).cache(CacheConfig::new().negative_ttl(HOUR));
    let resolver = builder.timeout(Duration::from_millis(5)).build();
    backend.set(Now::Hangs(gate.clone()));
    // On a busy machine the time may be over before the call begins, and then there is none.
    while gate.arrived() == 0 {
        assert!(block_on(resolver.resolve("a")).expect_err("it hangs").is_timeout());
    }
    backend.set(Now::Fails(ErrorKind::NotFound));
    // Until the first call counts as stuck, callers join it and time out.
    let mut answers = std::iter::repeat_with(|| block_on(resolver.resolve("a")).expect_err("no answer"));
    assert!(answers.find(|error| !error.is_timeout()).is_some_and(|error| error.is_not_found()));
    gate.open();
    while resolver.stats().running > 0 {
        thread::yield_now();
    }
    let error = block_on(resolver.resolve("a")).expect_err("it was denied after that call began");
    assert!(error.is_not_found() && error.is_cached());
    assert_eq!(backend.calls(), 2);
}

/// Counts hits from more threads than there are stripes to count in.
#[test]
fn those_who_are_answered_at_once_are_counted() {
    const THREADS: u64 = 100;
    let cache = CacheConfig::new().ttl(HOUR).cooldown(HOUR);
    let (backend, resolver) = with(cache);
    block_on(resolver.resolve("ok")).expect("an answer");
    backend.set(Now::Fails(ErrorKind::Temporary));
    block_on(resolver.resolve("fails")).expect_err("no answer");
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                assert_eq!(block_on(resolver.resolve("OK")).expect("an answer").source(), Source::Cache);
                assert!(block_on(resolver.resolve("fails")).expect_err("no answer").is_cached());
            });
        }
    });
    let stats = resolver.stats();
    assert_eq!((stats.started, stats.hits, stats.stale), (2, 2 * THREADS, 0));

    let (backend, resolver) = with(CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(HOUR));
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    block_on(resolver.resolve("ok")).expect("an answer");
    backend.set(Now::Hangs(gate.clone()));
    for _ in 0..3 {
        assert_eq!(block_on(resolver.resolve("ok")).expect("an answer").source(), Source::Stale);
    }
    let stats = resolver.stats();
    assert_eq!((stats.started, stats.hits, stats.stale, stats.refreshed), (1, 0, 3, 1));
}
