//! hyper: clients of several runtimes, TLS, a dead address family, errors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use gaiter::{ErrorKind, Resolver};
use gaiter_ecosystem::gate::OpenOnDrop;
use gaiter_ecosystem::names::Names;
use gaiter_ecosystem::servers::{self, HalfDead};
use gaiter_ecosystem::{cause, tls};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{StatusCode, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Runtime;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn client<C: Connect + Clone>(connector: C) -> Client<C, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn fetch<C>(client: &Client<C, Empty<Bytes>>, url: &str) -> Result<(Version, Bytes), Error>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = client.get(url.parse().unwrap()).await?;
    assert_eq!(response.status(), StatusCode::OK);
    Ok((response.version(), response.into_body().collect().await.unwrap().to_bytes()))
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[test]
fn a_runtime_that_goes_away_leaves_the_lookup_to_the_other() {
    let names = Names::new([("hung.test", &[V4])]);
    let _open = OpenOnDrop(&names.gate);
    let resolver = names.resolver();
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let server = second.block_on(servers::http(hello()));
    let get = |runtime: &Runtime| {
        let client = client(HttpConnector::new_with_resolver(resolver.clone()));
        let url = format!("http://hung.test:{}/", server.port());
        runtime.spawn(async move { fetch(&client, &url).await.unwrap().1 })
    };
    let gone = get(&first);
    names.gate.await_arrivals(1);
    let waiting = get(&second);
    drop(first);
    assert!(second.block_on(gone).unwrap_err().is_cancelled());
    names.gate.open();
    assert_eq!(second.block_on(waiting).unwrap(), "hello");
    assert_eq!(names.asked(), ["hung.test"]);
}

/// Returns a connector for HTTP/2, with HTTP/1.1 as the alternative, or for HTTP/1.1 alone.
fn https(ca: &tls::Authority, resolver: Resolver, http2: bool) -> HttpsConnector<HttpConnector<Resolver>> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(ca.client()).https_only();
    match http2 {
        true => builder.enable_all_versions().wrap_connector(http),
        false => builder.enable_http1().wrap_connector(http),
    }
}

#[tokio::test]
async fn tls_over_http_1_and_2_checks_the_name_that_was_resolved() {
    let ca = tls::Authority::new();
    let server = servers::https(ca.server(&["a.test"]), hello()).await;
    let resolver = Names::new([("a.test", &[V4]), ("other.test", &[V4])]).resolver();
    for (http2, version) in [(true, Version::HTTP_2), (false, Version::HTTP_11)] {
        let client = client(https(&ca, resolver.clone(), http2));
        let response = fetch(&client, &format!("https://a.test:{}/", server.port())).await.unwrap();
        assert_eq!(response, (version, "hello".into()));
        let error = fetch(&client, &format!("https://other.test:{}/", server.port())).await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
    }
}

#[tokio::test]
async fn a_first_family_that_refuses_or_is_silent_is_passed_over() {
    for half in [HalfDead::refusing().await, HalfDead::silent().await] {
        let HalfDead { alive, port, dead } = half;
        let resolver = Names::new([("a.test", &[V6, V4])]).resolver();
        servers::serve(alive, hello());
        let client = client(HttpConnector::new_with_resolver(resolver));
        let (_, text) = fetch(&client, &format!("http://a.test:{}/", port)).await.unwrap();
        assert_eq!(text, "hello");
        dead.assert_nobody_got_through().await;
    }
}

#[tokio::test]
async fn errors_lead_to_gaiters_own() {
    let names = Names::new([]);
    let _open = OpenOnDrop(&names.gate);
    let patient = names.builder().timeout(None).build();
    let hasty = names.builder().timeout(Duration::from_millis(20)).build();
    for (name, resolver, kind) in
        [("missing.test", patient, ErrorKind::NotFound), ("hung.test", hasty, ErrorKind::Timeout)]
    {
        let client = client(HttpConnector::new_with_resolver(resolver));
        let error = fetch(&client, &format!("http://{name}/")).await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        assert_eq!((cause(&error).kind(), cause(&error).name()), (kind, Some(name)));
    }
}
