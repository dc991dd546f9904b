//! redis: `AsyncConnectionConfig::new().set_dns_resolver(Dns(resolver))`.

use std::io;
use std::net::SocketAddr;

use redis::RedisFuture;
use redis::io::AsyncDNSResolver;

pub struct Dns(pub gaiter::Resolver);

type Addrs<'a> = Box<dyn Iterator<Item = SocketAddr> + Send + 'a>;

impl AsyncDNSResolver for Dns {
    fn resolve<'a, 'b: 'a>(&'a self, host: &'b str, port: u16) -> RedisFuture<'a, Addrs<'a>> {
        let lookup = self.0.resolve(host);
        Box::pin(async move { Ok(Box::new(lookup.await.map_err(io::Error::from)?.with_port(port)) as Addrs<'a>) })
    }
}
