//! A thread that is slow to end counts as a thread until it has ended, and delays no shutdown beyond its bound.
//!
//! The tests count the threads of the process, so they run one at a time.
#![cfg(target_os = "linux")]

mod support;

use std::cell::OnceCell;
use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{Answer, Backend, Error, Resolver, ShutdownReport};
use support::backend::ADDR;
use support::gate::{Gate, OpenOnDrop};

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the number of the crate's threads, without the timekeeper.
fn threads() -> usize {
    threads_named(|name| name.starts_with("gaiter") && name != "gaiter-time")
}

/// Returns the number of threads that make calls.
fn workers() -> usize {
    threads_named(|name| name == "gaiter")
}

fn threads_named(is_named: impl Fn(&str) -> bool) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("it is there on Linux");
    let name = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| is_named(name.trim())).count()
}

/// A backend that leaves a thread-local in each thread that it runs on. Its destructor blocks until `ends` is open.
#[derive(Clone, Default)]
struct Slow {
    calls: Gate,
    ends: Gate,
}

struct End(Gate);

impl Drop for End {
    fn drop(&mut self) {
        self.0.pass();
    }
}

thread_local!(static END: OnceCell<End> = const { OnceCell::new() });

impl Backend for Slow {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        if name != "plain" {
            END.with(|end| _ = end.get_or_init(|| End(self.ends.clone())));
        }
        if name.starts_with("hang") {
            self.calls.pass();
        }
        Ok([ADDR].into())
    }
}

/// Makes `count` threads look up one name each.
fn use_threads(backend: &Slow, resolver: &Resolver, count: usize) {
    let lookups: Vec<_> = (0..count).map(|number| resolver.resolve(format!("hang-{number}"))).collect();
    backend.calls.await_arrivals(count);
    backend.calls.open();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
}

struct Opening(Gate);

impl Wake for Opening {
    fn wake(self: Arc<Self>) {
        self.0.open();
    }
}

struct Stopping(Gate);

impl Wake for Stopping {
    fn wake(self: Arc<Self>) {
        self.0.pass();
    }
}

#[test]
fn a_shutdown_keeps_its_bound_and_says_who_has_not_ended() {
    let _alone = one_at_a_time();
    for polled in [true, false] {
        let backend = Slow::default();
        let _open = OpenOnDrop(&backend.ends);
        let resolver = support::plain().backend(backend.clone()).build();
        use_threads(&backend, &resolver, 2);
        let shutdown = resolver.shutdown().within(Duration::from_millis(5));
        let report: ShutdownReport = if polled { block_on(shutdown) } else { shutdown.wait() };
        assert!(!report.is_clean());
        // The thread that has woken this one may not have ended yet.
        let more = report.threads.saturating_sub(2);
        assert!(report.abandoned.is_empty() && report.threads >= 2 && more <= usize::from(polled), "{report}");
        assert_eq!(workers(), 2, "nothing was joined");
        assert!(report.to_string().ends_with(&format!("; {} more threads had not ended", 2 + more)), "{report}");

        // A shutdown without a bound is woken when the threads have ended. No poll blocks until then.
        backend.ends.await_arrivals(2);
        let (mut shutdown, end) = (resolver.shutdown(), Gate::default());
        let waker = Waker::from(Arc::new(Opening(end.clone())));
        assert!(Pin::new(&mut shutdown).poll(&mut Context::from_waker(&waker)).is_pending());
        backend.ends.open();
        end.await_open();
        assert!(block_on(shutdown).is_clean());
        assert_eq!(threads(), 0);
    }
}

#[test]
fn threads_that_have_not_ended_count_as_threads() {
    let _alone = one_at_a_time();
    let backend = Slow::default();
    let _open = OpenOnDrop(&backend.ends);
    let builder = support::plain().backend(backend.clone()).max_lookups(4).reserved_for_known(0);
    let resolver = builder.thread_keep_alive(Duration::ZERO).timeout(Duration::from_millis(10)).build();
    let waits = |number: usize| block_on(resolver.resolve(format!("late-{number}"))).expect_err("no thread is left");
    use_threads_of(&backend, &resolver);
    backend.ends.await_arrivals(4);
    for number in 0..20 {
        assert!(waits(number).is_timeout());
        assert_eq!((workers(), resolver.stats().threads), (4, 4));
    }
    backend.ends.open();
    while block_on(resolver.resolve("plain")).is_err() {}
    assert!(resolver.shutdown().wait().is_clean());
    assert_eq!((threads(), resolver.stats().threads), (0, 0));
}

/// Does the same as [`use_threads`] with 4 threads, whose callers time out.
fn use_threads_of(backend: &Slow, resolver: &Resolver) {
    for number in 0.. {
        if backend.calls.arrived() == 4 {
            break;
        }
        assert!(number < 1000, "too few threads start");
        // Its call does not begin if it times out before a thread has started.
        _ = block_on(resolver.resolve(format!("hang-{number}")));
    }
    backend.calls.open();
}

#[test]
fn a_report_counts_the_threads_that_there_are() {
    let _alone = one_at_a_time();
    let backend = Slow::default();
    let _open = OpenOnDrop(&backend.calls);
    backend.ends.open();
    let resolver = support::plain().backend(backend.clone()).build();
    let lookups: Vec<_> = (0..5).map(|number| resolver.resolve(format!("ok-{number}"))).collect();
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    let hung = resolver.resolve("hang");
    backend.calls.await_arrivals(1);
    resolver.close();
    while resolver.stats().threads > 1 {
        thread::yield_now();
    }
    for _ in 0..3 {
        // None starts any more. The timekeeper may end meanwhile.
        let before = threads();
        let report = resolver.shutdown().within(Duration::ZERO).wait();
        let counted = (threads()..=before).contains(&report.threads);
        assert!(counted && report.abandoned.len() == 1, "{report}; {before} threads before");
        assert_eq!(report.to_string().contains("more"), report.threads > 1, "{report}");
    }
    backend.calls.open();
    drop(hung);
    assert!(resolver.shutdown().wait().is_clean());
    assert_eq!(threads(), 0);
}

/// A waker that counts each time it is woken, and then sleeps.
struct Dawdling(Mutex<usize>, Condvar);

impl Wake for Dawdling {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_shutdown_whose_waker_takes_its_time_ends() {
    let _alone = one_at_a_time();
    let backend = Slow::default();
    let _open = OpenOnDrop(&backend.calls);
    backend.ends.open();
    let resolver = support::plain().backend(backend.clone()).build();
    drop(resolver.resolve("hang"));
    let (mut shutdown, dawdling) = (resolver.shutdown(), Arc::new(Dawdling(Mutex::new(0), Condvar::new())));
    backend.calls.open();
    let waker = Waker::from(Arc::clone(&dawdling));
    for polls in 0.. {
        if Pin::new(&mut shutdown).poll(&mut Context::from_waker(&waker)).is_ready() {
            break;
        }
        let woken = dawdling.0.lock().unwrap();
        let (woken, _) = dawdling.1.wait_timeout_while(woken, support::WATCHDOG, |woken| *woken <= polls).unwrap();
        assert!(*woken > polls, "it was not woken again");
        assert!(polls < 100, "it never ends");
    }
    drop(shutdown);
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn a_shutdown_whose_waker_blocks_keeps_no_other() {
    let _alone = one_at_a_time();
    for bound in [None, Some(Duration::from_millis(5))] {
        let backend = Slow::default();
        let _open = OpenOnDrop(&backend.calls);
        backend.ends.open();
        let resolver = support::plain().backend(backend.clone()).build();
        let hung = resolver.resolve("hang");
        backend.calls.await_arrivals(1);
        let blocked = Gate::default();
        let _unblock = OpenOnDrop(&blocked);
        let mut first = match bound {
            Some(bound) => resolver.shutdown().within(bound),
            None => resolver.shutdown(),
        };
        let waker = Waker::from(Arc::new(Stopping(blocked.clone())));
        assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
        if bound.is_none() {
            backend.calls.open();
        }
        blocked.await_arrivals(1);
        // The thread that runs the waker belongs to the resolver, and has not ended.
        let report = resolver.shutdown().within(Duration::from_millis(10)).wait();
        let calls = usize::from(bound.is_some());
        assert_eq!((report.abandoned.len(), report.threads), (calls, 1 + calls), "{report}");
        blocked.open();
        backend.calls.open();
        drop(hung);
        assert!(block_on(first).is_clean() || bound.is_some());
        assert!(resolver.shutdown().wait().is_clean());
        assert!(matches!(
            Pin::new(&mut resolver.shutdown()).poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(_)
        ));
    }
}
