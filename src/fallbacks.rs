use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;

use crate::addrs::{Addrs, Answer, Source};
use crate::clock::Coarse;
use crate::error::Error;
use crate::name::{Name, NameRef};

/// Addresses that the program gives for names whose lookups fail.
pub(crate) struct Fallbacks {
    table: HashMap<Name, Arc<Fallback>>,
    on_not_found: bool,
    cooldown: Duration,
}

struct Fallback {
    answer: Answer,
    /// Until when the fallback is given without another lookup, by the coarse clock.
    until: AtomicU64,
}

/// A fallback that a caller may get.
pub(crate) struct Standby {
    addrs: Addrs,
    fallback: Arc<Fallback>,
    on_not_found: bool,
    cooldown: Duration,
}

impl Fallbacks {
    /// `cooldown` is how long a fallback that was given is given again without a lookup.
    pub(crate) fn new(table: HashMap<Name, Answer>, on_not_found: bool, cooldown: Duration) -> Self {
        let table = table.into_iter().filter(|(_, answer)| !answer.is_empty());
        let fallback = |answer| Arc::new(Fallback { answer, until: AtomicU64::new(0) });
        Self { table: table.map(|(name, answer)| (name, fallback(answer))).collect(), on_not_found, cooldown }
    }

    /// Returns the fallback of a name, with what `filter` leaves of its addresses.
    pub(crate) fn get(
        &self,
        name: NameRef<'_>,
        filter: impl FnOnce(&Name, Answer) -> Result<Answer, Error>,
    ) -> Option<Standby> {
        if self.table.is_empty() {
            return None;
        }
        let (name, fallback) = self.table.get_key_value(&name)?;
        let answer = filter(name, fallback.answer.clone()).ok()?;
        let addrs = Addrs::looked_up(answer).with_source(Source::Fallback);
        let Self { on_not_found, cooldown, .. } = *self;
        Some(Standby { addrs, fallback: Arc::clone(fallback), on_not_found, cooldown })
    }

    /// Forgets that the fallback of `name`, or any if `None`, was given.
    pub(crate) fn forget(&self, name: Option<NameRef<'_>>) {
        let forget = |fallback: &Arc<Fallback>| fallback.until.store(0, Ordering::Relaxed);
        match name {
            Some(name) => self.table.get(&name).into_iter().for_each(forget),
            None => self.table.values().for_each(forget),
        }
    }
}

impl Standby {
    /// Returns the fallback in place of the error of a lookup, unless the error stands.
    pub(crate) fn in_place_of(&self, error: &Error) -> Option<Addrs> {
        let stands = if error.is_not_found() { !self.on_not_found } else { error.is_final() };
        if stands {
            return None;
        }
        if !error.is_cached() {
            // Relaxed: the number is all there is to know.
            self.fallback.until.store(Coarse::now().after(self.cooldown).nanos(), Ordering::Relaxed);
        }
        Some(self.addrs.clone())
    }

    /// Returns the fallback if it was given a short time ago, so that nobody need wait for another lookup.
    pub(crate) fn in_use(&self) -> Option<Addrs> {
        let until = self.fallback.until.load(Ordering::Relaxed);
        (Coarse::now().nanos() < until).then(|| self.addrs.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::error::ErrorKind;

    fn standby(on_not_found: bool, cooldown: Duration) -> Standby {
        let table = [(Name::parse("a.example").unwrap(), IpAddr::from([192, 0, 2, 1]).into())];
        let fallbacks = Fallbacks::new(table.into_iter().collect(), on_not_found, cooldown);
        assert!(fallbacks.get(NameRef::new("b.example").unwrap(), |_, answer| Ok(answer)).is_none());
        fallbacks.get(NameRef::new("A.example").unwrap(), |_, answer| Ok(answer)).expect("a fallback")
    }

    #[test]
    fn it_replaces_failures_but_no_final_word() {
        use ErrorKind::*;
        for (kind, given, given_if_asked) in [
            (Temporary, true, true),
            (Permanent, true, true),
            (Timeout, true, true),
            (Overloaded, true, true),
            (ThreadRefused, true, true),
            (NotFound, false, true),
            (NoData, false, true),
            (Closed, false, false),
            (Denied, false, false),
        ] {
            for (on_not_found, wanted) in [(false, given), (true, given_if_asked)] {
                let addrs = standby(on_not_found, Duration::ZERO).in_place_of(&kind.into());
                assert_eq!(addrs.is_some(), wanted, "{kind:?}");
                assert!(addrs.is_none_or(|addrs| addrs.source() == Source::Fallback));
            }
        }
    }

    #[test]
    fn it_is_in_use_once_it_was_given_for_a_new_failure() {
        let standby = standby(false, Duration::MAX);
        assert!(standby.in_use().is_none());
        let error = Error::from(ErrorKind::Temporary);
        standby.in_place_of(&error.clone().cached()).expect("a fallback");
        assert!(standby.in_use().is_none(), "the cache has its own time");
        standby.in_place_of(&error).expect("a fallback");
        assert!(standby.in_use().is_some());
        let standby = self::standby(false, Duration::ZERO);
        standby.in_place_of(&error).expect("a fallback");
        assert!(standby.in_use().is_none());
    }

    #[test]
    fn a_flush_of_its_name_or_of_all_forgets_that_it_was_given() {
        let table = [(Name::parse("a.example").unwrap(), IpAddr::from([192, 0, 2, 1]).into())];
        let fallbacks = Fallbacks::new(table.into_iter().collect(), false, Duration::MAX);
        let [name, other] = ["A.example", "b.example"].map(|name| NameRef::new(name).unwrap());
        for (flushed, forgotten) in [(Some(name), true), (None, true), (Some(other), false)] {
            let standby = fallbacks.get(name, |_, answer| Ok(answer)).expect("a fallback");
            standby.in_place_of(&ErrorKind::Temporary.into()).expect("a fallback");
            fallbacks.forget(flushed);
            assert_eq!(standby.in_use().is_none(), forgotten);
        }
    }

    #[test]
    fn one_that_is_denied_or_empty_is_none() {
        let table = ["denied", "empty"].map(|name| (Name::parse(name).unwrap(), Answer::from(Vec::<IpAddr>::new())));
        let mut table: HashMap<_, _> = table.into_iter().collect();
        table.insert(Name::parse("denied").unwrap(), IpAddr::from([10, 0, 0, 1]).into());
        let fallbacks = Fallbacks::new(table, true, Duration::ZERO);
        let deny = |_: &Name, _| Err(ErrorKind::Denied.into());
        assert!(fallbacks.get(NameRef::new("denied").unwrap(), deny).is_none());
        assert!(fallbacks.get(NameRef::new("empty").unwrap(), |_, answer| Ok(answer)).is_none());
    }
}
