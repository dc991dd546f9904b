//! A plugin that resolves names: a dynamic library, loaded and unloaded by `tests/plugin.rs`.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use gaiter::Resolver;

static RESOLVER: OnceLock<Resolver> = OnceLock::new();

/// Returns the number of addresses of `name`, or -1.
///
/// # Safety
///
/// `name` points to a string that ends with a NUL byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plugin_resolve(name: *const c_char) -> isize {
    // SAFETY: the caller's promise.
    let Ok(name) = unsafe { CStr::from_ptr(name) }.to_str() else { return -1 };
    RESOLVER.get_or_init(Resolver::new).resolve(name).wait().map_or(-1, |addrs| addrs.count().cast_signed())
}

/// Waits for all lookups and threads. Returns whether the library may be unloaded: no thread is left that runs its code.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_stop() -> bool {
    RESOLVER.get().is_none_or(|resolver| resolver.shutdown().wait().is_clean())
}
