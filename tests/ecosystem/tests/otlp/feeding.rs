//! An exporter whose own lookups make spans feeds itself.

use gaiter::Resolver;
use gaiter_ecosystem::collector::Collector;
use gaiter_ecosystem::gate::Gate;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Dispatch, dispatcher, info_span};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, registry};

use super::{Processor, Tries, builder, layer, provider, subscriber};

const CYCLES: usize = 100;

/// Exports one request with its lookup, and then whatever comes, 100 times. Returns how many spans the collector got.
fn exported(exporters: Resolver, subscriber: fn(&SdkTracerProvider) -> Dispatch) -> usize {
    let collector = Collector::start();
    // The subscriber of the thread that exports, as a global one would be.
    let (give, given) = std::sync::mpsc::channel::<Dispatch>();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let provider = {
        let _entered = runtime.enter();
        provider(Processor::Tokio, ("collector.test", collector.port()), &exporters, Tries::Once)
    };
    let exporting = std::thread::spawn(move || {
        let dispatch = given.recv().expect("a subscriber");
        dispatcher::with_default(&dispatch, || _ = runtime.block_on(ended));
    });
    let dispatch = subscriber(&provider);
    give.send(dispatch.clone()).expect("it waits");
    let resolver = builder(&Gate::default()).build();
    dispatcher::with_default(&dispatch, || {
        info_span!("request").in_scope(|| resolver.resolve("ok.test").wait().expect("an answer"));
    });
    for _ in 0..CYCLES {
        provider.force_flush().expect("a flush");
    }
    provider.shutdown().expect("a clean end");
    drop(end);
    exporting.join().expect("no panic");
    let spans = collector.spans();
    assert!(
        spans.iter().any(|span| span.name == "request") && spans.iter().any(|span| span.name == "DNS lookup ok.test")
    );
    spans.len()
}

#[test]
fn each_export_makes_another_without_precautions() {
    assert_eq!(exported(builder(&Gate::default()).build(), subscriber), 2 + CYCLES);
}

#[test]
fn with_spans_off_nothing_is_exported_beyond_the_requests() {
    assert_eq!(exported(builder(&Gate::default()).spans(false).build(), subscriber), 2);
}

#[test]
fn with_a_filter_for_lookups_inside_requests_nothing_is_exported_beyond_them() {
    let filtered = |provider: &SdkTracerProvider| {
        let filter = dynamic_filter_fn(|meta, cx| meta.target() != "gaiter" || cx.lookup_current().is_some());
        registry().with(layer(provider).with_filter(filter)).into()
    };
    assert_eq!(exported(builder(&Gate::default()).build(), filtered), 2);
}
