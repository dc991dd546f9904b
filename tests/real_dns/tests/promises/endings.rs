//! A process, a runtime and a resolver end while 10 lookups hang in `getaddrinfo`.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use gaiter_real_dns::server::Server;

use crate::peers::hyper_lookup;
use crate::support::{await_that, cast, plain};

const HUNG: usize = 10;

/// How much is left of glibc's 10 seconds, at least, when a child is told to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long `shutdown` may wait.
const GRACE: Duration = Duration::from_secs(1);

pub fn neither_exit_nor_drop_nor_shutdown_waits() {
    let server = Server::start();
    println!("  {HUNG} silent names in flight, each given up by glibc after 10 s:");
    for (who, how) in [
        ("gaiter", "drop"),
        ("gaiter", "exit"),
        ("gaiter", "shutdown"),
        ("GaiResolver", "drop"),
        ("GaiResolver", "exit"),
    ] {
        let mut child = cast("endings", &[who, how]);
        let names: Vec<String> = (0..HUNG).map(|index| name(who, how, index)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        await_that("the queries", || names.iter().all(|name| server.count(name) > 0));
        let began = Instant::now();
        child.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
        let status = child.wait().expect("it was started");
        let took = began.elapsed();
        let mut printed = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
        assert!(status.success(), "{who}, {how}: {status}");
        println!("  {who:>12}, {how}: {printed}the process ended after {took:.1?}");
        assert!(who != "gaiter" || took < PATIENCE, "{who}, {how}: it waited for what hangs");
    }
}

fn name(who: &str, how: &str, index: usize) -> String {
    format!("silent-{index}.{how}.{who}.test").to_lowercase()
}

/// Runs in a child of the trial. A byte on its standard input says that all lookups hang.
pub fn play(arguments: &[String]) {
    let [who, how] = arguments else { panic!("{arguments:?}") };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let resolver = plain().build();
    for index in 0..HUNG {
        let name = name(who, how, index);
        if who == "gaiter" {
            let resolver = resolver.clone();
            runtime.spawn(async move { resolver.resolve(name).await });
        } else {
            runtime.spawn(async move { hyper_lookup(&name).await });
        }
    }
    let told = std::io::stdin().read_exact(&mut [0]);
    told.expect("the trial writes a byte");
    let began = Instant::now();
    match how.as_str() {
        // The end of this function drops everything.
        "exit" => return,
        "drop" => drop(runtime),
        "shutdown" => {
            let report = runtime.block_on(resolver.shutdown().within(GRACE));
            assert_eq!((report.abandoned.len(), report.is_clean()), (HUNG, false), "{report:?}");
            let mut names: Vec<&str> = report.abandoned.iter().map(|abandoned| abandoned.name.as_str()).collect();
            names.sort_unstable();
            print!("{} abandoned, from {} to {}; ", names.len(), names[0], names[HUNG - 1]);
        }
        _ => panic!("no such ending: {how}"),
    }
    print!("it took {:.1?}; ", began.elapsed());
}
