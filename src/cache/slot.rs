use std::array;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use arc_swap::ArcSwapOption;

use super::version::{Begun, Version};
use crate::addrs::{Addrs, Answer, Many, PACKED, Source};
use crate::clock::Coarse;
use crate::name::{NameRef, folded};
use crate::sync::{AtomicBool, AtomicU16, AtomicU32, AtomicU64};

/// Maximum number of words of a name that a slot has room for: 87 bytes.
const WORDS: usize = 11;

/// The place of a name and its answer, readable from any thread without a lock. 192 bytes.
///
/// Only the holder of the [`Index`](super::Index) writes, apart from visits. The fields are in this order so that a hit on a name of
/// less than 48 bytes reads two cache lines.
#[repr(C, align(64))]
pub(super) struct Slot {
    /// Guards the fields that are not said to be unguarded.
    version: Version,
    hash: AtomicU64,
    /// The next slot of the bucket. Unguarded.
    pub(super) next: Link,
    /// The length of the name.
    len: AtomicU16,
    /// Whether the name was asked for since it was stored or passed by. Unguarded.
    is_visited: AtomicBool,
    has_many: AtomicBool,
    fresh_until: AtomicU64,
    addrs: [AtomicU64; PACKED],
    /// The words of the name, with ASCII letters in lower case, if they fit.
    name: [AtomicU64; WORDS],
    stale_until: AtomicU64,
    settled_at: AtomicU64,
    /// The addresses, if they do not fit into `addrs`. To read this takes three atomic writes, which other answers need not pay.
    many: ArcSwapOption<Vec<SocketAddr>>,
}

/// The number of a slot, or none, in a word.
pub(super) struct Link(AtomicU32);

impl Link {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    pub(super) fn get(&self) -> Option<u32> {
        // Acquires what `set` releases: the slot is allocated, and has its name and its own link.
        self.0.load(Acquire).checked_sub(1)
    }

    pub(super) fn set(&self, at: Option<u32>) {
        self.0.store(at.map_or(0, |at| at + 1), Release);
    }
}

/// When callers get what without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ages {
    /// The answer is fresh before this.
    pub(super) fresh_until: Coarse,
    /// After that, it is stale before this, and no caller need start a refresh.
    pub(super) stale_until: Coarse,
    /// After that, callers before this take the lock to learn what they get. Later ones get nothing at once.
    pub(super) settled_at: Coarse,
}

impl Ages {
    /// Returns these ages for callers who have to take the lock.
    pub(super) fn locked(self) -> Self {
        Self { fresh_until: Coarse::PAST, stale_until: Coarse::PAST, ..self }
    }
}

/// What a slot has for a caller that takes no lock, if it has no fresh answer.
pub(crate) enum Seen {
    /// Another caller refreshes it, or a lookup has failed a moment ago.
    Stale(Addrs),
    /// Only the holder of the lock can tell.
    Unsettled,
    /// Nothing that is given at once.
    Nothing,
}

#[inline]
fn is_before(now: Coarse, time: &AtomicU64) -> bool {
    now < Coarse::from_nanos(time.load(Relaxed))
}

/// Returns whether a slot has room for a name.
#[inline]
pub(super) fn fits(name: NameRef<'_>) -> bool {
    name.len_in_words() <= WORDS
}

impl Slot {
    pub(super) fn new() -> Self {
        let word = || AtomicU64::new(0);
        Self {
            version: Version::new(),
            hash: word(),
            next: Link::new(),
            len: AtomicU16::new(0),
            is_visited: AtomicBool::new(false),
            has_many: AtomicBool::new(false),
            fresh_until: word(),
            addrs: array::from_fn(|_| word()),
            name: array::from_fn(|_| word()),
            stale_until: word(),
            settled_at: word(),
            many: ArcSwapOption::empty(),
        }
    }

    /// Begins to read, if this is the slot of `name`, which has this hash. It may also be that of another long name.
    #[inline]
    pub(super) fn begin(&self, name: NameRef<'_>, hash: u64) -> Option<Begun> {
        let begun = self.version.begin();
        (self.hash() == hash && self.may_be(name)).then_some(begun)
    }

    /// Ends reading with the answer, if it is fresh. Most callers need no more, so this is kept short.
    #[inline]
    pub(super) fn fresh(&self, begun: Begun, now: Coarse) -> Option<([u64; PACKED], Option<Many>)> {
        if is_before(now, &self.fresh_until) { self.answer(begun) } else { None }
    }

    /// Ends reading without a fresh answer.
    #[cold]
    pub(super) fn otherwise(&self, begun: Begun, now: Coarse) -> Seen {
        if is_before(now, &self.stale_until) {
            let stale = |(packed, many)| Seen::Stale(Addrs::unpacked(packed, many, Source::Stale));
            return self.answer(begun).map_or(Seen::Unsettled, stale);
        }
        let is_settled = !is_before(now, &self.settled_at);
        if is_settled && self.version.is_still(begun) { Seen::Nothing } else { Seen::Unsettled }
    }

    #[inline]
    fn answer(&self, begun: Begun) -> Option<([u64; PACKED], Option<Many>)> {
        let (packed, many) = (self.packed(), self.many());
        if !self.version.is_still(begun) {
            return None;
        }
        self.visit();
        Some((packed, many))
    }

    /// Returns whether this is the slot of `name`, which has its hash, as far as can be told here. The holder of the index need
    /// not check the version.
    #[inline]
    pub(super) fn may_be(&self, name: NameRef<'_>) -> bool {
        // Most callers write names in lower case.
        usize::from(self.len.load(Relaxed)) == name.len()
            && (!fits(name) || self.has_words(name, |word| word) || self.is_folded(name))
    }

    #[cold]
    fn is_folded(&self, name: NameRef<'_>) -> bool {
        self.has_words(name, folded)
    }

    #[inline]
    fn has_words(&self, name: NameRef<'_>, fold: impl Fn(u64) -> u64) -> bool {
        name.words(|at, word| self.name.get(at).is_some_and(|ours| fold(word) == ours.load(Relaxed)))
    }

    #[inline]
    fn packed(&self) -> [u64; PACKED] {
        array::from_fn(|at| self.addrs[at].load(Relaxed))
    }

    #[inline]
    fn many(&self) -> Option<Many> {
        if self.has_many.load(Relaxed) { self.load_many() } else { None }
    }

    #[inline(never)]
    fn load_many(&self) -> Option<Many> {
        self.many.load_full()
    }

    /// Returns the addresses. The holder of the index need not check the version.
    pub(super) fn addrs(&self, source: Source) -> Addrs {
        Addrs::unpacked(self.packed(), self.many(), source)
    }

    /// Returns the hash of the name. The holder of the index need not check the version.
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        self.hash.load(Relaxed)
    }

    /// Sets what there is for a name: another answer, if there is one, stored at that time; and when to do what. With `name` and its
    /// hash, the slot becomes that of another name.
    pub(super) fn fill(&self, name: Option<(NameRef<'_>, u64)>, answer: Option<(&Answer, Coarse)>, ages: Ages) {
        self.version.write(|| {
            if let Some((name, hash)) = name {
                self.hash.store(hash, Relaxed);
                self.len.store(name.len() as u16, Relaxed);
                name.words(|at, word| self.name.get(at).map(|ours| ours.store(folded(word), Relaxed)).is_some());
            }
            if let Some((answer, stored)) = answer {
                self.addrs.iter().zip(answer.packed(stored)).for_each(|(ours, word)| ours.store(word, Relaxed));
                self.set_many(answer.many());
            }
            let Ages { fresh_until, stale_until, settled_at } = ages;
            for (ours, time) in
                [(&self.fresh_until, fresh_until), (&self.stale_until, stale_until), (&self.settled_at, settled_at)]
            {
                ours.store(time.nanos(), Relaxed);
            }
        });
    }

    /// Drops addresses that are not given any more, if they are not stored inline.
    pub(super) fn drop_many(&self) {
        if self.has_many.load(Relaxed) {
            self.version.write(|| self.set_many(None));
        }
    }

    fn set_many(&self, many: Option<&Many>) {
        if many.is_some() || self.has_many.load(Relaxed) {
            self.many.store(many.cloned());
            self.has_many.store(many.is_some(), Relaxed);
        }
    }

    /// Marks the name as visited. Writes only the first time.
    #[inline]
    pub(super) fn visit(&self) {
        // Relaxed: a visit that is lost, or counted for the next name here, spares one name less or more.
        if !self.is_visited.load(Relaxed) {
            self.is_visited.store(true, Relaxed);
        }
    }

    pub(super) fn is_visited(&self) -> bool {
        self.is_visited.load(Relaxed)
    }

    pub(super) fn forget_visits(&self) {
        self.is_visited.store(false, Relaxed);
    }
}
