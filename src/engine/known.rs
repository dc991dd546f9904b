use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashSet};

use crate::name::Name;

/// Number of names in a generation. At least this many names are remembered, and at most twice as many: about 64 KiB of hashes.
const GENERATION: usize = 2048;

/// The hashes of names that have answered. Two names with the same hash count as one, which does no harm.
///
/// There are two generations. When the young one is full, it replaces the old one, whose names are then forgotten unless they
/// have answered again.
#[derive(Debug, Default)]
pub(super) struct Known {
    hasher: DefaultHashBuilder,
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Known {
    pub(super) fn insert(&mut self, name: &Name) {
        let hash = self.hasher.hash_one(name);
        if self.young.len() >= GENERATION && !self.young.contains(&hash) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }

    pub(super) fn contains(&self, name: &Name) -> bool {
        let hash = self.hasher.hash_one(name);
        self.young.contains(&hash) || self.old.contains(&hash)
    }

    pub(super) fn remove(&mut self, name: &Name) {
        let hash = self.hasher.hash_one(name);
        self.young.remove(&hash);
        self.old.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::parse(&format!("n{number}")).unwrap()
    }

    #[test]
    fn names_that_answer_again_push_nobody_out() {
        let mut known = Known::default();
        (0..2 * GENERATION).for_each(|number| known.insert(&name(number)));
        (GENERATION..2 * GENERATION).for_each(|number| known.insert(&name(number)));
        assert!((0..2 * GENERATION).all(|number| known.contains(&name(number))));
        known.insert(&name(2 * GENERATION));
        assert!(!known.contains(&name(0)) && known.young.len() == 1, "there is no room for a third generation");
    }

    #[test]
    fn the_recent_are_remembered_and_the_bound_holds() {
        let mut known = Known::default();
        for number in 0..10_000 {
            known.insert(&name(number));
            known.insert(&name(0));
            assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        }
        assert!((10_000 - GENERATION..10_000).all(|number| known.contains(&name(number))));
        assert!(known.contains(&name(0)), "it has answered all the while");
        assert!(!known.contains(&name(1)));
        known.remove(&name(0));
        assert!(!known.contains(&name(0)));
    }
}
