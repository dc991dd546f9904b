use std::fmt;
use std::sync::Arc;

use crate::addrs::Addrs;
use crate::backend::Backend;
use crate::builder::{Builder, Config};
use crate::engine::Limits;
use crate::name::{self, Name};
use crate::resolving::Resolving;
use crate::threads::Threads;

/// Resolves host names; the handle that programs hold.
///
/// Cheap to clone: all clones share one set of threads and the lookups in progress. Making one starts nothing and needs
/// no runtime, so it may be made in a `static`, before a `fork` or outside of Tokio; threads start with the first lookup
/// that needs one and leave when they have idled.
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
    threads: Arc<Threads>,
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

    pub(crate) fn with(config: Config, limits: Limits, backend: Arc<dyn Backend>) -> Self {
        let threads = Arc::new(Threads::new(backend, limits, config.thread_stack));
        Self { shared: Arc::new(Shared { config, threads }) }
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Looks up the addresses of `name`. The lookup begins now, in the span that is current now.
    ///
    /// An IPv4 or IPv6 address is answered with itself at once. Callers who ask for a name while it is being looked up (its
    /// ASCII case aside) share that lookup.
    ///
    /// # Errors
    ///
    /// The future gives an [`Error`](crate::Error): the platform's reason, or [`ErrorKind`](crate::ErrorKind)'s
    /// `InvalidName`, `Panicked` or `ThreadRefused`.
    ///
    /// # Cancel safety
    ///
    /// See [`Resolving`]: dropping the future leaves the lookup at once and affects nobody else.
    pub fn resolve(&self, name: impl AsRef<str>) -> Resolving {
        let name = name.as_ref();
        if let Some(ip) = name::literal(name) {
            return Resolving::ready(Ok(Addrs::literal(ip)));
        }
        match Name::parse(name) {
            Ok(name) => Resolving::start(&self.shared.threads, name),
            Err(error) => Resolving::ready(Err(error)),
        }
    }
}

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
