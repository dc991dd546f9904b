//! A process that is out of descriptors gets typed errors, and gets answers again once it has descriptors.
//!
//! The only test of its binary, because the limit is the process's.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::collections::HashSet;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use futures::executor::block_on;
use gaiter::{Backend, ErrorKind, System};

/// Sets the soft limit of descriptors, and returns the former one.
fn limit_descriptors(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0, "{}", io::Error::last_os_error());
        let former = limit.rlim_cur;
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0, "{}", io::Error::last_os_error());
        former
    }
}

#[test]
fn lookups_fail_with_a_type_and_work_again() {
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&threads);
    let backend = move |name: &str| {
        seen.lock().unwrap().insert(thread::current().id());
        System::new().lookup(name)
    };
    // One thread, so that this thread or its replacement must work again.
    let resolver = support::plain().max_lookups(1).backend(backend).build();
    block_on(resolver.resolve("localhost")).expect("an answer");
    for _ in 0..20 {
        let former = limit_descriptors(0);
        let error = block_on(resolver.resolve("localhost")).expect_err("no descriptor is to be had");
        limit_descriptors(former);
        // Not "no such name", which would be an answer. The cause must be kept too.
        assert_eq!((error.kind(), error.code()), (ErrorKind::System, Some(libc::EAI_SYSTEM)), "{error:?}");
        let errno = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
        assert_eq!(errno, Some(libc::EMFILE));
        block_on(resolver.resolve("localhost")).expect("an answer");
    }
    // After an error such as EMFILE, libc's resolver may stay broken in that thread.
    assert_eq!(threads.lock().unwrap().len(), 21, "each failure costs its thread");
}
