//! Resolve host names for async programs with the operating system's own resolver, off the runtime and inside the
//! caller's trace.
//!
//! `getaddrinfo` is the only lookup that honours what the machine is set up to do: `/etc/hosts`, nsswitch, VPN split DNS,
//! mDNS, search domains. It also blocks and cannot be cancelled. gaiter runs it on a few threads of its own, lets callers
//! of one name share one call, and keeps each lookup inside the span, and on the `tracing` subscriber, of its caller.
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
//! or without any client:
//!
//! ```
//! # async fn example() -> Result<(), gaiter::Error> {
//! let addrs = gaiter::Resolver::new().resolve("localhost").await?;
//! # drop(addrs); Ok(()) }
//! ```
//!
//! # Overview
//!
//! - [`Resolver`] is the handle; [`Builder`] sets it up. [`Resolver::resolve`] gives a [`Resolving`], the future of
//!   [`Addrs`], or of an [`Error`] that keeps the platform's code.
//! - Answers are kept by a [`CacheConfig`], on by default; [`Addrs::source`] and [`Addrs::age`] say where one came from.
//! - [`Backend`] is where answers come from: [`System`] unless the program brings another, which may be a closure; or an
//!   `AsyncBackend`, whose lookups are futures, such as `Hickory`.
//! - [`Resolver::shutdown`] gives a [`Shutdown`], the future of a [`ShutdownReport`]; [`Resolver::stats`] says what goes on now.
//!
//! # What holds
//!
//! - A lookup is in its caller's span, on its caller's subscriber, whatever subscribers and filters are installed, and
//!   touches no other. See [tracing](#tracing).
//! - It needs no runtime: any executor will do, or none, also after the runtime that asked first is gone. Deadlines and
//!   shutdown need none either.
//! - Nobody waits for longer than the [timeout](Builder::timeout). Dropping a lookup's future leaves nothing behind and
//!   disturbs nobody who waits for the same name.
//! - Who asks for a name within its answer's time makes no call; on a name that has expired many make one. While a resolver
//!   fails or hangs, names that it has answered keep their answers for a while. See [`CacheConfig`].
//! - Threads and queue are [bounded](Builder::max_lookups), also by calls that never return. Known names, which have answered
//!   before, do not wait behind new names that never answer: some threads are [theirs](Builder::reserved_for_known). Known names
//!   that fall silent together can take every thread: others then wait until one of the calls returns, or ends at its deadline if
//!   it is an async backend's. A name whose call has run for the [timeout](Builder::timeout) counts as a new one from then on.
//! - No exit hangs: dropping a resolver, or a runtime that uses one, never blocks, and a shutdown waits as long as it is told
//!   to, and says which names it left behind.
//! - It may be made before a `fork` and used after it, on both sides, as far as the platform's `getaddrinfo` allows (glibc
//!   does, macOS does not). A fork at the very moment at which another thread of the process starts or ends can copy a lock
//!   of std's, and leave a child that hangs.
//! - Addresses, their order and the error code are the platform's own. Nothing is made up.
//!
//! # Tracing
//!
//! Each lookup is a span `resolve`, at level DEBUG with the target `gaiter` (so `gaiter=off` in a filter silences the
//! crate), child of the span that was current when the caller asked. It closes when the caller has its answer or has left.
//!
//! The system's call holds no span of a caller that has left, even while it hangs. Nor does an async backend, apart from spans that
//! its future makes itself. A blocking [`Backend`] of the program's own, such as a closure, holds the spans of the caller that it
//! runs inside until its call returns, unless it [emits no events](Backend::emits_events) or is [`Untraced`].
//!
//! The fields of `resolve`:
//!
//! | field | |
//! |---|---|
//! | `dns.question.name` | the name, as it was asked for |
//! | `gaiter.source` | where the answer came from: `lookup`, or after a wait in vain `stale` |
//! | `gaiter.shared` | whether other callers waited for the same call |
//! | `gaiter.queued_us` | how long the caller waited for the call to begin, in microseconds |
//! | `gaiter.call_us` | how long the call took, in microseconds |
//! | `gaiter.addresses` | how many addresses it gave |
//! | `error.type` | where it failed: the code's name, such as `EAI_NONAME`, or the kind of error |
//! | `otel.kind`, `otel.status_code` | for OpenTelemetry: `internal`, and `ERROR` where it failed |
//!
//! Who is answered at once, from the cache or because the name is an IP address, makes no span. A lookup in the background has
//! none either: it is nobody's.
//!
//! What tracing itself sets limits to:
//!
//! - A backend's events are inside the span that was current when the caller asked. A layer with a filter of its own that
//!   disables just that span does not see the spans around it, as it would not in a spawned task.
//! - A filter by the name of a span counts on a thread that has entered that span. A lookup's thread enters the caller's current
//!   span and `resolve`, and none of the spans around them. With `info,[outer]=debug`, an `EnvFilter` records a backend's DEBUG
//!   events for a caller in `outer`. For a caller in a span inside `outer` they are lost, as they are on a thread or in a task
//!   that is given `Span::current()`.
//! - A future dropped inside a subscriber's callback is closed by a thread of the crate's a moment later, where tracing can
//!   tell that it is inside one: if any scoped subscriber exists. Dropped inside `on_close`, its span may never close. If the
//!   last scoped subscriber goes at that very moment, as it may after every poll of an async backend's future, tracing panics
//!   inside, which is caught, but a panic hook hears of it.
//! - tracing remembers that nobody wants a span: if the process's first lookup is made where no subscriber is, and the only
//!   one there is is scoped, `resolve` may stay disabled until another subscriber is made.
//!
//! # What it does not do
//!
//! - hyper and reqwest connect to an IP address in a URL without a resolver. The exception is reqwest with a SOCKS proxy of the
//!   schemes `socks4` and `socks5`: it asks the resolver for the address, IPv6 in brackets, and gets it back at once, without a
//!   call of the backend.
//! - Behind an HTTP proxy a client resolves the proxy's name alone.
//! - Under Tokio's paused test clock, a lookup runs on a thread that the clock does not know of: a `tokio::time::timeout`
//!   around it fires at once.
//!
//! # Features
//!
//! - `hyper` (default): [`Resolver`] is a `tower_service::Service` of hyper-util's `Name`.
//! - `reqwest`: [`Resolver`] is a `reqwest::dns::Resolve`.
//! - `async-backend`: `AsyncBackend`, and `Builder::async_backend`. All its lookups run on one thread of the resolver's own, inside
//!   a Tokio runtime that nobody else has, and everything above holds of them too, but that the answers are then the backend's rather
//!   than the platform's; what is more, a lookup that nobody waits for any longer ends there and then.
//! - `hickory`: `Hickory`, an async backend that speaks DNS itself, for programs on musl, in plugins that must not call libc's
//!   resolver, or with thousands of lookups at once. Its docs say where it differs from the system's resolver. Needs Rust 1.88.
#![cfg_attr(docsrs, feature(doc_cfg))]
// These docs link to items of every feature.
#![cfg_attr(not(feature = "hickory"), allow(rustdoc::broken_intra_doc_links))]
#![deny(unsafe_code)] // but in `ffi`
#![warn(missing_docs, unreachable_pub)]
#![cfg_attr(
    not(any(test, fuzzing)),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)
)]

// Adapters, one for each foreign trait.
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "reqwest")]
mod reqwest;

// The path of a lookup. A module uses those below it, as `tests/modules.rs` checks.
mod resolver; // the handle that programs hold
mod builder; // the settings
mod resolving; // the future a caller holds; dropping it leaves the flight
mod shutdown; // the future of the end, and its report
mod shell; // threads: workers or the driver, timekeeper, errands; and which of them are this process's
mod engine; // what is in progress: flights, lanes, deadlines, calls; no I/O
mod waiter; // where a caller waits: reply and custody
mod cache; // entries, and when they are fresh, stale or gone
mod backend; // where answers come from

// Leaves.
mod trace; // spans, and the only code that enters one or sets a dispatcher
mod stats;
mod addrs;
mod error;
mod name;
mod clock; // a clock that is cheap to read
mod sync; // std's locks, threads and time, or a model's
mod foreign; // catches the panics of foreign code
mod ffi; // the only unsafe code

// For the fuzz targets alone.
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
pub use crate::error::{Error, ErrorKind};
pub use crate::resolver::Resolver;
pub use crate::resolving::Resolving;
pub use crate::shutdown::{Abandoned, Shutdown, ShutdownReport};
pub use crate::stats::Stats;
