//! A gRPC client whose server moves to another address, with an RPC every 20 milliseconds.
//!
//! Linux lets a server listen on every address of 127.0.0.0/8.
#![cfg(target_os = "linux")]

#[path = "../recipes/tonic_balance.rs"]
mod tonic_balance;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gaiter::{CacheConfig, ErrorKind, Reconnect, Resolver};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::InterceptorLayer;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const HOUR: Duration = Duration::from_secs(3600);
const PACE: Duration = Duration::from_millis(20);

/// The last byte of an address.
const OLD: u8 = 2;
const NEW: u8 = 3;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// A server in a runtime of its own, with which all its connections end, and the number of its RPCs.
struct Service(Option<Runtime>, Arc<AtomicUsize>);

impl Service {
    fn start(listener: std::net::TcpListener) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let rpcs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&rpcs);
        let count = InterceptorLayer::new(move |request: Request<()>| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Status>(request)
        });
        runtime.spawn(async {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            Server::builder().layer(count).add_service(health).serve_with_incoming(incoming).await.unwrap();
        });
        Self(Some(runtime), rpcs)
    }

    fn rpcs(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|runtime| runtime.shutdown_timeout(Duration::from_secs(60)));
    }
}

fn listen(last: u8, port: u16) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((ip(last), port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Returns listeners at both addresses, with the same port.
fn listeners() -> (std::net::TcpListener, std::net::TcpListener, u16) {
    loop {
        let old = listen(OLD, 0).unwrap();
        let port = old.local_addr().unwrap().port();
        if let Ok(new) = listen(NEW, port) {
            return (old, new, port);
        }
    }
}

/// The name's address, or 0 while DNS is down.
#[derive(Clone)]
struct Dns(Arc<AtomicU8>, Arc<AtomicUsize>);

impl Dns {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(OLD)), Arc::default())
    }

    fn set(&self, last: u8) {
        self.0.store(last, Ordering::SeqCst);
    }

    fn lookups(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }

    fn resolver(&self, cache: CacheConfig) -> Resolver {
        let this = self.clone();
        let lookup = move |_: &str| {
            this.1.fetch_add(1, Ordering::SeqCst);
            match this.0.load(Ordering::SeqCst) {
                0 => Err(ErrorKind::Temporary),
                last => Ok(ip(last)),
            }
        };
        Resolver::builder().backend(lookup).cache(cache).build()
    }
}

struct Client {
    runtime: Runtime,
    health: HealthClient<Channel>,
    next: Instant,
}

impl Client {
    fn new(resolver: &Resolver, port: u16, reconnects: bool) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://service.example:{port}")).unwrap();
        let mut http = HttpConnector::new_with_resolver(resolver.clone());
        http.enforce_http(false);
        let runtime = Runtime::new().unwrap();
        let inside = runtime.enter();
        let channel = if reconnects {
            endpoint.connect_with_connector_lazy(Reconnect::new(http, resolver.clone()))
        } else {
            endpoint.connect_with_connector_lazy(http)
        };
        drop(inside);
        Self { runtime, health: HealthClient::new(channel), next: Instant::now() }
    }

    /// Makes an RPC when it is time. Returns whether it succeeds.
    fn call(&mut self) -> bool {
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.next = Instant::now() + PACE;
        self.runtime.block_on(self.health.check(HealthCheckRequest::default())).is_ok()
    }
}

/// The fresh time is a tenth of a second here, where the default is 5 seconds. What matters is that the first lookup after that is
/// enough, and that none but that time is lost.
#[test]
fn without_more_a_client_recovers_with_the_first_answer_after_the_fresh_time() {
    let (old, new, port) = listeners();
    let (old, dns) = (Service::start(old), Dns::new());
    let resolver = dns.resolver(CacheConfig::new().ttl(Duration::from_millis(100)).stale_while_revalidate(HOUR));
    let mut client = Client::new(&resolver, port, false);
    for _ in 0..10 {
        assert!(client.call());
    }
    let _new = Service::start(new);
    dns.set(NEW);
    let before = dns.lookups();
    drop(old);
    let mut failed = 0;
    loop {
        let has_answer = dns.lookups() > before && resolver.stats().running == 0;
        let succeeds = client.call();
        if has_answer || succeeds {
            assert!(succeeds, "the new answer is there");
            break;
        }
        failed += 1;
        assert!(failed < 3000, "a minute has passed");
    }
    println!("{failed} RPCs failed before the answer was there");
    for _ in 0..20 {
        assert!(client.call(), "it goes on");
    }
}

#[test]
fn with_reconnect_at_most_one_call_fails_although_the_answer_is_fresh() {
    let (old, new, port) = listeners();
    let (old, dns) = (Service::start(old), Dns::new());
    let resolver = dns.resolver(CacheConfig::new().ttl(HOUR));
    let mut client = Client::new(&resolver, port, true);
    for _ in 0..10 {
        assert!(client.call());
    }
    assert_eq!(dns.lookups(), 1);
    let _new = Service::start(new);
    dns.set(NEW);
    drop(old);
    let mut failed = 0;
    for _ in 0..50 {
        failed += u32::from(!client.call());
    }
    assert!(failed <= 1, "{failed} RPCs failed");
    assert_eq!(dns.lookups(), 2);
}

/// The server restarts at the same address, and DNS is down at that moment.
#[test]
fn the_old_answer_serves_while_dns_is_down() {
    for reconnects in [false, true] {
        let (listener, _, port) = listeners();
        let (server, dns) = (Service::start(listener), Dns::new());
        // Stale at once, so that every connect finds out that DNS is down.
        let cache = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
        let resolver = dns.resolver(cache.cooldown(Duration::from_millis(1)));
        let mut client = Client::new(&resolver, port, reconnects);
        assert!(client.call());
        dns.set(0);
        drop(server);
        for _ in 0..5 {
            assert!(!client.call(), "there is no server");
        }
        let _server = Service::start(listen(OLD, port).unwrap());
        // The first may find out that the connection has ended.
        let called = [client.call(), client.call(), client.call()];
        assert!(called.ends_with(&[true, true]), "{called:?}");
        assert!(dns.lookups() > 5);
    }
}

/// The old server goes on until its address has gone from the name, so that no call need fail. One may have begun before.
#[test]
fn a_balanced_channel_follows_the_addresses_of_its_name() {
    let (old, new, port) = listeners();
    let (old, dns) = (Service::start(old), Dns::new());
    let resolver = dns.resolver(CacheConfig::new().ttl(PACE).cooldown(PACE));
    let runtime = Runtime::new().unwrap();
    let inside = runtime.enter();
    let endpoint = move |addr| {
        let origin = format!("http://service.example:{port}").parse().unwrap();
        Endpoint::from_shared(format!("http://{addr}")).unwrap().origin(origin)
    };
    let channel = tonic_balance::balance(resolver.watch("service.example"), port, endpoint);
    drop(inside);
    let mut client = Client { runtime, health: HealthClient::new(channel), next: Instant::now() };
    assert!(client.call());
    let new = Service::start(new);
    dns.set(NEW);
    // While the channel has both addresses, an RPC goes to either of them.
    let (mut in_a_row, mut rpcs) = (0, 0);
    while in_a_row < 10 {
        let before = new.rpcs();
        assert!(client.call());
        in_a_row = if new.rpcs() > before { in_a_row + 1 } else { 0 };
        rpcs += 1;
        assert!(rpcs < 3000, "a minute has passed");
    }
    drop(old);
    let failed = (0..20).filter(|_| !client.call()).count();
    assert!(failed <= 1, "{failed} RPCs failed");
}
