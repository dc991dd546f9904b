//! Metrics of a resolver, scraped by HTTP from an exporter for Prometheus.

#[path = "../recipes/prometheus.rs"]
mod recipe;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use gaiter::{CacheConfig, ErrorKind, Resolver};
use recipe::BUCKETS;

#[tokio::test]
async fn a_scrape_has_the_durations_in_their_buckets_and_agrees_with_the_statistics() {
    let handle = recipe::install().expect("the only recorder");
    let backend = |name: &str| match name {
        "slow.test" => {
            std::thread::sleep(Duration::from_millis(60));
            Ok(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
        "missing.test" => Err(ErrorKind::NotFound),
        _ => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    // Fresh for as long as this takes.
    let cache = CacheConfig::new().ttl(Duration::from_secs(3600));
    let resolver = Resolver::builder().backend(backend).cache(cache).hedge(gaiter::Hedge::off()).build();
    for name in ["slow.test", "fast.test", "fast.test", "fast.test"] {
        resolver.resolve(name).await.expect("an answer");
    }
    resolver.resolve("missing.test").await.expect_err("no such name");

    let ours = resolver.clone();
    let page = get(async move || recipe::page(&handle, &ours));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", page)).await });
    // Resolves its own name here, before the page is made.
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let scrape = async || {
        let page = client.get(format!("http://127.0.0.1:{port}/metrics")).send().await.expect("a page");
        samples(&page.text().await.expect("text"))
    };
    let samples = scrape().await;
    let value = |sample: &str| *samples.get(sample).unwrap_or_else(|| panic!("no {sample} in {samples:#?}"));

    assert_eq!(value("dns_lookup_duration_count"), 2.0);
    assert_eq!(value(r#"dns_lookup_duration_count{error_type="not_found"}"#), 1.0);
    for bound in BUCKETS {
        let count = value(&format!(r#"dns_lookup_duration_bucket{{le="{bound}"}}"#));
        // The slow one is in no bucket below what it slept.
        assert!(if bound < 0.06 { count <= 1.0 } else { count <= 2.0 }, "{bound}: {count}");
    }
    assert_eq!(value(r#"dns_lookup_duration_bucket{le="+Inf"}"#), 2.0);
    assert!(value("dns_lookup_duration_sum") >= 0.06);

    let stats = resolver.stats();
    for (sample, count) in [
        ("gaiter_hits", stats.hits),
        ("gaiter_started", stats.started),
        ("gaiter_refused", stats.refused),
        ("gaiter_hedged", stats.hedged),
        ("gaiter_refreshed", stats.refreshed),
        ("gaiter_stale", stats.stale),
        ("gaiter_cached_names", stats.cached_names as u64),
        ("gaiter_running", stats.running as u64),
        ("gaiter_queued", stats.queued as u64),
        ("gaiter_threads", stats.threads as u64),
    ] {
        assert_eq!(value(sample), count as f64, "{sample}");
    }
    assert_eq!((stats.hits, stats.started, stats.cached_names), (2, 3, 3));
    assert_eq!(scrape().await["gaiter_hits"], 2.0, "a second scrape adds nothing");
}

/// Returns the samples of a page, by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect(line))
        .map(|(id, value)| (id.to_owned(), value.parse().expect(value)))
        .collect()
}
