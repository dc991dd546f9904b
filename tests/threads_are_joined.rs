//! When a shutdown has completed cleanly, no thread of the crate's is left: what it was in may be unloaded.
//!
//! The only test of its binary, since it counts the process's threads.
#![cfg(target_os = "linux")]

mod support;

use futures::executor::block_on;
use futures::future::join_all;
use gaiter::Resolver;
use support::backend::Scripted;
use support::threads;

#[test]
fn no_thread_is_left() {
    for round in 0..200 {
        let resolver = Resolver::builder().backend(Scripted::default()).build();
        let lookups = (0..20).map(|number| resolver.resolve(format!("ok-{number}")));
        assert!(block_on(join_all(lookups)).iter().all(Result::is_ok));
        assert!(threads::alive() > 0);
        let report = if round % 2 == 0 { block_on(resolver.shutdown()) } else { resolver.shutdown().wait() };
        assert!(report.is_clean());
        assert_eq!(threads::alive(), 0, "round {round}");
    }
}
