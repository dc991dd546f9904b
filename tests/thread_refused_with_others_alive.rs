//! If the operating system refuses a thread while another one hangs in a call, the name stays queued and is tried again. If no
//! thread could do the lookup, its caller gets a typed error.
//!
//! The only test of its binary, because its limit is the process's, and the memory of other threads would count.
#![cfg(target_os = "linux")]

mod support;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;

use futures::executor::block_on;
use gaiter::ErrorKind;
use support::backend::Scripted;
use support::gate::OpenOnDrop;

const STACK: usize = 64 << 20;

/// Lets the address space of this process grow by at most `bytes`. `None` lifts the limit.
fn limit_address_space(bytes: Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split_whitespace().next().unwrap().parse().unwrap();
    let current = bytes.map_or(libc::RLIM_INFINITY, |bytes| pages * 4096 + bytes);
    let limit = libc::rlimit { rlim_cur: current, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0, "{}", io::Error::last_os_error());
}

/// Leaves room for the first thread, the timekeeper, and none for the second, the first worker.
fn a_worker_is_refused_with_none_alive() {
    let resolver = support::plain().backend(Scripted::default()).thread_stack_size(STACK).build();
    limit_address_space(Some(STACK as u64 * 3 / 2));
    let refused = block_on(resolver.resolve("ok"));
    limit_address_space(None);
    assert_eq!(refused.expect_err("no worker").kind(), ErrorKind::ThreadRefused);
    block_on(resolver.resolve("ok")).expect("room for both");
    assert!(resolver.shutdown().wait().is_clean());
}

#[test]
fn a_name_stays_queued_until_a_thread_may_start() {
    a_worker_is_refused_with_none_alive();

    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).thread_stack_size(STACK).build();
    let _open = OpenOnDrop(&backend.gate);
    let hanging = resolver.resolve("hang");
    backend.gate.await_arrivals(1);

    limit_address_space(Some(STACK as u64 / 2));
    let refused = thread::Builder::new().stack_size(STACK).spawn(|| ()).is_err();
    let mut queued = pin!(resolver.resolve("ok"));
    let pending = queued.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    limit_address_space(None);
    assert!(refused, "the limit does not hold here");
    assert!(pending);

    block_on(queued).expect("another try, while the first call still hangs");
    backend.gate.open();
    block_on(hanging).expect("an answer");
}
