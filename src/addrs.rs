use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Maximum number of addresses that are stored inline. Copying these takes neither an allocation nor a reference count that threads
/// share.
const FEW: usize = 4;

/// The result of a [`Backend`](crate::Backend): addresses, in the order in which they should be tried.
///
/// It is made from [`IpAddr`]s, or from [`SocketAddr`]s if an IPv6 scope id or a port matters. The order is kept. Nothing is sorted,
/// merged or left out.
///
/// hyper and reqwest replace port 0 by the port of the URL. They use another port for URLs without a port.
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Duration;
/// use gaiter::Answer;
///
/// let answer = Answer::from([IpAddr::from([192, 0, 2, 1])]).with_ttl(Duration::from_secs(60));
/// assert_eq!(answer.iter().len(), 1);
/// ```
#[derive(Clone)]
pub struct Answer {
    addrs: List,
    ttl: Option<Duration>,
}

#[derive(Clone)]
enum List {
    Few(Few),
    Many(Arc<[SocketAddr]>),
}

/// Addresses without port, scope and flow, in whole words. They take half the size and half the time to copy, which is most of the
/// time of a hit.
#[derive(Clone, Copy)]
struct Few {
    /// IPv4 addresses are stored as IPv6 addresses (RFC 4291, section 2.5.5.2).
    ips: [[u64; 2]; FEW],
    /// One bit for each address: whether it is an IPv4 address.
    v4: u32,
    len: u32,
}

impl Few {
    const NONE: Self = Self { ips: [[0; 2]; FEW], v4: 0, len: 0 };

    /// Returns all of `ips`, if there is room for them.
    #[inline]
    fn new(ips: impl Iterator<Item = IpAddr>) -> Option<Self> {
        let mut few = Self::NONE;
        for ip in ips {
            *few.ips.get_mut(few.len as usize)? = split(ip);
            few.v4 |= u32::from(ip.is_ipv4()) << few.len;
            few.len += 1;
        }
        Some(few)
    }

    fn get(&self, index: usize) -> Option<IpAddr> {
        let &[high, low] = self.ips.get(..self.len as usize)?.get(index)?;
        let v6 = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        let v4 = v6.to_ipv4_mapped().filter(|_| self.v4 >> index & 1 == 1);
        Some(v4.map_or(IpAddr::V6(v6), IpAddr::V4))
    }
}

fn split(ip: IpAddr) -> [u64; 2] {
    let bits = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let bits = bits.to_bits();
    [(bits >> 64) as u64, bits as u64]
}

impl List {
    #[inline]
    fn one(ip: IpAddr) -> Self {
        let [first, ..] = Few::NONE.ips;
        Self::Few(Few { ips: [split(ip), first, first, first], v4: ip.is_ipv4().into(), len: 1 })
    }

    fn few(addrs: &[SocketAddr]) -> Option<Self> {
        let is_plain = |addr: &SocketAddr| *addr == SocketAddr::new(addr.ip(), 0);
        if addrs.iter().all(is_plain) { Few::new(addrs.iter().map(SocketAddr::ip)).map(Self::Few) } else { None }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len as usize,
            Self::Many(addrs) => addrs.len(),
        }
    }

    fn get(&self, index: usize) -> Option<SocketAddr> {
        match self {
            Self::Few(few) => few.get(index).map(|ip| SocketAddr::new(ip, 0)),
            Self::Many(addrs) => addrs.get(index).copied(),
        }
    }
}

impl Answer {
    /// Returns the addresses, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SocketAddr> + use<> {
        // As an iterator over addresses, whose source is not looked at.
        Addrs::looked_up(self.clone())
    }

    /// Returns whether there is no address.
    pub fn is_empty(&self) -> bool {
        self.addrs.len() == 0
    }

    /// Sets the TTL of this answer. Default: none, as for answers of `getaddrinfo`.
    ///
    /// An answer without a TTL is cached for [`CacheConfig::ttl`](crate::CacheConfig::ttl()).
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Returns the TTL of this answer, if it has one.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter()) && self.ttl == other.ttl
    }
}

impl Eq for Answer {}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
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
        let list = List::few(&addrs).unwrap_or_else(|| List::Many(addrs.into()));
        Self { addrs: list, ttl: None }
    }
}

impl From<Vec<IpAddr>> for Answer {
    fn from(addrs: Vec<IpAddr>) -> Self {
        addrs.into_iter().collect()
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Answer {
    fn from(addrs: [SocketAddr; N]) -> Self {
        Vec::from(addrs).into()
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

impl From<SocketAddr> for Answer {
    fn from(addr: SocketAddr) -> Self {
        [addr].into()
    }
}

/// Where [`Addrs`] came from, from [`Addrs::source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The name was an IP address.
    Literal,
    /// The cache, while the answer was fresh.
    Cache,
    /// The cache, after the answer was fresh: a stale or an old answer, in the words of [`CacheConfig`](crate::CacheConfig).
    Stale,
    /// A lookup that the caller started or joined.
    Lookup,
}

impl Source {
    /// Returns an identifier for logs.
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
/// This is an iterator over [`SocketAddr`]. Cloning it is cheap: it copies up to four addresses, or a reference count.
///
/// The order is the backend's. `getaddrinfo` sorts by the platform's version of RFC 3484 or RFC 6724. The port is 0, unless
/// [`with_port`](Self::with_port) or a backend sets another. hyper and reqwest replace port 0 by the port of the URL.
#[derive(Clone)]
pub struct Addrs {
    addrs: List,
    next: u32,
    /// Replaces the addresses' own port if `has_port`. Every hit copies this struct, and an `Option` would make it larger.
    port: u16,
    has_port: bool,
    source: Source,
    // In nanoseconds, which take half the space of a `Duration`.
    age: u64,
    queued: u64,
    in_call: u64,
}

/// Returns the nanoseconds of `duration`, or the maximum, which is centuries.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Addrs {
    #[inline]
    pub(crate) fn literal(ip: IpAddr) -> Self {
        Self::new(List::one(ip), Source::Literal, 0)
    }

    /// Returns addresses from the cache. `age` is in nanoseconds.
    #[inline]
    pub(crate) fn kept(answer: &Answer, source: Source, age: u64) -> Self {
        Self::new(answer.addrs.clone(), source, age)
    }

    pub(crate) fn looked_up(answer: Answer) -> Self {
        Self::new(answer.addrs, Source::Lookup, 0)
    }

    #[inline]
    fn new(addrs: List, source: Source, age: u64) -> Self {
        Self { addrs, next: 0, port: 0, has_port: false, source, age, queued: 0, in_call: 0 }
    }

    /// Returns these addresses with the times that a caller has waited for them.
    pub(crate) fn after(mut self, queued: Duration, in_call: Duration) -> Self {
        (self.queued, self.in_call) = (nanos(queued), nanos(in_call));
        self
    }

    /// Returns these addresses with `port` in place of their own, which is 0 unless a backend has set another.
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    ///
    /// # fn example(resolver: gaiter::Resolver) -> std::io::Result<()> {
    /// let addrs = resolver.resolve("example.com").wait()?;
    /// let stream = TcpStream::connect(addrs.with_port(443))?; // tries one after another
    /// # drop(stream); Ok(()) }
    /// ```
    ///
    /// Tokio's `TcpStream::connect` takes a slice: `&*addrs.with_port(443).collect::<Vec<_>>()`.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        (self.port, self.has_port) = (port, true);
        self
    }

    /// Returns where the addresses came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns how long ago the lookup ended, with a precision of 10 milliseconds. Zero unless they come from the cache.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(self.age)
    }

    /// Returns how long this caller waited for the call to begin. Zero if it waited for no call, or joined one that was running.
    pub fn time_queued(&self) -> Duration {
        Duration::from_nanos(self.queued)
    }

    /// Returns how long the call took, from its begin, even if this caller joined it later. Zero if this caller waited for no call.
    ///
    /// If the caller got a stale answer because the call was slow, this is how long it waited for the call.
    pub fn time_in_call(&self) -> Duration {
        Duration::from_nanos(self.in_call)
    }
}

impl Iterator for Addrs {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        let mut addr = self.addrs.get(self.next as usize)?;
        if self.has_port {
            addr.set_port(self.port);
        }
        self.next += 1;
        Some(addr)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.addrs.len().saturating_sub(self.next as usize);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Addrs {}

/// For functions of std that take addresses, such as [`TcpStream::connect`](std::net::TcpStream::connect). Never fails.
impl ToSocketAddrs for Addrs {
    type Iter = Self;

    fn to_socket_addrs(&self) -> io::Result<Self> {
        Ok(self.clone())
    }
}

impl FusedIterator for Addrs {}

impl fmt::Debug for Addrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

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
        assert_eq!(rest.collect::<Vec<_>>(), ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    }

    #[test]
    fn a_port_takes_the_place_of_every_other() {
        let own: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:0".parse().unwrap()];
        let without: Answer = own.iter().map(SocketAddr::ip).collect();
        for answer in [Answer::from(own), without] {
            let mut addrs = Addrs::looked_up(answer).with_port(80);
            let both = addrs.to_socket_addrs().unwrap().collect::<Vec<_>>();
            assert_eq!(both, ["192.0.2.1:80".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()]);
            addrs.next();
            assert_eq!(addrs.with_port(0).collect::<Vec<_>>(), ["[2001:db8::1]:0".parse().unwrap()]);
        }
    }

    #[test]
    fn few_and_many_are_alike() {
        for count in 0..20 {
            let addrs: Vec<SocketAddr> = (0..count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
            let answer = Answer::from(addrs.clone());
            assert_eq!(answer.iter().collect::<Vec<_>>(), addrs);
            assert_eq!(Addrs::looked_up(answer).collect::<Vec<_>>(), addrs);
        }
    }

    #[test]
    fn ports_scopes_and_flows_are_kept() {
        let v6 = |flow, scope| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 0, flow, scope));
        for odd in ["192.0.2.1:53".parse().unwrap(), v6(0, 3), v6(7, 0)] {
            let addrs = vec!["192.0.2.2:0".parse().unwrap(), odd];
            assert_eq!(Answer::from(addrs.clone()).iter().collect::<Vec<_>>(), addrs);
        }
    }
}
