//! reqwest: one resolver for clients of several runtimes, TLS, redirects, proxies, a dead address family, errors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use gaiter::{ErrorKind, Resolver};
use gaiter_ecosystem::gate::OpenOnDrop;
use gaiter_ecosystem::names::Names;
use gaiter_ecosystem::servers::{self, HalfDead};
use gaiter_ecosystem::{cause, tls};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn client(resolver: &Resolver) -> Client {
    Client::builder().dns_resolver(resolver.clone()).build().unwrap()
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

async fn text(client: &Client, url: String) -> String {
    client.get(url).send().await.unwrap().text().await.unwrap()
}

#[test]
fn a_runtime_that_goes_away_leaves_the_lookup_to_the_other() {
    let names = Names::new([("hung.test", &[V4]), ("a.test", &[V4])]);
    let _open = OpenOnDrop(&names.gate);
    let resolver = names.resolver();
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let server = second.block_on(servers::http(hello()));
    let get = |runtime: &Runtime, name: &str| {
        let (client, url) = (client(&resolver), format!("http://{name}:{}/", server.port()));
        runtime.spawn(async move { text(&client, url).await })
    };
    let gone = get(&first, "hung.test");
    names.gate.await_arrivals(1);
    let waiting = get(&second, "hung.test");
    // Does not wait for the call, which still hangs.
    drop(first);
    assert!(second.block_on(gone).unwrap_err().is_cancelled());
    assert_eq!(second.block_on(get(&second, "a.test")).unwrap(), "hello");
    names.gate.open();
    assert_eq!(second.block_on(waiting).unwrap(), "hello");
    assert_eq!(names.asked(), ["hung.test", "a.test"]);
    assert!(second.block_on(resolver.shutdown()).is_clean());
}

#[tokio::test]
async fn tls_over_http_1_and_2_checks_the_name_that_was_resolved() {
    let ca = tls::Authority::new();
    let server = servers::https(ca.server(&["a.test"]), hello()).await;
    let resolver = Names::new([("a.test", &[V4]), ("other.test", &[V4])]).resolver();
    let root = || Certificate::from_der(&ca.certificate()).unwrap();
    let builder = || Client::builder().dns_resolver(resolver.clone()).tls_certs_only([root()]);
    for (client, version) in [(builder(), Version::HTTP_2), (builder().http1_only(), Version::HTTP_11)] {
        let client = client.build().unwrap();
        let response = client.get(format!("https://a.test:{}/", server.port())).send().await.unwrap();
        assert_eq!((response.version(), response.text().await.unwrap().as_str()), (version, "hello"));
        let error = client.get(format!("https://other.test:{}/", server.port())).send().await.unwrap_err();
        assert!(error.is_connect() && !error.is_dns(), "{error:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_name_is_resolved_too() {
    let target = servers::http(hello()).await;
    let to = format!("http://b.test:{}/", target.port());
    let moved = Router::new().route("/", get(|| async move { Redirect::temporary(&to) }));
    let server = servers::http(moved).await;
    let names = Names::new([("a.test", &[V4]), ("b.test", &[V4])]);
    assert_eq!(text(&client(&names.resolver()), format!("http://a.test:{}/", server.port())).await, "hello");
    assert_eq!(names.asked(), ["a.test", "b.test"]);
}

/// Serves one connection by SOCKS 5 without authentication, and returns the address that was asked for.
async fn socks(listener: TcpListener) -> SocketAddr {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting[0], 5);
    client.read_exact(&mut vec![0; greeting[1].into()]).await.unwrap();
    client.write_all(&[5, 0]).await.unwrap();
    let mut request = [0; 10];
    client.read_exact(&mut request).await.unwrap();
    let [5, 1, 0, 1, a, b, c, d, port @ ..] = request else {
        panic!("not a connection to an IPv4 address: {request:?}")
    };
    let asked: SocketAddr = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes(port)).into();
    let mut upstream = TcpStream::connect(asked).await.unwrap();
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    _ = copy_bidirectional(&mut client, &mut upstream).await;
    asked
}

#[tokio::test]
async fn a_socks_proxy_with_local_dns_is_asked_for_an_address() {
    let server = servers::http(hello()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::all(format!("socks5://proxy.test:{}", listener.local_addr().unwrap().port())).unwrap();
    let asked = tokio::spawn(socks(listener));
    let names = Names::new([("a.test", &[V4]), ("proxy.test", &[V4])]);
    let client = Client::builder().dns_resolver(names.resolver()).proxy(proxy).build().unwrap();
    assert_eq!(text(&client, format!("http://a.test:{}/", server.port())).await, "hello");
    drop(client);
    assert_eq!(asked.await.unwrap(), server);
    let mut names = names.asked();
    names.sort();
    assert_eq!(names, ["a.test", "proxy.test"]);
}

#[tokio::test]
async fn a_first_family_that_refuses_or_is_silent_is_passed_over() {
    for half in [HalfDead::refusing().await, HalfDead::silent().await] {
        let HalfDead { alive, port, dead } = half;
        let resolver = Names::new([("a.test", &[V6, V4])]).resolver();
        servers::serve(alive, hello());
        let url = format!("http://a.test:{}/", port);
        assert_eq!(text(&client(&resolver), url).await, "hello");
        dead.assert_nobody_got_through().await;
    }
}

#[tokio::test]
async fn errors_say_whether_the_name_or_the_connection_failed() {
    let names = Names::new([("refused.test", &[V6])]);
    let _open = OpenOnDrop(&names.gate);
    let patient = names.builder().timeout(None).build();
    let get = async |builder: ClientBuilder, url: &str| builder.build().unwrap().get(url).send().await.unwrap_err();
    let builder = |resolver: &Resolver| Client::builder().dns_resolver(resolver.clone());

    let missing = get(builder(&patient), "http://missing.test/").await;
    assert!(missing.is_dns() && missing.is_connect() && !missing.is_timeout(), "{missing:?}");
    assert_eq!((cause(&missing).kind(), cause(&missing).name()), (ErrorKind::NotFound, Some("missing.test")));

    let HalfDead { port, dead: _dead, .. } = HalfDead::refusing().await;
    let refused = get(builder(&patient), &format!("http://refused.test:{port}/")).await;
    assert!(!refused.is_dns() && refused.is_connect() && !refused.is_timeout(), "{refused:?}");

    let hasty = names.builder().timeout(Duration::from_millis(20)).build();
    let hung = get(builder(&hasty), "http://hung.test/").await;
    assert!(hung.is_dns() && hung.is_connect() && hung.is_timeout(), "{hung:?}");
    assert_eq!(cause(&hung).kind(), ErrorKind::Timeout);

    // The client's own bound, which knows nothing of the lookup.
    let gave_up = get(builder(&patient).connect_timeout(Duration::from_millis(20)), "http://hung.test/").await;
    assert!(gave_up.is_timeout() && gave_up.is_connect() && !gave_up.is_dns(), "{gave_up:?}");

    patient.close();
    let closed = get(builder(&patient), "http://refused.test/").await;
    assert!(closed.is_dns() && cause(&closed).is_closed(), "{closed:?}");
}

#[test]
fn the_blocking_client_takes_the_resolver_in_an_arc() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(servers::http(hello()));
    let names = Names::new([("a.test", &[V4])]);
    let resolver = names.resolver();
    let client = reqwest::blocking::Client::builder().dns_resolver(Arc::new(resolver.clone())).build().unwrap();
    let url = format!("http://a.test:{}/", server.port());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(client.get(&url).send().unwrap().text().unwrap(), "hello"));
        }
    });
    assert_eq!(names.asked(), ["a.test"]);
    let error = client.get("http://missing.test/").send().unwrap_err();
    assert!(error.is_dns() && cause(&error).is_not_found(), "{error:?}");
    assert!(resolver.shutdown().wait().is_clean());
}
