use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use crate::addrs::Answer;
use crate::name::{Name, NameRef};

/// Addresses that the program gives for names, in place of any lookup. They can be changed while others read them.
///
/// There is no lock, which a fork could leave held.
pub(crate) struct Overrides {
    table: ArcSwap<HashMap<Name, Answer>>,
    /// Odd if there may be overrides. A change makes it larger, so that a removal finds out about those that came meanwhile.
    changes: AtomicUsize,
}

impl Overrides {
    pub(crate) fn new(table: HashMap<Name, Answer>) -> Self {
        Self { changes: AtomicUsize::new(usize::from(!table.is_empty())), table: ArcSwap::from_pointee(table) }
    }

    /// Returns whether there are none. One relaxed load, since every hit calls this.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a thread that must see an override has synchronized with the one that set it.
        self.changes.load(Ordering::Relaxed) & 1 == 0
    }

    pub(crate) fn get(&self, name: NameRef<'_>) -> Option<Answer> {
        self.table.load().get(&name).cloned()
    }

    pub(crate) fn insert(&self, name: &Name, answer: &Answer) {
        self.table.rcu(|table| {
            let mut table = HashMap::clone(table);
            table.insert(name.clone(), answer.clone());
            table
        });
        // After the table, so that a removal that has not seen the override does not clear the bit.
        let changed = |changes: usize| Some(changes.wrapping_add(2) | 1);
        _ = self.changes.fetch_update(Ordering::AcqRel, Ordering::Relaxed, changed);
    }

    /// Returns whether there was an override.
    pub(crate) fn remove(&self, name: NameRef<'_>) -> bool {
        let changes = self.changes.load(Ordering::Acquire);
        let before = self.table.rcu(|table| {
            let mut table = HashMap::clone(table);
            table.remove(&name);
            table
        });
        let had = before.contains_key(&name);
        if before.len() == usize::from(had) {
            self.set_empty(changes);
        }
        had
    }

    /// Notes that there are none, unless there was a change after `changes` was read.
    fn set_empty(&self, changes: usize) {
        let none = changes.wrapping_add(2) & !1;
        _ = self.changes.compare_exchange(changes, none, Ordering::AcqRel, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn answer(last: u8) -> Answer {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn one_is_found_in_any_case_until_it_is_removed() {
        let overrides = Overrides::new(HashMap::new());
        let name = Name::parse("a.Example").unwrap();
        let find = |text| overrides.get(NameRef::new(text).unwrap());
        assert!(overrides.is_empty() && find("a.example").is_none());
        overrides.insert(&name, &answer(1));
        overrides.insert(&name, &answer(2));
        assert!(!overrides.is_empty());
        assert_eq!(find("A.example"), Some(answer(2)));
        assert_eq!(find("a.example."), None);
        assert!(!overrides.remove(NameRef::new("b").unwrap()) && !overrides.is_empty());
        assert!(overrides.remove(NameRef::new("A.EXAMPLE").unwrap()));
        assert!(overrides.is_empty() && find("a.example").is_none());
        assert!(!overrides.remove(name.borrowed()) && overrides.is_empty());
    }

    #[test]
    fn one_that_comes_while_the_last_is_removed_is_not_lost() {
        let overrides = Overrides::new(HashMap::new());
        let [first, second] = ["first", "second"].map(|name| Name::parse(name).unwrap());
        overrides.insert(&first, &answer(1));
        // What `remove` does, and the other in between.
        let changes = overrides.changes.load(Ordering::Acquire);
        overrides.table.store(Arc::default());
        overrides.insert(&second, &answer(2));
        overrides.set_empty(changes);
        assert!(!overrides.is_empty());
        // Not even if yet another removal has ended meanwhile.
        assert!(overrides.remove(second.borrowed()) && overrides.is_empty());
        overrides.insert(&second, &answer(2));
        overrides.set_empty(changes);
        assert!(!overrides.is_empty());
    }

    /// Each thread must see its own override as soon as it is set, whatever others remove meanwhile.
    #[test]
    fn those_of_other_threads_are_never_lost() {
        let overrides = Overrides::new(HashMap::new());
        let turns = if cfg!(miri) { 10 } else { 2_000 };
        thread::scope(|scope| {
            for number in 0..3 {
                let overrides = &overrides;
                scope.spawn(move || {
                    let name = Name::parse(&format!("name-{number}")).unwrap();
                    for _ in 0..turns {
                        overrides.insert(&name, &answer(number));
                        assert!(!overrides.is_empty());
                        assert_eq!(overrides.get(name.borrowed()), Some(answer(number)));
                        assert!(overrides.remove(name.borrowed()));
                    }
                });
            }
        });
        assert!(overrides.table.load().is_empty());
    }
}
