//! Watches of names whose addresses change.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::executor::block_on;
use gaiter::{Answer, AsyncBackend, CacheConfig, Error, Hedge, Hickory, Resolver, Watch};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;

use crate::support::{await_that, ips, resident, threads_named};

/// Returns the system's resolver and hickory, with short times between lookups.
fn resolvers() -> [(&'static str, Resolver); 2] {
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let moment = Duration::from_millis(20);
    let cache = CacheConfig::new().ttl(moment).min_ttl(moment).max_ttl(moment).cooldown(moment);
    let builder = || Resolver::builder().cache(cache.clone());
    let hickory = Hickory::from_system().expect("resolv.conf can be read");
    [("system", builder().build()), ("hickory", builder().async_backend(hickory).build())]
}

/// Returns the last numbers of the next set's addresses, sorted.
fn next(watch: &mut Watch) -> Vec<u8> {
    numbers(block_on(watch.changed()))
}

fn numbers(set: Result<gaiter::Addrs, Error>) -> Vec<u8> {
    let texts = ips(&set.expect("a set")).into_iter().map(|ip| ip.to_string());
    let number = |text: String| text.strip_prefix("192.0.2.").and_then(|last| last.parse().ok()).expect("an address");
    let mut numbers: Vec<u8> = texts.map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn await_failure(watch: &Watch, what: &str, is_it: impl Fn(&Error) -> bool) {
    await_that(what, || watch.last_error().is_some_and(|error| is_it(&error)));
}

pub fn each_change_is_given_and_no_failure_is() {
    let server = Server::start();
    for (kind, resolver) in resolvers() {
        let began = Instant::now();
        let mut watch = resolver.watch("set.test");
        let mut check = |what: &str, expected: &[u8]| {
            assert_eq!(next(&mut watch), expected, "{kind}: {what}");
            println!("  {kind}: {what}: {expected:?} after {:?}", began.elapsed());
        };
        server.set_number(1);
        server.set_as("a-2");
        check("two addresses", &[1, 2]);
        server.set_as("a-3");
        check("one is added", &[1, 2, 3]);
        server.set_as("a-1");
        check("two are removed", &[1]);
        namespace::write("hosts", "192.0.2.50 set.test\n");
        check("the hosts file has it", &[50]);
        namespace::write("hosts", namespace::HOSTS);
        check("and no more", &[1]);

        let mut fails = |word: &str, is_it: fn(&Error) -> bool| {
            server.set_as(word);
            await_failure(&watch, word, is_it);
            assert_eq!(watch.changed().now_or_never().map(numbers), None, "{kind}: {word}");
            println!("  {kind}: {word}: {} after {:?}", watch.last_error().expect("it has failed"), began.elapsed());
        };
        fails("nx", Error::is_not_found);
        fails("servfail", Error::is_temporary);
        fails("nodata", Error::is_not_found);
        server.set_as("a-1");
        await_that("an answer", || watch.last_error().is_none());
        assert_eq!(watch.changed().now_or_never().map(numbers), None, "{kind}: the same as before all of this");
        let mut fails = |word: &str, is_it: fn(&Error) -> bool| {
            server.set_as(word);
            await_failure(&watch, word, is_it);
            assert_eq!(watch.changed().now_or_never().map(numbers), None, "{kind}: {word}");
        };
        fails("silent", |error| error.is_temporary() || error.is_timeout());
        server.set_number(9);
        server.set_as("a-1");
        assert_eq!(next(&mut watch), [9], "{kind}: after the outage");
        println!("  {kind}: after silence: [9] after {:?}", began.elapsed());
    }
}

pub fn rotation_is_one_set_for_those_that_keep_it() {
    let server = Server::start();
    for (kind, resolver) in resolvers() {
        server.set_as("a-2");
        let (mut follows, mut keeps) = (resolver.watch("set.test"), resolver.watch("set.test").keep(1_000));
        for round in 0..3 {
            for number in [1, 3, 5] {
                server.set_number(number);
                // The first answer of all may have been another.
                while next(&mut follows) != [number, number + 1] {}
                if round > 0 {
                    assert_eq!(keeps.changed().now_or_never().map(numbers), None, "{kind}");
                }
            }
            if round == 0 {
                while next(&mut keeps) != [1, 2, 3, 4, 5, 6] {}
            }
        }
    }
}

/// A backend that counts the lookups of another one by name. The server would also count a query that is sent again because the
/// machine stands still.
struct Counted(Hickory, Arc<Mutex<BTreeMap<String, usize>>>);

impl AsyncBackend for Counted {
    type Session = <Hickory as AsyncBackend>::Session;

    fn new_session(&self) -> Self::Session {
        AsyncBackend::new_session(&self.0)
    }

    fn lookup(&self, session: &Self::Session, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        *self.1.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        self.0.lookup(session, name)
    }
}

/// Returns a resolver over hickory with the defaults, but for second calls, and the number of its lookups by name.
fn counted() -> (Resolver, Arc<Mutex<BTreeMap<String, usize>>>) {
    namespace::write("resolv.conf", "nameserver 127.0.0.1\n");
    let lookups = Arc::default();
    let backend = Counted(Hickory::from_system().expect("resolv.conf can be read"), Arc::clone(&lookups));
    (Resolver::builder().async_backend(backend).hedge(Hedge::off()).build(), lookups)
}

pub fn a_short_ttl_costs_a_lookup_a_second() {
    let server = Server::start();
    let (resolver, lookups) = counted();
    let began = Instant::now();
    let names = ["a.ttl-0.test", "a.ttl-1.test"];
    let watches = names.map(|name| resolver.watch(name));
    for name in names {
        await_that(name, || lookups.lock().unwrap().get(name).is_some_and(|&lookups| lookups >= 4));
        assert!(began.elapsed() >= Duration::from_secs(3), "{name} is asked for too often");
        println!("  {name}: four lookups within {:?}", began.elapsed());
        await_that("A and AAAA of each", || server.count(name) >= 8);
    }
    drop(watches);
    let total = || lookups.lock().unwrap().values().sum::<usize>();
    let asked = total();
    let report = resolver.shutdown().wait();
    assert!(report.is_clean(), "{report}");
    assert!(total() <= asked + 2, "a watch goes on after its end");
}

/// 10,000 watches of 1,000 names over hickory, for 20 seconds.
pub fn ten_thousand() {
    let server = Server::start();
    let (resolver, lookups) = counted();
    let total = || lookups.lock().unwrap().values().sum::<usize>();
    let name = |number: usize| format!("a-2-{}.ttl-5.test", number % 1000);
    (0..1000).for_each(|number| _ = block_on(resolver.resolve(name(number))).expect("an answer"));
    let (before, asked, began) = (resident(), total(), Instant::now());
    let mut watches: Vec<Watch> = (0..10_000).map(|number| resolver.watch(name(number))).collect();
    watches.iter_mut().for_each(|watch| assert_eq!(next(watch).len(), 2));
    let memory = resident().saturating_sub(before) as f64 * 1024.0;
    await_that("20 seconds", || began.elapsed() >= Duration::from_secs(20));
    let threads = threads_named("gaiter");
    let lookups = total() - asked;
    let ttls = began.elapsed().as_secs_f64() / 5.0;
    // The first lookup is not for a TTL that has ended.
    let rate = (lookups as f64 / 1000.0 - 1.0) / ttls;
    println!("  {threads} threads, {:.0} bytes for each watch", memory / 10_000.0);
    println!("  {lookups} lookups of 1,000 names in {:?}: {rate:.3} for each name and TTL", began.elapsed());
    println!("  {} queries, with those of the first lookups", server.questions().len());
    assert!(threads <= 2, "the driver and the timekeeper, not {threads}");
    assert!(rate <= 1.1, "{rate} lookups for each name and TTL");
}
