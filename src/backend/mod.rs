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

/// A source of addresses that blocks while it looks them up.
///
/// [`System`] is the default. A closure is one too, if it takes the name and returns addresses or an error:
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
/// One that waits without blocking is better off as an `AsyncBackend` (feature `async-backend`), which takes no thread for a call.
///
/// A backend runs on threads of the resolver's own, several calls at once, and each of its calls serves every caller that
/// waits for the name. It may block for as long as it takes. A call cannot be stopped: when its callers have left it goes
/// on alone.
///
/// It is dropped with the last of what holds it, which may be a handle, a future or a thread of the resolver's, and so has to
/// be fit to be dropped anywhere.
///
/// # Tracing
///
/// A call runs on the subscriber and inside the span of one of its callers, the one that has waited longest when the call
/// begins: its events land there, whichever thread it is on. That holds the caller's spans open until the call returns,
/// even if the caller has left. A backend that emits no events says so with [`emits_events`](Self::emits_events), and
/// then holds nothing; [`Untraced`] says it for a closure, or for any other backend.
///
/// # Panics
///
/// A panic of a backend is contained: it reaches its callers as [`ErrorKind::Panicked`](crate::ErrorKind::Panicked), and
/// costs neither the thread nor another lookup. (With `panic = "abort"`, it ends the process as any panic does.)
pub trait Backend: Send + Sync + 'static {
    /// Looks up the addresses of `name`, which is never empty, never an IP address as such, and free of NUL bytes.
    ///
    /// # Errors
    ///
    /// Whatever it returns reaches every caller of this lookup, with the name added. No addresses is an error too:
    /// [`ErrorKind::NoData`](crate::ErrorKind::NoData).
    fn lookup(&self, name: &str) -> Result<Answer, Error>;

    /// Whether [`lookup`](Self::lookup) should run inside its caller's span, as the default, `true`, has it.
    ///
    /// With `false` no subscriber is set and no span entered during the call, and so a call that hangs holds no span open.
    fn emits_events(&self) -> bool {
        true
    }
}

/// Where a resolver's answers come from, of either kind.
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
