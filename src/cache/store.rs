use std::hash::BuildHasher;
use std::mem;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::DefaultHashBuilder;

use super::CacheConfig;
use super::blocks::Blocks;
use super::entry::{Entry, Look, Old};
use super::slot::{Ages, Link, Seen, Slot, fits};
use super::version::Begun;
use crate::addrs::{Addrs, Answer, Source};
use crate::clock::{Coarse, Moment};
use crate::error::Error;
use crate::name::{Name, NameRef};
use crate::sync::{AtomicU64, Instant};

/// Maximum number of names in any cache, so that the lists of [blocks](Blocks) stay short.
const MOST: usize = 1 << 24;

/// Maximum number of visited names that one eviction passes by.
///
/// An eviction runs under the engine's lock. Of a run of visited names, 1 in 9 is evicted.
pub(super) const PASSED_BY: usize = 8;

/// Maximum number of names that a reader passes by before it takes the lock. Few buckets have as many, so it was probably led in
/// circles by writes.
const LOOKED_AT: usize = 16;

/// The names and their answers, readable from any thread without a lock and without writing to what other threads read.
///
/// A hash table that grows by linear hashing: with each new slot one bucket is split, so that no write rebuilds the table. The slots
/// of a bucket are a linked list. Nothing is ever freed, so readers need not be waited for, and nobody registers as one.
///
/// Only the holder of the one [`Index`] writes. Each slot has a [version](super::version::Version), so that a reader never takes
/// an answer for another name's, or a mix of two for one. While slots move between buckets a reader may miss a name. Every caller
/// looks once more under the lock before it starts a lookup.
pub(crate) struct Store {
    cache: CacheConfig,
    /// Maximum number of names.
    limit: usize,
    /// The present [`Shape`]. A flush sets it to no buckets.
    shape: AtomicU64,
    /// The first slot of each bucket. Not used beyond the present number of buckets.
    heads: Blocks<Link>,
    slots: Blocks<Slot>,
    hasher: DefaultHashBuilder,
}

/// The number of buckets, which is the number of slots that were used since the last flush.
#[derive(Clone, Copy)]
struct Shape {
    buckets: u32,
    /// The bits of a hash that choose a bucket. One more than there are buckets yet, if the number is no power of 2.
    mask: u32,
}

impl Shape {
    fn new(buckets: u32) -> Self {
        Self { buckets, mask: buckets.next_power_of_two() - 1 }
    }

    #[inline]
    fn bucket(self, hash: u64) -> u32 {
        // The hasher multiplies once, so that for one seed in some two thousand names that differ in few bits share their low bits.
        // This is 2^64 over the golden ratio.
        let product = u128::from(hash) * 0x9e37_79b9_7f4a_7c15;
        let bucket = (product ^ product >> 64) as u32 & self.mask;
        if bucket < self.buckets { bucket } else { bucket & (self.mask >> 1) }
    }
}

/// What only the holder of the lock reads. Required for writing to the store.
pub(crate) struct Index {
    /// An entry for each slot that is in use.
    entries: Blocks<Option<Kept>>,
    /// Slots that were in use and are not.
    free: Vec<u32>,
    /// The slot to examine next when a name must be evicted. Goes round.
    hand: u32,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    /// The name, if it does not fit into the slot.
    name: Option<Name>,
}

/// Flushed entries, to be dropped with no lock held.
#[must_use]
pub(crate) struct Flushed {
    _entries: Blocks<Option<Kept>>,
    _free: Vec<u32>,
}

impl Index {
    fn new(limit: usize) -> Self {
        Self { entries: Blocks::new(limit), free: Vec::new(), hand: 0 }
    }

    /// Returns whether a slot is that of a name that does not fit into it.
    fn is_at(&self, place: u32, long: NameRef<'_>) -> bool {
        let kept = self.entries.get(place).and_then(Option::as_ref);
        kept.and_then(|kept| kept.name.as_ref()).is_some_and(|name| long.is(name))
    }

    fn entry(&mut self, place: u32) -> Option<&mut Entry> {
        self.entries.get_mut(place)?.as_mut().map(|kept| &mut kept.entry)
    }

    fn set(&mut self, place: u32, kept: Option<Kept>) {
        if let Some(entry) = self.entries.get_mut(place) {
            *entry = kept;
        }
    }
}

impl Store {
    pub(crate) fn new(cache: CacheConfig) -> Self {
        let limit = cache.max_names.min(MOST);
        let (heads, slots) = (Blocks::new(limit), Blocks::new(limit));
        Self { cache, limit, shape: AtomicU64::new(0), heads, slots, hasher: Default::default() }
    }

    /// Returns the index of an empty store.
    pub(crate) fn index(&self) -> Index {
        Index::new(self.limit)
    }

    /// Returns the number of names.
    pub(crate) fn len(&self, index: &Index) -> usize {
        self.shape().buckets as usize - index.free.len()
    }

    #[inline]
    fn shape(&self) -> Shape {
        // Acquires what `reshape` releases: the heads of all these buckets.
        let shape = self.shape.load(Ordering::Acquire);
        Shape { buckets: shape as u32, mask: (shape >> 32) as u32 }
    }

    fn reshape(&self, Shape { buckets, mask }: Shape) {
        self.shape.store(u64::from(buckets) | u64::from(mask) << 32, Ordering::Release);
    }

    /// Looks up a name without the lock. If there is a fresh answer, calls `hit` and returns what `give` makes of it. Built in
    /// place: a hit has no time to move addresses. If there is something else, returns the result of `otherwise`.
    #[inline]
    pub(crate) fn read<T>(
        &self,
        name: NameRef<'_>,
        now: impl FnOnce() -> Coarse,
        hit: impl FnOnce(),
        give: impl FnOnce(Addrs) -> T,
        otherwise: impl FnOnce(Seen) -> Option<T>,
    ) -> Option<T> {
        let shape = self.shape();
        if shape.buckets == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(name);
        let first = self.slots.get(self.heads.get(shape.bucket(hash))?.get()?)?;
        let (slot, begun) = match first.begin(name, hash) {
            Some(begun) => (first, begun),
            None => self.seek(first, name, hash, shape)?,
        };
        let now = now();
        if let Some((packed, many)) = slot.fresh(begun, now) {
            hit();
            return Some(give(Addrs::unpacked(packed, many, Source::Cache)));
        }
        otherwise(slot.otherwise(begun, now))
    }

    /// Finds the slot of a name without the lock, after another slot in its bucket. Begins to read it.
    // Most names are first in their bucket.
    #[inline(never)]
    fn seek<'a>(&'a self, mut slot: &'a Slot, name: NameRef<'_>, hash: u64, shape: Shape) -> Option<(&'a Slot, Begun)> {
        for _ in 0..LOOKED_AT {
            if shape.bucket(slot.hash()) != shape.bucket(hash) {
                break;
            }
            slot = self.slots.get(slot.next.get()?)?;
            if let Some(begun) = slot.begin(name, hash) {
                return Some((slot, begun));
            }
        }
        Some((slot, Begun::IN_VAIN))
    }

    /// Looks up a name under the lock. Claims its refresh if that is due.
    pub(crate) fn look(&self, index: &mut Index, name: NameRef<'_>, now: Instant) -> Look {
        let Some((place, slot)) = self.find(index, name, self.hasher.hash_one(name)) else { return Look::Nothing };
        let Some(entry) = index.entry(place) else { return Look::Nothing };
        slot.visit();
        let old = |entry: &Entry| Old::new(slot.addrs(Source::Cache), entry.old_until());
        match entry.look(now) {
            Look::Fresh(()) => Look::Fresh(old(entry)),
            Look::Stale { old: (), refresh } => {
                if refresh {
                    slot.fill(None, None, ages(entry, name));
                }
                Look::Stale { old: old(entry), refresh }
            }
            Look::Old(()) => Look::Old(old(entry)),
            Look::Failed(error) => Look::Failed(error),
            Look::Nothing => Look::Nothing,
        }
    }

    /// Finds the slot of a name.
    fn find(&self, index: &Index, name: NameRef<'_>, hash: u64) -> Option<(u32, &Slot)> {
        let is_here = |place: u32, slot: &Slot| {
            slot.hash() == hash && slot.may_be(name) && (fits(name) || index.is_at(place, name))
        };
        let mut link = self.head(hash)?;
        loop {
            let (place, slot) = self.follow(link)?;
            if is_here(place, slot) {
                return Some((place, slot));
            }
            link = &slot.next;
        }
    }

    /// Returns the link to the first slot of the bucket that a hash leads to.
    fn head(&self, hash: u64) -> Option<&Link> {
        let shape = self.shape();
        if shape.buckets > 0 { self.heads.get(shape.bucket(hash)) } else { None }
    }

    fn follow(&self, link: &Link) -> Option<(u32, &Slot)> {
        #[cfg(test)]
        LOOKED.set(LOOKED.get() + 1);
        let place = link.get()?;
        Some((place, self.slots.get(place)?))
    }

    /// Stores the result of a lookup. An error must be one that may be [kept](Error::cached).
    pub(crate) fn fill(&self, index: &mut Index, name: &Name, result: Result<&Answer, &Error>, at: Moment) {
        if self.limit == 0 {
            return;
        }
        let borrowed = name.borrowed();
        let hash = self.hasher.hash_one(borrowed);
        let jitter = self.hasher.hash_one((hash, at.coarse.nanos())) as u8;
        let found = self.find(index, borrowed, hash);
        let former = found.and_then(|(slot, _)| index.entry(slot));
        let entry = Entry::after(former.as_deref(), result, at, &self.cache, jitter);
        let Some(entry) = entry else {
            return found.into_iter().for_each(|(place, slot)| self.remove(index, place, slot));
        };
        let Some((place, slot)) = found.or_else(|| self.make_room(index, at.exact)) else { return };
        let renamed = if found.is_none() { Some((borrowed, hash)) } else { None };
        slot.fill(renamed, result.ok().map(|answer| (answer, at.coarse)), ages(&entry, borrowed));
        slot.forget_visits();
        if !entry.has_answer() {
            slot.drop_many();
        }
        let name = if fits(borrowed) { None } else { Some(name.clone()) };
        index.set(place, Some(Kept { entry, name }));
        if found.is_none() {
            self.link(hash, place, slot);
        }
    }

    /// Adds a slot to its bucket.
    fn link(&self, hash: u64, place: u32, slot: &Slot) {
        if let Some(head) = self.head(hash) {
            slot.next.set(head.get());
            head.set(Some(place));
        }
    }

    /// Removes a slot from its bucket, and its entry from the index.
    fn unlink(&self, index: &mut Index, place: u32, slot: &Slot) {
        let mut link = self.head(slot.hash());
        while let Some((other, before)) = link.and_then(|link| self.follow(link)) {
            if other == place {
                link.into_iter().for_each(|link| link.set(slot.next.get()));
                break;
            }
            link = Some(&before.next);
        }
        slot.drop_many();
        index.set(place, None);
    }

    fn remove(&self, index: &mut Index, place: u32, slot: &Slot) {
        self.unlink(index, place, slot);
        index.free.push(place);
    }

    /// Returns a slot for another name. If there is none, evicts a name: the first one in the order of the slots that is gone or
    /// was not visited.
    ///
    /// Visited names that it passes by are then not visited. After [`PASSED_BY`] of them, it evicts the next one regardless.
    fn make_room(&self, index: &mut Index, now: Instant) -> Option<(u32, &Slot)> {
        if let Some(place) = index.free.pop() {
            return Some((place, self.slots.get(place)?));
        }
        let buckets = self.shape().buckets;
        if (buckets as usize) < self.limit {
            self.grow(index, buckets);
            return Some((buckets, self.slots.get(buckets)?));
        }
        let mut passed_by = 0;
        loop {
            let place = index.hand;
            index.hand = (place + 1) % buckets;
            let slot = self.slots.get(place)?;
            let is_gone = index.entry(place).is_none_or(|entry| entry.is_gone(now));
            if passed_by == PASSED_BY || is_gone || !slot.is_visited() {
                self.unlink(index, place, slot);
                return Some((place, slot));
            }
            slot.forget_visits();
            passed_by += 1;
        }
    }

    /// Adds a slot, and a bucket that is split off another.
    fn grow(&self, index: &Index, buckets: u32) {
        self.slots.allocate(buckets, Slot::new);
        self.heads.allocate(buckets, Link::new);
        index.entries.allocate(buckets, || None);
        let shape = Shape::new(buckets + 1);
        let Some(head) = self.heads.get(buckets) else { return };
        let mut moved = head;
        if let Some(mut stayed) = self.heads.get(buckets & (shape.mask >> 1)).filter(|_| buckets > 0) {
            let mut next = stayed.get();
            while let Some((place, slot)) = next.and_then(|place| Some((place, self.slots.get(place)?))) {
                next = slot.next.get();
                let last = if shape.bucket(slot.hash()) == buckets { &mut moved } else { &mut stayed };
                last.set(Some(place));
                *last = &slot.next;
            }
            stayed.set(None);
        }
        moved.set(None);
        self.reshape(shape);
    }

    /// Gives up the claim to a refresh that `look` has given out and that did not come about.
    pub(crate) fn release(&self, index: &mut Index, name: &Name) {
        let name = name.borrowed();
        let Some((place, slot)) = self.find(index, name, self.hasher.hash_one(name)) else { return };
        if let Some(entry) = index.entry(place) {
            entry.release();
            slot.fill(None, None, ages(entry, name));
        }
    }

    /// Makes the answer of a name old, unless this was done less than `cooldown` ago. A failure that stands in place of an answer is
    /// removed.
    pub(crate) fn expire(&self, index: &mut Index, name: NameRef<'_>, now: Coarse, cooldown: Duration) {
        let Some((place, slot)) = self.find(index, name, self.hasher.hash_one(name)) else { return };
        let Some(entry) = index.entry(place) else { return };
        if entry.expire(now, cooldown) {
            return self.remove(index, place, slot);
        }
        slot.fill(None, None, ages(entry, name));
    }

    /// Returns the addresses of a name, however old they are.
    #[cfg(feature = "hyper")]
    pub(crate) fn peek(&self, index: &mut Index, name: NameRef<'_>) -> Option<Addrs> {
        let (place, slot) = self.find(index, name, self.hasher.hash_one(name))?;
        index.entry(place)?.has_answer().then(|| slot.addrs(Source::Cache))
    }

    /// Removes all names. The slots stay for the next names, and until then so do lists of addresses that are not stored inline.
    pub(crate) fn flush(&self, index: &mut Index) -> Flushed {
        self.reshape(Shape { buckets: 0, mask: 0 });
        let Index { entries, free, .. } = mem::replace(index, self.index());
        Flushed { _entries: entries, _free: free }
    }

    pub(crate) fn flush_name(&self, index: &mut Index, name: &Name) {
        let name = name.borrowed();
        if let Some((place, slot)) = self.find(index, name, self.hasher.hash_one(name)) {
            self.remove(index, place, slot);
        }
    }
}

#[cfg(test)]
impl Index {
    fn has(&self, place: u32) -> bool {
        self.entries.get(place).is_some_and(Option::is_some)
    }
}

#[cfg(test)]
impl Store {
    fn is_linked(&self, place: u32, slot: &Slot) -> bool {
        let first = self.head(slot.hash()).and_then(Link::get);
        std::iter::successors(first, |at| self.slots.get(*at)?.next.get()).any(|at| at == place)
    }

    /// Returns whether a name was visited, if it is there.
    pub(super) fn is_visited(&self, index: &Index, name: &Name) -> Option<bool> {
        let hash = self.hasher.hash_one(name);
        Some(self.find(index, name.borrowed(), hash)?.1.is_visited())
    }

    /// Returns whether a name is found, with the lock or without it, if its hash is that of `other`.
    pub(super) fn is_found_by_hash_of(&self, index: &Index, name: &Name, other: &Name) -> bool {
        let hash = self.hasher.hash_one(other);
        let first = self.head(hash).and_then(Link::get).and_then(|place| self.slots.get(place));
        let is_read = fits(name.borrowed()) && first.is_some_and(|slot| slot.begin(name.borrowed(), hash).is_some());
        is_read || self.find(index, name.borrowed(), hash).is_some()
    }

    /// Returns the number of names in each bucket.
    pub(super) fn buckets(&self) -> impl Iterator<Item = usize> {
        let buckets = self.shape().buckets;
        (0..buckets).map(move |bucket| {
            let first = self.heads.get(bucket).unwrap().get();
            let next = |place: &u32| self.slots.get(*place).unwrap().next.get();
            std::iter::successors(first, next).take(buckets as usize + 1).count()
        })
    }

    /// Checks that each slot is in its bucket and has an entry, or is free.
    pub(super) fn check(&self, index: &Index) {
        let buckets = self.shape().buckets;
        let mut used = 0;
        for place in (0..buckets).filter(|place| !index.free.contains(place)) {
            let slot = self.slots.get(place).unwrap();
            assert!(self.is_linked(place, slot), "a slot is not in its bucket");
            assert!(index.has(place), "a slot without an entry");
            used += 1;
        }
        assert_eq!(self.buckets().sum::<usize>(), used, "a slot in two buckets");
        let entries = (0..buckets).filter(|place| index.has(*place)).count();
        assert_eq!(entries, used, "an entry without a slot");
    }
}

/// Returns when callers get what without the lock: nothing, if the slot does not have the whole name.
fn ages(entry: &Entry, name: NameRef<'_>) -> Ages {
    if fits(name) { entry.ages() } else { entry.ages().locked() }
}

// Number of slots that this thread has looked at under the lock.
#[cfg(test)]
thread_local!(pub(super) static LOOKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_differ_in_few_bits_are_spread() {
        let shape = Shape::new(1024);
        for shift in 0..54 {
            let mut buckets = [0; 1024];
            (0..1000).for_each(|number: u64| buckets[shape.bucket(number << shift) as usize] += 1);
            let most = buckets.iter().max();
            assert!(most.is_some_and(|most| *most <= 16), "{most:?} by bits from {shift} on");
        }
    }
}
