//! Any bytes as the host of a URL: if `getaddrinfo`, the `url` crate or std reads a denied address there, `check_host` refuses it.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Result, Unstructured};
use gaiter::{AddrFilter, ErrorKind, fuzzing};
use libfuzzer_sys::fuzz_target;
use url::{Host, Url};

fuzz_target!(|bytes: &[u8]| {
    let filter = AddrFilter::public_only();
    read(&filter, &String::from_utf8_lossy(bytes));
    // Running out of bytes is no failure.
    _ = spelt(&filter, &mut Unstructured::new(bytes));
});

/// Returns `text` without the brackets of a URL, which hyper-util takes off whatever is in them.
fn bare(text: &str) -> &str {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text)
}

fn ip<S>(host: &Host<S>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(v4) => Some((*v4).into()),
        Host::Ipv6(v6) => Some((*v6).into()),
    }
}

/// Reads a text as clients do.
fn read(filter: &AddrFilter, text: &str) {
    let refused = filter.check_host(text).is_err();
    let is_denied = |ip: IpAddr| filter.check_ip(ip).is_err();
    for form in [text, bare(text)] {
        for addr in fuzzing::numeric_host(form).into_iter().flatten() {
            assert!(refused || !is_denied(addr.ip()), "getaddrinfo reads {form:?} as {addr}");
        }
    }
    let host = Host::parse(text);
    for host in host.iter().filter_map(ip) {
        assert!(refused || !is_denied(host), "url reads {text:?} as {host}");
    }
    if let Ok(url) = Url::parse(&format!("http://{text}/")) {
        // Where the text is more than a host, too: `check_host` takes hosts alone.
        let host = url.host().and_then(|host| ip(&host));
        assert!(refused || !host.is_some_and(is_denied), "url reads {url} as {host:?}");
        // What a program passes on.
        let host = url.host_str().expect("every http URL has one");
        for addr in fuzzing::numeric_host(bare(host)).into_iter().flatten() {
            assert!(!is_denied(addr.ip()) || filter.check_host(host).is_err(), "{text:?} as {host:?} is {addr}");
        }
    }
    // What is in order passes.
    if let Ok(Host::Domain(name)) = host {
        let invalid = filter.check_host(&name).is_err_and(|error| error.kind() == ErrorKind::InvalidName);
        assert!(!invalid || name.len() > 1024, "{name:?} was refused");
    }
    if let Ok(ip) = bare(text).parse() {
        assert_eq!(refused, is_denied(ip), "{text:?} is {ip}");
    }
}

/// Spells an address in one of the ways of `inet_aton`.
fn spelt(filter: &AddrFilter, bytes: &mut Unstructured<'_>) -> Result<()> {
    let v4 = match bytes.choose_index(3)? {
        0 => Ipv4Addr::from(bytes.arbitrary::<u32>()?),
        1 => *bytes.choose(&[Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(169, 254, 169, 254)])?,
        _ => Ipv4Addr::new(10, bytes.arbitrary()?, 0, bytes.arbitrary()?),
    };
    let first = bytes.int_in_range(0..=3)?;
    let (octets, mut parts) = (v4.octets(), Vec::new());
    for &octet in &octets[..first] {
        parts.push(number(octet.into(), bytes)?);
    }
    parts.push(number(u32::from(v4) & (u32::MAX >> (8 * first)), bytes)?);
    let text = parts.join(".");
    assert_eq!(Host::parse(&text).ok(), Some(Host::Ipv4(v4)), "{text}");
    let platform = fuzzing::numeric_host(&text).expect("an address");
    assert!(platform.iter().all(|addr| addr.ip() == v4), "{text}");
    let is_denied = filter.check_ip(v4.into()).is_err();
    for text in [format!("{text}."), format!("[{text}]"), text] {
        assert!(!is_denied || filter.check_host(&text).is_err(), "{text}");
        read(filter, &text);
    }
    inside(filter, v4, bytes)
}

fn number(number: u32, bytes: &mut Unstructured<'_>) -> Result<String> {
    let zeros = "0".repeat(bytes.int_in_range(0..=12)?);
    Ok(match bytes.choose_index(4)? {
        0 => number.to_string(),
        1 => format!("0{zeros}{number:o}"),
        2 => format!("0x{zeros}{number:x}"),
        _ => format!("0X{zeros}{number:X}"),
    })
}

/// Writes an address inside an IPv6 one, in one of the ways of `inet_pton`.
fn inside(filter: &AddrFilter, v4: Ipv4Addr, bytes: &mut Unstructured<'_>) -> Result<()> {
    let [a, b, c, d] = v4.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    let v6 = match bytes.choose_index(4)? {
        0 => Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        1 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        2 => Ipv6Addr::new(0x2002, high, low, bytes.arbitrary()?, 0, 0, 0, bytes.arbitrary()?),
        _ => Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, bytes.arbitrary()?, !high, !low),
    };
    let is_denied = filter.check_ip(v4.into()).is_err();
    assert_eq!(filter.check_ip(v6.into()).is_err(), is_denied, "{v6} has {v4} inside");
    let groups = v6.segments().map(|group| format!("{group:04X}")).join(":");
    for text in [v6.to_string(), format!("[{v6}]"), groups.clone(), format!("[{groups}]"), format!("[{v6}%25lo]")] {
        assert_eq!(filter.check_host(&text).is_err(), is_denied, "{text}");
        read(filter, &text);
    }
    Ok(())
}
