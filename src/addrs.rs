use std::fmt;
use std::iter::FusedIterator;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// So many addresses are kept in place, so that handing them on costs neither memory nor a count that threads share.
const FEW: usize = 4;

/// What a [`Backend`](crate::Backend) found: addresses, in the order in which they should be tried.
///
/// Made from addresses (`Answer::from(vec![...])`, `iter.collect::<Answer>()`), as [`IpAddr`]s or, where an IPv6 scope
/// id matters, as [`SocketAddr`]s. The order is kept, and nothing is sorted, merged or left out.
///
/// A port other than 0 is handed on, and hyper and reqwest use it where the URL names none.
#[derive(Clone)]
pub struct Answer {
    addrs: List,
    ttl: Option<Duration>,
}

#[derive(Clone)]
enum List {
    Few { addrs: [SocketAddr; FEW], len: u8 },
    Many(Arc<[SocketAddr]>),
}

const NONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl List {
    fn one(addr: SocketAddr) -> Self {
        Self::Few { addrs: [addr, NONE, NONE, NONE], len: 1 }
    }

    fn as_slice(&self) -> &[SocketAddr] {
        match self {
            Self::Few { addrs, len } => addrs.get(..usize::from(*len)).unwrap_or_default(),
            Self::Many(addrs) => addrs,
        }
    }
}

impl Answer {
    /// The addresses, in order.
    pub fn as_slice(&self) -> &[SocketAddr] {
        self.addrs.as_slice()
    }

    /// This answer with the time for which its source says it lasts. Default: not known, as `getaddrinfo` has it.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// For how long the answer lasts, where its source has said so.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice() && self.ttl == other.ttl
    }
}

impl Eq for Answer {}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl FromIterator<SocketAddr> for Answer {
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(addrs: I) -> Self {
        addrs.into_iter().collect::<Vec<_>>().into()
    }
}

impl FromIterator<IpAddr> for Answer {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addrs: I) -> Self {
        addrs.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
    }
}

impl From<Vec<SocketAddr>> for Answer {
    fn from(addrs: Vec<SocketAddr>) -> Self {
        let mut few = [NONE; FEW];
        let len = addrs.len();
        let addrs = match few.get_mut(..len) {
            Some(place) => {
                place.copy_from_slice(&addrs);
                List::Few { addrs: few, len: len as u8 }
            }
            None => List::Many(addrs.into()),
        };
        Self { addrs, ttl: None }
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

/// Where [`Addrs`] came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The name was an IP address.
    Literal,
    /// The cache, fresh.
    Cache,
    /// The cache, past its time: see [`Cache`](crate::Cache).
    Stale,
    /// A lookup, the caller's own or one that it joined.
    Lookup,
}

impl Source {
    /// As an identifier, for logs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Lookup => "lookup",
        }
    }
}

/// The addresses of a name, in the order in which they should be tried.
///
/// An exact-size iterator over [`SocketAddr`], cheap to clone (a copy of up to four addresses, or a reference count). The order
/// is the resolver's own: for the system's `getaddrinfo` that of RFC 6724. The port is 0, as `getaddrinfo` gives it without a
/// service, unless a backend of the program's own set another; hyper and reqwest put in the URL's.
#[derive(Clone)]
pub struct Addrs {
    addrs: List,
    next: u32,
    source: Source,
    // In nanoseconds: half of what durations take, in something that is copied on every hit.
    age: u64,
    queued: u64,
    in_call: u64,
}

/// As many nanoseconds as can be said, which is centuries.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Addrs {
    pub(crate) fn literal(ip: IpAddr) -> Self {
        Self::new(List::one(SocketAddr::new(ip, 0)), Source::Literal, 0)
    }

    /// From the cache, so many nanoseconds old.
    #[inline]
    pub(crate) fn kept(answer: &Answer, source: Source, age: u64) -> Self {
        Self::new(answer.addrs.clone(), source, age)
    }

    pub(crate) fn looked_up(answer: Answer) -> Self {
        Self::new(answer.addrs, Source::Lookup, 0)
    }

    #[inline]
    fn new(addrs: List, source: Source, age: u64) -> Self {
        Self { addrs, next: 0, source, age, queued: 0, in_call: 0 }
    }

    /// These addresses, for which a caller has waited so long.
    pub(crate) fn after(mut self, queued: Duration, in_call: Duration) -> Self {
        (self.queued, self.in_call) = (nanos(queued), nanos(in_call));
        self
    }

    /// Where they came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// How long ago the lookup gave them, in steps of a few milliseconds: zero unless they come from the cache.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(self.age)
    }

    /// The addresses that the iterator has not given yet.
    pub fn as_slice(&self) -> &[SocketAddr] {
        // `next` never passes the end; `get` says so without a panic.
        self.addrs.as_slice().get(self.next as usize..).unwrap_or_default()
    }

    /// How long this caller waited for the call to begin: zero where it waited for none, and for a caller who joined a call
    /// that was running.
    pub fn time_queued(&self) -> Duration {
        Duration::from_nanos(self.queued)
    }

    /// How long the call took that this caller waited for; zero where it waited for none.
    pub fn time_in_call(&self) -> Duration {
        Duration::from_nanos(self.in_call)
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
        let mut addrs = Addrs::looked_up(ips.into());
        assert_eq!(addrs.len(), 3);
        assert_eq!(addrs.next(), Some("[::1]:0".parse().unwrap()));
        let rest = addrs.clone();
        assert_eq!(addrs.by_ref().count(), 2);
        assert_eq!((addrs.len(), addrs.next(), addrs.next()), (0, None, None));
        assert_eq!(rest.as_slice(), ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    }

    #[test]
    fn few_and_many_are_alike() {
        for count in 0..20 {
            let addrs: Vec<SocketAddr> = (0..count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
            let answer = Answer::from(addrs.clone());
            assert_eq!(answer.as_slice(), addrs);
            assert_eq!(Addrs::looked_up(answer).collect::<Vec<_>>(), addrs);
        }
    }
}
