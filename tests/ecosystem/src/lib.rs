//! What the tests share.

pub mod collector;
#[path = "../../support/gate.rs"]
pub mod gate;
pub mod names;
#[path = "../../support/panics.rs"]
pub mod panics;
pub mod servers;
pub mod tls;

use std::error::Error;
use std::time::Duration;

/// How long a test waits for an event before it fails. A test that passes never waits this long.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// Returns gaiter's error among the causes of a client's.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> &'a gaiter::Error {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|cause| cause.downcast_ref())
        .unwrap_or_else(|| panic!("gaiter's error is not among the causes of {error:?}"))
}
