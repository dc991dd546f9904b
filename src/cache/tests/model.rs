//! The cache against a model of what may be given when.

use super::*;

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
