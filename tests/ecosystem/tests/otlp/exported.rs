//! Lookups as a collector gets them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gaiter_ecosystem::collector::{Collector, duration};
use gaiter_ecosystem::gate::{Gate, OpenOnDrop};
use opentelemetry_proto::tonic::trace::v1::Span;
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, info_span};

use super::{PROCESSORS, builder, provider, runtime, subscriber};

/// How long a request waits before it gives up.
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
            provider(processor, "collector.test", collector.port(), &exporters)
        };
        let resolver = builder(&gate).build();
        // Its own timeout is longer than that of the requests.
        let client = reqwest::Client::builder().dns_resolver(resolver.clone()).no_proxy().build().expect("a client");
        let get = |host: &str| {
            let get = client.get(format!("http://{host}:{}/", collector.port())).send();
            let request = info_span!("request", host);
            async { tokio::time::timeout(PATIENCE, get).await }.instrument(request)
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
            assert_eq!(until_end >= PATIENCE, host == "hang.test", "{processor:?}: {until_end:?}");
        }
        assert_eq!(attribute(by_name["DNS lookup missing.test"], "error.type").as_deref(), Some("not_found"));

        drop(open);
        provider.shutdown().expect("a clean end");
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}
