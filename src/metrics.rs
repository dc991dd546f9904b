//! What a recorder of the `metrics` facade gets. It is foreign code, and called with no lock held.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit, with_recorder};

use crate::error::Error;
use crate::foreign::caught;
use crate::name::Name;
use crate::stats::Stats;

/// How long callers waited, from the semantic conventions of OpenTelemetry.
const DURATION: &str = "dns.lookup.duration";

const METADATA: Metadata<'static> = Metadata::new("gaiter", Level::INFO, None);

/// A metric that is a field of [`Stats`].
struct Metric<T> {
    name: &'static str,
    about: &'static str,
    value: fn(&Stats) -> T,
}

macro_rules! metrics {
    ($type:ty: $($field:ident, $about:literal;)*) => {
        [$(Metric {
            name: concat!("gaiter.", stringify!($field)),
            about: $about,
            value: |stats| stats.$field as $type,
        }),*]
    };
}

const GAUGES: [Metric<f64>; 6] = metrics! { f64:
    queued, "Names that are queued";
    running, "Calls that run";
    running_long, "Calls that have run for more than a second";
    threads, "Threads that run calls, wait for one, or have not ended yet";
    idle_threads, "Threads that wait for a call";
    cached_names, "Names in the cache";
};

const COUNTERS: [Metric<u64>; 9] = metrics! { u64:
    started, "Callers who started a lookup or joined one";
    shared, "Callers who joined a lookup in progress";
    hits, "Callers who were answered from the cache at once";
    stale, "Callers who were answered at once with a stale or an old answer";
    refused, "Callers who were refused";
    refreshed, "Background refreshes";
    hedged, "Second calls, made because the first was slow";
    hedges_won, "Second calls that answered before the first ended";
    abandoned, "Calls that still ran when a shutdown gave up";
};

/// The labels of one resolver's metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    /// For `gaiter.resolver`.
    pub(crate) resolver: Option<Arc<str>>,
    /// Whether the duration has the name as a label.
    pub(crate) question_name: bool,
}

impl Labels {
    fn of_resolver(&self) -> Vec<Label> {
        let resolver = self.resolver.iter().map(|resolver| SharedString::from_shared(Arc::clone(resolver)));
        resolver.map(|resolver| Label::new("gaiter.resolver", resolver)).collect()
    }

    /// Records how long a caller waited. `None` is for a caller that left.
    pub(crate) fn record(&self, name: &Name, result: Option<Result<(), &Error>>, waited: Duration) {
        let mut labels = self.of_resolver();
        let error = match result {
            Some(result) => result.err().map(Error::error_type),
            None => Some("cancelled"),
        };
        labels.extend(error.map(|error| Label::from_static_parts("error.type", error)));
        if self.question_name {
            labels.push(Label::new("dns.question.name", name.as_str().to_owned()));
        }
        let key = Key::from_parts(DURATION, labels);
        // A panic must not reach the caller, who may drop a lookup while it unwinds.
        _ = caught(|| with_recorder(|recorder| recorder.register_histogram(&key, &METADATA).record(waited)));
    }

    /// Sets all gauges, adds to all counters what has come since `before`, and describes all metrics.
    ///
    /// Counters are not set, because not every recorder can do that, and because those of several resolvers add up.
    pub(crate) fn publish(&self, stats: &Stats, before: &Stats) {
        let labels = self.of_resolver();
        let key = |name| Key::from_parts(name, labels.clone());
        let publish = |recorder: &dyn Recorder| {
            let about = "How long callers waited for a lookup".into();
            recorder.describe_histogram(DURATION.into(), Some(Unit::Seconds), about);
            for Metric { name, about, value } in &GAUGES {
                recorder.describe_gauge(KeyName::from(*name), Some(Unit::Count), (*about).into());
                recorder.register_gauge(&key(*name), &METADATA).set(value(stats));
            }
            for Metric { name, about, value } in &COUNTERS {
                recorder.describe_counter(KeyName::from(*name), Some(Unit::Count), (*about).into());
                recorder.register_counter(&key(*name), &METADATA).increment(value(stats).saturating_sub(value(before)));
            }
        };
        _ = caught(|| with_recorder(publish));
    }
}
