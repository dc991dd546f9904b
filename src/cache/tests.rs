//! The cache against a model of what may be given when, in virtual time.

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

#[derive(Clone, Copy, Debug)]
enum Op {
    Fill { name: u8, result: Result<Option<u8>, ErrorKind> },
    Look { name: u8 },
    Release { name: u8 },
    Expire { name: u8 },
    Pass { millis: u16 },
    Flush,
    FlushName { name: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let result = prop_oneof![
        4 => Just(Ok(None)),
        // A TTL in seconds, 0 included.
        2 => (0..20u8).prop_map(|ttl| Ok(Some(ttl))),
        2 => Just(Err(ErrorKind::NotFound)),
        1 => Just(Err(ErrorKind::NoData)),
        3 => Just(Err(ErrorKind::Temporary)),
        2 => Just(Err(ErrorKind::System)),
        1 => Just(Err(ErrorKind::Panicked)),
    ];
    prop_oneof![
        10 => (0..NAMES, result).prop_map(|(name, result)| Op::Fill { name, result }),
        20 => (0..NAMES).prop_map(|name| Op::Look { name }),
        1 => (0..NAMES).prop_map(|name| Op::Release { name }),
        2 => (0..NAMES).prop_map(|name| Op::Expire { name }),
        10 => (0..6000u16).prop_map(|millis| Op::Pass { millis }),
        1 => Just(Op::Flush),
        1 => (0..NAMES).prop_map(|name| Op::FlushName { name }),
    ]
}

fn cache() -> impl Strategy<Value = CacheConfig> {
    let window = || prop_oneof![Just(0u64), 1..12_000u64].prop_map(Duration::from_millis);
    (1..8usize, window(), window(), window(), window(), window()).prop_map(
        |(names, ttl, stale, error, negative, cooldown)| {
            CacheConfig::new()
                .max_names(names)
                .ttl(ttl)
                .stale_while_revalidate(stale)
                .stale_if_error(error)
                .negative_ttl(negative)
                .cooldown(cooldown)
        },
    )
}

/// All that is known of a name.
#[derive(Default)]
struct Known {
    answer: Option<Given>,
    failure: Option<(ErrorKind, Instant)>,
    /// When a caller claimed the refresh.
    refreshing: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Given {
    /// Whether it was expired.
    expired: bool,
    number: u8,
    at: Instant,
    stored: Tick,
    /// The shortest and the longest TTL that jitter may make of it.
    ttl: (Duration, Duration),
}

struct Model {
    cache: CacheConfig,
    store: Store,
    index: Index,
    now: Instant,
    known: HashMap<u8, Known>,
    filled: u8,
    /// True once the cache was full: any name may have been evicted.
    full: bool,
}

/// Returns a name in any case. One of them is too long for a slot.
fn text(number: u8) -> String {
    let text = format!("Name-{number}");
    if number + 1 == NAMES { text + &".label".repeat(20) } else { text }
}

fn name(number: u8) -> Name {
    Name::parse(&text(number)).unwrap()
}

impl Model {
    fn fill(&mut self, number: u8, result: Result<Option<u8>, ErrorKind>) {
        self.filled = self.filled.wrapping_add(1);
        let answer = |ttl: Option<u8>| {
            // More addresses than fit into a slot, or one.
            let count = if self.filled % 3 == 0 { 20 } else { 1 };
            let answer: Answer = (0..count).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, n, self.filled))).collect();
            ttl.map_or(answer.clone(), |ttl| answer.with_ttl(Duration::from_secs(ttl.into())))
        };
        let result_here = result.map(answer).map_err(|kind| Error::from(kind).cached());
        let stored = at(self.now);
        self.store.fill(&mut self.index, &name(number), result_here.as_ref(), stored);

        let known = self.known.entry(number).or_default();
        self.full |= self.store.len(&self.index) >= self.cache.max_names;
        match result {
            Ok(ttl) => {
                let ttl = match ttl {
                    None => (self.cache.ttl * 9 / 10, self.cache.ttl * 11 / 10),
                    Some(ttl) => {
                        let ttl = Duration::from_secs(ttl.into()).clamp(self.cache.min_ttl, self.cache.max_ttl);
                        ((ttl * 9 / 10).max(self.cache.min_ttl), ttl)
                    }
                };
                let given =
                    Given { expired: false, number: self.filled, at: self.now, stored: stored.coarse.tick(), ttl };
                *known = Known { answer: Some(given), failure: None, refreshing: None };
            }
            Err(kind @ (ErrorKind::NotFound | ErrorKind::NoData)) => {
                *known = Known { answer: None, failure: Some((kind, self.now)), refreshing: None };
            }
            Err(kind) => {
                known.failure = Some((kind, self.now));
                known.refreshing = None;
            }
        }
    }

    fn look(&mut self, number: u8) {
        let text = if self.filled % 2 == 0 { text(number).to_lowercase() } else { text(number).to_uppercase() };
        let read = read(&self.store, borrowed(&text), self.now);
        let look = self.store.look(&mut self.index, borrowed(&text), self.now);
        let is_long = number + 1 == NAMES;
        match (&read, &look) {
            (Read::Given(addrs), Look::Fresh(old)) => {
                assert_eq!(
                    (format!("{addrs:?}"), addrs.source()),
                    (format!("{:?}", old.addrs(Source::Cache)), Source::Cache)
                );
            }
            (Read::Given(addrs), Look::Stale { old, refresh: false }) => {
                assert_eq!(
                    (format!("{addrs:?}"), addrs.source()),
                    (format!("{:?}", old.addrs(Source::Cache)), Source::Stale)
                );
            }
            (Read::Unsettled, Look::Fresh(_) | Look::Stale { refresh: false, .. }) => {
                assert!(is_long, "no lock is needed")
            }
            (Read::Unsettled, _) | (Read::Nothing, Look::Old(_) | Look::Nothing) => {}
            (read, look) => panic!("{read:?} without the lock, {look:?} with it"),
        }
        let known = self.known.entry(number).or_default();
        let CacheConfig { stale_while_revalidate: stale, stale_if_error, .. } = self.cache;
        let windows = stale.max(stale_if_error);
        let age = known.answer.map(|given| self.now - given.at);
        let since = |(kind, at): (ErrorKind, Instant)| (kind, self.now - at);
        let failure = known.failure.map(since);
        let cooling = failure.is_some_and(|(_, age)| age < self.cache.cooldown);
        let ttl = known.answer.map(|given| given.ttl);
        let expired = known.answer.is_some_and(|given| given.expired);
        // For rounding of the TTL.
        let slack = Duration::from_micros(1);

        let same = |old: &Old| {
            let given = known.answer.expect("an answer was stored");
            let addrs = old.addrs(Source::Stale);
            assert_eq!((addrs.source(), addrs.stored()), (Source::Stale, given.stored));
            assert_eq!(addrs.clone().next().unwrap().ip(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, given.number)));
            (self.now - given.at, given.ttl.0, given.ttl.1 + slack)
        };
        match look {
            Look::Fresh(old) => {
                let (age, _, longest) = same(&old);
                assert!(!expired && age < longest, "not fresh after {age:?}");
            }
            Look::Stale { old, refresh } => {
                let (age, shortest, longest) = same(&old);
                assert!(expired || age + slack >= shortest, "not stale after {age:?}");
                assert!(age < longest + if cooling { windows } else { stale }, "gone after {age:?}");
                assert!(!expired || cooling, "a caller does not wait");
                let claimed = known.refreshing.is_some_and(|at| self.now - at <= CLAIM);
                assert!(!refresh || !claimed, "a second refresh");
                assert!(!refresh || !cooling, "a refresh during a cooldown");
                assert!(refresh || claimed || cooling, "no refresh at all");
                if refresh {
                    known.refreshing = Some(self.now);
                }
            }
            Look::Old(old) => {
                let (age, shortest, longest) = same(&old);
                assert!(expired || age + slack >= shortest + stale, "old after {age:?}");
                assert!(age < longest + windows, "not old after {age:?}");
                assert!(!cooling, "to be given at once");
            }
            Look::Failed(error) => {
                let (kind, age) = failure.expect("a failure was stored");
                assert!(error.is_cached());
                assert_eq!(error.kind(), kind);
                let lasts = match kind {
                    ErrorKind::NotFound | ErrorKind::NoData => self.cache.negative_ttl,
                    ErrorKind::Temporary => self.cache.cooldown,
                    _ => panic!("{kind:?} says nothing of the name"),
                };
                assert!(age < lasts, "believed for too long");
            }
            Look::Nothing => {
                let has_answer = age.zip(ttl).is_some_and(|(age, (shortest, _))| age + slack < shortest + windows);
                assert!(!has_answer || self.full, "an answer is lost after {age:?}");
            }
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Fill { name, result } => self.fill(name, result),
            Op::Look { name } => self.look(name),
            Op::Release { name: number } => {
                self.store.release(&mut self.index, &name(number));
                self.known.entry(number).or_default().refreshing = None;
            }
            Op::Expire { name: number } => {
                self.store.expire(&mut self.index, name(number).borrowed(), at(self.now).coarse, Duration::ZERO);
                let known = self.known.entry(number).or_default();
                known.answer.iter_mut().for_each(|given| given.expired = true);
                known.failure =
                    known.failure.filter(|(kind, _)| *kind == ErrorKind::Temporary || known.answer.is_some());
                known.refreshing = None;
            }
            Op::Pass { millis } => self.now += Duration::from_millis(millis.into()),
            Op::Flush => {
                drop(self.store.flush(&mut self.index));
                self.known.clear();
            }
            Op::FlushName { name: number } => {
                self.store.flush_name(&mut self.index, &name(number));
                self.known.remove(&number);
            }
        }
        assert!(self.store.len(&self.index) <= self.cache.max_names, "more names than there may be");
        self.store.check(&self.index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_has_its_reason(cache in cache(), ops in prop::collection::vec(op(), 0..120)) {
        let store = Store::new(cache.clone());
        let index = store.index();
        let mut model = Model { cache, store, index, now: now(), known: HashMap::new(), filled: 0, full: false };
        for op in ops {
            model.step(op);
        }
    }
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

#[test]
fn names_are_found_and_forgotten_in_a_store_of_any_size() {
    for names in [1, 4, 5, 100, 1000, 1024, 5000, 1_000_000, usize::MAX] {
        let count = names.min(5000);
        let (store, mut index, now) = filled(names, count);
        assert_eq!(store.len(&index), count);
        store.check(&index);
        let most = store.buckets().max().unwrap();
        assert!(most <= 16, "{most} in a bucket of {names}");
        let is_found = |store: &Store, index: &mut Index, number: usize| {
            let name = format!("N{number}");
            let read = matches!(read(store, borrowed(&name), now), Read::Given(_));
            assert_eq!(matches!(store.look(index, borrowed(&name), now), Look::Fresh(_)), read);
            read
        };
        assert!((0..count).all(|number| is_found(&store, &mut index, number)));
        assert!(!is_found(&store, &mut index, count));
        for number in (0..count).step_by(2) {
            store.flush_name(&mut index, &Name::parse(&format!("n{number}")).unwrap());
        }
        assert!((0..count).all(|number| is_found(&store, &mut index, number) == (number % 2 == 1)), "{names}");
        assert_eq!(store.len(&index), count / 2);
        for number in (1..count).step_by(2) {
            store.flush_name(&mut index, &Name::parse(&format!("n{number}")).unwrap());
        }
        assert_eq!(store.len(&index), 0);
    }
}

#[test]
fn what_is_asked_for_outlives_what_is_not() {
    let (store, mut index, now) = filled(100, 100);
    for number in (0..100).step_by(2) {
        assert!(matches!(read(&store, borrowed(&format!("n{number}")), now), Read::Given(_)));
    }
    for number in 100..150 {
        let name = Name::parse(&format!("n{number}")).unwrap();
        store.fill(&mut index, &name, Ok(&[IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    }
    let mut kept =
        |number: &usize| matches!(store.look(&mut index, borrowed(&format!("n{number}")), now), Look::Fresh(_));
    assert_eq!((0..100).step_by(2).filter(&mut kept).count(), 50, "all that were asked for");
    assert_eq!((100..150).filter(&mut kept).count(), 50);
}

#[test]
fn of_those_that_nobody_asks_for_the_oldest_goes_first() {
    let (store, mut index, now) = filled(3, 3);
    let name = Name::parse("n3").unwrap();
    store.fill(&mut index, &name, Ok(&[IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    let mut kept =
        |number: &usize| matches!(store.look(&mut index, borrowed(&format!("n{number}")), now), Look::Fresh(_));
    assert_eq!((0..4).filter(&mut kept).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn an_eviction_ends_although_every_name_is_in_use() {
    let (store, mut index, now) = filled(10, 10);
    for number in 10..1000 {
        (0..number).for_each(|number| _ = store.look(&mut index, borrowed(&format!("n{number}")), now));
        let name = Name::parse(&format!("n{number}")).unwrap();
        store.fill(&mut index, &name, Ok(&[IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
        assert_eq!(store.len(&index), 10);
    }
}

/// Returns the number of every cached name below `names`, and whether it has been visited.
fn kept(store: &Store, index: &Index, names: usize) -> BTreeMap<usize, bool> {
    let is_visited = |number| store.is_visited(index, &Name::parse(&format!("n{number}")).unwrap());
    (0..names).filter_map(|number| Some((number, is_visited(number)?))).collect()
}

#[test]
fn an_eviction_passes_by_few_names_although_every_name_is_in_use() {
    const NAMES: usize = 1000;
    let (store, mut index, now) = filled(NAMES, NAMES);
    (0..NAMES).for_each(|number| _ = store.look(&mut index, borrowed(&format!("n{number}")), now));
    for turn in 0..3 {
        let name = Name::parse(&format!("n{}", NAMES + turn)).unwrap();
        store.fill(&mut index, &name, Ok(&answer()), at(now));
    }
    // Each insertion passes by `PASSED_BY` names and evicts the next one.
    let each = PASSED_BY + 1;
    let expected = (0..NAMES + 3)
        .filter(|number| *number >= 3 * each || number % each != PASSED_BY)
        .map(|number| (number, (3 * each..NAMES).contains(&number)));
    assert_eq!(kept(&store, &index, NAMES + 3), expected.collect());
}

/// Writes hold the engine's lock, so they must be short.
#[test]
fn a_write_looks_at_the_names_of_its_bucket_alone() {
    const NAMES: usize = 5000;
    let (store, mut index, now) = filled(NAMES, NAMES);
    (0..NAMES).for_each(|number| _ = store.look(&mut index, borrowed(&format!("n{number}")), now));
    let most = store.buckets().max().unwrap();
    let name = |number| Name::parse(&format!("n{number}")).unwrap();
    let mut compares_few = |what: &str, write: &dyn Fn(&mut Index)| {
        let before = LOOKED.get();
        write(&mut index);
        let looked = LOOKED.get() - before;
        // To find the name, and to remove it or the one that is evicted.
        assert!(looked <= 2 * most, "{what}: {looked} names, with up to {most} in a bucket");
    };
    compares_few("a name is added", &|index| store.fill(index, &name(NAMES), Ok(&answer()), at(now)));
    compares_few("a name is flushed", &|index| store.flush_name(index, &name(NAMES / 2)));
    let fails = Err(ErrorKind::NotFound.into());
    compares_few("an answer is replaced", &|index| store.fill(index, &name(NAMES / 3), fails.as_ref(), at(now)));
}

#[test]
fn names_stored_together_do_not_expire_together() {
    let (store, mut index, now) = filled(1000, 1000);
    let mut fresh_at = |share: u32| {
        let at = now + CacheConfig::new().ttl * share / 100;
        (0..1000)
            .filter(|number| matches!(store.look(&mut index, borrowed(&format!("n{number}")), at), Look::Fresh(_)))
            .count()
    };
    assert_eq!((fresh_at(89), fresh_at(111)), (1000, 0));
    let halfway = fresh_at(100);
    assert!((300..700).contains(&halfway), "{halfway}");
}

#[test]
fn no_time_is_too_long_and_no_bounds_are_too_odd() {
    let mut odd =
        CacheConfig::new().ttl(Duration::MAX).stale_while_revalidate(Duration::MAX).stale_if_error(Duration::MAX);
    odd = odd.negative_ttl(Duration::MAX).cooldown(Duration::MAX);
    (odd.min_ttl, odd.max_ttl) = (Duration::MAX, Duration::ZERO);
    for number in 0..100 {
        let (store, mut index, now) = new(odd.clone());
        let name = Name::parse(&format!("n{number}")).unwrap();
        let answer = || Answer::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        for answer in [answer(), answer().with_ttl(Duration::MAX), answer().with_ttl(Duration::ZERO)] {
            store.fill(&mut index, &name, Ok(&answer), at(now));
            assert!(matches!(
                store.look(&mut index, name.borrowed(), now + Duration::from_secs(1 << 30)),
                Look::Fresh(_)
            ));
        }
        store.fill(&mut index, &name, Err(&ErrorKind::NotFound.into()), at(now));
        assert!(matches!(store.look(&mut index, name.borrowed(), now + Duration::from_secs(3600)), Look::Failed(_)));
    }
}

#[test]
fn a_disabled_cache_keeps_nothing() {
    assert!(CacheConfig::new().is_enabled() && !CacheConfig::disabled().is_enabled());
    let (store, mut index, now) = filled(0, 10);
    assert_eq!(store.len(&index), 0);
    assert!(matches!(store.look(&mut index, borrowed("n0"), now), Look::Nothing));
}

/// A name that is asked for every 100 milliseconds, with lookups that take 50 milliseconds.
#[test]
fn by_default_a_name_in_use_is_refreshed_every_five_seconds_and_nobody_waits() {
    let (store, mut index, now) = new(CacheConfig::new());
    let plain = || Answer::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    store.fill(&mut index, &name(0), Ok(&plain()), at(now));
    let (mut refreshes, mut last) = (0, now);
    for now in (0..6_000).map(|turn| now + turn * Duration::from_millis(100)) {
        match store.look(&mut index, borrowed("name-0"), now) {
            Look::Fresh(_) => {}
            Look::Stale { refresh: true, .. } => {
                assert!((Duration::from_millis(4_500)..Duration::from_millis(5_700)).contains(&(now - last)));
                (refreshes, last) = (refreshes + 1, now);
                store.fill(&mut index, &name(0), Ok(&plain()), at(now + Duration::from_millis(50)));
            }
            look => panic!("{look:?}"),
        }
    }
    assert!((107..133).contains(&refreshes), "{refreshes} in ten minutes");
}

#[test]
fn by_default_an_answer_is_given_at_once_for_a_minute() {
    for number in 0..NAMES {
        let (store, mut index, now) = new(CacheConfig::new());
        store.fill(&mut index, &name(number), Ok(&[IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
        let mut look = |millis| store.look(&mut index, borrowed(&text(number)), now + Duration::from_millis(millis));
        assert!(matches!(look(59_400), Look::Stale { .. }));
        assert!(matches!(look(60_600), Look::Old(_)));
        assert!(matches!(look(304_000), Look::Old(_)));
        assert!(matches!(look(306_000), Look::Nothing));
    }
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

#[test]
fn every_time_ends_when_it_has_passed_and_not_before() {
    let (store, mut index, now) = by_tens(10);
    store.fill(&mut index, &name(0), Ok(&answer()), at(now));
    store.fill(&mut index, &name(1), Err(&ErrorKind::NotFound.into()), at(now));
    let mut at = |seconds| {
        (
            store.look(&mut index, borrowed("name-0"), now + seconds * SECOND - MOMENT),
            store.look(&mut index, borrowed("name-0"), now + seconds * SECOND),
        )
    };
    assert!(matches!(at(10), (Look::Fresh(_), Look::Stale { .. })));
    assert!(matches!(at(20), (Look::Stale { .. }, Look::Old(_))));
    let (Look::Old(old), Look::Nothing) = at(30) else { panic!("it is old for ten seconds") };
    assert!(old.is_usable(now + 30 * SECOND - MOMENT) && !old.is_usable(now + 30 * SECOND));
    assert!(matches!(store.look(&mut index, borrowed("name-1"), now + 10 * SECOND - MOMENT), Look::Failed(_)));
    assert!(matches!(store.look(&mut index, borrowed("name-1"), now + 10 * SECOND), Look::Nothing));
    // The lock is taken a little longer than there may be something to give at once.
    for (name, settled) in [("name-0", now + 20 * SECOND + LAG), ("name-1", now + 10 * SECOND + LAG)] {
        assert!(matches!(read(&store, borrowed(name), settled - MOMENT), Read::Unsettled));
        assert!(matches!(read(&store, borrowed(name), settled), Read::Nothing));
    }
}

#[test]
fn a_hash_alone_is_not_trusted() {
    for length in [1, 7, 8, 9, 16, 87, 88, 200] {
        let (store, mut index, now) = by_tens(1);
        let name = Name::parse(&"a".repeat(length)).unwrap();
        store.fill(&mut index, &name, Ok(&answer()), at(now));
        assert!(store.is_found_by_hash_of(&index, &name, &name));
        for other in
            (0..length).map(|at| "a".repeat(at) + "b" + &"a".repeat(length - at - 1)).chain(["a".repeat(length + 1)])
        {
            assert!(!store.is_found_by_hash_of(&index, &Name::parse(&other).unwrap(), &name), "{other}");
        }
    }
}

#[test]
fn a_new_answer_is_yet_to_be_visited() {
    let (store, mut index, now) = by_tens(1);
    for visit in [true, false] {
        store.fill(&mut index, &name(0), Ok(&answer()), at(now));
        assert_eq!(store.is_visited(&index, &name(0)), Some(false));
        if visit {
            _ = store.look(&mut index, borrowed("name-0"), now);
            assert_eq!(store.is_visited(&index, &name(0)), Some(true));
        }
    }
}

#[test]
fn addresses_are_dropped_with_their_answer() {
    let (store, mut index, now) = by_tens(1);
    let (old, new) = (numbered(0, 0), numbered(0, 3));
    let is_kept = |answer: &Answer| Arc::strong_count(answer.many().expect("more than fit")) > 1;
    let ends: [&dyn Fn(&mut Index); 4] = [
        &|index| store.fill(index, &name(0), Ok(&new), at(now)),
        &|index| store.fill(index, &name(0), Err(&ErrorKind::NotFound.into()), at(now)),
        &|index| store.fill(index, &name(1), Err(&ErrorKind::NotFound.into()), at(now)),
        &|index| store.flush_name(index, &name(0)),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        store.fill(&mut index, &name(0), Ok(&old), at(now));
        assert!(is_kept(&old), "{number}");
        end(&mut index);
        assert!(!is_kept(&old), "{number}");
    }
}

/// Tests that a fresh answer is found without reading the exact time.
#[test]
fn a_hit_is_a_hit_at_once() {
    let (store, mut index, now) = by_tens(10);
    store.fill(&mut index, &name(0), Ok(&answer()), at(now));
    let fresh = |text, then: Instant| {
        let mut hits = 0;
        let found = store.read(borrowed(text), || at(then).coarse, || hits += 1, |addrs| Some(addrs.len()), |_| None);
        (found.flatten(), hits)
    };
    assert_eq!(fresh("NAME-0", now), (Some(1), 1));
    assert_eq!(fresh("name-0", now + 10 * SECOND), (None, 0));
    assert_eq!(fresh("name-1", now), (None, 0));
}

#[test]
fn a_refresh_is_undertaken_anew_when_the_claim_to_it_has_lapsed() {
    let (store, mut index, now) = by_tens(10);
    store.fill(&mut index, &name(0), Ok(&answer()), at(now));
    let refreshes = |store: &Store, index: &mut Index, at| {
        matches!(store.look(index, borrowed("name-0"), at), Look::Stale { refresh: true, .. })
    };
    let first = now + 10 * SECOND;
    assert!([first, first, first + CLAIM / 2].map(|at| refreshes(&store, &mut index, at)) == [true, false, false]);
    store.release(&mut index, &name(0));
    assert!(refreshes(&store, &mut index, first), "it was released");

    let lasting = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(10 * CLAIM);
    let (store, mut index, now) = new(lasting);
    store.fill(&mut index, &name(0), Ok(&[IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    let refreshed = [now, now + CLAIM, now + CLAIM + MOMENT].map(|at| refreshes(&store, &mut index, at));
    assert_eq!(refreshed, [true, false, true]);
}

#[test]
fn an_expired_answer_is_old_until_its_time_and_the_next_one_is_fresh() {
    for number in [0, NAMES - 1] {
        let (store, mut index, now) = by_tens(10);
        let (name, text) = (name(number), text(number));
        store.fill(&mut index, &name, Ok(&answer()), at(now));
        store.expire(&mut index, borrowed(&text.to_uppercase()), at(now).coarse, Duration::ZERO);
        assert!(matches!(read(&store, borrowed(&text), now + SECOND), Read::Nothing | Read::Unsettled));
        for seconds in [0, 15, 29] {
            assert!(matches!(store.look(&mut index, name.borrowed(), now + seconds * SECOND), Look::Old(_)));
        }
        // A failure keeps the answer, and callers do not wait during the cooldown.
        store.fill(&mut index, &name, Err(&ErrorKind::Temporary.into()), at(now));
        for expires in [false, true] {
            if expires {
                store.expire(&mut index, name.borrowed(), at(now).coarse, Duration::ZERO);
            }
            let look = store.look(&mut index, name.borrowed(), now + SECOND);
            assert!(matches!(look, Look::Stale { refresh: false, .. }), "{look:?}");
        }
        assert!(matches!(store.look(&mut index, name.borrowed(), now + 30 * SECOND), Look::Nothing));
        store.fill(&mut index, &name, Ok(&answer()), at(now));
        assert!(matches!(store.look(&mut index, name.borrowed(), now), Look::Fresh(_)));
    }
}

#[test]
fn an_expired_failure_is_kept_only_for_its_cooldown() {
    for (kind, is_kept) in [(ErrorKind::NotFound, false), (ErrorKind::Denied, false), (ErrorKind::Temporary, true)] {
        let (store, mut index, now) = by_tens(1);
        store.fill(&mut index, &name(0), Err(&kind.into()), at(now));
        store.expire(&mut index, borrowed("name-0"), at(now).coarse, Duration::ZERO);
        assert_eq!(matches!(store.look(&mut index, borrowed("name-0"), now), Look::Failed(_)), is_kept);
        assert_eq!(store.len(&index), usize::from(is_kept));
        store.check(&index);
    }
}

#[test]
fn an_answer_is_expired_once_in_a_cooldown() {
    let (store, mut index, now) = by_tens(1);
    let mut is_expired = |seconds| {
        let now = now + seconds * SECOND;
        store.fill(&mut index, &name(0), Ok(&answer()), at(now));
        store.expire(&mut index, borrowed("name-0"), at(now).coarse, 10 * SECOND);
        matches!(store.look(&mut index, borrowed("name-0"), now), Look::Old(_))
    };
    assert_eq!([0, 1, 9, 10, 19, 25].map(&mut is_expired), [true, false, false, true, false, true]);
}

#[test]
fn a_failure_that_is_believed_for_no_time_takes_no_room() {
    let never = CacheConfig::new().negative_ttl(Duration::ZERO).cooldown(Duration::ZERO);
    let (store, mut index, now) = new(never);
    for kind in [ErrorKind::NotFound, ErrorKind::NoData, ErrorKind::Temporary, ErrorKind::Permanent, ErrorKind::System]
    {
        store.fill(&mut index, &name(0), Err(&kind.into()), at(now));
        assert_eq!(store.len(&index), 0, "{kind:?}");
    }
}

#[test]
fn a_failure_may_be_believed_for_days() {
    let (store, mut index, now) = new(CacheConfig::new().negative_ttl(100 * 86_400 * SECOND));
    store.fill(&mut index, &name(0), Err(&ErrorKind::NotFound.into()), at(now));
    assert!(matches!(store.look(&mut index, borrowed("name-0"), now + 99 * 86_400 * SECOND), Look::Failed(_)));
}

/// A visited name is evicted too, once it is gone.
#[test]
fn what_is_gone_makes_room_first() {
    for result in [Ok(answer()), Err(ErrorKind::NotFound.into())] {
        let lasts = if result.is_ok() { 30 * SECOND } else { 10 * SECOND };
        for (age, is_evicted) in [(lasts - MOMENT, false), (lasts, true)] {
            let (store, mut index, now) = by_tens(2);
            store.fill(&mut index, &name(0), result.as_ref(), at(now));
            let then = now + age;
            store.fill(&mut index, &name(1), Ok(&answer()), at(then));
            _ = store.look(&mut index, borrowed("name-0"), now);
            store.fill(&mut index, &name(2), Ok(&answer()), at(then));
            let is_other_there = matches!(store.look(&mut index, borrowed("name-1"), then), Look::Fresh(_));
            assert_eq!(is_other_there, is_evicted, "{result:?} after {age:?}");
        }
    }
}

/// Returns the addresses of the `number`th answer for a name: too many for a slot now and then.
fn numbered(name: u8, number: usize) -> Answer {
    let number = number as u8;
    let count = if number % 3 == 0 { 20 } else { 10 };
    (0..count).map(|_| IpAddr::V4(Ipv4Addr::new(10, name, 0, number))).collect()
}

#[test]
fn whoever_reads_beside_writes_gets_the_whole_of_an_answer_for_the_name() {
    const NAMES: u8 = 4;
    // There is a slot less than there are names.
    let (store, mut index, now) = new(CacheConfig::new().max_names(usize::from(NAMES) - 1));
    let read_some = |reader: usize| {
        let mut given = 0;
        for turn in reader.. {
            let number = (turn % usize::from(NAMES)) as u8;
            if let Read::Given(addrs) = read(&store, borrowed(&format!("name-{number}")), now) {
                let all: Vec<_> = addrs.map(|addr| addr.ip()).collect();
                let IpAddr::V4(first) = all[0] else { panic!("{all:?}") };
                assert_eq!(first.octets()[1], number, "another name's");
                assert_eq!(all.len(), if first.octets()[3] % 3 == 0 { 20 } else { 10 });
                assert!(all.iter().all(|ip| *ip == all[0]), "of two answers: {all:?}");
                given += 1;
            }
            if given == 10_000 {
                break;
            }
        }
    };
    thread::scope(|scope| {
        let readers = [0, 1].map(|reader| {
            scope.spawn({
                let read_some = &read_some;
                move || read_some(reader)
            })
        });
        for number in 0.. {
            let of = (number * 7 / 3 % usize::from(NAMES)) as u8;
            store.fill(&mut index, &name(of), Ok(&numbered(of, number)), at(now));
            if readers.iter().all(|reader| reader.is_finished()) {
                break;
            }
        }
    });
    store.check(&index);
}
