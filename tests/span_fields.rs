//! Tests the fields of the `resolve` span.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join;
use gaiter::{CacheConfig, ErrorKind, Resolver};
use support::backend::{Kind, Scripted};
use support::log::{Ledger, Log};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber, dispatcher, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// The fields of one span, as text.
type Fields = BTreeMap<&'static str, String>;

/// A layer that keeps the fields of every span, in the order in which the spans were opened.
#[derive(Clone, Default)]
struct Keep(Arc<Mutex<Vec<Kept>>>);

struct Kept {
    id: Id,
    metadata: &'static Metadata<'static>,
    fields: Fields,
}

struct Write<'a>(&'a mut Fields);

impl Visit for Write<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let former = self.0.insert(field.name(), format!("{value:?}"));
        assert_eq!(former, None, "{} was said twice", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl<S: Subscriber> Layer<S> for Keep {
    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Fields::new();
        attrs.record(&mut Write(&mut fields));
        self.0.lock().unwrap().push(Kept { id: id.clone(), metadata: attrs.metadata(), fields });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.0.lock().unwrap();
        let span = spans.iter_mut().rfind(|span| span.id == *id).expect("it was opened");
        values.record(&mut Write(&mut span.fields));
    }
}

impl Keep {
    /// Runs `f` with a subscriber that keeps fields, and returns them. All spans must be `resolve` spans.
    fn spans(f: impl FnOnce()) -> Vec<Fields> {
        let keep = Self::default();
        dispatcher::with_default(&tracing_subscriber::registry().with(keep.clone()).into(), f);
        let spans = std::mem::take(&mut *keep.0.lock().unwrap());
        let fields = |Kept { metadata, fields, .. }| {
            assert_eq!((metadata.name(), metadata.target()), ("resolve", "gaiter"));
            fields
        };
        spans.into_iter().map(fields).collect()
    }
}

/// Returns the fields that do not depend on time.
fn lasting(fields: &Fields) -> Vec<(&'static str, &str)> {
    let times = ["gaiter.queued_us", "gaiter.call_us"];
    fields.iter().filter(|(name, _)| !times.contains(name)).map(|(&name, text)| (name, text.as_str())).collect()
}

#[test]
fn an_answer_says_where_it_came_from_and_how_much_there_is() {
    let resolver = Scripted { emits_events: false, ..Scripted::new(Kind::Blocking) }.builder(1).build();
    let spans = Keep::spans(|| drop(block_on(resolver.resolve("OK.example")).expect("an answer")));
    let [fields] = &spans[..] else { panic!("{spans:?}") };
    let expected = [
        ("dns.answers", r#"["192.0.2.7"]"#),
        ("dns.question.name", "OK.example"),
        ("gaiter.addresses", "1"),
        ("gaiter.hedged", "false"),
        ("gaiter.shared", "false"),
        ("gaiter.source", "lookup"),
        ("otel.kind", "internal"),
        ("otel.name", "DNS lookup OK.example"),
    ];
    assert_eq!(lasting(fields), expected);
}

#[test]
fn a_long_answer_is_listed_in_part() {
    let addrs = |_: &str| Ok::<_, ErrorKind>((0..100).map(|last| [192, 0, 2, last].into()).collect::<Vec<IpAddr>>());
    let resolver = Resolver::builder().backend(addrs).build();
    let spans = Keep::spans(|| drop(block_on(resolver.resolve("many")).expect("an answer")));
    let [fields] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(fields["gaiter.addresses"], "100");
    assert!(fields["dns.answers"].ends_with(r#", "192.0.2.15"]"#), "{fields:?}");
}

#[test]
fn a_failure_says_which() {
    let resolver = Scripted { emits_events: false, ..Scripted::new(Kind::Blocking) }.builder(1).build();
    let spans = Keep::spans(|| {
        for (name, kind) in [("error", ErrorKind::NotFound), ("panic", ErrorKind::Panicked)] {
            assert_eq!(block_on(resolver.resolve(name)).expect_err(name).kind(), kind);
        }
    });
    let types: Vec<_> = spans.iter().map(|fields| fields["error.type"].as_str()).collect();
    assert_eq!(types, ["not_found", "panicked"]);
    for fields in &spans {
        assert_eq!((fields["otel.status_code"].as_str(), fields["gaiter.source"].as_str()), ("ERROR", "lookup"));
        assert!(!fields.contains_key("gaiter.addresses") && !fields.contains_key("dns.answers"));
    }
}

#[test]
fn those_who_share_a_call_say_so() {
    let backend = Scripted { emits_events: false, ..Scripted::new(Kind::Blocking) };
    let resolver = backend.builder(1).build();
    let spans = Keep::spans(|| {
        let lookups = join(resolver.resolve("hang"), resolver.resolve("hang"));
        backend.gate.open();
        let (a, b) = block_on(lookups);
        assert!(a.is_ok() && b.is_ok());
    });
    assert_eq!(spans.iter().map(|fields| fields["gaiter.shared"].as_str()).collect::<Vec<_>>(), ["true"; 2]);
}

/// The gate stays shut for a known time, so that the recorded times have a lower bound.
#[test]
fn times_are_those_of_the_queue_and_of_the_call() {
    const LEAST: Duration = Duration::from_millis(2);
    let backend = Scripted { emits_events: false, ..Scripted::new(Kind::Blocking) };
    let resolver = backend.builder(1).reserved_for_known(0).build();
    let micros = |fields: &Fields, name: &str| Duration::from_micros(fields[name].parse().expect("a number"));
    let spans = Keep::spans(|| {
        let first = resolver.resolve("hang");
        backend.gate.await_arrivals(1);
        let second = resolver.resolve("ok");
        std::thread::sleep(LEAST);
        backend.gate.open();
        let (first, second) = block_on(join(first, second));
        assert!(first.is_ok() && second.is_ok());
    });
    let [first, second] = &spans[..] else { panic!("{spans:?}") };
    assert!(micros(first, "gaiter.call_us") >= LEAST && micros(second, "gaiter.queued_us") >= LEAST, "{spans:?}");
}

#[test]
fn an_answer_at_once_makes_no_span() {
    let backend = Scripted { emits_events: false, ..Scripted::new(Kind::Blocking) };
    let resolver: Resolver = backend.builder(1).cache(CacheConfig::new()).build();
    let spans = Keep::spans(|| {
        for name in ["ok", "OK", "127.0.0.1"] {
            block_on(resolver.resolve(name)).expect("an answer");
        }
    });
    assert_eq!(spans.len(), 1, "{spans:?}");
}

/// An old answer is given only once the lookup has begun. Its span is there by then, and says where the answer came from.
#[test]
fn one_who_finds_an_old_answer_in_time_says_so() {
    let backend = Scripted { emits_events: false, ..Scripted::new(Kind::Blocking) };
    let cache = CacheConfig::new()
        .ttl(Duration::ZERO)
        .stale_while_revalidate(Duration::ZERO)
        .stale_answer_timeout(Duration::ZERO);
    let resolver = backend.builder(1).cache(cache).build();
    block_on(resolver.resolve("ok")).expect("an answer");
    // Occupies the only thread.
    let occupier = resolver.resolve("hang");
    backend.gate.await_arrivals(1);
    let spans = Keep::spans(|| drop(block_on(resolver.resolve("ok")).expect("the old one")));
    backend.gate.open();
    block_on(occupier).expect("an answer");
    let [fields] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((fields["gaiter.source"].as_str(), fields["gaiter.addresses"].as_str()), ("stale", "1"));
}

#[test]
fn with_spans_off_there_is_none_and_a_backend_is_in_the_callers_span() {
    for &kind in Kind::ALL {
        let log = Log::default();
        let resolver = Scripted::new(kind).builder(1).spans(false).build();
        assert!(!resolver.config().spans);
        dispatcher::with_default(&tracing_subscriber::registry().with(Ledger(log.clone())).into(), || {
            info_span!("request").in_scope(|| {
                block_on(resolver.resolve("ok")).expect("an answer");
                block_on(resolver.resolve("error")).expect_err("no answer");
            });
        });
        log.await_closed();
        log.look(|seen| {
            assert!(seen.opened.iter().flatten().all(|&span| span != "resolve"), "{kind:?}: {:?}", seen.opened);
            let scopes: Vec<_> = seen.events.iter().map(|(_, scope)| &scope[..]).collect();
            assert_eq!(scopes, [["request"]; 2], "{kind:?}");
        });
    }
}
