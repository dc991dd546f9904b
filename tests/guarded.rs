//! Runs `examples/guarded`: hyper and reqwest refuse loopback by name, as an address in all its forms, and by redirect.

mod support;

use std::convert::Infallible;

use gaiter::Resolver;
use http_body_util::{Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::example::example;
use tokio::net::TcpListener;

/// Runs the example, and returns its lines and whether it ended well.
fn run(urls: &[&str]) -> (Vec<String>, bool) {
    let output = example("guarded")
        .args(urls)
        // Not for this server: the example must not ask it.
        .env("http_proxy", "http://127.0.0.1:1")
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, output.status.success())
}

#[test]
fn loopback_is_refused_in_every_way_and_the_public_page_is_fetched() {
    let (lines, well) = run(&[]);
    assert!(well, "{lines:#?}");
    let (count, lines) = lines.split_last().unwrap();
    assert_eq!(count, "the secret was fetched 0 times");
    let fetched: Vec<_> = lines.iter().filter(|line| line.ends_with("/: 200 OK")).collect();
    assert_eq!(fetched.len(), 2, "{lines:#?}");
    for client in ["hyper   ", "reqwest "] {
        let refused = lines.iter().filter(|line| line.starts_with(client) && line.contains(": refused: "));
        assert_eq!(refused.filter(|line| line.contains(" (loopback, RFC ")).count(), 11, "{lines:#?}");
    }
    assert_eq!(lines.len(), 24, "{lines:#?}");
}

/// The port of an override is used where the URL has none.
#[tokio::test]
async fn a_client_takes_the_port_of_an_override() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resolver = Resolver::builder().override_host("api.example", listener.local_addr().unwrap()).build();
    let connector = HttpConnector::new_with_resolver(resolver.clone());
    let by_hyper = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let by_reqwest = reqwest::Client::builder().dns_resolver(resolver).no_proxy().build().unwrap();
    let (hyper, reqwest, ()) = tokio::join!(
        by_hyper.get("http://api.example/".parse().unwrap()),
        by_reqwest.get("http://api.example/").send(),
        async {
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(|request: Request<Incoming>| async move {
                    assert_eq!(request.headers()["host"], "api.example");
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        }
    );
    assert_eq!((hyper.unwrap().status(), reqwest.unwrap().status()), (StatusCode::OK, StatusCode::OK));
}

#[test]
fn urls_of_the_user_are_refused_too() {
    let (lines, _) = run(&["http://[::1]/", "http://169.254.169.254/latest/", "http://0/"]);
    let refused = lines.iter().filter(|line| line.contains(": refused: failed to resolve "));
    assert_eq!(refused.count(), 6, "{lines:#?}");
}
