//! Where there is no libc to bind to: lookups go through std, nothing forks, and descriptors are not counted.

pub(crate) fn watch_forks() {}

pub(crate) fn generation() -> u64 {
    0
}

pub(crate) fn descriptor_limit() -> Option<usize> {
    None
}
