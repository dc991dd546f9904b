//! `Hickory` against the scripted server, on a free port and without namespaces: each answer is right and is cached as long as it
//! may be, and the runtime of one lookup does not matter to the next one.

use std::collections::HashSet;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use gaiter::{Addrs, Answer, AsyncBackend, CacheConfig, Error, ErrorKind, Hedge, Hickory, Resolver, Source};
use gaiter_real_dns::server::Server;
use gaiter_real_dns::{WATCHDOG, await_that};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::runtime::{Builder, Runtime};

/// A time that does not pass in a test, however slow the machine is.
const LONG: Duration = Duration::from_secs(3600);

fn hickory(server: &Server) -> Hickory {
    Hickory::with_servers([server.address()]).expect("a hosts file")
}

/// Returns a builder without second calls, whose queries the server would count too.
fn builder(server: &Server) -> gaiter::Builder {
    Resolver::builder().async_backend(hickory(server)).hedge(Hedge::off())
}

fn plain(server: &Server) -> Resolver {
    builder(server).cache(CacheConfig::disabled()).build()
}

/// Returns the numbers of IPv4 and IPv6 addresses.
fn count(addrs: Addrs) -> (usize, usize) {
    let (v4, v6): (Vec<_>, Vec<_>) = addrs.partition(SocketAddr::is_ipv4);
    (v4.len(), v6.len())
}

#[test]
fn each_answer_is_what_it_should_be() {
    let server = Server::start_anywhere();
    let resolver = plain(&server);
    for (name, expected) in [
        ("ok.test", Ok((1, 1))),
        ("OK.Test.", Ok((1, 1))),
        ("a.test", Ok((1, 0))),
        ("aaaa-5.test", Ok((0, 5))),
        ("many-10.test", Ok((10, 10))),
        ("many-30.test", Ok((30, 30))),
        ("many-200.test", Ok((200, 200))),
        ("chain-8.test", Ok((1, 1))),
        ("slow-100.test", Ok((1, 1))),
        ("servfail4.test", Ok((0, 1))),
        ("nx6.test", Ok((1, 0))),
        ("nx.test", Err(ErrorKind::NotFound)),
        ("dangling.test", Err(ErrorKind::NotFound)),
        ("nodata.test", Err(ErrorKind::NoData)),
        ("loop.test", Err(ErrorKind::NoData)),
        ("servfail.test", Err(ErrorKind::Temporary)),
        ("refused.test", Err(ErrorKind::Temporary)),
        ("notimp.test", Err(ErrorKind::Temporary)),
        ("formerr.test", Err(ErrorKind::Temporary)),
        ("ok..test", Err(ErrorKind::NotFound)),
        ("ok.äö.test", Err(ErrorKind::NotFound)),
    ] {
        let outcome = block_on(resolver.resolve(name)).map(count).map_err(|error| error.kind());
        assert_eq!(outcome, expected, "{name}");
    }
    let questions = server.questions();
    let by_tcp = |name: &str| questions.iter().any(|question| question.tcp && question.name == name);
    let truncated = ["many-10.test", "many-30.test", "many-200.test"].map(by_tcp);
    assert_eq!(truncated, [false, true, true], "only what was cut short is asked for again");
    assert_eq!(server.count("ok.test"), 4, "two for each lookup");
    assert_eq!(server.count("nx.test"), 2, "what is said once is believed");
}

#[test]
fn an_answer_has_a_bounded_number_of_addresses_the_first_ones() {
    const MOST: usize = 512;
    let server = Server::start_anywhere();
    let resolver = plain(&server);
    let of = |name: &str| block_on(resolver.resolve(name)).expect("an answer");
    for (name, expected) in [
        ("many-511.test", (511, 511)),
        ("many-512.test", (512, 512)),
        ("many-513.test", (512, 512)),
        ("a-1500.test", (512, 0)),
        ("aaaa-1500.test", (0, 512)),
    ] {
        assert_eq!(count(of(name)), expected, "{name}");
    }
    let addresses = |name: &str| of(name).map(|addr| addr.ip()).collect::<HashSet<IpAddr>>();
    let exactly = addresses("many-512.test");
    assert_eq!(exactly.len(), 2 * MOST);
    assert_eq!(addresses("many-1500.test"), exactly, "the server gives them one after another");
}

#[test]
fn an_answer_stays_within_its_question() {
    let server = Server::start_anywhere();
    let resolver = plain(&server);
    for name in ["alien.test", "wrongid.test"] {
        let mut ips: Vec<IpAddr> = block_on(resolver.resolve(name)).expect("an answer").map(|addr| addr.ip()).collect();
        ips.sort_unstable();
        assert_eq!(ips, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1:0".parse().unwrap()], "{name}");
    }
}

/// Records the TTL of each answer of another backend.
struct Spy(Hickory, Arc<Mutex<Vec<Option<Duration>>>>);

impl AsyncBackend for Spy {
    type Session = <Hickory as AsyncBackend>::Session;

    fn new_session(&self) -> Self::Session {
        AsyncBackend::new_session(&self.0)
    }

    fn lookup(&self, session: &Self::Session, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let (lookup, seen) = (self.0.lookup(session, name), Arc::clone(&self.1));
        async move { lookup.await.inspect(|answer| seen.lock().unwrap().push(answer.ttl())) }
    }
}

/// Tests a "no such name" over TCP that has no question, after a truncated answer over UDP.
#[test]
fn a_denial_stays_within_its_question() {
    const CUT_SHORT: [u8; 10] = [0x83, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
    const NO_SUCH_NAME: [u8; 10] = [0x81, 0x83, 0, 0, 0, 0, 0, 0, 0, 0];
    let bind = || {
        let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
        // Another process may have this port over TCP.
        let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
        Some((udp, tcp))
    };
    let (udp, tcp) = (0..100).find_map(|_| bind()).expect("a port");
    let address = udp.local_addr().expect("bound");
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut query) {
            let reply = [&query[..2], &CUT_SHORT, &query[12..length]].concat();
            udp.send_to(&reply, from).expect("the asker's address");
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            thread::spawn(move || {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut query = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut query).expect("the rest");
                    stream.write_all(&[&[0, 12], &query[..2], &NO_SUCH_NAME].concat()).expect("the asker is there");
                }
            });
        }
    });
    let hickory = Hickory::with_servers([address]).expect("a hosts file");
    let resolver = Resolver::builder().async_backend(hickory).build();
    let error = block_on(resolver.resolve("ok.test")).expect_err("nobody has said so");
    assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
}

#[test]
fn an_answer_says_for_how_long_it_lasts() {
    let server = Server::start_anywhere();
    let ttls = Arc::default();
    let spy = Spy(hickory(&server), Arc::clone(&ttls));
    // The spy sees the TTLs before they count as more.
    let cache = CacheConfig::new().min_ttl(LONG);
    let resolver = Resolver::builder().async_backend(spy).cache(cache).hedge(Hedge::off()).build();
    for name in ["ok.test", "ok.ttl-0.test", "chain-3.ttl-7.test", "many-30.ttl-86400.test"] {
        assert_eq!(block_on(resolver.resolve(name)).expect("an answer").source(), Source::Lookup);
        assert_eq!(block_on(resolver.resolve(name)).expect("an answer").source(), Source::Cache, "{name}");
    }
    // An answer of one family while the other family fails lasts for 1 second.
    block_on(resolver.resolve("servfail6.test")).expect("half an answer");
    let expected = [60, 0, 7, 86400, 1].map(|seconds| Some(Duration::from_secs(seconds)));
    assert_eq!(*ttls.lock().unwrap(), expected);
}

#[test]
fn a_server_that_is_not_there_costs_no_time() {
    let (gone, server) = (Server::start_anywhere().address(), Server::start_anywhere());
    // Less than the 5 seconds that the first server has to answer.
    let timeout = Duration::from_secs(4);
    let hickory = Hickory::with_servers([gone, server.address()]).expect("two");
    let resolver = Resolver::builder().async_backend(hickory).timeout(timeout).build();
    for name in ["ok.test", "many-30.test"] {
        block_on(resolver.resolve(name)).expect("an answer of the second");
    }
    let resolver =
        Resolver::builder().async_backend(Hickory::with_servers([gone]).expect("one")).timeout(timeout).build();
    assert!(block_on(resolver.resolve("ok.test")).expect_err("nobody is there").is_temporary());
}

#[test]
fn a_server_is_an_address_with_a_port() {
    assert!(Hickory::with_servers([]).is_err());
    assert!(Hickory::with_servers(["127.0.0.1:0".parse().unwrap()]).is_err());
    // A packet to the unspecified address reaches this machine.
    let server = Server::start_anywhere();
    let anywhere = SocketAddr::from(([0, 0, 0, 0], server.address().port()));
    let resolver = Resolver::builder().async_backend(Hickory::with_servers([anywhere]).expect("one")).build();
    assert_eq!(count(block_on(resolver.resolve("ok.test")).expect("an answer")), (1, 1));
}

#[test]
fn failures_are_kept_as_they_may_be() {
    let server = Server::start_anywhere();
    let cache = CacheConfig::new().negative_ttl(LONG).cooldown(LONG);
    let resolver = builder(&server).cache(cache).build();
    for name in ["nx.test", "nodata.test", "servfail.test"] {
        let [first, second] = [(); 2].map(|()| block_on(resolver.resolve(name)).expect_err("a failure"));
        assert_eq!((first.is_cached(), second.is_cached(), first.kind()), (false, true, second.kind()), "{name}");
    }
    // "No such name" and "no address" take one query of each family. A server failure takes two.
    assert_eq!(["nx.test", "nodata.test", "servfail.test"].map(|name| server.count(name)), [2, 2, 4]);
}

#[test]
fn nobody_waits_for_a_silent_server_longer_than_the_timeout_and_no_query_goes_on() {
    let server = Server::start_anywhere();
    let resolver = builder(&server).timeout(Duration::from_millis(50)).build();
    for name in ["silent.test", "slow-200.test"] {
        let error = block_on(resolver.resolve(name)).expect_err("nobody answers in time");
        assert!(error.is_timeout(), "{error}");
        assert_eq!(resolver.stats().running, 0);
    }
    // The late answer is to a question that nobody asks any more.
    let patient = plain(&server);
    assert_eq!(count(block_on(patient.resolve("slow-200.test")).expect("an answer")), (1, 1));
}

#[test]
fn a_query_is_sent_again_unless_its_server_is_usually_slow() {
    let server = Server::start_anywhere();
    let resolver = plain(&server);
    let names: Vec<_> = (0..20).map(|number| format!("slow-500-{number}.test")).collect();
    let lookups: Vec<_> = names.iter().map(|name| resolver.resolve(&**name)).collect();
    for lookup in lookups {
        assert_eq!(count(block_on(lookup).expect("an answer")), (1, 1));
    }
    // Each query twice, since nothing was known of the server.
    assert!(names.iter().all(|name| server.count(name) > 2));
    // A query that takes twice as long as usual, on a machine that stands still, is sent again.
    let is_prompt = |name: &String| {
        let began = Instant::now();
        block_on(resolver.resolve(&**name)).expect("an answer");
        began.elapsed() < Duration::from_millis(900)
    };
    let later = (0..100).map(|number| format!("slow-500-later-{number}.test")).find(is_prompt).expect("one of them");
    assert_eq!(server.count(&later), 2, "{later}");
}

#[test]
fn five_thousand_at_once_take_no_more_threads_and_sockets_than_they_may() {
    for drivers in [1, 2] {
        five_thousand_at_once(drivers);
    }
}

fn five_thousand_at_once(drivers: usize) {
    const LOOKUPS: usize = 5_000;
    const AT_ONCE: usize = 256;
    let server = Server::start_anywhere();
    let builder = builder(&server).max_lookups(AT_ONCE).max_queued(LOOKUPS).driver_threads(drivers);
    let resolver = builder.timeout(WATCHDOG).build();
    let threads = || std::fs::read_dir("/proc/self/task").expect("procfs is mounted").flatten();
    let comm = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let lookups: Vec<_> = (0..LOOKUPS).map(|index| resolver.resolve(format!("ok-{index}.test"))).collect();
    let mut most = (0, 0, 0);
    for lookup in lookups {
        let stats = resolver.stats();
        let sockets = std::fs::read_dir("/proc/self/fd").expect("procfs is mounted").count();
        most = (most.0.max(stats.running), most.1.max(stats.threads), most.2.max(sockets));
        assert_eq!(count(block_on(lookup).expect("an answer")), (1, 1));
    }
    let named = threads().map(comm).filter(|name| name.starts_with("gaiter-driver")).count();
    let (running, threads, sockets) = most;
    println!("at most {running} running on {threads} of {drivers} threads, {sockets} descriptors of the whole process");
    assert!(running <= AT_ONCE && threads == drivers && named >= drivers);
    // Two for each lookup, and those of the server and of this process's other tests.
    assert!(sockets <= 2 * AT_ONCE + 200, "{sockets}");
    // Those that were sent again, because of a machine that stood still, count once.
    let asked: HashSet<_> = server.questions().into_iter().map(|question| (question.name, question.kind)).collect();
    assert_eq!(asked.len(), 2 * LOOKUPS);
}

/// A client that is used on several runtimes.
trait Ask: Clone + Send + Sync + 'static {
    fn ask(&self, name: &'static str) -> impl Future<Output = bool> + Send;
}

impl Ask for Resolver {
    async fn ask(&self, name: &'static str) -> bool {
        self.resolve(name).await.is_ok()
    }
}

impl Ask for TokioResolver {
    async fn ask(&self, name: &'static str) -> bool {
        self.lookup_ip(name).await.map(drop).map_err(|error: NetError| println!("{error}")).is_ok()
    }
}

fn directly(server: &Server) -> TokioResolver {
    let mut config = NameServerConfig::udp_and_tcp(server.address().ip());
    config.connections.iter_mut().for_each(|connection| connection.port = server.address().port());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().expect("a resolver")
}

/// Uses a client on a runtime that is then no longer driven, and after that on another one.
fn first_used_on_a_runtime_that_is_not_driven(client: impl Ask) {
    let first = Builder::new_current_thread().enable_all().build().unwrap();
    assert!(first.block_on(client.ask("ok.test")));
    let second = Runtime::new().unwrap();
    let answer =
        second.block_on(async { tokio::time::timeout(Duration::from_secs(12), client.ask("ok-2.test")).await });
    assert_eq!(answer, Ok(true), "no answer in 12 s");
    drop(first);
}

/// Uses a client on a runtime that ends while a caller on another runtime waits for the same name.
fn shared_with_a_runtime_that_goes_away(server: &Server, client: impl Ask) {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let asking = |client| async move { Ask::ask(&client, "held.test").await };
    first.spawn(asking(client.clone()));
    await_that("the first question", || server.count("held.test") > 0);
    let mut joiner = Box::pin(client.ask("held.test"));
    {
        let _inside = second.enter();
        assert!(joiner.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending);
    }
    first.shutdown_timeout(Duration::from_secs(1));
    server.set_held(false);
    let answer = second.block_on(async { tokio::time::timeout(Duration::from_secs(12), joiner).await });
    assert_eq!(answer, Ok(true));
}

#[test]
fn gaiter_first_used_on_a_runtime_that_is_not_driven() {
    let server = Server::start_anywhere();
    first_used_on_a_runtime_that_is_not_driven(plain(&server));
}

#[test]
fn gaiter_shared_with_a_runtime_that_goes_away() {
    let server = Server::start_anywhere();
    shared_with_a_runtime_that_goes_away(&server, plain(&server));
}

#[test]
#[ignore = "fails after 12 s: hickory 0.26's connection is a task of the first runtime, which nobody drives"]
fn hickory_first_used_on_a_runtime_that_is_not_driven() {
    let server = Server::start_anywhere();
    first_used_on_a_runtime_that_is_not_driven(directly(&server));
}

#[test]
#[ignore = "panics: hickory 0.26's shared lookup has a timer of the first runtime, which is gone"]
fn hickory_shared_with_a_runtime_that_goes_away() {
    let server = Server::start_anywhere();
    shared_with_a_runtime_that_goes_away(&server, directly(&server));
}
