use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::process;

use crate::ffi;

/// The order in which each caller gets the addresses of a name, for [`Builder::order`](crate::Builder::order).
///
/// A cache gives every caller the same answer. With the order of the platform, all of them connect to its first address for as long as the
/// answer lasts, even if the name's server gives the addresses in another order each time. [`Rotate`](Self::Rotate) and
/// [`Shuffle`](Self::Shuffle) spread callers over the addresses.
///
/// They move addresses only among neighbours of one family. So the family that comes first stays first, and an answer that alternates
/// between families stays as it is. They apply to each caller by itself, whether the answer is new, cached, stale or shared with other
/// callers. Overrides and fallbacks stay in the program's own order.
///
/// `getaddrinfo` sorts by the rules of RFC 6724, such as the length of the prefix that an address shares with the source address (rule 9).
/// The order among addresses that differ by these rules is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// The order of the backend.
    #[default]
    Platform,
    /// The order of the backend, but each caller starts further on than the one before on its thread, and goes round from there.
    ///
    /// How much further varies, so that names that are asked for in turn are spread too. Each address comes first equally often, to within
    /// a few callers of a thread. Where a thread starts is random.
    Rotate,
    /// In random order, by a generator that is no secret.
    Shuffle,
}

/// Number of rounds of [`Turn::place`]. The first address is random after none.
const ROUNDS: u64 = 6;

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The order for one caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) number: u64,
    pub(crate) shuffles: bool,
}

impl Order {
    /// Returns the order for the next caller on this thread, unless it is the backend's.
    #[inline]
    pub(crate) fn turn(self) -> Option<Turn> {
        match self {
            Self::Platform => None,
            Self::Rotate => Some(Turn { number: next_number(), shuffles: false }),
            Self::Shuffle => Some(Turn { number: mixed(next_number()), shuffles: true }),
        }
    }
}

impl Turn {
    /// Returns which of `len` addresses comes at `at`, which is less than `len`.
    #[inline]
    pub(crate) fn place(self, at: usize, len: usize) -> usize {
        let at = at + below(self.number, len);
        let at = if at < len { at } else { at - len };
        if self.shuffles { self.shuffled(at, len) } else { at }
    }

    /// The swap-or-not shuffle of Hoang, Morris and Rogaway (2012). It is a permutation of any length, without memory for it.
    fn shuffled(self, mut at: usize, len: usize) -> usize {
        for round in 1..=ROUNDS {
            let random = mixed(self.number.wrapping_add(round));
            let key = below(random, len);
            let other = if key < at { key + len - at } else { key - at };
            // The same for both, so that they swap or do not.
            if mixed(random ^ at.max(other) as u64) & 1 == 1 {
                at = other;
            }
        }
        at
    }
}

/// Returns a number less than `len`, or 0. It grows with `number`.
#[inline]
fn below(number: u64, len: usize) -> usize {
    ((u128::from(number) * len as u128) >> 64) as usize
}

/// The finalizer of splitmix64.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

/// Returns the next number of this thread's sequence.
///
/// With steps of the golden ratio, all numbers are spread evenly, and so are every second one, every third and so on. With a counter, two
/// names that a thread asks for in turn would each get the same addresses again and again.
#[inline]
fn next_number() -> u64 {
    thread_local! {
        /// The last number, and the generation of the process in which the sequence began, plus 1.
        static LAST: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }
    let (mut last, mut begun) = LAST.get();
    // Forked children must not go on alike.
    let generation = ffi::generation() + 1;
    if begun != generation {
        (last, begun) = (seed(generation), generation);
    }
    let number = last.wrapping_add(GOLDEN);
    LAST.set((number, begun));
    number
}

/// Returns a number that differs between threads and processes. The keys of `RandomState` are copied by a fork.
#[cold]
fn seed(generation: u64) -> u64 {
    RandomState::new().hash_one((generation, process::id()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use super::*;

    #[test]
    fn every_place_is_taken_once() {
        for len in (0..70).chain([1000, 4096]) {
            for (number, shuffles) in (0..50).flat_map(|n| [(mixed(n), true), (mixed(n), false)]) {
                let turn = Turn { number, shuffles };
                let mut places: Vec<_> = (0..len).map(|at| turn.place(at, len)).collect();
                places.sort_unstable();
                assert!(places.into_iter().eq(0..len), "{turn:?} of {len}");
            }
        }
    }

    /// Each of the 24 orders of four addresses should come 1,000 times.
    #[test]
    fn all_orders_come_about_equally_often() {
        let mut orders = HashMap::new();
        for number in 0..24_000 {
            let turn = Turn { number: mixed(number), shuffles: true };
            *orders.entry([0, 1, 2, 3].map(|at| turn.place(at, 4))).or_insert(0) += 1;
        }
        assert_eq!(orders.len(), 24);
        assert!(orders.values().all(|count| (700..1300).contains(count)), "{orders:?}");
    }

    /// Names that one thread asks for in turn have every second number each, or every third, and so on.
    #[test]
    fn names_that_are_asked_for_in_turn_are_spread_too() {
        for names in 1..=10 {
            for len in 2..=8 {
                let mut counts = vec![0_usize; len];
                for _ in 0..1000 {
                    let turn = Order::Rotate.turn().expect("one");
                    counts[turn.place(0, len)] += 1;
                    (1..names).for_each(|_| _ = Order::Rotate.turn());
                }
                let even = 1000 / len;
                assert!(counts.iter().all(|count| count.abs_diff(even) <= 12), "{counts:?} with {names} names");
            }
        }
    }

    #[test]
    fn threads_do_not_all_start_alike() {
        let first = || thread::spawn(|| Order::Rotate.turn().expect("one").place(0, 1000)).join().unwrap();
        let firsts: Vec<_> = (0..5).map(|_| first()).collect();
        assert!(firsts.iter().any(|other| *other != firsts[0]), "{firsts:?}");
    }
}
