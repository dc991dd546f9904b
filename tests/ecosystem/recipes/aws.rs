//! AWS SDK: `Config::builder().http_client(http_client(resolver))`, of a service or of `aws-config`.

use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

#[derive(Clone, Debug)]
struct Dns(gaiter::Resolver);

impl ResolveDns for Dns {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        let lookup = self.0.resolve(name);
        DnsFuture::new(async { Ok(lookup.await.map_err(ResolveDnsError::new)?.map(|addr| addr.ip()).collect()) })
    }
}

pub fn http_client(resolver: gaiter::Resolver) -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_with_resolver(Dns(resolver))
}
