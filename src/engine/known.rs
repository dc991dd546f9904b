use hashbrown::HashTable;

/// Number of names in a generation. At least this many names are remembered, and at most twice as many: about 64 KiB of hashes.
const GENERATION: usize = 2048;

/// The hashes of names that have answered. Two names with the same hash count as one, which does no harm.
///
/// There are two generations. When the young one is full, it replaces the old one, whose names are then forgotten unless they
/// have answered again.
#[derive(Debug, Default)]
pub(super) struct Known {
    young: HashTable<u64>,
    old: HashTable<u64>,
}

impl Known {
    pub(super) fn insert(&mut self, hash: u64) {
        if has(&self.young, hash) {
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert_unique(hash, hash, |&hash| hash);
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        has(&self.young, hash) || has(&self.old, hash)
    }

    pub(super) fn remove(&mut self, hash: u64) {
        for hashes in [&mut self.young, &mut self.old] {
            if let Ok(entry) = hashes.find_entry(hash, |&other| other == hash) {
                entry.remove();
            }
        }
    }
}

fn has(hashes: &HashTable<u64>, hash: u64) -> bool {
    hashes.find(hash, |&other| other == hash).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads numbers as a hash does, and gives each another one.
    fn hash(number: usize) -> u64 {
        (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn names_that_answer_again_push_nobody_out() {
        let mut known = Known::default();
        (0..2 * GENERATION).for_each(|number| known.insert(hash(number)));
        (GENERATION..2 * GENERATION).for_each(|number| known.insert(hash(number)));
        assert!((0..2 * GENERATION).all(|number| known.contains(hash(number))));
        known.insert(hash(2 * GENERATION));
        assert!(!known.contains(hash(0)) && known.young.len() == 1, "there is no room for a third generation");
    }

    #[test]
    fn the_recent_are_remembered_and_the_bound_holds() {
        let mut known = Known::default();
        for number in 0..10_000 {
            known.insert(hash(number));
            known.insert(hash(0));
            assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        }
        assert!((10_000 - GENERATION..10_000).all(|number| known.contains(hash(number))));
        assert!(known.contains(hash(0)), "it has answered all the while");
        assert!(!known.contains(hash(1)));
        known.remove(hash(0));
        assert!(!known.contains(hash(0)));
    }
}
