//! Spans, and the only code that enters one or sets a dispatcher.
//!
//! When a span is entered, exited, cloned or dropped, part of that goes through the *thread's* default dispatcher rather than
//! through its own: `Registry`, for one, releases a closing span's parent there. With another default the wrong subscriber is
//! asked, which panics or closes an unrelated span. So each of the four happens with the span's own dispatcher as the
//! default, and [`Scope`] is the only owner of spans in this crate.

use std::fmt;
use std::time::Duration;

use tracing::{Dispatch, Span, dispatcher, field};

use crate::addrs::{Addrs, Source};
use crate::error::Error;
use crate::foreign::caught;
use crate::name::Name;

/// The target of all of the crate's spans, for filters.
const TARGET: &str = "gaiter";

/// A dispatcher and its spans.
///
/// A lookup has up to two scopes. The caller's future keeps one, with the `resolve` span. If the backend emits events, a
/// second one, its *custody*, goes to the thread that runs the call. It has the caller's current span as well.
pub(crate) struct Scope {
    /// `None` once closed.
    spans: Option<Box<Spans>>,
}

struct Spans {
    dispatch: Dispatch,
    /// The caller's current span. Entering `resolve` alone would not do: a filter may disable it, and per-layer filters go by
    /// the spans entered on the thread rather than by parents.
    current: Span,
    resolve: Span,
    outcome: Option<Outcome>,
}

/// The outcome of an answered lookup, recorded in the `resolve` span.
pub(crate) struct Outcome {
    result: Result<Addrs, Error>,
    shared: bool,
    hedged: bool,
    queued: Duration,
    in_call: Duration,
}

impl Outcome {
    pub(crate) fn new(
        result: &Result<Addrs, Error>,
        shared: bool,
        hedged: bool,
        queued: Duration,
        in_call: Duration,
    ) -> Self {
        Self { result: result.clone(), shared, hedged, queued, in_call }
    }
}

/// Returns the scopes of a lookup that begins here: with `spans` the one that the future keeps, if the span is enabled, and with
/// `custody` the one for the thread that runs the call.
///
/// Must be called where the caller asks, not where its future is polled: hyper may poll a connection's future in another task
/// than the request it was made for.
pub(crate) fn begin(name: &Name, spans: bool, custody: bool) -> (Option<Scope>, Option<Scope>) {
    // A subscriber that panics loses its span, not its program's lookup. Each call has its own catch: unwinding from one must
    // not drop the span of another.
    let span = |make: &dyn Fn() -> Span| caught(make).unwrap_or_else(|_| Span::none());
    let resolve = span(&|| {
        if !spans {
            return Span::none();
        }
        tracing::debug_span!(
            target: TARGET,
            "resolve",
            dns.question.name = name.as_str(),
            dns.answers = field::Empty,
            gaiter.source = field::Empty,
            gaiter.shared = field::Empty,
            gaiter.hedged = field::Empty,
            gaiter.queued_us = field::Empty,
            gaiter.call_us = field::Empty,
            gaiter.addresses = field::Empty,
            "error.type" = field::Empty,
            // Evaluated only if the span is enabled. A string, which loggers quote and escape.
            otel.name = format!("DNS lookup {name}").as_str(),
            otel.kind = "internal",
            otel.status_code = field::Empty,
        )
    });
    let custody = custody.then(|| Scope::new(span(&Span::current), span(&|| resolve.clone())));
    let own = (!resolve.is_disabled()).then(|| Scope::new(Span::none(), resolve));
    (own, custody)
}

impl Scope {
    fn new(current: Span, resolve: Span) -> Self {
        let dispatch = dispatcher::get_default(Dispatch::clone);
        Self { spans: Some(Box::new(Spans { dispatch, current, resolve, outcome: None })) }
    }

    /// Runs `call` with this scope's dispatcher and inside its spans, then closes the spans on this thread.
    ///
    /// `call` runs exactly once, even if the subscriber panics. It must not panic itself.
    pub(crate) fn run_and_close(mut self, call: impl FnOnce()) {
        self.enter(call, Spans::clear);
    }

    /// Does the same, but leaves the spans open.
    #[cfg(feature = "async-backend")]
    pub(crate) fn run(&mut self, call: impl FnOnce()) {
        self.enter(call, |_| ());
    }

    /// Returns a scope with this one's dispatcher and no spans.
    #[cfg(feature = "async-backend")]
    pub(crate) fn outside(&self) -> Self {
        let spans = self.spans.as_ref().map(|spans| Spans {
            dispatch: spans.dispatch.clone(),
            current: Span::none(),
            resolve: Span::none(),
            outcome: None,
        });
        Self { spans: spans.map(Box::new) }
    }

    fn enter(&mut self, call: impl FnOnce(), then: impl FnOnce(&mut Spans)) {
        let mut call = Some(call);
        if let Some(spans) = &mut self.spans {
            spans.as_default(|spans| {
                // Each span has its own catch: two exits that panic in one unwinding would end the process.
                in_span(&spans.current, || in_span(&spans.resolve, || _ = call.take().map(|call| call())));
                then(spans);
            });
        }
        if let Some(call) = call {
            call();
        }
    }

    /// Records the outcome of the lookup and closes the scope's spans.
    ///
    /// # Errors
    ///
    /// Returns the scope if it cannot be closed here: inside a subscriber, or in a thread whose locals are gone. It must then
    /// be closed on one of the crate's threads.
    pub(crate) fn close(mut self, outcome: Option<Outcome>) -> Result<(), Self> {
        if let Some(spans) = &mut self.spans {
            spans.outcome = spans.outcome.take().or(outcome);
        }
        if self.close_here() { Ok(()) } else { Err(self) }
    }

    fn close_here(&mut self) -> bool {
        let Some(spans) = &mut self.spans else {
            return true;
        };
        if !spans.is_empty() {
            let closed = !is_inside_subscriber()
                && spans.as_default(|spans| {
                    _ = caught(|| spans.record());
                    spans.clear();
                });
            if !closed {
                return false;
            }
        }
        // The dispatcher is left. It may be the last handle of its subscriber, whose destructor may panic like any other.
        let spans = self.spans.take();
        _ = caught(|| drop(spans));
        true
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if !self.close_here() {
            // Dropping a span here would panic or close an unrelated span. Leaking it is better.
            std::mem::forget(self.spans.take());
        }
    }
}

impl Spans {
    fn is_empty(&self) -> bool {
        self.current.is_disabled() && self.resolve.is_disabled()
    }

    /// Runs `f`, which must not panic, with the dispatcher as the thread's default. Returns whether `f` ran.
    fn as_default(&mut self, f: impl FnOnce(&mut Self)) -> bool {
        let dispatch = self.dispatch.clone();
        let mut ran = false;
        // The default cannot be set while it is borrowed. `is_inside_subscriber` misses that if the last scoped dispatcher of
        // the process went while this thread was inside one: `set_default` then panics before `f`.
        _ = caught(|| {
            dispatcher::with_default(&dispatch, || {
                // With the thread's locals gone, no default was set. That shows only now that a scoped dispatcher is counted.
                if !is_inside_subscriber() {
                    ran = true;
                    f(self);
                }
            });
        });
        ran
    }

    /// Drops the spans, the inner one first, as when they are left.
    fn clear(&mut self) {
        for span in [&mut self.resolve, &mut self.current] {
            let span = std::mem::replace(span, Span::none());
            _ = caught(|| drop(span));
        }
    }

    fn record(&mut self) {
        let Some(Outcome { result, shared, hedged, queued, in_call }) = self.outcome.take() else {
            return;
        };
        let resolve = &self.resolve;
        resolve.record("gaiter.shared", shared);
        resolve.record("gaiter.hedged", hedged);
        resolve.record("gaiter.queued_us", micros(queued));
        resolve.record("gaiter.call_us", micros(in_call));
        match result {
            Ok(addrs) => {
                resolve.record("gaiter.source", addrs.source().id());
                let count = addrs.len();
                resolve.record("dns.answers", field::debug(Answers(addrs)));
                resolve.record("gaiter.addresses", number(count));
            }
            Err(error) => {
                let source = if error.is_cached() { Source::Cache } else { Source::Lookup };
                resolve.record("gaiter.source", source.id());
                resolve.record("error.type", error.error_type());
                resolve.record("otel.status_code", "ERROR");
            }
        }
    }
}

/// Maximum number of addresses that a span lists. Most names have fewer, some have hundreds.
const LISTED: usize = 16;

/// The first [`LISTED`] addresses, as a list of strings.
struct Answers(Addrs);

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs = self.0.clone().take(LISTED);
        f.debug_list().entries(addrs.map(|addr| addr.ip().to_string())).finish()
    }
}

/// Runs `f` inside `span`, or outside if the subscriber panics on entering it.
fn in_span(span: &Span, f: impl FnOnce()) {
    if span.is_disabled() {
        return f();
    }
    let mut f = Some(f);
    let entered = caught(|| {
        let _entered = span.enter();
        if let Some(f) = f.take() {
            f();
        }
    });
    if let (Err(_), Some(f)) = (entered, f) {
        f();
    }
}

/// Returns whether this thread's default dispatcher cannot be set: a subscriber is being called through it, or the thread's
/// locals are gone.
fn is_inside_subscriber() -> bool {
    // Hidden API, and the only one that tells: `get_default` returns the subscriber that does nothing here.
    tracing_core::dispatcher::get_current(|_| ()).is_none()
}

fn micros(duration: Duration) -> i64 {
    number(duration.as_micros())
}

/// Signed, since tracing-opentelemetry exports other numbers as strings.
fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// A subscriber that counts the spans that close, and runs a closure inside an event.
    #[derive(Default)]
    struct Told {
        closed: AtomicUsize,
        told: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    impl Subscriber for Told {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            let told = self.told.lock().unwrap().take();
            told.into_iter().for_each(|told| told());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}

        fn try_close(&self, _: Id) -> bool {
            self.closed.fetch_add(1, Ordering::SeqCst);
            true
        }
    }

    /// Runs `inside` with a scope, inside the scope's subscriber. Returns how many spans have closed.
    fn closed_by(span: impl FnOnce() -> Span, inside: impl FnOnce(Scope) + Send + 'static) -> usize {
        let told = Arc::new(Told::default());
        dispatcher::with_default(&Arc::clone(&told).into(), || {
            let scope = Scope::new(Span::none(), span());
            *told.told.lock().unwrap() = Some(Box::new(move || inside(scope)));
            tracing::info!("now");
        });
        told.closed.load(Ordering::SeqCst)
    }

    #[test]
    fn a_scope_that_cannot_be_closed_is_given_back_or_leaked() {
        let span = || tracing::info_span!("span");
        assert_eq!(closed_by(span, drop), 0);
        let (given, back) = std::sync::mpsc::channel();
        let give = move |scope: Scope| given.send(scope.close(None)).expect("it is waited for");
        assert_eq!(closed_by(span, give), 0);
        // Dropped, and so closed, outside the subscriber.
        let scope = back.recv().expect("it was sent").expect_err("it cannot be closed in there");
        drop(scope);
        assert_eq!(closed_by(Span::none, |scope| assert!(scope.close(None).is_ok())), 0);
    }
}
