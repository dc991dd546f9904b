//! A call that hangs in a program's own backend holds its caller's spans until it returns, unless the backend is `Untraced`.

mod support;

use gaiter::{Backend, ErrorKind, Resolving, Untraced};
use support::backend::ADDR;
use support::gate::{Gate, OpenOnDrop};
use support::log::Log;
use support::strict::Strict;
use tracing::{Dispatch, dispatcher, info_span};

/// Drops a lookup while its call hangs at the gate, and returns the spans that are then open.
fn open_while_the_call_hangs(backend: impl Backend, gate: &Gate) -> Vec<&'static str> {
    let _open = OpenOnDrop(gate);
    let log = Log::default();
    let resolver = support::plain().backend(backend).build();
    let own = Dispatch::new(Strict::new(log.clone()));
    let lookup: Resolving =
        dispatcher::with_default(&own, || info_span!("request").in_scope(|| resolver.resolve("hang.example")));
    gate.await_arrivals(1);
    assert_eq!(log.look(|seen| seen.open.len()), 2, "a request and its `resolve`");
    drop(lookup);
    let mut open: Vec<_> = log.look(|seen| seen.open.values().copied().collect());
    open.sort_unstable();

    gate.open();
    log.await_closed();
    log.look(|seen| {
        assert_eq!(seen.failures, [""; 0]);
        let events: &[&str] = if open.is_empty() { &[] } else { &["inside the call"] };
        assert_eq!(seen.events.iter().map(|(message, _)| message).collect::<Vec<_>>(), events);
    });
    open
}

fn hanging(gate: &Gate) -> impl Backend + use<> {
    let gate = gate.clone();
    move |_: &str| {
        tracing::info!("inside the call");
        gate.pass();
        Ok::<_, ErrorKind>([ADDR])
    }
}

#[test]
fn an_untraced_closure_holds_no_span() {
    let gate = Gate::default();
    assert_eq!(open_while_the_call_hangs(Untraced(hanging(&gate)), &gate), [""; 0]);
}

#[test]
fn a_closure_by_itself_holds_its_callers_spans() {
    let gate = Gate::default();
    assert_eq!(open_while_the_call_hangs(hanging(&gate), &gate), ["request", "resolve"]);
}
