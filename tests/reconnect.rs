//! `Reconnect` connects once more if a name has moved, with one lookup for all connects that fail at a time.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::{BoxFuture, join_all};
use gaiter::{Answer, CacheConfig, Error, ErrorKind, Guarded, Hedge, Reconnect, Resolver};
use hyper::Uri;
use tower_service::Service;

const HOUR: Duration = Duration::from_secs(3600);

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// A network: what the name's addresses are, and which of these can be connected to.
#[derive(Clone, Default)]
struct Network {
    /// `None` while DNS is down.
    dns: Arc<Mutex<Option<Vec<IpAddr>>>>,
    up: Arc<Mutex<HashSet<IpAddr>>>,
    lookups: Arc<AtomicUsize>,
    connects: Arc<AtomicUsize>,
}

impl Network {
    fn new(addrs: &[u8]) -> Self {
        let network = Self::default();
        network.set(Some(addrs), addrs);
        network
    }

    fn set_dns(&self, addrs: Option<&[u8]>) {
        *self.dns.lock().unwrap() = addrs.map(|addrs| addrs.iter().copied().map(ip).collect());
    }

    fn set_up(&self, addrs: &[u8]) {
        *self.up.lock().unwrap() = addrs.iter().copied().map(ip).collect();
    }

    fn set(&self, dns: Option<&[u8]>, up: &[u8]) {
        self.set_dns(dns);
        self.set_up(up);
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }

    fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }

    fn resolver(&self, cache: CacheConfig) -> Resolver {
        let this = self.clone();
        let lookup = move |_: &str| {
            this.lookups.fetch_add(1, Ordering::SeqCst);
            this.dns.lock().unwrap().clone().map(Answer::from).ok_or(ErrorKind::Temporary)
        };
        Resolver::builder().backend(lookup).cache(cache).hedge(Hedge::off()).build()
    }

    /// Returns a connector with answers that last, and its resolver.
    fn connector(&self, cooldown: Duration) -> (Reconnect<Fake>, Resolver) {
        let resolver = self.resolver(CacheConfig::new().ttl(HOUR).cooldown(cooldown).stale_answer_timeout(HOUR));
        (Reconnect::new(Fake { network: self.clone(), resolver: resolver.clone() }, resolver.clone()), resolver)
    }
}

/// A connector in this network.
#[derive(Clone)]
struct Fake {
    network: Network,
    resolver: Resolver,
}

#[derive(Debug)]
enum Failed {
    Lookup(Error),
    Refused(Vec<IpAddr>),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Failed {}

impl Service<Uri> for Fake {
    type Response = IpAddr;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<IpAddr, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (network, lookup) = (self.network.clone(), self.resolver.resolve(uri.host().expect("a host")));
        Box::pin(async move {
            let addrs: Vec<IpAddr> = lookup.await.map_err(Failed::Lookup)?.map(|addr| addr.ip()).collect();
            network.connects.fetch_add(1, Ordering::SeqCst);
            let up = network.up.lock().unwrap().clone();
            addrs.iter().copied().find(|ip| up.contains(ip)).ok_or(Failed::Refused(addrs))
        })
    }
}

fn connect(connector: &mut Reconnect<Fake>) -> Result<IpAddr, Vec<IpAddr>> {
    match block_on(connector.call(Uri::from_static("http://name.example/"))) {
        Ok(ip) => Ok(ip),
        Err(Failed::Refused(addrs)) => Err(addrs),
        Err(Failed::Lookup(error)) => panic!("{error}"),
    }
}

#[test]
fn a_connect_to_a_name_that_has_moved_succeeds() {
    let network = Network::new(&[1]);
    let (mut connector, _) = network.connector(HOUR);
    assert_eq!(connect(&mut connector), Ok(ip(1)));
    network.set(Some(&[2]), &[2]);
    assert_eq!(connect(&mut connector), Ok(ip(2)));
    assert_eq!((network.lookups(), network.connects()), (2, 3));
    assert_eq!(connect(&mut connector), Ok(ip(2)), "from the cache");
    assert_eq!((network.lookups(), network.connects()), (2, 4));
}

#[test]
fn the_same_addresses_in_another_order_are_not_tried_again() {
    let network = Network::new(&[1, 2]);
    let (mut connector, _) = network.connector(HOUR);
    assert_eq!(connect(&mut connector), Ok(ip(1)));
    network.set(Some(&[2, 1]), &[]);
    assert_eq!(connect(&mut connector), Err(vec![ip(1), ip(2)]), "the error of the connect");
    assert_eq!((network.lookups(), network.connects()), (2, 2));
}

#[test]
fn the_error_of_the_second_connect_comes_back() {
    let network = Network::new(&[1]);
    let (mut connector, _) = network.connector(HOUR);
    assert_eq!(connect(&mut connector), Ok(ip(1)));
    network.set(Some(&[2]), &[]);
    assert_eq!(connect(&mut connector), Err(vec![ip(2)]));
    assert_eq!(network.connects(), 3, "not a third time");
}

#[test]
fn an_old_answer_outlives_a_failed_connect_while_dns_is_down() {
    let network = Network::new(&[1]);
    let (mut connector, resolver) = network.connector(HOUR);
    assert_eq!(connect(&mut connector), Ok(ip(1)));
    network.set(None, &[]);
    for _ in 0..3 {
        assert_eq!(connect(&mut connector), Err(vec![ip(1)]));
    }
    network.set_up(&[1]);
    assert_eq!(connect(&mut connector), Ok(ip(1)));
    assert_eq!(network.lookups(), 2);
    assert_eq!(block_on(resolver.resolve("name.example")).expect("it is kept").source(), gaiter::Source::Stale);
}

#[test]
fn however_many_connects_fail_there_is_one_lookup_in_a_cooldown() {
    let network = Network::new(&[1]);
    let (mut connector, _) = network.connector(HOUR);
    assert_eq!(connect(&mut connector), Ok(ip(1)));
    network.set(Some(&[2]), &[2]);
    let connects = (0..1000).map(|_| connector.call(Uri::from_static("http://name.example/"))).collect::<Vec<_>>();
    for connection in block_on(join_all(connects)) {
        assert_eq!(connection.expect("it has moved"), ip(2));
    }
    assert_eq!((network.lookups(), network.connects()), (2, 2001));
    network.set(Some(&[3]), &[3]);
    for _ in 0..10 {
        assert_eq!(connect(&mut connector), Err(vec![ip(2)]), "the cooldown is not over");
    }
    assert_eq!(network.lookups(), 2);

    let network = Network::new(&[1]);
    let (mut connector, _) = network.connector(Duration::ZERO);
    for last in 1..5 {
        network.set(Some(&[last]), &[last]);
        assert_eq!(connect(&mut connector), Ok(ip(last)));
    }
    assert_eq!(network.lookups(), 4);
}

/// The background lookup of a stale answer has ended before the connect fails.
#[test]
fn an_answer_that_has_come_since_the_connect_began_is_used() {
    let network = Network::new(&[1]);
    let cache = CacheConfig::new().ttl(HOUR).cooldown(HOUR);
    let resolver = network.resolver(cache);
    block_on(resolver.resolve("name.example")).expect("an answer");
    network.set(Some(&[2]), &[2]);
    let mut connector = Reconnect::new(Fake { network: network.clone(), resolver: resolver.clone() }, resolver.clone());
    // The name is looked up when the connector is called, and connected to when its future is polled.
    let connecting = connector.call(Uri::from_static("http://name.example/"));
    resolver.refresh("name.example").expect("it is taken");
    while resolver.stats().running + resolver.stats().queued > 0 {
        std::thread::yield_now();
    }
    assert_eq!(block_on(connecting).expect("it has moved"), ip(2));
}

#[test]
fn without_an_answer_there_is_no_second_connect() {
    // No lookup has succeeded, there is no cache, or the host is an address.
    for (cache, url) in [
        (CacheConfig::new(), "http://name.example/"),
        (CacheConfig::disabled(), "http://name.example/"),
        (CacheConfig::new(), "http://192.0.2.9/"),
        (CacheConfig::new(), "http://[2001:db8::1]:80/"),
    ] {
        let network = Network::new(&[1]);
        let resolver = network.resolver(cache.clone());
        if cache.is_enabled() {
            network.set_dns(None);
        }
        network.set_up(&[]);
        let mut connector = Reconnect::new(Fake { network: network.clone(), resolver: resolver.clone() }, resolver);
        block_on(connector.call(Uri::from_static(url))).expect_err("nothing is up");
        assert_eq!(network.lookups(), usize::from(url.contains("name")), "{url}");
        assert!(network.connects() <= 1, "{url}");
    }
}

#[test]
fn an_override_is_not_looked_up() {
    let network = Network::new(&[1]);
    let (mut connector, resolver) = network.connector(HOUR);
    assert_eq!(connect(&mut connector), Ok(ip(1)));
    resolver.override_host("name.example", ip(7));
    assert_eq!(connect(&mut connector), Err(vec![ip(7)]));
    assert_eq!((network.lookups(), network.connects()), (1, 2));
}

#[test]
fn it_goes_inside_of_a_guarded_connector() {
    let network = Network::new(&[1]);
    let (connector, resolver) = network.connector(HOUR);
    let mut connector = Guarded::new(connector, resolver);
    assert_eq!(block_on(connector.call(Uri::from_static("http://name.example/"))).expect("it is up"), ip(1));
}
