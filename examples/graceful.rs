//! An HTTP server that resolves its upstreams through gaiter and ends on time.
//!
//! Run it with `cargo run --example graceful -- --grace 5s`, ask it with `curl http://localhost:PORT/`, and stop it with
//! Ctrl-C or SIGTERM. It then reports that it is not ready, stops accepting, drains its requests, shuts the resolver down within
//! the grace period, and prints what became of the lookups. A second signal ends the waiting.
//!
//! - `GET /` fetches the server's own `/upstream` by name. `GET /?host=NAME` resolves NAME. `GET /ready` returns whether it
//!   wants requests.
//! - `--hang NAME` makes lookups of NAME hang for ever, to show what is left behind. `--port N` picks the port.

use std::error::Error;
use std::future::{Future, IntoFuture};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use gaiter::{Backend, Resolver, System};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::watch;

type BoxError = Box<dyn Error + Send + Sync>;

struct Options {
    grace: Duration,
    hang: Option<String>,
    port: u16,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options { grace: Duration::from_secs(5), hang: None, port: 0 };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("grace") => options.grace = parser.value()?.parse_with(humantime::parse_duration)?,
            Long("hang") => options.hang = Some(parser.value()?.string()?),
            Long("port") => options.port = parser.value()?.parse()?,
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(options)
}

/// The system's resolver, except for one name that it never answers.
struct Hanging {
    name: Option<String>,
}

impl Backend for Hanging {
    fn lookup(&self, name: &str) -> Result<gaiter::Answer, gaiter::Error> {
        if self.name.as_deref() == Some(name) {
            println!("looking up {name}, for ever");
            loop {
                std::thread::park();
            }
        }
        System::new().lookup(name)
    }

    fn emits_events(&self) -> bool {
        false
    }
}

/// State that the handlers share.
#[derive(Clone)]
struct App {
    resolver: Resolver,
    client: Client<HttpConnector<Resolver>, Empty<Bytes>>,
    upstream: Arc<str>,
    ready: Arc<AtomicBool>,
}

#[derive(serde::Deserialize)]
struct Question {
    host: Option<String>,
}

async fn index(State(app): State<App>, Query(question): Query<Question>) -> (StatusCode, String) {
    let answer = match question.host {
        Some(host) => app.resolve(&host).await,
        None => app.fetch().await,
    };
    answer.map_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error}\n")), |text| (StatusCode::OK, text))
}

async fn ready(State(app): State<App>) -> StatusCode {
    if app.ready.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

impl App {
    async fn resolve(&self, host: &str) -> Result<String, BoxError> {
        Ok(self.resolver.resolve(host).await?.map(|addr| format!("{}\n", addr.ip())).collect())
    }

    async fn fetch(&self) -> Result<String, BoxError> {
        let response = self.client.get(self.upstream.parse()?).await?;
        Ok(String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()).into_owned())
    }
}

/// Counts the signals that ask the program to stop.
fn signals() -> std::io::Result<watch::Receiver<usize>> {
    let (count, receiver) = watch::channel(0);
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            #[cfg(unix)]
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            #[cfg(not(unix))]
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(receiver)
}

fn reached(signals: &watch::Receiver<usize>, wanted: usize) -> impl Future<Output = ()> + Send + 'static {
    let mut signals = signals.clone();
    async move {
        _ = signals.wait_for(|&count| count >= wanted).await;
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), BoxError> {
    let signals = signals()?;
    let listener = TcpListener::bind(("localhost", options.port)).await?;
    let address = format!("http://localhost:{}", listener.local_addr()?.port());

    let resolver = Resolver::builder().backend(Hanging { name: options.hang }).timeout(None).build();
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new_with_resolver(resolver.clone()));
    let app = App {
        resolver: resolver.clone(),
        client,
        upstream: format!("{address}/upstream").into(),
        ready: Arc::new(AtomicBool::new(true)),
    };
    let routes = Router::new()
        .route("/", get(index))
        .route("/ready", get(ready))
        .route("/upstream", get(|| async { "hello from upstream\n" }))
        .with_state(app.clone());

    println!("listening on {address}");
    let stopping = {
        let (first, ready) = (reached(&signals, 1), Arc::clone(&app.ready));
        async move {
            first.await;
            ready.store(false, Ordering::Relaxed);
            println!("stopping");
        }
    };
    let mut server = tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(stopping).into_future());
    reached(&signals, 1).await;

    // Requests first, since they may still look names up. Then the resolver, with the rest of the grace period.
    let deadline = Instant::now() + options.grace;
    let mut served = false;
    tokio::select! {
        _ = &mut server => served = true,
        () = tokio::time::sleep_until(deadline.into()) => {}
        () = reached(&signals, 2) => {}
    }
    let rest = deadline.saturating_duration_since(Instant::now());
    println!("{}", resolver.shutdown().within(rest).until(reached(&signals, 2)).await);

    // Requests that waited for a lookup have been told by now. This lets them respond.
    if !served {
        _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    }
    Ok(())
}
