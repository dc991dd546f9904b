//! The address filter lets public addresses pass and denies all others, in whatever form and by whatever way they come.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{AddrFilter, Answer, CacheConfig, Error, ErrorKind, IpNet, Ipv6Net, Resolver, Source};
use support::backend::Scripted;
use support::lasting;

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn passes(filter: &AddrFilter, ip: IpAddr) -> bool {
    match filter.check_ip(ip) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_denied() && error.to_string().contains(&ip.to_string()), "{error}");
            false
        }
    }
}

/// Returns the address that is `step` after another one, if there is one.
fn next(ip: IpAddr, step: i8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) => u32::from(v4).checked_add_signed(step.into()).map(|bits| Ipv4Addr::from(bits).into()),
        IpAddr::V6(v6) => u128::from(v6).checked_add_signed(step.into()).map(|bits| Ipv6Addr::from(bits).into()),
    }
}

/// Checks the first and the last address of each network, and their neighbours. A row has the network, and whether the address
/// before it, those in it and the one after it pass.
fn check_table(table: &str) {
    let public = AddrFilter::public_only();
    let mut rows = 0;
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let [network, before, within, after] = row.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{row}") };
        let network = net(network);
        let (first, last) = match network {
            IpNet::V4(net) => (IpAddr::from(net.network()), IpAddr::from(net.broadcast())),
            IpNet::V6(net) => (IpAddr::from(net.network()), IpAddr::from(net.broadcast())),
        };
        for (ip, wanted) in
            [(next(first, -1), before), (Some(first), within), (Some(last), within), (next(last, 1), after)]
        {
            let verdict = ip.map_or("none", |ip| if passes(&public, ip) { "public" } else { "denied" });
            assert_eq!(verdict, wanted, "{ip:?}, in or next to {network}");
        }
        rows += 1;
    }
    assert!(rows > 25, "only {rows} rows were read");
}

#[test]
fn special_ipv4_networks_end_where_the_registry_says() {
    check_table(
        "
        0.0.0.0/8           none   denied public
        0.0.0.0/32          none   denied denied
        10.0.0.0/8          public denied public
        100.64.0.0/10       public denied public
        127.0.0.0/8         public denied public
        168.63.129.16/32    public denied public
        169.254.0.0/16      public denied public
        169.254.169.254/32  denied denied denied
        172.16.0.0/12       public denied public
        192.0.0.0/24        public denied public
        192.0.0.0/29        public denied denied
        192.0.0.8/32        denied denied public
        192.0.0.9/32        denied public public
        192.0.0.10/32       public public denied
        192.0.0.170/32      denied denied denied
        192.0.0.171/32      denied denied denied
        192.0.2.0/24        public denied public
        192.31.196.0/24     public public public
        192.52.193.0/24     public public public
        192.88.99.0/24      public denied public
        192.88.99.2/32      denied denied denied
        192.168.0.0/16      public denied public
        192.175.48.0/24     public public public
        198.18.0.0/15       public denied public
        198.51.100.0/24     public denied public
        203.0.113.0/24      public denied public
        224.0.0.0/4         public denied denied
        240.0.0.0/4         denied denied none
        255.255.255.255/32  denied denied none
        ",
    );
}

#[test]
fn special_ipv6_networks_end_where_the_registry_says() {
    // Of networks with IPv4 addresses inside, the first and the last are those of 0.0.0.0 and 255.255.255.255.
    check_table(
        "
        ::/128                none   denied denied
        ::1/128               denied denied denied
        ::/96                 none   denied denied
        ::ffff:0:0/96         denied denied denied
        64:ff9b::/96          denied denied denied
        64:ff9b:1::/48        denied denied denied
        100::/64              denied denied denied
        100:0:0:1::/64        denied denied denied
        2000::/3              denied public denied
        2001::/23             public denied public
        2001::/32             public denied denied
        2001:1::1/128         denied public public
        2001:1::2/128         public public public
        2001:1::3/128         public public denied
        2001:2::/48           denied denied denied
        2001:3::/32           denied public denied
        2001:4:112::/48       denied public denied
        2001:10::/28          denied denied public
        2001:20::/28          denied public public
        2001:30::/28          public public denied
        2001:db8::/32         public denied public
        2002::/16             public denied public
        2620:4f:8000::/48     public public public
        3fff::/20             public denied public
        5f00::/16             denied denied denied
        fc00::/7              denied denied denied
        fd00:ec2::254/128     denied denied denied
        fe80::/10             denied denied denied
        fec0::/10             denied denied denied
        ff00::/8              denied denied none
        ",
    );
}

/// Returns the addresses that have `v4` inside.
fn wrapped(v4: Ipv4Addr) -> Vec<IpAddr> {
    let [a, b, c, d] = v4.octets();
    let hex = format!("{:x}:{:x}", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let public = Ipv4Addr::new(8, 8, 8, 8);
    let teredo = |server: Ipv4Addr, client: Ipv4Addr| {
        0x2001_0000 << 96 | u128::from(u32::from(server)) << 64 | u128::from(!u32::from(client))
    };
    [format!("::ffff:{v4}"), format!("::{v4}"), format!("64:ff9b::{v4}"), format!("2002:{hex}::1")]
        .iter()
        .map(|text| ip(text))
        .chain([teredo(v4, public), teredo(public, v4)].map(|bits| Ipv6Addr::from(bits).into()))
        .collect()
}

#[test]
fn an_ipv4_address_inside_an_ipv6_address_is_judged() {
    let public = AddrFilter::public_only();
    for v4 in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "168.63.129.16", "224.0.0.1"] {
        for ip in wrapped(v4.parse().unwrap()) {
            let error = public.check_ip(ip).expect_err(&ip.to_string());
            assert!(error.to_string().contains(&format!("{ip} contains {v4}, which is in ")), "{error}");
        }
    }
    for v4 in ["8.8.8.8", "192.0.0.9", "1.1.1.1"] {
        for ip in wrapped(v4.parse().unwrap()) {
            assert!(passes(&public, ip), "{ip}");
        }
    }
    // Networks of the program's own count too, and an allowed network around does not help.
    let filter = AddrFilter::any().deny_net(net("8.8.0.0/16")).allow_net(net("::/0"));
    for ip in wrapped(Ipv4Addr::new(8, 8, 8, 8)) {
        assert!(!passes(&filter, ip), "{ip}");
    }
    // It is the address inside that must be allowed.
    let filter = AddrFilter::public_only().allow_net(ip("127.0.0.1"));
    for ip in wrapped(Ipv4Addr::LOCALHOST) {
        assert!(passes(&filter, ip), "{ip}");
    }
    assert!(!passes(&filter, ip("::1")));
}

#[test]
fn a_nat64_prefix_of_the_networks_own_is_unwrapped() {
    // RFC 6052, section 2.4, with 192.0.2.33.
    for (prefix, address) in [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ] {
        let filter = AddrFilter::public_only().nat64_prefix(prefix.parse().unwrap());
        let error = filter.check_ip(ip(address)).expect_err(address).to_string();
        assert!(error.contains("contains 192.0.2.33, which is in 192.0.2.0/24"), "{error}");
        // The prefix itself is in documentation space. What is behind it is not.
        assert!(passes(&filter.allow_net(net("192.0.2.0/24")), ip(address)), "{address}");
    }
    let known = AddrFilter::public_only().nat64_prefix("2a00:1450:64::/96".parse().unwrap());
    assert!(passes(&AddrFilter::public_only(), ip("2a00:1450:64::10.0.0.1")), "nothing tells it from others");
    assert!(!passes(&known, ip("2a00:1450:64::10.0.0.1")));
    assert!(passes(&known, ip("2a00:1450:64::8.8.8.8")));
    let odd: Ipv6Net = "2a00:1450::/44".parse().unwrap();
    assert!(!passes(&AddrFilter::any().nat64_prefix(odd), ip("2a00:1450::1")), "no length of RFC 6052");
}

#[test]
fn the_smallest_network_decides() {
    let filter = AddrFilter::public_only()
        .deny_net(net("8.8.8.0/24"))
        .allow_net(net("10.0.0.0/8"))
        .deny_net(net("10.1.0.0/16"))
        .allow_net(ip("10.1.1.1"))
        .deny_net(net("10.2.0.0/16"))
        .allow_net(net("10.2.0.7/16"));
    for (address, pass) in [
        ("8.8.8.8", false),
        ("8.8.9.8", true),
        ("10.0.0.1", true),
        ("10.1.0.1", false),
        ("10.1.1.1", true),
        ("10.2.0.1", false),
        ("172.16.0.1", false),
    ] {
        assert_eq!(passes(&filter, ip(address)), pass, "{address}");
    }
    let error = filter.check_ip(ip("10.1.0.1")).unwrap_err().to_string();
    let text = "failed to resolve 10.1.0.1: denied by the filter: 10.1.0.1 is in the denied network 10.1.0.0/16";
    assert_eq!(error, text);
    assert!(passes(&AddrFilter::any(), ip("127.0.0.1")));
}

/// Returns a resolver with a filter and the number of calls of its backend, which gives these addresses for all names.
fn with(filter: AddrFilter, addrs: &[&str]) -> (Resolver, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (count, answer): (_, Answer) = (Arc::clone(&calls), addrs.iter().map(|text| ip(text)).collect());
    let backend = move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Error>(answer.clone())
    };
    (support::plain().cache(lasting()).backend(backend).filter(filter).build(), calls)
}

fn resolve(resolver: &Resolver, name: &str) -> Result<Vec<IpAddr>, Error> {
    Ok(block_on(resolver.resolve(name))?.map(|addr| addr.ip()).collect())
}

#[track_caller]
fn denied(resolver: &Resolver, name: &str) -> String {
    let error = resolve(resolver, name).expect_err(name);
    assert!(error.is_denied() && error.name() == Some(name), "{error:?}");
    error.to_string()
}

#[test]
fn one_denied_address_denies_the_name_unless_the_rest_may_pass() {
    let mixed = ["8.8.8.8", "10.0.0.1", "2606:4700::1"];
    let (resolver, _) = with(AddrFilter::public_only(), &mixed);
    assert_eq!(
        denied(&resolver, "mixed.example"),
        "failed to resolve mixed.example: denied by the filter: 10.0.0.1 is in 10.0.0.0/8 (private use, RFC 1918)"
    );
    let (resolver, _) = with(AddrFilter::public_only().pass_rest(true), &mixed);
    assert_eq!(resolve(&resolver, "mixed.example").unwrap(), [ip("8.8.8.8"), ip("2606:4700::1")]);
    let (resolver, _) = with(AddrFilter::public_only().pass_rest(true), &["10.0.0.1", "::1"]);
    denied(&resolver, "private.example");
}

#[test]
fn a_denial_is_remembered_as_long_as_a_negative_answer() {
    let (resolver, calls) = with(AddrFilter::public_only(), &["10.0.0.1"]);
    let first = block_on(resolver.resolve("a.example")).unwrap_err();
    let second = block_on(resolver.resolve("A.example")).unwrap_err();
    assert!(!first.is_cached() && second.is_cached() && second.is_denied());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(resolver.stats().failed[&ErrorKind::Denied], 1);

    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let resolver = support::plain()
        .backend(move |_: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            // The stranger's own TTL does not count.
            Ok::<_, Error>(Answer::from(ip("10.0.0.1")).with_ttl(Duration::from_secs(3600)))
        })
        .cache(CacheConfig::new().negative_ttl(Duration::ZERO))
        .filter(AddrFilter::public_only())
        .build();
    denied(&resolver, "a.example");
    denied(&resolver, "a.example");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_denied_name_makes_no_call() {
    let (resolver, calls) = with(AddrFilter::any().deny_name(".internal").deny_name("secret.example"), &["8.8.8.8"]);
    let text = denied(&resolver, "db.internal");
    assert_eq!(
        text,
        "failed to resolve db.internal: denied by the filter: the name matches \".internal\", which is denied"
    );
    denied(&resolver, "SECRET.example.");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert_eq!(resolver.stats().started, 0);
    resolve(&resolver, "internal").unwrap();

    let (resolver, calls) = with(AddrFilter::public_only().allow_name("api.example"), &["8.8.8.8"]);
    denied(&resolver, "other.example");
    denied(&resolver, "8.8.8.8");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    resolve(&resolver, "api.example").unwrap();
}

#[test]
fn an_address_in_place_of_a_name_is_judged() {
    let (resolver, calls) = with(AddrFilter::public_only(), &["8.8.8.8"]);
    for text in ["127.0.0.1", "::1", "[::1]", "[::ffff:10.0.0.1]", "fd00:ec2::254"] {
        denied(&resolver, text);
    }
    let addrs = block_on(resolver.resolve("[2606:4700::1]")).unwrap();
    assert_eq!(addrs.source(), Source::Literal);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    resolver.close();
    assert!(block_on(resolver.resolve("127.0.0.1")).unwrap_err().is_closed());
    assert!(block_on(resolver.resolve("a.example")).unwrap_err().is_closed());
}

#[test]
fn other_forms_of_an_address_are_judged_by_what_the_system_reads() {
    let resolver = Resolver::builder().filter(AddrFilter::public_only()).build();
    for text in ["127.1", "2130706433", "0x7f.1", "0177.0.0.1"] {
        assert!(resolve(&resolver, text).is_err(), "{text}");
    }
    if cfg!(target_os = "linux") {
        denied(&resolver, "127.1");
        denied(&resolver, "localhost");
    }
}

#[test]
fn a_scope_and_a_port_do_not_hide_an_address() {
    let scoped: SocketAddr = "[fe80::1%3]:443".parse().unwrap();
    let resolver =
        Resolver::builder().backend(move |_: &str| Ok::<_, Error>([scoped])).filter(AddrFilter::public_only());
    denied(&resolver.build(), "a.example");
    let filter = AddrFilter::public_only().allow_net(net("fe80::/10"));
    let resolver = Resolver::builder().backend(move |_: &str| Ok::<_, Error>([scoped])).filter(filter).build();
    assert_eq!(block_on(resolver.resolve("a.example")).unwrap().collect::<Vec<_>>(), [scoped]);
}

#[test]
fn hosts_are_checked_in_every_form() {
    let filter = AddrFilter::public_only().deny_name(".internal");
    for host in [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "fe80::1%eth0",
        "[127.0.0.1]",
        "010.0.0.1",
        "169.254.169.254",
        "db.internal",
        "[db.internal]",
        "db.internal.",
        "[64:ff9b::127.0.0.1]",
    ] {
        let error = filter.check_host(host).expect_err(host);
        assert!(error.is_denied() && error.name() == Some(host), "{error:?}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::PermissionDenied);
    }
    for host in ["example.com", "8.8.8.8", "134744072", "[2606:4700::1]", "localhost", "xn--bcher-kva.example"] {
        filter.check_host(host).unwrap_or_else(|error| panic!("{error}"));
    }
    for host in ["", "127.0.0.1:80", "http://127.0.0.1", "a b", "１２７.1", "a/b"] {
        assert_eq!(filter.check_host(host).expect_err(host).kind(), ErrorKind::InvalidName);
    }
}

#[test]
fn where_only_some_names_are_allowed_an_address_must_be_allowed_too() {
    let filter = AddrFilter::public_only().allow_name("api.example").allow_net(net("10.0.0.0/8"));
    for (host, pass) in [("api.example", true), ("8.8.8.8", false), ("10.0.0.1", true), ("[2606:4700::1]", false)] {
        assert_eq!(filter.check_host(host).is_ok(), pass, "{host}");
    }
    let all = filter.allow_name(".");
    assert!(all.check_host("8.8.8.8").is_ok() && all.check_host("other.example").is_ok());
}

#[test]
fn a_backend_may_deny_too() {
    let resolver = Resolver::builder().backend(|_: &str| Err::<Answer, _>(ErrorKind::Denied)).build();
    assert_eq!(denied(&resolver, "a.example"), "failed to resolve a.example: denied");
}

#[test]
fn without_a_filter_nothing_is_denied() {
    let resolver = Scripted::default().builder(4).build();
    assert!(resolver.filter().is_none() && resolver.check_host("127.0.0.1").is_ok());
    assert!(resolve(&resolver, "127.0.0.1").is_ok());
    resolver.set_filter(AddrFilter::public_only());
    assert!(resolver.check_host("127.0.0.1").is_err());
    assert_eq!(resolver.filter().as_deref(), Some(&AddrFilter::public_only()));
    // The backend's address is one of documentation.
    denied(&resolver, "ok.example");
    resolver.set_filter(None);
    assert!(resolve(&resolver, "ok.example").is_ok() && resolve(&resolver, "127.0.0.1").is_ok());
}
