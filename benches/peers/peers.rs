//! What people use today.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service as _;

/// The cache that people paste around hyper-util's resolver: the answer cloned out of the map under a read lock, unless it
/// has expired.
#[derive(Clone, Default)]
pub struct Pasted {
    entries: Arc<RwLock<Entries>>,
}

/// When each expires, and what it gives.
type Entries = HashMap<String, (Instant, Vec<SocketAddr>)>;

impl Pasted {
    pub fn insert(&self, name: &str, addrs: Vec<SocketAddr>) {
        let expires = Instant::now() + Duration::from_secs(3600);
        self.entries.write().unwrap().insert(name.to_owned(), (expires, addrs));
    }

    pub fn call(&self, name: Name) -> impl Future<Output = Option<std::vec::IntoIter<SocketAddr>>> + Unpin + use<> {
        let entries = self.entries.read().unwrap();
        let kept = entries.get(name.as_str()).filter(|(expires, _)| Instant::now() < *expires);
        // Where this gives nothing, the real thing asks `GaiResolver`.
        std::future::ready(kept.map(|(_, addrs)| addrs.clone().into_iter()))
    }
}

/// hyper-util's resolver.
pub async fn gai(name: &str) -> std::io::Result<usize> {
    let name: Name = name.parse().expect("any text is one");
    Ok(GaiResolver::new().call(name).await?.count())
}

/// Tokio's own.
pub async fn lookup_host(name: &str) -> std::io::Result<usize> {
    Ok(tokio::net::lookup_host((name, 0)).await?.count())
}

/// hickory used directly, with the server of the test bed for its only one.
pub fn hickory(cache: bool) -> TokioResolver {
    let server = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = if cache { 1024 } else { 0 };
    options.use_hosts_file = ResolveHosts::Never;
    // What glibc waits for.
    options.timeout = Duration::from_secs(5);
    // As glibc asks.
    options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    builder.build().expect("nothing that could fail")
}
