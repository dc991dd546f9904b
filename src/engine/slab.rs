//! Values at places that do not move, and lists of them. Adding, finding, removing and reordering a value takes constant time,
//! and allocates only when there are more values than ever before.

/// The key of a value in a [`Slab`]. No two values ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// Counted from 1 in the order in which keys were made.
    pub(super) number: u64,
    index: u32,
}

/// Values, each in at most one list of each of `N` kinds.
#[derive(Debug)]
pub(super) struct Slab<T, const N: usize> {
    nodes: Vec<Node<T, N>>,
    /// Indices of nodes without a value that this slab has made.
    free: Vec<u32>,
    len: usize,
    last: u64,
}

#[derive(Debug)]
struct Node<T, const N: usize> {
    /// The number of the value's key.
    number: u64,
    value: Option<T>,
    links: [Links; N],
}

/// The neighbours of a value in a list.
#[derive(Clone, Copy, Debug)]
struct Links {
    previous: u32,
    next: u32,
}

/// The index of no node.
const NONE: u32 = u32::MAX;

const UNLINKED: Links = Links { previous: NONE, next: NONE };

impl<T, const N: usize> Slab<T, N> {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), len: 0, last: 0 }
    }

    /// Returns the number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of the key that was made last, or 0.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Adds a value at a free place.
    pub(super) fn insert(&mut self, value: T) -> Key {
        self.last += 1;
        let index = self.free.pop().unwrap_or(self.nodes.len() as u32);
        let key = Key { number: self.last, index };
        self.put(key, value);
        key
    }

    /// Adds a value with the key of a value in another slab.
    pub(super) fn put(&mut self, key: Key, value: T) {
        let index = key.index as usize;
        while self.nodes.len() <= index {
            self.nodes.push(Node { number: 0, value: None, links: [UNLINKED; N] });
        }
        let node = &mut self.nodes[index];
        self.len += usize::from(node.value.is_none());
        (node.number, node.value) = (key.number, Some(value));
    }

    /// Removes a value that was [inserted](Self::insert), and is in no list. Drops it in place, which moves nothing.
    pub(super) fn remove(&mut self, key: Key) {
        let node = self.nodes.get_mut(key.index as usize).filter(|node| node.number == key.number);
        let Some(value) = node.map(|node| &mut node.value).filter(|value| value.is_some()) else { return };
        *value = None;
        self.len -= 1;
        self.free.push(key.index);
    }

    /// Removes a value that was [put](Self::put), and is in no list.
    pub(super) fn take(&mut self, key: Key) -> Option<T> {
        let node = self.nodes.get_mut(key.index as usize).filter(|node| node.number == key.number)?;
        let value = node.value.take();
        self.len -= usize::from(value.is_some());
        value
    }

    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        self.nodes.get(key.index as usize).filter(|node| node.number == key.number)?.value.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.nodes.get_mut(key.index as usize).filter(|node| node.number == key.number)?.value.as_mut()
    }

    /// Returns all values, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().filter_map(|node| node.value.as_ref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.nodes.iter_mut().filter_map(|node| node.value.as_mut())
    }

    fn key(&self, index: u32) -> Option<Key> {
        self.nodes.get(index as usize).map(|node| Key { number: node.number, index })
    }
}

/// A list of values of a slab, by their links of the kind `L`.
///
/// The slab is passed to each method. It must be the same one each time.
#[derive(Debug)]
pub(super) struct List<const L: usize> {
    first: u32,
    last: u32,
    len: usize,
}

impl<const L: usize> Default for List<L> {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

impl<const L: usize> List<L> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a value at the end. It must be in no list of this kind.
    pub(super) fn push_back<T, const N: usize>(&mut self, slab: &mut Slab<T, N>, key: Key) {
        self.link(slab, key, Links { previous: self.last, next: NONE });
        self.len += 1;
    }

    /// Adds a value at the front. It must be in no list of this kind.
    pub(super) fn push_front<T, const N: usize>(&mut self, slab: &mut Slab<T, N>, key: Key) {
        self.link(slab, key, Links { previous: NONE, next: self.first });
        self.len += 1;
    }

    /// Removes a value, which must be in this list.
    pub(super) fn remove<T, const N: usize>(&mut self, slab: &mut Slab<T, N>, key: Key) {
        let Links { previous, next } = slab.nodes[key.index as usize].links[L];
        *self.next_of(slab, previous) = next;
        *self.previous_of(slab, next) = previous;
        self.len -= 1;
    }

    /// Puts another value in the place of `key`, which must be in this list.
    pub(super) fn replace<T, const N: usize>(&mut self, slab: &mut Slab<T, N>, key: Key, other: Key) {
        self.link(slab, other, slab.nodes[key.index as usize].links[L]);
    }

    /// Moves all values of `other` to the end of this list.
    pub(super) fn append<T, const N: usize>(&mut self, slab: &mut Slab<T, N>, other: &mut Self) {
        let Self { first, last, len } = std::mem::take(other);
        if len > 0 {
            *self.next_of(slab, self.last) = first;
            *self.previous_of(slab, first) = self.last;
            self.last = last;
            self.len += len;
        }
    }

    pub(super) fn first<T, const N: usize>(&self, slab: &Slab<T, N>) -> Option<Key> {
        slab.key(self.first)
    }

    pub(super) fn last<T, const N: usize>(&self, slab: &Slab<T, N>) -> Option<Key> {
        slab.key(self.last)
    }

    /// Returns the values in order.
    pub(super) fn iter<'a, T, const N: usize>(
        &self,
        slab: &'a Slab<T, N>,
    ) -> impl Iterator<Item = &'a T> + use<'a, T, N, L> {
        walk(slab, self.first, |links| links[L].next)
    }

    /// Returns the values in reverse order.
    pub(super) fn iter_back<'a, T, const N: usize>(
        &self,
        slab: &'a Slab<T, N>,
    ) -> impl Iterator<Item = &'a T> + use<'a, T, N, L> {
        walk(slab, self.last, |links| links[L].previous)
    }

    /// Makes a value's neighbours, or the list, point to it.
    fn link<T, const N: usize>(&mut self, slab: &mut Slab<T, N>, key: Key, links: Links) {
        slab.nodes[key.index as usize].links[L] = links;
        *self.next_of(slab, links.previous) = key.index;
        *self.previous_of(slab, links.next) = key.index;
    }

    /// Returns what points to the value after `index`.
    fn next_of<'a, T, const N: usize>(&'a mut self, slab: &'a mut Slab<T, N>, index: u32) -> &'a mut u32 {
        slab.nodes.get_mut(index as usize).map_or(&mut self.first, |node| &mut node.links[L].next)
    }

    /// Returns what points to the value before `index`.
    fn previous_of<'a, T, const N: usize>(&'a mut self, slab: &'a mut Slab<T, N>, index: u32) -> &'a mut u32 {
        slab.nodes.get_mut(index as usize).map_or(&mut self.last, |node| &mut node.links[L].previous)
    }
}

fn walk<T, const N: usize>(
    slab: &Slab<T, N>,
    from: u32,
    step: impl Fn(&[Links; N]) -> u32,
) -> impl Iterator<Item = &T> {
    let mut at = from;
    std::iter::from_fn(move || {
        let node = slab.nodes.get(at as usize)?;
        at = step(&node.links);
        node.value.as_ref()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert,
        PushBack(u8),
        PushFront(u8),
        Unlink(u8),
        Replace(u8, u8),
        Append,
        Remove(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => Just(Op::Insert),
            3 => any::<u8>().prop_map(Op::PushBack),
            1 => any::<u8>().prop_map(Op::PushFront),
            2 => any::<u8>().prop_map(Op::Unlink),
            1 => any::<(u8, u8)>().prop_map(|(from, to)| Op::Replace(from, to)),
            1 => Just(Op::Append),
            1 => any::<u8>().prop_map(Op::Remove),
        ]
    }

    fn pick(keys: &[Key], which: u8) -> Option<Key> {
        keys.get(usize::from(which) % keys.len().max(1)).copied()
    }

    proptest! {
        /// Two lists of the kind 1. The value of a key is its number.
        #[test]
        fn lists_are_sequences_of_values_that_are_found_by_key(ops in prop::collection::vec(op(), 0..200)) {
            let mut slab: Slab<u64, 2> = Slab::new();
            let mut ours = [List::<1>::default(), List::default()];
            let mut model = [VecDeque::new(), VecDeque::new()];
            let (mut values, mut removed) = (BTreeMap::new(), Vec::new());
            for op in ops {
                let linked = |key: &Key, model: &[VecDeque<Key>; 2]| model.iter().position(|list| list.contains(key));
                let free: Vec<Key> = values.keys().filter(|key| linked(key, &model).is_none()).copied().collect();
                let all: Vec<Key> = values.keys().filter(|key| linked(key, &model).is_some()).copied().collect();
                match op {
                    Op::Insert => {
                        let key = slab.insert(0);
                        *slab.get_mut(key).expect("it is new") = key.number;
                        prop_assert_eq!(values.insert(key, key.number), None);
                    }
                    Op::PushBack(which) => if let Some(key) = pick(&free, which) {
                        ours[usize::from(which & 1)].push_back(&mut slab, key);
                        model[usize::from(which & 1)].push_back(key);
                    }
                    Op::PushFront(which) => if let Some(key) = pick(&free, which) {
                        ours[usize::from(which & 1)].push_front(&mut slab, key);
                        model[usize::from(which & 1)].push_front(key);
                    }
                    Op::Unlink(which) => if let Some(key) = pick(&all, which) {
                        let list = linked(&key, &model).expect("it is in one");
                        ours[list].remove(&mut slab, key);
                        model[list].retain(|other| *other != key);
                    }
                    Op::Replace(which, by) => {
                        if let (Some(key), Some(by)) = (pick(&all, which), pick(&free, by)) {
                            let list = linked(&key, &model).expect("it is in one");
                            ours[list].replace(&mut slab, key, by);
                            model[list].iter_mut().filter(|other| **other == key).for_each(|other| *other = by);
                        }
                    }
                    Op::Append => {
                        let ([first, second], [model_first, model_second]) = (&mut ours, &mut model);
                        first.append(&mut slab, second);
                        model_first.append(model_second);
                    }
                    Op::Remove(which) => if let Some(key) = pick(&free, which) {
                        slab.remove(key);
                        values.remove(&key);
                        removed.push(key);
                    }
                }
                prop_assert_eq!(slab.len(), values.len());
                prop_assert!(values.iter().all(|(&key, value)| slab.get(key) == Some(value)));
                prop_assert!(removed.iter().all(|&key| slab.get(key).is_none()));
                for (list, model) in ours.iter().zip(&model) {
                    let numbers: Vec<u64> = model.iter().map(|key| key.number).collect();
                    prop_assert_eq!(list.len(), numbers.len());
                    prop_assert!(list.iter(&slab).eq(&numbers) && list.iter_back(&slab).eq(numbers.iter().rev()));
                    prop_assert_eq!((list.first(&slab), list.last(&slab)), (model.front().copied(), model.back().copied()));
                }
            }
        }
    }
}
