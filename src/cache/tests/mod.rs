//! The cache in virtual time.

mod ages;
mod model;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::thread;

use proptest::prelude::*;

use super::entry::{CLAIM, LAG};
use super::store::{LOOKED, PASSED_BY};
use super::*;
use crate::addrs::{Addrs, Answer, Source};
use crate::clock::{Moment, Tick};
use crate::error::{Error, ErrorKind};
use crate::name::{Name, NameRef};
use crate::sync::Instant;

const NAMES: u8 = 6;

fn borrowed(text: &str) -> NameRef<'_> {
    NameRef::new(text).expect("short enough")
}

static FIRST: LazyLock<Moment> = LazyLock::new(Moment::now);

fn now() -> Instant {
    FIRST.exact.max(Instant::now())
}

/// Returns a moment in virtual time, not before the first one. Its clocks are always the same time apart.
fn at(exact: Instant) -> Moment {
    let first = *FIRST;
    Moment { exact, coarse: first.coarse.after(exact.saturating_duration_since(first.exact)) }
}

/// What a caller gets without the lock.
#[derive(Debug)]
enum Read {
    Given(Addrs),
    Unsettled,
    Nothing,
}

fn read(store: &Store, name: NameRef<'_>, now: Instant) -> Read {
    let otherwise = |seen| match seen {
        Seen::Stale(addrs) => Some(Read::Given(addrs)),
        Seen::Unsettled => Some(Read::Unsettled),
        Seen::Nothing => None,
    };
    store.read(name, || at(now).coarse, || {}, Read::Given, otherwise).unwrap_or(Read::Nothing)
}

/// Returns a name in any case. One of them is too long for a slot.
fn text(number: u8) -> String {
    let text = format!("Name-{number}");
    if number + 1 == NAMES { text + &".label".repeat(20) } else { text }
}

fn name(number: u8) -> Name {
    Name::parse(&text(number)).unwrap()
}

/// Returns an empty store, its index, and the time.
fn new(cache: CacheConfig) -> (Store, Index, Instant) {
    let store = Store::new(cache);
    let index = store.index();
    (store, index, now())
}

/// Returns a store of `names` names, filled with the first `filled` of them.
fn filled(names: usize, filled: usize) -> (Store, Index, Instant) {
    let (store, mut index, now) = new(CacheConfig::new().max_names(names));
    for number in 0..filled {
        let name = Name::parse(&format!("n{number}")).unwrap();
        store.fill(&mut index, &name, Ok(&[IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    }
    (store, index, now)
}

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);

/// Returns a store for `names` names in which everything lasts for exactly 10 seconds: fresh, then stale, then old.
fn by_tens(names: usize) -> (Store, Index, Instant) {
    let ten = 10 * SECOND;
    let cache = CacheConfig::new()
        .max_names(names)
        .min_ttl(ten)
        .max_ttl(ten)
        .stale_while_revalidate(ten)
        .stale_if_error(2 * ten);
    new(cache.negative_ttl(ten).cooldown(ten))
}

fn answer() -> Answer {
    Answer::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]).with_ttl(SECOND)
}
