//! What the trials share.

use std::collections::BTreeMap;
use std::env;
use std::ffi::CStr;
use std::fs;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{Addrs, CacheConfig, Error, Hedge, Resolver};

use crate::{endings, hung, machines};

pub use gaiter_real_dns::await_that;

/// Names the program for `differential::musl`.
pub const MUSL_LOOKUP: &str = "GAITER_MUSL_LOOKUP";

/// A time that does not pass in a trial, however slow the machine is.
pub const LONG: Duration = Duration::from_secs(3600);

/// Returns a builder without a cache and without second calls: every lookup that joins no other is one call, however long it
/// hangs. No thread leaves by itself.
pub fn plain() -> gaiter::Builder {
    let builder = Resolver::builder().cache(CacheConfig::disabled()).hedge(Hedge::off());
    builder.timeout(LONG).thread_keep_alive(LONG)
}

/// Returns the addresses of a lookup by `resolver`, or its error.
pub fn ask(resolver: &Resolver, name: &str) -> Result<Vec<IpAddr>, Error> {
    block_on(resolver.resolve(name)).map(|addrs| ips(&addrs))
}

pub fn ips(addrs: &Addrs) -> Vec<IpAddr> {
    addrs.clone().map(|addr| addr.ip()).collect()
}

/// Returns libc's message for an error code of `getaddrinfo`.
pub fn gai_strerror(code: i32) -> String {
    // SAFETY: for any code it returns a static, null-terminated string.
    unsafe { CStr::from_ptr(libc::gai_strerror(code)) }.to_string_lossy().into_owned()
}

/// Returns the number of this process's threads whose names begin with `prefix`.
pub fn threads_named(prefix: &str) -> usize {
    let names = fs::read_dir("/proc/self/task").expect("procfs is mounted").flatten();
    let names = names.flat_map(|task| fs::read_to_string(task.path().join("comm")));
    names.filter(|name| name.starts_with(prefix)).count()
}

/// Returns how much memory this process has in use, in KiB.
pub fn resident() -> usize {
    status("VmRSS:")
}

/// Returns a figure of this process that procfs gives in KiB.
pub fn status(figure: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).expect("a line of it");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Counts equal things.
pub fn tally<T: Ord>(things: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    for thing in things {
        *tally.entry(thing).or_default() += 1;
    }
    tally
}

/// Starts this program again, in the same namespaces, to play `role`.
pub fn cast(role: &str, arguments: &[&str]) -> Child {
    let program = env::current_exe().expect("Linux knows it");
    let mut command = Command::new(program);
    command.arg(role).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("it runs already")
}

/// Plays `role`, in a process that [`cast`] started.
pub fn play(role: &str) {
    let arguments: Vec<String> = env::args().skip(2).collect();
    match role {
        "endings" => endings::play(&arguments),
        "hung" => hung::play(&arguments),
        "machine" => machines::play(&arguments),
        _ => panic!("no role {role}"),
    }
}
