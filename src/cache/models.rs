//! Models of reading without the lock. The name of a model states what holds in every order of the threads' steps, within the
//! bound of [`explore`], and whatever older values the processor lets a reader see.
//!
//! `RUSTFLAGS="--cfg gaiter_loom" cargo test --release --no-default-features --lib models`

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use loom::thread;

use super::version::Version;
use super::*;
use crate::addrs::Answer;
use crate::clock::Moment;
use crate::name::{Name, NameRef};
use crate::sync::{AtomicU64, explore};

/// Tests the order of what a version guards. Would catch a fence that is missing, or an order that is too weak.
#[test]
fn words_of_two_writes_are_never_taken_for_one() {
    struct Guarded {
        version: Version,
        words: [AtomicU64; 2],
    }
    explore(3, &[], || {
        let guarded = Arc::new(Guarded { version: Version::new(), words: [AtomicU64::new(0), AtomicU64::new(0)] });
        let writer = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || {
                for value in 1..=2 {
                    guarded.version.write(|| guarded.words.iter().for_each(|word| word.store(value, Relaxed)));
                }
            })
        };
        let begun = guarded.version.begin();
        let words = [0, 1].map(|at| guarded.words[at].load(Relaxed));
        assert!(!guarded.version.is_still(begun) || words[0] == words[1], "{words:?}");
        writer.join().unwrap();
    });
}

fn answer(last: u8) -> Answer {
    // In the first and the last word, so that a mix of two answers is noticed.
    (0..10).map(|_| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))).collect()
}

/// Tests a read beside a refill, and beside an eviction, for which the name's slot becomes another name's.
#[test]
fn whoever_reads_gets_the_whole_of_an_answer_for_the_name() {
    for (second, expected) in [("a", vec![1, 2]), ("b", vec![1])] {
        explore(2, &[], move || {
            let store = Arc::new(Store::new(CacheConfig::new().max_names(1)));
            let (mut index, at) = (store.index(), Moment::now());
            let fill = move |store: &Store, index: &mut Index, name: &str, last| {
                store.fill(index, &Name::parse(name).unwrap(), Ok(&answer(last)), at);
            };
            fill(&store, &mut index, "a", 1);
            let writer = {
                let store = Arc::clone(&store);
                thread::spawn(move || fill(&store, &mut index, second, 2))
            };
            let read = store.read(NameRef::new("a").unwrap(), || at.coarse, || {}, Some, |_| None).flatten();
            if let Some(addrs) = read {
                let lasts: Vec<_> = addrs.map(|addr| addr.ip()).collect();
                let is_whole = |last: &u8| answer(*last).iter().map(|addr| addr.ip()).eq(lasts.iter().copied());
                assert!(expected.iter().any(is_whole), "{lasts:?}");
            }
            writer.join().unwrap();
        });
    }
}
