//! Lets a [`Resolver`] be the resolver of hyper-util's `HttpConnector`.

use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::addrs::Addrs;
use crate::error::Error;
use crate::resolver::Resolver;
use crate::resolving::Resolving;

impl Service<Name> for Resolver {
    type Response = Addrs;
    type Error = Error;
    type Future = Resolving;

    /// Returns `Ready`, always.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, name: Name) -> Resolving {
        self.resolve(name.as_str())
    }
}
