//! Everything that callers may do to a resolver, with the threads, subscribers and backends of the promise tests.
//!
//! Every caller gets one answer, that of its own name. Its spans are closed, and no others are touched. Nothing exceeds its
//! bound, and in the end nothing is left. While wakers, subscribers and thread-locals of some callers block, every other caller
//! gets an answer or a timeout in time, and a shutdown ends within its bound.
#![no_main]

#[path = "resolver/blocking.rs"]
mod blocking;
#[path = "resolver/scenario.rs"]
mod scenario;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{mem, thread};

use futures::executor::block_on;
use gaiter::{Addrs, Error, ErrorKind, Resolver, Shutdown, ShutdownReport, Stats};
use libfuzzer_sys::fuzz_target;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Instrument, dispatcher, info, info_span};

use blocking::{Guest, Hold, MARGIN, Woken, by, promptly};
use scenario::{Asked, Ending, Keeps, Op, Place, Scenario, Shut, Way, What};
use support::backend::{ADDR, Kind, Scripted};
use support::callers::{CALLERS, Caller, Witness, subscriber};
use support::gate::OpenOnDrop;
use support::log::DROP_IT;
use support::panics;

type Answer = Result<Addrs, Error>;

struct Lookup {
    future: Pin<Box<dyn Future<Output = Answer> + Send>>,
    asked: Asked,
    caller: usize,
    /// A moment before the lookup was made.
    since: Instant,
    /// Whether the resolver was closed before that.
    late: bool,
}

/// A shutdown that somebody may wait for.
struct Closing {
    shutdown: Shutdown<'static>,
    deadline: Instant,
}

/// A subscriber and its logs. The first party has none.
struct Party {
    dispatch: Dispatch,
    witnesses: Vec<Witness>,
}

struct World {
    backend: Scripted,
    calls: usize,
    queue: usize,
    timeout: Option<Duration>,
    hold: Hold,
    /// The last party's subscriber blocks.
    parties: Vec<Party>,
    resolvers: Vec<Resolver>,
    lookups: Vec<Lookup>,
    closings: Vec<Closing>,
    /// Number of wakers and subscribers so far that may each block a thread.
    blockers: usize,
    /// True once a call may have left a thread-local behind that blocks.
    lingers: bool,
    /// Number of polls of shutdowns. Each may need a thread that wakes the closer.
    polls_of_closings: usize,
    /// Names that may have been looked up.
    names: BTreeSet<String>,
    /// Number of requests for these names.
    asks: usize,
    /// True once a call may have no waiter, or one without a subscriber.
    has_silent_calls: bool,
    is_open: bool,
    is_closed: bool,
    /// True once lookups may have been ended early.
    is_cut_short: bool,
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let kind = match (scenario.is_async, scenario.emits_events) {
            (false, _) => Kind::Blocking,
            // An async backend always emits events.
            (true, true) => Kind::Async,
            (true, false) => Kind::Drivers,
        };
        let emits_events = scenario.emits_events || scenario.is_async;
        let backend = Scripted { emits_events, ..Scripted::new(kind) };
        let hold = Hold::default();
        let timeout = (scenario.timeout > 0).then(|| scenario.timeout * Duration::from_millis(30));
        if timeout.is_none() {
            hold.open();
        }
        let builder = Guest(backend.clone(), hold.clone()).builder(scenario.calls).max_queued(scenario.queue);
        let builder = builder.cache(scenario.keeps.cache()).reserved_for_known(scenario.calls / 3).timeout(timeout);
        let idle = if scenario.idles_briefly { Duration::from_millis(1) } else { Duration::from_secs(10) };
        let resolver = builder.thread_keep_alive(idle).build();
        let none = Party { dispatch: Dispatch::new(NoSubscriber::default()), witnesses: Vec::new() };
        let party = |&caller: &Caller| {
            let (dispatch, witnesses) = subscriber(caller);
            Party { dispatch, witnesses }
        };
        let others = CALLERS.iter().filter(|&&caller| caller != Caller::None).map(party);
        let (dispatch, witnesses) = blocking::subscriber(&hold);
        let last = Party { dispatch, witnesses };
        Self {
            backend,
            calls: scenario.calls,
            queue: scenario.queue,
            timeout,
            hold,
            parties: [none].into_iter().chain(others).chain([last]).collect(),
            resolvers: vec![resolver],
            lookups: Vec::new(),
            closings: Vec::new(),
            blockers: 0,
            lingers: false,
            polls_of_closings: 0,
            names: BTreeSet::new(),
            asks: 0,
            has_silent_calls: timeout.is_some() || matches!(scenario.keeps, Keeps::Stale | Keeps::Old),
            is_open: false,
            is_closed: false,
            is_cut_short: false,
        }
    }

    fn resolver(&self) -> &Resolver {
        &self.resolvers[0]
    }

    /// Returns whether foreign code may block now.
    fn is_held(&self) -> bool {
        !self.hold.is_open() && (self.blockers > 0 || self.lingers)
    }

    /// Returns whether the lookup's own subscriber may block the thread that has its answer.
    fn holds_itself(&self, lookup: &Lookup) -> bool {
        self.is_held() && lookup.caller + 1 == self.parties.len()
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Await { .. } | Op::Shut(Shut::Await { .. } | Shut::Wait { .. } | Shut::Race { .. }) => self.act(op),
            op => promptly("something that is not to wait", || self.act(op)),
        }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Ask { name, caller, way, waker } => {
                self.ask(name, usize::from(caller) % self.parties.len(), way);
                waker.into_iter().for_each(|waker| self.poll(u8::MAX, waker));
            }
            Op::Poll { who, waker } => self.poll(who, waker),
            Op::Drop { who, place } => {
                if let Some(lookup) = self.pick(who) {
                    self.drop_one(lookup, place);
                }
            }
            Op::Await { who } => {
                // Others wait behind calls that hang: blocking ones until the gate opens, async ones until their callers leave.
                let hangs = |lookup: &Lookup| lookup.asked.what == What::Hang;
                let stuck = match self.backend.kind.stops() {
                    true => self.lookups.iter().any(hangs),
                    false => self.names.iter().any(|name| name.starts_with("hang")),
                };
                if self.timeout.is_some() || self.is_open || !stuck {
                    match self.pick(who) {
                        Some(lookup) if self.holds_itself(&lookup) => self.lookups.push(lookup),
                        Some(lookup) => self.end(lookup),
                        None => {}
                    }
                }
            }
            Op::OpenGate => {
                self.backend.gate.open();
                self.is_open = true;
            }
            Op::Release => self.hold.open(),
            Op::Shut(shut) if self.is_closed => self.shut(shut),
            Op::Shut(_) => {}
            Op::Flush(name) => match name {
                Some(name) => self.resolver().flush_name(name.text()),
                None => self.resolver().flush(),
            },
            Op::Clone => self.resolvers.push(self.resolver().clone()),
            Op::DropClone if self.resolvers.len() > 1 => drop(self.resolvers.pop()),
            Op::DropClone => {}
            Op::LookAtStats => self.check_bounds(),
        }
    }

    fn close(&mut self, how: Ending) {
        match how {
            Ending::Close => self.resolver().close(),
            Ending::AbortQueued => {
                drop(self.resolver().shutdown().abort_queued());
                self.is_cut_short = true;
            }
            Ending::ShutDownAtOnce => self.shut_down_at_once(),
            Ending::BeginShutdown => {
                let mut shutdown = self.resolver().shutdown();
                _ = Pin::new(&mut shutdown).poll(&mut Context::from_waker(Waker::noop()));
            }
            Ending::ShutDownWithin(within, waker) => self.shut(Shut::Begin { within, waker: Some(waker) }),
            Ending::DropEveryHandle => return,
        }
        self.is_closed = true;
    }

    fn shut(&mut self, shut: Shut) {
        let pick = |closings: &Vec<Closing>, who: u8| usize::from(who).checked_rem(closings.len());
        match shut {
            Shut::Begin { within, waker } => {
                let within = Duration::from_millis(within.into());
                let deadline = Instant::now() + within;
                self.closings.push(Closing { shutdown: self.resolver().shutdown().within(within), deadline });
                waker.into_iter().for_each(|waker| self.poll_closing(self.closings.len() - 1, waker));
            }
            Shut::Poll { who, waker } => {
                pick(&self.closings, who).into_iter().for_each(|at| self.poll_closing(at, waker))
            }
            Shut::Await { who } => {
                let closing = pick(&self.closings, who).map(|at| self.closings.remove(at));
                closing.into_iter().for_each(|closing| self.await_end(closing));
            }
            Shut::Drop { who } => {
                let closing = pick(&self.closings, who).map(|at| self.closings.remove(at));
                drop(closing);
            }
            Shut::Wait { within } => self.wait_for_end(within),
            Shut::Race { within } => {
                let resolver = self.resolver().clone();
                let other = thread::spawn(move || {
                    let report = resolver.shutdown().within(Duration::from_millis(within.into())).wait();
                    (report, Instant::now())
                });
                let limit = Instant::now() + Duration::from_millis(within.into()) + MARGIN;
                self.wait_for_end(within);
                let (report, ended) = other.join().expect("no panic");
                assert!(ended < limit, "one of two shutdowns took longer than {within} ms: {report}");
                self.is_shut_down(&report);
            }
        }
    }

    /// Shuts down, and blocks this thread until the end.
    fn wait_for_end(&mut self, within: u8) {
        let within = Duration::from_millis(within.into());
        let limit = Instant::now() + within + MARGIN;
        let report = self.resolver().shutdown().within(within).wait();
        assert!(Instant::now() < limit, "a shutdown took longer than {within:?}: {report}");
        self.is_shut_down(&report);
    }

    fn poll_closing(&mut self, at: usize, waker: Woken) {
        self.blockers += usize::from(waker.blocks());
        self.polls_of_closings += 1;
        let waker = waker.waker(self.resolver(), &self.hold);
        let polled = Pin::new(&mut self.closings[at].shutdown).poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(report) = polled {
            drop(self.closings.remove(at));
            self.is_shut_down(&report);
        }
    }

    /// Waits for a shutdown, polling it only when it is woken.
    fn await_end(&mut self, Closing { shutdown, deadline }: Closing) {
        self.polls_of_closings += 1;
        let report = by(deadline.max(Instant::now()) + MARGIN, true, shutdown);
        self.is_shut_down(&report.expect("a shutdown ends within its bound"));
    }

    fn is_shut_down(&mut self, report: &ShutdownReport) {
        self.is_cut_short = true;
        if report.is_clean() {
            ["gaiter", "gaiter-driver", "gaiter-errand"].iter().for_each(|name| blocking::await_at_most(0, name));
        }
        for abandoned in &report.abandoned {
            assert!(self.names.contains(&abandoned.name.to_ascii_lowercase()), "{report}");
        }
    }

    fn ask(&mut self, asked: Asked, caller: usize, way: Way) {
        let (resolver, name) = (self.resolver().clone(), asked.text());
        if !matches!(asked.what, What::Literal | What::Invalid) {
            self.names.insert(name.to_ascii_lowercase());
            self.asks += 1;
            self.has_silent_calls |= self.parties[caller].witnesses.is_empty();
            self.lingers |= asked.lingers;
            self.blockers += usize::from(caller + 1 == self.parties.len());
        }
        let since = Instant::now();
        let dispatch = self.parties[caller].dispatch.clone();
        let span = dispatcher::with_default(&dispatch, || info_span!("request"));
        let future: Pin<Box<dyn Future<Output = Answer> + Send>> = match way {
            Way::Around => {
                let future = async move { resolver.resolve(name).await };
                Box::pin(future.instrument(span).with_subscriber(dispatch))
            }
            Way::WhereItIsMade => dispatcher::with_default(&dispatch, || {
                let future = span.in_scope(|| resolver.resolve(name));
                drop(span);
                Box::pin(future)
            }),
        };
        let late = self.is_closed;
        self.lookups.push(Lookup { future, asked, caller, since, late });
        if let Way::Around = way {
            // The lookup begins at the first poll.
            self.poll(u8::MAX, Woken::Noop);
        }
    }

    fn pick(&mut self, who: u8) -> Option<Lookup> {
        let last = self.lookups.len().checked_sub(1)?;
        Some(self.lookups.remove(if who == u8::MAX { last } else { usize::from(who) % (last + 1) }))
    }

    fn poll(&mut self, who: u8, waker: Woken) {
        let Some(mut lookup) = self.pick(who) else { return };
        self.blockers += usize::from(waker.blocks());
        let waker = waker.waker(self.resolver(), &self.hold);
        match lookup.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => self.check(lookup, answer),
            Poll::Pending => self.lookups.push(lookup),
        }
    }

    /// Waits for an answer, and checks it.
    fn end(&mut self, mut lookup: Lookup) {
        let answer = match self.timeout {
            None => block_on(&mut lookup.future),
            Some(timeout) => {
                let limit = Instant::now().max(lookup.since + timeout) + MARGIN;
                // At least 64 threads may wake callers, so fewer than 4 blockers delay no wake.
                let answer = by(limit, self.blockers < 4, &mut lookup.future);
                answer.unwrap_or_else(|| panic!("{:?}: no answer in {:?}", lookup.asked, lookup.since.elapsed()))
            }
        };
        self.check(lookup, answer);
    }

    fn check(&self, lookup: Lookup, answer: Answer) {
        let Lookup { asked, late, since, .. } = &lookup;
        let kind = answer.as_ref().map(|_| ()).map_err(Error::kind);
        let expected = match asked.what {
            What::Ok | What::Hang | What::Literal => Ok(()),
            What::Error => Err(ErrorKind::NotFound),
            What::Panic => Err(ErrorKind::Panicked),
            What::Invalid => Err(ErrorKind::InvalidName),
        };
        match kind {
            Err(ErrorKind::Closed) => assert!(*late || self.is_cut_short, "{asked:?}: closed before its time"),
            // Counts requests, because a name that was flushed is looked up again.
            Err(ErrorKind::Overloaded) => assert!(!late && self.asks > self.queue, "{asked:?}: room enough"),
            Err(ErrorKind::Timeout) => {
                let is_due = self.timeout.is_some_and(|timeout| since.elapsed() >= timeout);
                assert!(!late && is_due, "{asked:?}: timed out after {:?}", since.elapsed());
            }
            // There are at most 4 drivers, and each may take long to end.
            Err(ErrorKind::ThreadRefused) => assert!(self.backend.kind.stops() && self.lingers, "{asked:?}: no thread"),
            _ => {
                assert!(!late, "{asked:?}: admitted after close");
                assert_eq!(kind, expected, "{asked:?}");
            }
        }
        for addr in answer.into_iter().flatten() {
            let literal = asked.text().parse().ok().filter(|_| asked.what == What::Literal);
            assert_eq!(addr.ip(), literal.unwrap_or(ADDR));
        }
        self.drop_one(lookup, Place::Here);
    }

    fn drop_one(&self, lookup: Lookup, place: Place) {
        let Lookup { future, caller, .. } = lookup;
        let party = &self.parties[caller];
        match place {
            Place::Here => drop(future),
            Place::WithItsSubscriber => dispatcher::with_default(&party.dispatch, || drop(future)),
            // A scope would not wait for the end of the thread, and LeakSanitizer reports what the thread still has.
            Place::OnAnotherThread => thread::spawn(|| drop(future)).join().expect("no panic"),
            Place::InsideItsSubscriber => match party.witnesses.first() {
                Some(witness) => {
                    witness.log.load(future);
                    dispatcher::with_default(&party.dispatch, || info!("{DROP_IT}"));
                }
                None => drop(future),
            },
        }
        // Even while a call hangs. But an async call holds its first caller's spans as long as anybody waits, and a blocking one
        // that emits events holds its caller's until it returns.
        let is_gone = !self.is_held()
            && match self.backend.kind.stops() {
                true => self.lookups.is_empty(),
                false => !self.backend.emits_events && self.lookups.iter().all(|lookup| lookup.caller != caller),
            };
        if is_gone {
            party.witnesses.iter().for_each(|witness| witness.log.await_closed());
        }
    }

    fn check_bounds(&self) {
        let (stats, calls) = (self.resolver().stats(), self.calls);
        // New names, known names and refreshes have a queue each, which also holds those that a free thread is about to take.
        assert!(stats.running <= calls && stats.queued <= 3 * (self.queue + calls), "{stats:?}");
        // For each driver, three that are slow to end.
        let drivers = if self.backend.kind == Kind::Drivers { 12 } else { 4 };
        assert!(stats.threads <= if self.backend.kind.stops() { drivers } else { calls }, "{stats:?}");
        let ended = ended(&stats);
        assert!(stats.started >= ended && stats.started <= ended + self.lookups.len() as u64, "{stats:?}");
        let errands = calls.max(64) + self.polls_of_closings;
        for (name, bound) in
            [("gaiter", calls), ("gaiter-driver", drivers), ("gaiter-errand", errands), ("gaiter-time", 1)]
        {
            blocking::await_at_most(bound, name);
        }
    }

    fn shut_down_at_once(&mut self) {
        let report = self.resolver().shutdown().within(Duration::ZERO).wait();
        self.is_shut_down(&report);
        // All lookups have their answers now, except those that a worker is just telling.
        (0..self.lookups.len()).for_each(|_| self.poll(0, Woken::Noop));
    }

    /// Ends everything, and waits until there are no more threads than there were `before`.
    fn finish(mut self, ending: Option<Ending>, before: usize) {
        if ending == Some(Ending::DropEveryHandle) {
            self.resolvers.clear();
        }
        if self.is_held() {
            // These answers come in time, although foreign code still blocks.
            for lookup in mem::take(&mut self.lookups) {
                if self.holds_itself(&lookup) { self.lookups.push(lookup) } else { self.end(lookup) }
            }
        }
        while let Some(closing) = self.closings.pop() {
            self.await_end(closing);
        }
        self.step(Op::Release);
        self.step(Op::OpenGate);
        while let Some(lookup) = self.lookups.pop() {
            match self.lookups.len() % 3 {
                0 => self.drop_one(lookup, Place::Here),
                _ => self.end(lookup),
            }
        }
        let is_shut_down = !self.resolvers.is_empty();
        if let Some(resolver) = self.resolvers.pop() {
            self.resolvers.clear();
            let report = resolver.shutdown().wait();
            assert!(report.is_clean(), "{report}");
            let stats = resolver.stats();
            assert_eq!(
                (stats.started, stats.queued, stats.running, stats.threads),
                (ended(&stats), 0, 0, 0),
                "{stats:?}"
            );
            assert!(self.backend.calls() as u64 <= stats.started + stats.refreshed, "a call for nobody");
        }

        for witness in self.parties.iter().flat_map(|party| &party.witnesses) {
            witness.log.await_closed();
            witness.log.look(|seen| {
                assert_eq!(seen.failures, [""; 0]);
                for (message, scope) in &seen.events {
                    let own: &[&str] = if witness.sees_resolve { &["request", "resolve"] } else { &["request"] };
                    // Empty if the caller left before the call began.
                    let left = scope.is_empty() && self.backend.kind.stops();
                    assert!(message != "backend event" || scope == own || left, "{scope:?}");
                }
            });
        }
        let events = self.parties.iter().filter_map(|party| party.witnesses.first()).map(|witness| {
            let is_backends = |event: &&(String, Vec<&str>)| event.0 == "backend event";
            witness.log.look(|seen| seen.events.iter().filter(is_backends).count())
        });
        // Calls have ended after a clean shutdown, and blocking ones in any case, since they hold their callers' spans open.
        let has_ended = is_shut_down || !self.backend.kind.stops();
        if self.backend.emits_events && !self.has_silent_calls && has_ended {
            assert_eq!(events.sum::<usize>(), self.backend.calls(), "an event that nobody has heard of");
        }
        assert_eq!(panics::unexpected(), 0, "something panicked");
        assert_eq!(blocking::misplaced(), 0, "the timekeeper has run foreign code");
        // LeakSanitizer reports what an ending thread still has, and nobody joins the threads of a resolver without handles.
        while threads() > before {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Returns the number of this process's threads.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("it is there on Linux").count()
}

/// Returns the number of requests that have ended.
fn ended(stats: &Stats) -> u64 {
    stats.answered + stats.failed.values().sum::<u64>() + stats.timed_out + stats.cancelled
}

fuzz_target!(|scenario: Scenario| {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // libFuzzer's hook ends the process even for a panic that is caught. Replaces it with one that counts.
        let _ = std::panic::take_hook();
        panics::unexpected();
        // Sets a scoped dispatcher for good: without one, tracing cannot tell that it is inside a subscriber.
        mem::forget(dispatcher::set_default(&Dispatch::new(NoSubscriber::default())));
    });
    let before = threads();
    let mut world = World::new(&scenario);
    let (gate, hold) = (world.backend.gate.clone(), world.hold.clone());
    // Opens the gate if an assertion fails, so that no call hangs.
    let _open = OpenOnDrop(&gate);
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let (after, ending) = scenario.ending.unzip();
        for (number, op) in (0..).zip(scenario.ops) {
            if Some(number) == after {
                ending.into_iter().for_each(|how| promptly("closing", || world.close(how)));
            }
            world.step(op);
        }
        world.finish(ending, before);
    }));
    if played.is_err() {
        hold.open();
        std::process::abort();
    }
});
