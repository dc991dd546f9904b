//! A server that loses questions: the tail of new lookups, and what it costs in queries.

use std::time::{Duration, Instant};

use futures::future::join_all;
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;
use serde::{Deserialize, Serialize};

use crate::peers::{Peer, hickory_at};
use crate::report::Line;
use crate::{Child, Run};

const TASKS: usize = 64;

/// Address of this scenario's own server, whose count can be read.
const SERVER: [u8; 4] = [127, 0, 0, 9];

/// What a peer's lookups took, in milliseconds, and how many queries they cost each.
#[derive(Serialize, Deserialize)]
pub struct Tail {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
    queries: f64,
    failed: usize,
}

/// Runs one process: 64 tasks look up names of their own, one after another.
pub fn play(arguments: &[String]) -> Tail {
    let [who, word, loss, race, lookups] = arguments else { panic!("{arguments:?}") };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let server = Server::start_on("127.0.0.9:53");
    server.set_loss(number(loss), number(race));
    namespace::write("resolv.conf", "nameserver 127.0.0.9\n");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let peer = match who.as_str() {
        "hickory" => runtime.block_on(async { Peer::Hickory(std::sync::Arc::new(hickory_at(SERVER.into(), false))) }),
        "gaiter's Hickory" => Peer::through_system_hickory(),
        _ => Peer::named(who),
    };
    let each = number(lookups) as usize / TASKS;
    let tasks = (0..TASKS).map(|task| {
        let (peer, word) = (peer.clone(), word.clone());
        runtime.spawn(async move {
            let (mut millis, mut failed) = (Vec::with_capacity(each), 0);
            for index in 0..each {
                let began = Instant::now();
                failed += usize::from(!peer.lookup(format!("{word}-{task}-{index}.zone-{task}.test")).await);
                millis.push(began.elapsed().as_secs_f64() * 1e3);
            }
            (millis, failed)
        })
    });
    let ended = runtime.block_on(join_all(tasks.collect::<Vec<_>>()));
    let (millis, failed): (Vec<_>, Vec<_>) = ended.into_iter().map(|ended| ended.expect("no panic")).unzip();
    let mut millis = millis.concat();
    millis.sort_by(f64::total_cmp);
    let at = |part: f64| millis[((millis.len() - 1) as f64 * part) as usize];
    let tail = Tail {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
        queries: server.questions().len() as f64 / millis.len() as f64,
        failed: failed.into_iter().sum(),
    };
    namespace::write("resolv.conf", namespace::RESOLV);
    runtime.shutdown_timeout(Duration::ZERO);
    tail
}

pub fn run(run: &Run) -> Vec<Line> {
    if !run.dns {
        return Vec::new();
    }
    let lookups = if run.quick { "2560" } else { "20480" };
    let mut lines = Vec::new();
    for (scenario, word, loss, race) in [
        ("1 % of queries lost", "ok", "10", "0"),
        ("1 % of queries lost, a server that takes 80 ms", "slow-80", "10", "0"),
        ("2 % of AAAA queries lost that come from the port of an A", "ok", "0", "20"),
    ] {
        let play = |who: &str| -> Tail { Child::new("lossy", &[who, word, loss, race, lookups]).told() };
        let tails = ["gaiter", "GaiResolver", "hickory", "gaiter's Hickory"].map(|who| (who, play(who)));
        for (who, tail) in &tails {
            let Tail { p50, p99, p999, max, queries, failed } = tail;
            println!(
                "    {scenario}, {who}: p50 {p50:.1} ms, p99 {p99:.0} ms, p99.9 {p999:.0} ms, max {max:.0} ms, \
                 {queries:.3} queries a lookup, {failed} failed"
            );
        }
        let [(_, ours), (_, gai), (_, hickory), (_, through)] = tails;
        let line = |what: &str, unit, ours: f64, peer, theirs: f64| {
            Line::unpaired(&format!("{scenario}, new names, {what}"), unit, &[ours], peer, &[theirs])
        };
        lines.push(line("p99.9", "ms", ours.p999, "GaiResolver", gai.p999).at_most(0.04));
        lines.push(line("p99.9", "ms", ours.p999, "hickory", hickory.p999).at_most(0.6));
        lines.push(line("median", "ms", ours.p50, "GaiResolver", gai.p50).at_most(1.0));
        lines.push(line("queries a lookup", "", ours.queries, "GaiResolver", gai.queries).at_most(1.03));
        lines.push(line("by hickory, p99.9", "ms", through.p999, "hickory", hickory.p999).at_most(1.0));
    }
    lines
}
