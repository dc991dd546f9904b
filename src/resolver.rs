use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "hyper")]
use crate::addrs::Addrs;
use crate::addrs::Answer;
use crate::builder::{Builder, Config};
use crate::error::{Error, ErrorKind};
use crate::filter::AddrFilter;
use crate::name::{Name, NameRef};
use crate::order::Order;
use crate::resolving::Resolving;
use crate::shell::{Epochs, Open, Setup};
use crate::shutdown::Shutdown;
use crate::stats::Stats;
use crate::watch::Watch;

/// A handle to a resolver of host names.
///
/// Cloning it is cheap. All clones share the same threads, cache and lookups in progress.
///
/// Making a resolver starts nothing and needs no runtime, so it can be made in a `LazyLock`, before a `fork` or outside of Tokio.
/// Threads start with the first lookup that needs one, and end when they have had no work for a while. In a forked child each
/// clone works as in the parent, with threads of the child's own and an empty cache.
///
/// What the system's lookups do differs between platforms: macOS's do not work in a forked child, for example. [`System`](crate::System#platforms)
/// lists the differences.
///
/// With the feature `hyper` it implements `tower_service::Service` of hyper-util's `Name`. With the feature `reqwest` it implements
/// `reqwest::dns::Resolve`.
///
/// ```
/// # futures::executor::block_on(async {
/// let resolver = gaiter::Resolver::new();
/// for addr in resolver.resolve("localhost").await? {
///     println!("{}", addr.ip());
/// }
/// # Ok::<(), gaiter::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

/// On cache lines of its own, since clones write the reference count beside it, and every hit reads it.
#[repr(align(128))]
struct Shared {
    config: Config,
    epochs: Arc<Epochs>,
    /// Watches have it too.
    open: Arc<Open>,
}

impl Resolver {
    /// Returns a resolver that uses the system's `getaddrinfo`, with the defaults of [`Builder`].
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with(config: Config, setup: Setup) -> Self {
        let epochs = Arc::new(Epochs::new(setup));
        let open = Arc::new(Open(Arc::clone(&epochs)));
        Self { shared: Arc::new(Shared { config, epochs, open }) }
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Looks up the addresses of `name`.
    ///
    /// The lookup begins at once, before the future is polled, inside the span that is current here. Callers of the same name,
    /// ASCII case aside, share one call.
    ///
    /// If `name` is an IPv4 or IPv6 address, the result is that address. An IPv6 address may be in brackets (`[::1]`). Any other name
    /// goes to the backend as it is. It has no port, there is no IDNA conversion, and `a` and `a.` are different names.
    ///
    /// # Errors
    ///
    /// The future returns the backend's error, or an error of one of the resolver's own [kinds](crate::ErrorKind):
    /// `InvalidName`, `Denied`, `Timeout`, `Overloaded`, `Closed`, `Panicked`, `ThreadRefused`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the lookup. See [`Resolving`].
    #[inline]
    pub fn resolve(&self, name: impl AsRef<str>) -> Resolving {
        match self.shared.epochs.setup().policy.order() {
            Order::Platform => self.resolve_unordered(name.as_ref()),
            order => self.resolve_in(order, name.as_ref()),
        }
    }

    // Apart from the usual case, which builds a hit in place and keeps it in registers.
    #[inline(never)]
    fn resolve_in(&self, order: Order, text: &str) -> Resolving {
        let mut resolving = self.resolve_unordered(text);
        resolving.arrange(order);
        resolving
    }

    /// Starts a lookup. Addresses that are there at once are in the backend's order.
    #[inline]
    fn resolve_unordered(&self, text: &str) -> Resolving {
        let epochs = &self.shared.epochs;
        let policy = &epochs.setup().policy;
        let is_closed = epochs.setup().is_closed();
        if let Some(name) = NameRef::new(text) {
            if let Some(ip) = name.literal() {
                let addrs = if is_closed { Err(ErrorKind::Closed.into()) } else { policy.literal(ip, name) };
                return Resolving::ready(addrs);
            }
            if !is_closed {
                if let Some(given) = policy.overridden(name) {
                    return Resolving::ready(given);
                }
                if let Some(cached) = epochs.current().cached(name, Resolving::ready) {
                    return cached;
                }
            }
        }
        let name = Name::parse(text).map_err(|why| Error::invalid_name(text, why));
        match name.and_then(|name| policy.check_name(&name).map(|()| name)) {
            Ok(name) => Resolving::start(epochs, name),
            Err(_) if is_closed => Resolving::ready(Err(ErrorKind::Closed.into())),
            Err(error) => Resolving::ready(Err(error)),
        }
    }

    /// Watches the addresses of `name`: returns a handle that gives the current ones, and then each set that differs.
    ///
    /// The name is looked up at once and then again whenever an answer expires, whether or not anybody asks for it. See [`Watch`].
    ///
    /// Lookups are as in [`resolve`](Self::resolve), without spans. An IP address, or a name with an
    /// [override](Builder::override_host) at this moment, is given once and does not change.
    #[must_use = "dropping this ends the watch"]
    pub fn watch(&self, name: impl AsRef<str>) -> Watch {
        Watch::new(&self.shared.open, name.as_ref())
    }

    /// Removes all answers and failures from the cache.
    ///
    /// | to have a name looked up again | what happens to its answer | who looks it up |
    /// |---|---|---|
    /// | `flush`, [`flush_name`](Self::flush_name) | it is removed | the next caller |
    /// | [`expire`](Self::expire) | it is kept for failures | the next caller |
    /// | [`refresh`](Self::refresh) | callers get it meanwhile | the resolver, now |
    ///
    /// The result of a lookup in progress goes to the callers that wait for it, and is not cached. Callers who ask after this start a
    /// new lookup.
    pub fn flush(&self) {
        self.shared.epochs.setup().policy.fallbacks().forget(None);
        self.shared.epochs.current().flush(None);
    }

    /// Removes one name from the cache, in any ASCII case. Otherwise works like [`flush`](Self::flush).
    pub fn flush_name(&self, name: impl AsRef<str>) {
        // An invalid name was never stored.
        if let Ok(name) = Name::parse(name.as_ref()) {
            self.shared.epochs.setup().policy.fallbacks().forget(Some(name.borrowed()));
            self.shared.epochs.current().flush(Some(&name));
        }
    }

    /// Makes the cached answer of a name old, in any ASCII case, because it seems to be out of date.
    ///
    /// The next caller waits for a lookup, or joins one that is in progress, except during the [cooldown](crate::CacheConfig::cooldown())
    /// after a failed lookup. If the lookup fails or is slow, the caller gets the old answer, for as long as it may be given
    /// [after an error](crate::CacheConfig::stale_if_error()). "No such name", "no address" and denials are removed from the cache.
    ///
    /// Use it if a connection cannot be established. [`Reconnect`](crate::Reconnect) does so, and limits the number of lookups.
    pub fn expire(&self, name: impl AsRef<str>) {
        // A name that is too long was never stored.
        if let Some(name) = NameRef::new(name.as_ref()) {
            self.shared.epochs.current().expire(name, Duration::ZERO);
        }
    }

    /// Does the same, unless it was done for the name within the cooldown.
    #[cfg(feature = "hyper")]
    pub(crate) fn expire_rarely(&self, name: &str) {
        if let Some(name) = NameRef::new(name) {
            self.shared.epochs.current().expire(name, self.shared.config.cache.cooldown);
        }
    }

    /// Returns the cached addresses of a name, however old they are.
    #[cfg(feature = "hyper")]
    pub(crate) fn peek(&self, name: &str) -> Option<Addrs> {
        self.shared.epochs.current().peek(NameRef::new(name)?)
    }

    /// Starts a lookup of a name in the background, whatever the cache has. Never blocks.
    ///
    /// Callers get what the cache has meanwhile. If it has nothing, as at the start of a program, they join the lookup. The lookup has no
    /// span, begins after those that callers wait for, and takes no place that is [reserved](Builder::reserved_for_known).
    ///
    /// Returns `Ok` if a lookup of the name is in progress now, or if none is needed, as for IP addresses and overrides. If it is a lookup
    /// that callers have started, and all of them leave, an async backend's future is dropped.
    ///
    /// # Errors
    ///
    /// Returns the error that [`resolve`](Self::resolve) gives without a lookup: of the kinds `InvalidName`, `Denied`, `Closed`, or `NoData`
    /// for an override without addresses. Returns one of the kind `Overloaded` if the [queue](Builder::max_queued) of background lookups is
    /// full, and `Other` if the cache is disabled.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let resolver = gaiter::Resolver::new();
    /// for name in ["localhost", "db.example"] {
    ///     if let Err(error) = resolver.refresh(name) {
    ///         eprintln!("{error}");
    ///     }
    /// }
    /// let addrs = resolver.resolve("localhost").await?; // is cached, or joins the lookup
    /// # drop(addrs);
    /// # Ok::<(), gaiter::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn refresh(&self, name: impl AsRef<str>) -> Result<(), Error> {
        let setup = self.shared.epochs.setup();
        if setup.is_closed() {
            return Err(ErrorKind::Closed.into());
        }
        let text = name.as_ref();
        let name = Name::parse(text).map_err(|why| Error::invalid_name(text, why))?;
        if let Some(given) = setup.policy.without_lookup(name.borrowed()) {
            return given.map(drop);
        }
        setup.policy.check_name(&name)?;
        if !setup.cache.is_enabled() {
            return Err(Error::new(ErrorKind::Other, "the resolver has no cache").about(&name));
        }
        self.shared.epochs.current().prefetch(&name)
    }

    /// Sets the addresses of a name, in any ASCII case. Callers get them without a lookup, before any cached answer.
    ///
    /// Replaces an earlier override. Otherwise works like [`Builder::override_host`]. Clones of this resolver have the same overrides. In a
    /// forked child, changes apply to the child alone.
    ///
    /// Lookups in progress go on, and clients go on using their connections. Copies the table of overrides, so this is for hundreds of names
    /// and not for millions.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use std::net::{IpAddr, Ipv4Addr};
    ///
    /// let resolver = gaiter::Resolver::new();
    /// resolver.override_host("api.example", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    /// assert_eq!(resolver.resolve("api.example").await?.source(), gaiter::Source::Override);
    /// assert!(resolver.remove_override("api.example"));
    /// # Ok::<(), gaiter::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn override_host(&self, name: impl AsRef<str>, addrs: impl Into<Answer>) {
        // An invalid name is never looked up.
        if let Ok(name) = Name::parse(name.as_ref()) {
            self.shared.epochs.setup().policy.overrides().insert(&name, &addrs.into());
        }
    }

    /// Removes the override of a name, in any ASCII case. Returns whether there was one.
    ///
    /// From now on callers get the cached answer, or start a lookup.
    pub fn remove_override(&self, name: impl AsRef<str>) -> bool {
        NameRef::new(name.as_ref()).is_some_and(|name| self.shared.epochs.setup().policy.overrides().remove(name))
    }

    /// Sets the [filter](Builder::filter), or removes it with `None`. [Flushes](Self::flush) the cache.
    ///
    /// Callers who ask after this get no answer that only the former filter has checked. Callers who asked before may. In a forked child,
    /// this applies to the child alone.
    pub fn set_filter(&self, filter: impl Into<Option<AddrFilter>>) {
        self.shared.epochs.setup().policy.set_filter(filter.into());
        // After the filter: a lookup that has read the former one is in progress, and its answer is not cached any more.
        self.flush();
    }

    /// Returns the filter, if there is one.
    #[must_use]
    pub fn filter(&self) -> Option<Arc<AddrFilter>> {
        self.shared.epochs.setup().policy.filter()
    }

    /// Checks the host of a URL by the filter, if there is one: see [`AddrFilter::check_host`].
    ///
    /// # Errors
    ///
    /// Returns those of [`AddrFilter::check_host`].
    pub fn check_host(&self, host: &str) -> Result<(), Error> {
        self.filter().map_or(Ok(()), |filter| filter.check_host(host))
    }

    /// Returns statistics. Takes one short lock and copies a few counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.epochs.current().stats()
    }

    /// Brings the gauges and counters of the recorder that is installed up to date with [`stats`](Self::stats). See
    /// [Metrics](crate#metrics).
    ///
    /// Call this before each scrape, or at an interval. Install the recorder before the first call, since each call adds to the
    /// counters what has come since the last. Each call also describes all metrics. A recorder that needs units from the start wants a
    /// call before the first lookup.
    ///
    /// ```
    /// # fn scrape(resolver: &gaiter::Resolver, render: impl Fn() -> String) -> String {
    /// resolver.publish_metrics();
    /// render() // `PrometheusHandle::render`, for one
    /// # }
    /// ```
    ///
    /// If the recorder panics, the panic is caught, and what it has not taken is lost.
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.shared.epochs.current().publish();
    }

    /// Returns whether no thread is left but the timekeeper.
    #[cfg(all(test, gaiter_loom))]
    pub(crate) fn are_threads_joined(&self) -> bool {
        self.shared.epochs.current().are_threads_joined()
    }

    /// Closes the resolver, for all clones. Never blocks.
    ///
    /// From now on [`resolve`](Self::resolve) fails with an error that [`is_closed`](crate::Error::is_closed), also for cached
    /// names, IP addresses and invalid names. Lookups in progress go on. Threads end when they have no more work.
    ///
    /// Dropping the last clone does the same, unless a [`Watch`] is left.
    pub fn close(&self) {
        self.shared.epochs.close();
    }

    /// [Closes](Self::close) the resolver at once, and returns a future that completes when all lookups have finished and all
    /// threads have ended.
    ///
    /// Drain your server first. After this call every lookup fails, also of a cached name, and so do the requests that need one.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn example(
    /// #     listener: tokio::net::TcpListener, app: axum::Router, resolver: gaiter::Resolver, stop: tokio::sync::oneshot::Receiver<()>,
    /// # ) -> std::io::Result<()> {
    /// // Returns when all requests have been answered.
    /// axum::serve(listener, app).with_graceful_shutdown(async { _ = stop.await }).await?;
    ///
    /// let report = resolver.shutdown().within(Duration::from_secs(5)).await;
    /// if !report.is_clean() {
    ///     eprintln!("{report}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// `examples/graceful.rs` bounds both with one grace period.
    pub fn shutdown(&self) -> Shutdown<'static> {
        self.close();
        Shutdown::new(Arc::clone(self.shared.epochs.current()))
    }
}

// A panic that passes through a caller leaves the resolver as it was: panics of backends and subscribers are caught, and none of
// the crate's own code panics while it changes what is shared.
impl UnwindSafe for Resolver {}
impl RefUnwindSafe for Resolver {}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
