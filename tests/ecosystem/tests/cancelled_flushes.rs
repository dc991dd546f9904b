//! 1,000 flushes of an exporter, each given up while its lookup hangs, leave nothing behind once the call ends.
//!
//! The only test of its binary, because it measures the process's memory.

#[path = "../../support/counting.rs"]
#[allow(dead_code, reason = "only bytes are counted here")]
mod counting;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use counting::Counting;
use gaiter::{CacheConfig, ErrorKind, Hedge, Resolver, Untraced};
use gaiter_ecosystem::collector::{listen, port_of};
use gaiter_ecosystem::gate::{Gate, OpenOnDrop};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::runtime;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{BatchConfigBuilder, SdkTracerProvider};
use tracing::span::{Attributes, Id};
use tracing::{Dispatch, Subscriber, dispatcher, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FLUSHES: u64 = 1_000;

/// Counts the spans that are open.
#[derive(Clone, Default)]
struct Open(Arc<AtomicIsize>);

impl<S: Subscriber> Layer<S> for Open {
    fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn round(port: u16) {
    let gate = Gate::default();
    let open = OpenOnDrop(&gate);
    let passed = gate.clone();
    let backend = move |_: &str| {
        passed.pass();
        Ok::<_, ErrorKind>(IpAddr::V4(Ipv4Addr::LOCALHOST))
    };
    let resolver = Resolver::builder().backend(Untraced(backend)).cache(CacheConfig::disabled()).hedge(Hedge::off());
    let resolver = resolver.max_lookups(1).build();
    let client = reqwest::Client::builder().dns_resolver(resolver.clone()).no_proxy().build().expect("a client");
    let exporter =
        SpanExporter::builder().with_http().with_http_client(client).with_timeout(Duration::from_millis(100));
    let exporter =
        exporter.with_endpoint(format!("http://collector.test:{port}/v1/traces")).build().expect("an exporter");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let provider = {
        let _entered = runtime.enter();
        let config = BatchConfigBuilder::default().with_scheduled_delay(Duration::from_secs(3600));
        let config = config.with_max_export_timeout(Duration::from_millis(1)).build();
        let batch = BatchSpanProcessor::builder(exporter, runtime::Tokio).with_batch_config(config).build();
        SdkTracerProvider::builder().with_span_processor(batch).build()
    };
    let spans = Open::default();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer).with(spans.clone()));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let theirs = dispatch.clone();
    let exporting = std::thread::spawn(move || dispatcher::with_default(&theirs, || _ = runtime.block_on(ended)));

    for _ in 0..FLUSHES {
        dispatcher::with_default(&dispatch, || drop(info_span!("request")));
        provider.force_flush().expect_err("it is given up");
    }
    // The gate is still shut.
    let stats = resolver.stats();
    assert_eq!((stats.started, stats.cancelled, stats.running, stats.queued), (FLUSHES, FLUSHES, 1, 0));
    assert_eq!((gate.arrived(), spans.0.load(Ordering::SeqCst)), (1, 0));
    drop(open);
    _ = provider.shutdown();
    drop(end);
    exporting.join().expect("no panic");
    assert!(resolver.shutdown().wait().is_clean());
    assert_eq!(spans.0.load(Ordering::SeqCst), 0);
}

#[test]
fn not_a_byte_is_left() {
    let port = {
        let listener = listen();
        port_of(&listener)
    };
    // These rounds make the allocations that are made once and kept.
    round(port);
    round(port);
    for _ in 0..2 {
        let before = Counting::bytes();
        round(port);
        assert_eq!(Counting::bytes() - before, 0);
    }
}
