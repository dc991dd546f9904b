//! HTTP clients report a lookup that times out as a timeout.

mod support;

use std::error::Error;
use std::io;
use std::iter::successors;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use support::backend::Scripted;
use support::gate::OpenOnDrop;

/// Returns the gaiter error among the causes of a client's error. One cause must be an I/O error of kind `TimedOut`.
fn timeout<'a>(error: &'a (dyn Error + 'static)) -> &'a gaiter::Error {
    let causes = || successors(Some(error), |&error| error.source());
    let timed_out = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
    assert!(causes().any(|cause| cause.downcast_ref().is_some_and(timed_out)), "{error:?}");
    causes().find_map(|cause| cause.downcast_ref()).expect("gaiter's error")
}

#[tokio::test]
async fn hyper_and_reqwest_tell_it_from_other_errors() {
    let backend = Scripted::default();
    let _open = OpenOnDrop(&backend.gate);
    let resolver = support::plain().backend(backend.clone()).timeout(Duration::from_millis(20)).build();
    let url = "http://hang.example/";

    let connector = HttpConnector::new_with_resolver(resolver.clone());
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let error = client.get(url.parse().unwrap()).await.expect_err("a timeout");
    assert!(error.is_connect());
    assert_eq!(timeout(&error).name(), Some("hang.example"));

    #[cfg(feature = "reqwest")]
    {
        let client = reqwest::Client::builder().dns_resolver(resolver).build().expect("a client");
        let error = client.get(url).send().await.expect_err("a timeout");
        assert!(error.is_timeout() && error.is_connect() && error.is_dns(), "{error:?}");
        let ours = timeout(&error);
        assert!(ours.is_timeout() && ours.time_in_call().is_some());
    }
}
