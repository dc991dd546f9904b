//! A dynamic library that uses gaiter is loaded, used, shut down and unloaded, twice.
#![cfg(target_os = "linux")]

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::{fs, thread};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

/// Next to this test: `target/debug/examples/libplugin.so` for `target/debug/deps/plugin-…`.
fn plugin() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push("libplugin.so");
    path
}

fn is_mapped(library: &Path) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| line.ends_with(library.to_str().unwrap()))
}

/// Loads the plugin, uses it on several threads, and stops it. The threads end here, and with them the thread-locals that the
/// plugin's code has made on them.
fn use_it(path: &Path) -> Library {
    // SAFETY: the library has no initializers but those of Rust's runtime.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.unwrap();
    // Joined one by one: a scope waits for its closures alone, not for the ends of the threads.
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| resolve(&library))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let stopped = thread::scope(|scope| {
        let stop = scope.spawn(|| {
            // SAFETY: this is its signature in `examples/plugin.rs`.
            let stop: Symbol<extern "C" fn() -> bool> = unsafe { library.get(b"plugin_stop") }.unwrap();
            stop()
        });
        stop.join().unwrap()
    });
    assert!(stopped, "a thread is left");
    library
}

fn resolve(library: &Library) {
    // SAFETY: this is its signature in `examples/plugin.rs`.
    let resolve: Symbol<unsafe extern "C" fn(*const c_char) -> isize> =
        unsafe { library.get(b"plugin_resolve") }.unwrap();
    // SAFETY: the strings end with a NUL byte.
    let count = |name: &CStr| unsafe { resolve(name.as_ptr()) };
    assert!(count(c"localhost") > 0);
    assert_eq!(count(c"127.0.1"), 1);
    assert_eq!(count(c""), -1);
}

#[test]
fn a_plugin_is_unloaded_after_its_shutdown_and_works_when_loaded_again() {
    let path = plugin();
    for _ in 0..2 {
        assert!(!is_mapped(&path));
        let library = use_it(&path);
        assert!(is_mapped(&path));
        library.close().unwrap();
        assert!(!is_mapped(&path), "libc has kept it");
        // The plugin's handlers of `fork` have gone with it.
        // SAFETY: the child calls nothing but `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: it may be called after a fork.
            unsafe { libc::_exit(0) };
        }
        let mut status = -1;
        // SAFETY: the pointer is valid, and the child is this process's.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}
