//! ureq: `Agent::with_parts(config, DefaultConnector::default(), Dns(resolver))`.

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

#[derive(Debug)]
pub struct Dns(pub gaiter::Resolver);

impl Resolver for Dns {
    fn resolve(&self, uri: &Uri, config: &Config, left: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addrs = self.0.resolve(host).wait_timeout(*left.after).map_err(std::io::Error::from)?.with_port(port);
        let mut wanted = self.empty();
        config.ip_family().keep_wanted(addrs).take(16).for_each(|addr| wanted.push(addr));
        if wanted.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(wanted) }
    }
}
