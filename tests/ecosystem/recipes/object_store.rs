//! object_store: `with_client_options(client_options(resolver))` of any store's builder.

use std::sync::Arc;

use object_store::ClientOptions;
use object_store::client::{DnsFuture, DnsResolver};

#[derive(Debug)]
struct Dns(gaiter::Resolver);

impl DnsResolver for Dns {
    fn resolve(&self, host: &str) -> DnsFuture {
        let lookup = self.0.resolve(host);
        Box::pin(async { Ok(lookup.await?.map(|addr| addr.ip()).collect()) })
    }
}

pub fn client_options(resolver: gaiter::Resolver) -> ClientOptions {
    ClientOptions::new().with_dns_resolver(Arc::new(Dns(resolver)))
}
