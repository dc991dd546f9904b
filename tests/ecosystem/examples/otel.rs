//! Requests with their lookups as traces, and a resolver's metrics, printed by OpenTelemetry's exporters to the standard output.
//!
//! ```sh
//! cargo run -p gaiter-ecosystem --example otel
//! ```
//!
//! It serves a page on loopback, fetches it twice by name, and asks for a name that does not exist. Of each request it prints a span
//! `request`, and of each lookup a span `DNS lookup …` with the request as its parent. The second request makes no lookup: its answer is
//! in the cache. The metrics come at the end. Shortened:
//!
//! ```text
//! http://localhost:46289/: 200 OK
//! http://localhost:46289/: 200 OK
//! http://name.invalid/: failed to resolve name.invalid: Name or service not known (EAI_NONAME)
//! Spans
//! …
//!     Name         : DNS lookup localhost
//!     TraceId      : e7554f168640695c9a0ffb80c9590125
//!     SpanId       : 95c31cd21c74da6b
//!     ParentSpanId : 6b0b6c00b03275a9
//!     Attributes:
//!          ->  dns.question.name: String(Owned("localhost"))
//!          ->  gaiter.call_us: I64(90)
//!          ->  gaiter.source: String(Owned("lookup"))
//!          ->  dns.answers: String(Owned("[\"127.0.0.1\"]"))
//! …
//!     Name         : request
//!     TraceId      : e7554f168640695c9a0ffb80c9590125
//!     SpanId       : 6b0b6c00b03275a9
//!     Attributes:
//!          ->  url: String(Owned("http://localhost:46289/"))
//! …
//! Metrics
//! …
//!     Name         : gaiter.hits
//!         Value        : 1
//! …
//!     Name         : dns.lookup.duration
//!     Unit         : s
//!         Count        : 1
//!              ->  error.type: EAI_NONAME
//! ```
//!
//! A program that exports by OTLP uses the exporter of `opentelemetry-otlp` in place of `opentelemetry_stdout`, with a client that has a
//! resolver of its own, built with `spans(false)`.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use gaiter::Resolver;
use metrics_opentelemetry::{OpenTelemetryMetrics, OpenTelemetryRecorder};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpListener;
use tracing::{Instrument, info_span};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, registry};

/// In seconds, as the semantic conventions recommend. OpenTelemetry's defaults are for milliseconds.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let traces =
        SdkTracerProvider::builder().with_batch_exporter(opentelemetry_stdout::SpanExporter::default()).build();
    // `otel` is this program, and `gaiter` its lookups.
    let targets: Targets = "otel=info,gaiter=debug".parse()?;
    let layer =
        tracing_opentelemetry::layer().with_tracer(traces.tracer("otel")).with_location(false).with_threads(false);
    registry().with(layer.with_filter(targets)).init();

    let metrics =
        SdkMeterProvider::builder().with_periodic_exporter(opentelemetry_stdout::MetricExporter::default()).build();
    let recorder = OpenTelemetryRecorder::new(OpenTelemetryMetrics::new(metrics.meter("otel")));
    recorder.set_histogram_bounds(["dns.lookup.duration"].into_iter(), &BUCKETS);
    metrics::set_global_recorder(recorder).map_err(|_| "a recorder is installed already")?;

    let resolver = Resolver::new();
    // Describes the metrics. A server calls it at an interval.
    resolver.publish_metrics();
    let client =
        reqwest::Client::builder().dns_resolver(resolver.clone()).pool_max_idle_per_host(0).no_proxy().build()?;
    let listener = TcpListener::bind("localhost:0").await?;
    let page = format!("http://localhost:{}/", listener.local_addr()?.port());
    tokio::spawn(async { axum::serve(listener, Router::new().route("/", get(async || "hello"))).await });
    for url in [&*page, &*page, "http://name.invalid/"] {
        let request = info_span!("request", url, otel.kind = "client");
        match client.get(url).send().instrument(request).await {
            Ok(response) => println!("{url}: {}", response.status()),
            Err(error) => println!("{url}: {}", reason(&error)),
        }
    }

    // The exporters end before the resolver that theirs may use.
    resolver.publish_metrics();
    traces.shutdown()?;
    metrics.shutdown()?;
    let report = resolver.shutdown().within(Duration::from_secs(5)).await;
    if report.is_clean() { Ok(()) } else { Err(report.to_string().into()) }
}

/// Returns the error of the lookup, if there is one among the causes.
fn reason<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut causes = std::iter::successors(Some(error), |&cause| cause.source());
    causes.find(|cause| cause.is::<gaiter::Error>()).unwrap_or(error)
}
