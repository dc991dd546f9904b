use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "async-backend")]
use crate::backend::AsyncBackend;
use crate::backend::{Backend, Origin, System};
use crate::cache::Cache;
use crate::engine::{Execution, Limits};
use crate::ffi;
use crate::resolver::Resolver;
use crate::shell::Setup;

/// How a [`Resolver`] is set up. [`Default`] is where every default comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// [`Builder::max_threads`].
    pub max_threads: usize,
    /// [`Builder::max_in_flight`].
    #[cfg(feature = "async-backend")]
    pub max_in_flight: usize,
    /// [`Builder::kept_for_known`].
    pub kept_for_known: usize,
    /// [`Builder::max_queued`].
    pub max_queued: usize,
    /// [`Builder::timeout`]: `None` for no limit.
    pub timeout: Option<Duration>,
    /// [`Builder::cache`].
    pub cache: Cache,
    /// [`Builder::thread_idle`].
    pub thread_idle: Duration,
    /// [`Builder::thread_stack`]: `None` for the platform's default.
    pub thread_stack: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        let max_threads = default_max_threads();
        Self {
            max_threads,
            #[cfg(feature = "async-backend")]
            max_in_flight: default_max_in_flight(),
            kept_for_known: default_kept(max_threads),
            max_queued: 1024,
            timeout: Some(Duration::from_secs(10)),
            cache: Cache::default(),
            thread_idle: Duration::from_secs(10),
            thread_stack: None,
        }
    }
}

/// At most half of the descriptors the process may open, because each call has a socket or a file open.
fn default_max_threads() -> usize {
    ffi::descriptor_limit().map_or(512, |limit| (limit / 2).clamp(1, 512))
}

/// At most a quarter of the descriptors, because a lookup by DNS has two sockets open.
#[cfg(feature = "async-backend")]
fn default_max_in_flight() -> usize {
    ffi::descriptor_limit().map_or(1024, |limit| (limit / 4).clamp(1, 1024))
}

/// An eighth, but at least one, where that leaves one for new names.
fn default_kept(max_calls: usize) -> usize {
    (max_calls / 8).max(1).min(max_calls - 1)
}

impl Config {
    fn limits(&self, execution: Execution, max_calls: usize) -> Limits {
        Limits {
            execution,
            max_calls,
            kept_for_known: self.kept_for_known,
            max_queued: self.max_queued,
            thread_idle: self.thread_idle,
            timeout: self.timeout,
        }
    }
}

/// Sets up a [`Resolver`]; from [`Resolver::builder`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    config: Config,
    /// `None` for the default, which goes by how many calls there may be.
    kept_for_known: Option<usize>,
    origin: Origin,
}

impl Default for Builder {
    fn default() -> Self {
        Self { config: Config::default(), kept_for_known: None, origin: Origin::Blocking(Arc::new(System)) }
    }
}

impl Builder {
    /// Where answers come from. Default: [`System`].
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.origin = Origin::Blocking(Arc::new(backend));
        self
    }

    /// Where answers come from, if not from calls that block but from futures: all on one thread of the resolver's own. Takes the
    /// place of a [`backend`](Self::backend).
    #[cfg(feature = "async-backend")]
    pub fn async_backend(mut self, backend: impl AsyncBackend) -> Self {
        self.origin = Origin::Async(Arc::new(backend));
        self
    }

    /// How answers are cached. Default: [`Cache::new`]; [`Cache::disabled`] for plain `getaddrinfo` semantics.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.config.cache = cache;
        self
    }

    /// How many lookups of a [`backend`](Self::backend) may run at once, each on a thread of its own; at least 1. What comes in
    /// above it waits in the queue.
    ///
    /// A thread counts until it has ended, destructors of thread-locals included. Besides these there is one thread that keeps
    /// the time while there are lookups, and now and then one that wakes callers whose time is up. If wakers block there are
    /// more of the latter: at most 64, or as many as lookups may run.
    ///
    /// Default: 512, as Tokio's blocking pool has it (Go's resolver: 500), and at most half of the descriptors that the
    /// process may open when the builder is made (the soft `RLIMIT_NOFILE`).
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.config.max_threads = threads.max(1);
        self
    }

    /// How many lookups of an [`async_backend`](Self::async_backend) may run at once, on its one thread; at least 1. What comes
    /// in above it waits in the queue.
    ///
    /// Default: 1,024, as many as may wait; and at most a quarter of the descriptors that the process may open when the builder
    /// is made (the soft `RLIMIT_NOFILE`), since a lookup by DNS takes two.
    #[cfg(feature = "async-backend")]
    pub fn max_in_flight(mut self, lookups: usize) -> Self {
        self.config.max_in_flight = lookups.max(1);
        self
    }

    /// How many of the lookups that may run at once only names that have answered before may be; at most all but one. However
    /// many new names hang, known ones then still get through. A name that times out is known no longer.
    ///
    /// Default: an eighth of [`max_threads`](Self::max_threads), or of `max_in_flight` for an async backend, and at least 1.
    pub fn kept_for_known(mut self, lookups: usize) -> Self {
        self.kept_for_known = Some(lookups);
        self
    }

    /// How many names may wait when all threads are taken; further ones are refused at once, with an error that
    /// [`is_overloaded`](crate::Error::is_overloaded). Known names have a queue of their own, with the same bound. Joining a
    /// lookup that is queued or running is never refused.
    ///
    /// Default: 1,024, as Envoy's pending requests.
    pub fn max_queued(mut self, names: usize) -> Self {
        self.config.max_queued = names;
        self
    }

    /// How long each caller waits at most, in the queue and for the call together; `None` for no limit. When the time is up,
    /// the caller gets an error that [`is_timeout`](crate::Error::is_timeout). A call that runs goes on without it, unless it is a
    /// future that nobody else waits for.
    ///
    /// A call that has run for longer than this is taken for stuck: the next caller of its name starts a second one, and
    /// the first answer wins. Without a limit no call is taken for stuck, and no name for one that has stopped answering.
    ///
    /// Default: 10 seconds. glibc gives each name server 5, so that 5 would end just before the second one answers.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.timeout = timeout.into();
        self
    }

    /// How long a thread without work stays. Default: 10 seconds, as in Tokio's blocking pool.
    pub fn thread_idle(mut self, idle: Duration) -> Self {
        self.config.thread_idle = idle;
        self
    }

    /// The stack of each thread of the resolver's, in bytes.
    ///
    /// Default: the platform's for Rust threads (2 MiB, of which a lookup touches some 20 KiB), for the sake of NSS
    /// modules.
    pub fn thread_stack(mut self, bytes: usize) -> Self {
        self.config.thread_stack = Some(bytes);
        self
    }

    /// Makes the resolver. Starts nothing and needs no runtime.
    #[must_use]
    pub fn build(self) -> Resolver {
        let Self { mut config, kept_for_known, origin } = self;
        let (execution, max_calls) = match &origin {
            Origin::Blocking(_) => (Execution::Blocking, config.max_threads),
            #[cfg(feature = "async-backend")]
            Origin::Async(_) => (Execution::Async, config.max_in_flight),
        };
        config.kept_for_known = kept_for_known.unwrap_or(default_kept(max_calls)).min(max_calls - 1);
        let setup = Setup::new(origin, config.limits(execution, max_calls), config.thread_stack, config.cache.clone());
        Resolver::with(config, setup)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}
