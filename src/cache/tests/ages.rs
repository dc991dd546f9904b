//! Tests of when an answer or a failure is fresh, stale, old or gone.

use super::*;

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
