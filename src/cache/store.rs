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

/// How many names a bucket has when the cache is full, on average.
const NAMES_PER_BUCKET: usize = 2;

/// More buckets than this, of a pointer each, would cost an empty cache too much.
const MAX_BUCKETS: usize = 1 << 20;

/// The entries, to be read from any thread without a lock, and without a trace: a thread that reads registers nowhere, so
/// that a process may fork while others read.
///
/// Only holders of the [`Index`], of which there is one, write: they put a chain in the place of another. What is evicted is
/// dropped by them or by the last reader, and so holds nothing foreign: the errors that are kept have no source.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
    buckets: Box<[ArcSwapOption<Node>]>,
    hasher: DefaultHashBuilder,
}

/// A name in a bucket, and those after it. Never changed but for what an [`Entry`] counts.
#[derive(Debug)]
#[repr(C)]
struct Node {
    name: Name,
    next: Option<Arc<Node>>,
    entry: Entry,
}

/// In which order names were stored: what it takes to write.
#[derive(Debug, Default)]
pub(crate) struct Index {
    order: VecDeque<Name>,
}

impl Store {
    pub(crate) fn new(cache: Cache) -> Self {
        let names = if cache.is_enabled() { cache.names } else { 0 };
        let buckets = (names / NAMES_PER_BUCKET).min(MAX_BUCKETS).next_power_of_two();
        Self { cache, buckets: (0..buckets).map(|_| ArcSwapOption::empty()).collect(), hasher: Default::default() }
    }

    #[inline]
    fn bucket(&self, name: NameRef<'_>) -> &ArcSwapOption<Node> {
        // There is at least one bucket, and their number is a power of two.
        &self.buckets[self.hasher.hash_one(name) as usize & (self.buckets.len() - 1)]
    }

    /// What `look` makes of a name's entry.
    #[inline]
    fn with<T>(&self, name: NameRef<'_>, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let chain = self.bucket(name).load();
        let mut next = chain.as_deref();
        while let Some(node) = next {
            if name.is(&node.name) {
                return Some(look(&node.entry));
            }
            next = node.next.as_deref();
        }
        None
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

    /// A lookup that began at `since` has ended: with an error, it is one that is fit to be [kept](Error::cached).
    pub(crate) fn fill(
        &self,
        index: &mut Index,
        name: &Name,
        result: &Result<Answer, Error>,
        since: Instant,
        now: Instant,
    ) {
        if !self.cache.is_enabled() {
            return;
        }
        let after = |former: Option<&Entry>| {
            // The first of two calls to answer has; what the other says is older.
            if former.is_some_and(|former| former.is_newer_than(since)) {
                return None;
            }
            let luck = self.hasher.hash_one((name, now)) as u8;
            Some((former.is_some(), Entry::after(former, result, now, &self.cache, luck)))
        };
        let after = self.with(name.borrowed(), |former| after(Some(former))).unwrap_or_else(|| after(None));
        match after {
            Some((was_there, Some(entry))) => {
                if !was_there {
                    self.make_room(index, now);
                    index.order.push_back(name.clone());
                }
                self.replace(name, Some(entry));
            }
            Some((true, None)) => self.forget(index, name),
            Some((false, None)) | None => {}
        }
    }

    /// Puts an entry in the place of a name's, or nothing.
    fn replace(&self, name: &Name, entry: Option<Entry>) {
        let bucket = self.bucket(name.borrowed());
        let others = without(bucket.load().as_ref(), name);
        bucket.store(match entry {
            Some(entry) => Some(Arc::new(Node { name: name.clone(), entry, next: others })),
            None => others,
        });
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

    pub(crate) fn flush(&self, index: &mut Index) {
        index.order.clear();
        self.buckets.iter().for_each(|bucket| bucket.store(None));
    }

    pub(crate) fn flush_name(&self, index: &mut Index, name: &Name) {
        self.forget(index, name);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let length =
            |bucket: &ArcSwapOption<Node>| std::iter::successors(bucket.load_full(), |node| node.next.clone()).count();
        self.buckets.iter().map(length).sum()
    }
}

/// A chain without `name`: those before it are copied, those after it are shared.
fn without(chain: Option<&Arc<Node>>, name: &Name) -> Option<Arc<Node>> {
    let node = chain?;
    if node.name == *name {
        return node.next.clone();
    }
    let next = without(node.next.as_ref(), name);
    Some(Arc::new(Node { name: node.name.clone(), entry: node.entry.clone(), next }))
}
