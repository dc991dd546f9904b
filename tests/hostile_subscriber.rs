//! A subscriber that panics loses its trace, but not the lookup.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use futures::executor::block_on;
use support::backend::Scripted;
use support::panics::DELIBERATE;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    NewSpan,
    Record,
    Enter,
    Exit,
    Clone,
    Close,
    Enabled,
    Destroyed,
}

/// A subscriber that panics every time at one point.
struct Hostile {
    when: When,
    last: AtomicU64,
}

impl Hostile {
    fn at(&self, now: When) {
        if self.when == now {
            std::panic::panic_any(DELIBERATE);
        }
    }
}

impl Subscriber for Hostile {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        self.at(When::Enabled);
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.at(When::NewSpan);
        Id::from_u64(self.last.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {
        self.at(When::Record);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {
        self.at(When::Enter);
    }

    fn exit(&self, _: &Id) {
        self.at(When::Exit);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.at(When::Clone);
        id.clone()
    }

    fn try_close(&self, _: Id) -> bool {
        self.at(When::Close);
        true
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.at(When::Destroyed);
    }
}

#[test]
fn a_lookup_is_answered_whenever_the_subscriber_panics() {
    support::panics::unexpected();
    for when in
        [When::NewSpan, When::Record, When::Enter, When::Exit, When::Clone, When::Close, When::Enabled, When::Destroyed]
    {
        for emits_events in [true, false] {
            // No event inside the call: a panic there would be the backend's own.
            let backend = Scripted::default();
            let (inner, calls) = (Scripted { emits_events: false, ..backend.clone() }, backend.calls.clone());
            let resolver = if emits_events {
                support::plain().backend(move |name: &str| gaiter::Backend::lookup(&inner, name)).build()
            } else {
                support::plain().backend(inner).build()
            };
            let own = Dispatch::new(Hostile { when, last: AtomicU64::new(1) });
            let [answered, left] = dispatcher::with_default(&own, || ["ok", "left"].map(|name| resolver.resolve(name)));
            drop(own);
            drop(left);
            block_on(answered).unwrap_or_else(|error| panic!("{when:?}: {error}"));
            block_on(resolver.resolve("again")).expect("the thread goes on");
            assert!((2..=3).contains(&calls.load(Ordering::Relaxed)));
        }
    }
}
