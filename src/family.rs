use std::net::SocketAddr;

use crate::addrs::Answer;
use crate::error::Error;

/// Which families of addresses callers get, and in which order, for [`Builder::family`](crate::Builder::family).
///
/// It is applied to the answer of a single call, before it is cached. A call for one family alone (`AF_INET6` in the hints of
/// `getaddrinfo`) would lose the scope of link-local addresses on glibc ([bug
/// 14413](https://sourceware.org/bugzilla/show_bug.cgi?id=14413)).
///
/// hyper and reqwest try the family of the first address first, and the other one if a connection takes long (RFC 8305).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// All addresses, in the backend's order.
    #[default]
    Any,
    /// IPv4 addresses alone. If there is none, the error is of the kind [`NoData`](crate::ErrorKind::NoData).
    V4Only,
    /// IPv6 addresses alone. If there is none, the error is of the kind [`NoData`](crate::ErrorKind::NoData).
    V6Only,
    /// IPv4 addresses first, and within each family the backend's order.
    PreferV4,
    /// IPv6 addresses first, and within each family the backend's order.
    PreferV6,
}

impl Family {
    /// Returns what callers get of an answer.
    pub(crate) fn apply(self, answer: Answer) -> Result<Answer, Error> {
        let is_first: fn(&SocketAddr) -> bool = match self {
            Self::Any => return Ok(answer),
            Self::V4Only | Self::PreferV4 => SocketAddr::is_ipv4,
            Self::V6Only | Self::PreferV6 => SocketAddr::is_ipv6,
        };
        let (mut first, rest): (Vec<_>, Vec<_>) = answer.iter().partition(is_first);
        match self {
            Self::V4Only if first.is_empty() => return Err(Error::no_data("host has no IPv4 address")),
            Self::V6Only if first.is_empty() => return Err(Error::no_data("host has no IPv6 address")),
            Self::V4Only | Self::V6Only => {}
            _ => first.extend(rest),
        }
        Ok(answer.with_addrs(first))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_are_chosen_and_ordered_and_nothing_else_changes() {
        let all = addrs(&["[fe80::1%3]:0", "192.0.2.1:0", "[2001:db8::1]:0", "192.0.2.2:80"]);
        let (v6, v4) = ([all[0], all[2]], [all[1], all[3]]);
        let answer = Answer::from(all.clone()).with_ttl(Duration::from_secs(9));
        for (family, wanted) in [
            (Family::Any, all.clone()),
            (Family::V4Only, v4.to_vec()),
            (Family::V6Only, v6.to_vec()),
            (Family::PreferV4, [v4, v6].concat()),
            (Family::PreferV6, [v6, v4].concat()),
        ] {
            let given = family.apply(answer.clone()).unwrap();
            assert_eq!(given.iter().collect::<Vec<_>>(), wanted, "{family:?}");
            assert_eq!(given.ttl(), answer.ttl());
        }
    }

    #[test]
    fn a_family_that_is_missing_is_named() {
        let (v4, v6) = (Answer::from(addrs(&["192.0.2.1:0"])), Answer::from(addrs(&["[2001:db8::1]:0"])));
        for (family, answer, text) in
            [(Family::V6Only, &v4, "host has no IPv6 address"), (Family::V4Only, &v6, "host has no IPv4 address")]
        {
            let error = family.apply(answer.clone()).unwrap_err();
            assert!(error.is_not_found() && error.to_string() == text, "{error}");
        }
        assert_eq!(Family::PreferV6.apply(v4.clone()).unwrap(), v4);
    }
}
