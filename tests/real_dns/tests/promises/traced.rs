//! The caller's trace, and a forked child, over real DNS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use gaiter::{Hedge, Resolver, Source};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;
use tracing::instrument::WithSubscriber as _;
use tracing::span::{Attributes, Id};
use tracing::{Instrument as _, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::support::{LONG, ask, await_that, plain};

/// Records the spans that open and close, each with its parents.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note<S: Subscriber + for<'a> LookupSpan<'a>>(&self, what: &str, id: &Id, context: &Context<'_, S>) {
        let path = context.span_scope(id).expect("it is open").from_root();
        let path = path.map(|span| span.name()).collect::<Vec<_>>().join(":");
        self.0.lock().unwrap().push(format!("{what} {path}"));
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.note("open", id, &context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.note("close", &id, &context);
    }
}

/// Tests that a lookup is in the caller's span and leaves no span open, whether it is answered or hangs.
pub fn inside_the_callers_span() {
    let server = Server::start();
    let global = Log::default();
    tracing::subscriber::set_global_default(Registry::default().with(global.clone())).expect("the first");
    let resolver = plain().build();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (name, is_found) in [("ok.test", true), ("nx.test", false)] {
        let log = Log::default();
        let lookup = resolver.resolve("created-outside.test");
        drop(lookup);
        let resolver = resolver.clone();
        let caller = async move {
            let resolver = &resolver;
            async { resolver.resolve(name).await.is_ok() }.instrument(info_span!("request")).await
        };
        let caller = caller.with_subscriber(Registry::default().with(log.clone()));
        assert_eq!(runtime.block_on(caller), is_found);
        assert_eq!(
            log.lines(),
            ["open request", "open request:resolve", "close request:resolve", "close request"],
            "{name}"
        );
    }
    // Of the above, only the lookups created outside went to the global subscriber.
    assert_eq!(tally_of(&global, "request"), 0);
    assert_eq!(tally_of(&global, "open resolve"), 2);

    // A call that hangs holds no span open.
    let log = Log::default();
    let asked = async {
        while server.count("silent.test") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // Created when polled, so that the span belongs to the caller's subscriber.
    let caller = async {
        let caller = async { resolver.resolve("silent.test").await }.instrument(info_span!("request"));
        tokio::select! {
            _ = caller => panic!("nobody answers"),
            () = asked => {}
        }
    };
    let caller = caller.with_subscriber(Registry::default().with(log.clone()));
    runtime.block_on(caller);
    assert_eq!(log.lines(), ["open request", "open request:resolve", "close request:resolve", "close request"]);
    assert!(resolver.stats().running > 0, "it is still in the call");
}

fn tally_of(log: &Log, name: &str) -> usize {
    log.lines().iter().filter(|line| line.contains(name)).count()
}

/// Number of lookups that hang when the process forks. Each thread leaves resolver state behind that a child may find.
const HUNG: usize = 6;
const FORKS: usize = 20;

/// Tests children forked while lookups hang. They look up a name that the parent knows and one that it does not know. The last
/// child looks up a name that the parent waits for.
pub fn a_forked_child_looks_up() {
    let server = Server::start();
    // glibc does not repeat a question.
    namespace::write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    // Its questions are counted, and none of its threads may end at a fork.
    let resolver = Resolver::builder().hedge(Hedge::off()).timeout(LONG).thread_keep_alive(LONG).build();
    ask(&resolver, "ok-known.test").expect("an answer");
    let mut hung: Vec<_> = (0..HUNG).map(|index| resolver.resolve(format!("held-{index}.test"))).collect();
    let asked = |index: usize| server.count(&format!("held-{index}.test"));
    await_that("the calls", || (0..HUNG).all(|index| asked(index) == 2));
    for number in 0..FORKS {
        let other = format!("ok-{number}.test");
        await_child(fork(|| {
            // The child does not use the parent's cache.
            block_on(resolver.resolve("ok-known.test")).is_ok_and(|addrs| addrs.source() == Source::Lookup)
                && ask(&resolver, &other).is_ok_and(|ips| ips.len() == 2)
        }));
        assert_eq!(server.count(&other), 2, "an answer was lost in child {number}");
    }
    assert_eq!(server.count("ok-known.test"), 2 + 2 * FORKS, "two of the parent's, two of each child's");

    // A child's copy of a lookup asks again.
    let child = fork(|| block_on(&mut hung[0]).is_ok());
    await_that("the child's call", || asked(0) == 4);
    server.set_held(false);
    await_child(child);
    for lookup in hung {
        block_on(lookup).expect("an answer in the parent");
    }
    assert!((1..HUNG).all(|index| asked(index) == 2), "an answer was lost in the parent");
}

/// Runs `child` in a forked process.
fn fork(child: impl FnOnce() -> bool) -> libc::pid_t {
    // SAFETY: no thread of this process starts or ends meanwhile, and the child ends with `_exit`.
    match unsafe { libc::fork() } {
        // SAFETY: it ends this process and nothing else.
        0 => unsafe { libc::_exit(if child() { 0 } else { 1 }) },
        pid => pid,
    }
}

fn await_child(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` is valid, and the child is this process's own.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}
