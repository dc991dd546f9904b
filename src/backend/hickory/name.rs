use hickory_resolver::proto::rr::Name;

use crate::error::{Error, ErrorKind};

/// Parses a host name as it is written: without escapes, and without conversion to another form.
///
/// # Errors
///
/// Returns `NotFound` if `text` is not a host name: if a label is empty or longer than 63 bytes, if the name is longer than 255 bytes, if
/// there is a character other than letters, digits, `-` and `_`, or if it begins with `-`. These are the rules of glibc's `res_hnok`.
pub(crate) fn parse(text: &str) -> Result<Name, Error> {
    if text.starts_with('-') {
        return Err(Error::new(ErrorKind::NotFound, "it is not a host name in DNS"));
    }
    domain(text)
}

/// Parses a domain of the search list, by the same rules, except that it may begin with any of these characters.
pub(super) fn domain(text: &str) -> Result<Name, Error> {
    if text == "." {
        return Ok(Name::root());
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let whole = text.strip_suffix('.');
    let labels = whole.unwrap_or(text).split('.').map(str::as_bytes);
    if labels.clone().any(|label| label.is_empty() || !label.iter().copied().all(is_letter)) {
        return Err(Error::new(ErrorKind::NotFound, "it is not a name in DNS"));
    }
    let mut name = Name::from_labels(labels).map_err(|error| Error::new(ErrorKind::NotFound, error))?;
    name.set_fqdn(whole.is_some());
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_says_or_none() {
        for text in ["a", "A.b-c.d_e", "a.", ".", "1.2.3", "a.-b", "xn--nxasmq6b.test"] {
            let name = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let labels: Vec<_> = name.iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
            assert_eq!(
                (labels.join("."), name.is_fqdn()),
                (text.trim_end_matches('.').to_owned(), text.ends_with('.'))
            );
        }
        let long = "a".repeat(64);
        for text in ["", "-", "-a", "a..b", ".a", "a b", "a\\.b", "\\097", "*.a", "ä", "a..", &long] {
            assert_eq!(parse(text).expect_err(text).kind(), ErrorKind::NotFound, "{text}");
        }
        let longest = ["a".repeat(63).as_str(); 4].join(".");
        assert!(parse(&longest[..253]).is_ok() && parse(&longest).is_err());
    }
}
