//! A lookup by DNS: tries the names that the search list makes of one name, and asks one server after another for each.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use socket2::{Domain, Socket, Type};

use super::config::Settings;
use super::socket::Sockets;
use crate::error::{Error, ErrorKind};

/// TTL of an answer if the lookup of the other family failed. As long as a failure is cached.
const HALF: Duration = Duration::from_secs(1);

/// Maximum number of addresses of each family that are used of an answer. A headless service of Kubernetes usually has fewer. Ordering
/// this many of both families takes 3 ms of system calls, in turns of 0.2 ms. Caching them takes 32 KiB.
const MOST: usize = 512;

/// The servers and the connections to them.
pub(super) struct Servers {
    each: Vec<Server>,
    options: DnsRequestOptions,
    attempts: usize,
    search: Vec<Name>,
    ndots: usize,
}

/// One server.
///
/// A pool of all servers would ask two at once or prefer the faster one, and give up when the first has used up its time, but
/// `resolv.conf` means an order. A pool of one server, which keeps a connection, is for TCP only: by UDP its bookkeeping takes a third
/// of the instructions of a lookup. A `TokioResolver` does not fit, because it has a cache, a search list and a hosts file of its own.
struct Server {
    udp: RefCell<UdpClientStream<Sockets>>,
    /// How long answers by UDP usually take.
    rtt: Cell<Duration>,
    tcp: NameServerPool<Sockets>,
}

/// The addresses of a name, in the server's order, and their TTL.
pub(super) struct Found {
    pub(super) ips: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// Why a name has no addresses.
struct Failure {
    error: Error,
    /// Whether any server has answered.
    is_answer: bool,
}

impl Servers {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let Settings { servers, search, ndots, attempts, timeout, edns0 } = settings;
        let each = servers.iter().map(|&server| Server::new(server, *timeout)).collect::<Result<_, _>>();
        let mut options = DnsRequestOptions::default();
        options.use_edns = *edns0;
        Ok(Self {
            each: each.map_err(|error| Error::new(ErrorKind::Other, error))?,
            options,
            attempts: *attempts,
            search: search.clone(),
            ndots: *ndots,
        })
    }

    /// Looks up the addresses of both families.
    pub(super) async fn look_up(&self, name: &Name) -> Result<Found, Error> {
        if is_this_machine(name) {
            let ips = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
            return Ok(Found { ips, ttl: Duration::MAX });
        }
        let mut worst: Option<Error> = None;
        let mut list_is_over = false;
        for Candidate { name, is_listed } in self.candidates(name) {
            if is_listed && list_is_over {
                continue;
            }
            match self.look_up_both(&name).await {
                Ok(found) => return Ok(found),
                Err(Failure { error, is_answer }) => {
                    // If no server answers, none will for the rest of the list.
                    list_is_over |= is_listed && !is_answer;
                    if worst.as_ref().is_none_or(|worst| rank(&error) > rank(worst)) {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.unwrap_or_else(|| ErrorKind::NotFound.into()))
    }

    /// Returns the names to try for `name`, in order. See `ndots` and `search` in resolv.conf(5).
    fn candidates(&self, name: &Name) -> Vec<Candidate> {
        let mut itself = name.clone();
        itself.set_fqdn(true);
        let itself = Candidate { name: itself, is_listed: false };
        if name.is_fqdn() {
            return vec![itself];
        }
        let on_list = |domain: &Name| name.clone().append_domain(domain).ok();
        let listed = self.search.iter().filter_map(on_list).map(|name| Candidate { name, is_listed: true });
        // A name has one dot fewer than labels.
        let first = usize::from(name.num_labels()) > self.ndots;
        let mut candidates: Vec<Candidate> = listed.filter(|listed| !first || listed.name != itself.name).collect();
        if first {
            candidates.insert(0, itself);
        } else if candidates.iter().all(|listed| listed.name != itself.name) {
            candidates.push(itself);
        }
        candidates
    }

    async fn look_up_both(&self, name: &Name) -> Result<Found, Failure> {
        let (v4, v6) = future::join(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA)).await;
        match (v4, v6) {
            (Ok(mut v4), Ok(v6)) => {
                v4.ips.extend(v6.ips);
                v4.ttl = v4.ttl.min(v6.ttl);
                Ok(v4)
            }
            // The addresses of one family are an answer.
            (Ok(found), Err(other)) | (Err(other), Ok(found)) => {
                let lasts = if other.error.is_not_found() { found.ttl } else { found.ttl.min(HALF) };
                Ok(Found { ttl: lasts, ..found })
            }
            (Err(v4), Err(v6)) => Err(if rank(&v6.error) > rank(&v4.error) { v6 } else { v4 }),
        }
    }

    /// Asks one server after another, for several rounds, until one has a usable answer.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Found, Failure> {
        let query = Query::query(name.clone(), kind);
        let mut last = None;
        for server in (0..self.attempts).flat_map(|_| &self.each) {
            match server.ask(&query, self.options).await {
                Ok(response) => return found(&response, name, kind),
                Err(error) => last = Some(error),
            }
            if let Some(NetError::Dns(DnsError::NoRecordsFound(none))) = &last {
                // A referral to other servers is not usable.
                if none.soa.is_some() || none.ns.is_none() {
                    break;
                }
            }
        }
        Err(last.unwrap_or(NetError::NoConnections).into())
    }
}

/// A name to try.
struct Candidate {
    name: Name,
    /// Whether it comes from the search list.
    is_listed: bool,
}

impl Server {
    fn new(server: SocketAddr, timeout: Duration) -> Result<Self, NetError> {
        let sockets = Sockets::to(server);
        let udp = UdpClientStream::builder(server, sockets.clone()).with_timeout(Some(timeout)).build();
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        // For one TCP connection. The engine bounds the number of lookups.
        options.max_active_requests = usize::from(u16::MAX);
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let mut connection = ConnectionConfig::tcp();
        connection.port = server.port();
        let config = NameServerConfig::new(server.ip(), true, vec![connection]);
        let tcp = NameServerPool::from_config([config], context, sockets);
        Ok(Self { udp: RefCell::new(udp), rtt: Cell::default(), tcp })
    }

    async fn ask(&self, query: &Query, options: DnsRequestOptions) -> Result<DnsResponse, NetError> {
        let response = match self.ask_by_udp(query, options).await {
            // The answer was truncated.
            Err(NetError::Truncated) => self.tcp.lookup(query.clone(), options).first_answer().await,
            response => response,
        };
        // hickory checks only the id of an answer by TCP.
        let question = match &response {
            Ok(response) => response.queries.first(),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Some(&*none.query),
            Err(_) => Some(query),
        };
        if question != Some(query) {
            return Err(NetError::Message("an answer to another question"));
        }
        let response = response?;
        match response.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(response),
            code => Err(DnsError::ResponseCode(code).into()),
        }
    }

    async fn ask_by_udp(&self, query: &Query, mut options: DnsRequestOptions) -> Result<DnsResponse, NetError> {
        let asked = Instant::now();
        // hickory waits for at least 333 ms before it sends a query again.
        options.retry_interval = self.rtt.get() * 2;
        let answer = self.udp.borrow_mut().send_message(DnsRequest::from_query(query.clone(), options));
        let response = answer.first_answer().await?;
        self.rtt.set((self.rtt.get() * 7 + asked.elapsed()) / 8);
        let response = DnsError::from_response(response)?;
        let mut records = response.answers.iter().chain(&response.authorities).chain(&response.additionals);
        if response.truncation {
            Err(NetError::Truncated)
        } else if records.any(|record| record.dns_class != query.query_class) {
            Err(NetError::Message("a record of another class"))
        } else {
            Ok(response)
        }
    }
}

/// Returns whether `name` is `localhost` or below it. No server is asked about these (RFC 6761, section 6.3).
fn is_this_machine(name: &Name) -> bool {
    name.iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"localhost"))
}

/// Returns the rank of a failure. Callers get the one with the highest rank: one that says nothing about the name beats one that does.
fn rank(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound => 0,
        ErrorKind::NoData => 1,
        ErrorKind::Permanent => 2,
        ErrorKind::Temporary => 3,
        _ => 4,
    }
}

/// Returns the addresses that an answer has for `name` or for the name it is an alias of. Ignores records of other names.
fn found(response: &DnsResponse, name: &Name, kind: RecordType) -> Result<Found, Failure> {
    let mut owner = name;
    let mut ttl = u32::MAX;
    for record in &response.answers {
        if let RData::CNAME(target) = &record.data {
            if record.name == *owner {
                owner = &target.0;
                ttl = ttl.min(record.ttl);
            }
        }
    }
    let is_asked_for = |record: &&Record| record.record_type() == kind && record.name == *owner;
    let mut ips = Vec::new();
    for record in response.answers.iter().filter(is_asked_for).take(MOST) {
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
    /// Returns the failure of a name that does not exist or has no addresses. It has no source.
    fn nothing(code: ResponseCode) -> Self {
        let kind = if code == ResponseCode::NXDomain { ErrorKind::NotFound } else { ErrorKind::NoData };
        Self { error: kind.into(), is_answer: true }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        let (kind, is_answer) = match &error {
            NetError::Dns(DnsError::NoRecordsFound(none)) if none.soa.is_some() || none.ns.is_none() => {
                return Self::nothing(none.response_code);
            }
            NetError::Dns(DnsError::ResponseCode(code)) => (ErrorKind::Temporary, *code == ResponseCode::ServFail),
            NetError::Dns(_) | NetError::Timeout | NetError::Busy | NetError::Truncated => {
                (ErrorKind::Temporary, false)
            }
            // The form in which hickory reports every failure of a socket.
            NetError::NoConnections | NetError::Io(_) => match Socket::new(Domain::IPV4, Type::DGRAM, None) {
                Ok(_) => (ErrorKind::Temporary, false),
                Err(error) => return Self { error: error.into(), is_answer: false },
            },
            _ => (ErrorKind::Permanent, false),
        };
        Self { error: Error::new(kind, error), is_answer }
    }
}
