use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hashbrown::HashMap;

use crate::addrs::{Addrs, Answer, Source};
use crate::error::{Error, ErrorKind};
use crate::fallbacks::{Fallbacks, Standby};
use crate::family::Family;
use crate::filter::AddrFilter;
use crate::name::{Name, NameRef};
use crate::order::Order;
use crate::overrides::Overrides;

/// What a builder collects for a [`Policy`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) family: Family,
    pub(crate) order: Order,
    pub(crate) filter: Option<AddrFilter>,
    pub(crate) overrides: HashMap<Name, Answer>,
    pub(crate) fallbacks: HashMap<Name, Answer>,
    pub(crate) fallback_on_not_found: bool,
}

/// Which answers are let through, and what takes the place of others. Shared with forked children, so it has no locks.
pub(crate) struct Policy {
    family: Family,
    order: Order,
    filter: ArcSwapOption<AddrFilter>,
    /// Whether there is a filter or was one. Cheaper to read than the filter.
    is_filtered: AtomicBool,
    overrides: Overrides,
    fallbacks: Fallbacks,
}

impl Policy {
    pub(crate) fn new(rules: Rules, cooldown: Duration) -> Self {
        let Rules { family, order, filter, overrides, fallbacks, fallback_on_not_found } = rules;
        Self {
            family,
            order,
            is_filtered: AtomicBool::new(filter.is_some()),
            filter: ArcSwapOption::new(filter.map(Arc::new)),
            overrides: Overrides::new(overrides),
            fallbacks: Fallbacks::new(fallbacks, fallback_on_not_found, cooldown),
        }
    }

    /// Returns the order in which each caller gets addresses.
    #[inline]
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    #[inline]
    pub(crate) fn filter(&self) -> Option<Arc<AddrFilter>> {
        // Relaxed: a thread that must see a filter has synchronized with the one that set it.
        if self.is_filtered.load(Ordering::Relaxed) { self.load_filter() } else { None }
    }

    #[cold]
    fn load_filter(&self) -> Option<Arc<AddrFilter>> {
        self.filter.load_full()
    }

    /// Sets the filter. The cache must be flushed after that.
    pub(crate) fn set_filter(&self, filter: Option<AddrFilter>) {
        self.is_filtered.store(true, Ordering::Relaxed);
        self.filter.store(filter.map(Arc::new));
    }

    /// Returns the result of looking up an address, which callers wrote as `text`.
    #[inline]
    pub(crate) fn literal(&self, ip: IpAddr, text: NameRef<'_>) -> Result<Addrs, Error> {
        match self.filter() {
            None => Ok(Addrs::literal(ip)),
            Some(filter) => filter.check_literal(ip, text.as_str()).map(|()| Addrs::literal(ip)),
        }
    }

    /// Returns the result for a name that is never looked up, because it is an address or has an override.
    pub(crate) fn without_lookup(&self, name: NameRef<'_>) -> Option<Result<Addrs, Error>> {
        match name.literal() {
            Some(ip) => Some(self.literal(ip, name)),
            None => self.overridden(name),
        }
    }

    /// Returns what the program gives for a name in place of a lookup, if it does.
    #[inline]
    pub(crate) fn overridden(&self, name: NameRef<'_>) -> Option<Result<Addrs, Error>> {
        if self.overrides.is_empty() { None } else { self.find_override(name) }
    }

    #[cold]
    fn find_override(&self, name: NameRef<'_>) -> Option<Result<Addrs, Error>> {
        let answer = self.overrides.get(name)?;
        let name = Name::parse(name.as_str()).ok()?;
        let given = if answer.is_empty() { Err(Error::from(ErrorKind::NoData).about(&name)) } else { Ok(answer) };
        let given = given.and_then(|answer| self.filter_own(&name, answer));
        Some(given.map(|answer| Addrs::looked_up(answer).with_source(Source::Override)))
    }

    /// Returns the fallback of a name, if there is one and the filter lets it through.
    pub(crate) fn standby(&self, name: NameRef<'_>) -> Option<Standby> {
        self.fallbacks.get(name, |name, answer| self.filter_own(name, answer))
    }

    pub(crate) fn fallbacks(&self) -> &Fallbacks {
        &self.fallbacks
    }

    /// Returns what the filter lets through of addresses that the program has given.
    fn filter_own(&self, name: &Name, answer: Answer) -> Result<Answer, Error> {
        match self.filter().filter(|filter| !filter.exempts_overrides()) {
            Some(filter) => filter.apply(name, answer),
            None => Ok(answer),
        }
    }

    /// Checks whether a name may be looked up.
    pub(crate) fn check_name(&self, name: &Name) -> Result<(), Error> {
        self.filter().map_or(Ok(()), |filter| filter.check_name(name))
    }

    /// Returns what callers get of the backend's answer.
    pub(crate) fn apply(&self, name: &Name, answer: Answer) -> Result<Answer, Error> {
        if answer.is_empty() {
            return Err(ErrorKind::NoData.into());
        }
        let answer = self.family.apply(answer)?;
        match self.filter() {
            Some(filter) => filter.apply(name, answer),
            None => Ok(answer),
        }
    }
}
