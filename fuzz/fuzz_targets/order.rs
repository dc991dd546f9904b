//! The order of addresses is that of RFC 6724, whose rules are written here a second time, one after another, over two addresses.
//! The order is total, and sorting by it is stable and loses nothing.
#![no_main]

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use gaiter::fuzzing;
use libfuzzer_sys::fuzz_target;

/// An address that the rules may distinguish from others.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Address {
    V4(u32),
    V6(u128),
    /// In a prefix of the policy table, or in one with its own scope.
    Near(u8, u64),
    Mapped(u32),
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        const PREFIXES: [u128; 12] =
            [0, 1, 0x2001, 0x2002, 0x3ffe, 0xfec0, 0xfc00, 0xfd00, 0xfe80, 0xff02, 0xff05, 0xff0e];
        match address {
            Address::V4(bits) => Ipv4Addr::from_bits(bits).into(),
            Address::V6(bits) => Ipv6Addr::from_bits(bits).into(),
            Address::Near(which, rest) => {
                Ipv6Addr::from_bits(PREFIXES[usize::from(which) % PREFIXES.len()] << 112 | u128::from(rest)).into()
            }
            Address::Mapped(bits) => Ipv4Addr::from_bits(bits).to_ipv6_mapped().into(),
        }
    }
}

/// A destination and its source address, if it has one.
type Pair = (IpAddr, Option<IpAddr>);

/// Section 2.1: prefix, precedence, label.
const TABLE: [(&str, u32, u8, u8); 9] = [
    ("::1", 128, 50, 0),
    ("::", 0, 40, 1),
    ("::ffff:0:0", 96, 35, 4),
    ("2002::", 16, 30, 2),
    ("2001::", 32, 5, 5),
    ("fc00::", 7, 3, 13),
    ("::", 96, 1, 3),
    ("fec0::", 10, 1, 11),
    ("3ffe::", 16, 1, 12),
];

fn is_in(ip: Ipv6Addr, prefix: &str, length: u32) -> bool {
    let prefix: Ipv6Addr = prefix.parse().expect("a literal");
    length == 0 || (ip.to_bits() ^ prefix.to_bits()) >> (128 - length) == 0
}

fn policy(ip: Ipv6Addr) -> (u8, u8) {
    let lines = TABLE.iter().filter(|(prefix, length, ..)| is_in(ip, prefix, *length));
    lines.max_by_key(|line| line.1).map(|line| (line.2, line.3)).expect("::/0 is a line")
}

/// Sections 3.1 and 3.2.
fn scope(ip: Ipv6Addr) -> u8 {
    let near = [("::1", 128), ("fe80::", 10), ("::ffff:127.0.0.0", 104), ("::ffff:169.254.0.0", 112)];
    match () {
        () if is_in(ip, "ff00::", 8) => ip.octets()[1] & 0xf,
        () if near.iter().any(|&(prefix, length)| is_in(ip, prefix, length)) => 0x2,
        () if is_in(ip, "fec0::", 10) => 0x5,
        () => 0xe,
    }
}

/// Section 6: rules 1, 2, 5, 6, 8 and 9. The others depend on things that an address does not show.
fn compare(a: &Pair, b: &Pair) -> Ordering {
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let (da, db) = (mapped(a.0), mapped(b.0));
    let (sa, sb) = match (a.1.map(mapped), b.1.map(mapped)) {
        (Some(sa), Some(sb)) => (sa, sb),
        (Some(_), None) => return Ordering::Less,
        (None, Some(_)) => return Ordering::Greater,
        (None, None) => {
            return policy(db).0.cmp(&policy(da).0).then(scope(da).cmp(&scope(db)));
        }
    };
    let prefers = |a: bool, b: bool| b.cmp(&a);
    let is_v4 = |ip| is_in(ip, "::ffff:0:0", 96);
    let common = |s: Ipv6Addr, d: Ipv6Addr| (s.to_bits() ^ d.to_bits()).leading_zeros().min(64);
    prefers(scope(da) == scope(sa), scope(db) == scope(sb))
        .then(prefers(policy(sa).1 == policy(da).1, policy(sb).1 == policy(db).1))
        .then(policy(db).0.cmp(&policy(da).0))
        .then(scope(da).cmp(&scope(db)))
        .then(if is_v4(da) || is_v4(db) { Ordering::Equal } else { common(sb, db).cmp(&common(sa, da)) })
}

fuzz_target!(|addresses: Vec<(Address, Option<Address>)>| {
    let pairs: Vec<Pair> =
        addresses.into_iter().take(32).map(|(to, from)| (to.into(), from.map(IpAddr::from))).collect();
    let rank = |&(to, from): &Pair| fuzzing::rank(to, from);
    for a in &pairs {
        for b in &pairs {
            assert_eq!(rank(a).cmp(&rank(b)), compare(a, b), "{a:?} and {b:?}");
            for c in &pairs {
                assert!(rank(a) > rank(b) || rank(b) > rank(c) || rank(a) <= rank(c), "{a:?}, {b:?}, {c:?}");
            }
        }
    }

    // The system finds the source, so it is the same for the same destination.
    let source = |to: IpAddr| pairs.iter().find(|pair| pair.0 == to).and_then(|pair| pair.1);
    let mut sorted: Vec<IpAddr> = pairs.iter().map(|pair| pair.0).collect();
    let mut stable = sorted.clone();
    fuzzing::sort(&mut sorted, source);
    stable.sort_by(|&a, &b| compare(&(a, source(a)), &(b, source(b))));
    assert_eq!(sorted, stable);
});
