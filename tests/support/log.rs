//! A log of what a subscriber has seen.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::WATCHDOG;

/// The message that makes a subscriber drop the value given to [`Log::load`].
pub const DROP_IT: &str = "drop it";

#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    loaded: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Default)]
pub struct Seen {
    pub open: HashMap<u64, &'static str>,
    /// The scope of each span that was opened, the span itself last.
    pub opened: Vec<Vec<&'static str>>,
    /// The message and the scope of each event, outermost span first.
    pub events: Vec<(String, Vec<&'static str>)>,
    pub failures: Vec<String>,
}

impl Log {
    pub fn opened(&self, id: u64, scope: Vec<&'static str>) {
        self.change(|seen| {
            let name = scope[scope.len() - 1];
            seen.opened.push(scope);
            if seen.open.insert(id, name).is_some() {
                seen.failures.push(format!("{name} {id:#x} was opened twice"));
            }
        });
    }

    pub fn closed(&self, id: u64) {
        self.change(|seen| {
            if seen.open.remove(&id).is_none() {
                seen.failures.push(format!("{id:#x} was closed, and is not open"));
            }
        });
    }

    pub fn event(&self, event: &Event<'_>, scope: Vec<&'static str>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0 == DROP_IT {
            let loaded = self.0.loaded.lock().unwrap().take();
            drop(loaded);
        }
        self.change(|seen| seen.events.push((message.0, scope)));
    }

    pub fn fail(&self, what: String) {
        self.change(|seen| seen.failures.push(what));
    }

    /// Gives the subscriber a value to drop inside its `on_event` for [`DROP_IT`].
    pub fn load(&self, what: impl Any + Send) {
        *self.0.loaded.lock().unwrap() = Some(Box::new(what));
    }

    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.0.seen.lock().unwrap())
    }

    pub fn forget_events(&self) {
        self.change(|seen| seen.events.clear());
    }

    /// Waits until every span is closed, except those called `decoy`.
    pub fn await_closed(&self) {
        let open = |seen: &Seen| seen.open.values().any(|&name| name != "decoy");
        let seen = self.0.seen.lock().unwrap();
        let (seen, _) = self.0.changed.wait_timeout_while(seen, WATCHDOG, |seen| open(seen)).unwrap();
        assert!(!open(&seen), "never closed: {:?}", seen.open);
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.seen.lock().unwrap());
        self.0.changed.notify_all();
    }
}

/// A layer that writes the log.
pub struct Ledger(pub Log);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Ledger {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let scope = ctx.span_scope(id).into_iter().flat_map(|scope| scope.from_root());
        self.0.opened(id.into_u64(), scope.map(|span| span.name()).collect());
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let scope = ctx.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        self.0.event(event, scope.map(|span| span.name()).collect());
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.0.closed(id.into_u64());
    }
}
