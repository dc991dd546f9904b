use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use hashbrown::DefaultHashBuilder;

use super::CacheConfig;
use super::entry::{Entry, Look};
use crate::addrs::{Addrs, Answer};
use crate::clock::{Coarse, Moment};
use crate::error::Error;
use crate::name::{Name, NameRef};

/// How many branches a node of the tree has: five bits of a name's hash choose one.
const WIDTH: usize = 32;

/// How many names share a leaf in a full cache, at most, on average.
const NAMES_PER_LEAF: usize = 4;

/// Number of visited names that one eviction passes by, at most. It runs under the engine's lock: with 8, adding a name takes
/// 1.5 times as long as with none in a cache of 1,000 names, and twice as long in one of 1,000,000. Of a run of visited names, 1
/// in 9 is evicted.
pub(super) const PASSED_BY: usize = 8;

/// The entries, to be read from any thread without a lock: a thread that reads is listed where no lock guards the list, so
/// that a process may fork while others read.
///
/// Only holders of the [`Index`], of which there is one, write: they put a tree in the place of another, which shares all that
/// has not changed. What is evicted is dropped by them or by the last reader, and so holds nothing foreign: the errors that
/// are kept have no source.
#[derive(Debug)]
pub(crate) struct Store {
    cache: CacheConfig,
    root: ArcSwapOption<Tree>,
    /// How many branches lie above a leaf.
    depth: u32,
    hasher: DefaultHashBuilder,
}

/// Never changed but for what an [`Entry`] counts.
#[derive(Debug)]
#[repr(C)]
enum Tree {
    Leaf {
        name: Name,
        /// Another name whose hash leads here.
        next: Option<Arc<Tree>>,
        entry: Entry,
    },
    Branch([Option<Arc<Tree>>; WIDTH]),
}

/// What was flushed, to be dropped without a lock held.
#[must_use]
pub(crate) struct Flushed {
    _tree: Option<Arc<Tree>>,
    _order: BTreeMap<u64, u64>,
}

/// The order in which names are to be evicted: what it takes to write.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The hash of the name at each place. Its entry has the place too, which tells it from others with that hash. The name
    /// itself would take 16 bytes more.
    order: BTreeMap<u64, u64>,
    /// Comes after every place that was ever taken.
    end: u64,
}

impl Index {
    /// Puts a name last, and returns its place.
    fn push(&mut self, hash: u64) -> u64 {
        let place = self.end;
        self.end += 1;
        self.order.insert(place, hash);
        place
    }
}

impl Store {
    pub(crate) fn new(cache: CacheConfig) -> Self {
        // As many levels as it takes for so many leaves.
        let leaves = cache.max_names.div_ceil(NAMES_PER_LEAF);
        let depth = leaves.saturating_sub(1).checked_ilog(WIDTH).map_or(0, |levels| levels + 1);
        Self { cache, root: ArcSwapOption::empty(), depth, hasher: Default::default() }
    }

    /// What `look` makes of a name's entry.
    #[inline]
    fn with<T>(&self, name: NameRef<'_>, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let root = self.root.load();
        let hash = self.hasher.hash_one(name);
        let (_, entry) = find(root.as_deref()?, hash, |other, _| name.is(other))?;
        Some(look(entry))
    }

    /// What `give` makes of the answer for a name, if it is fresh. Made in place: a hit has no time for moving addresses about.
    #[inline]
    pub(crate) fn fresh<T>(&self, name: NameRef<'_>, now: Coarse, give: impl FnOnce(Addrs) -> T) -> Option<T> {
        self.with(name, |entry| entry.fresh(now).map(give))?
    }

    /// What there is for a name now.
    pub(crate) fn look(&self, name: NameRef<'_>, now: Instant) -> Look {
        if !self.cache.is_enabled() {
            return Look::Nothing;
        }
        self.with(name, |entry| entry.look(now)).unwrap_or(Look::Nothing)
    }

    /// Stores the result of a lookup; an error has to be one that may be [kept](Error::cached).
    pub(crate) fn fill(&self, index: &mut Index, name: &Name, result: &Result<Answer, Error>, at: Moment) {
        if !self.cache.is_enabled() {
            return;
        }
        let jitter = self.hasher.hash_one((name, at.exact)) as u8;
        let after =
            |former: Option<&Entry>| (former.map(Entry::place), Entry::after(former, result, at, &self.cache, jitter));
        let (place, entry) = self.with(name.borrowed(), |former| after(Some(former))).unwrap_or_else(|| after(None));
        let hash = self.hasher.hash_one(name.borrowed());
        match (place, entry) {
            (None, None) => {}
            (Some(place), None) => self.remove(index, place, hash, name),
            (place, Some(entry)) => {
                let place = place.unwrap_or_else(|| {
                    self.make_room(index, at.exact);
                    index.push(hash)
                });
                self.replace(hash, name, Some(entry.at(place)));
            }
        }
    }

    /// Puts an entry in the place of a name's, or nothing.
    fn replace(&self, hash: u64, name: &Name, entry: Option<Entry>) {
        let tree = with_entry(self.root.load().as_ref(), self.depth, hash, name, entry);
        self.root.store(tree);
    }

    fn remove(&self, index: &mut Index, place: u64, hash: u64, name: &Name) {
        index.order.remove(&place);
        self.replace(hash, name, None);
    }

    /// Evicts one name if there is no room for another: the first in the order that is gone or was not visited. Those it passes
    /// by go to the end, not visited. After [`PASSED_BY`] of them, it evicts the next one regardless.
    fn make_room(&self, index: &mut Index, now: Instant) {
        if index.order.len() < self.cache.max_names {
            return;
        }
        let root = self.root.load();
        let Some(tree) = root.as_deref() else { return };
        let mut passed_by = 0;
        while let Some((place, hash)) = index.order.pop_first() {
            let Some((name, entry)) = find(tree, hash, |_, entry| entry.place() == place) else { continue };
            if passed_by == PASSED_BY || entry.is_gone(now) || !entry.pass_by(index.end) {
                return self.replace(hash, name, None);
            }
            passed_by += 1;
            index.push(hash);
        }
    }

    /// A refresh that `look` has given out did not come about.
    pub(crate) fn release(&self, name: &Name) {
        self.with(name.borrowed(), Entry::release);
    }

    pub(crate) fn flush(&self, index: &mut Index) -> Flushed {
        Flushed { _tree: self.root.swap(None), _order: std::mem::take(&mut index.order) }
    }

    pub(crate) fn flush_name(&self, index: &mut Index, name: &Name) {
        if let Some(place) = self.with(name.borrowed(), Entry::place) {
            self.remove(index, place, self.hasher.hash_one(name.borrowed()), name);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let mut len = 0;
        self.for_each(|_, _| len += 1);
        len
    }

    /// What `look` makes of every entry, in no order.
    #[cfg(test)]
    pub(super) fn for_each(&self, mut look: impl FnMut(&Name, &Entry)) {
        fn walk(tree: Option<&Tree>, look: &mut impl FnMut(&Name, &Entry)) {
            match tree {
                Some(Tree::Branch(branches)) => branches.iter().for_each(|branch| walk(branch.as_deref(), look)),
                Some(Tree::Leaf { name, next, entry }) => {
                    look(name, entry);
                    walk(next.as_deref(), look);
                }
                None => {}
            }
        }
        walk(self.root.load().as_deref(), &mut look);
    }

    /// Whether the order has every name at the place in its entry, and nothing else.
    #[cfg(test)]
    pub(super) fn is_ordered_by(&self, index: &Index) -> bool {
        let mut order = BTreeMap::new();
        self.for_each(|name, entry| _ = order.insert(entry.place(), self.hasher.hash_one(name)));
        order == index.order && self.len() == order.len()
    }

    /// How many names the leaf has that has most.
    #[cfg(test)]
    pub(super) fn most_in_a_leaf(&self) -> usize {
        fn most(tree: Option<&Tree>) -> usize {
            match tree {
                Some(Tree::Branch(branches)) => {
                    branches.iter().map(|branch| most(branch.as_deref())).max().unwrap_or_default()
                }
                Some(Tree::Leaf { next, .. }) => 1 + most(next.as_deref()),
                None => 0,
            }
        }
        most(self.root.load().as_deref())
    }
}

/// Finds the name with that hash that `is` is true of, and its entry.
#[inline]
fn find(mut tree: &Tree, mut hash: u64, is: impl Fn(&Name, &Entry) -> bool) -> Option<(&Name, &Entry)> {
    loop {
        tree = match tree {
            Tree::Branch(branches) => {
                let branch = &branches[hash as usize % WIDTH];
                hash /= WIDTH as u64;
                branch
            }
            Tree::Leaf { name, entry, .. } if is(name, entry) => return Some((name, entry)),
            Tree::Leaf { next, .. } => next,
        }
        .as_deref()?;
    }
}

/// `tree`, of which a name's hash leads down so many branches more, with `entry` as the name's, or without the name.
fn with_entry(tree: Option<&Arc<Tree>>, depth: u32, hash: u64, name: &Name, entry: Option<Entry>) -> Option<Arc<Tree>> {
    let Some(depth) = depth.checked_sub(1) else {
        let next = without(tree, name);
        return match entry {
            Some(entry) => Some(Arc::new(Tree::Leaf { name: name.clone(), next, entry })),
            None => next,
        };
    };
    let mut branches = match tree.map(Arc::as_ref) {
        Some(Tree::Branch(branches)) => branches.clone(),
        _ => Default::default(),
    };
    let branch = &mut branches[hash as usize % WIDTH];
    *branch = with_entry(branch.as_ref(), depth, hash / WIDTH as u64, name, entry);
    branches.iter().any(Option::is_some).then(|| Arc::new(Tree::Branch(branches)))
}

/// Leaves without that of `name`: those before it are copied, those after it are shared.
fn without(leaf: Option<&Arc<Tree>>, name: &Name) -> Option<Arc<Tree>> {
    let Tree::Leaf { name: other, next, entry } = &**leaf? else { return None };
    if other == name {
        return next.clone();
    }
    let next = without(next.as_ref(), name);
    Some(Arc::new(Tree::Leaf { name: other.clone(), next, entry: entry.clone() }))
}
