//! The resolvers in use today.

use std::collections::HashMap;
use std::future::{Ready, poll_fn, ready};
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gaiter::{CacheConfig, Hickory, Resolver};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

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
}

impl Service<Name> for Pasted {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ();
    type Future = Ready<Result<Self::Response, ()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let entries = self.entries.read().unwrap();
        let kept = entries.get(name.as_str()).filter(|(expires, _)| Instant::now() < *expires);
        // Without an entry, the real thing asks `GaiResolver`.
        ready(kept.map(|(_, addrs)| addrs.clone().into_iter()).ok_or(()))
    }
}

/// Parses addresses, and resolves nothing.
#[derive(Clone)]
pub struct Parsing;

impl Service<Name> for Parsing {
    type Response = std::iter::Once<SocketAddr>;
    type Error = std::net::AddrParseError;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        ready(name.as_str().parse().map(|ip| std::iter::once(SocketAddr::new(ip, 0))))
    }
}

/// hickory as reqwest's feature `hickory-dns` uses it.
#[derive(Clone)]
pub struct Direct(pub Arc<TokioResolver>);

impl Service<Name> for Direct {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = hickory_resolver::net::NetError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await?;
            Ok(found.iter().map(|ip| SocketAddr::new(ip, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

/// Resolves `name` as hyper-util's `HttpConnector` does, and reads every address: clones the resolver, makes a `Name`, and awaits
/// readiness and the answer.
///
/// Returns the number of addresses, or `None` if there is no answer.
pub async fn connect<S>(resolver: &S, name: &str) -> Option<usize>
where
    S: Service<Name, Response: Iterator<Item = SocketAddr>> + Clone,
{
    let mut resolver = resolver.clone();
    let name: Name = name.parse().expect("any text is a name");
    poll_fn(|cx| resolver.poll_ready(cx)).await.ok()?;
    let addrs = resolver.call(name).await.ok()?;
    Some(addrs.map(black_box).count())
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
    /// Returns a peer without a cache, or one with the system's settings and a cache. hickory asks for both families at once, as glibc does.
    pub fn named(who: &str) -> Self {
        match who {
            "gaiter" => Self::Gaiter(Resolver::builder().cache(CacheConfig::disabled()).build()),
            "gaiter's Hickory" => Self::Gaiter(through_gaiter()),
            "Hickory::from_system" => Self::Gaiter(from_system(1)),
            "Hickory::from_system on 2 drivers" => Self::Gaiter(from_system(2)),
            "hickory from_system" => {
                Self::Hickory(Arc::new(built(TokioResolver::builder_tokio().expect("a resolv.conf"))))
            }
            "GaiResolver" => Self::Gai,
            "lookup_host" => Self::LookupHost,
            "hickory" => Self::Hickory(Arc::new(hickory(false))),
            _ => panic!("no peer {who}"),
        }
    }

    /// Returns gaiter with hickory as its backend, by the system's configuration, without a cache.
    pub fn through_system_hickory() -> Self {
        let hickory = Hickory::from_system().expect("a configuration");
        Self::Gaiter(Resolver::builder().cache(CacheConfig::disabled()).async_backend(hickory).build())
    }

    /// Returns whether `name` has addresses.
    pub async fn lookup(&self, name: String) -> bool {
        let found = match self {
            Self::Gaiter(resolver) => connect(resolver, &name).await,
            Self::Gai => connect(&GaiResolver::new(), &name).await,
            Self::LookupHost => lookup_host(&name).await,
            Self::Hickory(resolver) => connect(&Direct(Arc::clone(resolver)), &name).await,
        };
        found.is_some_and(|count| count > 0)
    }
}

/// Looks `name` up with Tokio's resolver, and reads every address.
pub async fn lookup_host(name: &str) -> Option<usize> {
    Some(tokio::net::lookup_host((name, 0)).await.ok()?.map(black_box).count())
}

/// Returns gaiter with hickory as its backend: the same server, no timeout, and room for all lookups of a scenario at once.
fn through_gaiter() -> Resolver {
    let hickory = Hickory::with_servers([SocketAddr::from(([127, 0, 0, 1], 53))]).expect("a hosts file");
    let builder = Resolver::builder().cache(CacheConfig::disabled()).async_backend(hickory);
    builder.max_lookups(20_000).timeout(None).build()
}

/// Returns gaiter with hickory as its backend, as programs have it.
fn from_system(drivers: usize) -> Resolver {
    let hickory = Hickory::from_system().expect("a resolv.conf");
    Resolver::builder().async_backend(hickory).driver_threads(drivers).build()
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
    built(builder)
}

fn built(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> TokioResolver {
    // Both families at once, as glibc asks.
    builder.options_mut().ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    builder.build().expect("nothing that could fail")
}
