//! The order in which addresses should be tried: destination address selection, RFC 6724, section 6.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::task;

/// Number of addresses whose sources are found in one turn of the driver. Finding one takes 1 to 4 µs with a kept socket and 6 to 9 µs
/// with a new one (measured on Linux), so that a turn stays well below 1 ms.
const PER_TURN: usize = 64;

/// Sorts `addrs`. Addresses of the same rank keep their order. Finds no source that cannot change the order: if the IPv6 address of
/// a machine with two is usable, none is found for the IPv4 address.
pub(crate) async fn sort(addrs: &mut [IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) {
    if addrs.len() < 2 {
        return;
    }
    let before = addrs.to_vec();
    // Each address by its rank, or by the best that it can have.
    let by_rank = |(index, &addr)| Reverse((Rank::best(addr), index, false));
    let mut left: BinaryHeap<_> = before.iter().enumerate().map(by_rank).collect();
    let (mut sorted, mut found) = (addrs.iter_mut(), 0);
    while let Some(Reverse((_, index, is_final))) = left.pop() {
        let addr = before[index];
        if is_final || left.is_empty() {
            sorted.by_ref().take(1).for_each(|place| *place = addr);
            continue;
        }
        if found == PER_TURN {
            task::yield_now().await;
            found = 0;
        }
        found += 1;
        left.push(Reverse((Rank::of(addr, source(addr)), index, true)));
    }
}

/// The rank of an address, rule by rule. A lesser rank comes first.
///
/// Each rule is a property of one address and its source, so that the order is total. Rules 3, 4 and 7 are left out, because an address
/// does not show whether its source is deprecated, a home address, or natively transported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Rule 1: avoid unusable destinations.
    unreachable: bool,
    /// Rule 2: prefer matching scope.
    other_scope: bool,
    /// Rule 5: prefer matching label.
    other_label: bool,
    /// Rule 6: prefer higher precedence.
    precedence: Reverse<u8>,
    /// Rule 8: prefer smaller scope.
    scope: u8,
    /// Rule 9: use longest matching prefix. For IPv6 only, as in Go: an IPv4 prefix says little about distance.
    prefix: Reverse<u32>,
}

impl Rank {
    /// Returns the best rank that `destination` has with any source.
    fn best(destination: IpAddr) -> Self {
        Self::of(destination, Some(destination))
    }

    pub(crate) fn of(destination: IpAddr, source: Option<IpAddr>) -> Self {
        let (destination, source) = (mapped(destination), source.map(mapped));
        let &Policy { precedence, label, .. } = policy(destination);
        let scope = scope(destination);
        Self {
            unreachable: source.is_none(),
            other_scope: source.is_some_and(|source| self::scope(source) != scope),
            other_label: source.is_some_and(|source| policy(source).label != label),
            precedence: Reverse(precedence),
            scope,
            prefix: Reverse(source.map_or(0, |source| common_prefix(source, destination))),
        }
    }
}

/// Returns `ip` as an IPv6 address (section 3.2).
fn mapped(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A row of the default policy table (section 2.1).
struct Policy {
    prefix: Ipv6Addr,
    length: u32,
    precedence: u8,
    label: u8,
}

/// The policy table, most specific prefix first.
const POLICIES: [Policy; 9] = [
    line([0, 0, 0, 0, 0, 0, 0, 1], 128, 50, 0),
    line([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, 35, 4),
    line([0, 0, 0, 0, 0, 0, 0, 0], 96, 1, 3),
    line([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, 5, 5),
    line([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, 30, 2),
    line([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, 1, 12),
    line([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, 1, 11),
    line([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, 3, 13),
    EVERYTHING,
];

const EVERYTHING: Policy = line([0; 8], 0, 40, 1);

const fn line([a, b, c, d, e, f, g, h]: [u16; 8], length: u32, precedence: u8, label: u8) -> Policy {
    Policy { prefix: Ipv6Addr::new(a, b, c, d, e, f, g, h), length, precedence, label }
}

fn policy(addr: Ipv6Addr) -> &'static Policy {
    let differ = |policy: &Policy| (addr.to_bits() ^ policy.prefix.to_bits()).leading_zeros() < policy.length;
    POLICIES.iter().find(|policy| !differ(policy)).unwrap_or(&EVERYTHING)
}

/// Returns the scope of `ip` (sections 3.1 and 3.2), as a number of RFC 4291, section 2.7.
fn scope(addr: Ipv6Addr) -> u8 {
    const LINK_LOCAL: u8 = 2;
    const SITE_LOCAL: u8 = 5;
    const GLOBAL: u8 = 14;
    let [first, second, ..] = addr.octets();
    let is_near = |v4: Ipv4Addr| v4.is_loopback() || v4.is_link_local();
    match addr.to_ipv4_mapped() {
        Some(v4) if is_near(v4) => LINK_LOCAL,
        Some(_) => GLOBAL,
        None if addr.is_multicast() => second & 0xf,
        None if addr.is_loopback() || addr.is_unicast_link_local() => LINK_LOCAL,
        None if first == 0xfe && second & 0xc0 == 0xc0 => SITE_LOCAL,
        None => GLOBAL,
    }
}

/// Returns `CommonPrefixLen` (section 2.2). It excludes the interface identifier, which is the second half.
fn common_prefix(source: Ipv6Addr, destination: Ipv6Addr) -> u32 {
    if destination.to_ipv4_mapped().is_some() {
        return 0;
    }
    (source.to_bits() ^ destination.to_bits()).leading_zeros().min(64)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Returns the order of destinations, each with its source.
    fn sorted<'a>(candidates: &[(&'a str, Option<&str>)]) -> Vec<&'a str> {
        let mut addrs: Vec<IpAddr> = candidates.iter().map(|(addr, _)| ip(addr)).collect();
        let find = |addr: IpAddr| candidates.iter().find(|(text, _)| ip(text) == addr).expect("one of them");
        block_on(sort(&mut addrs, |addr| find(addr).1.map(ip)));
        addrs.into_iter().map(|addr| find(addr).0).collect()
    }

    /// Asserts that the first one is chosen, in any position.
    #[track_caller]
    fn prefers(first: (&str, &str), second: (&str, &str)) {
        let [a, b] = [first, second].map(|(destination, source)| (destination, Some(source)));
        assert_eq!(sorted(&[a, b]), [first.0, second.0]);
        assert_eq!(sorted(&[b, a]), [first.0, second.0]);
    }

    /// The examples of RFC 6724, section 10.2, with its private IPv4 addresses replaced by documentation addresses. Two are left out,
    /// because an address does not show a deprecated source or a home address.
    #[test]
    fn the_examples_of_the_rfc() {
        prefers(("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78"));
        prefers(("198.51.100.121", "198.51.100.117"), ("2001:db8:1::1", "fe80::1"));
        prefers(("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4"));
        prefers(("fe80::1", "fe80::2"), ("2001:db8:1::1", "2001:db8:1::2"));
        prefers(("2001:db8:1::1", "2001:db8:1::2"), ("2001:db8:3ffe::1", "2001:db8:3f44::2"));
        prefers(("2002:c633:6401::1", "2002:c633:6401::2"), ("2001:db8:1::1", "2002:c633:6401::2"));
        prefers(("2001:db8:1::1", "2001:db8:1::2"), ("2002:c633:6401::1", "2002:c633:6401::2"));
    }

    /// The examples of sections 10.3 to 10.7 without their changes to the table.
    #[test]
    fn what_the_default_table_prefers() {
        let (ula, global) = (("fd11:1111:1111:1::1", "fd11:1111:1111:2::1"), ("2001:db8::2", "2001:db8::1"));
        let (v4, teredo) = (("203.0.113.2", "203.0.113.1"), ("2001::5", "2001::6"));
        prefers(global, v4);
        prefers(global, ula);
        prefers(v4, ula);
        prefers(v4, teredo);
        // Unique local addresses of two sites do not reach each other or the rest of the world.
        prefers(ula, ("2001:db8::2", "fd11:1111:1111:2::1"));
        prefers(ula, ("fd22:2222:2222::1", "fd11:1111:1111:2::1"));
    }

    #[test]
    fn what_cannot_be_reached_goes_last() {
        let candidates =
            [("2001:db8::1", None), ("192.0.2.1", Some("192.0.2.9")), ("2001:db8::2", None), ("192.0.2.2", None)];
        assert_eq!(sorted(&candidates), ["192.0.2.1", "2001:db8::1", "2001:db8::2", "192.0.2.2"]);
    }

    #[test]
    fn equals_stay_as_they_are() {
        let (v4, v6) = (Some("192.0.2.9"), Some("2001:db8::9"));
        let candidates = [("2001:db8::3", v6), ("192.0.2.3", v4), ("2001:db8::1", v6), ("192.0.2.1", v4)];
        assert_eq!(sorted(&candidates), ["2001:db8::3", "2001:db8::1", "192.0.2.3", "192.0.2.1"]);
    }

    #[test]
    fn others_have_their_turn_after_so_many_addresses() {
        let mut addrs: Vec<IpAddr> = (0..1_000).map(|bits| Ipv4Addr::from_bits(bits).into()).collect();
        let (before, asked) = (addrs.clone(), Cell::new(0));
        let mut turns = Vec::new();
        {
            let mut sorting = pin!(sort(&mut addrs, |_| {
                asked.set(asked.get() + 1);
                None
            }));
            while sorting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                turns.push(asked.take());
            }
        }
        turns.push(asked.take());
        assert!(turns.iter().all(|&asked| asked <= PER_TURN), "{turns:?}");
        assert_eq!(turns.iter().sum::<usize>(), 1_000, "each once");
        assert_eq!(addrs, before);
    }

    #[test]
    fn a_source_that_cannot_change_the_order_is_not_found() {
        let found = |candidates: &[(&str, Option<&str>)]| {
            let (mut addrs, found) = (candidates.iter().map(|(addr, _)| ip(addr)).collect::<Vec<_>>(), Cell::new(0));
            let find =
                |addr| candidates.iter().find(|(text, _)| ip(text) == addr).and_then(|(_, source)| source.map(ip));
            block_on(sort(&mut addrs, |addr| {
                found.set(found.get() + 1);
                find(addr)
            }));
            found.get()
        };
        let (v4, v6) = (("192.0.2.1", Some("192.0.2.9")), ("2001:db8::1", Some("2001:db8::9")));
        assert_eq!(found(&[v4]), 0);
        assert_eq!((found(&[v4, v6]), found(&[v6, v4])), (1, 1));
        assert_eq!(found(&[v4, (v6.0, None)]), 2, "either may be unreachable");
        assert_eq!(found(&[v4, ("192.0.2.2", v4.1), ("192.0.2.3", v4.1)]), 2);
    }

    /// Generates addresses of each kind that the rules distinguish, and arbitrary ones.
    fn any_ip() -> impl Strategy<Value = IpAddr> {
        let within = |policy: &'static Policy| {
            let keep = u128::MAX.checked_shr(policy.length).unwrap_or(0);
            any::<u128>().prop_map(move |bits| IpAddr::V6(Ipv6Addr::from_bits(policy.prefix.to_bits() | bits & keep)))
        };
        let v4 = prop_oneof![any::<u32>(), (0u32..0xffff).prop_map(|low| 0xa9fe_0000 | low)];
        let v6 = POLICIES.iter().map(within).collect::<Vec<_>>();
        let near = prop_oneof![Just(ip("fe80::1")), Just(ip("fe80:0:0:1::2")), Just(ip("ff02::1"))];
        prop_oneof![v4.prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))), prop::strategy::Union::new(v6), near]
    }

    fn rank() -> impl Strategy<Value = Rank> {
        (any_ip(), prop::option::of(any_ip())).prop_map(|(destination, source)| Rank::of(destination, source))
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in rank(), b in rank(), c in rank()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn no_source_is_better_than_the_best(destination in any_ip(), source in prop::option::of(any_ip())) {
            prop_assert!(Rank::best(destination) <= Rank::of(destination, source));
        }

        /// As if all sources were found first.
        #[test]
        fn sorting_is_by_rank_and_stable(addrs in prop::collection::vec((any_ip(), prop::option::of(any_ip())), 0..60)) {
            let find = |addr| addrs.iter().find(|(candidate, _)| *candidate == addr).and_then(|&(_, source)| source);
            let mut expected: Vec<IpAddr> = addrs.iter().map(|&(addr, _)| addr).collect();
            let mut sorted = expected.clone();
            expected.sort_by_key(|&addr| Rank::of(addr, find(addr)));
            block_on(sort(&mut sorted, find));
            prop_assert_eq!(sorted, expected);
        }
    }
}
