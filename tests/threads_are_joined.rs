//! After a clean shutdown no thread of the crate is left, so a library that contains the crate may be unloaded.
//!
//! The tests watch a slow destructor at the very end of each thread, which a join waits for.

mod support;

use std::cell::OnceCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{Answer, Backend, Error, Resolver, Shutdown};
use support::backend::{ADDR, Kind};
use support::gate::Gate;

/// A backend that leaves a slow destructor in each thread that it runs on, and counts how many began and ended.
#[derive(Clone, Default)]
struct Counted {
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

struct End(Arc<AtomicUsize>);

impl Drop for End {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(2));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local!(static END: OnceCell<End> = const { OnceCell::new() });

impl Backend for Counted {
    fn lookup(&self, _: &str) -> Result<Answer, Error> {
        self.leave_end();
        Ok([ADDR].into())
    }
}

#[cfg(feature = "async-backend")]
impl gaiter::AsyncBackend for Counted {
    type Session = ();

    fn new_session(&self) {
        self.leave_end();
    }

    fn lookup(&self, (): &(), _: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        futures::FutureExt::map(tokio::task::yield_now(), |()| Ok([ADDR].into()))
    }
}

impl Counted {
    fn leave_end(&self) {
        END.with(|end| {
            end.get_or_init(|| {
                self.begun.fetch_add(1, Ordering::SeqCst);
                End(Arc::clone(&self.ended))
            });
        });
    }

    fn assert_all_ended(&self) {
        let [begun, ended] = [&self.begun, &self.ended].map(|count| count.load(Ordering::SeqCst));
        assert!(begun > 0);
        assert_eq!(begun, ended);
    }
}

/// Returns a resolver that has used several threads.
fn used(kind: Kind) -> (Counted, Resolver) {
    let backend = Counted::default();
    let builder = support::plain();
    let resolver = match kind {
        Kind::Blocking => builder.backend(backend.clone()).build(),
        #[cfg(feature = "async-backend")]
        Kind::Async => builder.async_backend(backend.clone()).build(),
        #[cfg(feature = "async-backend")]
        Kind::Drivers => builder.async_backend(backend.clone()).driver_threads(3).build(),
    };
    let lookups = (0..20).map(|number| resolver.resolve(format!("ok-{number}")));
    assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
    (backend, resolver)
}

/// A waker that polls a shutdown where it is woken: on the crate's own thread.
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

fn no_thread_is_left(kind: Kind) {
    for round in 0..100 {
        let (backend, resolver) = used(kind);
        let report = if round % 2 == 0 { block_on(resolver.shutdown()) } else { resolver.shutdown().wait() };
        assert!(report.is_clean());
        backend.assert_all_ended();
    }
}

fn no_thread_is_left_whoever_waits(kind: Kind) {
    for _ in 0..50 {
        let (backend, resolver) = used(kind);
        let waiters = [resolver.shutdown(), resolver.shutdown()].map(|shutdown| {
            let backend = backend.clone();
            thread::spawn(move || {
                assert!(shutdown.wait().is_clean());
                backend.assert_all_ended();
            })
        });
        for waiter in waiters {
            waiter.join().expect("all had ended before either was told");
        }
    }
}

fn a_shutdown_may_be_polled_where_it_is_woken(kind: Kind) {
    for _ in 0..100 {
        let (_, resolver) = used(kind);
        let done = Gate::default();
        let inline = Arc::new(Inline(Mutex::new(Some(resolver.shutdown())), done.clone()));
        Waker::from(inline).wake();
        done.await_open();
    }
}

over_every_kind! {
    no_thread_is_left
    no_thread_is_left_whoever_waits
    a_shutdown_may_be_polled_where_it_is_woken
}
