//! Arbitrary messages of a DNS server to hickory: no panic, and no answer that was not said to the question, with its type and
//! class.
//!
//! After each arbitrary message the server sends a failure, so that a message that is ignored does not delay the end.
#![no_main]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread::{self, JoinHandle};

use arbitrary::Arbitrary;
use futures::executor::block_on;
use gaiter::{ErrorKind, Hickory, Resolver};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use libfuzzer_sys::fuzz_target;

/// Number in the name. A new one each time, so that a late message is not taken for an answer about another name.
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn name() -> String {
    format!("ask-{}.test.", NUMBER.load(Ordering::SeqCst))
}

/// What the server says to the two questions.
#[derive(Arbitrary, Debug, Default)]
struct Script {
    v4: Exchange,
    v6: Exchange,
}

#[derive(Arbitrary, Debug, Default)]
struct Exchange {
    udp: Said,
    /// Used if the answer over UDP is truncated.
    tcp: Said,
}

#[derive(Arbitrary, Debug, Default)]
struct Said {
    other_id: bool,
    is_query: bool,
    truncated: bool,
    code: u8,
    question: Question,
    answers: Vec<Line>,
    authorities: Vec<Line>,
    additionals: Vec<Line>,
    /// Positions and new values of bytes that are overwritten.
    patches: Vec<(u16, u8)>,
    /// Sent instead of all of the above, after an id.
    raw: Option<Vec<u8>>,
}

#[derive(Arbitrary, Clone, Copy, Debug, Default)]
enum Question {
    #[default]
    Same,
    OtherName,
    OtherType,
    OtherClass,
    Twice,
    None,
}

#[derive(Arbitrary, Debug)]
struct Line {
    owner: Owner,
    data: Data,
    ttl: u32,
    other_class: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Owner {
    Itself,
    InUpperCase,
    Alias(u8),
    Other,
    Root,
}

#[derive(Arbitrary, Debug)]
enum Data {
    V4(u32),
    V6(u128),
    Alias(Owner),
    Authority,
    Server(Owner),
    Text(u8),
}

impl Owner {
    fn name(self) -> Name {
        let text = match self {
            Self::Itself => name(),
            Self::InUpperCase => name().to_uppercase(),
            Self::Alias(number) => format!("alias-{}.test.", number % 4),
            Self::Other => "other.test.".into(),
            Self::Root => ".".into(),
        };
        Name::from_ascii(text).expect("a name")
    }
}

impl Line {
    fn record(&self) -> Record {
        let data = match self.data {
            Data::V4(bits) => RData::A(A(Ipv4Addr::from_bits(bits))),
            Data::V6(bits) => RData::AAAA(AAAA(Ipv6Addr::from_bits(bits))),
            Data::Alias(target) => RData::CNAME(CNAME(target.name())),
            Data::Authority => RData::SOA(SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, self.ttl)),
            Data::Server(server) => RData::NS(NS(server.name())),
            Data::Text(length) => RData::TXT(TXT::new(vec!["x".repeat(length.into())])),
        };
        let mut record = Record::from_rdata(self.owner.name(), self.ttl, data);
        if self.other_class {
            record.dns_class = DNSClass::CH;
        }
        record
    }
}

impl Said {
    /// Returns the message, as an answer to `asked`.
    fn bytes(&self, asked: &Message) -> Vec<u8> {
        let id = asked.metadata.id.wrapping_add(self.other_id.into());
        if let Some(raw) = &self.raw {
            return id.to_be_bytes().into_iter().chain(raw.iter().copied()).take(4096).collect();
        }
        let mut message = Message::response(id, OpCode::Query);
        if self.is_query {
            message.metadata.message_type = MessageType::Query;
        }
        message.metadata.truncation = self.truncated;
        message.metadata.response_code = ResponseCode::from_low(self.code % 6);
        let mut query = asked.queries[0].clone();
        match self.question {
            Question::Same => _ = message.add_query(query),
            Question::OtherName => _ = message.add_query(query.set_name(Owner::Other.name()).clone()),
            Question::OtherType => _ = message.add_query(query.set_query_type(RecordType::TXT).clone()),
            Question::OtherClass => _ = message.add_query(query.set_query_class(DNSClass::CH).clone()),
            Question::Twice => _ = message.add_query(query.clone()).add_query(query),
            Question::None => {}
        }
        let records = |lines: &[Line]| lines.iter().take(12).map(Line::record).collect::<Vec<_>>();
        message.insert_answers(records(&self.answers));
        message.insert_authorities(records(&self.authorities));
        message.insert_additionals(records(&self.additionals));
        let mut bytes = message.to_vec().unwrap_or_default();
        for &(at, byte) in &self.patches {
            let length = bytes.len().max(1);
            if let Some(old) = bytes.get_mut(usize::from(at) % length) {
                *old = byte;
            }
        }
        bytes
    }
}

/// The server's script, and its messages so far, with their questions.
#[derive(Default)]
struct Server {
    script: Script,
    said: Vec<(Message, Vec<u8>)>,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

static CONNECTIONS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    // Another process may have this port over TCP.
    let bind = || {
        let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
        let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
        Some((udp, tcp))
    };
    let (udp, tcp) = (0..100).find_map(|_| bind()).expect("a port");
    let address = udp.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            for bytes in replies(&buffer[..length], false) {
                _ = udp.send_to(&bytes, from);
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            CONNECTIONS.lock().expect("nobody panics in there").push(thread::spawn(|| _ = serve(stream)));
        }
    });
    address
});

fn serve(mut stream: TcpStream) -> Option<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query).ok()?;
        for bytes in replies(&query, true) {
            let length = u16::try_from(bytes.len()).expect("a short message");
            stream.write_all(&length.to_be_bytes()).ok()?;
            stream.write_all(&bytes).ok()?;
        }
    }
}

/// Returns the messages to a question: the scripted one, and a failure.
fn replies(query: &[u8], is_tcp: bool) -> Vec<Vec<u8>> {
    let Ok(asked) = Message::from_vec(query) else { return Vec::new() };
    let mut server = SERVER.lock().expect("nobody panics in there");
    let Some(Server { script, said }) = &mut *server else { return Vec::new() };
    if asked.queries[0].name.to_lowercase().to_ascii() != name() {
        return Vec::new();
    }
    let exchange = if asked.queries[0].query_type == RecordType::A { &script.v4 } else { &script.v6 };
    let bytes = if is_tcp { &exchange.tcp } else { &exchange.udp }.bytes(&asked);
    said.push((asked.clone(), bytes.clone()));
    let mut failure = Message::error_msg(asked.metadata.id, OpCode::Query, ResponseCode::ServFail);
    failure.add_queries(asked.queries);
    vec![bytes, failure.to_vec().expect("a short message")]
}

/// The content of a message that answers a question.
struct Answer {
    kind: RecordType,
    code: ResponseCode,
    ips: BTreeSet<IpAddr>,
}

impl Answer {
    fn read(asked: &Message, bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        if message.metadata.id != asked.metadata.id || message.queries.first() != asked.queries.first() {
            return None;
        }
        let Query { query_type: kind, .. } = asked.queries[0];
        let is_one = |record: &&Record| record.dns_class == DNSClass::IN;
        let mut names = BTreeSet::from([asked.queries[0].name.to_lowercase()]);
        // Follows aliases in any order, which allows more addresses rather than fewer.
        for _ in &message.answers {
            for record in message.answers.iter().filter(is_one) {
                if let (RData::CNAME(target), true) = (&record.data, names.contains(&record.name.to_lowercase())) {
                    names.insert(target.0.to_lowercase());
                }
            }
        }
        let ip = |record: &Record| {
            let named = names.contains(&record.name.to_lowercase()) && record.record_type() == kind;
            record.data.ip_addr().filter(|_| named)
        };
        let ips = message.answers.iter().filter(is_one).filter_map(ip).collect();
        Some(Self { kind, code: message.metadata.response_code, ips })
    }
}

fuzz_target!(|script: Script| {
    NUMBER.fetch_add(1, Ordering::SeqCst);
    *SERVER.lock().expect("nobody panics in there") = Some(Server { script, said: Vec::new() });
    let hickory = Hickory::with_servers([*ADDRESS]).expect("a server");
    let resolver = Resolver::builder().async_backend(hickory).timeout(None).build();
    let answer = block_on(resolver.resolve(name()));
    let report = resolver.shutdown().wait();
    assert!(report.is_clean(), "{report}");
    // Otherwise LeakSanitizer reports what these threads still have.
    let connections = mem::take(&mut *CONNECTIONS.lock().expect("nobody panics in there"));
    connections.into_iter().for_each(|connection| connection.join().expect("nor here"));
    let server = SERVER.lock().expect("nobody panics in there").take().expect("put there");

    let answers: Vec<Answer> = server.said.iter().filter_map(|(asked, bytes)| Answer::read(asked, bytes)).collect();
    let all_families = |code: &dyn Fn(&Answer) -> bool| {
        let said = |kind| answers.iter().any(|answer| answer.kind == kind && code(answer));
        said(RecordType::A) && said(RecordType::AAAA)
    };
    match answer {
        Ok(addrs) => {
            let offered: BTreeSet<IpAddr> = answers.iter().flat_map(|answer| answer.ips.clone()).collect();
            let strange: Vec<IpAddr> = addrs.map(|addr| addr.ip()).filter(|ip| !offered.contains(ip)).collect();
            assert!(strange.is_empty(), "{strange:?} is not in what was said: {:?}", server.said);
        }
        Err(error) => match error.kind() {
            // Said about both families.
            ErrorKind::NotFound => assert!(all_families(&|answer| answer.code == ResponseCode::NXDomain), "{error}"),
            ErrorKind::NoData => {
                let says = |answer: &Answer| matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain);
                assert!(all_families(&says), "{error}");
            }
            ErrorKind::Temporary | ErrorKind::Permanent => {}
            kind => panic!("{kind:?}: {error}"),
        },
    }
});
