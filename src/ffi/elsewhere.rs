//! Stand-ins for platforms without a libc to bind to: lookups go through std, nothing forks, and descriptors are not counted.

use std::sync::OnceLock;
use std::time::Instant;

pub(crate) fn watch_forks() {}

pub(crate) fn generation() -> u64 {
    0
}

pub(crate) fn descriptor_limit() -> Option<usize> {
    None
}

pub(crate) fn coarse_nanos() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
