//! Checks the host of each URL that a hyper client connects to.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Uri;
use tower_service::Service;

use crate::error::Error;
use crate::resolver::Resolver;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A connector that checks the host of each URL by the resolver's [filter](crate::AddrFilter) before it connects.
///
/// `HttpConnector` does not ask its resolver about an IP address in a URL, so the filter does not see it. This wrapper around it does,
/// for each new connection. Redirects make new connections, and are checked too. If the resolver has no filter, all hosts pass.
///
/// ```
/// use gaiter::{AddrFilter, Guarded, Resolver};
/// use hyper_util::client::legacy::connect::HttpConnector;
///
/// let resolver = Resolver::builder().filter(AddrFilter::public_only()).build();
/// let http = HttpConnector::new_with_resolver(resolver.clone());
/// let connector = Guarded::new(http, resolver);
/// # drop(connector);
/// ```
///
/// A connector for TLS goes around this one, or inside: `HttpsConnector` of hyper-rustls and hyper-tls wrap any connector. A connector
/// for a proxy must go inside: outside, this one would see the proxy's host alone.
///
/// # Errors
///
/// A host that is denied gives an [`Error`] that [`is_denied`](Error::is_denied), as the source of the client's error.
#[derive(Clone)]
pub struct Guarded<C> {
    connector: C,
    resolver: Resolver,
}

impl<C> Guarded<C> {
    /// Returns a connector that checks hosts by the filter of `resolver`, as it is at that moment, and then calls `connector`.
    pub fn new(connector: C, resolver: Resolver) -> Self {
        Self { connector, resolver }
    }
}

impl<C> Service<Uri> for Guarded<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Unpin,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = GuardedConnecting<C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // A connector refuses a URL without a host by itself.
        match uri.host().map_or(Ok(()), |host| self.resolver.check_host(host)) {
            Ok(()) => GuardedConnecting(Ok(self.connector.call(uri))),
            Err(error) => GuardedConnecting(Err(Some(error))),
        }
    }
}

impl<C: fmt::Debug> fmt::Debug for Guarded<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// The future of a [`Guarded`] connector.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct GuardedConnecting<F>(Result<F, Option<Error>>);

impl<F, T, E> Future for GuardedConnecting<F>
where
    F: Future<Output = Result<T, E>> + Unpin,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(connecting) => Poll::Ready(ready!(Pin::new(connecting).poll(cx)).map_err(Into::into)),
            Err(error) => Poll::Ready(Err(match error.take() {
                Some(error) => error.into(),
                None => "a connect was polled after it had completed".into(),
            })),
        }
    }
}
