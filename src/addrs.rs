use std::fmt;
use std::iter::FusedIterator;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a [`Backend`](crate::Backend) found: addresses, in the order in which they should be tried.
///
/// Made from addresses (`Answer::from(vec![...])`, `iter.collect::<Answer>()`), as [`IpAddr`]s or, where an IPv6 scope
/// id matters, as [`SocketAddr`]s. The order is kept, and nothing is sorted, merged or left out.
///
/// A port other than 0 is handed on, and hyper and reqwest use it where the URL names none.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    addrs: Arc<[SocketAddr]>,
}

impl Answer {
    /// The addresses, in order.
    pub fn as_slice(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl FromIterator<SocketAddr> for Answer {
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(addrs: I) -> Self {
        Self { addrs: addrs.into_iter().collect() }
    }
}

impl FromIterator<IpAddr> for Answer {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addrs: I) -> Self {
        addrs.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
    }
}

impl From<Vec<SocketAddr>> for Answer {
    fn from(addrs: Vec<SocketAddr>) -> Self {
        Self { addrs: addrs.into() }
    }
}

impl From<Vec<IpAddr>> for Answer {
    fn from(addrs: Vec<IpAddr>) -> Self {
        addrs.into_iter().collect()
    }
}

impl<const N: usize> From<[IpAddr; N]> for Answer {
    fn from(addrs: [IpAddr; N]) -> Self {
        addrs.into_iter().collect()
    }
}

impl From<IpAddr> for Answer {
    fn from(addr: IpAddr) -> Self {
        [addr].into()
    }
}

/// The addresses of a name, in the order in which they should be tried.
///
/// An exact-size iterator over [`SocketAddr`], cheap to clone (a reference count). The order is the resolver's own: for
/// the system's `getaddrinfo` that of RFC 6724. The port is 0, as `getaddrinfo` gives it without a service, unless a
/// backend of the program's own set another; hyper and reqwest put in the URL's.
#[derive(Clone)]
pub struct Addrs {
    answer: Answer,
    next: usize,
    queued: Duration,
    in_call: Duration,
}

impl Addrs {
    pub(crate) fn literal(ip: IpAddr) -> Self {
        Self::looked_up(ip.into(), Duration::ZERO, Duration::ZERO)
    }

    pub(crate) fn looked_up(answer: Answer, queued: Duration, in_call: Duration) -> Self {
        Self { answer, next: 0, queued, in_call }
    }

    /// The addresses that the iterator has not given yet.
    pub fn as_slice(&self) -> &[SocketAddr] {
        // `next` never passes the end; `get` says so without a panic.
        self.answer.as_slice().get(self.next..).unwrap_or_default()
    }

    /// How long this caller waited for the call to begin: zero for a literal, and for a caller who joined a call that
    /// was running.
    pub fn time_queued(&self) -> Duration {
        self.queued
    }

    /// How long the call that gave this answer took: zero for a literal.
    pub fn time_in_call(&self) -> Duration {
        self.in_call
    }
}

impl Iterator for Addrs {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        let addr = *self.as_slice().first()?;
        self.next += 1;
        Some(addr)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.as_slice().len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Addrs {}

impl FusedIterator for Addrs {}

impl fmt::Debug for Addrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addrs_know_what_is_left_and_clone_from_there() {
        let ips: Vec<IpAddr> = ["::1", "127.0.0.1", "::1"].map(|ip| ip.parse().unwrap()).into();
        let mut addrs = Addrs::looked_up(ips.into(), Duration::ZERO, Duration::ZERO);
        assert_eq!(addrs.len(), 3);
        assert_eq!(addrs.next(), Some("[::1]:0".parse().unwrap()));
        let rest = addrs.clone();
        assert_eq!(addrs.by_ref().count(), 2);
        assert_eq!((addrs.len(), addrs.next(), addrs.next()), (0, None, None));
        assert_eq!(rest.as_slice(), ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    }
}
