//! Tests of what the store keeps, what it evicts, and what readers see of its writes.

use super::*;

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
