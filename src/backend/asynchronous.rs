use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::addrs::Answer;
use crate::error::Error;

/// A source of addresses that waits for them without blocking a thread; for
/// [`Builder::async_backend`](crate::Builder::async_backend).
///
/// A closure is one if it takes the name and returns a future of addresses or of an error:
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
/// All of a resolver's futures run on one thread of its own, the *driver*, inside a current-thread Tokio runtime that only this
/// thread builds, runs and drops. Nothing of it is on a caller's runtime, and none of those has to be there. The thread starts with
/// the first lookup, and leaves when it has idled for [`thread_keep_alive`](crate::Builder::thread_keep_alive); so do the runtime and the
/// [session](Self::Session): while an old one is being dropped, another may be there already. `tokio::spawn` and `spawn_local` have
/// somewhere to run. Callers are woken outside of it.
///
/// A future that blocks holds up all others, and callers that have yet to be told of an answer. So does a caller's waker or
/// subscriber that blocks. Everybody's deadline is kept all the same. A guard that is held across an `.await`, of Tokio's or of tracing's, is in
/// everybody's way. And a future that waits for its own name, through its own resolver, waits for itself until somebody's deadline.
///
/// A future serves every caller that waits for the name, and is dropped when the last of them leaves: it gives up, has its deadline
/// pass, or makes do with what the cache has and nothing came in a deadline's time.
///
/// # Tracing
///
/// A future is made, polled and dropped on the subscriber of one of its callers, the one that had waited longest when it began, and
/// inside that caller's span for as long as that caller waits. When it has left while others wait, its span is left too; what
/// the future itself keeps of spans, such as children that it made, keeps open what it always does. A task that the
/// future spawns is on no caller's subscriber, unless it is given that
/// ([`WithSubscriber`](https://docs.rs/tracing/latest/tracing/instrument/trait.WithSubscriber.html)); and so is a session, and a
/// lookup that began for nobody, in the background, whoever joins it.
///
/// # Panics
///
/// Contained, as those of a [`Backend`](crate::Backend) are.
pub trait AsyncBackend: Send + Sync + 'static {
    /// What its lookups share and belongs to a runtime: connections, tasks, clients of other crates. `()` if there is nothing.
    ///
    /// It is made on the driver's thread, inside its runtime, and dropped there before the runtime is. A client that outlives the
    /// runtime of its connections is what hangs or panics elsewhere.
    type Session: 'static;

    /// Makes a session: before the driver's first lookup, and after one that panicked in here.
    fn new_session(&self) -> Self::Session;

    /// Looks up the addresses of `name`, which is never empty, never an IP address as such, and free of NUL bytes.
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

/// A lookup that is under way.
pub(crate) type Lookup = Pin<Box<dyn Future<Output = Result<Answer, Error>>>>;

/// A session, with the backend that it is of.
pub(crate) type Session = Box<dyn Fn(&str) -> Lookup>;

/// An [`AsyncBackend`], whatever its types.
pub(crate) trait Driven: Send + Sync {
    fn new_session(self: Arc<Self>) -> Session;
}

impl<B: AsyncBackend> Driven for B {
    fn new_session(self: Arc<Self>) -> Session {
        let session = AsyncBackend::new_session(&*self);
        Box::new(move |name| Box::pin(self.lookup(&session, name)))
    }
}
