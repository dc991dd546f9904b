//! Watches: which sets they give and when, what their lookups cost, and how they end.

mod support;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
#[cfg(feature = "async-backend")]
use gaiter::AsyncBackend;
use gaiter::{
    AddrFilter, Addrs, Answer, Backend, Builder, CacheConfig, Error, ErrorKind, Hedge, Resolver, Source, Watch,
};
use support::WATCHDOG;
use support::backend::Kind;
use support::gate::{Gate, OpenOnDrop};

over_every_kind! {
    each_set_is_given_once_whatever_its_order
    an_address_goes_at_once_or_after_as_many_answers_as_were_told
    a_failure_changes_nothing_and_can_be_read
    a_thousand_watches_of_a_name_share_a_call
    callers_and_watches_share_calls
    a_future_that_is_dropped_has_missed_nothing
    closing_ends_all_watches
    a_watch_keeps_the_resolver_open
    a_watch_that_is_dropped_asks_no_more
    what_a_new_filter_has_not_passed_is_not_given
    a_fallback_is_given_until_there_is_an_answer
    a_waker_that_blocks_or_panics_holds_up_nobody_else
}

/// A backend whose calls wait until the test has a result for them.
#[derive(Clone, Default)]
struct Script(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    results: VecDeque<Result<Answer, Error>>,
    calls: usize,
    wakers: Vec<Waker>,
    /// Set at the end of a test, so that no call waits.
    is_over: bool,
}

impl Lines {
    fn next(&mut self) -> Option<Result<Answer, Error>> {
        self.results.pop_front().or_else(|| self.is_over.then(|| Err(ErrorKind::Temporary.into())))
    }
}

impl Script {
    fn push(&self, result: Result<Answer, Error>) {
        self.change(|lines| lines.results.push_back(result));
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        let (lines, changed) = &*self.0;
        // A failed assertion may have poisoned the lock, and ends the calls while it unwinds.
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lines);
        let wakers = std::mem::take(&mut lines.wakers);
        drop(lines);
        changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn call(&self) {
        self.change(|lines| lines.calls += 1);
    }

    fn calls(&self) -> usize {
        self.0.0.lock().unwrap().calls
    }

    /// Waits until a total of `count` calls have begun.
    fn await_calls(&self, count: usize) {
        let (lines, changed) = &*self.0;
        let (lines, _) =
            changed.wait_timeout_while(lines.lock().unwrap(), WATCHDOG, |lines| lines.calls < count).unwrap();
        assert!(lines.calls >= count, "{} of {count} calls have begun", lines.calls);
    }

    /// Waits until calls have taken all results.
    fn await_taken(&self) {
        let (lines, changed) = &*self.0;
        let is_left = |lines: &mut Lines| !lines.results.is_empty();
        let (lines, _) = changed.wait_timeout_while(lines.lock().unwrap(), WATCHDOG, is_left).unwrap();
        assert!(lines.results.is_empty(), "nobody comes for a result");
    }

    /// Gives a result to the next call, and waits until the call after that has begun, so that the result has been heard of.
    fn serve(&self, result: Result<Answer, Error>) {
        let before = {
            let lines = self.0.0.lock().unwrap();
            assert!(lines.results.is_empty());
            lines.calls
        };
        self.push(result);
        self.await_calls(before + 1);
    }
}

impl Backend for Script {
    fn lookup(&self, _: &str) -> Result<Answer, Error> {
        self.call();
        let (lines, changed) = &*self.0;
        let mut lines = lines.lock().unwrap();
        loop {
            if let Some(result) = lines.next() {
                changed.notify_all();
                return result;
            }
            lines = changed.wait(lines).unwrap();
        }
    }
}

#[cfg(feature = "async-backend")]
impl AsyncBackend for Script {
    type Session = ();

    fn new_session(&self) {}

    fn lookup(&self, (): &(), _: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let this = self.clone();
        this.call();
        std::future::poll_fn(move |cx| {
            let mut lines = this.0.0.lock().unwrap();
            if let Some(result) = lines.next() {
                this.0.1.notify_all();
                return Poll::Ready(result);
            }
            lines.wakers.push(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// Lets all calls end, so that a failed assertion leaves nothing hanging.
struct EndOnDrop<'a>(&'a Script);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.change(|lines| lines.is_over = true);
    }
}

/// Returns a builder without time limits, with short times between lookups, and one worker: when a call begins, the result of the
/// one before has been heard of.
fn builder(kind: Kind, script: &Script) -> Builder {
    let millisecond = Duration::from_millis(1);
    let cache = CacheConfig::new().cooldown(millisecond).ttl(millisecond).min_ttl(Duration::ZERO);
    let builder = Resolver::builder().timeout(None).hedge(Hedge::off()).cache(cache).max_lookups(1);
    match kind {
        Kind::Blocking => builder.backend(script.clone()),
        #[cfg(feature = "async-backend")]
        Kind::Async => builder.async_backend(script.clone()),
        #[cfg(feature = "async-backend")]
        Kind::Drivers => builder.async_backend(script.clone()).driver_threads(3),
    }
}

fn addr(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn answer<const N: usize>(lasts: [u8; N]) -> Result<Answer, Error> {
    Ok(lasts.map(addr).into())
}

fn set(addrs: Addrs) -> Vec<u8> {
    let last = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => 0,
    };
    addrs.map(last).collect()
}

fn next(watch: &mut Watch) -> Vec<u8> {
    set(block_on(watch.changed()).expect("a set"))
}

/// Returns the set that is there, if there is one.
fn peek(watch: &mut Watch) -> Option<Vec<u8>> {
    match pin!(watch.changed()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(set(result.expect("a set"))),
        Poll::Pending => None,
    }
}

fn each_set_is_given_once_whatever_its_order(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let mut watch = builder(kind, &script).build().watch("a.test");
    assert_eq!((peek(&mut watch), watch.name()), (None, "a.test"));
    script.await_calls(1);
    script.serve(answer([1, 2]));
    assert_eq!(next(&mut watch), [1, 2]);
    script.serve(answer([2, 1]));
    script.serve(answer([2, 1, 2]));
    assert_eq!(peek(&mut watch), None, "the same addresses");
    script.serve(answer([3, 1, 2]));
    assert_eq!(next(&mut watch), [3, 1, 2]);
    script.serve(answer([4]));
    script.serve(answer([2, 1, 3]));
    assert_eq!(peek(&mut watch), None, "what it has been given last, after another one");
    script.serve(answer([4]));
    script.serve(answer([5]));
    assert_eq!(next(&mut watch), [5], "the latest");
}

fn an_address_goes_at_once_or_after_as_many_answers_as_were_told(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let resolver = builder(kind, &script).build();
    let mut one = resolver.watch("a.test").keep(0);
    let mut three = resolver.watch("A.test").keep(3);
    script.await_calls(1);
    script.serve(answer([1, 2]));
    assert_eq!((next(&mut one), next(&mut three)), (vec![1, 2], vec![1, 2]));
    script.serve(answer([3, 2]));
    assert_eq!((next(&mut one), next(&mut three)), (vec![3, 2], vec![3, 2, 1]));
    script.serve(answer([2]));
    assert_eq!((next(&mut one), peek(&mut three)), (vec![2], None), "1 is kept for another answer, and 3 for two");
    script.serve(answer([2]));
    assert_eq!((peek(&mut one), next(&mut three)), (None, vec![2, 3]), "1 has gone");
    script.serve(answer([1]));
    assert_eq!((next(&mut one), next(&mut three)), (vec![1], vec![1, 2]));
    // What rotates is one set.
    for _ in 0..3 {
        script.serve(answer([2]));
        script.serve(answer([1]));
        assert_eq!(peek(&mut three), None);
    }
    let mut late = resolver.watch("a.test").keep(3);
    assert_eq!(next(&mut late), [1, 2], "a new watch sees what others keep");
}

fn a_failure_changes_nothing_and_can_be_read(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let mut watch = builder(kind, &script).build().watch("a.test");
    script.await_calls(1);
    script.serve(Err(ErrorKind::NotFound.into()));
    let error = watch.last_error().expect("the lookup has failed");
    assert_eq!((error.kind(), error.name()), (ErrorKind::NotFound, Some("a.test")));
    assert_eq!(peek(&mut watch), None, "no set yet");
    script.serve(answer([1]));
    assert_eq!(next(&mut watch), [1]);
    assert!(watch.last_error().is_none());
    for kind in [ErrorKind::Temporary, ErrorKind::NotFound, ErrorKind::NoData, ErrorKind::System] {
        script.serve(Err(Error::new(kind, "why")));
        assert_eq!(watch.last_error().map(|error| error.kind()), Some(kind));
        assert_eq!(peek(&mut watch), None);
    }
    script.serve(answer([1]));
    assert_eq!((peek(&mut watch), watch.last_error().is_none()), (None, true));
}

fn a_thousand_watches_of_a_name_share_a_call(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let resolver = builder(kind, &script).build();
    let mut watches: Vec<Watch> = (0..1000).map(|_| resolver.watch("a.test")).collect();
    script.await_calls(1);
    assert!(watches.iter_mut().all(|watch| peek(watch).is_none()));
    assert_eq!(script.calls(), 1);
    // One for the call, or the driver's.
    assert_eq!(resolver.stats().threads, 1);
    let callers: Vec<_> = watches.iter_mut().take(8).collect();
    thread::scope(|scope| {
        callers.into_iter().for_each(|watch| _ = scope.spawn(|| assert_eq!(next(watch), [1])));
        script.serve(answer([1]));
    });
    assert!(watches.iter_mut().skip(8).all(|watch| next(watch) == [1]));
    assert_eq!(script.calls(), 2, "one each time");
}

fn callers_and_watches_share_calls(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let cache = CacheConfig::disabled().cooldown(Duration::from_millis(1));
    let resolver = builder(kind, &script).cache(cache).build();
    let mut watch = resolver.watch("a.test");
    script.await_calls(1);
    let joins = resolver.resolve("a.test");
    let leaves = resolver.resolve("a.test");
    drop(leaves);
    script.push(answer([1]));
    assert_eq!(set(block_on(joins).expect("the watch's")), [1]);
    assert_eq!(next(&mut watch), [1]);
    // The next of the watch is seconds away.
    let lookup = resolver.resolve("A.TEST");
    script.push(answer([2]));
    assert_eq!(set(block_on(lookup).expect("its own")), [2]);
    assert_eq!(next(&mut watch), [2]);
    assert_eq!(script.calls(), 2);
}

fn a_future_that_is_dropped_has_missed_nothing(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let mut watch = builder(kind, &script).build().watch("a.test");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(pin!(watch.changed()).poll(&mut Context::from_waker(&waker)).is_pending());
    script.await_calls(1);
    script.serve(answer([1]));
    woken.await_one();
    assert_eq!(peek(&mut watch), Some(vec![1]));
}

#[derive(Default)]
struct Woken(Mutex<usize>, Condvar);

impl Woken {
    fn await_one(&self) {
        let (count, _) = self.1.wait_timeout_while(self.0.lock().unwrap(), WATCHDOG, |count| *count == 0).unwrap();
        assert!(*count > 0, "nobody was woken");
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }
}

fn closing_ends_all_watches(kind: Kind) {
    let script = Script::default();
    let end = EndOnDrop(&script);
    let resolver = builder(kind, &script).max_lookups(3).build();
    resolver.override_host("own.test", addr(9));
    let mut watches = ["a.test", "a.test", "b.test", "127.0.0.1", "own.test"].map(|name| resolver.watch(name));
    script.await_calls(2);
    for watch in &mut watches {
        // Any call may take an answer, also the next one of the other name.
        while peek(watch).is_none() {
            script.push(answer([1]));
            script.await_taken();
        }
    }
    let closed = |watch: &mut Watch| block_on(watch.changed()).is_err_and(|error| error.is_closed());
    let report = thread::scope(|scope| {
        let waits = watches.each_mut().map(|watch| scope.spawn(move || closed(watch)));
        resolver.close();
        assert!(waits.into_iter().all(|wait| wait.join().unwrap()));
        drop(end);
        resolver.shutdown().wait()
    });
    assert!(report.is_clean(), "{report}");
    for watch in &mut watches {
        assert!(closed(watch) && watch.last_error().is_some_and(|error| error.is_closed()), "{watch:?}");
    }
    for name in ["a.test", "::1", ""] {
        assert!(closed(&mut resolver.watch(name)), "{name:?}");
    }
}

fn a_watch_keeps_the_resolver_open(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let resolver = builder(kind, &script).build();
    let mut watch = resolver.watch("a.test");
    drop(resolver);
    script.await_calls(1);
    script.serve(answer([1]));
    assert_eq!(next(&mut watch), [1]);
}

fn a_watch_that_is_dropped_asks_no_more(kind: Kind) {
    let script = Script::default();
    let end = EndOnDrop(&script);
    let resolver = builder(kind, &script).thread_keep_alive(Duration::ZERO).build();
    let watches = [resolver.watch("a.test"), resolver.watch("a.test")];
    script.await_calls(1);
    let [first, second] = watches;
    drop(first);
    script.serve(answer([1]));
    drop(second);
    drop(end);
    // The call that runs is the last one.
    let report = resolver.shutdown().wait();
    assert!(report.is_clean(), "{report}");
    assert_eq!(script.calls(), 2);
}

fn what_a_new_filter_has_not_passed_is_not_given(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let resolver = builder(kind, &script).max_lookups(3).build();
    let [mut asked, mut late] = [resolver.watch("a.test").keep(5), resolver.watch("a.test").keep(5)];
    script.await_calls(1);
    script.serve(answer([1, 2]));
    assert_eq!(next(&mut asked), [1, 2]);
    resolver.set_filter(AddrFilter::any().deny_net(addr(1)));
    assert_eq!((peek(&mut asked), peek(&mut late)), (None, None));
    // One may go to the call that had begun before the flush.
    (0..2).for_each(|_| script.push(answer([2, 3])));
    assert_eq!((next(&mut asked), next(&mut late)), (vec![2, 3], vec![2, 3]), "and 1 is not kept");
    script.await_taken();
    // One may go to that call, and the call after the other has begun once there is another.
    for _ in 0..3 {
        script.push(answer([1]));
        script.await_taken();
    }
    let began = Instant::now();
    while !late.last_error().is_some_and(|error| error.is_denied()) {
        assert!(began.elapsed() < WATCHDOG, "nobody has heard of the denial");
        thread::yield_now();
    }
    assert_eq!((peek(&mut asked), peek(&mut late)), (None, None));
}

fn a_fallback_is_given_until_there_is_an_answer(kind: Kind) {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let mut watch = builder(kind, &script).fallback_host("a.test", addr(9)).build().watch("a.test").keep(5);
    script.await_calls(1);
    script.serve(Err(ErrorKind::Temporary.into()));
    let given = block_on(watch.changed()).expect("the fallback");
    assert_eq!((given.source(), set(given)), (Source::Fallback, vec![9]));
    script.serve(Err(ErrorKind::Temporary.into()));
    assert_eq!(peek(&mut watch), None);
    script.serve(answer([1]));
    let given = block_on(watch.changed()).expect("an answer");
    assert_eq!((given.source(), set(given)), (Source::Lookup, vec![1]));
    script.serve(Err(ErrorKind::Temporary.into()));
    assert_eq!(peek(&mut watch), None, "the answer is better");
}

/// Blocks at the gate when woken, or panics.
struct Hostile(Option<Gate>);

impl Wake for Hostile {
    fn wake(self: Arc<Self>) {
        match &self.0 {
            Some(gate) => gate.pass(),
            None => std::panic::panic_any(support::panics::DELIBERATE),
        }
    }
}

fn a_waker_that_blocks_or_panics_holds_up_nobody_else(kind: Kind) {
    let (script, gate) = (Script::default(), Gate::default());
    let _end = EndOnDrop(&script);
    let _open = OpenOnDrop(&gate);
    let resolver = builder(kind, &script).build();
    let mut watches: Vec<Watch> = (0..20).map(|_| resolver.watch("a.test")).collect();
    script.await_calls(1);
    for (number, watch) in watches.iter_mut().enumerate().skip(1) {
        let waker = Waker::from(Arc::new(Hostile((number % 2 == 0).then(|| gate.clone()))));
        assert!(pin!(watch.changed()).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let caller = resolver.resolve("a.test");
    let mut last = resolver.watch("a.test");
    let others = thread::spawn(move || next(&mut last));
    script.serve(answer([1]));
    assert_eq!(set(block_on(caller).expect("an answer")), [1]);
    assert_eq!(others.join().unwrap(), [1]);
    assert_eq!(next(&mut watches[0]), [1]);
    gate.await_arrivals(9);
}

#[test]
fn addresses_and_overrides_are_given_once_without_a_call() {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let resolver = builder(Kind::Blocking, &script).override_host("own.test", addr(1)).build();
    for (name, source) in [("192.0.2.1", Source::Literal), ("OWN.test", Source::Override)] {
        let mut watch = resolver.watch(name);
        let given = block_on(watch.changed()).expect("a set");
        assert_eq!((given.source(), set(given)), (source, vec![1]));
        resolver.flush();
        assert_eq!(peek(&mut watch), None);
    }
    assert_eq!((script.calls(), resolver.stats().threads), (0, 0));
}

#[test]
fn a_name_that_can_have_no_addresses_is_an_error_at_once() {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let none = Answer::from(Vec::<IpAddr>::new());
    let filter = AddrFilter::any().deny_name("denied.test");
    let resolver = builder(Kind::Blocking, &script).override_host("empty.test", none).filter(filter).build();
    let cases = [("", ErrorKind::InvalidName), ("denied.test", ErrorKind::Denied), ("empty.test", ErrorKind::NoData)];
    for (name, kind) in cases {
        let mut watch = resolver.watch(name);
        for _ in 0..2 {
            assert_eq!(block_on(watch.changed()).map_err(|error| error.kind()).err(), Some(kind));
        }
        assert_eq!(watch.last_error().map(|error| error.kind()), Some(kind));
    }
    assert_eq!(script.calls(), 0);
}

#[test]
fn what_the_cache_has_is_given_until_the_first_answer() {
    let script = Script::default();
    let _end = EndOnDrop(&script);
    let cache = support::lasting().cooldown(Duration::from_millis(1));
    let resolver = builder(Kind::Blocking, &script).cache(cache).build();
    script.push(answer([1]));
    assert_eq!(set(block_on(resolver.resolve("a.test")).expect("an answer")), [1]);
    let mut watch = resolver.watch("a.test");
    let given = block_on(watch.changed()).expect("the cached answer");
    assert_eq!((given.source(), set(given)), (Source::Cache, vec![1]));
    script.await_calls(2);
    script.push(answer([2]));
    assert_eq!(next(&mut watch), [2]);
}

/// Each watch sees a sequence of sets that ends with the last answer, whatever happens at the same time.
#[test]
fn watches_that_come_and_go_see_the_last_answer() {
    let number = Arc::new(AtomicUsize::new(1));
    let counter = Arc::clone(&number);
    let cache = CacheConfig::new().cooldown(Duration::from_micros(1)).min_ttl(Duration::ZERO).ttl(Duration::ZERO);
    let backend = move |_: &str| Ok::<Answer, Error>(addr(counter.load(Ordering::SeqCst) as u8).into());
    let resolver = Resolver::builder().backend(backend).cache(cache).hedge(Hedge::off()).build();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut watch = resolver.watch("a.test");
                    let mut last = 0;
                    for _ in 0..3 {
                        let floor = number.fetch_add(1, Ordering::SeqCst) + 1;
                        let seen = loop {
                            let seen = usize::from(next(&mut watch)[0]);
                            if seen >= floor {
                                break seen;
                            }
                        };
                        assert!(seen > last);
                        last = seen;
                    }
                }
            });
        }
        scope.spawn(|| (0..100).for_each(|_| _ = block_on(resolver.resolve("a.test"))));
    });
    let report = resolver.shutdown().wait();
    assert!(report.is_clean(), "{report}");
}

#[cfg(feature = "stream")]
#[test]
fn a_stream_gives_the_sets_and_ends_with_the_resolver() {
    use std::collections::BTreeSet;

    use futures::StreamExt as _;

    let script = Script::default();
    let _end = EndOnDrop(&script);
    let resolver = builder(Kind::Blocking, &script).build();
    let mut watch = resolver.watch("a.test");
    script.push(answer([1]));
    script.push(answer([2]));
    let mut seen = BTreeSet::new();
    while !seen.contains(&2) {
        seen.extend(set(block_on(watch.next()).expect("a set")));
    }
    resolver.close();
    assert_eq!(block_on(watch.next()).map(set), None);
    assert!(watch.last_error().is_some_and(|error| error.is_closed()));
}
