//! OpenTelemetry: exports spans by OTLP. The exporter's own lookups have none.

use std::error::Error;
use std::time::Duration;

use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::SdkTracerProvider;

/// Must not be called from async code, where reqwest's blocking client panics.
pub fn provider(endpoint: &str) -> Result<SdkTracerProvider, Box<dyn Error>> {
    let resolver = gaiter::Resolver::builder().spans(false).timeout(Duration::from_secs(5)).build();
    // Blocking, because the batch processor exports on a thread without a runtime.
    let client = reqwest::blocking::Client::builder().dns_resolver(resolver.into());
    let client = client.timeout(Duration::from_secs(8)).build()?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(endpoint).build()?;
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).build())
}
