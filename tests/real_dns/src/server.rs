//! The scripted server: UDP and TCP on one address, on one thread, with a log of the questions.
//!
//! The first label of a name decides the answer. Further labels, and text after a further `-`, only make names distinct:
//!
//! | name | answer |
//! |---|---|
//! | `ok` | one A and one AAAA record |
//! | `a`, `a-3`, `aaaa`, `aaaa-3` | one or three records of that family, none of the other |
//! | `many-N` | N records of each family, at most 1,500; truncated over UDP from 29 on |
//! | `scopes` | one address for each scope that address selection distinguishes |
//! | `common` | addresses in whose order RFC 3484, RFC 6724 and glibc agree |
//! | `alien` | as `ok`, between an address of another name and one of the other family |
//! | `wrongid` | as `ok`; over UDP, after an answer with another id |
//! | `chain-N` | N CNAMEs before the addresses |
//! | `loop` | a CNAME to itself |
//! | `dangling` | a CNAME to a name that does not exist |
//! | `nodata` | no records |
//! | `servfail`, `refused`, `notimp`, `formerr` | that code |
//! | `servfail4`, `servfail6`, `nx4`, `nx6` | that code for one family, an address for the other |
//! | `slow-N` | as `ok`, N milliseconds later |
//! | `silent`, `silent4`, `silent6` | no answer; no answer for one family |
//! | `set` | as the word that [`Server::set_as`] sets |
//! | `held` | as `ok`, not before [`Server::set_held`] releases it |
//! | any name under `refusing.test` | REFUSED |
//! | any name under `silent.test` | no answer |
//! | any other name, and any name under `absent.test` | NXDOMAIN |
//!
//! A second label `ttl-N` sets the TTL of the records.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Header, HeaderCounts, Message, Metadata, Query};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType, rdata};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{self, Handle};
use tokio::sync::{oneshot, watch};

use crate::script::{Act, Script};

/// Size of the receive buffer: room for thousands of questions. Each question that is lost costs its client 5 seconds.
const ROOM: usize = 4 << 20;

/// The server address in a namespace's initial `resolv.conf`.
pub const ADDRESS: &str = "127.0.0.1:53";

/// A question that arrived, answered or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In lower case, without the trailing dot.
    pub name: String,
    /// `A`, `AAAA` and the like.
    pub kind: String,
    /// Whether it came over TCP.
    pub tcp: bool,
}

/// A running server. Dropping it stops it and frees its address.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    runtime: Handle,
    thread: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

struct State {
    /// A duplicate of the server's socket.
    udp: std::net::UdpSocket,
    questions: Mutex<Vec<Question>>,
    silent: AtomicBool,
    number: AtomicU8,
    /// The word that `set` stands for.
    set: Mutex<String>,
    held: watch::Sender<bool>,
    loss: Mutex<Loss>,
}

/// Which questions over UDP are lost.
struct Loss {
    /// Chance that a question is lost, in thousandths.
    per_mille: u64,
    /// Chance that an AAAA question is lost if it comes from the port of an A question just before.
    race_per_mille: u64,
    /// The source of the last A question.
    last_a: Option<SocketAddr>,
    /// The state of a generator of pseudo-random numbers (Knuth's MMIX), which is the same in each run.
    random: u64,
}

impl Loss {
    fn loses(&mut self, kind: RecordType, from: SocketAddr) -> bool {
        let races = kind == RecordType::AAAA && self.last_a == Some(from);
        if kind == RecordType::A {
            self.last_a = Some(from);
        }
        let mut chance = |per_mille| {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) % 1000 < per_mille
        };
        chance(self.per_mille) || races && chance(self.race_per_mille)
    }
}

impl Server {
    /// Starts a server on [`ADDRESS`].
    ///
    /// # Panics
    ///
    /// Panics if the address is taken, or if this process may not bind it.
    pub fn start() -> Self {
        Self::start_on(ADDRESS)
    }

    /// Starts a server on a port that the system chooses.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub fn start_anywhere() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts a server on `address`, such as `127.0.0.2:53`.
    ///
    /// # Panics
    ///
    /// Panics if the address is taken, or if this process may not bind it.
    pub fn start_on(address: &str) -> Self {
        Self::start_with(address, ROOM)
    }

    /// Starts a server on [`ADDRESS`] with a receive buffer of `room` bytes, or of the maximum that the system allows.
    ///
    /// # Panics
    ///
    /// Panics if the address is taken, or if this process may not bind it.
    pub fn start_with_room(room: usize) -> Self {
        Self::start_with(ADDRESS, room)
    }

    fn start_with(address: &str, room: usize) -> Self {
        let address = address.parse::<SocketAddr>().expect("an address with a port");
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let (udp, tcp) = runtime.block_on(bind(address, room)).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = udp.local_addr().expect("it is bound");
        let copy = socket2::SockRef::from(&udp).try_clone().expect("a descriptor");
        let state = Arc::new(State {
            udp: copy.into(),
            questions: Mutex::default(),
            silent: AtomicBool::new(false),
            number: AtomicU8::new(1),
            set: Mutex::new("ok".to_owned()),
            held: watch::Sender::new(true),
            loss: Mutex::new(Loss { per_mille: 0, race_per_mille: 0, last_a: None, random: 1 }),
        });
        let mut server = hickory_server::Server::new(Handler(state.clone()));
        let guard = handle.enter();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(10), 64);
        drop(guard);
        let thread = thread::Builder::new().name("dns-server".to_owned());
        let thread = thread.spawn(move || {
            let _ = runtime.block_on(ended);
            drop(server);
        });
        Self { address, state, runtime: handle, thread: Some((thread.expect("a thread"), end)) }
    }

    /// Returns the address of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the questions so far, in the order of their arrival.
    pub fn questions(&self) -> Vec<Question> {
        self.state.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of questions about `name` so far.
    pub fn count(&self, name: &str) -> usize {
        let questions = self.state.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.iter().filter(|question| question.name == name).count()
    }

    /// Sets whether the server answers nothing. Questions are counted all the same.
    pub fn set_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// Sets the chance that a question over UDP is lost, in thousandths, and of an AAAA question that comes from the port of an A
    /// question just before, as in a race of Linux's connection tracking. Lost questions are counted all the same.
    pub fn set_loss(&self, per_mille: u64, race_per_mille: u64) {
        let mut loss = self.state.loss.lock().unwrap_or_else(PoisonError::into_inner);
        (loss.per_mille, loss.race_per_mille) = (per_mille, race_per_mille);
    }

    /// Sets the number that is part of every address. Default: 1.
    pub fn set_number(&self, number: u8) {
        self.state.number.store(number, Ordering::SeqCst);
    }

    /// Sets the word that `set` stands for, such as `a-3` or `servfail`. Default: `ok`.
    pub fn set_as(&self, word: &str) {
        word.clone_into(&mut self.state.set.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets whether answers to `held` names wait. Default: true.
    pub fn set_held(&self, held: bool) {
        self.state.held.send_replace(held);
    }

    /// Stops reading until the result is dropped, so that the sockets' buffers fill. Returns once reading has stopped.
    pub fn stall(&self) -> Stalled {
        let (standing, stands) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        self.runtime.spawn(async move {
            let _ = standing.send(());
            let _ = released.recv();
        });
        stands.recv().expect("the server runs");
        Stalled(release)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((thread, end)) = self.thread.take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

/// Keeps the server from reading.
#[must_use = "dropping it lets the server go on"]
pub struct Stalled(#[allow(dead_code, reason = "its drop is what counts")] mpsc::Sender<()>);

async fn bind(address: SocketAddr, room: usize) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(address).await?;
    socket2::SockRef::from(&udp).set_recv_buffer_size(room)?;
    // Of a port 0, this is the port that the system chose.
    let tcp = TcpListener::bind(udp.local_addr()?).await?;
    Ok((udp, tcp))
}

struct Handler(Arc<State>);

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let unanswered = ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        let Ok(info) = request.request_info() else { return unanswered };
        let (name, kind) = (info.query.name(), info.query.query_type());
        let text = name.to_string().to_ascii_lowercase();
        let text = text.trim_end_matches('.');
        self.note(text, kind, info.protocol);

        let script = match text.strip_prefix("set.") {
            Some(rest) => {
                let word = self.0.set.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Script::of(&format!("{word}.{rest}"))
            }
            None => Script::of(text),
        };
        if script.act == Act::Held {
            let _ = self.0.held.subscribe().wait_for(|held| !held).await;
        }
        if !script.after.is_zero() {
            tokio::time::sleep(script.after).await;
        }
        let is_lost = || self.0.loss.lock().unwrap_or_else(PoisonError::into_inner).loses(kind, info.src);
        if self.0.silent.load(Ordering::SeqCst) || info.protocol == Protocol::Udp && is_lost() {
            return unanswered;
        }
        let owner = Name::from(name.clone());
        let Some((code, records)) = script.answer(&owner, kind, self.0.number.load(Ordering::SeqCst)) else {
            return unanswered;
        };
        metadata.response_code = code;
        let soa = if records.is_empty() { vec![authority(name, script.ttl)] } else { Vec::new() };
        if script.act == Act::WrongId && info.protocol == Protocol::Udp {
            self.forge(&metadata, &owner, kind, info.src);
        }
        let builder = MessageResponseBuilder::from_message_request(request);
        let response = builder.build(metadata, &records, [], &soa, []);
        reply.send_response(response).await.unwrap_or(unanswered)
    }
}

impl Handler {
    /// Sends an answer with a wrong id and an address that no other answer has. Made by hand, because the server's own responses
    /// always have the right id.
    fn forge(&self, metadata: &Metadata, name: &Name, kind: RecordType, asker: SocketAddr) {
        let mut message = Message::response(metadata.id.wrapping_add(1), metadata.op_code);
        message.metadata.recursion_available = true;
        message.add_query(Query::query(name.clone(), kind));
        let data = match kind {
            RecordType::A => RData::A(rdata::A(Ipv4Addr::new(203, 0, 113, 66))),
            _ => RData::AAAA(rdata::AAAA(Ipv6Addr::LOCALHOST)),
        };
        message.add_answer(Record::from_rdata(name.clone(), 60, data));
        let bytes = message.to_vec().expect("a short message");
        self.0.udp.send_to(&bytes, asker).expect("the asker's address");
    }

    fn note(&self, name: &str, kind: RecordType, protocol: Protocol) {
        let question = Question { name: name.to_owned(), kind: kind.to_string(), tcp: protocol == Protocol::Tcp };
        self.0.questions.lock().unwrap_or_else(PoisonError::into_inner).push(question);
    }
}

/// Returns the SOA record that says how long a negative answer may be cached (RFC 2308).
fn authority(name: &LowerName, ttl: u32) -> Record {
    let zone = Name::from(name.clone()).base_name();
    let soa = rdata::SOA::new(zone.clone(), zone.clone(), 1, 3600, 3600, 3600, ttl);
    Record::from_rdata(zone, ttl, RData::SOA(soa))
}
