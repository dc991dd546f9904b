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

    /// Adds a waiter, whose number is higher than all before. Returns whether it is kept as the first.
    pub(super) fn push(&mut self, number: u64, waiter: T) -> bool {
        let is_first = self.is_empty();
        if is_first {
            self.first = Some((number, waiter));
        } else {
            self.others.insert(number, waiter);
        }
        is_first
    }

    /// Returns the waiter that is kept as the first.
    pub(super) fn first(&self) -> Option<(u64, &T)> {
        self.first.as_ref().map(|(number, waiter)| (*number, waiter))
    }

    /// Removes a waiter. Returns whether it was kept as the first.
    pub(super) fn remove(&mut self, number: u64) -> Option<(T, bool)> {
        match self.first.take_if(|&mut (first, _)| first == number) {
            Some((_, waiter)) => Some((waiter, true)),
            None => Some((self.others.remove(&number)?, false)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.as_ref().map(|(_, waiter)| waiter).into_iter().chain(self.others.values())
    }

    /// Removes the waiter that has waited longest, with its number. Returns whether it was kept as the first.
    pub(super) fn pop(&mut self) -> Option<(u64, T, bool)> {
        match self.first.take() {
            Some((number, waiter)) => Some((number, waiter, true)),
            None => self.others.pop_first().map(|(number, waiter)| (number, waiter, false)),
        }
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
            let (mut ours, mut model, mut first) = (Waiters::NONE, BTreeMap::new(), None);
            for (number, op) in (1..).zip(ops) {
                match op {
                    None => {
                        let is_first = ours.push(number, number * 2);
                        prop_assert_eq!(is_first, model.is_empty());
                        first = first.or(is_first.then_some(number));
                        model.insert(number, number * 2);
                    }
                    Some(0) => {
                        let expected = model.pop_first().map(|(number, waiter)| (number, waiter, first == Some(number)));
                        first = first.filter(|_| expected.is_none_or(|(_, _, was_first)| !was_first));
                        prop_assert_eq!(ours.pop(), expected);
                    }
                    // One of the last 39 numbers. Some of these were not given out.
                    Some(back) => {
                        let number = number.saturating_sub(back);
                        let expected = model.remove(&number).map(|waiter| (waiter, first == Some(number)));
                        first = first.filter(|_| expected.is_none_or(|(_, was_first)| !was_first));
                        prop_assert_eq!(ours.remove(number), expected);
                    }
                }
                prop_assert_eq!(ours.first(), first.map(|number| (number, &model[&number])));
                prop_assert_eq!(ours.is_empty(), model.is_empty());
                prop_assert!(ours.iter().eq(model.values()));
            }
        }
    }
}
