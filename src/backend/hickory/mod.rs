//! DNS without libc's resolver.

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
/// Whether that is where the system's settings are.
const IS_A_FILE: bool = cfg!(all(unix, not(any(target_os = "android", target_vendor = "apple"))));
#[cfg(not(windows))]
const HOSTS: &str = "/etc/hosts";
#[cfg(windows)]
const HOSTS: &str = r"C:\Windows\System32\drivers\etc\hosts";

/// DNS by [hickory](https://docs.rs/hickory-resolver): an [`AsyncBackend`] that calls nothing of libc's resolver, and takes no
/// thread for a lookup.
///
/// For programs on musl, in plugins, or with thousands of lookups at once. It asks name servers by UDP, and by TCP where an answer is
/// cut short, after the hosts file; it knows nothing of nsswitch, mDNS or whatever else the machine is set up to do, which is
/// what [`System`](crate::System) is for.
///
/// ```no_run
/// # fn example() -> Result<(), gaiter::Error> {
/// use gaiter::{Hickory, Resolver};
///
/// let resolver = Resolver::builder().async_backend(Hickory::from_system()?).build();
/// # drop(resolver); Ok(()) }
/// ```
///
/// # As `getaddrinfo` does it
///
/// - A name that is in the hosts file is answered from there alone, for both families, and without a query.
/// - The search list, `ndots`, `timeout`, `attempts` and `edns0` are those of `resolv.conf`, as far as glibc goes with each; so are the
///   servers, up to three. They are asked in its order: the next one when one is not there, does not answer in time, fails or refuses.
/// - `resolv.conf` and the hosts file are looked at again for every lookup, and read when they have changed. While one cannot be read
///   or understood, what it said before is in force.
/// - Addresses are in the order of RFC 6724, the source of each being asked of the system's routes.
/// - "No such name" and "no address" are told apart.
///
/// And what an answer of DNS says of its lifetime goes to the [`CacheConfig`](crate::CacheConfig), which glibc loses on the way.
///
/// # And as it does not
///
/// - `resolv.conf` without a `nameserver` line is an error, and so is none at all; glibc then asks this machine. Of its options,
///   `rotate`, `use-vc`, `no-aaaa`, `single-request`, `no-tld-query` and those of the environment are not heeded. Neither are
///   `nsswitch.conf`, `host.conf` and `gai.conf`.
/// - `resolv.conf` is read a little more kindly: a line may begin with blanks, what follows a `#` is a comment, a word of the search list
///   that is no name is passed over. An empty `search` line empties the list.
/// - A question is sent again, up to twice within a server's time, before that counts as having passed. That time also bounds an
///   answer by TCP, which is refused if it is cut short as well.
/// - If one family fails, the other is an answer, for a second; where nobody answers for either of two servers' time, the caller's
///   [timeout](crate::Builder::timeout) may come first.
/// - That a name does not exist, or has no address, is said only if no server has failed: neither for a name of the search list nor by
///   an error that is about the question, such as `FORMERR`. The error is then `Temporary`.
/// - `localhost` and what is under it are this machine's loopback addresses (RFC 6761), also if the hosts file does not say so.
/// - Numbers are read as addresses only if they are whole ones: `127.1` and `0x7f000001` are names, and so is `fe80::1%lo`.
/// - What is no host name in DNS is not found: nothing is escaped, and one that is not ASCII is not rewritten, though its `xn--` form is
///   a name.
/// - glibc's order of addresses is that of RFC 3484, the older one: it differs for unique local addresses, 6to4 and Teredo. glibc
///   also compares IPv4 addresses of the machine's own networks, and those of one IPv6 network, by how much of them they have in
///   common, and tells deprecated sources from others; here these keep the server's order.
/// - An alias that leads in a circle has no address. glibc does not find the name.
/// - An answer has at most 512 addresses of each family: the first ones that the server gives. The others are left out, which bounds
///   the cost of ordering and keeping them. Addresses in the hosts file have no such bound.
///
/// # Errors
///
/// A lookup's [`ErrorKind`](crate::ErrorKind) is `NotFound`, `NoData`, `Temporary` (a server failed, refused, or nobody answered in time),
/// `Permanent` (what came was not DNS) or `System` (there was no socket to be had); the source is hickory's own error, for its text,
/// where there is more to be said than the kind does.
#[derive(Clone)]
pub struct Hickory {
    /// What was last read, by whichever session.
    settings: Arc<ArcSwap<Settings>>,
    hosts: Arc<ArcSwap<HostsFile>>,
    /// Whether the settings are those of a file, which may change.
    follows: bool,
}

impl Hickory {
    /// With the name servers of the system: those of `/etc/resolv.conf`, or on Windows, macOS and Android those of the platform as they
    /// are now.
    ///
    /// # Errors
    ///
    /// If that, or the hosts file, cannot be read or understood. No other server is made up for them.
    pub fn from_system() -> Result<Self, Error> {
        Self::new(Settings::read(Path::new(RESOLV_CONF))?, IS_A_FILE)
    }

    /// With these name servers, in this order; without a search list, and with `resolv.conf`'s defaults, whatever that says. The hosts
    /// file still comes first.
    ///
    /// ```
    /// let hickory = gaiter::Hickory::with_servers(["127.0.0.1:5353".parse().unwrap()])?;
    /// # drop(hickory); Ok::<(), gaiter::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there is none, one has the port 0, or the hosts file cannot be read.
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

/// What its lookups share on the driver: connections, sockets for finding sources, and what the files say.
pub struct Session(RefCell<Shared>);

struct Shared {
    settings: Watched<Settings>,
    hosts: Watched<HostsFile>,
    /// With the settings that they are of.
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
