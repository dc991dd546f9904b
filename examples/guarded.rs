//! Fetches URLs that strangers have given, by hyper and by reqwest, without reaching the program's own network for them.
//!
//! Run it with `cargo run --features reqwest --example guarded`: it serves a page and a secret on loopback, and shows which URLs get
//! there. Or name the URLs yourself: `cargo run --features reqwest --example guarded -- http://127.1/ http://example.com/`

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gaiter::{AddrFilter, Guarded, Resolver};
use http_body_util::{Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::LOCATION;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::{Url, redirect};
use tokio::net::TcpListener;

type BoxError = Box<dyn Error + Send + Sync>;

/// Number of redirects that are followed.
const REDIRECTS: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut urls: Vec<String>) -> Result<ExitCode, BoxError> {
    let (addr, secret) = serve().await?;
    if urls.is_empty() {
        urls = shown(addr.port());
    }

    let resolver = Resolver::builder()
        // Overrides are the program's own, and here they may lead to loopback: `public.example` stands for a public host.
        .filter(AddrFilter::public_only().exempt_overrides(true))
        .override_host("public.example", addr.ip())
        .build();
    let (by_hyper, by_reqwest) = (ByHyper::new(&resolver), ByReqwest::new(&resolver)?);
    for url in &urls {
        println!("hyper   {url}: {}", outcome(by_hyper.fetch(url).await));
        println!("reqwest {url}: {}", outcome(by_reqwest.fetch(url).await));
    }

    let reached = secret.load(Ordering::Relaxed);
    println!("the secret was fetched {reached} times");
    Ok(if reached == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A hyper client. The connector checks the host of each connection, and redirects make new ones.
struct ByHyper(Client<Guarded<HttpConnector<Resolver>>, Empty<Bytes>>);

impl ByHyper {
    fn new(resolver: &Resolver) -> Self {
        let connector = HttpConnector::new_with_resolver(resolver.clone());
        let connector = Guarded::new(connector, resolver.clone());
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    async fn fetch(&self, url: &str) -> Result<StatusCode, BoxError> {
        let mut uri: Uri = url.parse()?;
        for _ in 0..=REDIRECTS {
            let response = self.0.get(uri).await?;
            match response.headers().get(LOCATION) {
                Some(location) if response.status().is_redirection() => uri = location.to_str()?.parse()?,
                _ => return Ok(response.status()),
            }
        }
        Err("too many redirects".into())
    }
}

/// A reqwest client. Its connector does not see URLs, so each host is checked before the request and before each redirect.
struct ByReqwest {
    client: reqwest::Client,
    resolver: Resolver,
}

impl ByReqwest {
    fn new(resolver: &Resolver) -> Result<Self, BoxError> {
        let checks = resolver.clone();
        let policy = redirect::Policy::custom(move |attempt| {
            if let Err(error) = check(&checks, attempt.url()) {
                return attempt.error(error);
            }
            // Counts the redirects.
            redirect::Policy::limited(REDIRECTS).redirect(attempt)
        });
        let client = reqwest::Client::builder()
            .dns_resolver(resolver.clone())
            .redirect(policy)
            // A proxy would look names up by itself.
            .no_proxy()
            .build()?;
        Ok(Self { client, resolver: resolver.clone() })
    }

    async fn fetch(&self, url: &str) -> Result<StatusCode, BoxError> {
        let url: Url = url.parse()?;
        check(&self.resolver, &url)?;
        Ok(self.client.get(url).send().await?.status())
    }
}

fn check(resolver: &Resolver, url: &Url) -> Result<(), gaiter::Error> {
    resolver.check_host(url.host_str().unwrap_or_default())
}

/// Describes what became of a request. The rule that has denied it is for the program's log, and not for the stranger.
fn outcome(result: Result<StatusCode, BoxError>) -> String {
    let error = match result {
        Ok(status) => return status.to_string(),
        Err(error) => error,
    };
    let causes = std::iter::successors(Some(&*error as &(dyn Error + 'static)), |&cause| cause.source());
    let mut ours = causes.clone().filter_map(|cause| cause.downcast_ref::<gaiter::Error>());
    match ours.find(|error| error.is_denied()) {
        Some(denied) => format!("refused: {denied}"),
        None => causes.map(ToString::to_string).collect::<Vec<_>>().join(": "),
    }
}

/// Returns URLs that try to get at the secret, after one that does not.
fn shown(port: u16) -> Vec<String> {
    let hosts =
        ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]"];
    let secrets: Vec<_> = hosts.iter().map(|host| format!("http://{host}:{port}/secret")).collect();
    let public = format!("http://public.example:{port}/");
    let redirects: Vec<_> = secrets.iter().take(3).map(|url| format!("{public}to?{url}")).collect();
    [vec![public], secrets, redirects].concat()
}

/// Serves a page, redirects and a secret on loopback until the program ends. Returns the address, and how often the secret was
/// fetched.
async fn serve() -> std::io::Result<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (addr, secret) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
    let fetched = Arc::clone(&secret);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let fetched = Arc::clone(&fetched);
            let service = service_fn(move |request: Request<Incoming>| {
                let response = respond(&request, &fetched);
                async { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(async move {
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    Ok((addr, secret))
}

fn respond(request: &Request<Incoming>, fetched: &AtomicUsize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"hello\n")));
    match request.uri().path() {
        "/to" => {
            let target = request.uri().query().unwrap_or_default();
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().extend(target.parse().ok().map(|target| (LOCATION, target)));
        }
        "/secret" => _ = fetched.fetch_add(1, Ordering::Relaxed),
        _ => {}
    }
    response
}
