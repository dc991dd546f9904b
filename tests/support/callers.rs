//! The subscribers that a caller may have.

use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

use super::log::{Ledger, Log};
use super::strict::Strict;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Caller {
    /// No scoped subscriber: the caller uses the global one.
    None,
    Registry,
    FmtAllSpanEvents,
    PerLayerInfo,
    WholeInfo,
    Strict,
}

pub const CALLERS: [Caller; 6] =
    [Caller::None, Caller::Registry, Caller::FmtAllSpanEvents, Caller::PerLayerInfo, Caller::WholeInfo, Caller::Strict];

/// A log of a subscriber, and whether it contains `resolve`, which is at DEBUG.
#[derive(Clone)]
pub struct Witness {
    pub log: Log,
    pub sees_resolve: bool,
}

impl Witness {
    pub fn new(sees_resolve: bool) -> Self {
        Self { log: Log::default(), sees_resolve }
    }
}

pub fn fmt_all<S>() -> impl Layer<S> + Send + Sync
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer().with_span_events(FmtSpan::FULL).with_writer(std::io::sink)
}

/// Returns a subscriber of this kind, and the logs that it writes.
pub fn subscriber(caller: Caller) -> (Dispatch, Vec<Witness>) {
    let (all, info) = (Witness::new(true), Witness::new(false));
    let [ledger, info_ledger] = [Ledger(all.log.clone()), Ledger(info.log.clone())];
    match caller {
        Caller::None => unreachable!("has no subscriber of its own"),
        Caller::Registry => (registry().with(ledger).into(), vec![all]),
        Caller::FmtAllSpanEvents => (registry().with(fmt_all()).with(ledger).into(), vec![all]),
        Caller::PerLayerInfo => {
            let info_fmt = fmt_all().with_filter(LevelFilter::INFO);
            let info_ledger = info_ledger.with_filter(LevelFilter::INFO);
            (registry().with(info_fmt).with(info_ledger).with(ledger).into(), vec![all, info])
        }
        Caller::WholeInfo => (registry().with(LevelFilter::INFO).with(fmt_all()).with(info_ledger).into(), vec![info]),
        Caller::Strict => (Strict::new(all.log.clone()).into(), vec![all]),
    }
}
