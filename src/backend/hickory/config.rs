//! What `resolv.conf` and the hosts file say, now.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf;

use crate::error::{Error, ErrorKind};

/// Whom to ask, and for which names.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// In the order in which they are to be asked.
    pub(super) servers: Vec<NameServerConfig>,
    pub(super) search: Vec<Name>,
    pub(super) ndots: usize,
    /// How often each is asked.
    pub(super) attempts: usize,
    /// How long each has.
    pub(super) timeout: Duration,
    pub(super) edns0: bool,
}

impl Settings {
    pub(super) fn of_servers(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self, Error> {
        let server = |addr: SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(addr.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = addr.port());
            server
        };
        let servers: Vec<_> = servers.into_iter().map(server).collect();
        if servers.is_empty() {
            return Err(Error::new(ErrorKind::Other, "no name servers"));
        }
        let ResolverOpts { ndots, attempts, timeout, .. } = ResolverOpts::default();
        Ok(Self { servers, search: Vec::new(), ndots, attempts, timeout, edns0: false })
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let fail = |error: NetError| Error::new(ErrorKind::Other, error);
        let (config, options) = read_system_conf(path)?.map_err(fail)?;
        Ok(Self::from_parts(&config, &options))
    }

    fn from_parts(config: &ResolverConfig, options: &ResolverOpts) -> Self {
        // A domain is a search list of one, for where there is no other.
        let search = match config.search() {
            [] => config.domain().cloned().into_iter().filter(|domain| !domain.is_root()).collect(),
            search => search.to_vec(),
        };
        Self {
            servers: config.name_servers().to_vec(),
            search,
            ndots: options.ndots,
            // What glibc makes of too little.
            attempts: options.attempts.max(1),
            timeout: options.timeout.max(Duration::from_secs(1)),
            edns0: options.edns0,
        }
    }
}

#[cfg(all(unix, not(any(target_os = "android", target_vendor = "apple"))))]
fn read_system_conf(path: &Path) -> io::Result<Result<(ResolverConfig, ResolverOpts), NetError>> {
    Ok(system_conf::parse_resolv_conf(fs::read(path).map_err(|error| named(path, error))?))
}

/// Where it is not in a file, or not only.
#[cfg(not(all(unix, not(any(target_os = "android", target_vendor = "apple")))))]
fn read_system_conf(_: &Path) -> io::Result<Result<(ResolverConfig, ResolverOpts), NetError>> {
    Ok(system_conf::read_system_conf())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The names of the hosts file, in lower case.
#[derive(Debug, Default)]
pub(super) struct HostsFile(HashMap<String, Vec<IpAddr>>);

impl HostsFile {
    /// A file that is not there names nobody.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(named(path, error).into()),
        }
    }

    /// As glibc does it: a line without an address in front is none, and a dot at the end of a name is a part of it.
    fn parse(text: &str) -> Self {
        let mut hosts = HashMap::<_, Vec<_>>::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse().ok()) else { continue };
            for name in words {
                hosts.entry(name.to_ascii_lowercase()).or_default().push(ip);
            }
        }
        Self(hosts)
    }

    /// The addresses of `name`, of both families, if it is in there: then it is looked for nowhere else.
    pub(super) fn find(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }
}

/// What a file says, read again when it has changed.
#[derive(Debug)]
pub(super) struct Watched<T> {
    file: Option<File<T>>,
    value: Rc<T>,
}

#[derive(Debug)]
struct File<T> {
    path: &'static Path,
    read: fn(&Path) -> Result<T, Error>,
    stamp: Option<Stamp>,
}

/// What tells one state of a file from another.
type Stamp = (Option<SystemTime>, u64, Option<(u64, i64, i64)>);

impl<T> Watched<T> {
    /// A file that said `value` when it was last read, some time ago.
    pub(super) fn new(path: &'static str, read: fn(&Path) -> Result<T, Error>, value: T) -> Self {
        Self { file: Some(File { path: Path::new(path), read, stamp: None }), value: Rc::new(value) }
    }

    /// What is in no file.
    pub(super) fn fixed(value: T) -> Self {
        Self { file: None, value: Rc::new(value) }
    }

    /// What it says; what it said before, if it cannot be read or understood.
    pub(super) fn current(&mut self) -> Rc<T> {
        if let Some(File { path, read, stamp }) = &mut self.file {
            // Before it is read, so that a change in between is seen the next time.
            let now = self::stamp(path);
            if *stamp != now {
                *stamp = now;
                if let Ok(value) = read(path) {
                    self.value = Rc::new(value);
                }
            }
        }
        Rc::clone(&self.value)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let node = {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
    };
    #[cfg(not(unix))]
    let node = None;
    Some((metadata.modified().ok(), metadata.len(), node))
}
