//! User, network, mount and process namespaces. Inside, 127.0.0.1:53 is free and the resolver's configuration is writable.
//!
//! A program has to be started anew to enter them, because a process with threads cannot change its user namespace.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// Set in every process inside, to the mount namespace of that process.
const INSIDE: &str = "GAITER_INSIDE_NAMESPACE";

/// The initial `nsswitch.conf` of a namespace.
pub const NSSWITCH: &str = "hosts: files dns\n";

/// The initial hosts file of a namespace.
pub const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// The initial `resolv.conf` of a namespace. With it glibc makes two tries of 5 seconds.
pub const RESOLV: &str = "nameserver 127.0.0.1\n";

/// Prepares the namespaces before the program runs. The tmpfs hides nscd, which would answer in the resolver's place: a network
/// namespace does not keep out its Unix socket. A file that is bind-mounted over a path is rewritten in place.
const SET_UP: &str = r#"
set -eu
ip link set lo up
mount -t tmpfs tmpfs /run
for file in resolv.conf nsswitch.conf hosts; do
  target=$(readlink -m "/etc/$file")
  # What is missing is made where it vanishes with the namespace, or not at all.
  [ -e "$target" ] || case $target in
    /run/*) mkdir -p "${target%/*}"; : >"$target" ;;
    *) echo "there is no $target" >&2; exit 1 ;;
  esac
  printenv "GAITER_BED_${file%.conf}" >"/run/bed.$file"
  mount --bind "/run/bed.$file" "$target"
done
GAITER_INSIDE_NAMESPACE=$(readlink /proc/self/ns/mnt)
export GAITER_INSIDE_NAMESPACE
exec "$@"
"#;

/// Returns whether this process runs inside.
pub fn is_inside() -> bool {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    own.is_some_and(|own| env::var_os(INSIDE).is_some_and(|inside| own == inside))
}

/// Returns a command that runs `program` in new namespaces with only a loopback interface. After `seconds` the program and
/// everything that it started are killed.
pub fn command(program: impl AsRef<OsStr>, seconds: u32) -> Command {
    let mut command = Command::new("timeout");
    // In the foreground, so that Ctrl-C ends it too.
    command.args(["--foreground", "--kill-after=5", &seconds.to_string()]);
    command.args(["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["--mount-proc", "sh", "-c", SET_UP, "sh"]).arg(program);
    command.envs([("GAITER_BED_resolv", RESOLV), ("GAITER_BED_nsswitch", NSSWITCH)]);
    command.env("GAITER_BED_hosts", HOSTS);
    // These would change how glibc reads a resolv.conf.
    command.env_remove("RES_OPTIONS").env_remove("LOCALDOMAIN").env_remove("HOSTALIASES");
    command
}

/// Checks that this user may make such namespaces on this machine. The error is the system's message.
pub fn permitted() -> Result<(), String> {
    match command("true", 60).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("cannot run timeout(1): {error}")),
    }
}

/// Writes `resolv.conf`, `nsswitch.conf` or `hosts`.
///
/// # Panics
///
/// Panics outside a namespace, where the file would be the machine's own.
pub fn write(file: &str, content: &str) {
    assert!(is_inside(), "not the machine's own {file}");
    fs::write(Path::new("/etc").join(file), content).expect("bound over a file of our own");
}

/// Adds addresses to the loopback interface, so that there are source addresses of several scopes.
pub fn add_addresses(addresses: &[&str]) -> io::Result<()> {
    assert!(is_inside(), "not the machine's own loopback interface");
    for address in addresses {
        // Without `nodad` an IPv6 address is unusable for one second.
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        let status = Command::new("ip").args(["address", "add", address, "dev", "lo"]).args(nodad).status()?;
        assert!(status.success(), "ip address add {address}: {status}");
    }
    Ok(())
}
