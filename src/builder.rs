use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, System};
use crate::engine::Limits;
use crate::resolver::Resolver;

/// How a [`Resolver`] is set up. [`Default`] is where every default comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// [`Builder::max_threads`].
    pub max_threads: usize,
    /// [`Builder::thread_idle`].
    pub thread_idle: Duration,
    /// [`Builder::thread_stack`]: `None` for the platform's default.
    pub thread_stack: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_threads: default_max_threads(), thread_idle: Duration::from_secs(10), thread_stack: None }
    }
}

/// At most half of the descriptors the process may open, because each call has a socket or a file open.
fn default_max_threads() -> usize {
    #[cfg(unix)]
    let descriptors = crate::ffi::descriptor_limit();
    #[cfg(not(unix))]
    let descriptors: Option<usize> = None;
    descriptors.map_or(512, |limit| (limit / 2).clamp(1, 512))
}

impl Config {
    fn limits(&self) -> Limits {
        Limits { max_threads: self.max_threads, thread_idle: self.thread_idle }
    }
}

/// Sets up a [`Resolver`]; from [`Resolver::builder`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    config: Config,
    backend: Arc<dyn Backend>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { config: Config::default(), backend: Arc::new(System) }
    }
}

impl Builder {
    /// Where answers come from. Default: [`System`].
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.backend = Arc::new(backend);
        self
    }

    /// How many lookups may run at once, each on a thread of its own; at least 1. What comes in above it waits in the
    /// queue.
    ///
    /// Default: 512, as Tokio's blocking pool has it (Go's resolver: 500), and at most half of the descriptors that the
    /// process may open when the builder is made (the soft `RLIMIT_NOFILE`).
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.config.max_threads = threads.max(1);
        self
    }

    /// How long a thread without work stays. Default: 10 seconds, as in Tokio's blocking pool.
    pub fn thread_idle(mut self, idle: Duration) -> Self {
        self.config.thread_idle = idle;
        self
    }

    /// The stack of each thread, in bytes.
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
        let limits = self.config.limits();
        Resolver::with(self.config, limits, self.backend)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}
