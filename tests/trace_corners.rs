//! Tests corners of trace safety that need a process of their own: the end of a thread, and subscribers that ask for the same
//! name again.
//!
//! There is one test, because it installs the process's global subscriber and depends on whether any scoped one exists.

mod support;

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;

use futures::executor::block_on;
use gaiter::{Backend, ErrorKind, Resolver, Resolving};
use support::backend::Scripted;
use support::gate::{Gate, OpenOnDrop};
use support::log::{Ledger, Log};
use support::panics;
use tracing::instrument::WithSubscriber;
use tracing::span::Id;
use tracing::{Dispatch, Instrument, Span, Subscriber, dispatcher, info_span};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, registry};

thread_local! {
    static KEPT: RefCell<Option<Resolving>> = const { RefCell::new(None) };
}

/// Drops a future when its thread's tracing state is already gone, with no scoped subscriber anywhere.
fn dropped_by_a_thread_local_destructor(log: &Log) {
    let backend = Scripted { emits_events: false, ..Scripted::default() };
    let resolver = support::plain().backend(backend.clone()).build();
    let _open = OpenOnDrop(&backend.gate);
    let before = log.look(|seen| seen.opened.len());
    for kept_first in [true, false] {
        let resolver = resolver.clone();
        let end = thread::spawn(move || {
            if kept_first {
                KEPT.with(|kept| drop(kept.borrow_mut().take()));
            }
            // Sets up tracing's own thread-local: after `KEPT` if `kept_first`, otherwise before it.
            dispatcher::with_default(&Dispatch::none(), || ());
            let lookup = info_span!("request").in_scope(|| resolver.resolve("hang"));
            KEPT.with(|kept| *kept.borrow_mut() = Some(lookup));
        });
        end.join().expect("no panic");
        log.await_closed();
    }
    assert_eq!(log.look(|seen| seen.opened.len()) - before, 4, "a request and a `resolve`, twice");
}

/// A layer that waits for a lookup when a span called `request` closes, like an exporter that sends its data then.
struct Exporter {
    resolver: Resolver,
    answered: Gate,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Exporter {
    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let name = ctx.span(&id).map(|span| span.name());
        if name == Some("request") {
            block_on(self.resolver.resolve("hang-collector")).expect("an answer");
            self.answered.open();
        }
    }
}

/// The custody of a call holds the last handle of a span. When that span closes, its subscriber asks for the same name.
fn a_subscriber_asks_for_the_name_whose_call_has_just_ended() {
    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).max_lookups(4).build();
    let answered = Gate::default();
    let exporter = Exporter { resolver: resolver.clone(), answered: answered.clone() };
    let own = Dispatch::new(registry().with(exporter));
    let lookup =
        dispatcher::with_default(&own, || info_span!("request").in_scope(|| resolver.resolve("hang-collector")));
    backend.gate.await_arrivals(1);
    drop((lookup, own));
    backend.gate.open();
    answered.await_open();
    assert!(resolver.shutdown().wait().is_clean());
    assert_eq!(backend.calls(), 2, "by a call of its own");
}

/// A backend behind `Arc<dyn Backend>` or `Box<dyn Backend>` keeps its own `emits_events`.
fn a_shared_backend_is_the_backend() {
    let quiet = Scripted { emits_events: false, ..Scripted::default() };
    let shared: Arc<dyn Backend> = Arc::new(quiet.clone());
    let boxed: Box<dyn Backend> = Box::new(quiet.clone());
    assert!(!shared.emits_events() && !boxed.emits_events());
    for resolver in [support::plain().backend(shared).build(), support::plain().backend(boxed).build()] {
        block_on(resolver.resolve("ok")).expect("an answer");
    }
    assert_eq!(quiet.calls(), 2);
}

/// A directive such as `[outer]=debug` counts on a thread that has entered `outer` itself. A span inside `outer` is not enough,
/// neither for a lookup nor for a thread or a task that is given the caller's current span.
fn a_filter_by_a_span_sees_the_current_span_alone() {
    let tell = |what: &'static str| tracing::debug!("{what}");
    let backend = move |name: &str| {
        tell(if name == "in-outer" { "lookup in outer" } else { "lookup in inner" });
        Ok::<_, ErrorKind>([support::backend::ADDR])
    };
    let resolver = support::plain().backend(backend).build();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let filter = || EnvFilter::new("info,[outer]=debug");
    for is_per_layer in [false, true] {
        let log = Log::default();
        let own = match is_per_layer {
            false => Dispatch::new(registry().with(filter()).with(Ledger(log.clone()))),
            true => Dispatch::new(registry().with(Ledger(log.clone()).with_filter(filter()))),
        };
        dispatcher::with_default(&own, || {
            info_span!("outer").in_scope(|| {
                block_on(resolver.resolve("in-outer")).expect("an answer");
                info_span!("inner").in_scope(|| {
                    tell("caller in inner");
                    block_on(resolver.resolve("in-inner")).expect("an answer");
                    let (span, dispatch) = (Span::current(), own.clone());
                    let thread =
                        thread::spawn(move || dispatcher::with_default(&dispatch, || span.in_scope(|| tell("thread"))));
                    thread.join().expect("no panic");
                    let task = async move { tell("task") }.in_current_span().with_subscriber(own.clone());
                    block_on(runtime.spawn(task)).expect("no panic");
                });
            });
        });
        log.await_closed();
        let events = log.look(|seen| seen.events.clone());
        let inner = ["outer", "inner"].to_vec();
        assert_eq!(
            events,
            [("lookup in outer".into(), ["outer", "resolve"].to_vec()), ("caller in inner".into(), inner)]
        );
    }
}

#[test]
fn corners() {
    let panics_before = panics::unexpected();
    let log = Log::default();
    tracing::subscriber::set_global_default(registry().with(Ledger(log.clone()))).expect("the only one");
    dropped_by_a_thread_local_destructor(&log);
    a_subscriber_asks_for_the_name_whose_call_has_just_ended();
    a_shared_backend_is_the_backend();
    a_filter_by_a_span_sees_the_current_span_alone();
    log.look(|seen| assert_eq!(seen.failures, [""; 0]));
    assert_eq!(panics::unexpected(), panics_before);
}
