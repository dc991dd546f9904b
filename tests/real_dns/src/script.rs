//! How the scripted server answers a name.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, RData, Record, RecordType, rdata};

/// TTL of the server's records in seconds, unless the name's second label is `ttl-N`.
const TTL: u32 = 60;

/// Upper bound of the number in a name. This many addresses of each family fit into one message over TCP.
const MOST: u16 = 1_500;

/// What a name's first label asks for: a word, and for some words a number after a `-`. The rest only makes names distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub act: Act,
    /// How long to wait before answering.
    pub after: Duration,
    /// TTL in seconds.
    pub ttl: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// This many addresses of each family.
    Addresses { v4: u16, v6: u16 },
    /// One address for each scope that RFC 6724 distinguishes.
    EveryScope,
    /// Addresses whose order is the same in RFC 3484, RFC 6724 and glibc.
    Common,
    /// As `Addresses { v4: 1, v6: 1 }`, but between an address of another name and one of the other family.
    Alien,
    /// As `Addresses { v4: 1, v6: 1 }`. Over UDP, an answer with a wrong id precedes it.
    WrongId,
    /// This many CNAMEs, then one address of each family.
    Chain(u16),
    /// A CNAME to itself.
    Loop,
    /// A CNAME to a name that does not exist.
    Dangling,
    /// This code for the families that are set. The other family has one address.
    Fails { code: ResponseCode, v4: bool, v6: bool },
    /// No answer for the families that are set. The other family has one address.
    Silent { v4: bool, v6: bool },
    /// As `Addresses { v4: 1, v6: 1 }`, but not before [`crate::server::Server::set_held`] releases it.
    Held,
}

impl Script {
    /// Returns the script of `name`. Names under `absent.test` and names with an unknown first label do not exist.
    pub(crate) fn of(name: &str) -> Script {
        let mut labels = name.split('.');
        let mut words = labels.next().unwrap_or_default().split('-');
        let word = words.next().unwrap_or_default();
        let number = words.next().and_then(|number| number.parse::<u32>().ok());
        let ttl = labels.next().and_then(|label| label.strip_prefix("ttl-")?.parse().ok()).unwrap_or(TTL);
        let count = number.map_or(1, |number| number.min(MOST.into()) as u16);
        let fails = |code, v4, v6| Act::Fails { code, v4, v6 };
        let act = match word {
            _ if name.ends_with(".absent.test") => fails(ResponseCode::NXDomain, true, true),
            _ if name.ends_with(".refusing.test") => fails(ResponseCode::Refused, true, true),
            _ if name.ends_with(".silent.test") => Act::Silent { v4: true, v6: true },
            "ok" | "slow" => Act::Addresses { v4: 1, v6: 1 },
            "many" => Act::Addresses { v4: count, v6: count },
            "scopes" => Act::EveryScope,
            "common" => Act::Common,
            "alien" => Act::Alien,
            "wrongid" => Act::WrongId,
            "a" => Act::Addresses { v4: count, v6: 0 },
            "aaaa" => Act::Addresses { v4: 0, v6: count },
            "chain" => Act::Chain(count),
            "loop" => Act::Loop,
            "dangling" => Act::Dangling,
            "nodata" => Act::Addresses { v4: 0, v6: 0 },
            "servfail" => fails(ResponseCode::ServFail, true, true),
            "servfail4" => fails(ResponseCode::ServFail, true, false),
            "servfail6" => fails(ResponseCode::ServFail, false, true),
            "nx4" => fails(ResponseCode::NXDomain, true, false),
            "nx6" => fails(ResponseCode::NXDomain, false, true),
            "refused" => fails(ResponseCode::Refused, true, true),
            "notimp" => fails(ResponseCode::NotImp, true, true),
            "formerr" => fails(ResponseCode::FormErr, true, true),
            "silent" => Act::Silent { v4: true, v6: true },
            "silent4" => Act::Silent { v4: true, v6: false },
            "silent6" => Act::Silent { v4: false, v6: true },
            "held" => Act::Held,
            _ => fails(ResponseCode::NXDomain, true, true),
        };
        let after = if word == "slow" { number.unwrap_or(0).into() } else { 0 };
        Script { act, after: Duration::from_millis(after), ttl }
    }

    /// Returns the response code and records for a question of `kind` about `name`, or `None` for no answer. `number` is part of
    /// every address.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType, number: u8) -> Option<(ResponseCode, Vec<Record>)> {
        let is_v4 = kind == RecordType::A;
        let concerns = |v4, v6| if is_v4 { v4 } else { v6 };
        let record = |owner: &Name, data| Record::from_rdata(owner.clone(), self.ttl, data);
        let cname = |target: &Name| RData::CNAME(rdata::CNAME(target.clone()));
        let addresses = |owner: &Name, count: u16| {
            (0..count).map(|index| record(owner, address(is_v4, number, index))).collect::<Vec<Record>>()
        };
        let found = |records| Some((ResponseCode::NoError, records));
        if !matches!(kind, RecordType::A | RecordType::AAAA) {
            return found(Vec::new());
        }
        match self.act {
            Act::Addresses { v4, v6 } => found(addresses(name, if is_v4 { v4 } else { v6 })),
            Act::Held | Act::WrongId => found(addresses(name, 1)),
            Act::Common => found(common(is_v4).into_iter().map(|data| record(name, data)).collect()),
            Act::Alien => {
                let mut records = addresses(&sibling(name, "another")?, 1);
                records.iter_mut().for_each(|record| record.data = address(is_v4, 66, 0));
                records.extend(addresses(name, 1));
                // An address of its own, but of the family that was not asked for.
                records.push(record(name, address(!is_v4, 66, 0)));
                found(records)
            }
            Act::EveryScope => found(every_scope(is_v4).into_iter().map(|data| record(name, data)).collect()),
            Act::Chain(length) => {
                let mut owner = name.clone();
                let mut records = Vec::new();
                // Each target gives the same answer when it is queried itself, as Unbound does.
                for left in (0..length).rev() {
                    let target = sibling(name, &format!("chain-{left}"))?;
                    records.push(record(&owner, cname(&target)));
                    owner = target;
                }
                records.extend(addresses(&owner, 1));
                found(records)
            }
            Act::Loop => found(vec![record(name, cname(name))]),
            Act::Dangling => Some((ResponseCode::NXDomain, vec![record(name, cname(&sibling(name, "nobody")?))])),
            Act::Fails { code, v4, v6 } if concerns(v4, v6) => Some((code, Vec::new())),
            Act::Silent { v4, v6 } if concerns(v4, v6) => None,
            Act::Fails { .. } | Act::Silent { .. } => found(addresses(name, 1)),
        }
    }
}

/// Returns `name` with `label` as its first label, or `None` if the result is too long for a name.
fn sibling(name: &Name, label: &str) -> Option<Name> {
    Name::from_ascii(label).ok()?.append_domain(&name.base_name()).ok()
}

/// Returns the `index`th address of the documentation networks (RFC 5737, RFC 3849). IPv4 addresses beyond the first 256 are from
/// the benchmarking network (RFC 2544).
fn address(is_v4: bool, number: u8, index: u16) -> RData {
    if is_v4 {
        RData::A(rdata::A(match index.to_be_bytes() {
            [0, low] => Ipv4Addr::new(192, 0, 2, number.wrapping_add(low)),
            [high, low] => Ipv4Addr::new(198, 18, high, low),
        }))
    } else {
        RData::AAAA(rdata::AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, number.into(), index)))
    }
}

fn common(is_v4: bool) -> Vec<RData> {
    const V4: [&str; 5] = ["203.0.113.9", "127.0.0.1", "198.51.100.7", "169.254.1.2", "203.0.113.8"];
    const V6: [&str; 4] = ["2001:db8:ffff::1", "2001:db8::7", "::1", "2001:db8:0:1::1"];
    parsed(is_v4, &V4, &V6)
}

fn parsed(is_v4: bool, v4: &[&str], v6: &[&str]) -> Vec<RData> {
    if is_v4 {
        v4.iter().map(|text| RData::A(rdata::A(text.parse().expect("a literal above")))).collect()
    } else {
        v6.iter().map(|text| RData::AAAA(rdata::AAAA(text.parse().expect("a literal above")))).collect()
    }
}

fn every_scope(is_v4: bool) -> Vec<RData> {
    const V4: [&str; 6] = ["203.0.113.9", "127.0.0.7", "169.254.1.2", "10.1.2.3", "192.168.4.5", "192.0.2.77"];
    const V6: [&str; 8] = [
        "2001:db8::7",
        "2001:db8:ffff::1",
        "::1",
        "fd00::1",
        "fec0::1",
        "2002:c000:204::1",
        "2001::5",
        "::ffff:192.0.2.9",
    ];
    parsed(is_v4, &V4, &V6)
}
