use std::collections::BTreeMap;

/// The waiters on a flight, in the order in which they joined. Most flights have one waiter, which needs no allocation.
#[derive(Debug)]
pub(super) struct Waiters<T> {
    /// The waiter that has waited longest, until it leaves.
    first: Option<(u64, T)>,
    /// The others, by number. They are in a tree, so that no number of them makes an input of the engine slow.
    others: BTreeMap<u64, T>,
}

impl<T> Waiters<T> {
    pub(super) const NONE: Self = Self { first: None, others: BTreeMap::new() };

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// Adds a waiter, whose number is higher than all before.
    pub(super) fn push(&mut self, number: u64, waiter: T) {
        if self.is_empty() {
            self.first = Some((number, waiter));
        } else {
            self.others.insert(number, waiter);
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        if self.first.as_ref().is_some_and(|&(first, _)| first == number) {
            return self.first.take().map(|(_, waiter)| waiter);
        }
        self.others.remove(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.as_ref().map(|(_, waiter)| waiter).into_iter().chain(self.others.values())
    }

    /// Removes the waiter that has waited longest, with its number.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        self.first.take().or_else(|| self.others.pop_first())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_map_in_order(ops in prop::collection::vec(prop::option::of(0..40u64), 0..200)) {
            let (mut ours, mut model) = (Waiters::NONE, BTreeMap::new());
            for (number, op) in (1..).zip(ops) {
                match op {
                    None => {
                        ours.push(number, number * 2);
                        model.insert(number, number * 2);
                    }
                    Some(0) => prop_assert_eq!(ours.pop(), model.pop_first()),
                    // One of the last 39 numbers. Some of these were not given out.
                    Some(back) => prop_assert_eq!(ours.remove(number.saturating_sub(back)), model.remove(&number.saturating_sub(back))),
                }
                prop_assert_eq!(ours.is_empty(), model.is_empty());
                prop_assert!(ours.iter().eq(model.values()));
            }
        }
    }
}
