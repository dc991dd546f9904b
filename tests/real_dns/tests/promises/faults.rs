//! Resources that the operating system refuses: each is a typed error, and everything works again once there are enough.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;
use std::{fs, io};

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::{ErrorKind, Resolver};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;

use crate::peers::std_lookup;
use crate::support::{ask, await_that, gai_strerror, plain, status, tally};

/// Sets this process's soft limit of a resource. Returns the former limit.
pub fn limit(resource: libc::__rlimit_resource_t, soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &mut limit), 0, "{}", io::Error::last_os_error());
        let former = limit.rlim_cur;
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(resource, &limit), 0, "{}", io::Error::last_os_error());
        former
    }
}

/// Tests that with 0 to 30 spare descriptors the result is std's, and that lookups work again afterwards.
pub fn no_descriptors() {
    let server = Server::start();
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n");
    // One thread, so that the thread that failed, or its replacement, has to work again.
    let resolver = plain().max_lookups(1).build();
    ask(&resolver, "ok.test").expect("an answer");
    let open = fs::read_dir("/proc/self/fd").expect("procfs is mounted").flatten();
    let highest = open.filter_map(|fd| fd.file_name().to_str()?.parse::<u64>().ok()).max().expect("standard output");
    let mut said = BTreeMap::new();
    for spare in [0, 0, 1, 2, 3, 4, 30] {
        let former = limit(libc::RLIMIT_NOFILE, if spare == 0 { 0 } else { highest + spare });
        let ours = ask(&resolver, "ok.test");
        let theirs = std_lookup("ok.test");
        limit(libc::RLIMIT_NOFILE, former);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
            (Err(ours), Err(theirs)) => {
                let text = match ours.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
                    Some(cause) => cause.to_string(),
                    None => gai_strerror(ours.code().expect("libc said so")),
                };
                assert_eq!(text, theirs, "{ours:?}");
                assert!(matches!(ours.kind(), ErrorKind::System | ErrorKind::Temporary), "{ours:?}");
                said.insert(spare, (ours.kind(), text));
            }
            (ours, theirs) => panic!("{spare} to spare: {ours:?}, but std {theirs:?}"),
        }
        ask(&resolver, "ok.test").unwrap_or_else(|error| panic!("after {spare} to spare: {error:?}"));
    }
    println!("  by descriptors to spare: {said:?}");
    assert!(said.contains_key(&0) && !said.contains_key(&30), "{said:?}");
    drop(server);
}

/// Tests an address space without room for another stack.
pub fn no_room_for_a_thread() {
    let _server = Server::start();
    const STACK: usize = 1 << 30;
    // malloc's reserve for a thread comes and goes in steps of 64 MiB.
    const SPARE: u64 = 256 << 20;
    let resolver = plain().thread_stack_size(STACK).build();
    let in_use = status("VmSize:") as u64 * 1024;
    for _ in 0..3 {
        let former = limit(libc::RLIMIT_AS, in_use + SPARE);
        let errors: Vec<_> = (0..10).map(|index| ask(&resolver, &format!("ok-{index}.test"))).collect();
        limit(libc::RLIMIT_AS, former);
        for error in errors {
            let error = error.expect_err("no thread can start");
            assert_eq!(error.kind(), ErrorKind::ThreadRefused, "{error:?}");
            assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()), "{error:?}");
        }
    }
    ask(&resolver, "ok.test").expect("an answer");
    // If one thread runs, lookups wait for it instead of failing.
    let former = limit(libc::RLIMIT_AS, in_use + SPARE);
    let answers = block_on(join_all((0..10).map(|index| resolver.resolve(format!("ok-{index}.test")))));
    limit(libc::RLIMIT_AS, former);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// Returns the number of UDP packets that the kernel dropped because a receive buffer was full.
fn overruns() -> u64 {
    let table = fs::read_to_string("/proc/net/snmp").expect("procfs is mounted");
    let mut rows = table.lines().filter(|line| line.starts_with("Udp:")).map(|line| line.split_whitespace());
    let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
    let column = names.zip(values).find(|(name, _)| *name == "RcvbufErrors").expect("a column");
    column.1.parse().expect("a number")
}

pub fn a_full_receive_buffer() {
    let server = Server::start_with_room(64 << 10);
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n");
    const NAMES: usize = 1_000;
    let resolver: Resolver = plain().timeout(Duration::from_secs(3)).build();
    let stalled = server.stall();
    let asked = (0..NAMES).map(|index| resolver.resolve(format!("ok-{index}.test"))).collect::<Vec<_>>();
    let outcomes = block_on(join_all(asked));
    assert!(overruns() > 0, "the buffer never filled");
    let kinds = tally(outcomes.into_iter().map(|outcome| outcome.expect_err("nobody answers").kind()));
    println!("  while nothing is read: {kinds:?}, {} queries thrown away", overruns());
    assert!(kinds.keys().all(|kind| [ErrorKind::Temporary, ErrorKind::Timeout].contains(kind)), "{kinds:?}");
    drop(stalled);
    // A call without waiters is about to fail. A caller below could join it.
    await_that("no call", || resolver.stats().running == 0);
    // At most 50 at a time, which the buffer holds.
    for batch in 0..NAMES / 50 {
        let batch = (0..50).map(|index| resolver.resolve(format!("ok-{}.test", 50 * batch + index)));
        for outcome in block_on(join_all(batch)) {
            outcome.expect("an answer");
        }
    }
    // LeakSanitizer takes what libc has for a thread for leaked while the thread ends.
    assert!(resolver.shutdown().wait().is_clean());
}
