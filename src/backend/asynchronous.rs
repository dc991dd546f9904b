use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::addrs::Answer;
use crate::error::Error;

/// A source of addresses whose lookups are futures, for [`Builder::async_backend`](crate::Builder::async_backend).
///
/// A closure that takes a name and returns a future of addresses or of an error implements this trait:
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use gaiter::{ErrorKind, Resolver};
///
/// let resolver = Resolver::builder()
///     .async_backend(|name: &str| {
///         let name = name.to_owned();
///         async move {
///             match &*name {
///                 "one.example" => Ok([IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))]),
///                 _ => Err(ErrorKind::NotFound),
///             }
///         }
///     })
///     .build();
/// # drop(resolver);
/// ```
///
/// The future cannot borrow from `name` or `self`, so `async fn` is not an option. It takes what it needs along:
///
/// ```
/// use std::collections::HashMap;
/// use std::net::IpAddr;
/// use gaiter::{Answer, AsyncBackend, Error, ErrorKind};
///
/// struct Table(HashMap<String, IpAddr>);
///
/// impl AsyncBackend for Table {
///     type Session = ();
///
///     fn new_session(&self) {}
///
///     fn lookup(&self, (): &(), name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
///         let addr = self.0.get(name).copied();
///         async move { Ok(addr.ok_or(ErrorKind::NotFound)?.into()) }
///     }
/// }
/// ```
///
/// # The drivers
///
/// The futures of a resolver run on *drivers*: one thread, or up to as many as [`driver_threads`](crate::Builder::driver_threads)
/// says. Each builds, runs and drops a current-thread Tokio runtime, and a future stays on the driver that it began on. Callers need no
/// runtime, and nothing runs on theirs. A future need not be `Send`. Inside it, `tokio::spawn` and `tokio::task::spawn_local` work, and
/// so do Tokio's timers and sockets, if your crate enables Tokio's features `time` and `net`.
///
/// A driver starts with the first lookup that finds all others busy. All end, with their runtimes and [sessions](Self::Session), when
/// there has been no lookup for [`thread_keep_alive`](crate::Builder::thread_keep_alive). New drivers may start while old ones drop
/// their sessions, up to four threads for each of `driver_threads`. If no other may start, lookups share the drivers that there are.
///
/// Futures must not block: while one does, no other future of its driver runs, and callers are not told of results. A caller's waker
/// or subscriber that blocks has the same effect. Deadlines are kept all the same.
///
/// Futures must not hold a `tokio::runtime::EnterGuard` or a `tracing::span::Entered` across an `.await`, because other futures run
/// meanwhile. If a future looks up its own name with its own resolver, it waits for itself until the timeout.
///
/// Each future serves all callers of its name. It is dropped when no caller waits for it. If the callers got a stale answer, or the
/// lookup is a background refresh, it is dropped after the [timeout](crate::Builder::timeout).
///
/// # Tracing
///
/// A future is made, polled and dropped on the subscriber of the caller that had waited longest when it began. It is inside that
/// caller's span for as long as that caller waits. A span that the future itself holds stays open as usual.
///
/// A task that a future spawns is on no caller's subscriber, unless it uses
/// [`WithSubscriber`](https://docs.rs/tracing/latest/tracing/instrument/trait.WithSubscriber.html). Sessions and background refreshes run
/// on no caller's subscriber either, even if callers join a refresh later.
///
/// # Panics
///
/// If a future panics, its callers get an error of the kind [`Panicked`](crate::ErrorKind::Panicked). Its driver goes on.
pub trait AsyncBackend: Send + Sync + 'static {
    /// State that lookups share and that belongs to a runtime, such as connections and tasks. `()` if there is none.
    ///
    /// It is made on a driver, inside its runtime, and dropped there before the runtime. A connection that outlives its runtime would
    /// hang or panic. With several drivers, calls for the same name may use different sessions.
    type Session: 'static;

    /// Returns a new session.
    ///
    /// Called once on each driver, before its first lookup. If it panics, the callers of that lookup get an error of the kind
    /// [`Panicked`](crate::ErrorKind::Panicked), and it is called again for the next lookup.
    fn new_session(&self) -> Self::Session;

    /// Looks up the addresses of `name`, which is as for [`Backend::lookup`](crate::Backend::lookup).
    ///
    /// # Errors
    ///
    /// As for [`Backend::lookup`](crate::Backend::lookup).
    fn lookup(&self, session: &Self::Session, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static;
}

impl<F, L, T, E> AsyncBackend for F
where
    F: Fn(&str) -> L + Send + Sync + 'static,
    L: Future<Output = Result<T, E>> + 'static,
    T: Into<Answer>,
    E: Into<Error>,
{
    type Session = ();

    fn new_session(&self) {}

    fn lookup(&self, (): &(), name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let lookup = self(name);
        async { lookup.await.map(Into::into).map_err(Into::into) }
    }
}

impl<B: AsyncBackend> AsyncBackend for Arc<B> {
    type Session = B::Session;

    fn new_session(&self) -> Self::Session {
        (**self).new_session()
    }

    fn lookup(&self, session: &Self::Session, name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        (**self).lookup(session, name)
    }
}

/// The future of a lookup.
pub(crate) type Lookup = Pin<Box<dyn Future<Output = Result<Answer, Error>>>>;

/// A session together with its backend. Starts lookups.
pub(crate) type Session = Box<dyn Fn(&str) -> Lookup>;

/// An [`AsyncBackend`] without its types.
pub(crate) trait Driven: Send + Sync {
    fn new_session(self: Arc<Self>) -> Session;
}

impl<B: AsyncBackend> Driven for B {
    fn new_session(self: Arc<Self>) -> Session {
        let session = AsyncBackend::new_session(&*self);
        Box::new(move |name| Box::pin(self.lookup(&session, name)))
    }
}
