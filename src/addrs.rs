mod arranged;

use std::array;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use self::arranged::{ARRANGED, END, FIRST, place_in};
use crate::clock::{Coarse, Tick};

/// Number of words for addresses that are stored inline. An IPv4 address takes one, an IPv6 address four.
const WORDS: usize = 10;

/// All addresses of an answer that does not fit into these words. A thin pointer, which is a word.
pub(crate) type Many = Arc<Vec<SocketAddr>>;

/// Number of words that the cache stores of addresses: two of the above in each, and one for what else it knows of them.
pub(crate) const PACKED: usize = WORDS / 2 + 1;

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
    addrs: Addrs,
    ttl: Option<Duration>,
}

impl Answer {
    /// Returns the addresses, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SocketAddr> + use<> {
        self.addrs.clone()
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

    /// Returns an answer of other addresses, with the TTL of this one.
    pub(crate) fn with_addrs(&self, addrs: Vec<SocketAddr>) -> Self {
        Self { ttl: self.ttl, ..addrs.into() }
    }

    /// Returns the TTL of this answer, if it has one.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Returns the addresses that are stored inline, and that the cache has stored them at `stored`, in words.
    pub(crate) fn packed(&self, stored: Coarse) -> [u64; PACKED] {
        let words = &self.addrs.0.few.0;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        array::from_fn(|at| match at < WORDS / 2 {
            true => pair(words[2 * at], words[2 * at + 1]),
            false => pair(stored.tick().0, words[LEFT]),
        })
    }

    /// Returns all addresses, if they are not stored inline.
    pub(crate) fn many(&self) -> Option<&Many> {
        self.addrs.0.many.as_ref()
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
        Self { addrs: Addrs::collect(addrs.into_iter()), ttl: None }
    }
}

impl FromIterator<IpAddr> for Answer {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addrs: I) -> Self {
        addrs.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
    }
}

impl From<Vec<SocketAddr>> for Answer {
    fn from(addrs: Vec<SocketAddr>) -> Self {
        Self { addrs: Addrs::of(addrs), ttl: None }
    }
}

impl From<Vec<IpAddr>> for Answer {
    fn from(addrs: Vec<IpAddr>) -> Self {
        addrs.into_iter().collect()
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Answer {
    fn from(addrs: [SocketAddr; N]) -> Self {
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
    /// An override: [`Builder::override_host`](crate::Builder::override_host).
    Override,
    /// A fallback, because a lookup has failed: [`Builder::fallback_host`](crate::Builder::fallback_host).
    Fallback,
}

impl Source {
    /// Returns an identifier for logs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Lookup => "lookup",
            Self::Override => "override",
            Self::Fallback => "fallback",
        }
    }
}

/// The addresses of a name, in the order in which they should be tried.
///
/// This is an iterator over [`SocketAddr`]. Cloning it is cheap: it copies up to two addresses of each family, or ten IPv4
/// addresses. For more it copies a reference count.
///
/// The order is the backend's, unless [`Builder::order`](crate::Builder::order) sets another. `getaddrinfo` sorts by the platform's
/// version of RFC 3484 or RFC 6724. The port is 0, unless [`with_port`](Self::with_port) or a backend sets another. hyper and reqwest
/// replace port 0 by the port of the URL.
#[derive(Clone)]
pub struct Addrs(Inner);

// Every hit copies this several times. In this order, with words in front and no padding, it is copied in whole vectors, which a
// processor forwards from one copy to the next.
#[derive(Clone)]
#[repr(C)]
struct Inner {
    few: Few,
    /// All addresses, if they do not fit into `few`.
    many: Option<Many>,
    source: Word,
}

/// A [`Source`], in a word.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Word {
    Literal,
    Cache,
    Stale,
    Lookup,
    Override,
    Fallback,
}

impl From<Source> for Word {
    fn from(source: Source) -> Self {
        match source {
            Source::Literal => Self::Literal,
            Source::Cache => Self::Cache,
            Source::Stale => Self::Stale,
            Source::Lookup => Self::Lookup,
            Source::Override => Self::Override,
            Source::Fallback => Self::Fallback,
        }
    }
}

/// Addresses without port, scope and flow, and what is known of all of them.
#[derive(Clone, Copy)]
struct Few(Words);

type Words = [u32; WORDS + 6];

// What the words after the addresses are.
/// When the lookup ended, for addresses from the cache.
const STORED: usize = WORDS;
/// Microseconds that the caller has waited for the call.
const QUEUED: usize = WORDS + 1;
/// Microseconds that the call has taken.
const IN_CALL: usize = WORDS + 2;
/// Index of the next address.
const NEXT: usize = WORDS + 3;
/// Number of addresses that are left in the words, and from bit 16 on a bit for each of them: whether it is an IPv4 address.
const LEFT: usize = WORDS + 4;
/// The port that replaces the addresses' own, and [`HAS_PORT`], or 0.
const PORT: usize = WORDS + 5;
const HAS_PORT: u32 = 1 << 16;
// `arranged` has what they are if the addresses are not stored inline.

impl Few {
    const NONE: Self = Self([0; WORDS + 6]);

    /// Adds an address at the index `at`, which it moves. Returns `None` if there is no room.
    #[inline]
    fn push(&mut self, ip: IpAddr, at: &mut usize) -> Option<()> {
        let words = &mut self.0;
        match ip {
            IpAddr::V4(v4) => {
                *words[..WORDS].get_mut(*at)? = u32::from_ne_bytes(v4.octets());
                words[LEFT] |= 1 << (16 + words[LEFT] % (1 << 16));
                *at += 1;
            }
            IpAddr::V6(v6) => {
                let bits = u128::from_ne_bytes(v6.octets());
                let to = words[..WORDS].get_mut(*at..*at + 4)?;
                to.iter_mut().zip([0, 32, 64, 96]).for_each(|(word, shift)| *word = (bits >> shift) as u32);
                *at += 4;
            }
        }
        words[LEFT] += 1;
        Some(())
    }

    /// Does the same for an address without port, scope and flow. Returns `None` for another.
    fn push_plain(&mut self, addr: &SocketAddr, at: &mut usize) -> Option<()> {
        let is_plain = *addr == SocketAddr::new(addr.ip(), 0);
        if is_plain { self.push(addr.ip(), at) } else { None }
    }

    #[inline]
    fn left(&self) -> usize {
        (self.0[LEFT] % (1 << 16)) as usize
    }

    /// Sets the port that replaces the addresses' own, if there is one.
    #[inline]
    fn set_port(&self, addr: &mut SocketAddr) {
        let port = self.0[PORT];
        if port & HAS_PORT != 0 {
            addr.set_port(port as u16);
        }
    }

    /// Removes the first address.
    #[inline]
    fn pop(&mut self) -> Option<IpAddr> {
        let words = &mut self.0;
        let (left, v4) = (words[LEFT] % (1 << 16), words[LEFT] >> 16);
        words[LEFT] = left.checked_sub(1)? | (v4 >> 1) << 16;
        let at = words[NEXT] as usize;
        if v4 & 1 == 1 {
            words[NEXT] += 1;
            return words.get(at).map(|word| IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())));
        }
        words[NEXT] += 4;
        let &[a, b, c, d] = words.get(at..)?.first_chunk()?;
        let bits = u128::from(a) | u128::from(b) << 32 | u128::from(c) << 64 | u128::from(d) << 96;
        Some(IpAddr::V6(Ipv6Addr::from(bits.to_ne_bytes())))
    }
}

/// Returns the microseconds of `duration`, or the maximum, which is 71 minutes.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

impl Addrs {
    #[inline]
    pub(crate) fn literal(ip: IpAddr) -> Self {
        let mut few = Few::NONE;
        // There is room for one.
        _ = few.push(ip, &mut 0);
        Self(Inner { few, many: None, source: Word::Literal })
    }

    fn of(addrs: Vec<SocketAddr>) -> Self {
        let (mut few, mut at) = (Few::NONE, 0);
        if addrs.iter().all(|addr| few.push_plain(addr, &mut at).is_some()) {
            return Self::few(few);
        }
        Self(Inner { few: Few::NONE, many: Some(Arc::new(addrs)), source: Word::Lookup })
    }

    /// Collects addresses. Allocates only if they do not fit inline.
    fn collect(mut addrs: impl Iterator<Item = SocketAddr>) -> Self {
        let (mut few, mut at) = (Few::NONE, 0);
        let rest = addrs.find(|addr| few.push_plain(addr, &mut at).is_none());
        let few = Self::few(few);
        match rest {
            Some(rest) => Self::of(few.chain([rest]).chain(addrs).collect()),
            None => few,
        }
    }

    fn few(few: Few) -> Self {
        Self(Inner { few, many: None, source: Word::Lookup })
    }

    /// Returns addresses from the cache, from what [`Answer::packed`] and [`Answer::many`] gave.
    #[inline]
    pub(crate) fn unpacked(packed: [u64; PACKED], many: Option<Many>, source: Source) -> Self {
        let mut few = Few::NONE;
        for (pair, packed) in few.0[..WORDS].chunks_exact_mut(2).zip(packed) {
            (pair[0], pair[1]) = (packed as u32, (packed >> 32) as u32);
        }
        let [.., last] = packed;
        (few.0[STORED], few.0[LEFT]) = (last as u32, (last >> 32) as u32);
        Self(Inner { few, many, source: source.into() })
    }

    pub(crate) fn with_source(mut self, source: Source) -> Self {
        self.0.source = source.into();
        self
    }

    pub(crate) fn looked_up(answer: Answer) -> Self {
        answer.addrs
    }

    /// Returns these addresses with the times that a caller has waited for them.
    pub(crate) fn after(mut self, queued: Duration, in_call: Duration) -> Self {
        (self.0.few.0[QUEUED], self.0.few.0[IN_CALL]) = (micros(queued), micros(in_call));
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
        self.0.few.0[PORT] = HAS_PORT | u32::from(port);
        self
    }

    /// Returns where the addresses came from.
    pub fn source(&self) -> Source {
        match self.0.source {
            Word::Literal => Source::Literal,
            Word::Cache => Source::Cache,
            Word::Stale => Source::Stale,
            Word::Lookup => Source::Lookup,
            Word::Override => Source::Override,
            Word::Fallback => Source::Fallback,
        }
    }

    /// Returns how long ago the lookup ended, with a precision of 20 milliseconds. Zero unless they come from the cache.
    pub fn age(&self) -> Duration {
        match self.source() {
            Source::Cache | Source::Stale => Coarse::now().tick().since(Tick(self.0.few.0[STORED])),
            Source::Literal | Source::Lookup | Source::Override | Source::Fallback => Duration::ZERO,
        }
    }

    /// Returns when the lookup ended.
    #[cfg(test)]
    pub(crate) fn stored(&self) -> Tick {
        Tick(self.0.few.0[STORED])
    }

    /// Returns how long this caller waited for the call to begin, in whole microseconds, or 71 minutes if it was longer. Zero if it waited
    /// for no call, or joined one that was running.
    pub fn time_queued(&self) -> Duration {
        Duration::from_micros(self.0.few.0[QUEUED].into())
    }

    /// Returns how long the call took, in whole microseconds, or 71 minutes if it was longer. This is the time from its begin, even if this
    /// caller joined it later. Zero if this caller waited for no call.
    ///
    /// If the caller got a stale answer because the call was slow, this is how long it waited for the call.
    pub fn time_in_call(&self) -> Duration {
        Duration::from_micros(self.0.few.0[IN_CALL].into())
    }
}

impl Iterator for Addrs {
    type Item = SocketAddr;

    #[inline]
    fn next(&mut self) -> Option<SocketAddr> {
        let mut addr = match &self.0.many {
            None => SocketAddr::new(self.0.few.pop()?, 0),
            Some(many) => {
                let words = &mut self.0.few.0;
                let mut place = words[NEXT];
                if words[ARRANGED] != 0 {
                    [place, words[FIRST], words[END]] = place_in(*words, many)?;
                }
                words[NEXT] += 1;
                *many.get(place as usize)?
            }
        };
        self.0.few.set_port(&mut addr);
        Some(addr)
    }

    // Most callers take all addresses, and most answers are stored inline. This keeps the rest out of the loop.
    #[inline]
    fn fold<B, F: FnMut(B, SocketAddr) -> B>(mut self, init: B, mut fold: F) -> B {
        if self.0.many.is_some() {
            return fold_many(self, init, fold);
        }
        let mut folded = init;
        while let Some(ip) = self.0.few.pop() {
            let mut addr = SocketAddr::new(ip, 0);
            self.0.few.set_port(&mut addr);
            folded = fold(folded, addr);
        }
        folded
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0.many {
            None => self.0.few.left(),
            Some(many) => many.len().saturating_sub(self.0.few.0[NEXT] as usize),
        };
        (left, Some(left))
    }
}

#[inline(never)]
fn fold_many<B>(addrs: Addrs, init: B, mut fold: impl FnMut(B, SocketAddr) -> B) -> B {
    let mut folded = init;
    for addr in addrs {
        folded = fold(folded, addr);
    }
    folded
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
    fn families_come_in_the_order_in_which_they_were() {
        let v4 = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let v6 = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, last));
        // Each number is a mix of up to 12 addresses, a bit for each: more than there is room for, and fewer.
        for mix in 0..1 << 12 {
            for count in 0..=12 {
                let ips: Vec<IpAddr> =
                    (0..count).map(|at| if mix >> at & 1 == 0 { v4(at) } else { v6(at.into()) }).collect();
                let words: usize = ips.iter().map(|ip| if ip.is_ipv4() { 1 } else { 4 }).sum();
                let mut addrs = Addrs::looked_up(ips.clone().into());
                assert_eq!((addrs.len(), addrs.0.many.is_none()), (ips.len(), words <= WORDS));
                assert_eq!(ips.iter().copied().collect::<Answer>(), ips.clone().into());
                assert!(addrs.by_ref().map(|addr| addr.ip()).eq(ips));
                assert_eq!((addrs.len(), addrs.next()), (0, None));
            }
        }
    }

    #[test]
    fn few_and_many_are_alike() {
        for count in 0..20 {
            let addrs: Vec<SocketAddr> = (0..count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
            let answer = Answer::from(addrs.clone());
            assert_eq!(answer.iter().collect::<Vec<_>>(), addrs);
            assert_eq!(addrs.iter().copied().collect::<Answer>(), answer);
            assert_eq!(Addrs::looked_up(answer).collect::<Vec<_>>(), addrs);
        }
    }

    #[test]
    fn ports_scopes_and_flows_are_kept() {
        let v6 = |flow, scope| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 0, flow, scope));
        for odd in ["192.0.2.1:53".parse().unwrap(), v6(0, 3), v6(7, 0)] {
            let addrs = vec!["192.0.2.2:0".parse().unwrap(), odd];
            assert_eq!(Answer::from(addrs.clone()).iter().collect::<Vec<_>>(), addrs);
            assert_eq!(addrs.iter().copied().collect::<Answer>().iter().collect::<Vec<_>>(), addrs);
        }
    }
}
