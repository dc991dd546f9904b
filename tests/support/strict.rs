//! A subscriber that reports every misuse.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};
use tracing_core::span::Current;

use super::log::Log;

/// A subscriber whose ids no other instance can mistake for its own. It logs these failures:
///
/// - a foreign or closed id;
/// - an exit without an enter on the same thread;
/// - a span that is closed while entered;
/// - a span of gaiter that is touched on a thread whose default dispatcher is another one.
///
/// As with `Registry`, a span keeps its parent open, and releases it through the thread's default dispatcher.
pub struct Strict {
    log: Log,
    instance: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    spans: HashMap<u64, Span>,
    /// The spans that each thread has entered, innermost last.
    entered: HashMap<ThreadId, Vec<u64>>,
    last: u64,
}

struct Span {
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
    handles: usize,
}

impl State {
    /// Returns the span that this thread is in.
    fn current(&self) -> Option<u64> {
        self.entered.get(&thread::current().id()).and_then(|stack| stack.last()).copied()
    }

    /// Returns the names of a span and its ancestors, outermost first.
    fn scope(&self, innermost: Option<u64>) -> Vec<&'static str> {
        let span = |id: &u64| self.spans.get(id);
        let parent = |id: &u64| span(id).and_then(|span| span.parent);
        let mut scope: Vec<_> = std::iter::successors(innermost, parent)
            .filter_map(|id| span(&id).map(|span| span.metadata.name()))
            .collect();
        scope.reverse();
        scope
    }
}

impl Strict {
    pub fn new(log: Log) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(1);
        Self { log, instance: INSTANCES.fetch_add(1, Ordering::Relaxed), state: Mutex::default() }
    }

    /// Logs a failure if this use of `id` is wrong.
    fn check(&self, what: &str, id: &Id) {
        let id = id.into_u64();
        let target = self.state.lock().unwrap().spans.get(&id).map(|span| span.metadata.target());
        match target {
            None => self.log.fail(format!("{what} of {id:#x}, which is foreign or closed, by {}", self.instance)),
            Some("gaiter") if what != "event" => {
                let default =
                    dispatcher::get_default(|default| default.downcast_ref::<Strict>().map(|strict| strict.instance));
                if default != Some(self.instance) {
                    self.log.fail(format!("{what} of {id:#x} under another default, {default:?}"));
                }
            }
            Some(_) => {}
        }
    }
}

impl Subscriber for Strict {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attrs: &Attributes<'_>) -> Id {
        let mut state = self.state.lock().unwrap();
        state.last += 1;
        let id = (self.instance << 32) | state.last;
        let parent = match attrs.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if attrs.is_contextual() => state.current(),
            None => None,
        };
        if let Some(parent) = parent {
            match state.spans.get_mut(&parent) {
                Some(parent) => parent.handles += 1,
                None => self.log.fail(format!("{id:#x} has a foreign or closed parent, {parent:#x}")),
            }
        }
        state.spans.insert(id, Span { metadata: attrs.metadata(), parent, handles: 1 });
        let scope = state.scope(Some(id));
        drop(state);
        self.log.opened(id, scope);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, _: &Record<'_>) {
        self.check("record", id);
    }

    fn record_follows_from(&self, id: &Id, _: &Id) {
        self.check("follows_from", id);
    }

    fn event(&self, event: &Event<'_>) {
        if let Some(parent) = event.parent() {
            self.check("event", parent);
        }
        let state = self.state.lock().unwrap();
        let scope = state.scope(state.current());
        drop(state);
        self.log.event(event, scope);
    }

    fn enter(&self, id: &Id) {
        self.check("enter", id);
        self.state.lock().unwrap().entered.entry(thread::current().id()).or_default().push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        self.check("exit", id);
        let mut state = self.state.lock().unwrap();
        let stack = state.entered.entry(thread::current().id()).or_default();
        match stack.iter().rposition(|&entered| entered == id.into_u64()) {
            Some(at) => _ = stack.remove(at),
            None => self.log.fail(format!("exit of {:#x}, which this thread has not entered", id.into_u64())),
        }
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.check("clone", id);
        if let Some(span) = self.state.lock().unwrap().spans.get_mut(&id.into_u64()) {
            span.handles += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.check("close", &id);
        let id = id.into_u64();
        let mut state = self.state.lock().unwrap();
        let Some(span) = state.spans.get_mut(&id) else { return false };
        span.handles -= 1;
        if span.handles > 0 {
            return false;
        }
        let parent = span.parent;
        if state.entered.values().flatten().any(|&entered| entered == id) {
            self.log.fail(format!("{id:#x} was closed while entered"));
        }
        state.spans.remove(&id);
        drop(state);
        self.log.closed(id);
        if let Some(parent) = parent {
            dispatcher::get_default(Dispatch::clone).try_close(Id::from_u64(parent));
        }
        true
    }

    fn current_span(&self) -> Current {
        let state = self.state.lock().unwrap();
        match state.current().and_then(|id| state.spans.get_key_value(&id)) {
            Some((&id, span)) => Current::new(Id::from_u64(id), span.metadata),
            None => Current::none(),
        }
    }
}
