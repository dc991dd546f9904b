//! A lookup by DNS: the names that a search list makes of one, each asked of one server after another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use socket2::{Domain, Socket, Type};

use super::config::Settings;
use crate::error::{Error, ErrorKind};

/// The servers, with the connections to them.
///
/// Each is a pool of its own, because one of them all would ask two at once, or go by their speed, and give up when the first has
/// used up its time: while `resolv.conf` means an order. And not a `TokioResolver`, for its cache, search list and hosts file, of which
/// there is one here already.
pub(super) struct Servers {
    each: Vec<NameServerPool<TokioRuntimeProvider>>,
    options: DnsRequestOptions,
    attempts: usize,
    search: Vec<Name>,
    ndots: usize,
}

/// The addresses of a name, in the server's order, and for how long they last.
pub(super) struct Found {
    pub(super) ips: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// Why a name gave no addresses.
struct Failure {
    error: Error,
    /// Whether the next name of a search list is asked for: not if nobody answers.
    is_answer: bool,
}

impl Servers {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let Settings { servers, search, ndots, attempts, timeout, edns0 } = settings;
        let pool = |server: &NameServerConfig| {
            let mut options = ResolverOpts::default();
            options.timeout = *timeout;
            // Of one connection by TCP; the bound on lookups is the engine's.
            options.max_active_requests = usize::from(u16::MAX);
            let tls = TlsConfig::new().map_err(|error| Error::new(ErrorKind::Other, error))?;
            let context = Arc::new(PoolContext::new(options, tls));
            Ok(NameServerPool::from_config([server.clone()], context, TokioRuntimeProvider::new()))
        };
        let each = servers.iter().map(pool).collect::<Result<_, Error>>()?;
        let mut options = DnsRequestOptions::default();
        options.use_edns = *edns0;
        Ok(Self { each, options, attempts: *attempts, search: search.clone(), ndots: *ndots })
    }

    /// Looks up both families.
    pub(super) async fn look_up(&self, name: &Name) -> Result<Found, Error> {
        if is_this_machine(name) {
            let ips = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
            return Ok(Found { ips, ttl: Duration::MAX });
        }
        let mut worst: Option<Failure> = None;
        for name in self.candidates(name) {
            let failure = match self.look_up_both(&name).await {
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            let is_answer = failure.is_answer;
            // That another name does not exist makes none of this.
            if worst.as_ref().is_none_or(|worst| worst.error.kind() == ErrorKind::NotFound) {
                worst = Some(failure);
            }
            if !is_answer {
                break;
            }
        }
        Err(worst.map_or(ErrorKind::NotFound.into(), |worst| worst.error))
    }

    /// What `name` may stand for, in the order in which it is tried: resolv.conf(5), `ndots` and `search`.
    fn candidates(&self, name: &Name) -> impl Iterator<Item = Name> {
        let rooted = |mut name: Name| {
            name.set_fqdn(true);
            name
        };
        let search = if name.is_fqdn() { &[][..] } else { &self.search[..] };
        let found = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).map(rooted);
        let itself = Some(rooted(name.clone()));
        // Its dots are one fewer than its labels.
        let first = name.is_fqdn() || usize::from(name.num_labels()) > self.ndots;
        let (first, last) = if first { (itself, None) } else { (None, itself) };
        first.into_iter().chain(found.collect::<Vec<_>>()).chain(last)
    }

    async fn look_up_both(&self, name: &Name) -> Result<Found, Failure> {
        let (v4, v6) = future::join(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA)).await;
        match (v4, v6) {
            (Ok(mut v4), Ok(v6)) => {
                v4.ips.extend(v6.ips);
                v4.ttl = v4.ttl.min(v6.ttl);
                Ok(v4)
            }
            // Half an answer is one.
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            // What says nothing of the name goes before what does.
            (Err(v4), Err(v6)) => Err(if rank(&v6.error) > rank(&v4.error) { v6 } else { v4 }),
        }
    }

    /// Asks one server after another, and all of them again, until one has said what there is.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Found, Failure> {
        let mut last = NetError::NoConnections;
        for server in (0..self.attempts).flat_map(|_| &self.each) {
            match server.lookup(Query::query(name.clone(), kind), self.options).first_answer().await {
                Ok(response) => return found(&response, name),
                Err(error @ NetError::Dns(DnsError::NoRecordsFound(_))) => return Err(error.into()),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

/// RFC 6761, 6.3: no server is asked about it.
fn is_this_machine(name: &Name) -> bool {
    name.iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"localhost"))
}

fn rank(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::NoData => 0,
        ErrorKind::NotFound => 1,
        ErrorKind::Permanent => 2,
        ErrorKind::Temporary => 3,
        _ => 4,
    }
}

/// The addresses that an answer gives to `name` itself, or to what it is an alias of: whatever else stands in there is nobody's
/// business.
fn found(response: &DnsResponse, name: &Name) -> Result<Found, Failure> {
    let mut owner = name;
    let mut ttl = u32::MAX;
    for record in &response.answers {
        if let (RData::CNAME(target), true) = (&record.data, record.name == *owner) {
            owner = &target.0;
            ttl = ttl.min(record.ttl);
        }
    }
    let mut ips = Vec::new();
    for record in response.answers.iter().filter(|record| record.name == *owner) {
        if let Some(ip) = record.data.ip_addr() {
            ips.push(ip);
            ttl = ttl.min(record.ttl);
        }
    }
    if ips.is_empty() {
        return Err(Failure::nothing(response.response_code));
    }
    Ok(Found { ips, ttl: Duration::from_secs(ttl.into()) })
}

impl Failure {
    /// The name exists and has no addresses, or does not exist.
    fn nothing(code: ResponseCode) -> Self {
        let kind = if code == ResponseCode::NXDomain { ErrorKind::NotFound } else { ErrorKind::NoData };
        Self { error: kind.into(), is_answer: true }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        let (kind, is_answer) = match &error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => return Self::nothing(none.response_code),
            NetError::Dns(DnsError::ResponseCode(code)) => (ErrorKind::Temporary, *code == ResponseCode::ServFail),
            NetError::Timeout | NetError::Busy => (ErrorKind::Temporary, false),
            // As what hickory passes every failure of a socket on.
            NetError::NoConnections | NetError::Io(_) => match Socket::new(Domain::IPV4, Type::DGRAM, None) {
                Ok(_) => (ErrorKind::Temporary, false),
                Err(error) => return Self { error: error.into(), is_answer: false },
            },
            _ => (ErrorKind::Permanent, false),
        };
        Self { error: Error::new(kind, error), is_answer }
    }
}
