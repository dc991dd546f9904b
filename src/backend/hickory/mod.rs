//! A backend that speaks DNS itself, without libc's resolver.

mod config;
mod lookup;
pub(crate) mod name;
pub(crate) mod order;
mod socket;
mod source;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::config::{HostsFile, Settings, Watched};
use self::lookup::{Found, Servers};
use self::source::Sources;
use crate::addrs::Answer;
use crate::backend::AsyncBackend;
use crate::error::Error;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Whether the system's settings are in that file.
const IS_A_FILE: bool = cfg!(all(unix, not(any(target_os = "android", target_vendor = "apple"))));
#[cfg(not(windows))]
const HOSTS: &str = "/etc/hosts";
#[cfg(windows)]
const HOSTS: &str = r"C:\Windows\System32\drivers\etc\hosts";

/// An [`AsyncBackend`] that speaks DNS itself, by [hickory](https://docs.rs/hickory-resolver).
///
/// It does not call libc's resolver, and a lookup takes no thread. It is for programs on musl, for plugins, and for thousands of lookups at
/// once.
///
/// It looks into the hosts file, and then asks name servers by UDP, and by TCP if an answer is truncated. It does not know nsswitch, mDNS
/// or other sources that a machine is configured to use. [`System`](crate::System) does.
///
/// ```no_run
/// # fn example() -> Result<(), gaiter::Error> {
/// use gaiter::{Hickory, Resolver};
///
/// let resolver = Resolver::builder().async_backend(Hickory::from_system()?).build();
/// # drop(resolver); Ok(()) }
/// ```
///
/// # Like `getaddrinfo`
///
/// - A name in the hosts file is answered from there, for both families, without a query.
/// - The search list, `ndots`, `timeout`, `attempts` and `edns0` of `resolv.conf` apply, within glibc's limits. Up to three of its servers
///   are asked, in order. The next one is asked if a server is down, does not answer in time, fails or refuses.
/// - `resolv.conf` and the hosts file are checked for changes at each call. If one cannot be read or parsed, its former contents
///   apply. Answers in the [cache](crate::CacheConfig) are not affected.
/// - Addresses are in the order of RFC 6724. Their source addresses come from the system's routes.
/// - "No such name" and "no address" are different errors.
///
/// Unlike those of glibc, answers have the TTL of their DNS records, for the [cache](crate::CacheConfig).
///
/// # Unlike `getaddrinfo`
///
/// - It is an error if there is no `resolv.conf`, or no `nameserver` line in it. glibc then asks this machine.
/// - The options `rotate`, `use-vc`, `no-aaaa`, `single-request` and `no-tld-query` are ignored, and so are the environment,
///   `nsswitch.conf`, `host.conf` and `gai.conf`.
/// - `resolv.conf` is parsed more leniently: a line may begin with blanks, text after a `#` is a comment, and a word of the search list
///   that is not a name is skipped. An empty `search` line empties the list.
/// - A query is sent up to three times within `timeout`. `timeout` also bounds a query by TCP. A truncated answer by TCP counts as a
///   failure.
/// - If the query for one family fails, the addresses of the other are returned, and cached for at most one second. With the default
///   timeouts of 5 and 10 seconds, two silent servers use up the caller's [time](crate::Builder::timeout), and a third is not asked.
/// - "No such name" and "no address" are returned only if no server has failed, for any name of the search list. If one has failed, the
///   error is `Temporary`. An answer with an error about the question, such as `FORMERR`, counts as a failure.
/// - `localhost` and the names below it are the loopback addresses of this machine (RFC 6761), even if the hosts file does not list
///   them.
/// - Only full addresses are parsed as addresses. `127.1`, `0x7f000001` and `fe80::1%lo` are names.
/// - A name that is not a valid host name in DNS gives `NotFound`. There are no escapes. A name that is not ASCII is not converted to its
///   `xn--` form.
/// - glibc orders addresses by RFC 3484, the predecessor of RFC 6724, which differs for unique local addresses, 6to4 and Teredo. glibc
///   also compares IPv4 addresses of the machine's own networks and IPv6 addresses of one network by their common prefix, and
///   distinguishes deprecated sources. Here these keep the server's order.
/// - A loop of aliases gives `NoData`. With glibc it gives `NotFound`.
/// - At most 512 addresses of each family are used, the first ones, which bounds the cost of ordering and caching them. Addresses in
///   the hosts file have no such bound.
///
/// # Errors
///
/// A lookup fails with one of these [kinds](crate::ErrorKind): `NotFound`; `NoData`; `Temporary`, if a server failed or refused, or none
/// answered in time; `Permanent`, if an answer was not DNS; `System`, if a socket could not be opened. The source is hickory's own error,
/// if it says more than the kind. Do not downcast it: its type changes with hickory's version.
#[derive(Clone)]
pub struct Hickory {
    /// What any session has read last.
    settings: Arc<ArcSwap<Settings>>,
    hosts: Arc<ArcSwap<HostsFile>>,
    /// Whether the settings are from a file, which may change.
    follows: bool,
}

impl Hickory {
    /// Returns a backend that asks the system's name servers, those in `/etc/resolv.conf`.
    ///
    /// On Windows, macOS and Android it uses the platform's servers and search list as they are now. Later changes are not seen. On
    /// Windows these are the servers of all network adapters that are up, in the order of the adapters. Windows's name resolution
    /// policy table and DNS over HTTPS are not used.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings cannot be read or name no server, or if there is a hosts file that cannot be read. Public servers
    /// are never used instead.
    pub fn from_system() -> Result<Self, Error> {
        Self::new(Settings::read(Path::new(RESOLV_CONF))?, IS_A_FILE)
    }

    /// Returns a backend that asks `servers`, in this order.
    ///
    /// There is no search list, and other settings are the defaults of resolv.conf(5). The hosts file still comes first.
    ///
    /// ```
    /// let hickory = gaiter::Hickory::with_servers(["127.0.0.1:5353".parse().unwrap()])?;
    /// # drop(hickory); Ok::<(), gaiter::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if `servers` is empty, if a port is 0, or if there is a hosts file that cannot be read.
    pub fn with_servers(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self, Error> {
        Self::new(Settings::of_servers(servers)?, false)
    }

    fn new(settings: Settings, follows: bool) -> Result<Self, Error> {
        let hosts = HostsFile::read(Path::new(HOSTS))?;
        Ok(Self { settings: kept(settings), hosts: kept(hosts), follows })
    }
}

fn kept<T>(value: T) -> Arc<ArcSwap<T>> {
    Arc::new(ArcSwap::from_pointee(value))
}

impl fmt::Debug for Hickory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hickory").field("servers", &self.settings.load().servers).finish_non_exhaustive()
    }
}

/// State that lookups share on the driver: connections, sockets for finding sources, and the contents of the files.
pub struct Session(RefCell<Shared>);

struct Shared {
    settings: Watched<Settings>,
    hosts: Watched<HostsFile>,
    /// With the settings that they were made from.
    servers: Option<(Arc<Settings>, Rc<Servers>)>,
    sources: Rc<Sources>,
}

impl Shared {
    fn servers(&mut self) -> Result<Rc<Servers>, Error> {
        let settings = self.settings.current();
        match &self.servers {
            Some((former, servers)) if Arc::ptr_eq(former, &settings) => Ok(Rc::clone(servers)),
            _ => {
                let servers = Rc::new(Servers::new(&settings)?);
                self.servers = Some((settings, Rc::clone(&servers)));
                Ok(servers)
            }
        }
    }
}

impl AsyncBackend for Hickory {
    type Session = Session;

    fn new_session(&self) -> Session {
        let settings = match self.follows {
            true => Watched::new(RESOLV_CONF, Settings::read, &self.settings),
            false => Watched::fixed(&self.settings),
        };
        let hosts = Watched::new(HOSTS, HostsFile::read, &self.hosts);
        Session(RefCell::new(Shared { settings, hosts, servers: None, sources: Rc::default() }))
    }

    fn lookup(&self, Session(shared): &Session, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let mut shared = shared.borrow_mut();
        let listed = shared.hosts.current().find(name).map(<[_]>::to_vec);
        let servers = shared.servers();
        let sources = Rc::clone(&shared.sources);
        let name = name::parse(name);
        async move {
            let (mut ips, ttl) = match listed {
                Some(ips) => (ips, None),
                None => {
                    let Found { ips, ttl } = servers?.look_up(&name?).await?;
                    (ips, Some(ttl))
                }
            };
            order::sort(&mut ips, |ip| sources.find(ip)).await;
            let answer = Answer::from(ips);
            Ok(match ttl {
                Some(ttl) => answer.with_ttl(ttl),
                None => answer,
            })
        }
    }
}
