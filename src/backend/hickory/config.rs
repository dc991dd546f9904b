//! The current contents of `resolv.conf` and the hosts file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use hickory_resolver::proto::rr::Name;

use crate::error::{Error, ErrorKind};

/// Which servers to ask, and for which names.
#[derive(Debug)]
pub(super) struct Settings {
    /// In the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<Name>,
    pub(super) ndots: usize,
    /// How many times each server is asked.
    pub(super) attempts: usize,
    /// How long each server has to answer.
    pub(super) timeout: Duration,
    pub(super) edns0: bool,
}

impl Settings {
    /// Returns the defaults of resolv.conf(5).
    pub(super) fn of_servers(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self, Error> {
        let servers: Vec<_> = servers.into_iter().map(reachable).collect();
        if servers.is_empty() {
            return Err(Error::new(ErrorKind::Other, "no name servers"));
        }
        if servers.iter().any(|server| server.port() == 0) {
            return Err(Error::new(ErrorKind::Other, "a name server's port cannot be 0"));
        }
        Ok(Self { servers, search: Vec::new(), ndots: 1, attempts: 2, timeout: Duration::from_secs(5), edns0: false })
    }

    #[cfg(all(unix, not(any(target_os = "android", target_vendor = "apple"))))]
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        use std::net::SocketAddrV6;

        use resolv_conf::{Config, ScopedIp};

        use super::name;
        use crate::ffi;

        let address = |server: &ScopedIp| match server {
            ScopedIp::V4(v4) => SocketAddr::new((*v4).into(), DNS),
            ScopedIp::V6(v6, scope) => {
                let scope = scope.as_ref().and_then(|scope| scope.parse().ok().or_else(|| ffi::interface(scope)));
                SocketAddrV6::new(*v6, DNS, 0, scope.unwrap_or(0)).into()
            }
        };
        let bytes = fs::read(path).map_err(|error| Error::unreadable(path, error))?;
        // Like glibc, ignores lines that it does not understand.
        let (config, _) = Config::parse_with_errors(String::from_utf8_lossy(&bytes).as_bytes());
        let settings = Self::of_servers(config.nameservers.iter().take(3).map(address))?;
        let listed: Vec<&String> = config.get_last_search_or_domain().collect();
        let own = config.get_system_domain().filter(|_| listed.is_empty());
        let domain = |word: &String| match word.trim_start_matches('.') {
            "" => Some(Name::root()),
            word => name::domain(word).ok(),
        };
        Ok(Self {
            search: listed.into_iter().chain(&own).filter_map(domain).collect(),
            // glibc's limits.
            ndots: config.ndots.min(15) as usize,
            attempts: config.attempts.clamp(1, 5) as usize,
            timeout: Duration::from_secs(config.timeout.clamp(1, 30).into()),
            edns0: config.edns0,
            ..settings
        })
    }

    /// For platforms whose settings are not in a file, or not only there.
    #[cfg(not(all(unix, not(any(target_os = "android", target_vendor = "apple")))))]
    pub(super) fn read(_: &Path) -> Result<Self, Error> {
        let (config, options) =
            hickory_resolver::system_conf::read_system_conf().map_err(|error| Error::new(ErrorKind::Other, error))?;
        let settings = Self::of_servers(config.name_servers().iter().map(|server| SocketAddr::new(server.ip, DNS)))?;
        let search = match config.search() {
            [] => config.domain().cloned().into_iter().collect(),
            search => search.to_vec(),
        };
        Ok(Self { search, ndots: options.ndots, ..settings })
    }
}

const DNS: u16 = 53;

/// Returns the address to which questions for `server` are sent. Packets to the unspecified address reach this machine, but answers come
/// from a specific one. An IPv4-mapped IPv6 address is reached by IPv4.
fn reachable(mut server: SocketAddr) -> SocketAddr {
    server.set_ip(server.ip().to_canonical());
    if server.ip().is_unspecified() {
        server.set_ip(match server {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    server
}

/// The hosts file, by names in lower case.
#[derive(Debug, Default)]
pub(super) struct HostsFile(HashMap<String, Vec<IpAddr>>);

impl HostsFile {
    /// Reads the file. A missing file is an empty one.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::unreadable(path, error)),
        }
    }

    /// Parses like glibc: ignores a line that does not begin with an address, and takes a dot at the end of a name for a part of it.
    fn parse(text: &str) -> Self {
        let mut hosts = HashMap::<_, Vec<_>>::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse().ok()) else { continue };
            let mut names: Vec<String> = words.map(str::to_ascii_lowercase).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                hosts.entry(name).or_default().push(ip);
            }
        }
        Self(hosts)
    }

    /// Returns the addresses of `name`, of both families. If there are any, no server is asked.
    pub(super) fn find(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }
}

/// The contents of a file, read again when it changes. Sessions share what was read last.
#[derive(Debug)]
pub(super) struct Watched<T> {
    last: Arc<ArcSwap<T>>,
    file: Option<File<T>>,
}

#[derive(Debug)]
struct File<T> {
    path: &'static Path,
    read: fn(&Path) -> Result<T, Error>,
    /// Identifies the state in which the file was last read. `None` before that.
    stamp: Option<Option<Stamp>>,
}

/// Identifies a state of an existing file.
type Stamp = (Option<SystemTime>, u64, Option<(u64, i64, i64)>);

impl<T> Watched<T> {
    pub(super) fn new(path: &'static str, read: fn(&Path) -> Result<T, Error>, last: &Arc<ArcSwap<T>>) -> Self {
        Self { last: Arc::clone(last), file: Some(File { path: Path::new(path), read, stamp: None }) }
    }

    /// Contents that are in no file.
    pub(super) fn fixed(value: &Arc<ArcSwap<T>>) -> Self {
        Self { last: Arc::clone(value), file: None }
    }

    /// Returns the current contents, or the former ones if the file cannot be read or parsed.
    pub(super) fn current(&mut self) -> Arc<T> {
        if let Some(File { path, read, stamp }) = &mut self.file {
            // Taken before the file is read, so that a change in between is seen the next time.
            let now = self::stamp(path);
            if *stamp != Some(now) {
                if let Ok(value) = read(path) {
                    *stamp = Some(now);
                    self.last.store(Arc::new(value));
                }
            }
        }
        self.last.load_full()
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, Error> {
        static LAST: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gaiter-{}-{number}.conf", std::process::id()));
        fs::write(&path, text).unwrap();
        let settings = Settings::read(&path);
        fs::remove_file(&path).unwrap();
        settings
    }

    fn servers(text: &str) -> Vec<String> {
        settings(text).unwrap().servers.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn servers_are_what_can_be_reached_and_no_more_than_three() {
        assert_eq!(servers("nameserver 192.0.2.1\r\nnameserver ::1 # a comment\n"), ["192.0.2.1:53", "[::1]:53"]);
        assert_eq!(servers("nameserver fe80::1%lo\nnameserver fe80::2%7\n"), ["[fe80::1%1]:53", "[fe80::2%7]:53"]);
        assert_eq!(servers("nameserver 0.0.0.0\nnameserver ::\n"), ["127.0.0.1:53", "[::1]:53"]);
        assert_eq!(servers("nameserver ::ffff:192.0.2.1\n"), ["192.0.2.1:53"]);
        assert_eq!(
            servers("nameserver ::1\nnonsense\nnameserver x\nnameserver ::2\nnameserver ::3\nnameserver ::4\n").len(),
            3
        );
        for nothing in ["", "search example\n", "nameserver\n", "nameserver x\n"] {
            assert!(settings(nothing).is_err(), "{nothing:?}");
        }
    }

    /// It is no "no such host".
    #[test]
    fn a_file_that_cannot_be_read_is_a_system_error_that_names_it() {
        let missing = std::env::temp_dir().join("gaiter-no-such-file");
        let error = Settings::read(&missing).expect_err("it is missing");
        assert_eq!((error.kind(), io::Error::from(error.clone()).kind()), (ErrorKind::System, io::ErrorKind::NotFound));
        assert_eq!(error.to_string(), format!("cannot read {}", missing.display()));
        assert!(HostsFile::read(&missing).is_ok());
        assert_eq!(HostsFile::read(Path::new("/")).expect_err("a folder").kind(), ErrorKind::System);
    }

    #[test]
    fn options_are_kept_to_what_glibc_takes() {
        let of = |options| settings(&format!("nameserver ::1\noptions {options}\n")).unwrap();
        let extreme = of("ndots:99 attempts:1000000 timeout:9999");
        assert_eq!((extreme.ndots, extreme.attempts, extreme.timeout), (15, 5, Duration::from_secs(30)));
        let least = of("ndots:0 attempts:0 timeout:0 edns0 rotate unheard-of");
        assert_eq!((least.ndots, least.attempts, least.timeout, least.edns0), (0, 1, Duration::from_secs(1), true));
    }

    #[test]
    fn a_search_list_is_of_names() {
        let search = |lines: &str| -> Vec<String> {
            let settings = settings(&format!("nameserver ::1\n{lines}\n")).unwrap();
            settings.search.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            search("search one.example. .two.example -x caf\u{e9} ."),
            ["one.example.", "two.example", "\\-x", "."]
        );
        assert_eq!(search("search a b c d e f g # \u{e9}").len(), 7);
        assert_eq!(search("domain first.example\nsearch second.example"), ["second.example"]);
        assert_eq!(search("search first.example\ndomain second.example"), ["second.example"]);
    }

    #[test]
    fn hosts_are_lines_of_an_address_and_names() {
        let text = "\u{feff}\n192.0.2.1 one ONE one # two\r\n::1\tone\n#192.0.2.9 nine\nx.y three\n192.0.2.2\n192.0.2.3 dot. \u{e4}";
        let hosts = HostsFile::parse(text);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(hosts.find("oNe"), Some(&[ip("192.0.2.1"), ip("::1")][..]));
        assert_eq!(hosts.find("dot."), Some(&[ip("192.0.2.3")][..]));
        for none in ["dot", "one.", "two", "nine", "three", ""] {
            assert_eq!(hosts.find(none), None, "{none}");
        }
    }
}
