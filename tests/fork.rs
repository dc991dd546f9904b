//! Lookups work in a forked child, whatever lookups the parent has in progress. The exception is a fork at the moment at which
//! a thread of the parent starts or ends: see the crate docs.
//!
//! The only test of its binary, because it forks the process.
#![cfg(target_os = "linux")]

mod support;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::executor::block_on;
use gaiter::{AddrFilter, CacheConfig, Error, Order, Resolver, Source};
use support::WATCHDOG;
use support::backend::{ADDR, Kind, Scripted};
use support::gate::OpenOnDrop;

const ROUNDS: usize = 200;

/// Runs `child` in a forked process, which must succeed in time.
fn fork(what: &str, child: impl FnOnce() -> bool) {
    // SAFETY: the child runs only `child`, and ends with `_exit`. It allocates and starts threads, which glibc allows and POSIX
    // does not. This is what the test is about.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => panic!("{what}: {}", io::Error::last_os_error()),
        0 => {
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
            // SAFETY: ends the process without running the parent's exit handlers.
            unsafe { libc::_exit(if well { 0 } else { 1 }) }
        }
        _ => {}
    }
    let began = Instant::now();
    let mut status = 0;
    // SAFETY: `status` is valid for the call to write to.
    while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == 0 {
        if began.elapsed() > WATCHDOG {
            // SAFETY: the process is a child of this one, and has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("{what}: the child hangs");
        }
        // `waitpid` has no time limit, so this polls. The child ends within 1 or 2 milliseconds.
        thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(status, 0, "{what}: the child failed");
}

/// Forks a process that ends with the status that `child` returns. Returns that.
fn told(child: impl FnOnce() -> u8) -> i32 {
    // SAFETY: as above.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: ends the process without running the parent's exit handlers.
        unsafe { libc::_exit(child().into()) }
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the call to write to.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    libc::WEXITSTATUS(status)
}

/// The order is that of the thread, whose state a fork copies.
fn children_do_not_order_addresses_alike() {
    for order in [Order::Rotate, Order::Shuffle] {
        let addrs: Vec<IpAddr> = (0..200).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let resolver = support::plain().order(order);
        let resolver = resolver.backend(move |_: &str| Ok::<_, Error>(addrs.clone())).build();
        let first = || match block_on(resolver.resolve("ok")).map(|mut addrs| addrs.next().map(|addr| addr.ip())) {
            Ok(Some(IpAddr::V4(ip))) => ip.octets()[3],
            _ => u8::MAX,
        };
        first();
        let firsts: Vec<i32> = (0..6).map(|_| told(first)).collect();
        assert!(firsts.iter().all(|first| *first < 200), "{firsts:?}");
        assert!(firsts.iter().any(|other| *other != firsts[0]), "{order:?}: {firsts:?}");
        assert!(resolver.shutdown().wait().is_clean());
    }
}

/// Sets an override and a filter, and removes them. Returns whether they had effect.
fn changes(resolver: &Resolver) -> bool {
    let source = |name: &str| block_on(resolver.resolve(name)).map(|addrs| addrs.source());
    resolver.override_host("ok-own", ADDR);
    resolver.set_filter(AddrFilter::any().deny_name("ok-denied"));
    let set = source("ok-own").is_ok_and(|source| source == Source::Override)
        && source("ok-denied").is_err_and(|error| error.is_denied());
    resolver.set_filter(None);
    set && resolver.remove_override("ok-own")
        && source("ok-own").is_ok_and(|source| source == Source::Lookup)
        && source("ok-denied").is_ok()
}

/// Makes lookups of the backend and of the system, shares some, and shuts down. Returns whether all went well.
fn lookups(resolver: &Resolver, system: &Resolver) -> bool {
    let answered = |name: &str| block_on(resolver.resolve(name)).is_ok_and(|addrs| addrs.len() == 1);
    let many: Vec<_> = (0..20).map(|number| resolver.resolve(format!("ok-{}", number % 4))).collect();
    answered("ok")
        && many.into_iter().all(|lookup| block_on(lookup).is_ok())
        && block_on(resolver.resolve("error")).is_err_and(|error| error.is_not_found())
        && block_on(system.resolve("localhost")).is_ok_and(|addrs| addrs.len() > 0)
        && changes(resolver)
        && resolver.shutdown().wait().is_clean()
        && block_on(resolver.resolve("ok")).is_err_and(|error| error.is_closed())
}

/// Waits until every other thread of this process sleeps, so that none is about to begin.
fn settle() {
    let began = Instant::now();
    let is_busy = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state, such as `R` for running, follows the name in parentheses.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('S'))
    };
    // This thread is always busy.
    while std::fs::read_dir("/proc/self/task").unwrap().flatten().map(is_busy).filter(|&busy| busy).count() > 1 {
        assert!(began.elapsed() < WATCHDOG, "the threads never sleep");
        thread::yield_now();
    }
}

#[test]
fn a_forked_child_resolves() {
    children_do_not_order_addresses_alike();
    Kind::ALL.iter().for_each(|&kind| over(kind));
}

fn over(kind: Kind) {
    let scripted = || {
        let backend = Scripted { emits_events: false, ..Scripted::new(kind) };
        (backend.clone(), backend.builder(16).build())
    };

    for _ in 0..ROUNDS {
        let ((_, resolver), system) = (scripted(), support::plain().build());
        fork("before its first use", || lookups(&resolver, &system));
        block_on(resolver.resolve("ok")).expect("the parent goes on");
        // Ends the threads before the next fork, which could copy a lock that std holds while a thread ends.
        assert!(resolver.shutdown().wait().is_clean());
    }

    let ((_, used), system) = (scripted(), support::plain().build());
    block_on(used.resolve("ok")).expect("an answer");
    block_on(system.resolve("localhost")).expect("an answer");
    settle();
    for _ in 0..ROUNDS {
        fork("after use", || {
            let copies = (used.clone(), system.clone());
            lookups(&copies.0, &copies.1)
        });
        block_on(used.resolve("ok")).expect("the parent goes on");
    }

    let (backend, resolver) = scripted();
    let _open = OpenOnDrop(&backend.gate);
    let mut hanging: Vec<_> = (0..8).map(|number| resolver.resolve(format!("hang-{number}"))).collect();
    backend.gate.await_arrivals(8);
    settle();
    for round in 0..ROUNDS {
        let (backend, resolver) = (&backend, &resolver);
        let asked_before = &mut hanging[round % 8];
        fork("while lookups hang", || {
            // A copied future asks anew. The backend does not hang in the child.
            backend.gate.open();
            block_on(asked_before).is_ok_and(|mut addrs| addrs.next().map(|addr| addr.ip()) == Some(ADDR))
                && lookups(resolver, &system)
        });
    }
    assert_eq!(resolver.stats().running, 8, "nothing of the parent's was touched");
    let shutdown = resolver.shutdown();
    fork("while a shutdown waits", || {
        let closed = block_on(resolver.resolve("ok")).is_err_and(|error| error.is_closed());
        closed && shutdown.wait().is_clean()
    });
    backend.gate.open();
    for lookup in hanging {
        block_on(lookup).expect("an answer");
    }
    assert!(resolver.shutdown().wait().is_clean());

    let (backend, resolver) = scripted();
    let _open_too = OpenOnDrop(&backend.gate);
    let mut lookup = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    settle();
    drop(resolver);
    fork("with a future whose resolver is gone", || {
        backend.gate.open();
        block_on(&mut lookup).is_ok()
    });

    // With a watch of an answer, one of a call that hangs, and one of an address, whose resolver is gone.
    let (backend, resolver) = scripted();
    let _open_as_well = OpenOnDrop(&backend.gate);
    let mut watches = ["ok", "hang", "192.0.2.7"].map(|name| resolver.watch(name));
    drop(resolver);
    block_on(watches[0].changed()).expect("a set");
    backend.gate.await_arrivals(1);
    settle();
    for _ in 0..ROUNDS {
        fork("with watches", || {
            backend.gate.open();
            let [answered, hanging, _] = watches.each_mut();
            let is_addr =
                |result: Result<gaiter::Addrs, _>| result.is_ok_and(|mut addrs| addrs.all(|addr| addr.ip() == ADDR));
            // The child has no error of its own yet. It asks anew, and hears of nothing that it has been given before.
            let is_new = answered.last_error().is_none() && backend.calls() > 0;
            let asks = block_on(async {
                futures::select_biased! {
                    _ = Box::pin(answered.changed()).fuse() => false,
                    result = Box::pin(hanging.changed()).fuse() => is_addr(result),
                }
            });
            is_new && asks && is_addr(block_on(watches[2].changed()))
        });
    }
    backend.gate.open();
    block_on(watches[1].changed()).expect("the parent goes on");
    drop(watches);

    // With a cache that some lookups hit and others fill.
    let quiet = Scripted { emits_events: false, ..Scripted::new(kind) };
    let cache = CacheConfig::new().max_names(90);
    let resolver = quiet.builder(16).reserved_for_known(0).cache(cache).build();
    // Starts every thread before the first fork.
    let mut hanging: Vec<_> = (0..16).map(|number| resolver.resolve(format!("hang-{number}"))).collect();
    quiet.gate.await_arrivals(16);
    quiet.gate.open();
    hanging.iter_mut().for_each(|lookup| drop(block_on(lookup).expect("an answer")));
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(3)));
    let others: Vec<_> = (0..2)
        .map(|thread| {
            let (resolver, stop, begun) = (resolver.clone(), Arc::clone(&stop), Arc::clone(&begun));
            thread::spawn(move || {
                begun.wait();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut lookup = resolver.resolve(format!("ok-{thread}-{}", number % 100));
                    if number % 3 == 0 {
                        drop(lookup);
                    } else {
                        block_on(&mut lookup).expect("an answer");
                    }
                    resolver.override_host(format!("theirs-{thread}"), ADDR);
                    resolver.remove_override(format!("theirs-{thread}"));
                }
            })
        })
        .collect();
    // None of the threads may be about to begin at the first fork.
    begun.wait();
    for _ in 0..ROUNDS {
        fork("while other threads ask, hit the cache, and change overrides", || lookups(&resolver, &system));
    }
    stop.store(true, Ordering::Relaxed);
    for other in others {
        other.join().expect("no panic");
    }
    // None of the threads may be about to end when the next kind forks.
    assert!([resolver, used, system].iter().all(|resolver| resolver.shutdown().wait().is_clean()));
}
