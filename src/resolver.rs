use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::addrs::Addrs;
use crate::builder::{Builder, Config};
use crate::error::{Error, ErrorKind};
use crate::name::{Name, NameRef};
use crate::resolving::Resolving;
use crate::shell::{Epochs, Setup};
use crate::shutdown::Shutdown;
use crate::stats::Stats;

/// Resolves host names; the handle that programs hold.
///
/// Cheap to clone: all clones share one set of threads and the lookups in progress. Making one starts nothing and needs
/// no runtime, so it may be made in a `LazyLock`, before a `fork` or outside of Tokio; threads start with the first lookup
/// that needs one and leave when they have idled. In a forked child every clone works as in the parent, with threads of the
/// child's own.
///
/// With the `hyper` feature it is a `tower_service::Service` of hyper-util's `Name`, with `reqwest` a
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

struct Shared {
    config: Config,
    epochs: Arc<Epochs>,
}

/// The last handle is gone: what runs ends on its own, and threads leave as soon as they have nothing to do. A future that a
/// fork has copied may still ask anew.
impl Drop for Shared {
    fn drop(&mut self) {
        self.epochs.current().close();
    }
}

impl Resolver {
    /// A resolver with the system's `getaddrinfo` and the defaults of [`Builder`].
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// For a resolver with other settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with(config: Config, setup: Setup) -> Self {
        Self { shared: Arc::new(Shared { config, epochs: Arc::new(Epochs::new(setup)) }) }
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Looks up the addresses of `name`. The lookup begins now, in the span that is current now.
    ///
    /// An IPv4 or IPv6 address is answered with itself at once, and an IPv6 address in brackets (`[::1]`) with the address.
    /// Callers who ask for a name while it is being looked up (its ASCII case aside) share that lookup.
    ///
    /// # Errors
    ///
    /// The future gives an [`Error`](crate::Error): the platform's reason, or one of the resolver's own
    /// [kinds](crate::ErrorKind): `InvalidName`, `Timeout`, `Overloaded`, `Closed`, `Panicked`, `ThreadRefused`.
    ///
    /// # Cancel safety
    ///
    /// See [`Resolving`]: dropping the future leaves the lookup at once and affects nobody else.
    #[inline]
    pub fn resolve(&self, name: impl AsRef<str>) -> Resolving {
        let epochs = &self.shared.epochs;
        let text = name.as_ref();
        let is_closed = epochs.setup().is_closed();
        if let Some(name) = NameRef::new(text) {
            if let Some(ip) = name.literal() {
                let addrs = if is_closed { Err(ErrorKind::Closed.into()) } else { Ok(Addrs::literal(ip)) };
                return Resolving::ready(addrs);
            }
            if !is_closed {
                if let Some(cached) = epochs.current().cached(name, Resolving::ready) {
                    return cached;
                }
            }
        }
        match Name::parse(text) {
            Ok(name) => Resolving::start(epochs, name),
            Err(_) if is_closed => Resolving::ready(Err(ErrorKind::Closed.into())),
            Err(why) => Resolving::ready(Err(Error::invalid_name(text, why))),
        }
    }

    /// Forgets every cached answer and failure. What is being looked up now is given to those who wait for it, and not kept;
    /// who asks from now on starts a new lookup.
    pub fn flush(&self) {
        self.shared.epochs.current().flush(None);
    }

    /// [Flushes](Self::flush) one name, in any ASCII case.
    pub fn flush_name(&self, name: impl AsRef<str>) {
        // What is not a name was never stored.
        if let Ok(name) = Name::parse(name.as_ref()) {
            self.shared.epochs.current().flush(Some(&name));
        }
    }

    /// What the resolver is doing and has done. Cheap: one short lock and a copy of a few counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.epochs.current().stats()
    }

    /// Whether none is left but the timekeeper.
    #[cfg(all(test, gaiter_loom))]
    pub(crate) fn are_threads_joined(&self) -> bool {
        self.shared.epochs.current().are_threads_joined()
    }

    /// Stops admission, on every clone: whatever is asked from now on gets an error that
    /// [`is_closed`](crate::Error::is_closed), IP addresses and invalid names included. What is outstanding goes on, and threads leave when they
    /// have nothing more to do. Never blocks.
    ///
    /// Dropping the last clone does the same.
    pub fn close(&self) {
        self.shared.epochs.close();
    }

    /// [Closes](Self::close) the resolver, now, and gives a future that completes when every outstanding lookup has finished
    /// and every thread of the resolver has left.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn example(resolver: gaiter::Resolver) {
    /// let report = resolver.shutdown().within(Duration::from_secs(5)).await;
    /// if !report.is_clean() {
    ///     eprintln!("{report}");
    /// }
    /// # }
    /// ```
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
