//! Connects once more if a name has moved.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Uri;
use tower_service::Service;

use crate::addrs::{Addrs, Source};
use crate::resolver::Resolver;
use crate::resolving::Resolving;

/// A connector that looks a name up anew if a connect fails, and connects once more if the name has other addresses by now.
///
/// When a name moves to other addresses, a cache has the former ones for a while, and connects to them fail. With this wrapper, a connect
/// that fails [expires](Resolver::expire) the name of its URL, and waits for the lookup that this leads to. If the answer has other
/// addresses than when the connect began, in whatever order, it connects once more. An old answer stays: it is given again if the
/// lookup fails, so that an outage of DNS does no harm.
///
/// A name is expired at most once in each [`cooldown`](crate::CacheConfig::cooldown()), however many connects fail. They all share one
/// lookup. There is none for an IP address, for an override, and if the failed connect has had no answer that is cached.
///
/// ```
/// use gaiter::{Reconnect, Resolver};
/// use hyper_util::client::legacy::connect::HttpConnector;
///
/// let resolver = Resolver::new();
/// let http = HttpConnector::new_with_resolver(resolver.clone());
/// let connector = Reconnect::new(http, resolver);
/// # drop(connector);
/// ```
///
/// The resolver must be that of the connector. This goes directly around the connector that resolves names: connectors for TLS or for
/// a proxy, and [`Guarded`](crate::Guarded), go around this one.
///
/// With tonic, pass it to `Endpoint::connect_with_connector`, around an `HttpConnector` with `enforce_http(false)`. reqwest's
/// `connector_layer` does not show the URL to a connector of the program's. Call [`Resolver::expire`] there, if the client's error
/// says `is_connect`, and send the request again.
///
/// # Errors
///
/// Returns the error of the connector: of the first connect, if there is no second one, and otherwise of the second.
///
/// # Cancel safety
///
/// Dropping the future drops the connect, or leaves the lookup.
#[derive(Clone)]
pub struct Reconnect<C> {
    connector: C,
    resolver: Resolver,
}

impl<C> Reconnect<C> {
    /// Returns a connector that calls `connector`, and looks up names by `resolver` if that fails.
    pub fn new(connector: C, resolver: Resolver) -> Self {
        Self { connector, resolver }
    }
}

impl<C> Service<Uri> for Reconnect<C>
where
    C: Service<Uri> + Clone,
    C::Future: Unpin,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Reconnecting<C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let before = uri.host().and_then(|host| self.resolver.peek(host));
        let connecting = self.connector.call(uri.clone());
        let resolver = self.resolver.clone();
        Reconnecting { connector: self.connector.clone(), resolver, uri, before, state: State::First(connecting) }
    }
}

impl<C: fmt::Debug> fmt::Debug for Reconnect<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// The future of a [`Reconnect`] connector.
#[must_use = "futures do nothing unless polled"]
pub struct Reconnecting<C: Service<Uri>> {
    connector: C,
    resolver: Resolver,
    uri: Uri,
    /// What the connector was given, if the cache had an answer when the connect began.
    before: Option<Addrs>,
    state: State<C::Future, C::Error>,
}

enum State<F, E> {
    First(F),
    /// Waits for a lookup. The error is that of the first connect, until it is returned.
    LooksUp(Resolving, Addrs, Option<E>),
    /// Waits for the connector to be ready.
    Readies,
    Second(F),
}

// Nothing of it is pinned but the connector's future, which may be moved.
impl<C: Service<Uri>> Unpin for Reconnecting<C> where C::Future: Unpin {}

impl<C> Future for Reconnecting<C>
where
    C: Service<Uri>,
    C::Future: Unpin,
{
    type Output = Result<C::Response, C::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.state = match &mut this.state {
                State::First(connecting) => match ready!(Pin::new(connecting).poll(cx)) {
                    Ok(connection) => return Poll::Ready(Ok(connection)),
                    Err(error) => match this.look_up() {
                        Some((lookup, before)) => State::LooksUp(lookup, before, Some(error)),
                        None => return Poll::Ready(Err(error)),
                    },
                },
                State::LooksUp(lookup, before, error) => {
                    let found = ready!(Pin::new(lookup).poll(cx));
                    let has_moved =
                        found.is_ok_and(|found| found.source() != Source::Override && differ(&found, before));
                    match error.take().filter(|_| !has_moved) {
                        Some(error) => return Poll::Ready(Err(error)),
                        None => State::Readies,
                    }
                }
                State::Readies => {
                    ready!(this.connector.poll_ready(cx))?;
                    State::Second(this.connector.call(this.uri.clone()))
                }
                State::Second(connecting) => return Pin::new(connecting).poll(cx),
            };
        }
    }
}

impl<C: Service<Uri>> Reconnecting<C> {
    /// Expires the name, and returns a lookup of it and the addresses that the connector was given. Returns `None` if there is no name,
    /// or no such addresses.
    fn look_up(&mut self) -> Option<(Resolving, Addrs)> {
        let host = self.uri.host()?;
        let before = self.before.take().or_else(|| self.resolver.peek(host))?;
        self.resolver.expire_rarely(host);
        Some((self.resolver.resolve(host), before))
    }
}

/// Returns whether two answers have different addresses, in whatever order.
fn differ(one: &Addrs, other: &Addrs) -> bool {
    let sorted = |addrs: &Addrs| {
        let mut ips: Vec<_> = addrs.clone().collect();
        ips.sort_unstable();
        ips.dedup();
        ips
    };
    sorted(one) != sorted(other)
}

impl<C: Service<Uri> + fmt::Debug> fmt::Debug for Reconnecting<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting")
            .field("connector", &self.connector)
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}
