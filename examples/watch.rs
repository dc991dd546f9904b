//! Prints the changes of names' addresses, and holds a connection to each address for as long as it is one of the name's.
//!
//! Run it with `cargo run --example watch -- localhost`, and change a name in `/etc/hosts` meanwhile. Stop it with Ctrl-C.
//!
//! - `--port N` connects to port N of each address. The connections are in a pool of hyper-util's, which drops those to
//!   addresses that have gone.
//! - `--keep N` keeps an address until N answers in a row lack it. `--ttl 1s` sets how long an answer lasts.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use gaiter::{CacheConfig, Resolver, Watch};
use hyper_util::client::pool::map::Map;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

type BoxError = Box<dyn Error + Send + Sync>;

struct Options {
    names: Vec<String>,
    port: Option<u16>,
    keep: u32,
    ttl: Duration,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options { names: Vec::new(), port: None, keep: 1, ttl: Duration::from_secs(5) };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("port") => options.port = Some(parser.value()?.parse()?),
            Long("keep") => options.keep = parser.value()?.parse()?,
            Long("ttl") => options.ttl = parser.value()?.parse_with(humantime::parse_duration)?,
            Value(name) => options.names.push(name.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(options)
}

/// A connection, or an attempt at one. Dropping it closes it.
struct Connection {
    to: SocketAddr,
    task: JoinHandle<()>,
}

impl Connection {
    fn open(to: SocketAddr) -> Self {
        let hold = async move {
            match TcpStream::connect(to).await {
                Ok(stream) => {
                    println!("{to}: connected");
                    // Held until this task is aborted.
                    std::future::pending::<()>().await;
                    drop(stream);
                }
                Err(error) => println!("{to}: {error}"),
            }
        };
        Self { to, task: tokio::spawn(hold) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        println!("{}: dropped", self.to);
        self.task.abort();
    }
}

/// Follows a name until the resolver is closed.
async fn follow(mut watch: Watch, port: Option<u16>) {
    let name = watch.name().to_owned();
    let mut pool = Map::builder::<SocketAddr>().keys(|to| *to).values(|to| Connection::open(*to)).build();
    let mut known = BTreeSet::<IpAddr>::new();
    loop {
        let addrs = match watch.changed().await {
            Ok(addrs) => addrs,
            Err(error) => return println!("{name}: {error}"),
        };
        let now: BTreeSet<IpAddr> = addrs.clone().map(|addr| addr.ip()).collect();
        now.difference(&known).for_each(|ip| println!("{name}: + {ip}"));
        known.difference(&now).for_each(|ip| println!("{name}: - {ip}"));
        known = now;
        if let Some(port) = port {
            let addrs: Vec<SocketAddr> = addrs.with_port(port).collect();
            pool.retain(|to, _| addrs.contains(to));
            addrs.iter().for_each(|to| _ = pool.service(to));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let options = options()?;
    if options.names.is_empty() {
        return Err("which names? Usage: watch [--port N] [--keep N] [--ttl 1s] NAME...".into());
    }
    let resolver = Resolver::builder().cache(CacheConfig::new().ttl(options.ttl)).build();
    let mut watches = JoinSet::new();
    for name in &options.names {
        watches.spawn(follow(resolver.watch(name).keep(options.keep), options.port));
    }
    tokio::signal::ctrl_c().await?;
    // Ends all watches.
    let report = resolver.shutdown().within(Duration::from_secs(5)).await;
    watches.join_all().await;
    println!("{report}");
    Ok(())
}
