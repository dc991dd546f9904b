//! The order of RFC 6724 is a total one over any addresses, and sorting by it loses nothing and moves no equals.
#![no_main]

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use gaiter::fuzzing;
use libfuzzer_sys::fuzz_target;

/// An address, where the rules may tell it from others.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Address {
    V4(u32),
    V6(u128),
    /// In a prefix of the policy table, or of a scope of its own.
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

fuzz_target!(|addresses: Vec<(Address, Option<Address>)>| {
    let pairs: Vec<(IpAddr, Option<IpAddr>)> =
        addresses.into_iter().take(32).map(|(to, from)| (to.into(), from.map(IpAddr::from))).collect();
    let rank = |&(to, from): &(IpAddr, Option<IpAddr>)| fuzzing::rank(to, from);

    for a in &pairs {
        assert_eq!(rank(a).cmp(&rank(a)), Ordering::Equal);
        for b in &pairs {
            assert_eq!(rank(a).cmp(&rank(b)), rank(b).cmp(&rank(a)).reverse(), "{a:?} and {b:?}");
            // Rule 1.
            assert!(a.1.is_none() || b.1.is_some() || rank(a) < rank(b), "{a:?} can be reached, {b:?} cannot");
            for c in &pairs {
                if rank(a) <= rank(b) && rank(b) <= rank(c) {
                    assert!(rank(a) <= rank(c), "{a:?}, {b:?}, {c:?}");
                }
            }
        }
    }

    // The source is asked of the system, and so the same for the same destination.
    let source = |to: IpAddr| pairs.iter().find(|pair| pair.0 == to).and_then(|pair| pair.1);
    let mut sorted: Vec<IpAddr> = pairs.iter().map(|pair| pair.0).collect();
    let mut stable = sorted.clone();
    fuzzing::sort(&mut sorted, source);
    stable.sort_by_key(|&to| fuzzing::rank(to, source(to)));
    assert_eq!(sorted, stable);
    fuzzing::sort(&mut sorted, source);
    assert_eq!(sorted, stable, "sorted twice");
});
