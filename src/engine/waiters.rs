/// Those who wait on one flight, in the order in which they joined. Most flights have one, so one takes little room.
#[derive(Debug)]
pub(super) struct Waiters<T> {
    /// By number, which ascends. Who has left leaves an empty place, until these are more than half.
    places: Vec<(u64, Option<T>)>,
    count: usize,
}

impl<T> Waiters<T> {
    pub(super) const NONE: Self = Self { places: Vec::new(), count: 0 };

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one with a number higher than all before.
    pub(super) fn push(&mut self, number: u64, waiter: T) {
        if self.places.capacity() == 0 {
            self.places.reserve_exact(1);
        }
        self.places.push((number, Some(waiter)));
        self.count += 1;
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.places.binary_search_by_key(&number, |&(number, _)| number).ok()?;
        let waiter = self.places.get_mut(place)?.1.take()?;
        self.count -= 1;
        if self.count < self.places.len() / 2 {
            self.places.retain(|(_, waiter)| waiter.is_some());
        }
        Some(waiter)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|(_, waiter)| waiter.as_ref())
    }

    /// All of them with their numbers.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, T)> + use<T> {
        let places = std::mem::replace(self, Self::NONE).places;
        places.into_iter().filter_map(|(number, waiter)| Some((number, waiter?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_takes_little_room() {
        let mut waiters = Waiters::NONE;
        waiters.push(1, ());
        assert_eq!(waiters.places.capacity(), 1);
        waiters.push(2, ());
        waiters.push(3, ());
        assert!(waiters.places.capacity() > 3, "it grows as any other list does");
    }

    /// Else everyone who leaves would cost everyone who stays.
    #[test]
    fn places_are_given_up_when_more_than_half_are_empty() {
        let mut waiters = Waiters::NONE;
        (1..=100).for_each(|number| waiters.push(number, ()));
        let places: Vec<usize> = (1..=51)
            .map(|number| {
                waiters.remove(number);
                waiters.places.len()
            })
            .collect();
        assert_eq!((places[..50].iter().all(|&places| places == 100), places[50]), (true, 49));
    }

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
                    // Of the last forty numbers, which were not all given out.
                    Some(back) => prop_assert_eq!(ours.remove(number.saturating_sub(back)), model.remove(&number.saturating_sub(back))),
                }
                prop_assert_eq!(ours.is_empty(), model.is_empty());
                prop_assert!(ours.iter().eq(model.values()));
                prop_assert!(ours.places.len() <= 2 * model.len() + 1);
            }
            prop_assert_eq!(ours.take().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
            prop_assert!(ours.is_empty());
        }
    }
}
