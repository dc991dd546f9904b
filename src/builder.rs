use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::addrs::Answer;
#[cfg(feature = "async-backend")]
use crate::backend::AsyncBackend;
use crate::backend::{Backend, Origin, System};
use crate::cache::CacheConfig;
use crate::engine::{Execution, Hedge, Limits};
use crate::family::Family;
use crate::ffi;
use crate::filter::AddrFilter;
#[cfg(feature = "metrics")]
use crate::metrics::Labels;
use crate::name::Name;
use crate::order::Order;
use crate::policy::Rules;
use crate::resolver::Resolver;
use crate::shell::{Setup, schedule};

/// The settings of a [`Resolver`], from [`Resolver::config`].
///
/// Each field is the value of the [`Builder`] method of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Maximum number of lookups that run at once: [`Builder::max_lookups`].
    pub max_lookups: usize,
    /// Number of these reserved for known names: [`Builder::reserved_for_known`].
    pub reserved_for_known: usize,
    /// Maximum number of names in each queue: [`Builder::max_queued`].
    pub max_queued: usize,
    /// Longest time that a caller waits, or `None` for no limit: [`Builder::timeout`].
    pub timeout: Option<Duration>,
    /// When a slow call gets a second one: [`Builder::hedge`].
    pub hedge: Hedge,
    /// Settings of the cache: [`Builder::cache`].
    pub cache: CacheConfig,
    /// Which families of addresses callers get: [`Builder::family`].
    pub family: Family,
    /// In which order each caller gets addresses: [`Builder::order`].
    pub order: Order,
    /// Whether fallbacks are also used for names that do not exist: [`Builder::fallback_on_not_found`].
    pub fallback_on_not_found: bool,
    /// Whether lookups have a span: [`Builder::spans`].
    pub spans: bool,
    /// Name of the resolver in metrics: [`Builder::metrics_label`].
    #[cfg(feature = "metrics")]
    pub metrics_label: Option<Arc<str>>,
    /// Whether metrics have the names that are looked up: [`Builder::metrics_question_name`].
    #[cfg(feature = "metrics")]
    pub metrics_question_name: bool,
    /// How long a thread stays without work: [`Builder::thread_keep_alive`].
    pub thread_keep_alive: Duration,
    /// Maximum number of threads that run lookups of an async backend: [`Builder::driver_threads`].
    #[cfg(feature = "async-backend")]
    pub driver_threads: usize,
    /// Stack size of each thread in bytes, or `None` for std's default: [`Builder::thread_stack_size`].
    pub thread_stack_size: Option<usize>,
}

impl Config {
    fn limits(&self, execution: Execution) -> Limits {
        Limits {
            execution,
            max_calls: self.max_lookups,
            reserved_for_known: self.reserved_for_known,
            max_queued: self.max_queued,
            thread_keep_alive: self.thread_keep_alive,
            timeout: self.timeout,
            patience: self.cache.stale_answer_timeout,
            hedge: self.hedge,
            schedule: schedule(&self.cache),
        }
    }
}

/// A builder of a [`Resolver`], from [`Resolver::builder`].
///
/// - Where answers come from: [`backend`](Self::backend), [`async_backend`](Self::async_backend), [`override_host`](Self::override_host),
///   [`fallback_host`](Self::fallback_host).
/// - Which answers callers get: [`cache`](Self::cache), [`family`](Self::family), [`order`](Self::order), [`filter`](Self::filter).
/// - How long they wait, and for what: [`timeout`](Self::timeout), [`hedge`](Self::hedge), [`max_lookups`](Self::max_lookups),
///   [`reserved_for_known`](Self::reserved_for_known), [`max_queued`](Self::max_queued).
/// - What others see of it: [`spans`](Self::spans), [`metrics_label`](Self::metrics_label),
///   [`metrics_question_name`](Self::metrics_question_name).
/// - Its threads: [`driver_threads`](Self::driver_threads), [`thread_keep_alive`](Self::thread_keep_alive),
///   [`thread_stack_size`](Self::thread_stack_size).
///
/// ```
/// use std::time::Duration;
/// use gaiter::{CacheConfig, Resolver};
///
/// let resolver = Resolver::builder()
///     .timeout(Duration::from_secs(3))
///     .cache(CacheConfig::new().ttl(Duration::from_secs(10)))
///     .build();
/// assert_eq!(resolver.config().max_queued, 1024);
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    origin: Origin,
    /// `None` for the default, which depends on the backend.
    max_lookups: Option<usize>,
    /// `None` for the default, which depends on `max_lookups`.
    reserved_for_known: Option<usize>,
    max_queued: usize,
    timeout: Option<Duration>,
    hedge: Hedge,
    cache: CacheConfig,
    rules: Rules,
    spans: bool,
    #[cfg(feature = "metrics")]
    labels: Labels,
    thread_keep_alive: Duration,
    #[cfg(feature = "async-backend")]
    driver_threads: usize,
    thread_stack_size: Option<usize>,
}

/// The only source of default values, beside [`CacheConfig`]'s.
impl Default for Builder {
    fn default() -> Self {
        Self {
            origin: Origin::Blocking(Arc::new(System)),
            max_lookups: None,
            reserved_for_known: None,
            max_queued: 1024,
            timeout: Some(Duration::from_secs(10)),
            hedge: Hedge::adaptive(),
            cache: CacheConfig::default(),
            rules: Rules::default(),
            spans: true,
            #[cfg(feature = "metrics")]
            labels: Labels::default(),
            thread_keep_alive: Duration::from_secs(10),
            #[cfg(feature = "async-backend")]
            driver_threads: 1,
            thread_stack_size: None,
        }
    }
}

impl Builder {
    /// Sets where answers come from. Default: [`System`].
    ///
    /// Replaces an async backend that was set before.
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.origin = Origin::Blocking(Arc::new(backend));
        self
    }

    /// Sets an async backend as the source of answers. Its futures run on [threads](Self::driver_threads) of the resolver's own.
    ///
    /// Replaces a [`backend`](Self::backend) that was set before.
    #[cfg(feature = "async-backend")]
    pub fn async_backend(mut self, backend: impl AsyncBackend) -> Self {
        self.origin = Origin::Async(Arc::new(backend));
        self
    }

    /// Sets how answers are cached. Default: [`CacheConfig::new`].
    ///
    /// [`CacheConfig::disabled`] caches nothing.
    pub fn cache(mut self, cache: CacheConfig) -> Self {
        self.cache = cache;
        self
    }

    /// Sets which families of addresses callers get, and in which order. Default: [`Family::Any`].
    ///
    /// Applies to answers of the backend, before the [filter](Self::filter). IP addresses, overrides and fallbacks stay as they are.
    pub fn family(mut self, family: Family) -> Self {
        self.rules.family = family;
        self
    }

    /// Sets in which order each caller gets the addresses of a name. Default: [`Order::Platform`].
    ///
    /// Applies to each caller, after the cache. [`Order`] says to which answers.
    pub fn order(mut self, order: Order) -> Self {
        self.rules.order = order;
        self
    }

    /// Sets which names may be looked up, and which addresses are let through. Default: `None`, for all.
    ///
    /// [`Resolver::set_filter`] changes it later. See [`AddrFilter`] for what a filter protects, and what it cannot.
    pub fn filter(mut self, filter: impl Into<Option<AddrFilter>>) -> Self {
        self.rules.filter = filter.into();
        self
    }

    /// Sets the addresses of a name, in any ASCII case, as `curl --resolve` does. Callers get them without a lookup, with the source
    /// [`Override`](crate::Source::Override). Default: no overrides.
    ///
    /// The name is the one that callers ask for, without a search list. `a` and `a.` are different names. Names that are IP addresses,
    /// or [invalid](crate::ErrorKind::InvalidName), have no override. Without addresses, the name has none: callers get an error of the
    /// kind [`NoData`](crate::ErrorKind::NoData). The TTL does not count.
    ///
    /// hyper and reqwest use the port of an address if the URL has none. A [filter](Self::filter) applies, unless overrides are
    /// [exempt](AddrFilter::exempt_overrides).
    ///
    /// [`Resolver::override_host`] and [`Resolver::remove_override`] change overrides later. A client goes on using the connections in
    /// its pool. reqwest's own `resolve()` goes before any resolver, and so before overrides, filter and statistics.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use gaiter::Resolver;
    ///
    /// let staging: SocketAddr = "192.0.2.1:8443".parse()?;
    /// let resolver = Resolver::builder().override_host("api.example", staging).build();
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn override_host(mut self, name: impl AsRef<str>, addrs: impl Into<Answer>) -> Self {
        if let Ok(name) = Name::parse(name.as_ref()) {
            self.rules.overrides.insert(name, addrs.into());
        }
        self
    }

    /// Sets addresses that callers get if a lookup of the name has failed, with the source [`Fallback`](crate::Source::Fallback).
    /// Default: no fallbacks.
    ///
    /// They are given in place of any error of a lookup, timeouts and overload included, but not if the name does not exist or has no
    /// address (see [`fallback_on_not_found`](Self::fallback_on_not_found)), is denied, or the resolver is closed. An old answer of the
    /// name's own is given first.
    ///
    /// Once it was given, a fallback is given without another lookup for the [`cooldown`](CacheConfig::cooldown()), unless the cache is
    /// disabled. Names, ports and TTLs count as for [`override_host`](Self::override_host). A [filter](Self::filter) applies, unless
    /// fallbacks are [exempt](AddrFilter::exempt_overrides). A fallback that it denies is not given.
    pub fn fallback_host(mut self, name: impl AsRef<str>, addrs: impl Into<Answer>) -> Self {
        if let Ok(name) = Name::parse(name.as_ref()) {
            self.rules.fallbacks.insert(name, addrs.into());
        }
        self
    }

    /// Sets whether [fallbacks](Self::fallback_host) are also given if the name does not exist or has no address. Default: `false`.
    ///
    /// For networks whose name servers lie about names that they block.
    pub fn fallback_on_not_found(mut self, yes: bool) -> Self {
        self.rules.fallback_on_not_found = yes;
        self
    }

    /// Sets the maximum number of lookups that this resolver runs at once. At least 1. Callers of the same name share one.
    ///
    /// Further names wait in a [queue](Self::max_queued). A lookup of a blocking backend has a thread of its own until it
    /// returns, even if its callers have left. Lookups of an async backend share [one thread or a few](Self::driver_threads).
    ///
    /// Default: 512 for a blocking backend, as in Tokio's blocking pool (Go's resolver: 500), and at most half of the
    /// descriptors that the process may open (the soft `RLIMIT_NOFILE`), because each call has a socket or a file open. 1,024
    /// for an async backend, and at most a quarter of the descriptors, because a lookup by DNS has two sockets open. The limit
    /// on descriptors is read when the resolver is built.
    ///
    /// # Threads
    ///
    /// | name | what it does | how many |
    /// |---|---|---|
    /// | `gaiter` | makes calls of a blocking backend | at most `max_lookups`, until destructors of thread-locals have run |
    /// | `gaiter-driver` | runs futures of an async backend | [`driver_threads`](Self::driver_threads) |
    /// | `gaiter-time` | keeps deadlines, and ends after the others | 1 |
    /// | `gaiter-errand` | wakes callers whose deadline has passed, for short times | 1; while wakers block, at most 64, or `max_lookups` if that is more |
    pub fn max_lookups(mut self, lookups: usize) -> Self {
        self.max_lookups = Some(lookups.max(1));
        self
    }

    /// Sets the number of concurrent lookups reserved for names that have answered before.
    ///
    /// A name is *known* once a call has returned addresses, or that there are none, within the [timeout](Self::timeout). Known
    /// names get through however many new names hang. A known name counts as new again if a call for it runs for longer than
    /// the timeout, or after 2,048 to 4,096 other names have answered. [`Resolver::flush`] does not affect which names are known.
    ///
    /// The other lookups are for new names and for background refreshes. A *zone* is the last two labels of a name, such as `example.com`
    /// (and `co.uk`). A zone gets at most half of them while it is silent: no call for it has been answered for a second, or that many
    /// of its calls have run for more than a second each. Its further names wait in a queue of their own.
    ///
    /// At most all but one of [`max_lookups`](Self::max_lookups). Larger values are reduced to that.
    ///
    /// Default: an eighth of `max_lookups`, at least 1 unless `max_lookups` is 1.
    pub fn reserved_for_known(mut self, lookups: usize) -> Self {
        self.reserved_for_known = Some(lookups);
        self
    }

    /// Sets the maximum number of names in each queue. Names are queued when no more lookups may run.
    ///
    /// Known names, new names, names of zones that do not answer, and background refreshes have a queue each. If its queue is
    /// full, a name is refused at once, with an error that [`is_overloaded`](crate::Error::is_overloaded), and a refresh is
    /// skipped. Joining a lookup that is queued or running is never refused.
    ///
    /// Default: 1,024, as Envoy's pending requests.
    pub fn max_queued(mut self, names: usize) -> Self {
        self.max_queued = names;
        self
    }

    /// Sets the longest time that a caller waits, in the queue and for the call together; `None` for no limit.
    ///
    /// When it has passed, the caller gets an old answer or a [fallback](Self::fallback_host) if there is one, and otherwise an error that
    /// [`is_timeout`](crate::Error::is_timeout). A blocking call goes on without it. The future of an async backend is dropped if nobody
    /// else waits for it.
    ///
    /// A call that has run for longer than this counts as stuck: the next caller of its name starts a second call, and the first answer
    /// wins. The name then counts as new until it has [answered again](Self::reserved_for_known). Without a limit no call counts as stuck.
    ///
    /// For a limit of one lookup, put it into `tokio::time::timeout`, or use [`wait_timeout`](crate::Resolving::wait_timeout).
    ///
    /// Default: 10 seconds. glibc waits 5 seconds for each name server, so a limit of 5 seconds would end just before the second
    /// server answers. With a shorter limit, lookups time out while one name server is down, unless the [second call](Self::hedge) is
    /// answered.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets when a call that is slow gets a second one. Default: [`Hedge::adaptive`].
    ///
    /// The future of an async backend is dropped when the other call has answered. A blocking call runs to its end.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.hedge = hedge;
        self
    }

    /// Sets whether lookups have the span [`resolve`](crate#tracing). Default: `true`.
    ///
    /// `false` is for the client of an exporter of spans, whose lookups would otherwise be exported too, and lead to another export each
    /// time. See [Exporters](crate#exporters). A backend's own spans and events are then in the span that is current when the caller asks.
    pub fn spans(mut self, yes: bool) -> Self {
        self.spans = yes;
        self
    }

    /// Sets the value of the label `gaiter.resolver`, which all [metrics](crate#metrics) of this resolver then have. Default: no
    /// such label.
    ///
    /// For a program with several resolvers. Without it, their counters add up, and gauges are those of the resolver that published
    /// last.
    #[cfg(feature = "metrics")]
    pub fn metrics_label(mut self, resolver: impl Into<Arc<str>>) -> Self {
        self.labels.resolver = Some(resolver.into());
        self
    }

    /// Sets whether the metric `dns.lookup.duration` has the label `dns.question.name`. Default: `false`.
    ///
    /// The semantic conventions of OpenTelemetry require the label. But an exporter keeps a histogram for each of its values, usually for
    /// ever. So this is only for programs that look up few names, and none that strangers choose.
    #[cfg(feature = "metrics")]
    pub fn metrics_question_name(mut self, yes: bool) -> Self {
        self.labels.question_name = yes;
        self
    }

    /// Sets how long a thread stays when it has no work. Default: 10 seconds, as in Tokio's blocking pool.
    pub fn thread_keep_alive(mut self, duration: Duration) -> Self {
        self.thread_keep_alive = duration;
        self
    }

    /// Sets the maximum number of threads that run the futures of an async backend. At least 1. Default: 1.
    ///
    /// Each of these threads, the [drivers](crate::AsyncBackend#the-drivers), has a runtime and a session of its own. A lookup
    /// runs on the driver that has the fewest, whatever its name. A driver starts with the first lookup that finds all others
    /// busy.
    ///
    /// A driver uses at most one processor. More than one driver pays off at thousands of lookups per second, if the program
    /// leaves processors to them. At lower rates one is cheaper, because all lookups share its session.
    ///
    /// A blocking [`backend`](Self::backend) has no driver.
    #[cfg(feature = "async-backend")]
    pub fn driver_threads(mut self, threads: usize) -> Self {
        self.driver_threads = threads.max(1);
        self
    }

    /// Sets the stack size of the resolver's threads, in bytes.
    ///
    /// If the platform cannot start a thread with such a stack, lookups fail with
    /// [`ErrorKind::ThreadRefused`](crate::ErrorKind::ThreadRefused).
    ///
    /// Default: std's, usually 2 MiB. A lookup touches about 20 KiB. The rest is for NSS modules.
    pub fn thread_stack_size(mut self, bytes: usize) -> Self {
        self.thread_stack_size = Some(bytes);
        self
    }

    /// Returns a resolver with these settings. Starts nothing, and needs no runtime.
    #[must_use]
    pub fn build(self) -> Resolver {
        let execution = match &self.origin {
            Origin::Blocking(_) => Execution::Blocking,
            #[cfg(feature = "async-backend")]
            Origin::Async(_) => Execution::Async,
        };
        let max_lookups = self.max_lookups.unwrap_or_else(|| default_max_lookups(execution));
        // An eighth, but at least one, where that leaves one for new names.
        let reserved_for_known = self.reserved_for_known.unwrap_or((max_lookups / 8).max(1)).min(max_lookups - 1);
        let config = Config {
            max_lookups,
            reserved_for_known,
            max_queued: self.max_queued,
            timeout: self.timeout,
            hedge: self.hedge,
            cache: self.cache,
            family: self.rules.family,
            order: self.rules.order,
            fallback_on_not_found: self.rules.fallback_on_not_found,
            spans: self.spans,
            #[cfg(feature = "metrics")]
            metrics_label: self.labels.resolver.clone(),
            #[cfg(feature = "metrics")]
            metrics_question_name: self.labels.question_name,
            thread_keep_alive: self.thread_keep_alive,
            #[cfg(feature = "async-backend")]
            driver_threads: self.driver_threads,
            thread_stack_size: self.thread_stack_size,
        };
        let mut setup = Setup::new(
            self.origin,
            config.limits(execution),
            config.thread_stack_size,
            config.cache.clone(),
            self.rules,
            #[cfg(feature = "async-backend")]
            config.driver_threads,
        );
        setup.spans = config.spans;
        #[cfg(feature = "metrics")]
        {
            setup.labels = self.labels;
        }
        Resolver::with(config, setup)
    }
}

fn default_max_lookups(execution: Execution) -> usize {
    let (most, descriptors) = match execution {
        Execution::Blocking => (512, 2),
        Execution::Async => (1024, 4),
    };
    ffi::descriptor_limit().map_or(most, |limit| (limit / descriptors).clamp(1, most))
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin: _, max_lookups, reserved_for_known, max_queued, timeout, hedge, cache, rules, .. } = self;
        f.debug_struct("Builder")
            .field("max_lookups", max_lookups)
            .field("reserved_for_known", reserved_for_known)
            .field("max_queued", max_queued)
            .field("timeout", timeout)
            .field("hedge", hedge)
            .field("cache", cache)
            .field("rules", rules)
            .field("spans", &self.spans)
            .field("thread_keep_alive", &self.thread_keep_alive)
            .field("thread_stack_size", &self.thread_stack_size)
            .finish_non_exhaustive()
    }
}
