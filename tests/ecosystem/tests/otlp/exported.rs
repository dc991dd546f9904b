//! Lookups as a collector gets them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use gaiter::{CacheConfig, ErrorKind, Hedge, Resolver, Untraced};
use gaiter_ecosystem::WATCHDOG;
use gaiter_ecosystem::collector::{Collector, duration, listen, port_of};
use gaiter_ecosystem::gate::{Gate, OpenOnDrop};
use opentelemetry_proto::tonic::trace::v1::Span;
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, dispatcher, info_span};

use super::{PROCESSORS, Processor, Tries, builder, provider, runtime, subscriber};

/// How long a request waits that hangs, before it gives up.
const PATIENCE: Duration = Duration::from_secs(1);

#[test]
fn lookups_are_under_their_requests_and_one_who_gave_up_is_exported_while_the_call_hangs() {
    for processor in PROCESSORS {
        let collector = Collector::start();
        let gate = Gate::default();
        let open = OpenOnDrop(&gate);
        let runtime = runtime();
        let exporters = builder(&gate).spans(false).build();
        let provider = {
            let _entered = runtime.enter();
            provider(processor, ("collector.test", collector.port()), &exporters, Tries::Once)
        };
        let resolver = builder(&gate).build();
        // Its own timeout is longer than that of the requests.
        let client = reqwest::Client::builder().dns_resolver(resolver.clone()).no_proxy().build().expect("a client");
        let get = |host: &str| {
            let get = client.get(format!("http://{host}:{}/", collector.port())).send();
            let patience = if host == "hang.test" { PATIENCE } else { WATCHDOG };
            let request = info_span!("request", host);
            async move { tokio::time::timeout(patience, get).await }.instrument(request)
        };
        let dispatch = subscriber(&provider);
        let began = Instant::now();
        let requests = async {
            assert!(get("ok.test").await.expect("in time").expect("a response").status().is_success());
            get("missing.test").await.expect("in time").expect_err("no such name");
            get("hang.test").await.expect_err("it hangs");
        };
        runtime.block_on(requests.with_subscriber(dispatch));
        let took = began.elapsed();
        provider.force_flush().expect("a flush");

        assert_eq!((gate.arrived(), resolver.stats().running), (1, 1), "the call hangs still");
        let spans = collector.spans();
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(spans.len(), 6, "{processor:?}: {names:?}");
        let by_name: HashMap<_, _> =
            spans.iter().filter(|span| span.name != "request").map(|span| (&*span.name, span)).collect();
        for host in ["ok.test", "missing.test", "hang.test"] {
            let lookup = by_name[format!("DNS lookup {host}").as_str()];
            let request = spans.iter().find(|span| span.span_id == lookup.parent_span_id).expect("a parent");
            assert_eq!(
                (&*request.name, attribute(request, "host")),
                ("request", Some(host.to_owned())),
                "{processor:?}"
            );
            assert_eq!(request.trace_id, lookup.trace_id);
            assert_eq!(attribute(lookup, "dns.question.name").as_deref(), Some(host));
            assert!(request.start_time_unix_nano <= lookup.start_time_unix_nano);
            assert!(lookup.end_time_unix_nano <= request.end_time_unix_nano);
            assert!(duration(request) <= took);
            // Both end when the caller leaves.
            let until_end = Duration::from_nanos(lookup.end_time_unix_nano - request.start_time_unix_nano);
            assert!(until_end >= PATIENCE || host != "hang.test", "{processor:?}: {until_end:?}");
        }
        let addresses = attribute(by_name["DNS lookup ok.test"], "gaiter.addresses");
        assert_eq!(addresses.as_deref(), Some("IntValue(1)"), "a number, and not its text");
        assert_eq!(attribute(by_name["DNS lookup missing.test"], "error.type").as_deref(), Some("not_found"));

        drop(open);
        provider.shutdown().expect("a clean end");
    }
}

/// The pool of hyper's client goes on connecting for a request that has got another connection meanwhile.
#[test]
fn a_request_whose_connection_is_made_in_the_background_is_exported_once_that_lookup_ends() {
    let collector = Collector::start();
    let [calls, responses] = [Gate::default(), Gate::default()];
    let (_open_calls, _open_responses) = (OpenOnDrop(&calls), OpenOnDrop(&responses));
    let runtime = runtime();
    let exporters = builder(&Gate::default()).spans(false).build();
    let provider = {
        let _entered = runtime.enter();
        provider(Processor::Tokio, ("collector.test", collector.port()), &exporters, Tries::Once)
    };
    let (held, is_second) = (calls.clone(), AtomicBool::new(false));
    let backend = move |_: &str| {
        if is_second.swap(true, Ordering::SeqCst) {
            held.pass();
        }
        Ok::<_, ErrorKind>(IpAddr::V4(Ipv4Addr::LOCALHOST))
    };
    let resolver =
        Resolver::builder().backend(Untraced(backend)).cache(CacheConfig::disabled()).hedge(Hedge::off()).build();
    let client = reqwest::Client::builder().dns_resolver(resolver).no_proxy().build().expect("a client");
    let server = listen();
    let url = format!("http://pooled.test:{}/", port_of(&server));
    let held = responses.clone();
    runtime.spawn(async move {
        server.set_nonblocking(true).expect("no wait");
        let server = tokio::net::TcpListener::from_std(server).expect("a listener");
        axum::serve(server, Router::new().route("/", get(async move || held.passed().await))).await
    });
    let dispatch = subscriber(&provider);
    let request = || {
        let response = client.get(&url).send();
        let request = async { response.await.expect("a response").bytes().await.expect("a body") };
        runtime.spawn(request.instrument(info_span!("request")).with_current_subscriber())
    };
    let (first, second) = dispatcher::with_default(&dispatch, || {
        let first = request();
        responses.await_arrivals(1);
        let second = request();
        calls.await_arrivals(1);
        (first, second)
    });
    responses.open();
    runtime.block_on(async { (first.await.expect("no panic"), second.await.expect("no panic")) });
    provider.force_flush().expect("a flush");
    let names = || collector.spans().into_iter().map(|span| span.name).collect::<Vec<_>>();
    assert_eq!(names(), ["DNS lookup pooled.test", "request"], "of the first");

    calls.open();
    let began = Instant::now();
    while names().len() < 4 {
        provider.force_flush().expect("a flush");
        assert!(began.elapsed() < WATCHDOG, "{:?}", names());
    }
    assert_eq!(names()[2..], ["DNS lookup pooled.test", "request"]);
    provider.shutdown().expect("a clean end");
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}
