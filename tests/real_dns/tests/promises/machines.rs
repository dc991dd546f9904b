//! Many machines that share one caching resolver: Unbound, in front of the scripted server.

use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{CacheConfig, Resolver, Source};
use gaiter_real_dns::server::Server;

use crate::peers::{getent, std_lookup};
use crate::support::{LONG, ask, await_that, cast, ips, plain};

const MACHINES: usize = 8;

/// Unbound answers its own `local-data`, forwards everything else to the scripted server, and asks no other server. It
/// serves expired answers while the scripted server is silent (RFC 8767).
const CONFIGURATION: &str = r#"
server:
  interface: 127.0.0.1
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  module-config: "iterator"
  username: ""
  chroot: ""
  directory: "/run"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  rrset-roundrobin: no
  serve-expired: yes
  serve-expired-reply-ttl: 1
  local-zone: "test." nodefault
  local-zone: "local.test." static
  local-data: "www.local.test. 60 IN A 192.0.2.60"
  local-data: "www.local.test. 60 IN AAAA 2001:db8::60"
forward-zone:
  name: "."
  forward-addr: 127.0.0.2@53
remote-control:
  control-enable: no
"#;

/// A running Unbound. Dropping it ends it.
struct Unbound(Child);

impl Unbound {
    fn start() -> Self {
        fs::write("/run/unbound.conf", CONFIGURATION).expect("a tmpfs of our own");
        let mut command = Command::new("/usr/sbin/unbound");
        command.args(["-d", "-c", "/run/unbound.conf"]).stdout(Stdio::null());
        let unbound = Self(command.spawn().expect("Debian's package unbound is installed"));
        await_that("Unbound", || std_lookup("www.local.test").is_ok());
        unbound
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a machine that looks up `names` and prints one line for each.
fn on_a_machine(names: &[&str]) -> Child {
    cast("machine", names)
}

fn told(mut machine: Child) -> Vec<String> {
    let mut printed = String::new();
    machine.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
    assert!(machine.wait().expect("it was started").success());
    printed.lines().map(str::to_owned).collect()
}

/// Plays one of the machines: a process with its own resolver.
pub fn play(names: &[String]) {
    let resolver = Resolver::builder().cache(CacheConfig::new().ttl(LONG).negative_ttl(LONG)).build();
    for name in names {
        // Twice: the second answer is from the machine's own cache.
        let first = outcome(ask(&resolver, name).map_err(|error| error.kind()));
        let again = block_on(resolver.resolve(name));
        assert!(
            again.as_ref().map_or_else(|error| error.is_cached(), |addrs| addrs.source() == Source::Cache),
            "{name}"
        );
        let second = outcome(again.map(|addrs| ips(&addrs)).map_err(|error| error.kind()));
        assert_eq!(first, second, "{name}");
        println!("{first}");
    }
}

fn outcome(result: Result<Vec<IpAddr>, gaiter::ErrorKind>) -> String {
    format!("{result:?}")
}

pub fn many_behind_unbound() {
    let server = Server::start_on("127.0.0.2:53");
    let _unbound = Unbound::start();
    let names = [
        "www.local.test",
        "nobody.local.test",
        "ok.test",
        "many-30.test",
        "chain-4.test",
        "nx.test",
        "nodata.test",
        "slow-50.test",
    ];
    let machines: Vec<Child> = (0..MACHINES).map(|_| on_a_machine(&names)).collect();
    let told: Vec<Vec<String>> = machines.into_iter().map(told).collect();
    for lines in &told {
        assert_eq!(lines, &told[0]);
        assert_eq!(lines.len(), names.len());
    }
    for (name, line) in names.iter().zip(&told[0]) {
        let ours = ask(&plain().build(), name).ok();
        assert_eq!(ours, std_lookup(name).ok(), "{name}");
        assert_eq!(ours, getent(name), "{name}");
        assert_eq!(ours.is_some(), line.starts_with("Ok"), "{name}: {line}");
        let line = line.split_at_checked(60).map_or(line.as_str(), |(begin, _)| begin);
        println!("  {name}: {line}, {} queries reached the server", server.count(name));
    }
    assert_eq!((server.count("www.local.test"), server.count("nobody.local.test")), (0, 0));
    // For all machines together. Unbound asks again for what takes long.
    let queries = server.count("ok.test");
    assert!((2..2 * MACHINES).contains(&queries), "{queries}");
}

pub fn unbound_serves_what_expired() {
    let server = Server::start_on("127.0.0.2:53");
    let _unbound = Unbound::start();
    let name = "ok.ttl-1.test";
    let before = told(on_a_machine(&[name]));
    let queries = server.count(name);
    server.set_silent(true);
    // Once Unbound asks the server again, its answer has expired. It still serves it, and so do the resolvers behind it.
    let resolver = plain().timeout(Duration::from_secs(10)).build();
    await_that("the end of its time", || {
        ask(&resolver, name).expect("an answer, expired or not");
        server.count(name) > queries
    });
    for machine in (0..MACHINES).map(|_| on_a_machine(&[name])).collect::<Vec<_>>() {
        assert_eq!(told(machine), before);
    }
    server.set_number(77);
    server.set_silent(false);
    await_that("new addresses", || {
        ask(&resolver, name).is_ok_and(|ips| ips.iter().any(|ip| ip.to_string().ends_with(".77")))
    });
}
