//! Models of the shell, over a blocking backend. The name of a model states what holds in every order in which its threads
//! may run, within the bound of [`explore`].
//!
//! `RUSTFLAGS="--cfg gaiter_loom" cargo test --release --no-default-features --lib models`

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::thread;

use crate::sync::{self, explore};
use crate::{Addrs, Answer, Backend, Builder, CacheConfig, Error, ErrorKind, Resolver, Stats};

const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// A backend that answers at once, and counts its calls.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Counting {
    /// Returns a builder with no cache, no timeout, and a thread that stays.
    fn builder(&self) -> Builder {
        let builder = Resolver::builder().backend(self.clone()).cache(CacheConfig::disabled()).timeout(None);
        builder.max_lookups(1).reserved_for_known(0).thread_keep_alive(Duration::MAX)
    }

    fn calls(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Backend for Counting {
    fn lookup(&self, _: &str) -> Result<Answer, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok([ADDR].into())
    }

    fn emits_events(&self) -> bool {
        false
    }
}

/// Runs a future to its end. loom's own `block_on`, in some orders, goes on waiting after it was woken.
fn block_on<F: Future>(future: F) -> F::Output {
    let (waker, mut future) = (sync::unparker(), pin!(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        sync::thread::park();
    }
}

fn kind(answer: Result<Addrs, Error>) -> Result<(), ErrorKind> {
    answer.map(drop).map_err(|error| error.kind())
}

/// Ends the resolver, and checks that nothing of it is left and that the counts of callers add up.
fn end(resolver: Resolver) {
    let report = resolver.shutdown().wait();
    assert!(report.is_clean(), "{report}");
    let stats = resolver.stats();
    assert_eq!((stats.started, stats.queued, stats.running, stats.threads), (ended(&stats), 0, 0, 0));
}

/// Returns the number of callers whose lookup has ended.
fn ended(stats: &Stats) -> u64 {
    stats.answered + stats.failed.values().sum::<u64>() + stats.timed_out + stats.cancelled
}

/// Tests the hand-off. Would catch a reply that comes between a poll's look and its waker, and finds none to wake.
#[test]
fn whoever_asks_is_woken_with_an_answer() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        assert_eq!(kind(block_on(resolver.resolve("a"))), Ok(()));
        assert_eq!(backend.calls(), 1);
        end(resolver);
    });
}

/// Tests idle exit against wake-up. Would catch a thread that is sent away and still roused for the next name, and a
/// timekeeper that is believed to be there when it has left.
#[test]
fn whoever_asks_while_the_last_thread_leaves_is_answered() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().thread_keep_alive(Duration::ZERO).build();
        for name in ["a", "b"] {
            assert_eq!(kind(block_on(resolver.resolve(name))), Ok(()));
        }
        assert_eq!(backend.calls(), 2);
        drop(resolver);
    });
}

/// Tests a refused thread without another one there. Would catch a caller that is left in the queue, or told twice.
#[test]
fn whoever_asks_is_told_that_no_thread_could_be_had() {
    for refused in [&[("gaiter", 1)], &[("gaiter-time", 1)]] {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        explore(2, refused, move || {
            let backend = Counting::default();
            let resolver = backend.builder().build();
            let other = {
                let resolver = resolver.clone();
                thread::spawn(move || resolver.resolve("b"))
            };
            // Two names, polled only now: an errand to wake either would take more threads than loom has.
            let lookups = [resolver.resolve("a"), other.join().unwrap()];
            let answers = lookups.map(|lookup| kind(block_on(lookup)));
            let refused = answers.iter().filter(|answer| **answer == Err(ErrorKind::ThreadRefused)).count();
            let answered = answers.iter().filter(|answer| answer.is_ok()).count();
            assert_eq!(refused + answered, 2, "{answers:?}");
            count.fetch_add(refused, Ordering::Relaxed);
            // No shutdown, for the same reason.
            assert_eq!(ended(&resolver.stats()), 2);
        });
        assert!(told.load(Ordering::Relaxed) > 0, "every one was answered by a thread of the other's");
    }
}

/// Tests a refused thread while another caller waits. Would catch a waker that runs on the thread of a caller of another
/// name.
#[test]
fn no_waker_runs_where_another_asks() {
    explore(2, &[("gaiter", 1), ("gaiter-errand", 1)], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let asker = sync::thread::current().id();
        let here = Arc::new(AtomicUsize::new(0));
        let other = {
            let (resolver, here) = (resolver.clone(), Arc::clone(&here));
            thread::spawn(move || {
                let mut lookup = pin!(resolver.resolve("b"));
                let waker = Waker::from(Arc::new(Elsewhere(asker, here)));
                _ = lookup.as_mut().poll(&mut Context::from_waker(&waker));
                _ = block_on(lookup);
            })
        };
        drop(resolver.resolve("a"));
        other.join().unwrap();
        assert_eq!(here.load(Ordering::Relaxed), 0);
    });
}

/// Tests the wake-up at the end when no thread can be had for it. Would catch a shutdown that never hears of the end.
#[test]
fn a_shutdown_is_woken_though_no_thread_can_be_had_for_that() {
    explore(1, &[("gaiter-errand", 1)], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let lookup = resolver.resolve("a");
        let report = block_on(resolver.shutdown());
        assert!(report.is_clean(), "{report}");
        assert_eq!(kind(block_on(lookup)), Ok(()));
    });
}

/// Tests two shutdowns, one of which is polled without having been woken. Would catch one that ends while the thread that
/// wakes the other has yet to do so.
#[test]
fn a_clean_report_comes_after_the_others_were_woken() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let lookup = resolver.resolve("a");
        let [mut first, mut second] = [resolver.shutdown(), resolver.shutdown()];
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let is_pending = Pin::new(&mut second).poll(&mut Context::from_waker(&waker)).is_pending();
        if let Poll::Ready(report) = Pin::new(&mut first).poll(&mut Context::from_waker(Waker::noop())) {
            assert!(!report.is_clean() || !is_pending || woken.0.load(Ordering::Relaxed) > 0);
        }
        drop((first, second));
        assert_eq!(kind(block_on(lookup)), Ok(()));
    });
}

/// A waker that takes its time, and counts at its end.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        thread::yield_now();
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tests giving up against the end of a thread. Would catch a clean report although a thread has yet to be joined.
#[test]
fn whoever_gives_up_says_clean_only_when_all_were_joined() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let lookup = resolver.resolve("a");
        let report = resolver.shutdown().within(Duration::ZERO).wait();
        assert!(!report.is_clean() || resolver.are_threads_joined());
        _ = block_on(lookup);
    });
}

/// A waker that must not run on the given thread, and counts how often it does.
struct Elsewhere(sync::thread::ThreadId, Arc<AtomicUsize>);

impl Wake for Elsewhere {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(usize::from(self.0 == sync::thread::current().id()), Ordering::Relaxed);
    }
}

/// Tests a refused thread beside others. Would catch a name that waits for the refused thread, though another is there for
/// it.
#[test]
fn a_thread_that_was_refused_is_made_up_for_by_one_that_is_there() {
    explore(2, &[("gaiter", 2)], || {
        let backend = Counting::default();
        let resolver = backend.builder().max_lookups(2).build();
        let [a, b] = ["a", "b"].map(|name| resolver.resolve(name));
        assert_eq!(kind(block_on(a)), Ok(()));
        assert_eq!(kind(block_on(b)), Ok(()));
        end(resolver);
    });
}

/// Tests close against ask, and shutdown against start. Would catch a lookup that is admitted after all threads were sent
/// away, and waits for ever. Would also catch a shutdown that ends before a thread that was to be started is there.
#[test]
fn whoever_asks_while_it_closes_is_answered_or_refused() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let asker = {
            let resolver = resolver.clone();
            thread::spawn(move || kind(block_on(resolver.resolve("a"))))
        };
        let report = resolver.shutdown().wait();
        assert!(report.is_clean(), "{report}");
        let stats = resolver.stats();
        assert_eq!((stats.queued, stats.running, stats.threads), (0, 0, 0), "it was not over");
        assert_eq!(kind(block_on(resolver.resolve("b"))), Err(ErrorKind::Closed));
        let answer = asker.join().unwrap();
        assert!(matches!(answer, Ok(()) | Err(ErrorKind::Closed)), "{answer:?}");
        assert_eq!(backend.calls(), usize::from(answer.is_ok()));
        end(resolver);
    });
}

/// Tests the last waiter's leaving against the worker's taking. Would catch a place in the queue that outlives its callers,
/// and a caller that counts twice.
#[test]
fn those_who_leave_leave_nothing_in_the_queue() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let lookup = resolver.resolve("a");
        let other = resolver.resolve("a");
        let leaver = thread::spawn(move || drop(other));
        drop(lookup);
        leaver.join().unwrap();
        let stats = resolver.stats();
        assert_eq!((stats.started, stats.queued), (2, 0));
        end(resolver);
    });
}

/// Tests shutdown against finish. Would catch an end that nobody hears of, a lookup that is counted twice, and a thread that
/// is neither waited for nor joined.
#[test]
fn a_shutdown_hears_of_the_last_finish() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let lookup = resolver.resolve("a");
        let report = resolver.shutdown().wait();
        assert!(report.is_clean() && report.cancelled == 0 && report.finished <= 1, "{report}");
        assert_eq!(kind(block_on(lookup)), Ok(()));
        assert_eq!(resolver.stats().threads, 0);
    });
}

/// Tests giving up against finish. Would catch a caller that has two answers or none, and a call that is neither finished nor
/// abandoned.
#[test]
fn whoever_is_given_up_on_has_an_answer() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().build();
        let lookup = resolver.resolve("a");
        let report = resolver.shutdown().within(Duration::ZERO).wait();
        assert!(report.finished + report.cancelled + report.abandoned.len() <= 1, "{report}");
        let answer = kind(block_on(lookup));
        assert!(matches!(answer, Ok(()) | Err(ErrorKind::Closed)), "{answer:?}");
        assert!(answer.is_ok() || report.cancelled + report.abandoned.len() == 1, "{report}");
        end(resolver);
    });
}

/// Tests fill against ask. Would catch an answer that is not yet in the cache when its flight is gone, and a name that is
/// looked up twice.
#[test]
fn two_who_ask_for_a_name_make_one_call() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().cache(CacheConfig::new().max_names(1)).build();
        let other = {
            let resolver = resolver.clone();
            thread::spawn(move || kind(block_on(resolver.resolve("a"))))
        };
        assert_eq!(kind(block_on(resolver.resolve("A"))), Ok(()));
        assert_eq!(other.join().unwrap(), Ok(()));
        assert_eq!(backend.calls(), 1);
        end(resolver);
    });
}

/// Tests deadline against finish. Would catch a caller that gets both or neither, and a waker that is lost on the way to the
/// thread that runs it.
#[test]
fn whoever_waits_has_an_answer_or_a_timeout() {
    explore(2, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().timeout(Duration::from_secs(1)).build();
        let answer = kind(block_on(resolver.resolve("a")));
        assert!(matches!(answer, Ok(()) | Err(ErrorKind::Timeout)), "{answer:?}");
        let stats = resolver.stats();
        assert_eq!((stats.answered, stats.timed_out), if answer.is_ok() { (1, 0) } else { (0, 1) });
        end(resolver);
    });
}

/// Tests flush against fill. Would catch an answer that was looked up before the flush and is kept after it.
#[test]
fn whoever_asks_after_a_flush_does_not_get_what_was_there_before() {
    // Takes 3 interruptions: the call begins before the flush, and ends between the flush and the second ask.
    explore(3, &[], || {
        let backend = Counting::default();
        let resolver = backend.builder().cache(CacheConfig::new().max_names(1)).build();
        let before = resolver.resolve("a");
        resolver.flush();
        let calls = backend.calls();
        assert_eq!(kind(block_on(resolver.resolve("a"))), Ok(()));
        assert!(backend.calls() > calls, "it was answered by a call that had begun before");
        assert_eq!(kind(block_on(before)), Ok(()));
        end(resolver);
    });
}
