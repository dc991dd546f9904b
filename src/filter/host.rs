//! Reads the host of a URL as clients and resolvers do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::Name;

/// The host of a URL.
#[derive(Debug, PartialEq)]
pub(super) enum Host<'a> {
    /// An address, or two if clients do not agree which one the text is.
    Literal([Option<IpAddr>; 2]),
    Name(&'a str),
}

/// Reads a host.
///
/// # Errors
///
/// Returns why `text` cannot be a host that a URL type gives. Such a text is no name either: a client might read it as a host that
/// is not seen here.
pub(super) fn parse(text: &str) -> Result<Host<'_>, &'static str> {
    Name::parse(text)?;
    // hyper-util strips brackets from anything, and then reads any literal or asks for any name.
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.contains([':', '%']) {
        // The zone is part of no address.
        let addr = bare.split_once('%').map_or(bare, |(addr, _)| addr);
        return match addr.parse::<Ipv6Addr>() {
            Ok(v6) => Ok(Host::Literal([Some(v6.into()), None])),
            Err(_) => Err("a host has no port and no percent-encoding"),
        };
    }
    if !bare.is_ascii() {
        return Err("a host in a URL is ASCII: its name in Punycode, its digits mapped");
    }
    if bare.is_empty() || bare.contains(is_forbidden) {
        return Err("a host in a URL is not empty, and has no spaces or delimiters");
    }
    // A leading zero stands for octal to `inet_aton` and to the WHATWG, and for nothing to other parsers.
    match (ipv4(bare, 8), ipv4(bare, 10)) {
        (None, None) => Ok(Host::Name(bare)),
        readings => Ok(Host::Literal([readings.0.map(IpAddr::V4), readings.1.map(IpAddr::V4)])),
    }
}

/// Returns whether the WHATWG's URL standard [forbids](https://url.spec.whatwg.org/#forbidden-domain-code-point) `c` in a domain.
fn is_forbidden(c: char) -> bool {
    c.is_ascii_control() || " #%/:<>?@[\\]^|".contains(c)
}

/// Reads an IPv4 address as `inet_aton` and the WHATWG do: as one to four numbers, the last of which fills the bytes that are left.
/// A number with a leading zero is in base `zero`.
fn ipv4(text: &str, zero: u32) -> Option<Ipv4Addr> {
    let mut parts = text.trim_end_matches('.').split('.').map(|part| number(part, zero));
    let (mut bytes, mut last) = (0, parts.next()??);
    let mut left = 32;
    for part in parts {
        left = u32::checked_sub(left, 8).filter(|&left| left > 0)?;
        bytes |= u64::from(u8::try_from(last).ok()?) << left;
        last = part?;
    }
    let bits = if last >> left == 0 { bytes | last } else { return None };
    u32::try_from(bits).ok().map(Ipv4Addr::from)
}

fn number(text: &str, zero: u32) -> Option<u64> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, text.strip_prefix('0')) {
        // To the WHATWG and to BSDs this is zero.
        (Some(""), _) => return Some(0),
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, zero),
        (None, _) => (text, 10),
    };
    // `from_str_radix` takes a sign too.
    if digits.chars().all(|digit| digit.is_digit(radix)) { u64::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Vec<IpAddr> {
        match parse(text) {
            Ok(Host::Literal(readings)) => readings.into_iter().flatten().collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_form_of_an_address_is_read() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for text in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0X7F000001",
            "0x7f.0x0.0x0.0x1",
            "0177.0.0.1",
            "0177.0.0.01",
            "017700000001",
            "00000000000000000000000000000177.1",
            "127.0x",
            "[127.0.0.1]",
            "[2130706433]",
        ] {
            let wanted = if text.ends_with('x') { IpAddr::from([127, 0, 0, 0]) } else { loopback };
            assert!(literal(text).contains(&wanted), "{text}: {:?}", parse(text));
        }
        for (text, addr) in [
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[fe80::1%25eth0]", "fe80::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("::ffff:127.0.0.1%1", "::ffff:127.0.0.1"),
            ("[::FFFF:7F00:1]", "::ffff:127.0.0.1"),
        ] {
            assert_eq!(literal(text), [addr.parse::<IpAddr>().unwrap()], "{text}");
        }
    }

    #[test]
    fn a_leading_zero_is_read_both_ways() {
        assert_eq!(literal("010.0.0.1"), ["8.0.0.1", "10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(literal("0169.254.169.254"), ["169.254.169.254".parse::<IpAddr>().unwrap()], "no octal digit");
    }

    #[test]
    fn numbers_that_do_not_fit_are_names() {
        for text in
            ["256.0.0.1", "127.0.0.256", "1.2.3.4.5", "4294967296", "127.0x1000000", "1..2", "0xg", "+1", "1.-1"]
        {
            assert_eq!(parse(text), Ok(Host::Name(text)));
        }
        assert_eq!(literal("4294967295"), [IpAddr::from([255; 4]); 2]);
        assert_eq!(literal("255.16777215"), [IpAddr::from([255; 4]); 2]);
    }

    #[test]
    fn what_is_no_host_of_a_url_is_refused() {
        let long = "a".repeat(1025);
        for text in [
            "",
            "[]",
            "127.0.0.1:80",
            "http://127.0.0.1/",
            "user@127.0.0.1",
            "127.0.0.1 ",
            "127.0.0.1%1",
            "127.0.0.1\t",
            "%31%32%37.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "[[::1]]",
            "[::1]:80",
            "1::2::3",
            "a\0",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for name in ["example.com", "example.com.", "xn--bcher-kva.example", "a_b", "-", "."] {
            assert_eq!(parse(name), Ok(Host::Name(name)));
        }
    }
}
