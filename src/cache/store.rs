use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use hashbrown::DefaultHashBuilder;

use super::Cache;
use super::entry::{Entry, Look};
use crate::addrs::{Addrs, Answer};
use crate::clock::Coarse;
use crate::error::Error;
use crate::name::{Name, NameRef};

/// How many branches a node of the tree has: five bits of a name's hash choose one.
const WIDTH: usize = 32;

/// How many names share a leaf in a full cache, at most, on average.
const NAMES_PER_LEAF: usize = 4;

/// The entries, to be read from any thread without a lock: a thread that reads is listed where no lock guards the list, so
/// that a process may fork while others read.
///
/// Only holders of the [`Index`], of which there is one, write: they put a tree in the place of another, which shares all that
/// has not changed. What is evicted is dropped by them or by the last reader, and so holds nothing foreign: the errors that
/// are kept have no source.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
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
    _order: VecDeque<Name>,
}

/// In which order names were stored: what it takes to write.
#[derive(Debug, Default)]
pub(crate) struct Index {
    order: VecDeque<Name>,
}

impl Store {
    pub(crate) fn new(cache: Cache) -> Self {
        // As many levels as it takes for so many leaves.
        let leaves = cache.names.div_ceil(NAMES_PER_LEAF);
        let depth = leaves.saturating_sub(1).checked_ilog(WIDTH).map_or(0, |levels| levels + 1);
        Self { cache, root: ArcSwapOption::empty(), depth, hasher: Default::default() }
    }

    /// What `look` makes of a name's entry.
    #[inline]
    fn with<T>(&self, name: NameRef<'_>, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let root = self.root.load();
        let mut tree = root.as_deref()?;
        let mut hash = self.hasher.hash_one(name);
        loop {
            tree = match tree {
                Tree::Branch(branches) => {
                    let branch = &branches[hash as usize % WIDTH];
                    hash /= WIDTH as u64;
                    branch
                }
                Tree::Leaf { name: other, entry, .. } if name.is(other) => return Some(look(entry)),
                Tree::Leaf { next, .. } => next,
            }
            .as_deref()?;
        }
    }

    /// What `give` makes of the answer for a name, if it is fresh. Made in place: a hit has no time for moving addresses about.
    #[inline]
    pub(crate) fn fresh<T>(&self, name: &str, now: Coarse, give: impl FnOnce(Addrs) -> T) -> Option<T> {
        self.with(NameRef::new(name), |entry| entry.fresh(now).map(give))?
    }

    /// What there is for a name now.
    pub(crate) fn look(&self, name: &str, now: Instant) -> Look {
        if !self.cache.is_enabled() {
            return Look::Nothing;
        }
        self.with(NameRef::new(name), |entry| entry.look(now)).unwrap_or(Look::Nothing)
    }

    /// Stores what a lookup has ended with: an error is one that is fit to be [kept](Error::cached).
    pub(crate) fn fill(&self, index: &mut Index, name: &Name, result: &Result<Answer, Error>, now: Instant) {
        if !self.cache.is_enabled() {
            return;
        }
        let luck = self.hasher.hash_one((name, now)) as u8;
        let after = |former: Option<&Entry>| (former.is_some(), Entry::after(former, result, now, &self.cache, luck));
        let after = self.with(name.borrowed(), |former| after(Some(former))).unwrap_or_else(|| after(None));
        match after {
            (was_there, Some(entry)) => {
                if !was_there {
                    self.make_room(index, now);
                    index.order.push_back(name.clone());
                }
                self.replace(name, Some(entry));
            }
            (true, None) => self.forget(index, name),
            (false, None) => {}
        }
    }

    /// Puts an entry in the place of a name's, or nothing.
    fn replace(&self, name: &Name, entry: Option<Entry>) {
        let hash = self.hasher.hash_one(name.borrowed());
        let tree = with_entry(self.root.load().as_ref(), self.depth, hash, name, entry);
        self.root.store(tree);
    }

    /// Evicts one name if there is no room for another: the oldest that is gone, or that nobody has asked for since the
    /// last eviction that came by.
    fn make_room(&self, index: &mut Index, now: Instant) {
        let mut passed_by = 0;
        while index.order.len() >= self.cache.names {
            let Some(name) = index.order.pop_front() else { return };
            let visited = |entry: &Entry| !entry.is_gone(now) && entry.visited.swap(false, Ordering::Relaxed);
            if passed_by <= self.cache.names && self.with(name.borrowed(), visited) == Some(true) {
                passed_by += 1;
                index.order.push_back(name);
            } else {
                self.replace(&name, None);
            }
        }
    }

    fn forget(&self, index: &mut Index, name: &Name) {
        if self.with(name.borrowed(), |_| ()).is_some() {
            self.replace(name, None);
            index.order.retain(|kept| kept != name);
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
        self.forget(index, name);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        fn len(tree: Option<&Tree>) -> usize {
            match tree {
                Some(Tree::Branch(branches)) => branches.iter().map(|branch| len(branch.as_deref())).sum(),
                Some(Tree::Leaf { next, .. }) => 1 + len(next.as_deref()),
                None => 0,
            }
        }
        len(self.root.load().as_deref())
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
