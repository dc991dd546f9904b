//! The resolvers in use today.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use gaiter::{CacheConfig, Hickory, Resolver};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service as _;

/// The usual cache around hyper-util's resolver, as programs copy it: clones an answer out of the map under a read lock, unless
/// it has expired.
#[derive(Clone, Default)]
pub struct Pasted {
    entries: Arc<RwLock<Entries>>,
}

/// The expiry and the addresses of each name.
type Entries = HashMap<String, (Instant, Vec<SocketAddr>)>;

impl Pasted {
    pub fn insert(&self, name: &str, addrs: Vec<SocketAddr>) {
        let expires = Instant::now() + Duration::from_secs(3600);
        self.entries.write().unwrap().insert(name.to_owned(), (expires, addrs));
    }

    pub fn call(&self, name: Name) -> impl Future<Output = Option<std::vec::IntoIter<SocketAddr>>> + Unpin + use<> {
        let entries = self.entries.read().unwrap();
        let kept = entries.get(name.as_str()).filter(|(expires, _)| Instant::now() < *expires);
        // For `None`, the real thing asks `GaiResolver`.
        std::future::ready(kept.map(|(_, addrs)| addrs.clone().into_iter()))
    }
}

/// A resolver to compare.
#[derive(Clone)]
pub enum Peer {
    Gaiter(Resolver),
    Gai,
    LookupHost,
    Hickory(Arc<TokioResolver>),
}

impl Peer {
    /// Returns a peer without a cache. hickory asks for both families at once, as glibc does.
    pub fn named(who: &str) -> Self {
        match who {
            "gaiter" => Self::Gaiter(Resolver::builder().cache(CacheConfig::disabled()).build()),
            "gaiter's Hickory" => Self::Gaiter(through_gaiter()),
            "GaiResolver" => Self::Gai,
            "lookup_host" => Self::LookupHost,
            "hickory" => Self::Hickory(Arc::new(hickory(false))),
            _ => panic!("no peer {who}"),
        }
    }

    /// Returns whether `name` has addresses.
    pub async fn lookup(&self, name: String) -> bool {
        match self {
            Self::Gaiter(resolver) => resolver.resolve(name).await.is_ok_and(|addrs| addrs.len() > 0),
            Self::Gai => gai(&name).await.is_ok_and(|count| count > 0),
            Self::LookupHost => lookup_host(&name).await.is_ok_and(|count| count > 0),
            Self::Hickory(resolver) => resolver.lookup_ip(name).await.is_ok_and(|found| found.iter().count() > 0),
        }
    }
}

/// Looks `name` up with hyper-util's resolver, which is also reqwest's default.
pub async fn gai(name: &str) -> std::io::Result<usize> {
    let name: Name = name.parse().expect("any text is one");
    Ok(GaiResolver::new().call(name).await?.count())
}

/// Looks `name` up with Tokio's resolver.
pub async fn lookup_host(name: &str) -> std::io::Result<usize> {
    Ok(tokio::net::lookup_host((name, 0)).await?.count())
}

/// Returns gaiter with hickory as its backend: the same server, no timeout, and room for all lookups of a scenario at once.
fn through_gaiter() -> Resolver {
    let hickory = Hickory::with_servers([SocketAddr::from(([127, 0, 0, 1], 53))]).expect("a hosts file");
    let builder = Resolver::builder().cache(CacheConfig::disabled()).async_backend(hickory);
    builder.max_lookups(20_000).timeout(None).build()
}

/// Returns hickory used directly, with the test bed's server as its only one.
pub fn hickory(cache: bool) -> TokioResolver {
    hickory_at(IpAddr::from([127, 0, 0, 1]), cache)
}

pub fn hickory_at(server: IpAddr, cache: bool) -> TokioResolver {
    let server = NameServerConfig::udp_and_tcp(server);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = if cache { 1 << 20 } else { 0 };
    options.use_hosts_file = ResolveHosts::Never;
    // As long as glibc waits.
    options.timeout = Duration::from_secs(5);
    // Both families at once, as glibc asks.
    options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    builder.build().expect("nothing that could fail")
}
