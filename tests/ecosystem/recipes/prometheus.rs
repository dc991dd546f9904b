//! Prometheus: `install` comes before the first lookup, and `page` answers each scrape.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Those that the semantic conventions of OpenTelemetry recommend, in seconds.
pub const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

pub fn install() -> Result<PrometheusHandle, BuildError> {
    let duration = Matcher::Full("dns.lookup.duration".into());
    PrometheusBuilder::new().set_buckets_for_metric(duration, &BUCKETS)?.install_recorder()
}

pub fn page(handle: &PrometheusHandle, resolver: &gaiter::Resolver) -> String {
    resolver.publish_metrics();
    handle.render()
}
