//! Addresses in the order of one caller.

use std::net::SocketAddr;

use super::{Addrs, Few, Inner, LEFT, NEXT, WORDS, Word};
use crate::order::{Order, Turn};

// What the words are if the addresses are not stored inline.
/// How they are arranged: [`ROTATES`], [`SHUFFLES`], or 0 for not at all.
pub(super) const ARRANGED: usize = 0;
const ROTATES: u32 = 1;
const SHUFFLES: u32 = 2;
/// The number of the [`Turn`], in two words.
const NUMBER: usize = 1;
/// Index of the first address of the present run. A run is neighbours of one family.
const FIRST: usize = 3;
/// Index after the last address of the present run.
const END: usize = 4;

impl Addrs {
    /// Returns these addresses in the order for the next caller on this thread.
    #[inline]
    pub(crate) fn ordered(mut self, order: Order) -> Self {
        if order != Order::Platform {
            self.arrange(order);
        }
        self
    }

    fn arrange(&mut self, order: Order) {
        let Inner { few, many, source } = &mut self.0;
        // Overrides and fallbacks stay as they are.
        if !matches!(source, Word::Cache | Word::Stale | Word::Lookup) {
            return;
        }
        if let Some(turn) = order.turn() {
            if many.is_none() { few.arrange(turn) } else { few.arrange_many(turn) }
        }
    }
}

impl Few {
    /// Moves the addresses, of which none may have been taken.
    fn arrange(&mut self, turn: Turn) {
        let from = self.0;
        let (mut left, mut v4) = ((from[LEFT] % (1 << 16)) as usize, from[LEFT] >> 16);
        let mut first = 0;
        while left > 0 {
            let is_v4 = v4 & 1 == 1;
            let (run, size) = if is_v4 { (v4.trailing_ones(), 1) } else { (v4.trailing_zeros(), 4) };
            let run = left.min(run as usize);
            let (from, to) = (from.get(first..WORDS), self.0.get_mut(first..WORDS));
            if let Some((from, to)) = from.zip(to).filter(|_| run > 1) {
                for (at, to) in to.chunks_exact_mut(size).take(run).enumerate() {
                    if let Some(from) = from.chunks_exact(size).nth(turn.place(at, run)) {
                        to.copy_from_slice(from);
                    }
                }
            }
            (first, left, v4) = (first + run * size, left - run, v4 >> run);
        }
    }

    fn arrange_many(&mut self, Turn { number, shuffles }: Turn) {
        self.0[ARRANGED] = if shuffles { SHUFFLES } else { ROTATES };
        (self.0[NUMBER], self.0[NUMBER + 1]) = (number as u32, (number >> 32) as u32);
    }

    /// Returns the next of the addresses, which are arranged.
    #[inline(never)]
    pub(super) fn next_arranged(&mut self, many: &[SocketAddr]) -> Option<SocketAddr> {
        let words = &mut self.0;
        let next = words[NEXT] as usize;
        if next == words[END] as usize {
            let is_v4 = many.get(next)?.is_ipv4();
            let run = many.iter().skip(next).take_while(|addr| addr.is_ipv4() == is_v4).count();
            (words[FIRST], words[END]) = (next as u32, (next + run) as u32);
        }
        let (first, end) = (words[FIRST] as usize, words[END] as usize);
        let number = u64::from(words[NUMBER]) | u64::from(words[NUMBER + 1]) << 32;
        let turn = Turn { number, shuffles: words[ARRANGED] == SHUFFLES };
        words[NEXT] += 1;
        many.get(first + turn.place(next - first, end - first)).copied()
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
                let addrs = Addrs::looked_up(answer.clone()).with_source(source).ordered(Order::Shuffle);
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
