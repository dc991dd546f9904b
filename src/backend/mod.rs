//! Where answers come from.

#[cfg(feature = "async-backend")]
mod asynchronous;
#[cfg(feature = "hickory")]
pub(crate) mod hickory;
mod system;
mod untraced;

#[cfg(feature = "async-backend")]
pub use asynchronous::AsyncBackend;
#[cfg(feature = "async-backend")]
pub(crate) use asynchronous::{Driven, Lookup, Session};
#[cfg(feature = "hickory")]
pub use hickory::Hickory;
pub use system::System;
pub use untraced::Untraced;

use std::sync::Arc;

use crate::addrs::Answer;
use crate::error::Error;

/// A source of addresses whose lookups block.
///
/// [`System`] is the default. A closure that takes a name and returns addresses or an error implements this trait:
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use gaiter::{ErrorKind, Resolver};
///
/// let resolver = Resolver::builder()
///     .backend(|name: &str| match name {
///         "one.example" => Ok([IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))]),
///         _ => Err(ErrorKind::NotFound),
///     })
///     .build();
/// # drop(resolver);
/// ```
///
/// The closure must say the type of `name`, as here. Its error may be an [`ErrorKind`](crate::ErrorKind), an [`io::Error`](std::io::Error),
/// an [`Error`], or any type that converts into one.
///
/// A type implements it to keep state, and a test keeps an [`Arc`] of that:
///
/// ```
/// use std::collections::HashMap;
/// use std::net::IpAddr;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use gaiter::{Answer, Backend, Error, ErrorKind, Resolver};
///
/// struct Table {
///     addrs: HashMap<String, IpAddr>,
///     calls: AtomicUsize,
/// }
///
/// impl Backend for Table {
///     fn lookup(&self, name: &str) -> Result<Answer, Error> {
///         self.calls.fetch_add(1, Ordering::Relaxed);
///         Ok(Answer::from(*self.addrs.get(name).ok_or(ErrorKind::NotFound)?))
///     }
/// }
///
/// let addrs = HashMap::from([("one.example".to_owned(), IpAddr::from([192, 0, 2, 1]))]);
/// let table = Arc::new(Table { addrs, calls: AtomicUsize::new(0) });
/// let resolver = Resolver::builder().backend(Arc::clone(&table)).build();
/// assert!(resolver.resolve("two.example").wait().unwrap_err().is_not_found());
/// assert_eq!(table.calls.load(Ordering::Relaxed), 1);
/// ```
///
/// For a source that waits without blocking a thread, implement [`AsyncBackend`] instead.
///
/// Calls run on threads of the resolver's, several at once. Each call serves all callers of its name. It may block for as long as it
/// needs. It cannot be stopped: when its callers have left, it runs to its end.
///
/// The backend is dropped when the last handle, future and thread of the resolver are gone, on whichever thread that happens.
///
/// # Tracing
///
/// A call runs inside the span, and on the subscriber, of the caller that had waited longest when the call began. This keeps the
/// caller's spans open until the call returns, even if the caller has left. If a backend emits no events, its
/// [`emits_events`](Self::emits_events) should return `false`, so that its calls hold no spans. [`Untraced`] does that for a closure,
/// or for any other backend.
///
/// # Panics
///
/// If a call panics, its callers get an error of the kind [`Panicked`](crate::ErrorKind::Panicked). The thread and other lookups go
/// on. With `panic = "abort"` the panic ends the process, as any other does.
pub trait Backend: Send + Sync + 'static {
    /// Looks up the addresses of `name`.
    ///
    /// `name` is 1 to 1,024 bytes long, contains no NUL byte, and is otherwise as the caller wrote it: with its case, its trailing dot and
    /// non-ASCII characters. It is not an address that [`IpAddr`](std::net::IpAddr) parses, but may be one in another form, such as
    /// `127.1` or `fe80::1%eth0`.
    ///
    /// # Errors
    ///
    /// All callers of this lookup get the error, with the name added. An answer without addresses becomes an error of the kind
    /// [`NoData`](crate::ErrorKind::NoData). The kind decides what follows:
    ///
    /// | kind | for | cached for | callers get an old answer instead | a fallback |
    /// |---|---|---|---|---|
    /// | `NotFound`, `NoData` | there is none, for certain | [`negative_ttl`](crate::CacheConfig::negative_ttl()) | no | [if set](crate::Builder::fallback_on_not_found) |
    /// | `Denied` | it must not be used | [`negative_ttl`](crate::CacheConfig::negative_ttl()) | no | no |
    /// | `Temporary`, `Permanent` | the source has failed | [`cooldown`](crate::CacheConfig::cooldown()) | yes | yes |
    /// | `System`, `Other` | this machine or program has failed | not | yes | yes |
    ///
    /// [`Error::new`] makes an error of a kind with a source. An error from the [cache](Error::is_cached) has the text of the source, and
    /// not the source itself.
    fn lookup(&self, name: &str) -> Result<Answer, Error>;

    /// Returns whether [`lookup`](Self::lookup) runs inside its caller's span. Default: `true`.
    ///
    /// With `false`, no subscriber is set and no span is entered during the call, so that a call that hangs keeps no span open. This
    /// method is called once, when the resolver is built.
    fn emits_events(&self) -> bool {
        true
    }
}

/// A backend of either kind.
#[derive(Clone)]
pub(crate) enum Origin {
    Blocking(Arc<dyn Backend>),
    #[cfg(feature = "async-backend")]
    Async(Arc<dyn Driven>),
}

impl Origin {
    pub(crate) fn blocking(&self) -> Option<&dyn Backend> {
        match self {
            Self::Blocking(backend) => Some(&**backend),
            #[cfg(feature = "async-backend")]
            Self::Async(_) => None,
        }
    }
}

impl<F, T, E> Backend for F
where
    F: Fn(&str) -> Result<T, E> + Send + Sync + 'static,
    T: Into<Answer>,
    E: Into<Error>,
{
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        self(name).map(Into::into).map_err(Into::into)
    }
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        (**self).lookup(name)
    }

    fn emits_events(&self) -> bool {
        (**self).emits_events()
    }
}

impl Backend for Box<dyn Backend> {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        (**self).lookup(name)
    }

    fn emits_events(&self) -> bool {
        (**self).emits_events()
    }
}
