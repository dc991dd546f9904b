//! Makes requests through hyper and reqwest, with a global registry and a second one set by `with_subscriber`. The lookup is
//! recorded inside the request's span, and nothing panics.

mod support;

use std::convert::Infallible;
use std::future::Future;

use gaiter::Resolver;
use http_body_util::{Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::log::{Ledger, Log};
use support::panics;
use tokio::net::TcpListener;
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

/// Starts a server, and returns its URL, whose host is a name.
async fn serve() -> String {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

/// Runs `request` inside a request span of a second registry. Its lookup must be recorded there, and nowhere else.
async fn assert_traced(request: impl Future<Output = ()>, global: &Log) {
    let own = Log::default();
    let subscriber = registry().with(Ledger(own.clone()));
    let before = global.look(|seen| seen.opened.clone());
    async { request.instrument(info_span!("request")).await }.with_subscriber(subscriber).await;
    global.look(|seen| assert_eq!(seen.opened, before, "the global registry heard of it"));
    own.await_closed();
    own.look(|seen| {
        let lookups: Vec<_> = seen.opened.iter().filter(|scope| scope.last() == Some(&"resolve")).collect();
        assert_eq!(lookups, [&["request", "resolve"]]);
        assert_eq!(seen.failures, [""; 0]);
    });
}

#[tokio::test]
async fn a_lookup_is_inside_its_requests_span() {
    let panics_before = panics::unexpected();
    let global = Log::default();
    tracing::subscriber::set_global_default(registry().with(Ledger(global.clone()))).expect("the only one");
    // The decoy's id is the first of the global registry, and the request's id the first of the other one.
    let decoy = info_span!("decoy");
    let url = serve().await;

    assert_traced(
        async {
            let connector = HttpConnector::new_with_resolver(Resolver::new());
            let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
            let response = client.get(url.parse().unwrap()).await.expect("a response");
            assert_eq!(response.status(), 200);
        },
        &global,
    )
    .await;

    #[cfg(feature = "reqwest")]
    assert_traced(
        async {
            let client = reqwest::Client::builder().dns_resolver(Resolver::new()).build().expect("a client");
            let response = client.get(&url).send().await.expect("a response");
            assert_eq!(response.status(), 200);
        },
        &global,
    )
    .await;

    global.look(|seen| assert_eq!(seen.open.values().collect::<Vec<_>>(), [&"decoy"]));
    drop(decoy);
    assert_eq!(panics::unexpected(), panics_before);
}
