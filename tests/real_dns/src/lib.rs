//! A test bed for resolvers that use the system's own: namespaces with a `resolv.conf`, `nsswitch.conf` and `hosts` of their
//! own, and a DNS server on loopback that does as the name in the question says.
//!
//! The tests in `tests/promises/` run each in namespaces of its own; the benchmarks use the same two pieces.

mod script;

pub mod namespace;
pub mod server;

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen before it calls it a failure. It never waits this long for a success.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// Waits until `happened`, which something else in the test is about to bring about.
pub fn await_that(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < WATCHDOG, "{what}: not within {WATCHDOG:?}");
        thread::sleep(Duration::from_millis(1));
    }
}
