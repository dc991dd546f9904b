//! The cache against a model of what may be given when, in virtual time.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::entry::CLAIM;
use super::store::PASSED_BY;
use super::*;
use crate::addrs::{Answer, Source};
use crate::clock::{Coarse, Moment, Tick};
use crate::error::{Error, ErrorKind};
use crate::name::{COMPARED, Name, NameRef};
use std::time::Instant;

const NAMES: u8 = 6;

fn borrowed(text: &str) -> NameRef<'_> {
    NameRef::new(text).expect("short enough")
}

/// Returns a moment in virtual time, of which the coarse clock knows nothing.
fn at(exact: Instant) -> Moment {
    Moment { exact, coarse: Coarse::now().after(exact.saturating_duration_since(Instant::now())) }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Fill { name: u8, result: Result<Option<u8>, ErrorKind> },
    Look { name: u8 },
    Release { name: u8 },
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

fn name(number: u8) -> Name {
    Name::parse(&format!("Name-{number}")).unwrap()
}

impl Model {
    fn fill(&mut self, number: u8, result: Result<Option<u8>, ErrorKind>) {
        self.filled = self.filled.wrapping_add(1);
        let answer = |ttl: Option<u8>| {
            let answer = Answer::from([IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.filled))]);
            ttl.map_or(answer.clone(), |ttl| answer.with_ttl(Duration::from_secs(ttl.into())))
        };
        let result_here = result.map(answer).map_err(|kind| Error::from(kind).cached());
        let stored = at(self.now);
        self.store.fill(&mut self.index, &name(number), &result_here, stored);

        let known = self.known.entry(number).or_default();
        self.full |= self.store.len() >= self.cache.max_names;
        match result {
            Ok(ttl) => {
                let ttl = match ttl {
                    None => (self.cache.ttl * 9 / 10, self.cache.ttl * 11 / 10),
                    Some(ttl) => {
                        let ttl = Duration::from_secs(ttl.into()).clamp(self.cache.min_ttl, self.cache.max_ttl);
                        ((ttl * 9 / 10).max(self.cache.min_ttl), ttl)
                    }
                };
                let given = Given { number: self.filled, at: self.now, stored: stored.coarse.tick(), ttl };
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
        let text = format!("nAME-{number}");
        let look = self.store.look(borrowed(&text), self.now);
        let known = self.known.entry(number).or_default();
        let CacheConfig { stale_while_revalidate: stale, stale_if_error, .. } = self.cache;
        let windows = stale.max(stale_if_error);
        let age = known.answer.map(|given| self.now - given.at);
        let since = |(kind, at): (ErrorKind, Instant)| (kind, self.now - at);
        let failure = known.failure.map(since);
        let cooling = failure.is_some_and(|(_, age)| age < self.cache.cooldown);
        let ttl = known.answer.map(|given| given.ttl);
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
                assert!(age < longest, "not fresh after {age:?}");
            }
            Look::Stale { old, refresh } => {
                let (age, shortest, longest) = same(&old);
                assert!(age + slack >= shortest, "not stale after {age:?}");
                assert!(age < longest + if cooling { windows } else { stale }, "gone after {age:?}");
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
                assert!(age + slack >= shortest + stale && age < longest + windows, "not old after {age:?}");
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
                self.store.release(&name(number));
                self.known.entry(number).or_default().refreshing = None;
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
        assert!(self.store.len() <= self.cache.max_names, "more names than there may be");
        assert!(self.store.is_ordered_by(&self.index), "a name without a place, or a place without a name");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_has_its_reason(cache in cache(), ops in prop::collection::vec(op(), 0..120)) {
        let (store, index) = (Store::new(cache.clone()), Index::default());
        let mut model = Model { cache, store, index, now: Instant::now(), known: HashMap::new(), filled: 0, full: false };
        for op in ops {
            model.step(op);
        }
    }
}

/// Returns a store of `names` names, filled with the first `filled` of them.
fn filled(names: usize, filled: usize) -> (Store, Index, Instant) {
    let (store, mut index, now) = (Store::new(CacheConfig::new().max_names(names)), Index::default(), Instant::now());
    for number in 0..filled {
        let name = Name::parse(&format!("n{number}")).unwrap();
        store.fill(&mut index, &name, &Ok([IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    }
    (store, index, now)
}

#[test]
fn names_are_found_and_forgotten_in_a_tree_of_any_depth() {
    for names in [1, 4, 5, 100, 1000, 1024, 5000, 1_000_000, usize::MAX] {
        let count = names.min(5000);
        let (store, mut index, now) = filled(names, count);
        assert_eq!(store.len(), count);
        assert!(store.most_in_a_leaf() <= 24, "{} in a leaf of {names}", store.most_in_a_leaf());
        let is_found = |number: usize| matches!(store.look(borrowed(&format!("N{number}")), now), Look::Fresh(_));
        assert!((0..count).all(is_found) && !is_found(count));
        for number in (0..count).step_by(2) {
            store.flush_name(&mut index, &Name::parse(&format!("n{number}")).unwrap());
        }
        assert!((0..count).all(|number| is_found(number) == (number % 2 == 1)), "{names}");
        assert_eq!(store.len(), count / 2);
        for number in (1..count).step_by(2) {
            store.flush_name(&mut index, &Name::parse(&format!("n{number}")).unwrap());
        }
        assert_eq!(store.len(), 0);
    }
}

#[test]
fn what_is_asked_for_outlives_what_is_not() {
    let (store, mut index, now) = filled(100, 100);
    for number in (0..100).step_by(2) {
        assert!(matches!(store.look(borrowed(&format!("n{number}")), now), Look::Fresh(_)));
    }
    for number in 100..150 {
        let name = Name::parse(&format!("n{number}")).unwrap();
        store.fill(&mut index, &name, &Ok([IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    }
    let kept = |number: &usize| matches!(store.look(borrowed(&format!("n{number}")), now), Look::Fresh(_));
    assert_eq!((0..100).step_by(2).filter(kept).count(), 50, "all that were asked for");
    assert_eq!((100..150).filter(kept).count(), 50);
}

#[test]
fn of_those_that_nobody_asks_for_the_oldest_goes_first() {
    let (store, mut index, now) = filled(3, 3);
    let name = Name::parse("n3").unwrap();
    store.fill(&mut index, &name, &Ok([IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    let kept = |number: &usize| matches!(store.look(borrowed(&format!("n{number}")), now), Look::Fresh(_));
    assert_eq!((0..4).filter(kept).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn an_eviction_ends_although_every_name_is_in_use() {
    let (store, mut index, now) = filled(10, 10);
    for number in 10..1000 {
        (0..number).for_each(|number| _ = store.look(borrowed(&format!("n{number}")), now));
        let name = Name::parse(&format!("n{number}")).unwrap();
        store.fill(&mut index, &name, &Ok([IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
        assert_eq!(store.len(), 10);
    }
}

/// Returns the number of every cached name, and whether it has been visited.
fn kept(store: &Store) -> BTreeMap<usize, bool> {
    let mut kept = BTreeMap::new();
    store.for_each(|name, entry| _ = kept.insert(name.as_str()[1..].parse().unwrap(), entry.is_visited()));
    kept
}

#[test]
fn an_eviction_passes_by_few_names_although_every_name_is_in_use() {
    const NAMES: usize = 1000;
    let (store, mut index, now) = filled(NAMES, NAMES);
    (0..NAMES).for_each(|number| _ = store.look(borrowed(&format!("n{number}")), now));
    for turn in 0..3 {
        let name = Name::parse(&format!("n{}", NAMES + turn)).unwrap();
        store.fill(&mut index, &name, &Ok(answer()), at(now));
    }
    // Each insertion passes by `PASSED_BY` names and evicts the next one.
    let each = PASSED_BY + 1;
    let expected = (0..NAMES + 3)
        .filter(|number| *number >= 3 * each || number % each != PASSED_BY)
        .map(|number| (number, (3 * each..NAMES).contains(&number)));
    assert_eq!(kept(&store), expected.collect());
}

/// Writes hold the engine's lock, so they must be short.
#[test]
fn a_write_compares_the_names_of_its_leaf_alone() {
    const NAMES: usize = 5000;
    let (store, mut index, now) = filled(NAMES, NAMES);
    (0..NAMES).for_each(|number| _ = store.look(borrowed(&format!("n{number}")), now));
    let leaf = store.most_in_a_leaf();
    let name = |number| Name::parse(&format!("n{number}")).unwrap();
    let mut compares_few = |what: &str, write: &dyn Fn(&mut Index)| {
        let before = COMPARED.get();
        write(&mut index);
        let compared = COMPARED.get() - before;
        // To find the name, to remove or add it, and to remove the one that is evicted.
        assert!(compared <= 3 * (leaf + 1), "{what}: {compared} comparisons, with up to {leaf} names in a leaf");
    };
    compares_few("a name is added", &|index| store.fill(index, &name(NAMES), &Ok(answer()), at(now)));
    compares_few("a name is flushed", &|index| store.flush_name(index, &name(NAMES / 2)));
    let fails = Err(ErrorKind::NotFound.into());
    compares_few("an answer is replaced", &|index| store.fill(index, &name(NAMES / 3), &fails, at(now)));
}

#[test]
fn names_stored_together_do_not_expire_together() {
    let (store, _, now) = filled(1000, 1000);
    let fresh_at = |share: u32| {
        let at = now + CacheConfig::new().ttl * share / 100;
        (0..1000).filter(|number| matches!(store.look(borrowed(&format!("n{number}")), at), Look::Fresh(_))).count()
    };
    assert_eq!((fresh_at(89), fresh_at(111)), (1000, 0));
    assert!((300..700).contains(&fresh_at(100)), "{}", fresh_at(100));
}

#[test]
fn no_time_is_too_long_and_no_bounds_are_too_odd() {
    let mut odd =
        CacheConfig::new().ttl(Duration::MAX).stale_while_revalidate(Duration::MAX).stale_if_error(Duration::MAX);
    odd = odd.negative_ttl(Duration::MAX).cooldown(Duration::MAX);
    (odd.min_ttl, odd.max_ttl) = (Duration::MAX, Duration::ZERO);
    for number in 0..100 {
        let (store, mut index, now) = (Store::new(odd.clone()), Index::default(), Instant::now());
        let name = Name::parse(&format!("n{number}")).unwrap();
        let answer = || Answer::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        for answer in [answer(), answer().with_ttl(Duration::MAX), answer().with_ttl(Duration::ZERO)] {
            store.fill(&mut index, &name, &Ok(answer), at(now));
            assert!(matches!(store.look(name.borrowed(), now + Duration::from_secs(1 << 30)), Look::Fresh(_)));
        }
        store.fill(&mut index, &name, &Err(Error::from(ErrorKind::NotFound)), at(now));
        assert!(matches!(store.look(name.borrowed(), now + Duration::from_secs(3600)), Look::Failed(_)));
    }
}

#[test]
fn a_disabled_cache_keeps_nothing() {
    let (store, _, now) = filled(0, 10);
    assert_eq!(store.len(), 0);
    assert!(matches!(store.look(borrowed("n0"), now), Look::Nothing));
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
    (Store::new(cache.negative_ttl(ten).cooldown(ten)), Index::default(), Instant::now())
}

fn answer() -> Answer {
    Answer::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]).with_ttl(SECOND)
}

#[test]
fn every_time_ends_when_it_has_passed_and_not_before() {
    let (store, mut index, now) = by_tens(10);
    store.fill(&mut index, &name(0), &Ok(answer()), at(now));
    store.fill(&mut index, &name(1), &Err(ErrorKind::NotFound.into()), at(now));
    let at = |seconds| {
        (
            store.look(borrowed("name-0"), now + seconds * SECOND - MOMENT),
            store.look(borrowed("name-0"), now + seconds * SECOND),
        )
    };
    assert!(matches!(at(10), (Look::Fresh(_), Look::Stale { .. })));
    assert!(matches!(at(20), (Look::Stale { .. }, Look::Old(_))));
    let (Look::Old(old), Look::Nothing) = at(30) else { panic!("it is old for ten seconds") };
    assert!(old.is_usable(now + 30 * SECOND - MOMENT) && !old.is_usable(now + 30 * SECOND));
    assert!(matches!(store.look(borrowed("name-1"), now + 10 * SECOND - MOMENT), Look::Failed(_)));
    assert!(matches!(store.look(borrowed("name-1"), now + 10 * SECOND), Look::Nothing));
}

/// Tests that a fresh answer is found without reading the exact time.
#[test]
fn a_hit_is_a_hit_at_once() {
    let (store, mut index, now) = by_tens(10);
    store.fill(&mut index, &name(0), &Ok(answer()), at(now));
    assert_eq!(store.fresh(borrowed("NAME-0"), Coarse::now(), |addrs| addrs.len()), Some(1));
    assert!(store.fresh(borrowed("name-0"), Coarse::now().after(10 * SECOND), drop).is_none());
    assert!(store.fresh(borrowed("name-1"), Coarse::now(), drop).is_none());
}

#[test]
fn a_refresh_is_undertaken_anew_when_the_claim_to_it_has_lapsed() {
    let (store, mut index, now) = by_tens(10);
    store.fill(&mut index, &name(0), &Ok(answer()), at(now));
    let refreshes = |at| matches!(store.look(borrowed("name-0"), at), Look::Stale { refresh: true, .. });
    let first = now + 10 * SECOND;
    assert!(refreshes(first) && !refreshes(first) && !refreshes(first + CLAIM / 2));
    store.release(&name(0));
    assert!(refreshes(first), "it was released");

    let lasting = CacheConfig::new().ttl(Duration::ZERO).stale_while_revalidate(10 * CLAIM);
    let (store, mut index) = (Store::new(lasting), Index::default());
    store.fill(&mut index, &name(0), &Ok([IpAddr::V4(Ipv4Addr::LOCALHOST)].into()), at(now));
    let refreshes = |at| matches!(store.look(borrowed("name-0"), at), Look::Stale { refresh: true, .. });
    assert!(refreshes(now) && !refreshes(now + CLAIM) && refreshes(now + CLAIM + MOMENT));
}

#[test]
fn a_failure_that_is_believed_for_no_time_takes_no_room() {
    let never = CacheConfig::new().negative_ttl(Duration::ZERO).cooldown(Duration::ZERO);
    let (store, mut index, now) = (Store::new(never), Index::default(), Instant::now());
    for kind in [ErrorKind::NotFound, ErrorKind::NoData, ErrorKind::Temporary, ErrorKind::Permanent, ErrorKind::System]
    {
        store.fill(&mut index, &name(0), &Err(kind.into()), at(now));
        assert_eq!(store.len(), 0, "{kind:?}");
    }
}

#[test]
fn a_failure_may_be_believed_for_days() {
    let (store, mut index, now) =
        (Store::new(CacheConfig::new().negative_ttl(100 * 86_400 * SECOND)), Index::default(), Instant::now());
    store.fill(&mut index, &name(0), &Err(ErrorKind::NotFound.into()), at(now));
    assert!(matches!(store.look(borrowed("name-0"), now + 99 * 86_400 * SECOND), Look::Failed(_)));
}

/// A visited name is evicted too, once it is gone.
#[test]
fn what_is_gone_makes_room_first() {
    for result in [Ok(answer()), Err(ErrorKind::NotFound.into())] {
        let lasts = if result.is_ok() { 30 * SECOND } else { 10 * SECOND };
        for (age, is_evicted) in [(lasts - MOMENT, false), (lasts, true)] {
            let (store, mut index, now) = by_tens(2);
            store.fill(&mut index, &name(0), &result, at(now));
            let then = now + age;
            store.fill(&mut index, &name(1), &Ok(answer()), at(then));
            _ = store.look(borrowed("name-0"), now);
            store.fill(&mut index, &name(2), &Ok(answer()), at(then));
            let is_other_there = matches!(store.look(borrowed("name-1"), then), Look::Fresh(_));
            assert_eq!(is_other_there, is_evicted, "{result:?} after {age:?}");
        }
    }
}
