//! Tests that lookups are trace-safe, as a matrix: every scenario with every subscriber of a caller, once for each global one. A
//! process has one global subscriber, so each has its own test binary, which only contains `trace_matrix!(Global::…)`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::executor::block_on;
use gaiter::{Addrs, Error, Resolver};
use tracing::instrument::WithSubscriber;
use tracing::{Dispatch, Instrument, Span, dispatcher, info, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, registry};

use super::backend::{Kind, Scripted};
use super::callers::{CALLERS, Caller, Witness, fmt_all, subscriber};
use super::gate::OpenOnDrop;
use super::log::{DROP_IT, Ledger};
use super::panics;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    None,
    Registry,
    FmtAllSpanEvents,
    PerLayerEnvFilter,
}

/// Returns the witness of the global subscriber, which the first call installs.
fn global(global: Global) -> Option<&'static Witness> {
    static WITNESS: OnceLock<Option<Witness>> = OnceLock::new();
    WITNESS
        .get_or_init(|| {
            let witness = Witness::new(global != Global::PerLayerEnvFilter);
            let ledger = Ledger(witness.log.clone());
            let global: Dispatch = match global {
                Global::None => return None,
                Global::Registry => registry().with(ledger).into(),
                Global::FmtAllSpanEvents => registry().with(fmt_all()).with(ledger).into(),
                Global::PerLayerEnvFilter => {
                    let filter = || EnvFilter::new("info");
                    registry().with(fmt_all().with_filter(filter())).with(ledger.with_filter(filter())).into()
                }
            };
            dispatcher::set_global_default(global).expect("the first");
            Some(witness)
        })
        .as_ref()
}

/// One cell of the matrix: a resolver, and a caller with its subscriber.
pub struct Cell {
    pub backend: Scripted,
    pub resolver: Resolver,
    own: Option<Dispatch>,
    witnesses: Vec<Witness>,
    what: String,
}

type Lookup = Pin<Box<dyn Future<Output = Result<Addrs, Error>> + Send>>;

impl Cell {
    /// Runs `f` with the caller's subscriber as the default.
    pub fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        match &self.own {
            Some(own) => dispatcher::with_default(own, f),
            None => f(),
        }
    }

    /// Attaches the caller's subscriber to a whole future, as programs do.
    pub fn with_subscriber<F: Future + Send + 'static>(
        &self,
        future: F,
    ) -> Pin<Box<dyn Future<Output = F::Output> + Send>> {
        match &self.own {
            Some(own) => Box::pin(future.with_subscriber(own.clone())),
            None => Box::pin(future),
        }
    }

    /// Returns a request that looks up `name` inside a span of its own.
    pub fn request(&self, name: &'static str) -> Lookup {
        let resolver = self.resolver.clone();
        let request = self.within(|| info_span!("request"));
        self.with_subscriber(async move { resolver.resolve(name).await }.instrument(request))
    }

    /// Returns a request that has begun: its lookup is queued or running.
    pub fn begun(&self, name: &'static str) -> Lookup {
        let mut request = self.request(name);
        assert!(poll(&mut request).is_pending());
        request
    }

    /// Returns a lookup that no subscriber sees.
    pub fn nobodys(&self, name: &'static str) -> Lookup {
        let resolver = self.resolver.clone();
        let none = Dispatch::new(tracing::subscriber::NoSubscriber::default());
        Box::pin(async move { resolver.resolve(name).await }.with_subscriber(none))
    }

    /// Occupies every thread of the resolver.
    pub fn occupy(&self) -> Lookup {
        let mut occupier = self.nobodys("hang-nobody");
        assert!(poll(&mut occupier).is_pending());
        self.backend.gate.await_arrivals(1);
        occupier
    }

    /// Waits until every span of the caller is closed, at once or by a thread of the crate.
    pub fn await_closed(&self) {
        for witness in &self.witnesses {
            witness.log.await_closed();
        }
    }

    /// Asserts that a caller's spans close when it leaves a call at the gate, unless that call is in them and cannot be stopped.
    pub fn left_while_running(&self) {
        if self.backend.kind.stops() {
            self.await_closed();
        } else if !self.backend.emits_events {
            self.assert_closed();
        }
    }

    /// Asserts that every span of the caller is closed now.
    pub fn assert_closed(&self) {
        for Witness { log, .. } in &self.witnesses {
            let open = log.look(|seen| seen.open.values().filter(|&&name| name != "decoy").count());
            assert_eq!(open, 0, "{}: still open: {:?}", self.what, log.look(|seen| seen.open.clone()));
        }
    }

    /// Asserts that exactly `count` calls emitted their event inside the caller's spans, if the backend emits any.
    pub fn assert_backend_events(&self, count: usize) {
        for Witness { log, sees_resolve } in &self.witnesses {
            let expected: &[&str] = if *sees_resolve { &["request", "resolve"] } else { &["request"] };
            let scopes: Vec<_> = log.look(|seen| {
                seen.events
                    .iter()
                    .filter(|(message, _)| message == "backend event")
                    .map(|(_, scope)| scope.clone())
                    .collect()
            });
            let count = if self.backend.emits_events { count } else { 0 };
            assert_eq!(scopes, vec![expected; count], "{}", self.what);
        }
    }

    pub fn can_drop_in_on_event(&self) -> bool {
        !self.witnesses.is_empty()
    }

    /// Makes the caller's subscriber drop `what` inside its `on_event`.
    pub fn drop_in_on_event(&self, what: impl Send + 'static) {
        let log = &self.witnesses[0].log;
        log.load(what);
        self.within(|| info!("{DROP_IT}"));
    }

    /// Begins a lookup of `name` by another caller, with a strict subscriber.
    fn stranger(&self, name: &'static str) -> (Lookup, Witness) {
        let (own, witnesses) = subscriber(Caller::Strict);
        let resolver = self.resolver.clone();
        let span = dispatcher::with_default(&own, || info_span!("stranger"));
        let mut lookup: Lookup =
            Box::pin(async move { resolver.resolve(name).await }.instrument(span).with_subscriber(own));
        assert!(poll(&mut lookup).is_pending());
        (lookup, witnesses[0].clone())
    }
}

pub fn poll(lookup: &mut Lookup) -> Poll<Result<Addrs, Error>> {
    lookup.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

pub type Scenario = fn(&Cell);

/// Returns a backend of each kind that emits events, and a blocking one that emits none.
fn backends() -> impl Iterator<Item = Scripted> {
    let silent = |&kind: &Kind| if kind == Kind::Blocking { vec![true, false] } else { vec![true] };
    let backend = |(&kind, emits_events)| Scripted { emits_events, ..Scripted::new(kind) };
    Kind::ALL.iter().flat_map(move |kind| silent(kind).into_iter().map(move |emits| (kind, emits))).map(backend)
}

/// Runs one scenario with every caller's subscriber and every backend.
pub fn run(global_kind: Global, scenario: Scenario) {
    // One at a time, because they share the global subscriber and the count of panics.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let panics_before = panics::unexpected();
    let global = global(global_kind);

    for caller in CALLERS {
        for backend in backends() {
            let (own, witnesses) = match caller {
                Caller::None => (None, global.cloned().into_iter().collect()),
                scoped => {
                    let (own, witnesses) = subscriber(scoped);
                    (Some(own), witnesses)
                }
            };
            // Spans that stay open in the global subscriber. The caller's spans have the same ids in its own subscriber, so a
            // mix-up of the two closes a decoy.
            let decoys: Vec<Span> = (0..8).map(|_| info_span!("decoy")).collect();
            let global_before = global.map(|global| global.log.look(|seen| (seen.opened.len(), seen.events.len())));

            let resolver = backend.builder(1).build();
            let Scripted { kind, emits_events, .. } = backend;
            let what = format!("{global_kind:?} × {caller:?}, {kind:?}, emits events: {emits_events}");
            let cell = Cell { backend, resolver, own, witnesses, what: what.clone() };
            scenario(&cell);
            cell.backend.gate.open();
            cell.await_closed();

            for Witness { log, .. } in cell.witnesses.iter().chain(global) {
                assert_eq!(log.look(|seen| seen.failures.clone()), [""; 0], "{what}");
            }
            if let Some(global) = global {
                let decoys_open = global.log.look(|seen| seen.open.values().filter(|&&name| name == "decoy").count());
                assert_eq!(decoys_open, decoys.len(), "{what}: a stranger's span was closed");
                if caller != Caller::None {
                    let after = global.log.look(|seen| (seen.opened.len(), seen.events.len()));
                    assert_eq!(global_before, Some(after), "{what}: the global subscriber heard of it");
                } else {
                    global.log.forget_events();
                }
            }
            assert_eq!(panics::unexpected(), panics_before, "{what}: something panicked");
        }
    }
}

pub mod scenarios {
    use super::*;

    pub fn answered(cell: &Cell) {
        let addrs = block_on(cell.request("ok")).expect("an answer");
        assert_eq!(addrs.map(|addr| addr.ip()).collect::<Vec<_>>(), [crate::support::backend::ADDR]);
        cell.assert_closed();
        cell.assert_backend_events(1);
    }

    pub fn error(cell: &Cell) {
        assert!(block_on(cell.request("error")).expect_err("an error").is_not_found());
        cell.assert_closed();
        cell.assert_backend_events(1);
    }

    pub fn backend_panics(cell: &Cell) {
        let error = block_on(cell.request("panic")).expect_err("an error");
        assert_eq!(error.kind(), gaiter::ErrorKind::Panicked);
        cell.assert_closed();
        cell.assert_backend_events(1);
        block_on(cell.request("ok")).expect("the one thread there may be is still there");
    }

    pub fn dropped_while_queued(cell: &Cell) {
        let _open = OpenOnDrop(&cell.backend.gate);
        let _occupier = cell.occupy();
        drop(cell.begun("ok"));
        cell.assert_closed();
        assert_eq!(cell.backend.calls(), 1, "it was never called for");
    }

    pub fn dropped_while_running(cell: &Cell) {
        let _open = OpenOnDrop(&cell.backend.gate);
        let request = cell.begun("hang");
        cell.backend.gate.await_arrivals(1);
        cell.within(|| drop(request));
        cell.left_while_running();
        cell.backend.gate.open();
        cell.await_closed();
        cell.assert_backend_events(1);
    }

    pub fn starter_leaves_while_another_waits(cell: &Cell) {
        let _open = OpenOnDrop(&cell.backend.gate);
        let occupier = cell.occupy();
        let (starter, _) = cell.stranger("ok");
        let heir = cell.begun("ok");
        drop(starter);
        cell.backend.gate.open();
        block_on(heir).expect("an answer");
        block_on(occupier).expect("an answer");
        cell.assert_closed();
        cell.assert_backend_events(1);
    }

    pub fn request_span_closed_first(cell: &Cell) {
        let _open = OpenOnDrop(&cell.backend.gate);
        let lookup = cell.within(|| {
            let request = info_span!("request");
            let lookup = request.in_scope(|| cell.resolver.resolve("hang"));
            drop(request);
            lookup
        });
        cell.backend.gate.await_arrivals(1);
        cell.backend.gate.open();
        // The default here is another subscriber, or none.
        block_on(lookup).expect("an answer");
        cell.assert_closed();
        cell.assert_backend_events(1);
    }

    pub fn whole_with_subscriber_future_dropped(cell: &Cell) {
        let _open = OpenOnDrop(&cell.backend.gate);
        let request = cell.begun("hang");
        cell.backend.gate.await_arrivals(1);
        drop(request);
        cell.left_while_running();
        cell.backend.gate.open();
        cell.await_closed();
        cell.assert_backend_events(1);
    }

    pub fn dropped_inside_on_event(cell: &Cell) {
        if !cell.can_drop_in_on_event() {
            return;
        }
        let _open = OpenOnDrop(&cell.backend.gate);
        // Keeps a scoped subscriber alive. The driver leaves its own after each poll, and if that is the last one, tracing cannot
        // tell that it is inside a subscriber. See the crate docs.
        let _scoped =
            cell.backend.kind.stops().then(|| dispatcher::set_default(&dispatcher::get_default(Dispatch::clone)));
        let lookup = cell.within(|| info_span!("request").in_scope(|| cell.resolver.resolve("hang")));
        cell.backend.gate.await_arrivals(1);
        cell.drop_in_on_event(lookup);
        if cell.backend.kind.stops() || !cell.backend.emits_events {
            // The gate is still shut: an errand closes the spans.
            cell.await_closed();
        }
        cell.backend.gate.open();
        cell.await_closed();
        cell.assert_backend_events(1);

        // The same for a lookup that has completed without being polled.
        let lookup = cell.within(|| info_span!("request").in_scope(|| cell.resolver.resolve("ok")));
        block_on(cell.nobodys("ok")).expect("an answer");
        cell.drop_in_on_event(lookup);
        cell.await_closed();
    }

    pub fn callers_with_different_subscribers_share_a_flight(cell: &Cell) {
        let _open = OpenOnDrop(&cell.backend.gate);
        let occupier = cell.occupy();
        let ours = cell.begun("ok");
        let (theirs, stranger) = cell.stranger("ok");
        cell.backend.gate.open();
        let (ours, theirs) = block_on(async { futures::join!(ours, theirs) });
        assert!(ours.expect("an answer").eq(theirs.expect("an answer")));
        block_on(occupier).expect("an answer");
        assert_eq!(cell.backend.calls(), 2, "one for the occupier, one for both");
        cell.assert_closed();
        cell.assert_backend_events(1);
        stranger.log.look(|seen| {
            assert_eq!((seen.open.len(), seen.opened.len()), (0, 2), "its request and its `resolve`, both closed");
            assert!(seen.events.is_empty(), "the call ran inside the oldest waiter");
            assert_eq!(seen.failures, [""; 0]);
        });
    }

    pub fn runtime_dropped_mid_flight(cell: &Cell) {
        let _open = OpenOnDrop(&cell.backend.gate);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.spawn(cell.request("hang"));
        cell.backend.gate.await_arrivals(1);
        drop(runtime);
        cell.left_while_running();
        cell.backend.gate.open();
        cell.await_closed();
        cell.assert_backend_events(1);
    }
}

/// Declares the tests of the matrix for one global subscriber.
#[macro_export]
macro_rules! trace_matrix {
    ($global:expr) => {
        $crate::trace_matrix! { $global =>
            answered
            error
            backend_panics
            dropped_while_queued
            dropped_while_running
            starter_leaves_while_another_waits
            request_span_closed_first
            whole_with_subscriber_future_dropped
            dropped_inside_on_event
            callers_with_different_subscribers_share_a_flight
            runtime_dropped_mid_flight
        }
    };
    ($global:expr => $($scenario:ident)*) => {
        $(
            #[test]
            fn $scenario() {
                $crate::support::trace_matrix::run($global, $crate::support::trace_matrix::scenarios::$scenario);
            }
        )*
    };
}
