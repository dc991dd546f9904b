//! `Hickory` beside the system's resolver.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gaiter::{Answer, AsyncBackend, Error, ErrorKind, Hickory, Resolver};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;

use crate::faults::limit;
use crate::support::{ask, await_that, plain, threads_named};

/// Names whose results differ on any machine. The docs of `Hickory` say why.
pub const EXCEPTIONS: &[&str] = &[
    // Numbers, which are names for hickory.
    "127.1",
    "0x7f000001",
    "1.2.3",
    // RFC 3484 in glibc, RFC 6724 in gaiter.
    "scopes.test",
    // hickory accepts an answer of one family.
    "silent4.test",
    // An alias to itself has no address.
    "loop.test",
    // FORMERR does not say that the name does not exist.
    "formerr.test",
];

type Outcome = Result<Vec<IpAddr>, ErrorKind>;

fn outcome(resolver: &Resolver, name: &str) -> Outcome {
    ask(resolver, name).map_err(|error| error.kind())
}

/// Asserts that both return the same addresses in the same order, or the same kind of error, and differ for `exceptions`.
pub fn agrees(names: &[&str], exceptions: &[&str]) {
    let by_system = plain().timeout(None).build();
    let hickory = Hickory::from_system().expect("resolv.conf can be read");
    let by_hickory = plain().timeout(None).async_backend(hickory).build();
    let compare = |name: &str| {
        let (system, hickory) = (outcome(&by_system, name), outcome(&by_hickory, name));
        assert_eq!(system == hickory, !exceptions.contains(&name), "{name}: system {system:?}, hickory {hickory:?}");
    };
    let compare = &compare;
    thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|&name| (name, scope.spawn(move || compare(name)))).collect();
        for (name, thread) in threads {
            thread.join().unwrap_or_else(|_| panic!("{name}"));
        }
    });
}

/// Asserts that both ask for the same names in the same order, as when they walk a search list.
pub fn asks_alike(server: &Server, names: &[&str]) {
    let by_system = plain().timeout(None).build();
    let hickory = Hickory::from_system().expect("resolv.conf can be read");
    let by_hickory = plain().timeout(None).async_backend(hickory).build();
    for name in names {
        let asked = |resolver: &Resolver| {
            let before = server.questions().len();
            _ = outcome(resolver, name);
            // Each name once: if glibc's buffer is too small, it repeats its questions from the start.
            server.questions().split_off(before).into_iter().fold(Vec::new(), |mut asked: Vec<String>, question| {
                if !asked.contains(&question.name) {
                    asked.push(question.name);
                }
                asked
            })
        };
        assert_eq!(asked(&by_system), asked(&by_hickory), "{name}: system (left), hickory (right)");
    }
}

/// Tests that `resolv.conf` without a server is an error for a new backend, while an old one keeps its former settings.
pub fn nothing_reads_it_and_it_says_so() {
    let server = Server::start();
    namespace::write("resolv.conf", "nameserver 127.0.0.1\n");
    let resolver = plain().async_backend(Hickory::from_system().expect("it can be read")).build();
    outcome(&resolver, "ok.test").expect("an answer");
    namespace::write("resolv.conf", "nothing of the kind\n");
    outcome(&resolver, "ok.test").expect("an answer, from the server that was there before");
    let error = Hickory::from_system().expect_err("there is no server");
    assert!(error.to_string().contains("lookup failed"), "{error}");
    assert_eq!(server.count("ok.test"), 4);
}

/// Tests that a change that could not be read is read later, and that settings outlive the thread that read them.
pub fn a_change_is_read_when_it_can_be() {
    let (_one, two) = (Server::start(), Server::start_on("127.0.0.2:53"));
    two.set_number(2);
    namespace::write("resolv.conf", "nameserver 127.0.0.1\n");
    let hickory = Hickory::from_system().expect("it can be read");
    let resolver = plain().async_backend(hickory).thread_keep_alive(Duration::ZERO).build();
    let first = |name: &str| outcome(&resolver, name).ok()?.into_iter().find(IpAddr::is_ipv4).map(|ip| ip.to_string());
    assert_eq!(first("ok.test").as_deref(), Some("192.0.2.1"));

    namespace::write("hosts", "192.0.2.99 listed.test\n");
    namespace::write("resolv.conf", "nameserver 127.0.0.2\n");
    let former = limit(libc::RLIMIT_NOFILE, 0);
    assert_eq!(outcome(&resolver, "ok.test"), Err(ErrorKind::System));
    limit(libc::RLIMIT_NOFILE, former);
    assert_eq!(first("listed.test").as_deref(), Some("192.0.2.99"));
    assert_eq!(first("ok.test").as_deref(), Some("192.0.2.2"));

    namespace::write("resolv.conf", "nothing of the kind\n");
    for round in 0..5 {
        assert_eq!(first("ok.test").as_deref(), Some("192.0.2.2"), "round {round}");
        await_that("the driver's end", || threads_named("gaiter-driver") == 0);
    }
}

/// Tests that a lookup without descriptors is a system error, and that the next one works.
pub fn a_lookup_without_descriptors() {
    let _server = Server::start();
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n");
    let resolver = plain().async_backend(Hickory::from_system().expect("it can be read")).build();
    // Once without a driver, which then cannot make a runtime, and once with one.
    for round in 0..2 {
        let former = limit(libc::RLIMIT_NOFILE, 0);
        let failed = outcome(&resolver, "ok.test");
        limit(libc::RLIMIT_NOFILE, former);
        assert_eq!(failed, Err(ErrorKind::System), "round {round}");
        outcome(&resolver, "ok.test").expect("an answer");
    }
}

/// A backend that counts how often the futures of another one are polled.
struct Polled(Hickory, Arc<AtomicUsize>);

impl AsyncBackend for Polled {
    type Session = <Hickory as AsyncBackend>::Session;

    fn new_session(&self) -> Self::Session {
        AsyncBackend::new_session(&self.0)
    }

    fn lookup(&self, session: &Self::Session, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let (mut lookup, polls) = (Box::pin(self.0.lookup(session, name)), Arc::clone(&self.1));
        poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            lookup.as_mut().poll(cx)
        })
    }
}

/// Tests in how many turns answers are ordered. They are from the hosts file, so that no poll is for anything else.
pub fn a_large_answer_is_ordered_in_turns_of_the_driver() {
    let lines = |name, count: u8| (0..count).map(move |number| format!("192.0.2.{number} {name}.test\n"));
    namespace::write("hosts", &lines("few", 60).chain(lines("many", 200)).collect::<String>());
    namespace::write("resolv.conf", "nameserver 127.0.0.1\n");
    let polls = Arc::default();
    let backend = Polled(Hickory::from_system().expect("it can be read"), Arc::clone(&polls));
    let resolver = plain().async_backend(backend).build();
    for (name, count, turns) in [("few.test", 60, 1), ("many.test", 200, 4)] {
        assert_eq!(outcome(&resolver, name).map(|ips| ips.len()), Ok(count), "{name}");
        assert_eq!(polls.swap(0, Ordering::Relaxed), turns, "{name}");
    }
}
