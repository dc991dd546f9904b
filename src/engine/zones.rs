use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashTable;

use super::slab::{Key, List, Slab};
use crate::sync::Instant;

/// How long an answer of a zone counts. A zone without one is silent.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ZoneId(Key);

/// The zones of new names that are called for. They keep a silent zone from taking all places for new names.
///
/// A zone is *blocked* while it has half of the places, and either has had no answer for a second, or has them with calls that
/// have each run for longer than that. Its further names are *parked* until it is open again. At most two zones are blocked
/// at once.
#[derive(Debug)]
pub(super) struct Zones {
    zones: Slab<Zone, 0>,
    by_hash: HashTable<ZoneId>,
    /// Half of the places, rounded up.
    half: usize,
    /// Number of parked names.
    parked: usize,
    /// Zones with parked names, by the place of the first.
    parking: BTreeMap<u64, ZoneId>,
}

/// The kind of list that names are in while they are queued or parked.
pub(super) const LANE: usize = 0;

#[derive(Debug)]
struct Zone {
    /// The hash of its name. Two zones with the same hash count as one, which does little harm.
    hash: u64,
    /// Number of calls that run.
    running: usize,
    /// Number of these that have run for long.
    long: usize,
    last_answer: Option<Instant>,
    parked: List<LANE>,
    /// The place of the first parked name.
    first: Option<u64>,
}

impl Zones {
    pub(super) fn new(places: usize) -> Self {
        Self {
            zones: Slab::new(),
            by_hash: HashTable::new(),
            half: places.div_ceil(2).max(1),
            parked: 0,
            parking: BTreeMap::new(),
        }
    }

    /// Returns the number of parked names.
    #[inline]
    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    /// Returns whether calls must be counted, given their number: early enough that all have been when a zone could be blocked,
    /// and late enough that a few calls cost nothing.
    #[inline]
    pub(super) fn must_count(&self, running: usize) -> bool {
        running >= self.half.div_ceil(2)
    }

    /// Returns whether a zone could be blocked, given the number of calls in all of them. If so, they must be counted, too.
    #[inline]
    pub(super) fn may_block(&self, running: usize) -> bool {
        running >= self.half
    }

    /// Returns the zone with that hash, if it is blocked.
    pub(super) fn blocked(&self, hash: u64, now: Instant) -> Option<ZoneId> {
        self.find(hash).filter(|&zone| self.is_blocked(zone, now))
    }

    fn find(&self, hash: u64) -> Option<ZoneId> {
        self.by_hash.find(hash, |zone| self.zones.get(zone.0).is_some_and(|zone| zone.hash == hash)).copied()
    }

    fn is_blocked(&self, zone: ZoneId, now: Instant) -> bool {
        let Some(zone) = self.zones.get(zone.0) else { return false };
        let is_silent = zone.last_answer.is_none_or(|last| now.saturating_duration_since(last) > PATIENCE);
        zone.running >= self.half && (is_silent || zone.long >= self.half)
    }

    /// Counts a call that begins.
    pub(super) fn begin(&mut self, hash: u64) -> ZoneId {
        let zone = self.find(hash).unwrap_or_else(|| self.add(hash));
        if let Some(entry) = self.zones.get_mut(zone.0) {
            entry.running += 1;
        }
        zone
    }

    fn add(&mut self, hash: u64) -> ZoneId {
        let zone = Zone { hash, running: 0, long: 0, last_answer: None, parked: List::default(), first: None };
        let zone = ZoneId(self.zones.insert(zone));
        let Self { zones, by_hash, .. } = self;
        by_hash.insert_unique(hash, zone, |zone| zones.get(zone.0).map_or(0, |zone| zone.hash));
        zone
    }

    /// Counts a call that has run for long from now on.
    pub(super) fn lengthen(&mut self, zone: ZoneId) {
        if let Some(entry) = self.zones.get_mut(zone.0) {
            entry.long += 1;
        }
    }

    /// Counts a call that ends. `answered` is false if its result says nothing about the name.
    pub(super) fn end(&mut self, zone: ZoneId, was_long: bool, answered: bool, now: Instant) {
        let Some(entry) = self.zones.get_mut(zone.0) else { return };
        entry.running -= 1;
        entry.long -= usize::from(was_long);
        if answered {
            entry.last_answer = Some(now);
        }
        self.remove_if_over(zone);
    }

    fn remove_if_over(&mut self, zone: ZoneId) {
        let Some(entry) = self.zones.get(zone.0).filter(|zone| zone.running == 0 && zone.parked.len() == 0) else {
            return;
        };
        if let Ok(entry) = self.by_hash.find_entry(entry.hash, |&other| other == zone) {
            entry.remove();
        }
        self.zones.remove(zone.0);
    }

    /// Parks a name of a blocked zone, which had that place in its lane.
    pub(super) fn park<T, const N: usize>(&mut self, zone: ZoneId, names: &mut Slab<T, N>, name: Key, place: u64) {
        let Some(entry) = self.zones.get_mut(zone.0) else { return };
        entry.parked.push_back(names, name);
        self.parked += 1;
        if entry.first.is_none() {
            entry.first = Some(place);
            self.parking.insert(place, zone);
        }
    }

    /// Removes a parked name. `place` returns the place of another.
    pub(super) fn unpark<T, const N: usize>(
        &mut self,
        zone: ZoneId,
        names: &mut Slab<T, N>,
        name: Key,
        place: impl Fn(&T) -> Option<u64>,
    ) {
        let Some(entry) = self.zones.get_mut(zone.0) else { return };
        entry.parked.remove(names, name);
        self.parked -= 1;
        let first = entry.parked.first(names).and_then(|first| place(names.get(first)?));
        if let Some(before) = std::mem::replace(&mut entry.first, first).filter(|before| Some(*before) != first) {
            self.parking.remove(&before);
            first.into_iter().for_each(|first| _ = self.parking.insert(first, zone));
        }
        self.remove_if_over(zone);
    }

    /// Returns the place of the first parked name whose zone is open, and that zone.
    pub(super) fn first_open(&self, now: Instant) -> Option<(u64, ZoneId)> {
        let mut zones = self.parking.iter().map(|(&place, &zone)| (place, zone));
        zones.find(|&(_, zone)| !self.is_blocked(zone, now))
    }

    /// Returns the first parked name of all, or of one zone.
    pub(super) fn first_parked<T, const N: usize>(&self, names: &Slab<T, N>, of: Option<ZoneId>) -> Option<Key> {
        let zone = of.or_else(|| self.parking.first_key_value().map(|(_, &zone)| zone))?;
        self.zones.get(zone.0)?.parked.first(names)
    }

    /// Puts another name in the place of a parked one.
    pub(super) fn replace<T, const N: usize>(&mut self, zone: ZoneId, names: &mut Slab<T, N>, name: Key, other: Key) {
        if let Some(entry) = self.zones.get_mut(zone.0) {
            entry.parked.replace(names, name, other);
        }
    }
}
