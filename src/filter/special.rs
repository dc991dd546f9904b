//! IANA's special-purpose addresses, and the IPv4 addresses inside IPv6 ones.
//!
//! The tables are IANA's registries of [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry) and
//! [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry) special-purpose addresses (RFC 6890, RFC 8190), as of
//! October 2025, and addresses that these leave out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A network that is special in some way.
#[derive(Debug)]
pub(super) struct Special {
    net: IpNet,
    verdict: Verdict,
    what: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Globally reachable, although the network around it may not be.
    Public,
    /// Only the IPv4 addresses inside decide.
    Inner,
    Denied,
}

use Verdict::{Denied, Inner, Public};

/// Returns the special network that makes `ip` not public, if it is in one. The caller judges the IPv4 addresses inside `ip`.
pub(super) fn denial(ip: IpAddr) -> Option<&'static Special> {
    special(ip).filter(|special| special.verdict == Denied)
}

/// Returns the smallest special network that `ip` is in.
fn special(ip: IpAddr) -> Option<&'static Special> {
    let table = if ip.is_ipv4() { V4 } else { V6 };
    table.iter().filter(|special| special.net.contains(&ip)).max_by_key(|special| special.net.prefix_len())
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.net, self.what)
    }
}

/// Returns the IPv4 addresses that a packet to `v6` may reach by a mechanism with a fixed prefix: one, or Teredo's two.
pub(super) fn embedded(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bits = u128::from(v6);
    let at = |from: u32| Some(Ipv4Addr::from((bits >> (96 - from)) as u32));
    let [a, b, ..] = v6.segments();
    match (a, b) {
        // `::` and `::1` are IPv6 addresses of their own.
        (0, 0) if bits > 1 && bits >> 32 == 0 => [at(96), None],
        (0, 0) if bits >> 32 == 0xffff => [at(96), None],
        (0x64, 0xff9b) if bits << 32 >> 64 == 0 => [at(96), None],
        (0x2002, _) => [at(16), None],
        // The server, and the client's address as its NAT has it, inverted (RFC 4380, section 4).
        (0x2001, 0) => [at(32), at(96).map(|client| Ipv4Addr::from(!u32::from(client)))],
        _ => [None, None],
    }
}

/// Returns the IPv4 address that `v6` has behind a NAT64 prefix (RFC 6052, section 2.2), or `None` if it has none because of the
/// length of the prefix.
pub(super) fn behind_nat64(prefix: Ipv6Net, v6: Ipv6Addr) -> Option<Ipv4Addr> {
    // The ninth byte is no part of it.
    let [.., e, f, g, h, _, j, k, l, m, n, o, p] = v6.octets();
    let octets = match prefix.prefix_len() {
        32 => [e, f, g, h],
        40 => [f, g, h, j],
        48 => [g, h, j, k],
        56 => [h, j, k, l],
        64 => [j, k, l, m],
        96 => [m, n, o, p],
        _ => return None,
    };
    Some(octets.into())
}

const V4: &[Special] = &[
    v4([0, 0, 0, 0], 8, Denied, "this network, RFC 791"),
    v4([0, 0, 0, 0], 32, Denied, "this host on this network, RFC 1122"),
    v4([10, 0, 0, 0], 8, Denied, "private use, RFC 1918"),
    v4([100, 64, 0, 0], 10, Denied, "shared address space, RFC 6598"),
    v4([127, 0, 0, 0], 8, Denied, "loopback, RFC 1122"),
    // Reachable from any Azure machine, and in no registry.
    v4([168, 63, 129, 16], 32, Denied, "platform services of Azure"),
    v4([169, 254, 0, 0], 16, Denied, "link-local, RFC 3927"),
    v4([169, 254, 169, 254], 32, Denied, "metadata service of clouds, link-local"),
    v4([172, 16, 0, 0], 12, Denied, "private use, RFC 1918"),
    v4([192, 0, 0, 0], 24, Denied, "IETF protocol assignments, RFC 6890"),
    v4([192, 0, 0, 0], 29, Denied, "IPv4 service continuity, RFC 7335"),
    v4([192, 0, 0, 8], 32, Denied, "IPv4 dummy address, RFC 7600"),
    v4([192, 0, 0, 9], 32, Public, "port control protocol anycast, RFC 7723"),
    v4([192, 0, 0, 10], 32, Public, "TURN anycast, RFC 8155"),
    v4([192, 0, 0, 170], 31, Denied, "NAT64 discovery, RFC 8880"),
    v4([192, 0, 2, 0], 24, Denied, "documentation, RFC 5737"),
    v4([192, 31, 196, 0], 24, Public, "AS112, RFC 7535"),
    v4([192, 52, 193, 0], 24, Public, "AMT, RFC 7450"),
    v4([192, 88, 99, 0], 24, Denied, "deprecated 6to4 relay anycast, RFC 7526"),
    v4([192, 88, 99, 2], 32, Denied, "6a44 relay anycast, RFC 6751"),
    v4([192, 168, 0, 0], 16, Denied, "private use, RFC 1918"),
    v4([192, 175, 48, 0], 24, Public, "AS112, RFC 7534"),
    v4([198, 18, 0, 0], 15, Denied, "benchmarking, RFC 2544"),
    v4([198, 51, 100, 0], 24, Denied, "documentation, RFC 5737"),
    v4([203, 0, 113, 0], 24, Denied, "documentation, RFC 5737"),
    // In the registry of multicast addresses.
    v4([224, 0, 0, 0], 4, Denied, "multicast, RFC 5771"),
    v4([240, 0, 0, 0], 4, Denied, "reserved, RFC 1112"),
    v4([255, 255, 255, 255], 32, Denied, "limited broadcast, RFC 919"),
];

const V6: &[Special] = &[
    // What is not 2000::/3, the only block that IANA hands out addresses from.
    v6(&[], 3, Denied, "reserved, RFC 4291"),
    v6(&[0x4000], 2, Denied, "reserved, RFC 4291"),
    v6(&[0x8000], 1, Denied, "reserved, RFC 4291"),
    v6(&[], 128, Denied, "unspecified, RFC 4291"),
    v6(&[0, 0, 0, 0, 0, 0, 0, 1], 128, Denied, "loopback, RFC 4291"),
    v6(&[], 96, Inner, "IPv4-compatible, RFC 4291"),
    v6(&[0, 0, 0, 0, 0, 0xffff], 96, Inner, "IPv4-mapped, RFC 4291"),
    v6(&[0x64, 0xff9b], 96, Inner, "NAT64, RFC 6052"),
    v6(&[0x64, 0xff9b, 1], 48, Denied, "NAT64 of local use, RFC 8215"),
    v6(&[0x100], 64, Denied, "discard-only, RFC 6666"),
    v6(&[0x100, 0, 0, 1], 64, Denied, "dummy prefix, RFC 9780"),
    v6(&[0x2001], 23, Denied, "IETF protocol assignments, RFC 2928"),
    v6(&[0x2001], 32, Inner, "Teredo, RFC 4380"),
    v6(&[0x2001, 1, 0, 0, 0, 0, 0, 1], 128, Public, "port control protocol anycast, RFC 7723"),
    v6(&[0x2001, 1, 0, 0, 0, 0, 0, 2], 128, Public, "TURN anycast, RFC 8155"),
    v6(&[0x2001, 1, 0, 0, 0, 0, 0, 3], 128, Public, "DNS-SD registration anycast, RFC 9665"),
    v6(&[0x2001, 2], 48, Denied, "benchmarking, RFC 5180"),
    v6(&[0x2001, 3], 32, Public, "AMT, RFC 7450"),
    v6(&[0x2001, 4, 0x112], 48, Public, "AS112, RFC 7535"),
    v6(&[0x2001, 0x10], 28, Denied, "deprecated ORCHID, RFC 4843"),
    v6(&[0x2001, 0x20], 28, Public, "ORCHIDv2, RFC 7343"),
    v6(&[0x2001, 0x30], 28, Public, "drone remote identification, RFC 9374"),
    v6(&[0x2001, 0xdb8], 32, Denied, "documentation, RFC 3849"),
    v6(&[0x2002], 16, Inner, "6to4, RFC 3056"),
    v6(&[0x2620, 0x4f, 0x8000], 48, Public, "AS112, RFC 7534"),
    v6(&[0x3fff], 20, Denied, "documentation, RFC 9637"),
    v6(&[0x5f00], 16, Denied, "segment routing, RFC 9602"),
    v6(&[0xfc00], 7, Denied, "unique local, RFC 4193"),
    v6(&[0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, Denied, "metadata service of AWS, unique local"),
    v6(&[0xfe80], 10, Denied, "link-local, RFC 4291"),
    // Not in the registry, since RFC 3879 has deprecated it. Routers may still forward it.
    v6(&[0xfec0], 10, Denied, "deprecated site-local, RFC 3879"),
    // In the registry of multicast addresses.
    v6(&[0xff00], 8, Denied, "multicast, RFC 4291"),
];

const fn v4([a, b, c, d]: [u8; 4], len: u8, verdict: Verdict, what: &'static str) -> Special {
    Special { net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)), verdict, what }
}

/// `first` are the groups that the address of the network begins with. The others are zero.
const fn v6(first: &[u16], len: u8, verdict: Verdict, what: &'static str) -> Special {
    let (mut bits, mut at) = (0, 0);
    while at < first.len() {
        bits |= (first[at] as u128) << (112 - 16 * at);
        at += 1;
    }
    Special { net: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), len)), verdict, what }
}
