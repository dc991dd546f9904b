//! tonic: a channel whose connector resolves through gaiter, and looks the name up anew if a connect fails.

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint, Error};

pub async fn connect(endpoint: Endpoint, resolver: gaiter::Resolver) -> Result<Channel, Error> {
    let mut http = HttpConnector::new_with_resolver(resolver.clone());
    http.enforce_http(false); // for https
    endpoint.connect_with_connector(gaiter::Reconnect::new(http, resolver)).await
}
