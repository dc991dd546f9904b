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

/// Number of branches of a node of the tree: five bits of a name's hash choose one.
const WIDTH: usize = 32;

/// Maximum number of names that share a leaf in a full cache, on average.
const NAMES_PER_LEAF: usize = 4;

/// Maximum number of visited names that one eviction passes by.
///
/// An eviction runs under the engine's lock: with 8, adding a name takes 1.5 times as long as with none in a cache of 1,000
/// names, and twice as long in one of 1,000,000. Of a run of visited names, 1 in 9 is evicted.
pub(super) const PASSED_BY: usize = 8;

/// The entries, readable from any thread without a lock.
///
/// They are in a persistent tree under one [`arc_swap`] root, for these reasons:
///
/// - Readers take no lock, and register in no process-wide list that has one. A fork could copy that lock held, and the child
///   would then wait for it for ever. The reclamation of papaya, a concurrent hash map, has such a list. The list of arc-swap
///   is lock-free.
/// - A flush is one write of the root.
///
/// Only the holder of the one [`Index`] writes. It replaces the tree by another, which shares all that has not changed.
/// Evicted entries are dropped by the writer or by the last reader, so they hold nothing foreign: cached errors have no
/// source.
#[derive(Debug)]
pub(crate) struct Store {
    cache: CacheConfig,
    root: ArcSwapOption<Tree>,
    /// Number of branches above a leaf.
    depth: u32,
    hasher: DefaultHashBuilder,
}

/// A tree of entries. Readers see no change of it, except for what an [`Entry`] counts.
#[derive(Clone, Debug)]
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

/// Flushed entries, to be dropped with no lock held.
#[must_use]
pub(crate) struct Flushed {
    _tree: Option<Arc<Tree>>,
    _order: BTreeMap<u64, u64>,
}

/// The order in which names are evicted. Required for writing to the store.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The hash of the name at each place. The name's entry has the place too, which tells it from others with that hash. The
    /// name itself would take 16 bytes more.
    order: BTreeMap<u64, u64>,
    /// The place after all that were ever taken.
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
        // Enough levels for that many leaves.
        let leaves = cache.max_names.div_ceil(NAMES_PER_LEAF);
        let depth = leaves.saturating_sub(1).checked_ilog(WIDTH).map_or(0, |levels| levels + 1);
        Self { cache, root: ArcSwapOption::empty(), depth, hasher: Default::default() }
    }

    /// Returns what `look` makes of a name's entry, if there is one.
    #[inline]
    fn with<T>(&self, name: NameRef<'_>, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let root = self.root.load();
        let hash = self.hasher.hash_one(name);
        let (_, entry) = find(root.as_deref()?, hash, |other, _| name.is(other))?;
        Some(look(entry))
    }

    /// Returns what `give` makes of the answer for a name, if it is fresh. Built in place: a hit has no time to move
    /// addresses.
    #[inline]
    pub(crate) fn fresh<T>(&self, name: NameRef<'_>, now: Coarse, give: impl FnOnce(Addrs) -> T) -> Option<T> {
        self.with(name, |entry| entry.fresh(now).map(give))?
    }

    /// Looks up a name.
    pub(crate) fn look(&self, name: NameRef<'_>, now: Instant) -> Look {
        if !self.cache.is_enabled() {
            return Look::Nothing;
        }
        self.with(name, |entry| entry.look(now)).unwrap_or(Look::Nothing)
    }

    /// Stores the result of a lookup. An error must be one that may be [kept](Error::cached).
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
                // One write for the eviction and the entry: a write looks at every thread that has ever read.
                let mut tree = self.root.load_full();
                let place = place.unwrap_or_else(|| {
                    self.make_room(&mut tree, index, at.exact);
                    index.push(hash)
                });
                set(&mut tree, self.depth, hash, name, Some(entry.at(place)));
                self.root.store(tree);
            }
        }
    }

    fn remove(&self, index: &mut Index, place: u64, hash: u64, name: &Name) {
        index.order.remove(&place);
        let mut tree = self.root.load_full();
        set(&mut tree, self.depth, hash, name, None);
        self.root.store(tree);
    }

    /// Evicts one name from `tree` if there is no room for another: the first in the order that is gone or was not visited.
    ///
    /// Visited names that it passes by go to the end, not visited. After [`PASSED_BY`] of them, it evicts the next one
    /// regardless.
    fn make_room(&self, tree: &mut Option<Arc<Tree>>, index: &mut Index, now: Instant) {
        if index.order.len() < self.cache.max_names {
            return;
        }
        let mut passed_by = 0;
        while let Some((place, hash)) = index.order.pop_first() {
            let Some(root) = tree.as_deref() else { return };
            let Some((name, entry)) = find(root, hash, |_, entry| entry.place() == place) else { continue };
            if passed_by == PASSED_BY || entry.is_gone(now) || !entry.pass_by(index.end) {
                let name = name.clone();
                return set(tree, self.depth, hash, &name, None);
            }
            passed_by += 1;
            index.push(hash);
        }
    }

    /// Gives up the claim to a refresh that `look` has given out and that did not come about.
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

    /// Calls `look` for every entry, in no particular order.
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

    /// Returns whether the order has every name at the place in its entry, and nothing else.
    #[cfg(test)]
    pub(super) fn is_ordered_by(&self, index: &Index) -> bool {
        let mut order = BTreeMap::new();
        self.for_each(|name, entry| _ = order.insert(entry.place(), self.hasher.hash_one(name)));
        order == index.order && self.len() == order.len()
    }

    /// Returns the number of names in the fullest leaf.
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

/// Finds the name with that hash for which `is` returns true, and its entry.
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

/// Sets a name's entry in `tree`, or removes the name. The name's leaf is `depth` branches further down. Branches that others have
/// too are copied.
fn set(tree: &mut Option<Arc<Tree>>, depth: u32, hash: u64, name: &Name, entry: Option<Entry>) {
    let Some(depth) = depth.checked_sub(1) else {
        let next = without(tree.as_ref(), name);
        *tree = match entry {
            Some(entry) => Some(Arc::new(Tree::Leaf { name: name.clone(), next, entry })),
            None => next,
        };
        return;
    };
    let root = tree.get_or_insert_with(|| Arc::new(Tree::Branch(Default::default())));
    // There is no leaf above the last branch.
    let Tree::Branch(branches) = Arc::make_mut(root) else { return };
    set(&mut branches[hash as usize % WIDTH], depth, hash / WIDTH as u64, name, entry);
    if branches.iter().all(Option::is_none) {
        *tree = None;
    }
}

/// Returns the leaves without that of `name`. Those before it are copied, those after it are shared.
fn without(leaf: Option<&Arc<Tree>>, name: &Name) -> Option<Arc<Tree>> {
    let Tree::Leaf { name: other, next, entry } = &**leaf? else { return None };
    if other == name {
        return next.clone();
    }
    let next = without(next.as_ref(), name);
    Some(Arc::new(Tree::Leaf { name: other.clone(), next, entry: entry.clone() }))
}
