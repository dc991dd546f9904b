//! What the tests share: gates, a count of panics, and a collector.

pub mod collector;
#[path = "../../support/gate.rs"]
pub mod gate;
#[path = "../../support/panics.rs"]
pub mod panics;

use std::time::Duration;

/// How long a test waits for an event before it fails. A test that passes never waits this long.
pub const WATCHDOG: Duration = Duration::from_secs(60);
