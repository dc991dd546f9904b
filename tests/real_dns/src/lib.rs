//! A test bed for code that uses the system's resolver: namespaces with their own `resolv.conf`, `nsswitch.conf` and `hosts`,
//! and a DNS server on loopback whose answer depends on the name in the question.
//!
//! Each test in `tests/promises/` runs in its own namespaces. The benchmarks use the namespaces and the server too.

mod script;

pub mod namespace;
pub mod server;

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for an event before it fails. A test that passes never waits this long.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// Waits until `happened` returns true, which another part of the test brings about.
pub fn await_that(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < WATCHDOG, "{what}: not within {WATCHDOG:?}");
        thread::sleep(Duration::from_millis(1));
    }
}
