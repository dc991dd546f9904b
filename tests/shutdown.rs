//! A shutdown ends on time and reports what it left behind. It may give up, be dropped and be resumed.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{join, join_all};
use gaiter::{Answer, Backend, Error, ErrorKind, Resolver, Resolving, ShutdownReport};
use support::backend::{Kind, Scripted};
use support::gate::{Gate, OpenOnDrop};

fn scripted(kind: Kind, calls: usize) -> (Scripted, Resolver) {
    let backend = Scripted::new(kind);
    (backend.clone(), backend.builder(calls).reserved_for_known(0).build())
}

/// Returns a resolver with 2 calls that hang and 2 names in the queue.
fn busy(kind: Kind) -> (Scripted, Resolver, Vec<Resolving>) {
    let (backend, resolver) = scripted(kind, 2);
    let lookups = ["hang-a", "hang-b", "queued-a", "queued-b"].map(|name| resolver.resolve(name)).into();
    backend.gate.await_arrivals(2);
    (backend, resolver, lookups)
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker whose references are counted.
struct Count;

impl Wake for Count {
    fn wake(self: Arc<Self>) {}
}

fn names(report: &ShutdownReport) -> Vec<&str> {
    let mut names: Vec<_> = report.abandoned.iter().map(|abandoned| abandoned.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn after_close_everything_new_is_refused_and_the_rest_goes_on(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    resolver.clone().close();
    let too_long = "a".repeat(2000);
    // Names to join, a new name, addresses, and invalid names.
    for name in ["hang-a", "queued-a", "new", "127.0.0.1", "[::1]", "", "a\0b", &too_long] {
        assert!(block_on(resolver.resolve(name)).expect_err("refused").is_closed(), "{name}");
    }
    backend.gate.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    let stats = resolver.stats();
    assert_eq!((stats.started, stats.answered, stats.refused), (4, 4, 3));
}

fn it_completes_when_the_last_lookup_has_ended_and_the_last_thread_has_left(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    let mut shutdown = resolver.shutdown();
    assert!(poll(&mut shutdown).is_pending());
    backend.gate.open();
    let report = block_on(shutdown);
    assert!(report.is_clean());
    assert_eq!((report.finished, report.cancelled), (4, 0));
    assert_eq!(report.to_string(), "4 lookups finished, 0 cancelled, 0 abandoned");
    let stats = resolver.stats();
    assert_eq!((stats.threads, stats.running, stats.queued), (0, 0, 0));
    for lookup in lookups {
        block_on(lookup).expect("the answer was there before the end");
    }
}

fn idle_threads_leave_at_once(kind: Kind) {
    let (_, resolver) = scripted(kind, 4);
    block_on(resolver.resolve("ok")).expect("an answer");
    // The default keep-alive, 10 seconds, is shorter than the watchdog. With an endless one, a thread that stays shows as a hang.
    let patient = support::plain().thread_keep_alive(Duration::MAX).build();
    block_on(patient.resolve("localhost")).expect("an answer");
    for resolver in [resolver, patient] {
        assert!(block_on(resolver.shutdown()).is_clean());
        assert_eq!(resolver.stats().threads, 0);
    }
}

fn a_resolver_that_was_never_used_is_shut_down_at_once(kind: Kind) {
    let (_, resolver) = scripted(kind, 1);
    assert_eq!(poll(&mut resolver.shutdown()).map(|report| report.is_clean()), Poll::Ready(true));
    assert!(resolver.shutdown().wait().is_clean());
}

fn when_it_gives_up_callers_are_told_at_once_and_the_names_are_in_the_report(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    let (report, lookups) = block_on(join(resolver.shutdown().within(Duration::from_millis(20)), join_all(lookups)));
    for lookup in lookups {
        assert!(lookup.expect_err("given up").is_closed());
    }
    assert!(!report.is_clean());
    assert_eq!(names(&report), ["hang-a", "hang-b"]);
    assert_eq!((report.finished, report.cancelled), (0, 2));
    assert!(report.abandoned.iter().all(|abandoned| abandoned.running >= Duration::from_millis(20)), "{report}");
    assert!(report.to_string().starts_with("0 lookups finished, 2 cancelled, 2 abandoned: hang-"), "{report}");
    assert_eq!(resolver.stats().abandoned, 2);

    // An abandoned blocking call goes on until it returns. A future is dropped at once.
    if !kind.stops() {
        backend.gate.open();
    }
    let report = block_on(resolver.shutdown());
    assert!(report.is_clean());
    assert_eq!((report.finished, report.cancelled), if kind.stops() { (0, 4) } else { (2, 2) });
}

fn a_signal_ends_the_waiting(kind: Kind) {
    for first in [true, false] {
        let (backend, resolver, lookups) = busy(kind);
        let _open = OpenOnDrop(&backend.gate);
        let (mut signals, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| oneshot::channel::<()>()).unzip();
        let [a, b]: [oneshot::Receiver<()>; 2] = receivers.try_into().unwrap();
        let mut shutdown = resolver.shutdown().until(a).until(b).within(Duration::from_secs(3600));
        assert!(poll(&mut shutdown).is_pending());
        signals.remove(usize::from(first)).send(()).expect("it listens");
        assert_eq!(names(&block_on(shutdown)), ["hang-a", "hang-b"]);
        assert!(block_on(join_all(lookups)).iter().all(Result::is_err));
    }
}

fn what_has_not_begun_can_be_cancelled(kind: Kind) {
    let (backend, resolver, mut lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    let mut shutdown = resolver.shutdown().abort_queued();
    for queued in lookups.drain(2..) {
        assert!(block_on(queued).expect_err("cancelled").is_closed());
    }
    assert!(poll(&mut shutdown).is_pending());
    backend.gate.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    let report = block_on(shutdown);
    assert_eq!((report.finished, report.cancelled, report.is_clean()), (2, 2, true));
    assert_eq!(backend.calls(), 2);
}

fn dropping_it_stops_the_waiting_and_nothing_else(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    let count = Arc::new(Count);
    for _ in 0..3 {
        let waker = Waker::from(Arc::clone(&count));
        let mut shutdown = resolver.shutdown().within(Duration::from_secs(3600));
        assert!(pin!(&mut shutdown).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&count), 1, "no waker is kept");
    assert!(block_on(resolver.resolve("new")).expect_err("still closed").is_closed());
    backend.gate.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    assert_eq!(block_on(resolver.shutdown()).finished, 4);
}

fn several_may_wait_each_with_a_bound_of_its_own(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    let patient = thread::spawn({
        let shutdown = resolver.shutdown();
        move || shutdown.wait()
    });
    let mut third = resolver.shutdown().within(Duration::from_secs(3600));
    assert!(poll(&mut third).is_pending());
    assert!(!resolver.shutdown().within(Duration::from_millis(5)).wait().is_clean());
    assert!(kind.stops() || !resolver.shutdown().within(Duration::ZERO).wait().is_clean());
    backend.gate.open();
    assert!(patient.join().expect("no panic").is_clean());
    assert!(block_on(third).is_clean());
    drop(lookups);
}

fn it_needs_no_runtime_of_any_kind(kind: Kind) {
    let runtimes: [fn(&mut dyn FnMut()); 3] = [
        |f| f(),
        |f| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { f() }),
        |f| {
            let paused =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            paused.block_on(async { f() });
        },
    ];
    for within in runtimes {
        let (backend, resolver, lookups) = busy(kind);
        let _open = OpenOnDrop(&backend.gate);
        within(&mut || {
            let report = block_on(resolver.shutdown().within(Duration::from_millis(5)));
            assert_eq!(names(&report), ["hang-a", "hang-b"]);
        });
        backend.gate.open();
        assert!(block_on(resolver.shutdown()).is_clean());
        drop(lookups);
    }
}

fn a_paused_clock_neither_shortens_nor_stops_it(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    let paused = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let report = paused.block_on(async { resolver.shutdown().within(Duration::from_millis(20)).await });
    assert_eq!(names(&report), ["hang-a", "hang-b"]);
    assert!(report.abandoned[0].running >= Duration::from_millis(20));
    drop(lookups);
}

fn dropping_the_last_handle_lets_calls_end_and_never_blocks(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    let shutdown = resolver.shutdown();
    drop((resolver.clone(), resolver));
    assert_eq!(backend.gate.arrived(), 2, "this runs while the gate is shut");
    backend.gate.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    assert_eq!(block_on(shutdown).finished, 4);
}

fn it_is_not_clean_while_threads_have_yet_to_leave(kind: Kind) {
    let (backend, resolver) = scripted(kind, 4);
    let _open = OpenOnDrop(&backend.gate);
    let lookup = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    let report = resolver.shutdown().within(Duration::ZERO).wait();
    assert!(!report.is_clean());
    // The thread that makes the call.
    assert_eq!((report.abandoned.len(), report.threads), (1, 1));
    assert!(report.to_string().contains("1 abandoned: hang (") && report.to_string().ends_with(')'), "{report}");
    drop(lookup);
}

fn giving_up_twice_counts_what_is_left_behind_once(kind: Kind) {
    let (backend, resolver, lookups) = busy(kind);
    let _open = OpenOnDrop(&backend.gate);
    for round in 0..2 {
        let report = resolver.shutdown().within(Duration::ZERO).wait();
        // An async call was stopped by the first round, and may be gone by the second.
        if round == 0 || !kind.stops() {
            assert_eq!(names(&report), ["hang-a", "hang-b"]);
        }
    }
    assert_eq!(resolver.stats().abandoned, 2);
    drop(lookups);
}

/// A backend that opens a gate when it is dropped, which happens when no handle and no thread is left.
struct Dropped(Gate);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Backend for Dropped {
    fn lookup(&self, _: &str) -> Result<Answer, Error> {
        Err(ErrorKind::NotFound.into())
    }
}

#[test]
fn when_the_last_handle_is_dropped_idle_threads_leave() {
    let dropped = Gate::default();
    let resolver = support::plain().backend(Dropped(dropped.clone())).thread_keep_alive(Duration::MAX).build();
    assert!(block_on(resolver.resolve("none")).is_err());
    drop(resolver);
    dropped.await_open();
}

fn a_lookup_outlives_the_handle_it_was_asked_through(kind: Kind) {
    let lookup = scripted(kind, 1).1.resolve("ok");
    block_on(lookup).expect("an answer");
}

fn counters_add_up(kind: Kind) {
    let (backend, resolver) = scripted(kind, 1);
    let _open = OpenOnDrop(&backend.gate);
    let hung = [resolver.resolve("hang"), resolver.resolve("hang")];
    backend.gate.await_arrivals(1);
    drop(resolver.resolve("left"));
    let failing = [resolver.resolve("error"), resolver.resolve("panic")];
    let stats = resolver.stats();
    assert_eq!((stats.queued, stats.running, stats.threads, stats.idle_threads), (2, 1, 1, 0));
    assert_eq!((stats.started, stats.shared, stats.cancelled, stats.answered), (5, 1, 1, 0));
    backend.gate.open();
    assert!(block_on(join_all(hung)).iter().all(Result::is_ok));
    assert!(block_on(join_all(failing)).iter().all(Result::is_err));
    assert!(block_on(resolver.shutdown()).is_clean());
    let stats = resolver.stats();
    assert_eq!((stats.answered, stats.cancelled, stats.timed_out), (2, 1, 0));
    let failed: Vec<_> = stats.failed.into_iter().collect();
    assert_eq!(failed, [(ErrorKind::NotFound, 1), (ErrorKind::Panicked, 1)]);
}

over_every_kind! {
    after_close_everything_new_is_refused_and_the_rest_goes_on
    it_completes_when_the_last_lookup_has_ended_and_the_last_thread_has_left
    idle_threads_leave_at_once
    a_resolver_that_was_never_used_is_shut_down_at_once
    when_it_gives_up_callers_are_told_at_once_and_the_names_are_in_the_report
    a_signal_ends_the_waiting
    what_has_not_begun_can_be_cancelled
    dropping_it_stops_the_waiting_and_nothing_else
    several_may_wait_each_with_a_bound_of_its_own
    it_needs_no_runtime_of_any_kind
    dropping_the_last_handle_lets_calls_end_and_never_blocks
    it_is_not_clean_while_threads_have_yet_to_leave
    giving_up_twice_counts_what_is_left_behind_once
    a_lookup_outlives_the_handle_it_was_asked_through
    a_paused_clock_neither_shortens_nor_stops_it
    counters_add_up
}
