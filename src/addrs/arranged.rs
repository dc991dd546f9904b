//! Addresses in the order of one caller.

use std::net::SocketAddr;

use super::{Addrs, Few, Inner, LEFT, NEXT, Source, WORDS, Words};
use crate::order::{Order, Turn};

/// The word at [`LEFT`] if there are two addresses, both of IPv4.
const TWO_V4: u32 = 0b11 << 16 | 2;

// What the words are if the addresses are not stored inline.
/// How they are arranged: [`ROTATES`], [`SHUFFLES`], or 0 for not at all.
pub(super) const ARRANGED: usize = 0;
const ROTATES: u32 = 1;
const SHUFFLES: u32 = 2;
/// The number of the [`Turn`], in two words.
const NUMBER: usize = 1;
/// Index of the first address of the present run. A run is neighbours of one family.
pub(super) const FIRST: usize = 3;
/// Index after the last address of the present run.
pub(super) const END: usize = 4;

impl Addrs {
    /// Returns these addresses, of which none may have been taken, in the order for the next caller on this thread.
    pub(crate) fn arranged(mut self, order: Order) -> Self {
        self.arrange(order);
        self
    }

    /// Puts the addresses, of which none may have been taken, into the order for the next caller on this thread.
    #[inline]
    pub(crate) fn arrange(&mut self, order: Order) {
        // Overrides and fallbacks stay as they are.
        if !matches!(self.source(), Source::Cache | Source::Stale | Source::Lookup) {
            return;
        }
        order.turn().into_iter().for_each(|turn| self.turn(turn));
    }

    #[inline]
    fn turn(&mut self, turn: Turn) {
        let Inner { few, many, .. } = &mut self.0;
        if many.is_some() {
            few.arrange_many(turn);
        } else if few.0[LEFT] != TWO_V4 {
            few.arrange(turn);
        } else if turn.place(0, 2) == 1 {
            // The most common case.
            few.0.swap(0, 1);
        }
    }
}

impl Few {
    #[inline(never)]
    fn arrange(&mut self, turn: Turn) {
        let (mut left, mut v4) = (self.left(), self.0[LEFT] >> 16);
        let mut first = 0;
        while left > 1 {
            let (run, size) = if v4 & 1 == 1 { (v4.trailing_ones(), 1) } else { (v4.trailing_zeros(), 4) };
            let run = left.min(run as usize);
            if let Some(words) = self.0.get_mut(first..WORDS).filter(|_| run > 1) {
                arrange_run(words, run, size, turn);
            }
            (first, left, v4) = (first + run * size, left - run, v4 >> run);
        }
    }

    fn arrange_many(&mut self, Turn { number, shuffles }: Turn) {
        self.0[ARRANGED] = if shuffles { SHUFFLES } else { ROTATES };
        (self.0[NUMBER], self.0[NUMBER + 1]) = (number as u32, (number >> 32) as u32);
    }
}

/// Returns the place of the next of `many` addresses, which are arranged, and [`FIRST`] and [`END`] of its run.
// By value: an `Addrs` of which no pointer is taken is kept in registers.
#[inline(never)]
pub(super) fn place_in(words: Words, many: &[SocketAddr]) -> Option<[u32; 3]> {
    let next = words[NEXT];
    let (mut first, mut end) = (words[FIRST], words[END]);
    if next == end {
        let rest = many.get(next as usize..)?;
        let is_v4 = rest.first()?.is_ipv4();
        first = next;
        end += rest.iter().take_while(|addr| addr.is_ipv4() == is_v4).count() as u32;
    }
    let number = u64::from(words[NUMBER]) | u64::from(words[NUMBER + 1]) << 32;
    let turn = Turn { number, shuffles: words[ARRANGED] == SHUFFLES };
    let place = turn.place((next - first) as usize, (end - first) as usize);
    Some([first + place as u32, first, end])
}

/// Moves the first `run` addresses, each of which has `size` words.
fn arrange_run(words: &mut [u32], run: usize, size: usize, turn: Turn) {
    let mut from = [0; WORDS];
    from.iter_mut().zip(&*words).for_each(|(from, word)| *from = *word);
    for (at, to) in words.chunks_exact_mut(size).take(run).enumerate() {
        if let Some(from) = from.chunks_exact(size).nth(turn.place(at, run)) {
            to.copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::addrs::{Answer, Source};

    fn answer(v4: &[bool]) -> Answer {
        let ip = |(last, &v4): (u16, &bool)| match v4 {
            true => IpAddr::V4(Ipv4Addr::new(192, 0, 2, last as u8)),
            false => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, last)),
        };
        (0..).zip(v4).map(ip).collect()
    }

    fn arranged(answer: &Answer, turn: Turn) -> Addrs {
        let mut addrs = Addrs::looked_up(answer.clone());
        let Inner { few, many, .. } = &mut addrs.0;
        if many.is_none() {
            few.arrange(turn)
        } else {
            few.arrange_many(turn)
        }
        addrs
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_order_is_a_permutation_that_keeps_the_places_of_families(
            v4 in prop::collection::vec(any::<bool>(), 0..30),
            number: u64,
            shuffles: bool,
            taken in 0..30usize,
        ) {
            let answer = answer(&v4);
            let mut addrs = arranged(&answer, Turn { number, shuffles });
            let all: Vec<_> = addrs.clone().collect();
            prop_assert_eq!((all.len(), addrs.len()), (v4.len(), v4.len()));
            let given: Vec<_> = answer.iter().collect();
            for (ours, theirs) in all.chunk_by(same).zip(given.chunk_by(same)) {
                let mut sorted = ours.to_vec();
                sorted.sort();
                prop_assert_eq!(&sorted, theirs, "{:?} of {:?}", all, given);
                let turned = theirs.iter().cycle().skip_while(|addr| **addr != ours[0]).take(ours.len());
                prop_assert!(shuffles || turned.eq(ours), "{:?} of {:?}", ours, theirs);
            }
            prop_assert_eq!(all.iter().map(|addr| addr.is_ipv4()).collect::<Vec<_>>(), v4);
            // What is left and a clone of it go on in this order.
            addrs.by_ref().take(taken).for_each(drop);
            prop_assert_eq!(addrs.clone().collect::<Vec<_>>(), all.get(taken..).unwrap_or_default());
            prop_assert_eq!(addrs.len(), all.len().saturating_sub(taken));
        }
    }

    fn same(one: &SocketAddr, other: &SocketAddr) -> bool {
        one.is_ipv4() == other.is_ipv4()
    }

    #[test]
    fn what_the_program_has_given_stays_as_it_is() {
        let answer = answer(&[true; 10]);
        for source in [Source::Override, Source::Fallback] {
            for _ in 0..20 {
                let addrs = Addrs::looked_up(answer.clone()).with_source(source).arranged(Order::Shuffle);
                assert!(addrs.eq(answer.iter()));
            }
        }
    }

    /// The inline addresses and the others are each arranged by their own code.
    #[test]
    fn few_and_many_are_in_the_same_order() {
        for (number, shuffles) in (0..100).flat_map(|n: u64| [(n << 57 | n, true), (n << 57 | n, false)]) {
            let turn = Turn { number, shuffles };
            let few = arranged(&answer(&[true; 10]), turn);
            let with_one_more = [&[true; 10][..], &[false][..]].concat();
            assert!(few.eq(arranged(&answer(&with_one_more), turn).take(10)));
        }
    }
}
