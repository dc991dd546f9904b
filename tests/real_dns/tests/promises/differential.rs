//! The same addresses in the same order, or the same error, as `getent ahosts` and `std::net::ToSocketAddrs`.

use std::env;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::thread;

use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;

use crate::hickory;
use crate::peers::{getent, std_lookup};
use crate::support::{MUSL_LOOKUP, ask, gai_strerror, plain, tally};

/// Every kind of name that the scripted server knows, and names that need no server.
const NAMES: &[&str] = &[
    "ok.test",
    "OK.Test",
    "ok.test.",
    "a.test",
    "a-5.test",
    "aaaa.test",
    "aaaa-5.test",
    "many-4.test",
    "many-28.test",
    "many-30.test",
    "many-200.test",
    "scopes.test",
    "common.test",
    "chain-1.test",
    "chain-8.test",
    "loop.test",
    "dangling.test",
    "nodata.test",
    "nx.test",
    "nx4.test",
    "nx6.test",
    "servfail.test",
    "servfail4.test",
    "servfail6.test",
    "refused.test",
    "notimp.test",
    "formerr.test",
    "slow-200.test",
    "silent.test",
    "silent4.test",
    "silent6.test",
    "localhost",
    "ok",
    "127.1",
    "0x7f000001",
    "1.2.3",
    "1.2.3.4.5",
    "::1%lo",
    "::1%nosuch",
    "-",
    "a b",
    "ok..test",
    ".",
    "ok.under_score.test",
    "ok.xn--nxasmq6b.test",
    "ok.äö.test",
];

/// Names for which musl 1.2.3 gives other addresses or another error than glibc. `System`'s docs say why.
const UNLIKE_MUSL: &[&str] = &[
    // Answers that do not fit into a packet of 512 bytes.
    "many-28.test",
    "many-30.test",
    "many-200.test",
    // The order of addresses that cannot be reached.
    "scopes.test",
    "common.test",
    // No code for "no address".
    "nodata.test",
    // One family fails.
    "nx4.test",
    "nx6.test",
    "servfail4.test",
    "servfail6.test",
    "formerr.test",
    "silent6.test",
];

/// The result of a lookup, in terms that all three share.
type Outcome = Result<Vec<IpAddr>, String>;

fn by_gaiter(name: &str) -> Outcome {
    ask(&plain().timeout(None).build(), name).map_err(|error| match error.code() {
        Some(libc::EAI_SYSTEM) => std::error::Error::source(&error).map_or_else(String::new, ToString::to_string),
        Some(code) => gai_strerror(code),
        None => format!("no code: {error:?}"),
    })
}

/// Compares the results of the three for every name. Returns how many names have addresses.
fn compare(names: &[&str]) -> usize {
    let compare = |name: &str| {
        let ours = by_gaiter(name);
        assert_eq!(ours, std_lookup(name), "{name}: gaiter (left) and std (right)");
        assert_eq!(ours.clone().ok(), getent(name), "{name}: gaiter (left) and getent (right)");
        ours
    };
    let outcomes = thread::scope(|scope| {
        let asked: Vec<_> = names.iter().map(|&name| (name, scope.spawn(move || compare(name)))).collect();
        let mut outcomes = Vec::new();
        for (name, thread) in asked {
            outcomes.push((name, thread.join().unwrap_or_else(|_| panic!("{name} differs"))));
        }
        outcomes
    });
    let said = outcomes.iter().map(|(_, outcome)| match outcome {
        Ok(_) => "addresses",
        Err(error) => error,
    });
    println!("  {} names, all alike: {:?}", names.len(), tally(said));
    outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count()
}

/// Timeouts that are long enough for a slow machine, and short enough for a trial.
const PATIENCE: &str = "timeout:3 attempts:1";

fn resolv_conf(lines: &str) {
    namespace::write("resolv.conf", &format!("nameserver 127.0.0.1\noptions {PATIENCE}\n{lines}"));
}

pub fn loopback_only() {
    let server = Server::start();
    resolv_conf("");
    assert!(compare(NAMES) > 15);
    hickory::agrees(NAMES, hickory::EXCEPTIONS);
    assert!(server.questions().iter().any(|question| question.tcp), "something was truncated");
}

/// Compares libcs: `examples/lookup` built for musl, and this program on glibc.
pub fn musl() {
    let _server = Server::start();
    resolv_conf("");
    let program = env::var_os(MUSL_LOOKUP).expect("the trial is ignored without it");
    let output = Command::new(program).args(NAMES).output().expect("it is a program");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(printed.lines().count(), NAMES.len(), "{printed}");
    let by_glibc = thread::scope(|scope| {
        let asked: Vec<_> = NAMES.iter().map(|&name| scope.spawn(move || in_one_line(name))).collect();
        asked.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    let mut differ = Vec::new();
    for ((name, glibc), musl) in NAMES.iter().zip(&by_glibc).zip(printed.lines()) {
        if glibc != musl {
            println!("  {name}: glibc {}, musl {}", shortened(glibc), shortened(musl));
            differ.push(*name);
        }
    }
    assert_eq!(differ, UNLIKE_MUSL);
}

fn shortened(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        [.., _, _] if words.len() > 8 => format!("{} … ({})", words[..8].join(" "), words.len()),
        _ => line.to_owned(),
    }
}

/// Returns what `examples/lookup` prints of a name.
fn in_one_line(name: &str) -> String {
    match ask(&plain().timeout(None).build(), name) {
        Ok(ips) => ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => format!("{:?} {}", error.kind(), error.code().map_or_else(String::new, |code| code.to_string())),
    }
}

pub fn both_families() {
    let _server = Server::start();
    resolv_conf("");
    namespace::add_addresses(&["192.0.2.200/24", "10.9.9.9/8", "2001:db8::200/64", "fd00::200/64"]).unwrap();
    assert!(compare(NAMES) > 15);
    // glibc also sorts IPv4 addresses of the machine's own network, by common prefix.
    hickory::agrees(NAMES, &[hickory::EXCEPTIONS, &["many-200.test"]].concat());
}

pub fn ipv4_only() {
    let _server = Server::start();
    resolv_conf("");
    namespace::add_addresses(&["192.0.2.200/24"]).unwrap();
    // `getent` sets AI_ADDRCONFIG, which leaves out IPv6 here.
    assert!(compare(&["a.test", "a-5.test", "nx.test", "servfail.test", "127.0.0.1"]) > 2);
    let names = ["scopes.test", "many-4.test", "ok.test", "localhost"];
    for name in names {
        assert_eq!(by_gaiter(name), std_lookup(name), "{name}");
    }
    hickory::agrees(&names, hickory::EXCEPTIONS);
}

pub fn search_list() {
    let server = Server::start();
    const SHORT: &[&str] = &["ok", "ok.", "ok.sub", "nx", "nodata", "servfail", "a.b.c", "ok.test", "many-30"];
    for lines in [
        "search absent.test found.test\n",
        "search absent.test found.test\noptions ndots:2\n",
        "search absent.test found.test\noptions ndots:5\n",
        "search absent.test found.test\noptions ndots:0\n",
        "search a.absent.test b.absent.test c.absent.test d.absent.test e.absent.test f.absent.test found.test\n",
        "domain found.test\n",
        "search refusing.test found.test\n",
        "search silent.test found.test\n",
        "search .absent.test found.test -no-name\n",
        "search .\n",
        "search found.test\noptions no-tld-query\n",
    ] {
        println!("  {}", lines.trim_end().replace('\n', "; "));
        resolv_conf(lines);
        assert_eq!(compare(SHORT), 6, "{lines}");
        // If a name of the search list fails, glibc goes by the other names.
        let untold = lines.contains("refusing") || lines.contains("silent");
        hickory::agrees(SHORT, if untold { &["nx", "nodata"] } else { &[] });
        // `silent` takes long, and hickory ignores `no-tld-query`.
        if !lines.contains("silent") && !lines.contains("no-tld-query") {
            hickory::asks_alike(&server, SHORT);
        }
    }
}

pub fn edns_and_single_request() {
    let server = Server::start();
    let names =
        ["ok.test", "many-30.test", "many-200.test", "nx.test", "nodata.test", "servfail6.test", "chain-8.test"];
    for option in ["edns0", "single-request", "single-request-reopen", "use-vc", "trust-ad", "no-aaaa"] {
        println!("  options {option}");
        resolv_conf(&format!("options {option}\n"));
        assert!(compare(&names) >= 4);
        if option != "no-aaaa" {
            hickory::agrees(&names, &[]);
        }
    }
    assert!(server.questions().iter().any(|question| question.tcp && question.name == "ok.test"), "use-vc was heeded");
}

pub fn a_second_server_behind_one_that_refuses() {
    let second = Server::start_on("127.0.0.3:53");
    namespace::write("resolv.conf", &format!("nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions {PATIENCE}\n"));
    let names = ["ok.test", "many-30.test", "nx.test", "nodata.test", "servfail.test"];
    assert!(compare(&names) == 2);
    hickory::agrees(&names, &[]);
    assert!(second.count("ok.test") >= 2);
}

pub fn a_second_server_behind_one_that_is_silent() {
    let _dead = UdpSocket::bind("127.0.0.2:53").unwrap();
    let second = Server::start_on("127.0.0.3:53");
    namespace::write("resolv.conf", &format!("nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions {PATIENCE}\n"));
    let names = ["ok.test", "many-30.test", "nx.test", "nodata.test", "servfail.test"];
    assert!(compare(&names) == 2);
    hickory::agrees(&names, &[]);
    assert!(second.count("ok.test") >= 2);
}

pub fn no_server_at_all() {
    resolv_conf("");
    assert_eq!(compare(&["ok.test", "localhost", "127.0.0.1"]), 2);
    hickory::agrees(&["ok.test", "localhost", "127.0.0.1"], &[]);
    // glibc also decides what replaces a missing or empty file.
    for nothing in ["", "nonsense\nnameserver not-an-address\n\0\n"] {
        namespace::write("resolv.conf", nothing);
        assert_eq!(compare(&["ok.test", "localhost"]), 1);
        let error = gaiter::Hickory::from_system().expect_err("nobody is made up");
        assert_eq!(error.kind(), gaiter::ErrorKind::Other, "{error:?}");
    }
}

pub fn hosts_file() {
    let server = Server::start();
    resolv_conf("");
    let hosts = "127.0.0.1 localhost\n\
        192.0.2.10 one.test alias.test\n\
        192.0.2.11 one.test\n\
        2001:db8::11 one.test\n\
        2001:db8::12 six.test\n\
        192.0.2.13 ok.test\n\
        192.0.2.14 dotted. UPPER.test\n\
        not-an-address broken.test\n\
        192.0.2.15\n\
        192.0.2.16 short\n";
    namespace::write("hosts", hosts);
    let names =
        ["one.test", "alias.test", "six.test", "ok.test", "dotted", "upper.test", "broken.test", "short", "localhost"];
    assert_eq!(compare(&names), 7);
    hickory::agrees(&names, &[]);
    hickory::agrees(&["one.test.", "ONE.test", "dotted.", "localhost"], &[]);
    assert_eq!(server.count("ok.test"), 0, "the file comes first");
    namespace::write("nsswitch.conf", "hosts: dns files\n");
    assert_eq!(compare(&names), 7);
    assert!(server.count("ok.test") > 0, "the server comes first");
    namespace::write("nsswitch.conf", "hosts: files\n");
    assert_eq!(compare(&names), 7);
    namespace::write("nsswitch.conf", "hosts: files [NOTFOUND=return] dns\n");
    assert_eq!(compare(&["a.test", "one.test"]), 1);
}
