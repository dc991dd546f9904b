//! Any bytes as a name: no panic, the text comes out as it went in, and `getaddrinfo` reads every address as the same address.
#![no_main]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use gaiter::fuzzing::{self, Parsed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    parsed(text);
    numeric(text);
    dns(text);
});

fn parsed(text: &str) {
    let Ok(name) = Parsed::new(text) else {
        assert!(text.is_empty() || text.len() > 1024 || text.contains('\0'), "{text:?} was refused");
        return;
    };
    assert_eq!(name.as_str(), text);
    assert!(name.is_same_as(&text.to_ascii_uppercase()) && name.is_same_as(&text.to_ascii_lowercase()));
    // With one character more, or with another character, it is another name.
    let dotted = format!("{text}.");
    assert!(dotted.len() > 1024 || !name.is_same_as(&dotted));
    for (at, _) in text.char_indices().take(40) {
        let other: String = text.char_indices().map(|(here, c)| if here == at { next(c) } else { c }).collect();
        assert!(other.len() > 1024 || !name.is_same_as(&other), "{text:?} and {other:?}");
    }
}

/// Returns a character that differs from `c` even if case is ignored.
fn next(c: char) -> char {
    char::from_u32(c.to_ascii_lowercase() as u32 + 1).unwrap_or('a')
}

fn numeric(text: &str) {
    let literal = fuzzing::literal(text);
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    // The platform does not read the brackets of a URL.
    let unwrapped = bracketed.filter(|rest| rest.parse::<Ipv6Addr>().is_ok()).unwrap_or(text);
    assert_eq!(literal, unwrapped.parse::<IpAddr>().ok(), "{text:?}");
    let platform = fuzzing::numeric_host(unwrapped);
    match (literal, platform) {
        (Some(ip), platform) => assert_eq!(platform, Some(vec![SocketAddr::new(ip, 0)]), "{text:?}"),
        // Other numeric forms are left to the platform, and reach it as names do.
        (None, Some(addrs)) => {
            assert!(!addrs.is_empty() && Parsed::new(text).is_ok(), "{text:?}");
            let has_scope = text.contains('%');
            let old = text.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'x' | b'X'));
            assert!(has_scope || old, "{text:?} is {addrs:?}");
        }
        (None, None) => {}
    }
}

fn dns(text: &str) {
    let Some((labels, is_whole)) = fuzzing::dns_name(text) else { return };
    let labels: Vec<String> = labels.into_iter().map(|label| String::from_utf8(label).expect("ASCII")).collect();
    let whole = if is_whole { "." } else { "" };
    assert_eq!(format!("{}{whole}", labels.join(".")), text, "nothing is escaped or rewritten");
    assert!(text.len() <= 254 && labels.iter().all(|label| (1..=63).contains(&label.len())));
    assert!(!text.starts_with('-'));
}
