use std::cell::Cell;
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::time::Instant;

use papaya::HashMap;

use super::Cache;
use super::entry::{Entry, Look};
use crate::addrs::{Addrs, Answer};
use crate::error::Error;
use crate::name::{Name, NameRef};

/// The entries, to be read from any thread without a lock.
///
/// Only holders of the [`Index`], of which there is one, write. What is evicted is dropped at a time of the map's choosing,
/// and so holds nothing foreign: the errors that are kept have no source.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
    entries: HashMap<Name, Entry>,
    luck: RandomState,
}

/// In which order names were stored: what it takes to write.
#[derive(Debug, Default)]
pub(crate) struct Index {
    order: VecDeque<Name>,
}

/// Where this thread is with the map.
#[derive(Clone, Copy)]
enum Thread {
    New,
    Entered,
    Over,
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        THREAD.set(Thread::Over);
    }
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::New) };
    static END: End = const { End };
}

impl Store {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache, entries: HashMap::new(), luck: RandomState::new() }
    }

    /// Sets up what the map keeps for each thread, which takes a lock of the process's: to be called with no lock held.
    /// Says whether the map can be read here, which it cannot where a thread-local destructor comes after the map's own.
    #[inline]
    pub(crate) fn enter_thread(&self) -> bool {
        match THREAD.get() {
            Thread::Entered => true,
            Thread::Over => false,
            Thread::New => {
                drop(self.entries.pin());
                // After the map's own, and so dropped before it.
                let entered = END.try_with(|_| ()).is_ok();
                THREAD.set(if entered { Thread::Entered } else { Thread::Over });
                entered
            }
        }
    }

    /// The answer for a name, if it is fresh.
    #[inline]
    pub(crate) fn fresh(&self, name: &str, now: Instant) -> Option<Addrs> {
        if !self.enter_thread() {
            return None;
        }
        self.entries.pin().get(&NameRef::new(name))?.fresh(now)
    }

    /// What there is for a name now.
    pub(crate) fn look(&self, name: &str, now: Instant) -> Look {
        if !self.cache.is_enabled() || !self.enter_thread() {
            return Look::Nothing;
        }
        self.entries.pin().get(&NameRef::new(name)).map_or(Look::Nothing, |entry| entry.look(now))
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
        let entries = self.entries.pin();
        let former = entries.get(name);
        // The first of two calls to answer has; what the other says is older.
        if former.is_some_and(|former| former.is_newer_than(since)) {
            return;
        }
        let luck = self.luck.hash_one((name, now)) as u8;
        match Entry::after(former, result, now, &self.cache, luck) {
            Some(entry) => {
                if former.is_none() {
                    self.make_room(index, now);
                    index.order.push_back(name.clone());
                }
                entries.insert(name.clone(), entry);
            }
            None if former.is_some() => self.forget(index, name),
            None => {}
        }
    }

    /// Evicts one name if there is no room for another: the oldest that is gone, or that nobody has asked for since the
    /// last eviction that came by.
    fn make_room(&self, index: &mut Index, now: Instant) {
        let entries = self.entries.pin();
        let mut passed_by = 0;
        while index.order.len() >= self.cache.names {
            let Some(name) = index.order.pop_front() else { return };
            let spared = entries.get(&name).is_some_and(|entry| {
                passed_by <= self.cache.names && !entry.is_gone(now) && entry.visited.swap(false, Ordering::Relaxed)
            });
            if spared {
                passed_by += 1;
                index.order.push_back(name);
            } else {
                entries.remove(&name);
            }
        }
    }

    fn forget(&self, index: &mut Index, name: &Name) {
        if self.entries.pin().remove(name).is_some() {
            index.order.retain(|kept| kept != name);
        }
    }

    /// A refresh that `look` has given out did not come about.
    pub(crate) fn release(&self, name: &Name) {
        if let Some(entry) = self.entries.pin().get(name) {
            entry.release();
        }
    }

    pub(crate) fn flush(&self, index: &mut Index) {
        index.order.clear();
        self.entries.pin().clear();
    }

    pub(crate) fn flush_name(&self, index: &mut Index, name: &Name) {
        self.forget(index, name);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
