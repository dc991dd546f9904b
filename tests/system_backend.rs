//! Compares the system backend with std's use of `getaddrinfo`: same addresses, same order, and the platform's code.

use std::error::Error as _;
use std::net::{SocketAddr, ToSocketAddrs};

use futures::executor::block_on;
use gaiter::{Backend, ErrorKind, Resolver, System};
use proptest::prelude::*;

fn std_says(name: &str) -> Result<Vec<SocketAddr>, String> {
    (name, 0).to_socket_addrs().map(Iterator::collect).map_err(|error| error.to_string())
}

fn assert_agrees(name: &str) {
    let ours = block_on(Resolver::new().resolve(name)).map(Iterator::collect::<Vec<_>>);
    match (ours, std_says(name)) {
        (Ok(ours), Ok(std)) => assert_eq!(ours, std, "{name}"),
        (Err(ours), Err(std)) => {
            let text = ours.to_string();
            let (words, _symbol) = text.rsplit_once(" (").unwrap();
            // A code of the operating system is in the source, with its words.
            let words =
                ours.source().map_or_else(|| words.rsplit(": ").next().unwrap().to_owned(), |os| os.to_string());
            assert!(std.ends_with(&words), "{name}: {ours}, std {std}");
        }
        (ours, std) => panic!("{name}: {ours:?}, std {std:?}"),
    }
}

#[test]
fn names_of_this_machine_agree_with_std() {
    let mut names = vec!["localhost".to_owned(), "LOCALHOST".to_owned(), "localhost.".to_owned()];
    if let Ok(hosts) = std::fs::read_to_string("/etc/hosts") {
        let uncommented = hosts.lines().filter_map(|line| line.split('#').next());
        names.extend(uncommented.flat_map(|line| line.split_whitespace().skip(1).map(str::to_owned)));
    }
    names.extend(std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned()));
    for name in names.iter().filter(|name| !name.is_empty()) {
        assert_agrees(name);
    }
}

#[test]
fn literals_agree_with_std() {
    for name in
        ["127.0.0.1", "::1", "::ffff:192.0.2.1", "2001:DB8::1", "127.1", "0x7f.1", "010.0.0.1", "1", "fe80::1%1"]
    {
        assert_agrees(name);
    }
}

/// URLs have this form, and clients pass it on.
#[test]
fn an_ipv6_address_in_brackets_is_that_address() {
    for (name, ip) in [("[::1]", "::1"), ("[2001:DB8::1]", "2001:db8::1")] {
        let addrs: Vec<_> = block_on(Resolver::new().resolve(name)).expect("an address").collect();
        assert_eq!(addrs, [SocketAddr::new(ip.parse().unwrap(), 0)]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_scope_is_kept() {
    assert_agrees("fe80::1%lo");
    let addrs: Vec<_> = block_on(Resolver::new().resolve("fe80::1%lo")).expect("an answer").collect();
    let [SocketAddr::V6(addr)] = addrs[..] else { panic!("{addrs:?}") };
    assert_ne!(addr.scope_id(), 0);
}

#[test]
fn names_that_do_not_exist_agree_with_std() {
    for name in
        ["name.invalid", "[127.0.0.1]", "1.2.3.4:80", "a b", "-", "..", "127.0.0.1.example.invalid", "é.invalid"]
    {
        assert_agrees(name);
    }
}

#[test]
#[cfg(unix)]
fn a_code_keeps_its_number_and_its_kind() {
    let error = block_on(Resolver::new().resolve("name.invalid")).expect_err("it does not exist");
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, Some(libc::EAI_NONAME)));
    assert!(error.is_not_found() && !error.is_temporary());
    assert!(error.to_string().starts_with("failed to resolve name.invalid: "), "{error}");
    assert!(error.to_string().ends_with("(EAI_NONAME)"), "{error}");
    assert!(error.source().is_none());
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
}

#[test]
#[cfg(windows)]
fn a_code_keeps_its_number_and_its_kind() {
    const WSAHOST_NOT_FOUND: i32 = 11001;
    let error = block_on(Resolver::new().resolve("name.invalid")).expect_err("it does not exist");
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, Some(WSAHOST_NOT_FOUND)));
    assert_eq!(error.to_string(), "failed to resolve name.invalid: no such host (WSAHOST_NOT_FOUND)");
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()?.raw_os_error());
    assert_eq!(source, Some(WSAHOST_NOT_FOUND));
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn what_no_system_could_take_is_refused_before_the_call() {
    let long = "a".repeat(1025);
    for name in ["", "a\0b", &long] {
        let error = block_on(Resolver::new().resolve(name)).expect_err("refused");
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidName, None));
    }
    // The backend itself refuses a name with a NUL byte, which C would cut short.
    assert_eq!(System::new().lookup("a\0b").expect_err("refused").kind(), ErrorKind::InvalidName);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tests that std and `getaddrinfo` read a literal as the same address.
    #[test]
    fn literals_mean_to_the_system_what_they_mean_here(addr: std::net::IpAddr) {
        let text = addr.to_string();
        let ours: Vec<_> = block_on(Resolver::new().resolve(&text)).expect("itself").collect();
        let system = System::new().lookup(&text).expect("itself");
        prop_assert_eq!(system.iter().collect::<Vec<_>>(), ours);
    }
}
