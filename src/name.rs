use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// `NI_MAXHOST` of glibc and the BSDs, less its NUL. No platform's resolver returns or takes a longer name.
pub(crate) const MAX_LEN: usize = 1024;

/// A host name that may be passed to a resolver: not empty, at most [`MAX_LEN`] bytes, no NUL.
///
/// The spelling is kept. Two names are equal if they differ in ASCII case alone (RFC 4343). A trailing dot is part of the
/// name, since `a` and `a.` are different questions under a search list.
#[derive(Clone)]
pub(crate) struct Name(Arc<str>);

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// Returns why `text` is not a name.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("a host name cannot be empty");
        }
        if text.len() > MAX_LEN {
            return Err("a host name cannot be longer than 1024 bytes");
        }
        if text.contains('\0') {
            return Err("a host name cannot contain a NUL byte");
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Borrows the name, for looking it up.
    pub(crate) fn borrowed(&self) -> NameRef<'_> {
        NameRef(&self.0)
    }
}

/// A borrowed name to look for. Equal to the [`Name`] with its text, and hashed alike.
///
/// It has at most [`MAX_LEN`] bytes, so that no caller's text costs more than that to read. [`Name::parse`] decides whether
/// it is a name at all.
#[derive(Clone, Copy)]
pub(crate) struct NameRef<'a>(&'a str);

impl<'a> NameRef<'a> {
    /// Borrows `text`, unless it is too long for a name.
    #[inline]
    pub(crate) fn new(text: &'a str) -> Option<Self> {
        (text.len() <= MAX_LEN).then_some(Self(text))
    }

    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }

    /// Returns the address that the text spells out in full, as every `getaddrinfo` reads it. An IPv6 address may be in
    /// brackets, as in URLs, which `getaddrinfo` does not take.
    ///
    /// Other forms that resolvers take for numeric (`127.1`, `0x7f000001`, `fe80::1%eth0`) are left to the backend.
    #[inline]
    pub(crate) fn literal(self) -> Option<IpAddr> {
        let (first, last) = (self.0.as_bytes().first()?, self.0.as_bytes().last()?);
        // Most names are told apart by their last byte: an IPv4 address ends in a digit, and an IPv6 address in a hexadecimal digit or a
        // colon.
        let may_be_one = match last {
            b'0'..=b'9' if first.is_ascii_digit() => true,
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b':' => self.has_colon_early(),
            b']' => *first == b'[',
            _ => false,
        };
        if may_be_one { self.parsed() } else { None }
    }

    /// Returns whether there is a colon where an IPv6 address has its first.
    fn has_colon_early(self) -> bool {
        self.0.as_bytes().iter().take(5).any(|&byte| byte == b':')
    }

    fn parsed(self) -> Option<IpAddr> {
        match self.0.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(bracketed) => bracketed.parse().ok().map(IpAddr::V6),
            None => self.0.parse().ok(),
        }
    }

    /// Returns the number of [words](Self::words).
    #[inline]
    pub(crate) fn len_in_words(self) -> usize {
        self.0.len() / 8 + 1
    }

    /// Calls `is` with each word of the text and its index, until it returns false. Returns whether it never did.
    ///
    /// Two texts are equal if their lengths and words are: the last word overlaps the one before, or ends in zeros.
    #[inline]
    pub(crate) fn words(self, mut is: impl FnMut(usize, u64) -> bool) -> bool {
        let bytes = self.0.as_bytes();
        let (mut rest, mut at) = (bytes, 0);
        while let Some((word, more)) = rest.split_first_chunk() {
            if !is(at, u64::from_ne_bytes(*word)) {
                return false;
            }
            (rest, at) = (more, at + 1);
        }
        let last = bytes.last_chunk().copied().unwrap_or_else(|| self.padded());
        is(at, u64::from_ne_bytes(last))
    }

    fn padded(self) -> [u8; 8] {
        let mut padded = [0; 8];
        padded.iter_mut().zip(self.0.as_bytes()).for_each(|(padded, &byte)| *padded = byte);
        padded
    }

    #[inline]
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// Returns the last two labels, or the whole name if it has no more, without a trailing dot.
    pub(crate) fn zone(self) -> Self {
        let text = self.0.strip_suffix('.').unwrap_or(self.0);
        let dot = |before: &[u8]| before.iter().rposition(|&byte| byte == b'.');
        let bytes = text.as_bytes();
        let start = dot(bytes).and_then(|last| dot(&bytes[..last])).map_or(0, |dot| dot + 1);
        Self(text.get(start..).unwrap_or(text))
    }

    #[inline]
    pub(crate) fn is(self, name: &Name) -> bool {
        // Most callers write a name alike, and comparing the bytes themselves is faster.
        *self.0 == *name.0 || self.0.eq_ignore_ascii_case(&name.0)
    }
}

impl Hash for NameRef<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bytes = self.0.as_bytes();
        // In pairs of words, which a hasher takes fastest. The last pair overlaps the one before, or its own words overlap.
        let mut rest = bytes;
        while let Some((pair, more)) = rest.split_first_chunk::<16>() {
            state.write_u128(folded_pair(pair, 0));
            rest = more;
        }
        let last = match (bytes.last_chunk::<16>(), bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(pair), ..) => *pair,
            (None, Some(first), Some(last)) => pair_of(first, last),
            _ => {
                let mut padded = [0; 16];
                padded.iter_mut().zip(bytes).for_each(|(padded, &byte)| *padded = byte);
                padded
            }
        };
        state.write_u128(folded_pair(&last, bytes.len()));
    }
}

impl hashbrown::Equivalent<Name> for NameRef<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        self.is(name)
    }
}

fn pair_of(first: &[u8; 8], last: &[u8; 8]) -> [u8; 16] {
    (u128::from(u64::from_ne_bytes(*first)) | u128::from(u64::from_ne_bytes(*last)) << 64).to_ne_bytes()
}

/// Returns two words with their ASCII letters in lower case. Mixes in a length, which tells names apart that end alike.
#[inline]
fn folded_pair(pair: &[u8; 16], length: usize) -> u128 {
    let pair = u128::from_ne_bytes(*pair);
    let (first, last) = (folded(pair as u64), folded((pair >> 64) as u64));
    u128::from(first ^ length as u64) | u128::from(last) << 64
}

/// Returns 8 bytes with their ASCII letters in lower case.
#[inline]
pub(crate) fn folded(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // With the top bits out of the way, no addition carries into the next byte. A byte's top bit then says whether it was at
    // least `A`, or beyond `Z`.
    let low = word & (0x7f * EACH);
    let from_a = low + (0x80 - u64::from(b'A')) * EACH;
    let past_z = low + (0x7f - u64::from(b'Z')) * EACH;
    let upper = from_a & !past_z & !word & (0x80 * EACH);
    word | upper >> 2
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed().is(other)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }

    #[test]
    fn case_is_folded_and_the_trailing_dot_is_not() {
        let long = "ABCDEFGHIJ".repeat(13);
        let names: HashSet<Name> =
            ["a.Example", "A.eXAMPLE", "a.example.", &long, &long.to_lowercase()].into_iter().map(name).collect();
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn words_are_folded_as_std_does() {
        for byte in 0..=u8::MAX {
            for other in [0, b'A', b'z', 0x7f, 0x80, 0xff] {
                let mut word = [other, byte, other, byte, byte, other, byte, byte];
                let ours = folded(u64::from_ne_bytes(word));
                word.make_ascii_lowercase();
                assert_eq!(ours, u64::from_ne_bytes(word));
            }
        }
    }

    #[test]
    fn a_zone_is_the_last_two_labels() {
        let zones = ["a.b.c", "b.c", "c", "a.b.c.", "c.", "...", ".", "x..c", "ü.ü.ü"];
        let expected = ["b.c", "b.c", "c", "b.c", "c", ".", "", ".c", "ü.ü"];
        assert_eq!(zones.map(|text| NameRef(text).zone().0), expected);
    }

    #[test]
    fn only_ascii_is_folded() {
        assert_ne!(name("É.example"), name("é.example"));
    }

    #[test]
    fn what_no_resolver_could_take_is_refused() {
        for text in ["", "a\0b", "\0", &"a".repeat(MAX_LEN + 1)] {
            Name::parse(text).expect_err(text);
        }
        assert_eq!(name(&"a".repeat(MAX_LEN)).as_str().len(), MAX_LEN);
    }

    #[test]
    fn a_text_too_long_for_a_name_can_be_neither_hashed_nor_read() {
        let longest = "1".repeat(MAX_LEN);
        assert!(NameRef::new(&longest).is_some());
        // The text is not read for other faults either.
        for text in [longest.clone() + "1", longest + "\0"] {
            assert!(NameRef::new(&text).is_none());
            assert_eq!(Name::parse(&text).map(|_| ()), Err("a host name cannot be longer than 1024 bytes"));
        }
    }

    fn literal(text: &str) -> Option<IpAddr> {
        NameRef::new(text)?.literal()
    }

    #[test]
    fn literals_are_whole_addresses_only() {
        let texts = ["127.0.0.1", "0.0.0.0", "::", "::1", "1::", "fe80::1", "fe80::a", "ABCD::", "1234:5:6:7:8:9:a:B"];
        for text in texts.into_iter().chain(["::ffff:1.2.3.4", "64:ff9b::192.0.2.33"]) {
            assert_eq!(literal(text).map(|ip| ip == text.parse::<IpAddr>().unwrap()), Some(true), "{text}");
        }
        for text in
            ["127.1", "010.0.0.1", "fe80::1%lo", "127.0.0.1.", "a", "", "cafe", "1.2.3.4:80", "12345::", "api.example"]
        {
            assert_eq!(literal(text), None, "{text}");
        }
    }

    #[test]
    fn an_ipv6_literal_may_stand_in_brackets() {
        for text in ["::1", "2001:db8::1", "::ffff:1.2.3.4"] {
            assert_eq!(literal(&format!("[{text}]")), Some(text.parse().unwrap()), "{text}");
        }
        for text in ["[]", "[", "]", "[::1", "::1]", "[[::1]]", "[127.0.0.1]", "[fe80::1%lo]", "[::1]:80", "[::1] "] {
            assert_eq!(literal(text), None, "{text}");
        }
    }
}
