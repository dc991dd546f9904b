//! Pingora's backends are the addresses that a name has now.

#[path = "../recipes/pingora_discovery.rs"]
mod recipe;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use gaiter::{CacheConfig, ErrorKind, Resolver};
use gaiter_ecosystem::WATCHDOG;
use pingora_load_balancing::discovery::ServiceDiscovery;

#[tokio::test]
async fn backends_follow_a_name_and_stay_while_dns_is_down() {
    // The last byte of the address, or 0 while DNS is down.
    let last = Arc::new(AtomicU8::new(1));
    let answers = Arc::clone(&last);
    let lookup = move |_: &str| match answers.load(Ordering::SeqCst) {
        0 => Err(ErrorKind::Temporary),
        last => Ok(IpAddr::from([192, 0, 2, last])),
    };
    let cache = CacheConfig::new().ttl(Duration::ZERO).cooldown(Duration::from_millis(1));
    let resolver = Resolver::builder().backend(lookup).cache(cache).build();
    let discovery = recipe::Discovery::new(resolver.watch("a.test"), 80);
    let discover = async || {
        let (backends, _) = discovery.discover().await.expect("backends");
        backends.into_iter().map(|backend| backend.addr.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(discover().await, ["192.0.2.1:80"]);

    last.store(2, Ordering::SeqCst);
    let moved = async {
        while discover().await != ["192.0.2.2:80"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WATCHDOG, moved).await.expect("the name has moved");

    last.store(0, Ordering::SeqCst);
    let mut failures = resolver.watch("a.test");
    let failed = async {
        while failures.last_error().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WATCHDOG, failed).await.expect("a lookup has failed");
    assert_eq!(discover().await, ["192.0.2.2:80"]);
    assert!(failures.changed().await.is_ok());

    resolver.close();
    let error = discovery.discover().await.expect_err("the resolver is closed");
    assert!(error.to_string().contains("closed"), "{error}");
}
