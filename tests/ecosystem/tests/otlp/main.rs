//! gaiter under OpenTelemetry's exporter over HTTP, and its lookups as a collector gets them.

mod exported;
mod feeding;
mod moved;
mod orders;

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gaiter::{Backend, Builder, CacheConfig, ErrorKind, Hedge, Resolver, Untraced};
use gaiter_ecosystem::WATCHDOG;
use gaiter_ecosystem::gate::Gate;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::runtime;
use opentelemetry_sdk::trace::span_processor_with_async_runtime as on_runtime;
use opentelemetry_sdk::trace::{BatchConfig, BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Where the spans are batched and exported.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Processor {
    /// On a thread of its own, with reqwest's blocking client.
    Thread,
    /// In the program's runtime.
    Tokio,
    /// In a runtime of its own.
    CurrentThread,
}

const PROCESSORS: [Processor; 3] = [Processor::Thread, Processor::Tokio, Processor::CurrentThread];

/// A name that starts with `hang` stops at the gate, `missing` does not exist, and all others are this machine.
fn backend(gate: &Gate) -> impl Backend + use<> {
    let gate = gate.clone();
    move |name: &str| match name {
        _ if name.starts_with("missing") => Err(ErrorKind::NotFound),
        _ => {
            if name.starts_with("hang") {
                gate.pass();
            }
            Ok(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
    }
}

/// Returns a builder of a resolver that makes a call for each connection. As with the system's lookups, a call holds no spans.
fn builder(gate: &Gate) -> Builder {
    Resolver::builder().backend(Untraced(backend(gate))).cache(CacheConfig::disabled()).hedge(Hedge::off())
}

/// How long a request of an exporter waits that is to fail.
const TIMEOUT: Duration = Duration::from_millis(200);

/// What an exporter does when a request fails.
#[derive(Clone, Copy, PartialEq)]
enum Tries {
    /// Waits as long as it takes, and tries once: a request that the collector gets late is not sent twice.
    Once,
    /// Waits for [`TIMEOUT`], and tries for twice as long.
    Again,
}

impl Tries {
    fn timeout(self) -> Duration {
        if self == Self::Once { WATCHDOG } else { TIMEOUT }
    }

    fn exporter(self, host: &str, port: u16, client: impl HttpClient + 'static) -> SpanExporter {
        let retries = if self == Self::Once { RetryPolicy::disabled() } else { RetryPolicy::default() };
        let exporter = SpanExporter::builder().with_http().with_http_client(client).with_retry_policy(retries);
        let exporter = exporter.with_timeout(2 * self.timeout());
        exporter.with_endpoint(format!("http://{host}:{port}/v1/traces")).build().expect("an exporter")
    }
}

/// Exports only when told to.
fn batches() -> BatchConfig {
    BatchConfigBuilder::default().with_scheduled_delay(Duration::from_secs(3600)).build()
}

/// Returns a provider whose spans go to a port of `host`. Must be called in a runtime's context.
fn provider(processor: Processor, (host, port): (&str, u16), resolver: &Resolver, tries: Tries) -> SdkTracerProvider {
    let provider = SdkTracerProvider::builder();
    // Makes a connection for each request.
    let client = || {
        let client = reqwest::Client::builder().dns_resolver(resolver.clone()).pool_max_idle_per_host(0);
        client.no_proxy().timeout(tries.timeout()).build().expect("a client")
    };
    match processor {
        Processor::Thread => {
            let client =
                reqwest::blocking::Client::builder().dns_resolver(resolver.clone().into()).pool_max_idle_per_host(0);
            let client = client.no_proxy().timeout(tries.timeout()).build().expect("a client");
            let exporter = tries.exporter(host, port, client);
            provider.with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches()).build())
        }
        Processor::Tokio => {
            let exporter = tries.exporter(host, port, client());
            let batch = on_runtime::BatchSpanProcessor::builder(exporter, runtime::Tokio);
            provider.with_span_processor(batch.with_batch_config(batches()).build())
        }
        Processor::CurrentThread => {
            let exporter = tries.exporter(host, port, client());
            let batch = on_runtime::BatchSpanProcessor::builder(exporter, runtime::TokioCurrentThread);
            provider.with_span_processor(batch.with_batch_config(batches()).build())
        }
    }
    .build()
}

/// Returns a subscriber whose spans go to the provider.
fn subscriber(provider: &SdkTracerProvider) -> Dispatch {
    tracing_subscriber::registry().with(layer(provider)).into()
}

fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer("test"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}
