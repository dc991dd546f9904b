//! A Pingora proxy whose upstreams are names. `tests/pingora.rs` runs it: `pingora DIR PORT [--daemon]`.
//!
//! Two services, each with a runtime of its own, listen on `DIR/first` and `DIR/second`, and proxy to PORT of the host that the
//! request names. The resolver is made and used before `Server::run`, which forks with `--daemon`, and is shut down after it. What
//! happens is written to `DIR/events`.

use std::error::Error as StdError;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use gaiter::{Addrs, Answer, Backend, Resolver, System};
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownWatch};
use pingora_core::services::background::{BackgroundService, background_service};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// Tells an event. The connection lasts as long as what is returned, or as the process.
fn tell(dir: &Path, event: &str) -> io::Result<UnixStream> {
    let mut events = UnixStream::connect(dir.join("events"))?;
    writeln!(events, "{event}")?;
    Ok(events)
}

/// The system's resolver, and two names: one with an address that refuses, and one that is never answered.
struct Names(PathBuf);

impl Backend for Names {
    fn lookup(&self, name: &str) -> Result<Answer, gaiter::Error> {
        match name {
            "a.test" => Ok([IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)].into()),
            "hung.test" => {
                tell(&self.0, "hung")?;
                loop {
                    std::thread::park();
                }
            }
            "missing.test" => Err(gaiter::ErrorKind::NotFound.into()),
            _ => System::new().lookup(name),
        }
    }
}

struct Proxy {
    resolver: Resolver,
    port: u16,
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// The addresses that are left to try.
    type CTX = Option<Addrs>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        left: &mut Option<Addrs>,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        let host = session.req_header().headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let addrs = match left {
            Some(addrs) => addrs,
            None => {
                let addrs = self.resolver.resolve(host).await;
                // `into_up` makes it an error of the upstream's: 502 rather than 500.
                let addrs =
                    addrs.map_err(|error| Error::because(ErrorType::ConnectError, "no upstream", error).into_up())?;
                left.insert(addrs.with_port(self.port))
            }
        };
        let addr =
            addrs.next().ok_or_else(|| Error::explain(ErrorType::ConnectError, "no address is left").into_up())?;
        // An address: `HttpPeer::new` resolves a name itself, blocks its thread for it, and panics if there is none.
        Ok(Box::new(HttpPeer::new(addr, false, host.to_owned())))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        left: &mut Option<Addrs>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(left.as_ref().is_some_and(|left| left.len() > 0));
        error
    }
}

/// Resolves a name on a runtime of its own.
struct Background(Resolver, PathBuf);

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, _: ShutdownWatch) {
        let found = self.0.resolve("localhost").await.is_ok();
        _ = tell(&self.1, &format!("background: {found}"));
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<_> = std::env::args().collect();
    let (dir, port) = (PathBuf::from(&args[1]), args[2].parse()?);
    let path = |name: &str| dir.join(name).display().to_string();
    let conf = ServerConf {
        daemon: args.get(3).is_some_and(|arg| arg == "--daemon"),
        error_log: Some(path("log")),
        pid_file: path("pid"),
        upgrade_sock: path("upgrade"),
        upgrade_sock_connect_accept_max_retries: Some(0),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let resolver = Resolver::builder().backend(Names(dir.clone())).timeout(None).build();
    // Starts threads, which the fork does not copy.
    resolver.resolve("localhost").wait()?;

    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    for name in ["first", "second"] {
        let mut service = http_proxy_service(&server.configuration, Proxy { resolver: resolver.clone(), port });
        service.add_uds(&path(name), None);
        server.add_service(service);
    }
    server.add_service(background_service("background", Background(resolver.clone(), dir.clone())));
    server.run(RunArgs::default());

    // The services have ended: nobody is left who would ask.
    let report = resolver.shutdown().within(Duration::from_millis(100)).wait();
    std::mem::forget(tell(&dir, &report.to_string())?);
    Ok(())
}
