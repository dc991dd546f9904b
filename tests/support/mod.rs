//! Helpers that the integration tests share.
#![allow(dead_code, unused_imports, reason = "every test binary uses a part of it")]

pub mod backend;
pub mod callers;
pub mod counting;
pub mod example;
pub mod gate;
pub mod log;
pub mod panics;
pub mod strict;
pub mod trace_matrix;

use std::time::Duration;

/// How long a test waits for an event before it fails. A test that passes never waits this long.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// A time that is longer than any test takes, even on a slow machine. Lookups that hang for ever fail after that.
pub const LONG: Duration = Duration::from_secs(300);

/// Returns a builder without a cache and without second calls: every lookup that joins no other is one call, however long it
/// hangs. No thread leaves by itself.
pub fn plain() -> gaiter::Builder {
    let builder = gaiter::Resolver::builder().cache(gaiter::CacheConfig::disabled()).hedge(gaiter::Hedge::off());
    builder.timeout(LONG).thread_keep_alive(LONG)
}

/// Returns a cache whose answers and failures stay fresh. A caller with an old answer waits for its lookup.
pub fn lasting() -> gaiter::CacheConfig {
    gaiter::CacheConfig::new().ttl(LONG).negative_ttl(LONG).stale_answer_timeout(LONG)
}
