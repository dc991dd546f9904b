//! The recipes: other clients that take a resolver, against servers on loopback.

#[path = "../recipes/aws.rs"]
mod aws;
#[path = "../recipes/object_store.rs"]
mod object_store_recipe;
#[path = "../recipes/opentelemetry.rs"]
mod opentelemetry_recipe;
#[path = "../recipes/redis.rs"]
mod redis_recipe;
#[path = "../recipes/tcp_stream.rs"]
mod tcp_stream;
#[path = "../recipes/tokio_postgres.rs"]
mod tokio_postgres_recipe;
#[path = "../recipes/tonic.rs"]
mod tonic_recipe;
#[path = "../recipes/ureq.rs"]
mod ureq_recipe;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aws_sdk_sso::config::BehaviorVersion;
use aws_sdk_sso::config::retry::RetryConfig;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::{any, get};
use gaiter_ecosystem::cause;
use gaiter_ecosystem::collector::Collector;
use gaiter_ecosystem::gate::OpenOnDrop;
use gaiter_ecosystem::names::Names;
use gaiter_ecosystem::servers::{self, HalfDead};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use object_store::ObjectStoreExt;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_service::Service;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn names() -> Names {
    Names::new([("a.test", &[V4])])
}

#[tokio::test]
async fn the_aws_sdk_resolves_its_endpoints() {
    let answer = r#"{"roleCredentials":{"accessKeyId":"hello"}}"#;
    let server =
        servers::http(Router::new().route("/federation/credentials", get(move || async move { answer }))).await;
    let names = names();
    let http = aws::http_client(names.resolver());
    let ask = async |name: &str| {
        let config = aws_sdk_sso::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_sdk_sso::config::Region::new("test"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(format!("http://{name}:{}", server.port()))
            .http_client(http.clone())
            .build();
        let client = aws_sdk_sso::Client::from_conf(config);
        client.get_role_credentials().role_name("r").account_id("1").access_token("t").send().await
    };
    let credentials = ask("a.test").await.unwrap().role_credentials.unwrap();
    assert_eq!(credentials.access_key_id.as_deref(), Some("hello"));
    let error = ask("missing.test").await.unwrap_err();
    assert!(cause(&error).is_not_found(), "{error:?}");
    assert_eq!(names.asked(), ["a.test", "missing.test"]);
}

#[tokio::test]
async fn object_store_resolves_its_stores() {
    let server = servers::http(Router::new().route("/object", get(|| async { "hello" }))).await;
    let names = names();
    let resolver = names.resolver();
    let store = |name: &str| {
        let options = object_store_recipe::client_options(resolver.clone()).with_allow_http(true);
        let once = object_store::RetryConfig { max_retries: 0, ..Default::default() };
        let url = format!("http://{name}:{}", server.port());
        HttpBuilder::new().with_url(url).with_client_options(options).with_retry(once).build().unwrap()
    };
    let object = store("a.test").get(&Path::from("object")).await.unwrap();
    assert_eq!(object.bytes().await.unwrap(), "hello");
    let error = store("missing.test").get(&Path::from("object")).await.unwrap_err();
    assert!(cause(&error).is_not_found(), "{error:?}");
    assert_eq!(names.asked(), ["a.test", "missing.test"]);
}

/// Answers every command of one connection with `+OK`, and `PING` with `+PONG`.
async fn redis_server(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = tokio::io::BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 {
            return;
        }
        let words: usize = line.trim_end().strip_prefix('*').expect("an array").parse().unwrap();
        let mut command = Vec::new();
        for _ in 0..words {
            let mut length = String::new();
            stream.read_line(&mut length).await.unwrap();
            let length: usize = length.trim_end().strip_prefix('$').expect("a string").parse().unwrap();
            let mut word = vec![0; length + 2];
            stream.read_exact(&mut word).await.unwrap();
            command.push(word);
        }
        let answer: &[u8] = if command[0] == b"PING\r\n" { b"+PONG\r\n" } else { b"+OK\r\n" };
        stream.write_all(answer).await.unwrap();
    }
}

#[tokio::test]
async fn redis_resolves_its_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(redis_server(listener));
    let names = names();
    let resolver = names.resolver();
    let connect = async |name: &str| {
        let config = redis::AsyncConnectionConfig::new().set_dns_resolver(redis_recipe::Dns(resolver.clone()));
        let client = redis::Client::open(format!("redis://{name}:{port}")).unwrap();
        client.get_multiplexed_async_connection_with_config(&config).await
    };
    let mut connection = connect("a.test").await.unwrap();
    assert_eq!(redis::cmd("PING").query_async::<String>(&mut connection).await.unwrap(), "PONG");
    let error = connect("missing.test").await.expect_err("no connection");
    assert!(
        error.is_io_error() && error.to_string().contains("failed to resolve missing.test: no such host"),
        "{error}"
    );
    assert_eq!(names.asked(), ["a.test", "missing.test"]);
}

#[test]
fn ureq_resolves_within_its_own_timeout() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(servers::http(Router::new().route("/", get(|| async { "hello" }))));
    let names = names();
    let _open = OpenOnDrop(&names.gate);
    let resolver = names.builder().timeout(None).build();
    let agent = |timeout| {
        let config = ureq::Agent::config_builder().timeout_resolve(timeout).build();
        let connector = ureq::unversioned::transport::DefaultConnector::default();
        ureq::Agent::with_parts(config, connector, ureq_recipe::Dns(resolver.clone()))
    };
    let url = format!("http://a.test:{}/", server.port());
    assert_eq!(agent(None).get(&url).call().unwrap().body_mut().read_to_string().unwrap(), "hello");
    let ureq::Error::Io(missing) = agent(None).get("http://missing.test/").call().unwrap_err() else { panic!() };
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let hasty = agent(Some(Duration::from_millis(20)));
    let ureq::Error::Io(hung) = hasty.get("http://hung.test/").call().unwrap_err() else { panic!() };
    assert!(gaiter::Error::from(hung).is_timeout());
    assert_eq!(names.asked()[..2], ["a.test", "missing.test"]);
}

/// Accepts any user, without TLS, and says that it is ready.
async fn postgres_server(listener: TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let length = stream.read_u32().await.unwrap();
    stream.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
    stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
    _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn tokio_postgres_tries_each_address() {
    let HalfDead { alive, port, dead: _dead } = HalfDead::refusing().await;
    tokio::spawn(postgres_server(alive));
    let resolver = Names::new([("a.test", &[V6, V4])]).resolver();
    let mut config = tokio_postgres::Config::new();
    config.user("user").port(port);
    tokio_postgres_recipe::add_host(&mut config, "a.test", &resolver).await.unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    drop(client);
    connection.await.unwrap();
    let missing = tokio_postgres_recipe::add_host(&mut config, "missing.test", &resolver).await.unwrap_err();
    assert!(missing.is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_stream_tries_each_address() {
    let HalfDead { alive, port, dead: _dead } = HalfDead::refusing().await;
    let resolver = Names::new([("a.test", &[V6, V4])]).resolver();
    let accept = async || alive.accept().await.unwrap().1;
    let stream = tcp_stream::tokio(&resolver, "a.test", port).await.unwrap();
    assert_eq!(accept().await, stream.local_addr().unwrap());
    let cloned = resolver.clone();
    let stream =
        tokio::task::spawn_blocking(move || tcp_stream::blocking(&cloned, "a.test", port)).await.unwrap().unwrap();
    assert_eq!(accept().await, stream.local_addr().unwrap());
    let missing = tcp_stream::tokio(&resolver, "missing.test", port).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_tonic_channel_connects_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(Router::new().fallback(any(|| async { "hello" })));
        auto::Builder::new(TokioExecutor::new()).http2_only().serve_connection(TokioIo::new(stream), service).await
    });
    let names = names();
    let resolver = names.resolver();
    let endpoint = |name| tonic::transport::Endpoint::from_shared(format!("http://{name}:{port}")).unwrap();
    let mut channel = tonic_recipe::connect(endpoint("a.test"), resolver.clone()).await.unwrap();
    let request = Request::post("/service/method").body(tonic::body::Body::empty()).unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let body = Body::new(channel.call(request).await.unwrap().into_body());
    assert_eq!(axum::body::to_bytes(body, 100).await.unwrap(), "hello");
    let error = tonic_recipe::connect(endpoint("missing.test"), resolver).await.unwrap_err();
    assert!(cause(&error).is_not_found(), "{error:?}");
    assert_eq!(names.asked(), ["a.test", "missing.test"]);
}

#[test]
fn opentelemetry_exports_to_a_collector_by_name() {
    let collector = Collector::start();
    let endpoint = format!("http://localhost:{}/v1/traces", collector.port());
    let provider = opentelemetry_recipe::provider(&endpoint).unwrap();
    provider.tracer("test").start("request").end();
    provider.shutdown().unwrap();
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["request"]);
}

/// So that what the docs show is what is compiled here.
#[test]
fn the_cookbook_has_the_recipes() {
    let cookbook = include_str!("../../../src/cookbook.rs");
    let cookbook: String = cookbook
        .lines()
        .map(|line| line.strip_prefix("//!").unwrap_or(line).trim_start_matches(' ').to_owned() + "\n")
        .collect();
    for recipe in [
        include_str!("../recipes/aws.rs"),
        include_str!("../recipes/object_store.rs"),
        include_str!("../recipes/opentelemetry.rs"),
        include_str!("../recipes/pingora_discovery.rs"),
        include_str!("../recipes/prometheus.rs"),
        include_str!("../recipes/redis.rs"),
        include_str!("../recipes/tokio_postgres.rs"),
        include_str!("../recipes/tonic.rs"),
        include_str!("../recipes/tonic_balance.rs"),
        include_str!("../recipes/ureq.rs"),
    ] {
        let code: String = recipe.lines().skip(1).map(|line| line.trim_start_matches(' ').to_owned() + "\n").collect();
        assert!(cookbook.contains(code.trim()), "{recipe}");
        assert!(recipe.lines().count() <= 35, "{recipe}");
    }
}
