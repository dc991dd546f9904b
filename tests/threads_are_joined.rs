//! When a shutdown has completed cleanly, no thread of the crate's is left: what it was in may be unloaded.
//!
//! The only test of its binary, since it counts the process's threads.
#![cfg(target_os = "linux")]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{Answer, Backend, Error, Resolver, Shutdown};
use support::backend::{ADDR, Scripted};
use support::gate::Gate;
use support::threads;

/// A backend that leaves each thread that it runs on something slow to drop at its end.
struct SlowToLeave;

struct Slow;

impl Drop for Slow {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(5));
    }
}

thread_local!(static SLOW: Slow = const { Slow });

impl Backend for SlowToLeave {
    fn lookup(&self, _: &str) -> Result<Answer, Error> {
        SLOW.with(|_| ());
        Ok([ADDR].into())
    }
}

/// A shutdown that is polled where it is woken: on the crate's own thread.
struct Inline(Mutex<Option<Shutdown<'static>>>, Gate);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let mut shutdown = self.0.lock().unwrap();
        let waker = Arc::clone(&self).into();
        let polled = shutdown.as_mut().map(|shutdown| Pin::new(shutdown).poll(&mut Context::from_waker(&waker)));
        if let Some(Poll::Ready(report)) = polled {
            assert!(report.is_clean());
            *shutdown = None;
            self.1.open();
        }
    }
}

fn no_thread_is_left_whoever_waits() {
    for _ in 0..20 {
        let resolver = Resolver::builder().backend(SlowToLeave).build();
        let lookups = (0..4).map(|number| resolver.resolve(format!("ok-{number}")));
        assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
        let waiters = [resolver.shutdown(), resolver.shutdown()].map(|shutdown| {
            thread::spawn(move || {
                assert!(shutdown.wait().is_clean());
                assert_eq!(threads::alive(), 0);
            })
        });
        for waiter in waiters {
            waiter.join().expect("both are joined before either ends");
        }
    }
}

fn a_shutdown_may_be_polled_where_it_is_woken() {
    for _ in 0..200 {
        let resolver = Resolver::builder().backend(Scripted::default()).build();
        let lookups = (0..4).map(|number| resolver.resolve(format!("ok-{number}")));
        assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
        let done = Gate::default();
        let inline = Arc::new(Inline(Mutex::new(Some(resolver.shutdown())), done.clone()));
        Waker::from(inline).wake();
        done.await_open();
    }
}

#[test]
fn no_thread_is_left() {
    no_thread_is_left_whoever_waits();
    a_shutdown_may_be_polled_where_it_is_woken();
    for round in 0..200 {
        let resolver = Resolver::builder().backend(Scripted::default()).build();
        let lookups = (0..20).map(|number| resolver.resolve(format!("ok-{number}")));
        assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
        assert!(threads::alive() > 0);
        let report = if round % 2 == 0 { block_on(resolver.shutdown()) } else { resolver.shutdown().wait() };
        assert!(report.is_clean());
        assert_eq!(threads::alive(), 0, "round {round}");
    }
}
