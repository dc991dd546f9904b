//! Resolves host names for async programs with the operating system's own resolver, off the runtime and inside the caller's
//! trace.
//!
//! `getaddrinfo` is the only lookup that honours everything a machine is configured to do: `/etc/hosts`, nsswitch, VPN split
//! DNS, mDNS, search domains. It also blocks, and it cannot be cancelled. gaiter calls it on threads of its own, makes one call
//! for all callers of a name, caches the answer, and keeps each lookup inside its caller's span and on its caller's `tracing`
//! subscriber.
//!
//! ```no_run
//! # #[cfg(feature = "hyper")] {
//! use hyper_util::client::legacy::connect::HttpConnector;
//!
//! let resolver = gaiter::Resolver::new(); // starts nothing
//! let http = HttpConnector::new_with_resolver(resolver.clone());
//! # let _: HttpConnector<gaiter::Resolver> = http;
//! # }
//! ```
//!
//! Without an HTTP client:
//!
//! ```
//! # async fn example() -> Result<(), gaiter::Error> {
//! let resolver = gaiter::Resolver::new();
//! for addr in resolver.resolve("localhost").await?.with_port(8080) {
//!     println!("{addr}");
//! }
//! # Ok(()) }
//! ```
//!
//! # Why not just `spawn_blocking`?
//!
//! `tokio::net::lookup_host` and hyper-util's `GaiResolver` are `getaddrinfo` in `spawn_blocking`. That is fine until names stop
//! answering:
//!
//! - Files and all other blocking work share the pool, which has 512 threads by default. When names that hang hold them all, everything
//!   else waits. gaiter makes its calls on threads of its own.
//! - The end of a runtime waits for the calls that have begun. So a program hangs when it should exit. gaiter's threads keep no program
//!   from exiting.
//! - Each caller of a name makes a call, which goes on if the caller leaves. gaiter makes one call for all callers, and caches the
//!   answer.
//! - A lost packet costs 5 s, because glibc waits that long. gaiter makes a second call after a second at most.
//! - The pool's threads have neither the caller's span nor its scoped subscriber. If the span alone is entered there, tracing may panic or
//!   close a span of another subscriber. gaiter hands over both.
//! - There is no timeout, no typed error, and no answer during an outage.
//!
//! # Path of a lookup
//!
//! ```text
//! caller ─► resolve ─► literal? ─► override? ─► cache ─► flight ─► lane ─► thread
//!    ▲                                                                        │
//!    └── order ◄── reply ◄── cache fill ◄── family, filter ◄── getaddrinfo ◄──┘
//! ```
//!
//! An IP address, an override and a cached answer are given at once. Every other caller joins the *flight* for its name, or begins
//! one. It is queued in a *lane*: names that have answered before are served first, then new names, then background refreshes.
//!
//! # Overview
//!
//! A *caller* asks for a name with [`Resolver::resolve`]. A *call* is one run of the backend for a name. Callers of the same name share a
//! call. A *place* is one of the calls that may [run at once](Builder::max_lookups). A name is *known* if it has
//! [answered](Builder::reserved_for_known) before, and *new* otherwise. A *zone* is the last two labels of a name.
//!
//! - [`Resolver`] is the handle that programs hold. [`Resolver::builder`] returns a [`Builder`] for other settings.
//! - [`Resolver::resolve`] returns a [`Resolving`], a future of [`Addrs`] or of an [`Error`].
//! - [`Resolver::watch`] returns a [`Watch`], which gives the addresses of a name, and then each set that differs, for clients that
//!   hold connections.
//! - [`CacheConfig`] sets how long answers are kept. The cache is on by default. [`Addrs::source`] tells a cached answer from a
//!   new one.
//! - [`Resolver::refresh`] starts a lookup ahead of any caller. [`Resolver::expire`] makes the next caller wait for one. [`Reconnect`] is a
//!   connector for hyper that looks a name up anew if a connect fails.
//! - [`Builder::order`] spreads callers over the addresses of a name.
//! - [`Backend`] is the trait of sources of answers. [`System`] is the default; a closure is one too. [`AsyncBackend`] is the trait
//!   of sources that are futures, such as [`Hickory`].
//! - [`Builder::override_host`] sets addresses that take the place of a lookup, and [`Builder::fallback_host`] addresses for when a lookup
//!   has failed. [`Builder::family`] chooses between IPv4 and IPv6.
//! - [`AddrFilter`] denies names and addresses, for programs that connect to hosts that strangers choose (SSRF). [`Guarded`] is a
//!   connector for hyper that checks the hosts of URLs too.
//! - [`Resolver::shutdown`] returns a [`Shutdown`], a future of a [`ShutdownReport`].
//! - [`Resolver::stats`] returns [`Stats`] of what the resolver does and has done.
//!
//! # Guarantees
//!
//! - **Tracing.** A lookup happens inside its caller's span and on its caller's subscriber, whatever subscribers and filters are
//!   installed. Other subscribers see nothing of it. See [Tracing](#tracing), also for limits that tracing sets.
//! - **No runtime.** Lookups, deadlines and shutdowns work on any executor or none. They do not depend on the runtime of another caller.
//! - **Deadlines.** A caller waits for at most the [timeout](Builder::timeout), unless that is `None`.
//! - **Cancellation.** Dropping a lookup's future releases everything that the caller holds, and does not affect other callers of the same
//!   name. A blocking call runs to its end, and its answer is cached.
//! - **One call.** A fresh answer costs no call. All callers of a name share one call, or two if the first is [slow](Builder::hedge). While
//!   the backend fails or hangs, callers get the old answer for [5 minutes](CacheConfig).
//! - **Bounds.** Threads and queue are [bounded](Builder::max_lookups), even if calls never return. Names that have answered before
//!   have [places of their own](Builder::reserved_for_known), so that new names that hang do not hold them up.
//! - **Silence.** A call that is slow gets a [second one](Builder::hedge), so that a lost packet costs milliseconds instead of seconds.
//!   A zone that does not answer takes at most half of the [places](Builder::reserved_for_known) for new names.
//! - **Shutdown.** Dropping a resolver, or a Tokio runtime on which lookups are awaited, never waits for a lookup. A shutdown waits for as
//!   long as it is told to, and reports which names it left behind.
//! - **Fork.** A resolver may be made before a `fork` and used on both sides of it, as far as the platform's `getaddrinfo` can be:
//!   glibc's can, macOS's cannot. See [`System`](System#platforms).
//! - **Truth.** Addresses, their order and the error code are the platform's own. Nothing is made up. Overrides and fallbacks of the
//!   program have a [`Source`] of their own. A family or an order that it sets leaves addresses out or moves them.
//!
//! # Recipes
//!
//! [`cookbook`] has them for hyper, reqwest, tonic, Pingora and other clients; for tests with a fake backend or with Tokio's paused clock; for
//! overrides, URLs from strangers, order and watches; for span filters, OpenTelemetry and metrics; and for graceful shutdown, fork,
//! musl, Kubernetes and many machines.
//!
//! # Features
//!
//! The minimum Rust version is 1.85, and 1.88 with the feature `hickory`.
//!
//! - `hyper` (default): implements `tower_service::Service` of hyper-util's `Name` for [`Resolver`], for hyper-util 0.1.16 or later.
//!   Adds [`Guarded`] and [`Reconnect`].
//! - `reqwest`: implements `reqwest::dns::Resolve` for [`Resolver`], for reqwest 0.13.
//! - `async-backend`: adds [`AsyncBackend`] and [`Builder::async_backend`]. Lookups are futures that run on one thread of the
//!   resolver's, or on [several](Builder::driver_threads), each in a Tokio runtime of its own. All guarantees hold, except that
//!   addresses and errors are the backend's. A call ends when nobody waits for it.
//! - `hickory`: adds [`Hickory`], an async backend that speaks DNS itself. It is for programs whose libc has a poorer resolver, such as
//!   musl's, for plugins that must not call libc's resolver, and for thousands of lookups at once. Its docs list how it differs
//!   from the system's resolver.
//! - `stream`: implements `futures_core::Stream` for [`Watch`].
//! - `metrics`: reports to the recorder of the `metrics` facade, version 0.24. See [Metrics](#metrics). Adds
//!   [`Resolver::publish_metrics`].
//!
//! # Limits
//!
//! - If many zones fall silent at once, their new names can occupy all places for new names. Other new names then wait until one of
//!   these calls returns.
//! - Known names that stop answering all at once can occupy every thread. Other names then wait until one of these calls returns,
//!   or, for an async backend, reaches its deadline. A name whose call has run for longer than the [timeout](Builder::timeout)
//!   counts as new from then on.
//! - hyper and reqwest do not ask a resolver about an IP address in a URL. [`AddrFilter::check_host`] is for these. The exception
//!   is reqwest with a `socks4` or `socks5` proxy: it asks for the address, with brackets around IPv6, and gets it back without a
//!   call.
//! - A name that moves is noticed when its answer is no longer fresh, after [5 seconds](CacheConfig::ttl()) by default, and by connects that
//!   fail if the connector is a [`Reconnect`]. Connections that are open stay open.
//! - Behind an HTTP proxy, a client resolves only the proxy's name.
//! - Tokio's paused test clock does not know of a lookup that runs on another thread. A `tokio::time::timeout` around a lookup
//!   fires at once.
//! - If another thread of the process starts or ends at the very moment of a `fork`, the child may inherit a held lock of std's,
//!   and hang.
//! - A plugin may be unloaded after a shutdown whose report [is clean](ShutdownReport::is_clean), and after the threads that called it
//!   were joined. Until then they may run destructors of its thread-locals.
//!
//! # What it does not do
//!
//! - It looks up addresses. SRV, TXT, HTTPS and reverse lookups are not what `getaddrinfo` does.
//! - It rewrites no name. International names must be in Punycode, as the `url` crate makes them.
//! - It has no overrides for single requests. Clients keep connections by host name, and would use a connection for requests with other
//!   overrides.
//! - It keeps no cache on disk. Addresses that are older than the process are worth little.
//! - It does not follow the TTLs of DNS with [`System`], because `getaddrinfo` does not tell them. [`Hickory`] does.
//! - It does not protect `getaddrinfo` from `setenv`. A program that changes its environment while a lookup runs has undefined behaviour,
//!   with any resolver. Set it before the first lookup.
//! - It has no limit on the age of a connection. That is up to a client's pool.
//!
//! # Metrics
//!
//! With the feature `metrics`, a resolver reports to the recorder that is installed for the `metrics` facade:
//!
//! | metric | type | unit | labels | value |
//! |---|---|---|---|---|
//! | `dns.lookup.duration` | histogram | seconds | `error.type`, `dns.question.name` | time from asking to the result, of each caller who waited |
//! | `gaiter.queued` | gauge | count | | [`Stats::queued`] |
//! | `gaiter.running` | gauge | count | | [`Stats::running`] |
//! | `gaiter.running_long` | gauge | count | | [`Stats::running_long`] |
//! | `gaiter.threads` | gauge | count | | [`Stats::threads`] |
//! | `gaiter.idle_threads` | gauge | count | | [`Stats::idle_threads`] |
//! | `gaiter.cached_names` | gauge | count | | [`Stats::cached_names`] |
//! | `gaiter.started` | counter | count | | [`Stats::started`] |
//! | `gaiter.shared` | counter | count | | [`Stats::shared`] |
//! | `gaiter.hits` | counter | count | | [`Stats::hits`] |
//! | `gaiter.stale` | counter | count | | [`Stats::stale`] |
//! | `gaiter.refused` | counter | count | | [`Stats::refused`] |
//! | `gaiter.refreshed` | counter | count | | [`Stats::refreshed`] |
//! | `gaiter.hedged` | counter | count | | [`Stats::hedged`] |
//! | `gaiter.hedges_won` | counter | count | | [`Stats::hedges_won`] |
//! | `gaiter.abandoned` | counter | count | | [`Stats::abandoned`] |
//!
//! - `dns.lookup.duration` is recorded on the thread where a caller gets its result or drops the future. Its count is that of the
//!   callers who [started](Stats::started) and wait no more. Callers who are answered at once or refused are not in it.
//! - `error.type` is that of the [span](#tracing), or `cancelled` for a caller who dropped the future before it had a result. A lookup
//!   without an error does not have it.
//! - `dns.question.name` is there only if [asked for](Builder::metrics_question_name), because the number of names has no bound.
//! - The other metrics change when [`Resolver::publish_metrics`] is called, so that an answer from the cache writes nothing that
//!   threads share.
//! - All metrics have the label `gaiter.resolver` if it is [set](Builder::metrics_label).
//!
//! The example `otel` in `tests/ecosystem` of the repository prints spans and metrics by OpenTelemetry's exporters.
//!
//! Buckets are up to the exporter. The semantic conventions of OpenTelemetry recommend 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5,
//! 0.75, 1, 2.5, 5, 7.5 and 10 seconds. `metrics-exporter-prometheus` takes them by `set_buckets_for_metric`. Without buckets it makes a
//! summary. It writes `_` in place of each `.`.
//!
//! # Exporters
//!
//! An exporter of spans makes requests of its own. If their lookups make spans too, each export leads to another one, for ever. Either
//! of these prevents it:
//!
//! - [`Builder::spans`] with `false`, for the resolver of the exporter's client.
//! - A filter that keeps only lookups inside another span, on the layer that feeds the exporter:
//!   `dynamic_filter_fn(|meta, cx| meta.target() != "gaiter" || cx.lookup_current().is_some())`, of `tracing_subscriber::filter`. It
//!   works if the exporter makes its requests outside of all spans.
//!
//! `gaiter=off` in an `EnvFilter` turns off the spans of the program's own lookups too.
//!
//! With OpenTelemetry:
//!
//! - Set the resolver's [timeout](Builder::timeout), and that of the exporter's client, below the exporter's. `with_timeout` of
//!   `opentelemetry-otlp` bounds its retries, but not a request of a client that it is given.
//! - Shut the exporter down before the resolver. Otherwise lookups of the last export fail with an error that
//!   [`is_closed`](Error::is_closed), and its spans are lost.
//! - If a request gets a pooled connection before its own is made, hyper's client goes on connecting in the background. The spans of the
//!   request and of its lookup are then open, and not exported, until that lookup ends. The resolver's timeout bounds this.
//!
//! # Tracing
//!
//! Each caller's lookup has a span `resolve`, at level DEBUG and with the target `gaiter`, so that `gaiter=off` in a filter turns it off. Its
//! parent is the span that was current when [`resolve`](Resolver::resolve) was called. It closes when the caller gets the result
//! or drops the future.
//!
//! | field | value |
//! |---|---|
//! | `dns.question.name` | the name, as the caller wrote it |
//! | `dns.answers` | the first 16 addresses |
//! | `gaiter.addresses` | number of addresses |
//! | `gaiter.source` | where the result came from: `lookup`; `stale` for an old answer from the cache; `cache` if another caller filled the cache at that moment; `fallback` |
//! | `gaiter.shared` | whether other callers waited for the same call |
//! | `gaiter.hedged` | whether a [second call](Builder::hedge) was made because the first was slow |
//! | `gaiter.queued_us` | how long the caller waited for the call to begin, in microseconds |
//! | `gaiter.call_us` | how long the call took, or for a caller that did not wait for its end how long it waited, in microseconds |
//! | `error.type` | the error: the name of the platform's code, such as `EAI_NONAME`, or the kind |
//! | `otel.name` | name of the span in OpenTelemetry: `DNS lookup {name}` |
//! | `otel.kind` | `internal` |
//! | `otel.status_code` | `ERROR` if the lookup failed |
//!
//! There is no span for an answer from the cache, an override, an IP address, an invalid name, a name that is denied before it is
//! looked up, a background refresh, or a lookup of a watch, and none at all if [spans](Builder::spans) are turned off. There is one
//! for a caller that is refused, or that gets an old answer or a fallback at once because a lookup is slow or has just failed.
//!
//! A call that hangs does not hold spans of callers that have left, if it is the system's or an async backend's. The exceptions
//! are spans that an async backend's own future holds. A blocking [`Backend`] of the program's own holds the spans of one
//! caller until its call returns, unless it [emits no events](Backend::emits_events) or is [`Untraced`].
//!
//! Some limits are tracing's own:
//!
//! - A backend's events are inside the span that was current when the caller asked. A layer whose filter disables that span does not see
//!   its parents either, as in a spawned task.
//! - A filter by span name applies on threads that have entered that span. A lookup's thread enters the caller's current span and
//!   `resolve`, but not the spans around them. With `info,[outer]=debug`, an `EnvFilter` keeps a backend's DEBUG events for a caller
//!   in `outer`, and drops them for a caller in a span inside `outer`.
//! - If a lookup's future is dropped inside a callback of a subscriber, a thread of the resolver closes its span a moment later.
//!   tracing can tell that it is inside a callback only if a scoped subscriber exists. A span whose future is dropped inside
//!   `on_close` may never close. If the last scoped subscriber is dropped at that very moment, tracing panics; the panic is
//!   caught, but a panic hook hears of it.
//! - tracing caches whether any subscriber is interested in a span. If a process makes its first lookup without a subscriber, and then installs
//!   only a scoped one, `resolve` may stay disabled until another subscriber is made.
#![cfg_attr(docsrs, feature(doc_cfg))]
// These docs link to items of every feature.
#![cfg_attr(not(all(feature = "hickory", feature = "metrics")), allow(rustdoc::broken_intra_doc_links))]
#![deny(unsafe_code)] // `ffi` alone allows it
#![warn(missing_docs, unreachable_pub)]
#![cfg_attr(
    not(any(test, fuzzing)),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)
)]

// Adapters, one for each foreign trait.
#[cfg(feature = "hyper")]
mod guarded;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "hyper")]
mod reconnect;
#[cfg(feature = "reqwest")]
mod reqwest;

// The path of a lookup. A module uses those below it, as `tests/modules.rs` checks.
mod resolver; // the handle that programs hold
mod builder; // the settings
mod resolving; // the future a caller holds; dropping it leaves the flight
mod watch; // a name whose addresses are followed
mod shutdown; // the future of the end, and its report
mod shell; // threads: workers or drivers, timekeeper, errands; and which of them are this process's
mod engine; // what is in progress: flights, lanes, deadlines, calls; no I/O
mod waiter; // where a caller waits: reply and custody
mod cache; // entries, and when they are fresh, stale or gone
mod policy; // which answers are let through, and what takes the place of others
mod overrides; // addresses in place of a lookup
mod fallbacks; // addresses in place of a lookup that failed
mod filter; // names and addresses that are denied
mod family; // IPv4 and IPv6
mod backend; // where answers come from

// Leaves.
mod trace; // spans, and the only code that enters one or sets a dispatcher
#[cfg(feature = "metrics")]
mod metrics; // what a recorder of metrics gets
mod stats;
mod addrs;
mod order; // which caller gets the addresses in which order
mod error;
mod name;
mod clock; // a clock that is cheap to read
mod sync; // std's locks, threads and time, or a model's
mod foreign; // catches the panics of foreign code
mod ffi; // the only unsafe code

// Only docs.
#[cfg(any(doc, doctest))]
pub mod cookbook;

// Only for the fuzz targets.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

pub use crate::addrs::{Addrs, Answer, Source};
#[cfg(feature = "async-backend")]
pub use crate::backend::AsyncBackend;
#[cfg(feature = "hickory")]
pub use crate::backend::Hickory;
pub use crate::backend::{Backend, System, Untraced};
pub use crate::builder::{Builder, Config};
pub use crate::cache::CacheConfig;
pub use crate::engine::Hedge;
pub use crate::error::{Error, ErrorKind};
pub use crate::family::Family;
pub use crate::filter::AddrFilter;
#[cfg(feature = "hyper")]
pub use crate::guarded::{Guarded, GuardedConnecting};
pub use crate::order::Order;
#[cfg(feature = "hyper")]
pub use crate::reconnect::{Reconnect, Reconnecting};
pub use crate::resolver::Resolver;
pub use crate::resolving::Resolving;
pub use crate::shutdown::{Abandoned, Shutdown, ShutdownReport};
pub use crate::stats::Stats;
pub use crate::watch::Watch;
pub use ipnet::{IpNet, Ipv6Net};
