//! Lookups that hang: whom they delay, what is left once they are cancelled, and how long it takes to end.

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gaiter::Resolver;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tracing::Subscriber;
use tracing::span::{Attributes, Id};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::measure::threads;
use crate::peers::Peer;
use crate::report::Line;
use crate::{Child, Run};

const HUNG: usize = 600;
const SAMPLES: usize = 31;

/// Number of new names that were looked up.
static NEW_NAMES: AtomicUsize = AtomicUsize::new(0);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// How long innocent work takes, in microseconds: a known name by a real call, `tokio::fs::metadata`, `spawn_blocking`, a new
/// name of another zone.
#[derive(Default, Serialize, Deserialize)]
pub struct Innocents([Vec<f64>; 4]);

impl Innocents {
    async fn sample(&mut self, peer: &Peer) {
        let known = timed(peer.lookup("ok-known.test".to_owned()));
        let number = NEW_NAMES.fetch_add(1, Ordering::Relaxed);
        let new = timed(peer.lookup(format!("ok-new-{number}.good.test")));
        let figures = tokio::join!(
            known,
            timed(tokio::fs::metadata("/")),
            timed(async { tokio::task::spawn_blocking(|| ()).await }),
            new
        );
        self.0[0].push(figures.0);
        self.0[1].push(figures.1);
        self.0[2].push(figures.2);
        self.0[3].push(figures.3);
    }

    async fn new_name(&mut self, peer: &Peer) {
        let number = NEW_NAMES.fetch_add(1, Ordering::Relaxed);
        self.0[3].push(timed(peer.lookup(format!("ok-new-{number}.good.test"))).await);
    }
}

const INNOCENTS: [&str; 4] =
    ["a known name by a real call", "tokio::fs::metadata", "spawn_blocking", "a new name of another zone"];

async fn timed<T>(what: impl Future<Output = T>) -> f64 {
    let began = Instant::now();
    what.await;
    began.elapsed().as_secs_f64() * 1e6
}

fn hang(peer: &Peer) -> JoinSet<bool> {
    let mut hung = JoinSet::new();
    for index in 0..HUNG {
        let peer = peer.clone();
        hung.spawn(async move { peer.lookup(format!("silent-{index}.dead.test")).await });
    }
    hung
}

/// Measures innocent work while idle, and while lookups hang.
pub fn play_innocents(arguments: &[String]) -> (Innocents, Innocents) {
    let [who] = arguments else { panic!("{arguments:?}") };
    let runtime = runtime();
    let (mut idle, mut hanging) = (Innocents::default(), Innocents::default());
    runtime.block_on(async {
        let peer = Peer::named(who);
        for _ in 0..SAMPLES {
            idle.sample(&peer).await;
        }
        let _hung = hang(&peer);
        // Long enough for every thread that can hang to do so.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let enough = Instant::now() + Duration::from_secs(1);
        for _ in 0..SAMPLES {
            hanging.sample(&peer).await;
            if Instant::now() > enough {
                break;
            }
        }
    });
    runtime.shutdown_background();
    (idle, hanging)
}

pub fn innocents(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let (idle, ours): (Innocents, Innocents) = Child::new("innocents", &["gaiter"]).told();
    let (_, theirs): (Innocents, Innocents) = Child::new("innocents", &["GaiResolver"]).told();
    let mut lines = Vec::new();
    for (index, what) in INNOCENTS.iter().enumerate() {
        let scenario = format!("{what} while 600 hang");
        lines.push(Line::unpaired(&scenario, "us", &ours.0[index], "GaiResolver", &theirs.0[index]));
        lines.push(Line::unpaired(&scenario, "us", &ours.0[index], "itself when idle", &idle.0[index]).at_most(3.0));
    }
    lines
}

/// What is left after lookups were cancelled.
#[derive(Serialize, Deserialize)]
pub struct Left {
    spans: usize,
    waiters: u64,
    threads: f64,
    idle: Innocents,
    then: Innocents,
}

/// Counts the open spans.
#[derive(Clone, Default)]
struct Open(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Open {
    fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn play_cancelled(arguments: &[String]) -> Left {
    let [who] = arguments else { panic!("{arguments:?}") };
    let open = Open::default();
    tracing::subscriber::set_global_default(Registry::default().with(open.clone())).expect("the first");
    let runtime = runtime();
    let peer = Peer::named(who);
    let before = threads();
    let left = runtime.block_on(async {
        let mut idle = Innocents::default();
        for _ in 0..SAMPLES {
            idle.sample(&peer).await;
        }
        let mut hung = hang(&peer);
        tokio::time::sleep(Duration::from_millis(50)).await;
        hung.shutdown().await;
        let spans = open.0.load(Ordering::SeqCst);
        let waiters = match &peer {
            Peer::Gaiter(resolver) => waiting(resolver),
            _ => 0,
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let threads = (threads() - before) as f64;
        let mut then = Innocents::default();
        let enough = Instant::now() + Duration::from_secs(1);
        while then.0[0].len() < SAMPLES && Instant::now() < enough {
            then.0[0].push(timed(peer.lookup("ok-known.test".to_owned())).await);
            then.new_name(&peer).await;
        }
        Left { spans, waiters, threads, idle, then }
    });
    runtime.shutdown_background();
    left
}

/// Returns the number of waiting callers.
fn waiting(resolver: &Resolver) -> u64 {
    let stats = resolver.stats();
    stats.started - stats.answered - stats.failed.values().sum::<u64>() - stats.timed_out - stats.cancelled
}

pub fn cancelled(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let ours: Left = Child::new("cancelled", &["gaiter"]).told();
    let theirs: Left = Child::new("cancelled", &["GaiResolver"]).told();
    println!("    gaiter, at once after 600 were cancelled: {} waiters, {} spans", ours.waiters, ours.spans);
    let mut lines = Vec::new();
    for index in [0, 3] {
        let scenario = format!("{}, 1 s after 600 were cancelled", INNOCENTS[index]);
        let [idle, then, theirs] = [&ours.idle, &ours.then, &theirs.then].map(|innocents| &innocents.0[index][..]);
        lines.push(Line::unpaired(&scenario, "us", then, "GaiResolver", theirs));
        lines.push(Line::unpaired(&scenario, "us", then, "itself when idle", idle).at_most(3.0));
    }
    let scenario = "threads, 1 s after 600 were cancelled";
    lines.push(Line::unpaired(scenario, "", &[ours.threads], "GaiResolver", &[theirs.threads]));
    lines
}

const LEFT_HANGING: usize = 10;
const GRACE: Duration = Duration::from_secs(1);

/// Ends in the given way while 10 lookups hang, and prints how long that took.
pub fn play_ending(arguments: &[String]) {
    let [who, how] = arguments else { panic!("{arguments:?}") };
    let runtime = runtime();
    let peer = Peer::named(who);
    for index in 0..LEFT_HANGING {
        let peer = peer.clone();
        runtime.spawn(async move { peer.lookup(format!("silent-{index}.test")).await });
    }
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    match (how.as_str(), peer) {
        ("shutdown", Peer::Gaiter(resolver)) => {
            let report = runtime.block_on(resolver.shutdown().within(GRACE));
            assert_eq!(report.abandoned.len(), LEFT_HANGING);
            assert!(report.abandoned.iter().all(|abandoned| abandoned.name.starts_with("silent-")));
        }
        ("drop", _) => drop(runtime),
        // The end of `main` drops the runtime.
        ("exit", _) => {
            println!("-");
            return;
        }
        _ => panic!("no such ending: {who}, {how}"),
    }
    println!("{}", began.elapsed().as_secs_f64() * 1e3);
    let _ = std::io::stdout().flush();
    std::process::exit(0);
}

/// Returns how many milliseconds an ending took.
fn ending(who: &str, how: &str) -> f64 {
    let mut child =
        Child::new("ending", &[who, how]).command().stdout(Stdio::piped()).spawn().expect("it runs already");
    let mut output = child.stdout.take().expect("a pipe");
    let mut first = [0];
    output.read_exact(&mut first).expect("it prints");
    let began = Instant::now();
    let mut printed = String::from_utf8_lossy(&first).into_owned();
    output.read_to_string(&mut printed).expect("text");
    assert!(child.wait().expect("it was started").success(), "{who}, {how}");
    printed.trim().parse().unwrap_or_else(|_| began.elapsed().as_secs_f64() * 1e3)
}

pub fn endings(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let count = run.rounds(3).min(3);
    // At once: they only wait, and do not disturb each other.
    let endings = |who: &'static str, how: &'static str| -> Vec<f64> {
        let all: Vec<_> = (0..count).map(|_| std::thread::spawn(move || ending(who, how))).collect();
        all.into_iter().map(|ending| ending.join().expect("no panic")).collect()
    };
    let mut lines = Vec::new();
    for (how, what) in [("drop", "dropping the runtime"), ("exit", "returning from main")] {
        let scenario = format!("{what} while ten hang");
        let (ours, theirs) = (endings("gaiter", how), endings("GaiResolver", how));
        lines.push(Line::unpaired(&scenario, "ms", &ours, "GaiResolver", &theirs));
        lines.push(Line::unpaired(&scenario, "ms", &ours, "a limit of 50 ms", &vec![50.0; ours.len()]).at_most(1.0));
    }
    let ours = endings("gaiter", "shutdown");
    let grace = vec![GRACE.as_secs_f64() * 1e3; ours.len()];
    lines.push(
        Line::unpaired("shutdown within 1 s while ten hang", "ms", &ours, "the grace period", &grace).at_most(1.1),
    );
    lines
}
