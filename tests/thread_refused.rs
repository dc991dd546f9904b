//! An operating system that refuses threads: a typed error where nobody is left to do the lookup, patience where somebody is.
//! A test of its own for each, since what is refused is refused to the whole process.
#![cfg(target_os = "linux")]

mod support;

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;

use futures::executor::block_on;
use gaiter::{ErrorKind, Resolver};
use support::backend::Scripted;
use support::gate::OpenOnDrop;

/// What no address space has room for.
const ABSURD: usize = 1 << 50;

#[test]
fn with_no_thread_alive_every_caller_gets_a_typed_error() {
    for stack in [ABSURD, usize::MAX] {
        let backend = Scripted::default();
        let resolver = Resolver::builder().backend(backend.clone()).thread_stack(stack).build();
        for _ in 0..3 {
            let error = block_on(resolver.resolve("ok")).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::ThreadRefused);
            assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()), "{error:?}");
        }
        assert_eq!(backend.calls(), 0);
    }
}

/// Lets the address space of this process grow by no more than `bytes`; `None` lifts the limit.
fn limit_address_space(bytes: Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split_whitespace().next().unwrap().parse().unwrap();
    let current = bytes.map_or(libc::RLIM_INFINITY, |bytes| pages * 4096 + bytes);
    let limit = libc::rlimit { rlim_cur: current, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0, "{}", io::Error::last_os_error());
}

#[test]
fn with_others_alive_a_name_stays_queued_until_a_thread_may_start() {
    let backend = Scripted::default();
    let resolver = Resolver::builder().backend(backend.clone()).thread_stack(64 << 20).build();
    let _open = OpenOnDrop(&backend.gate);
    let hanging = resolver.resolve("hang");
    backend.gate.await_arrivals(1);

    limit_address_space(Some(32 << 20));
    let refused = thread::Builder::new().stack_size(64 << 20).spawn(|| ()).is_err();
    let mut queued = pin!(resolver.resolve("ok"));
    let pending = queued.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    limit_address_space(None);
    assert!(refused, "the limit does not hold here");
    assert!(pending);

    block_on(queued).expect("another try, while the first call still hangs");
    backend.gate.open();
    block_on(hanging).expect("an answer");
}
