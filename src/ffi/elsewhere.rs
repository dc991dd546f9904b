//! Stand-ins for platforms without a libc to bind to: lookups go through std, nothing forks, and descriptors are not counted.
#![allow(unsafe_code)]

pub(crate) fn watch_forks() {}

pub(crate) fn generation() -> u64 {
    0
}

pub(crate) fn descriptor_limit() -> Option<usize> {
    None
}

/// Returns nanoseconds since the system started, in steps of 10 to 16 milliseconds. `Instant`'s clock takes longer to read.
#[cfg(windows)]
#[inline]
pub(crate) fn coarse_nanos() -> u64 {
    #[link(name = "kernel32")]
    // SAFETY: the signature is that of sysinfoapi.h. The function takes nothing, cannot fail, and may be called at any time.
    unsafe extern "system" {
        safe fn GetTickCount64() -> u64;
    }
    GetTickCount64().saturating_mul(1_000_000)
}

#[cfg(not(windows))]
pub(crate) fn coarse_nanos() -> u64 {
    exact_nanos()
}

/// Returns nanoseconds since the first call.
pub(crate) fn exact_nanos() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;

    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
