//! The ends of an exporter, its resolver and the program's runtime, in any order.

use std::net::TcpListener;
use std::sync::mpsc;

use gaiter_ecosystem::collector::{Collector, listen, port_of};
use gaiter_ecosystem::gate::{Gate, OpenOnDrop};
use gaiter_ecosystem::{WATCHDOG, panics};
use tracing::{dispatcher, info_span};

use super::{Processor, TIMEOUT, Tries, builder, provider, runtime, subscriber};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Exporter,
    Resolver,
    Runtime,
}

use Part::{Exporter, Resolver, Runtime};

const ORDERS: [[Part; 3]; 6] = [
    [Exporter, Resolver, Runtime],
    [Exporter, Runtime, Resolver],
    [Resolver, Exporter, Runtime],
    [Resolver, Runtime, Exporter],
    [Runtime, Exporter, Resolver],
    [Runtime, Resolver, Exporter],
];

/// What the collector does.
enum State {
    Up(Collector),
    Refuses(u16),
    Unresolvable,
    /// Accepts connections and never answers.
    Hangs(TcpListener),
    LookupHangs,
}

impl State {
    fn all() -> [Self; 5] {
        let refuses = port_of(&listen());
        [
            Self::Up(Collector::start()),
            Self::Refuses(refuses),
            Self::Unresolvable,
            Self::Hangs(listen()),
            Self::LookupHangs,
        ]
    }

    fn place(&self) -> (&'static str, u16) {
        match self {
            Self::Up(collector) => ("collector.test", collector.port()),
            Self::Refuses(port) => ("collector.test", *port),
            Self::Unresolvable => ("missing.test", 1),
            Self::Hangs(listener) => ("collector.test", port_of(listener)),
            Self::LookupHangs => ("hang.test", 1),
        }
    }
}

/// Ends the parts in this order, with one span that is not exported yet.
fn run(processor: Processor, state: &State, order: [Part; 3]) {
    let gate = Gate::default();
    let _open = OpenOnDrop(&gate);
    let resolver = builder(&gate).spans(false).build();
    let tries = if let State::Up(_) = state { Tries::Once } else { Tries::Again };
    let runtime = runtime();
    let provider = {
        let _entered = runtime.enter();
        provider(processor, state.place(), &resolver, tries)
    };
    dispatcher::with_default(&subscriber(&provider), || drop(info_span!("request")));
    let mut runtime = Some(runtime);
    for part in order {
        match part {
            // Not each processor returns the error of its last export.
            Exporter => _ = provider.shutdown(),
            Resolver => {
                let hangs = matches!(state, State::LookupHangs);
                let report = resolver.shutdown().within(if hangs { TIMEOUT } else { WATCHDOG }).wait();
                assert!(hangs || report.is_clean(), "{report}");
            }
            Runtime => drop(runtime.take()),
        }
    }
    let comes_before = |a, b| order.iter().position(|&part| part == a) < order.iter().position(|&part| part == b);
    let is_clean =
        comes_before(Exporter, Resolver) && (processor != Processor::Tokio || comes_before(Exporter, Runtime));
    if let State::Up(collector) = state {
        assert_eq!(collector.spans().len(), usize::from(is_clean), "{processor:?}, {order:?}");
    }
}

fn all_orders(processor: Processor) {
    let before = panics::unexpected();
    let (done, is_done) = mpsc::channel();
    for order in ORDERS {
        for state in State::all() {
            let done = done.clone();
            std::thread::spawn(move || {
                run(processor, &state, order);
                done.send(()).expect("the test waits");
            });
        }
    }
    drop(done);
    for _ in 0..ORDERS.len() * State::all().len() {
        // Fails if a run panics, for then nobody is left who could send.
        is_done.recv_timeout(WATCHDOG).expect("every run ends");
    }
    assert_eq!(panics::unexpected(), before);
}

#[test]
fn no_order_panics_hangs_or_loses_what_a_clean_one_keeps_on_a_thread() {
    all_orders(Processor::Thread);
}

#[test]
fn no_order_panics_hangs_or_loses_what_a_clean_one_keeps_on_tokio() {
    all_orders(Processor::Tokio);
}

#[test]
fn no_order_panics_hangs_or_loses_what_a_clean_one_keeps_on_a_current_thread() {
    all_orders(Processor::CurrentThread);
}
