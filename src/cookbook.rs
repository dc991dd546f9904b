//! Recipes. Every snippet is compiled.
//!
//! - [With hyper](#with-hyper), [with reqwest](#with-reqwest), [without an HTTP client](#without-an-http-client)
//! - [In tests: a fake backend](#in-tests-a-fake-backend), [Tokio's paused clock](#in-tests-tokios-paused-clock)
//! - [Addresses for one name](#addresses-for-one-name), [URLs from strangers](#urls-from-strangers)
//! - [Which address comes first](#which-address-comes-first), [when a name moves](#when-a-name-moves), [follow a
//!   name](#follow-a-name)
//! - [A span filter](#a-span-filter), [OpenTelemetry](#opentelemetry), [metrics](#metrics)
//! - [Graceful shutdown](#graceful-shutdown), [fork and daemons](#fork-and-daemons)
//! - [musl and Alpine](#musl-and-alpine), [Kubernetes](#kubernetes), [many machines](#many-machines)
//! - [Flush on a signal](#flush-on-a-signal), [other clients](#other-clients)
//!
//! # With hyper
//!
//! One resolver serves all clients of a program. A clone is another handle to the same threads and the same cache.
//!
//! ```
//! # #[cfg(feature = "hyper")] {
//! use http_body_util::Empty;
//! use hyper::body::Bytes;
//! use hyper_util::client::legacy::Client;
//! use hyper_util::client::legacy::connect::HttpConnector;
//! use hyper_util::rt::TokioExecutor;
//!
//! let resolver = gaiter::Resolver::new();
//! let mut http = HttpConnector::new_with_resolver(resolver.clone());
//! http.enforce_http(false); // if a TLS connector is put around it
//! let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(http);
//! # let _ = client;
//! # }
//! ```
//!
//! hyper tries the family of the first address first, and gives the other family a start 300 ms later (happy eyeballs, RFC 8305).
//! [`Builder::family`](crate::Builder::family) changes which one that is.
//!
//! A request on a pooled connection makes no lookup. To see the cache at work, set the client's `pool_max_idle_per_host` to 0, and read
//! `hits` and `stale` of [`Resolver::stats`](crate::Resolver::stats). A client does not tell where addresses came from.
//!
//! # With reqwest
//!
//! ```
//! # #[cfg(feature = "reqwest")] {
//! # fn example() -> reqwest::Result<()> {
//! let resolver = gaiter::Resolver::new();
//! let client = reqwest::Client::builder().dns_resolver(resolver.clone()).build()?;
//! # let _ = client;
//! # Ok(()) }
//! # }
//! ```
//!
//! reqwest resolves the proxy's name if there is a proxy, and the host of the URL only with `socks4` and `socks5`. An error of the
//! resolver is in the chain of sources of reqwest's error:
//!
//! ```
//! # #[cfg(feature = "reqwest")]
//! fn dns_error(error: &reqwest::Error) -> Option<&gaiter::Error> {
//!     let first: &dyn std::error::Error = error;
//!     std::iter::successors(Some(first), |error| error.source()).find_map(|error| error.downcast_ref())
//! }
//! ```
//!
//! # Without an HTTP client
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let resolver = gaiter::Resolver::new();
//! let addrs: Vec<_> = resolver.resolve("example.com").await?.with_port(443).collect();
//! let stream = tokio::net::TcpStream::connect(&addrs[..]).await?;
//! # let _ = stream;
//! # Ok(()) }
//! ```
//!
//! A program without any async code waits with [`Resolving::wait`](crate::Resolving::wait) and [`Shutdown::wait`](crate::Shutdown::wait):
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let resolver = gaiter::Resolver::new();
//! let stream = std::net::TcpStream::connect(resolver.resolve("example.com").wait()?.with_port(443))?;
//! # let _ = stream;
//! resolver.shutdown().wait();
//! # Ok(()) }
//! ```
//!
//! # In tests: a fake backend
//!
//! A closure is a [`Backend`](crate::Backend). It is called on the resolver's own threads.
//!
//! ```
//! use std::net::{IpAddr, Ipv4Addr};
//! use gaiter::{Answer, Error, ErrorKind, Resolver};
//!
//! let fake = |name: &str| match name {
//!     "api.example" => Ok(Answer::from(IpAddr::from(Ipv4Addr::LOCALHOST))),
//!     "down.example" => Err(Error::from(ErrorKind::Temporary)),
//!     _ => Err(ErrorKind::NotFound.into()),
//! };
//! let resolver = Resolver::builder().backend(fake).build();
//! assert_eq!(resolver.resolve("api.example").wait()?.with_port(80).next(), "127.0.0.1:80".parse().ok());
//! assert!(resolver.resolve("down.example").wait().unwrap_err().is_temporary());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! To redirect one name to a test server, an [override](#addresses-for-one-name) is enough.
//!
//! A test that counts calls turns off second calls, which a lookup of more than a third of a second otherwise [gets](crate::Hedge). A
//! lookup begins when `resolve` is called, before its future is polled. So two callers can share a call without a sleep:
//!
//! ```
//! use std::net::IpAddr;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::sync::{Arc, Mutex, mpsc};
//! use std::time::Duration;
//! use gaiter::{Error, ErrorKind, Hedge, Resolver, Source};
//!
//! let (answer, gate) = mpsc::channel::<IpAddr>();
//! let (gate, calls) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)));
//! let counted = Arc::clone(&calls);
//! let slow = move |_: &str| {
//!     counted.fetch_add(1, Ordering::Relaxed);
//!     gate.lock().unwrap().recv().map_err(|closed| Error::new(ErrorKind::Other, closed))
//! };
//! let resolver = Resolver::builder().backend(slow).hedge(Hedge::off()).build();
//!
//! let callers = [resolver.resolve("api.example"), resolver.resolve("api.example")];
//! assert_eq!(resolver.stats().shared, 1);
//! answer.send([192, 0, 2, 1].into())?;
//! for caller in callers {
//!     assert_eq!(caller.wait()?.source(), Source::Lookup);
//! }
//! assert_eq!(resolver.resolve("api.example").wait()?.source(), Source::Cache);
//! assert_eq!(calls.load(Ordering::Relaxed), 1);
//!
//! // Nothing is sent for this one.
//! let late = resolver.resolve("other.example").wait_timeout(Duration::from_millis(10));
//! assert!(late.unwrap_err().is_timeout());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Failures are [cached](crate::CacheConfig) too. If a backend's answer changes between two lookups, [flush](crate::Resolver::flush) the
//! cache or [disable](crate::CacheConfig::disabled) it.
//!
//! # In tests: Tokio's paused clock
//!
//! Tokio's paused clock jumps to the next timer when nothing else is to be done on the runtime. It does not know of a lookup on another
//! thread. So a `tokio::time::timeout` around a lookup fires at once. In such tests use overrides, which are given without a
//! thread, and the resolver's own [timeout](crate::Builder::timeout), which goes by real time.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! use std::net::IpAddr;
//! use std::time::Duration;
//!
//! let resolver = gaiter::Resolver::builder().override_host("api.example", IpAddr::from([127, 0, 0, 1])).build();
//! let answer = tokio::time::timeout(Duration::from_millis(1), resolver.resolve("api.example")).await;
//! assert!(answer.is_ok());
//! # });
//! ```
//!
//! # Addresses for one name
//!
//! ```
//! use std::net::{IpAddr, SocketAddr};
//!
//! let resolver = gaiter::Resolver::builder()
//!     // As `curl --resolve`: no lookup is made. The port replaces that of a URL without one.
//!     .override_host("api.example", SocketAddr::from(([127, 0, 0, 1], 8080)))
//!     // Given only if the lookup fails.
//!     .fallback_host("updates.example", IpAddr::from([192, 0, 2, 7]))
//!     .build();
//! // At run time, too.
//! resolver.override_host("other.example", IpAddr::from([127, 0, 0, 1]));
//! ```
//!
//! An override is for all requests of a resolver's clients, and connections in their pools outlive it. For single requests, use another
//! client with another resolver.
//!
//! # URLs from strangers
//!
//! A program that fetches URLs for others must not reach its own network for them. [`AddrFilter`](crate::AddrFilter) denies addresses
//! by IANA's registries, whatever name leads to them. Clients ask no resolver about an IP address in a URL. For hyper,
//! `Guarded` checks these. With reqwest, check each URL and each redirect:
//!
//! ```
//! # #[cfg(feature = "reqwest")] {
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use gaiter::{AddrFilter, Resolver};
//! use reqwest::redirect::Policy;
//!
//! let resolver = Resolver::builder().filter(AddrFilter::public_only()).build();
//! let guard = resolver.clone();
//! let client = reqwest::Client::builder()
//!     .dns_resolver(resolver.clone())
//!     .no_proxy() // a proxy would look the name up by itself
//!     .redirect(Policy::custom(move |attempt| {
//!         match attempt.url().host_str().map_or(Ok(()), |host| guard.check_host(host)) {
//!             Ok(()) => Policy::default().redirect(attempt),
//!             Err(denied) => attempt.error(denied),
//!         }
//!     }))
//!     .build()?;
//!
//! let url = reqwest::Url::parse("https://example.com/")?;
//! resolver.check_host(url.host_str().ok_or("no host")?)?;
//! let request = client.get(url);
//! # let _ = request;
//! # Ok(()) }
//! # }
//! ```
//!
//! # Which address comes first
//!
//! With a cache, every caller connects to the same first address for as long as an answer lasts. [`Order`](crate::Order) spreads callers
//! over the addresses of the family that comes first:
//!
//! ```
//! let resolver = gaiter::Resolver::builder().order(gaiter::Order::Rotate).build();
//! # let _ = resolver;
//! ```
//!
//! # When a name moves
//!
//! An answer without a TTL is fresh for five seconds. So a client notices within that time that a name has other addresses.
//! `Reconnect` notices when a connect fails: it looks the name up anew, and connects once more if the addresses differ.
//!
//! ```
//! # #[cfg(feature = "hyper")] {
//! use hyper_util::client::legacy::connect::HttpConnector;
//!
//! let resolver = gaiter::Resolver::new();
//! let http = HttpConnector::new_with_resolver(resolver.clone());
//! let connector = gaiter::Reconnect::new(http, resolver);
//! # let _ = connector;
//! # }
//! ```
//!
//! Clients of other kinds call [`Resolver::expire`](crate::Resolver::expire) when they cannot connect.
//!
//! # Follow a name
//!
//! A client that holds connections open never looks its name up again. [`Resolver::watch`](crate::Resolver::watch) returns each set of
//! addresses that differs from the one before:
//!
//! ```
//! # async fn example(resolver: gaiter::Resolver) -> Result<(), gaiter::Error> {
//! use std::collections::HashSet;
//!
//! let mut watch = resolver.watch("db.example");
//! let mut known = HashSet::new();
//! loop {
//!     // Fails once the resolver is closed. A lookup that fails changes nothing.
//!     let now: HashSet<_> = watch.changed().await?.with_port(5432).collect();
//!     for gone in known.difference(&now) {
//!         println!("close the connections to {gone}");
//!     }
//!     known = now;
//! }
//! # }
//! ```
//!
//! # A span filter
//!
//! Lookups are spans at level DEBUG with the target `gaiter`, and no events. So a log shows them if it shows the ends of spans, when the
//! fields are complete. An answer from the cache has no span.
//!
//! ```
//! use tracing_subscriber::fmt::format::FmtSpan;
//! use tracing_subscriber::{EnvFilter, prelude::*};
//!
//! let log = tracing_subscriber::fmt::layer().with_span_events(FmtSpan::CLOSE);
//! // Keeps lookups, whatever else the program logs.
//! let subscriber = tracing_subscriber::registry().with(EnvFilter::new("info,gaiter=debug")).with(log);
//! # let _ = subscriber;
//! ```
//!
//! A filter of one layer leaves them out of that layer alone:
//!
//! ```
//! use tracing_subscriber::fmt::{self, format::FmtSpan};
//! use tracing_subscriber::{EnvFilter, Layer, prelude::*};
//!
//! let console = fmt::layer().with_filter(EnvFilter::new("info,gaiter=off"));
//! let traces = fmt::layer().with_span_events(FmtSpan::CLOSE).with_filter(EnvFilter::new("info,gaiter=debug"));
//! let subscriber = tracing_subscriber::registry().with(console).with(traces);
//! # let _ = subscriber;
//! ```
//!
//! `gaiter=off` in a filter is for a subscriber or a layer, and [`Builder::spans`](crate::Builder::spans) with `false` for a resolver. See
//! [Tracing](crate#tracing) for the fields.
//!
//! # OpenTelemetry
//!
//! `tracing-opentelemetry` exports the span of a lookup below that of the request. The lookups of the exporter's own client must have
//! no spans, or each export leads to another one. With `opentelemetry-otlp` 0.33 and its features `http-proto`, `reqwest-blocking-client`
//! and `trace`:
//!
//! ```ignore
//! use std::error::Error;
//! use std::time::Duration;
//!
//! use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//!
//! /// Must not be called from async code, where reqwest's blocking client panics.
//! pub fn provider(endpoint: &str) -> Result<SdkTracerProvider, Box<dyn Error>> {
//!     let resolver = gaiter::Resolver::builder().spans(false).timeout(Duration::from_secs(5)).build();
//!     // Blocking, because the batch processor exports on a thread without a runtime.
//!     let client = reqwest::blocking::Client::builder().dns_resolver(resolver.into());
//!     let client = client.timeout(Duration::from_secs(8)).build()?;
//!     let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(endpoint).build()?;
//!     Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).build())
//! }
//! ```
//!
//! [Exporters](crate#exporters) says more. `cargo run -p gaiter-ecosystem --example otel` in the repository shows spans and metrics.
//!
//! # Metrics
//!
//! With the feature `metrics`, install a recorder, and publish before each scrape. For Prometheus:
//!
//! ```ignore
//! use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
//!
//! /// Those that the semantic conventions of OpenTelemetry recommend, in seconds.
//! pub const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
//!
//! pub fn install() -> Result<PrometheusHandle, BuildError> {
//!     let duration = Matcher::Full("dns.lookup.duration".into());
//!     PrometheusBuilder::new().set_buckets_for_metric(duration, &BUCKETS)?.install_recorder()
//! }
//!
//! pub fn page(handle: &PrometheusHandle, resolver: &gaiter::Resolver) -> String {
//!     resolver.publish_metrics();
//!     handle.render()
//! }
//! ```
//!
//! [Metrics](crate#metrics) lists them all.
//!
//! # Graceful shutdown
//!
//! Drain the server first, because names that are asked for after [`shutdown`](crate::Resolver::shutdown) has been called fail, cached
//! ones too. Then bound the wait for what is left:
//!
//! ```
//! # async fn example(resolver: gaiter::Resolver) {
//! use std::time::Duration;
//!
//! let report = resolver.shutdown().within(Duration::from_secs(5)).await;
//! for call in &report.abandoned {
//!     eprintln!("{} did not answer for {:?}", call.name, call.running);
//! }
//! # }
//! ```
//!
//! A program that ends without a shutdown loses nothing but that report: neither returning from `main` nor dropping a runtime waits for
//! a lookup.
//!
//! # Fork and daemons
//!
//! A resolver may be made, and used, before a program forks. In the child its threads start anew with the first lookup, and its cache
//! is empty. Do not fork while another thread of the process starts or ends: the child may inherit a lock of libc's or std's. macOS
//! allows no lookup in a forked child.
//!
//! # musl and Alpine
//!
//! musl's `getaddrinfo` asks all servers at once and takes the first answer, reads `resolv.conf` each time, and knows neither nsswitch nor
//! mDNS. `Hickory` (feature `hickory`) knows neither of these either, but asks servers in turn, caches by TTL, and honours `timeout` and
//! `attempts`:
//!
//! ```no_run
//! # #[cfg(feature = "hickory")] {
//! # fn example() -> Result<(), gaiter::Error> {
//! let resolver = gaiter::Resolver::builder().async_backend(gaiter::Hickory::from_system()?).build();
//! # let _ = resolver;
//! # Ok(()) }
//! # }
//! ```
//!
//! # Kubernetes
//!
//! A pod's `resolv.conf` has `ndots:5` and a search list of three or more. So a name with fewer than five dots is first asked for with
//! each suffix: `api.example.com` costs up to eight queries. A trailing dot makes a name absolute: `api.example.com.` costs two. But
//! clients send that dot in the `Host` header as well. `ndots:1` in the pod's `dnsConfig.options` does not touch the URLs.
//!
//! A query or an answer that gets lost costs glibc 5 seconds. gaiter makes a [second call](crate::Builder::hedge), on another socket,
//! once a call takes longer than calls usually do. `options single-request-reopen` in `resolv.conf` keeps the two queries of a
//! call off one port, on which Linux's connection tracking may lose one of them.
//!
//! # Many machines
//!
//! Each resolver has a cache of its own. A hundred processes ask a server a hundred times. A caching resolver on each machine, such as
//! Unbound with `serve-expired`, serves them all, and `resolv.conf` names it. It works behind either backend.
//!
//! # Flush on a signal
//!
//! A VPN that comes up changes which answers are right. Answers go by themselves after the [cache's times](crate::CacheConfig). To
//! drop them at once:
//!
//! ```
//! # #[cfg(unix)]
//! # async fn example(resolver: gaiter::Resolver) -> std::io::Result<()> {
//! use tokio::signal::unix::{SignalKind, signal};
//!
//! let mut hangups = signal(SignalKind::hangup())?;
//! while hangups.recv().await.is_some() {
//!     resolver.flush();
//! }
//! # Ok(()) }
//! ```
//!
//! # Other clients
//!
//! These recipes are compiled and tested in the repository, in `tests/ecosystem`, against servers on loopback. So is that for Prometheus.
//! sqlx takes no resolver. lapin takes none either, but a function that makes its connection.
//!
//! `reqwest::blocking` takes `Arc::new(resolver)`. Pingora's `HttpPeer::new` is to get a `SocketAddr`: a name it resolves itself, and
//! panics if there is no address.
//!
//! ## AWS SDK
//!
//! `Config::builder().http_client(http_client(resolver))`, of a service or of `aws-config`.
//!
//! ```ignore
//! use aws_smithy_http_client::Builder;
//! use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
//! use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
//! use aws_smithy_runtime_api::client::http::SharedHttpClient;
//!
//! #[derive(Clone, Debug)]
//! struct Dns(gaiter::Resolver);
//!
//! impl ResolveDns for Dns {
//!     fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
//!         let lookup = self.0.resolve(name);
//!         DnsFuture::new(async { Ok(lookup.await.map_err(ResolveDnsError::new)?.map(|addr| addr.ip()).collect()) })
//!     }
//! }
//!
//! pub fn http_client(resolver: gaiter::Resolver) -> SharedHttpClient {
//!     Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_with_resolver(Dns(resolver))
//! }
//! ```
//!
//! ## object_store
//!
//! `with_client_options(client_options(resolver))` of any store's builder.
//!
//! ```ignore
//! use std::sync::Arc;
//!
//! use object_store::ClientOptions;
//! use object_store::client::{DnsFuture, DnsResolver};
//!
//! #[derive(Debug)]
//! struct Dns(gaiter::Resolver);
//!
//! impl DnsResolver for Dns {
//!     fn resolve(&self, host: &str) -> DnsFuture {
//!         let lookup = self.0.resolve(host);
//!         Box::pin(async { Ok(lookup.await?.map(|addr| addr.ip()).collect()) })
//!     }
//! }
//!
//! pub fn client_options(resolver: gaiter::Resolver) -> ClientOptions {
//!     ClientOptions::new().with_dns_resolver(Arc::new(Dns(resolver)))
//! }
//! ```
//!
//! ## Pingora
//!
//! A `LoadBalancer` whose backends are the addresses that a name has now:
//! `Backends::new(Box::new(Discovery::new(resolver.watch(name), port)))`, with an `update_frequency`. While lookups fail, they stay.
//!
//! ```ignore
//! use std::collections::{BTreeSet, HashMap};
//!
//! use async_trait::async_trait;
//! use futures::FutureExt;
//! use pingora_core::{ErrorType, OrErr, Result};
//! use pingora_load_balancing::{Backend, discovery::ServiceDiscovery};
//! use tokio::sync::Mutex;
//!
//! pub struct Discovery(Mutex<(gaiter::Watch, BTreeSet<Backend>)>, u16);
//!
//! impl Discovery {
//!     pub fn new(watch: gaiter::Watch, port: u16) -> Self {
//!         Self(Mutex::new((watch, BTreeSet::new())), port)
//!     }
//! }
//!
//! #[async_trait]
//! impl ServiceDiscovery for Discovery {
//!     async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
//!         let (watch, backends) = &mut *self.0.lock().await;
//!         // Waits only for the first set.
//!         let changed = if backends.is_empty() { Some(watch.changed().await) } else { watch.changed().now_or_never() };
//!         if let Some(addrs) = changed {
//!             let addrs = addrs.or_err(ErrorType::ConnectError, "the resolver is closed")?.with_port(self.1);
//!             *backends = addrs.map(|addr| Backend::new(&addr.to_string())).collect::<Result<_>>()?;
//!         }
//!         Ok((backends.clone(), HashMap::new()))
//!     }
//! }
//! ```
//!
//! ## redis
//!
//! `AsyncConnectionConfig::new().set_dns_resolver(Dns(resolver))`.
//!
//! ```ignore
//! use std::io;
//! use std::net::SocketAddr;
//!
//! use redis::RedisFuture;
//! use redis::io::AsyncDNSResolver;
//!
//! pub struct Dns(pub gaiter::Resolver);
//!
//! type Addrs<'a> = Box<dyn Iterator<Item = SocketAddr> + Send + 'a>;
//!
//! impl AsyncDNSResolver for Dns {
//!     fn resolve<'a, 'b: 'a>(&'a self, host: &'b str, port: u16) -> RedisFuture<'a, Addrs<'a>> {
//!         let lookup = self.0.resolve(host);
//!         Box::pin(async move { Ok(Box::new(lookup.await.map_err(io::Error::from)?.with_port(port)) as Addrs<'a>) })
//!     }
//! }
//! ```
//!
//! ## tokio-postgres
//!
//! Each address as a `hostaddr`, beside the `host` that TLS checks.
//!
//! ```ignore
//! pub async fn add_host(
//!     config: &mut tokio_postgres::Config,
//!     host: &str,
//!     resolver: &gaiter::Resolver,
//! ) -> Result<(), gaiter::Error> {
//!     for addr in resolver.resolve(host).await? {
//!         config.host(host).hostaddr(addr.ip());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! ## tonic
//!
//! A channel whose connector resolves through gaiter, and looks the name up anew if a connect fails. The first lookup is in the span of
//! the caller of `connect`. A later one runs on the channel's own task, in the span of the request that waits for the connection,
//! and on the subscriber of that task.
//!
//! ```ignore
//! use hyper_util::client::legacy::connect::HttpConnector;
//! use tonic::transport::{Channel, Endpoint, Error};
//!
//! pub async fn connect(endpoint: Endpoint, resolver: gaiter::Resolver) -> Result<Channel, Error> {
//!     let mut http = HttpConnector::new_with_resolver(resolver.clone());
//!     http.enforce_http(false); // for https
//!     endpoint.connect_with_connector(gaiter::Reconnect::new(http, resolver)).await
//! }
//! ```
//!
//! A channel that balances over the addresses that a name has now. `endpoint` makes an `Endpoint` of an address, with the name in
//! `origin`, and for TLS in `domain_name`.
//!
//! ```ignore
//! use std::collections::HashSet;
//! use std::net::SocketAddr;
//!
//! use tonic::transport::channel::Change;
//! use tonic::transport::{Channel, Endpoint};
//!
//! pub fn balance<E>(mut watch: gaiter::Watch, port: u16, endpoint: E) -> Channel
//! where
//!     E: Fn(SocketAddr) -> Endpoint + Send + 'static,
//! {
//!     let (channel, changes) = Channel::balance_channel(16);
//!     tokio::spawn(async move {
//!         let mut known = HashSet::new();
//!         // Ends with the resolver.
//!         while let Ok(addrs) = watch.changed().await {
//!             let now: HashSet<_> = addrs.with_port(port).collect();
//!             let new = now.difference(&known).map(|&addr| Change::Insert(addr, endpoint(addr)));
//!             let gone = known.difference(&now).map(|&addr| Change::Remove(addr));
//!             for change in new.chain(gone).collect::<Vec<_>>() {
//!                 if changes.send(change).await.is_err() {
//!                     return; // The channel is dropped.
//!                 }
//!             }
//!             known = now;
//!         }
//!     });
//!     channel
//! }
//! ```
//!
//! ## ureq
//!
//! `Agent::with_parts(config, DefaultConnector::default(), Dns(resolver))`.
//!
//! ```ignore
//! use ureq::config::Config;
//! use ureq::http::Uri;
//! use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
//! use ureq::unversioned::transport::NextTimeout;
//!
//! #[derive(Debug)]
//! pub struct Dns(pub gaiter::Resolver);
//!
//! impl Resolver for Dns {
//!     fn resolve(&self, uri: &Uri, config: &Config, left: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
//!         let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
//!         let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
//!         let addrs = self.0.resolve(host).wait_timeout(*left.after).map_err(std::io::Error::from)?.with_port(port);
//!         let mut wanted = self.empty();
//!         config.ip_family().keep_wanted(addrs).take(16).for_each(|addr| wanted.push(addr));
//!         if wanted.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(wanted) }
//!     }
//! }
//! ```
