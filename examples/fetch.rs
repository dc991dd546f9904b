//! Fetches URLs with a hyper client that resolves names through gaiter, and shows the lookup inside each request's span.
//!
//! Run it with `cargo run --example fetch`: it serves one page on loopback and fetches that. Or name the URLs yourself:
//! `cargo run --example fetch -- http://localhost:8080/ http://name.invalid/`
//!
//! With `--features hickory` it can do without the system's resolver: `--hickory` asks the system's name servers. With
//! `--server 127.0.0.1:5353` it asks that server instead; the option may be repeated.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use gaiter::{Addrs, Resolver};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, info_span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let (mut urls, resolver) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("error: {}\nusage: fetch [--hickory [--server ADDRESS:PORT]...] [URL...]", chain(&*error));
            return ExitCode::FAILURE;
        }
    };
    if urls.is_empty() {
        match serve().await {
            Ok(url) => urls.push(url),
            Err(error) => {
                eprintln!("error: cannot serve on loopback: {error}");
                return ExitCode::FAILURE;
            }
        }
    }

    // A subscriber for this work alone: the lookup is in its span without a global subscriber.
    let trace = tracing_subscriber::fmt::layer().without_time().with_target(false).with_span_events(FmtSpan::CLOSE);
    let subscriber = tracing_subscriber::registry().with(EnvFilter::new("fetch=info,gaiter=debug")).with(trace);

    if fetch_all(&urls, resolver).with_subscriber(subscriber).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the URLs, and the resolver for their names.
fn parse() -> Result<(Vec<String>, Resolver), BoxError> {
    use lexopt::prelude::*;
    let (mut urls, mut servers, mut by_hickory) = (Vec::new(), Vec::<SocketAddr>::new(), false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("hickory") => by_hickory = true,
            Long("server") => servers.push(parser.value()?.parse()?),
            Value(url) => urls.push(url.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    match by_hickory {
        true => Ok((urls, hickory(servers)?)),
        false if servers.is_empty() => Ok((urls, Resolver::new())),
        false => Err("--server is for --hickory: the system has servers of its own".into()),
    }
}

#[cfg(feature = "hickory")]
fn hickory(servers: Vec<SocketAddr>) -> Result<Resolver, BoxError> {
    use gaiter::Hickory;
    let hickory = if servers.is_empty() { Hickory::from_system()? } else { Hickory::with_servers(servers)? };
    Ok(Resolver::builder().async_backend(hickory).build())
}

#[cfg(not(feature = "hickory"))]
fn hickory(_: Vec<SocketAddr>) -> Result<Resolver, BoxError> {
    Err("built without the feature hickory: cargo run --features hickory --example fetch".into())
}

/// Fetches every URL, even if others fail. Returns whether all succeeded.
async fn fetch_all(urls: &[String], resolver: Resolver) -> bool {
    let connector = HttpConnector::new_with_resolver(Shown(resolver));
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let mut all = true;
    for url in urls {
        match fetch(&client, url).instrument(info_span!("request", url)).await {
            Ok(status) => println!("{url}: {status}"),
            Err(error) => {
                eprintln!("error: {url}: {}", chain(&*error));
                all = false;
            }
        }
    }
    all
}

async fn fetch(client: &Client<HttpConnector<Shown>, Empty<Bytes>>, url: &str) -> Result<StatusCode, BoxError> {
    let uri: Uri = url.parse()?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// URLs are fetched here".into());
    }
    let response = client.get(uri).await?;
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}

/// Formats an error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// The resolver, which here also prints its answers. A program would use the resolver itself.
#[derive(Clone)]
struct Shown(Resolver);

impl tower_service::Service<Name> for Shown {
    type Response = Addrs;
    type Error = gaiter::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Addrs, gaiter::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), gaiter::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.0.resolve(name.as_str());
        Box::pin(async move {
            let addrs = lookup.await?;
            let ips: Vec<String> = addrs.clone().map(|addr| addr.ip().to_string()).collect();
            let (queued, in_call) = (addrs.time_queued(), addrs.time_in_call());
            println!("{name}: {} (queued {queued:.1?}, in the call {in_call:.1?})", ips.join(", "));
            Ok(addrs)
        })
    }
}

/// Serves a page on loopback until the program ends. Returns its URL, with a host name.
async fn serve() -> Result<String, BoxError> {
    // Binds by name, so that server and client agree on what `localhost` means here.
    let listener = TcpListener::bind("localhost:0").await?;
    let url = format!("http://localhost:{}/", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello\n"))))
            });
            tokio::spawn(async move {
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    Ok(url)
}
