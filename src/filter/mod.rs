//! The address filter: which names may be looked up, and which addresses are let through.

mod host;
mod names;
mod special;

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};

use self::host::Host;
use self::names::{Names, Rule};
use crate::addrs::Answer;
use crate::error::Error;
use crate::name::Name;

/// A filter of names and addresses, for [`Builder::filter`](crate::Builder::filter).
///
/// It is for programs that connect to hosts that strangers choose: webhooks, link previews, crawlers. Such a program must not reach
/// services of its own network for them (server-side request forgery, SSRF), whatever addresses the stranger's name server returns.
///
/// ```
/// use gaiter::{AddrFilter, IpNet, Resolver};
///
/// let partner: IpNet = "10.20.0.0/16".parse()?;
/// let filter = AddrFilter::public_only().allow_net(partner).deny_name(".internal");
/// let resolver = Resolver::builder().filter(filter).build();
/// assert!(resolver.check_host("127.1").is_err_and(|error| error.is_denied()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Which addresses pass
///
/// - If [allowed](Self::allow_net) or [denied](Self::deny_net) networks contain the address, the smallest of them decides. If the same
///   network is both, it is denied.
/// - Otherwise [`any`](Self::any) lets the address pass, and [`public_only`](Self::public_only) only if it is public.
/// - IPv4 addresses inside an IPv6 address must pass too, even if a network that contains the IPv6 address is allowed. They are found in
///   IPv4-mapped and IPv4-compatible addresses (RFC 4291), NAT64 (RFC 6052, and [prefixes](Self::nat64_prefix) of the network's own),
///   6to4 (RFC 3056) and Teredo (RFC 4380, both of them).
///
/// # Where it applies
///
/// - To names, before they are looked up.
/// - To each answer of the backend, before it is cached. A cached answer costs nothing more. A denial is cached for
///   [`negative_ttl`](crate::CacheConfig::negative_ttl()), and replaces an earlier answer: no stale answer and no
///   [fallback](crate::Builder::fallback_host) is given instead. The TTL of the denied answer does not count, since a stranger
///   chooses it.
/// - To [overrides](crate::Builder::override_host) and [fallbacks](crate::Builder::fallback_host), unless they are
///   [exempt](Self::exempt_overrides).
/// - To IP addresses that [`Resolver::resolve`](crate::Resolver::resolve) is called with.
///
/// A caller gets an error that [`is_denied`](crate::Error::is_denied). Its text has the name, the address and the rule. It tells
/// which addresses internal names have, so it is for the program's log and not for the stranger.
///
/// # What it cannot see
///
/// A resolver protects connections to names. A client connects to the addresses that were checked, so that a name cannot change
/// between check and use (DNS rebinding). The rest is up to the client:
///
/// - **IP addresses in URLs.** Clients do not ask a resolver about them. Check each host with [`check_host`](Self::check_host). For
///   hyper, [`Guarded`](crate::Guarded) does so on each connect.
/// - **Redirects.** Each one is a new URL. With reqwest, call [`check_host`](Self::check_host) in a `redirect::Policy::custom`.
/// - **Proxies.** Behind a proxy, the client resolves only the proxy's name, and the proxy resolves the target by itself. reqwest takes
///   proxies from the environment unless `no_proxy()` is called.
/// - **Pooled connections.** A connection that is open is used again, even if the filter denies its host by now.
/// - **Other resolvers.** reqwest's own `resolve()` and `resolve_to_addrs()` go before its resolver.
/// - **Ports**, Unix sockets and other protocols.
///
/// `examples/guarded.rs` shows a hyper client and a reqwest client with all of this.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a filter does nothing until a resolver has it"]
pub struct AddrFilter {
    public_only: bool,
    nets: Vec<(IpNet, Rule)>,
    names: Names,
    nat64: Vec<Ipv6Net>,
    passes_rest: bool,
    exempts_overrides: bool,
}

impl AddrFilter {
    /// Returns a filter that lets public addresses pass.
    ///
    /// Public are the addresses that IANA's registries of [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry) and
    /// [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry) special-purpose addresses do not list, and those that they
    /// call globally reachable. The following are not public either: multicast, IPv6 outside 2000::/3, and 168.63.129.16, by which
    /// Azure's machines reach its platform.
    pub fn public_only() -> Self {
        Self { public_only: true, ..Self::any() }
    }

    /// Returns a filter that lets all addresses and names pass, as a start for rules of the program's own.
    pub fn any() -> Self {
        Self {
            public_only: false,
            nets: Vec::new(),
            names: Names::default(),
            nat64: Vec::new(),
            passes_rest: false,
            exempts_overrides: false,
        }
    }

    /// Lets the addresses of a network pass, such as `10.0.0.0/8`. An [`IpAddr`] is a network of one address.
    pub fn allow_net(mut self, net: impl Into<IpNet>) -> Self {
        self.nets.push((net.into().trunc(), Rule::Allow));
        self
    }

    /// Denies the addresses of a network. IPv4 networks also apply to IPv4 addresses inside IPv6 ones.
    pub fn deny_net(mut self, net: impl Into<IpNet>) -> Self {
        self.nets.push((net.into().trunc(), Rule::Deny));
        self
    }

    /// Allows names to be looked up. All names that match no allowed pattern are then denied.
    ///
    /// The pattern `api.example` matches this name alone. `.example` and `*.example` match all names below `example`, but not
    /// `example` itself. `.` and `*` match all names. ASCII case and a dot at the end do not count. A name that is not ASCII must be in
    /// Punycode.
    ///
    /// If several patterns match, the longest decides. If the same pattern is allowed and denied, it is denied. Addresses of an allowed
    /// name must pass too. A pattern is compared with the name as it was asked for, and not with what a search list makes of it. If there
    /// are patterns, a name that is not plain ASCII or has a backslash is denied, since libc may read it as another name.
    ///
    /// An IP address in place of a name matches only `.`. If that makes it denied, it passes only if an [allowed](Self::allow_net)
    /// network contains it.
    pub fn allow_name(mut self, pattern: impl AsRef<str>) -> Self {
        self.names.add(pattern.as_ref(), Rule::Allow);
        self
    }

    /// Denies names. They are not looked up. Patterns are those of [`allow_name`](Self::allow_name).
    pub fn deny_name(mut self, pattern: impl AsRef<str>) -> Self {
        self.names.add(pattern.as_ref(), Rule::Deny);
        self
    }

    /// Adds a prefix of the network's own NAT64. The addresses behind it pass if the IPv4 addresses inside do.
    ///
    /// Without this, only the well-known `64:ff9b::/96` is known. Where a NAT64 has a prefix of its own (RFC 6052, section 2.2), anyone can
    /// publish the AAAA record of an internal IPv4 address behind that prefix. The address looks public, and the NAT64 connects it to
    /// the internal one.
    ///
    /// The length is 32, 40, 48, 56, 64 or 96. Addresses behind a prefix of another length are denied.
    pub fn nat64_prefix(mut self, prefix: Ipv6Net) -> Self {
        self.nat64.push(prefix.trunc());
        self
    }

    /// Sets whether the rest of an answer passes if some of its addresses are denied. Default: `false`, so that one such address denies
    /// the name.
    pub fn pass_rest(mut self, pass: bool) -> Self {
        self.passes_rest = pass;
        self
    }

    /// Sets whether [overrides](crate::Builder::override_host) and [fallbacks](crate::Builder::fallback_host) pass unchecked. Default:
    /// `false`.
    pub fn exempt_overrides(mut self, exempt: bool) -> Self {
        self.exempts_overrides = exempt;
        self
    }

    /// Checks the host of a URL, before a client connects to it.
    ///
    /// `host` is the host as the client's own URL type gives it, such as `http::Uri::host` or `url::Url::host_str`, without port and
    /// user. Each form is judged that a URL parser (WHATWG) or libc (`inet_aton`, `getaddrinfo`) reads as an address, such as `127.1`,
    /// `2130706433`, `0x7f.1`, `0177.0.0.1`, `127.0.0.1.`, `[::1]`, `fe80::1%eth0`. If parsers disagree about a form, all readings must
    /// pass: `010.0.0.1` is 8.0.0.1 to most, and 10.0.0.1 to some.
    ///
    /// Names pass unless they are [denied](Self::deny_name). Their addresses are checked when they are looked up.
    ///
    /// ```
    /// let filter = gaiter::AddrFilter::public_only();
    /// assert!(filter.check_host("example.com").is_ok());
    /// assert!(filter.check_host("0x7f.1").is_err_and(|error| error.is_denied()));
    /// assert!(filter.check_host("127.0.0.1:80").is_err(), "not a host alone");
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`Denied`](crate::ErrorKind::Denied). If `host` is no host as a URL type gives it, because it is not
    /// ASCII, or has a port, percent-encoding, spaces or delimiters, the kind is [`InvalidName`](crate::ErrorKind::InvalidName).
    pub fn check_host(&self, host: &str) -> Result<(), Error> {
        let denial = match host::parse(host).map_err(|why| Error::invalid_name(host, why))? {
            Host::Literal(readings) => readings.into_iter().flatten().find_map(|ip| self.denial_of_literal(ip)),
            Host::Name(name) => self.names.denial(name),
        };
        denial.map_or(Ok(()), |why| Err(about(Error::denied(&why), host)))
    }

    /// Checks an address, such as that of a peer.
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`Denied`](crate::ErrorKind::Denied).
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), Error> {
        self.verdict(ip).map_or_else(|why| Err(about(Error::denied(&why), &ip.to_string())), |_| Ok(()))
    }

    pub(crate) fn exempts_overrides(&self) -> bool {
        self.exempts_overrides
    }

    /// Checks an address that stands in place of a name.
    pub(crate) fn check_literal(&self, ip: IpAddr, text: &str) -> Result<(), Error> {
        self.denial_of_literal(ip).map_or(Ok(()), |why| Err(about(Error::denied(&why), text)))
    }

    /// Checks a name before it is looked up.
    pub(crate) fn check_name(&self, name: &Name) -> Result<(), Error> {
        self.names.denial(name.as_str()).map_or(Ok(()), |why| Err(Error::denied(&why).about(name)))
    }

    /// Returns what passes of an answer.
    pub(crate) fn apply(&self, name: &Name, answer: Answer) -> Result<Answer, Error> {
        // Again: the filter may be another one than when the lookup began.
        self.check_name(name)?;
        let mut denial = None;
        let passes = |addr: &SocketAddr| match self.verdict(addr.ip()) {
            Ok(_) => true,
            Err(why) => {
                denial.get_or_insert(why);
                false
            }
        };
        let rest: Vec<_> = answer.iter().filter(passes).collect();
        match denial {
            None => Ok(answer),
            Some(_) if self.passes_rest && !rest.is_empty() => Ok(answer.with_addrs(rest)),
            Some(why) => Err(Error::denied(&why).about(name)),
        }
    }

    fn denial_of_literal(&self, ip: IpAddr) -> Option<String> {
        match self.verdict(ip) {
            Ok(Passed::Allowed) => None,
            Ok(Passed::ByDefault) => self.names.denial_of_literals(),
            Err(why) => Some(why),
        }
    }

    /// Judges an address and those inside it. Returns why it is denied, if it is.
    fn verdict(&self, ip: IpAddr) -> Result<Passed, String> {
        let IpAddr::V6(v6) = ip else {
            return self.judge(ip, self.public_only).map_err(|why| format!("{ip} is in {why}"));
        };
        let nat64 = self.nat64.iter().filter(|prefix| prefix.contains(&v6)).max_by_key(|prefix| prefix.prefix_len());
        // Behind a NAT64, only the address inside is reached.
        let outer = self.judge(ip, self.public_only && nat64.is_none()).map_err(|why| format!("{ip} is in {why}"))?;
        let behind = match nat64.map(|prefix| special::behind_nat64(*prefix, v6)) {
            Some(None) => return Err(format!("{ip} is behind a NAT64 prefix of a length that RFC 6052 does not have")),
            behind => behind.flatten(),
        };
        for inner in special::embedded(v6).into_iter().chain([behind]).flatten() {
            let judged = self.judge(inner.into(), self.public_only);
            judged.map_err(|why| format!("{ip} contains {inner}, which is in {why}"))?;
        }
        Ok(outer)
    }

    /// Judges one address by the networks that contain it. Returns the one that denies it, if it is denied.
    fn judge(&self, ip: IpAddr, public_only: bool) -> Result<Passed, String> {
        let nets = self.nets.iter().filter(|(net, _)| net.contains(&ip));
        match nets.max_by_key(|(net, rule)| (net.prefix_len(), *rule)) {
            Some((_, Rule::Allow)) => Ok(Passed::Allowed),
            Some((net, Rule::Deny)) => Err(format!("the denied network {net}")),
            None => match special::denial(ip).filter(|_| public_only) {
                Some(special) => Err(special.to_string()),
                None => Ok(Passed::ByDefault),
            },
        }
    }
}

/// Why an address passes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Passed {
    /// An allowed network contains it.
    Allowed,
    ByDefault,
}

fn about(error: Error, text: &str) -> Error {
    match Name::parse(text) {
        Ok(name) => error.about(&name),
        Err(_) => error,
    }
}
