//! Resolves many names with bounded concurrency, and reports how long the lookups took.
//!
//! Run it with `cargo run --release --example bulk -- names.txt`, or give it the names on standard input, one per line.
//! `--help` lists the options.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use futures::stream::{self, Stream, StreamExt};
use gaiter::{Addrs, Resolver};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

const HELP: &str = "\
Resolves the host names in FILE, or on standard input, one per line.

Usage: bulk [OPTIONS] [FILE]

Writes a line for each name to standard output as soon as its lookup has ended, in whatever order that is. The summary and the
progress bar go to standard error. Blank lines and lines that begin with # are skipped.

Options:
  -c, --concurrency N   Names that are looked up at once [default: 64]
  -t, --timeout TIME    Time limit of a lookup, such as 500ms [default: 10s]
  -j, --json            Write JSON, an object per line
  -q, --quiet           Write no summary and no progress bar
      --hickory         Ask the name servers in /etc/resolv.conf, without libc's resolver (feature `hickory`)
      --server ADDR     With --hickory: ask this server instead, such as 127.0.0.1:53. May be repeated
  -h, --help            Print this help

Ctrl-C stops the reading of names and waits for the lookups in flight. A second Ctrl-C ends the program at once.

Exit status: 0 if all names have addresses, 1 if a lookup has failed, 2 if the options or the input are bad, 130 after Ctrl-C.
";

type BoxError = Box<dyn Error + Send + Sync>;

struct Options {
    file: Option<PathBuf>,
    concurrency: usize,
    timeout: Duration,
    json: bool,
    quiet: bool,
    hickory: bool,
    servers: Vec<SocketAddr>,
}

/// Returns the options, or `None` if help is asked for.
fn options() -> Result<Option<Options>, BoxError> {
    use lexopt::prelude::*;
    let mut options = Options {
        file: None,
        concurrency: 64,
        timeout: Duration::from_secs(10),
        json: false,
        quiet: false,
        hickory: false,
        servers: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("concurrency") => options.concurrency = parser.value()?.parse()?,
            Short('t') | Long("timeout") => options.timeout = parser.value()?.parse_with(humantime::parse_duration)?,
            Short('j') | Long("json") => options.json = true,
            Short('q') | Long("quiet") => options.quiet = true,
            Long("hickory") => options.hickory = true,
            Long("server") => options.servers.push(parser.value()?.parse()?),
            Short('h') | Long("help") => return Ok(None),
            Value(file) if options.file.is_none() => options.file = Some(file.into()),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.concurrency == 0 {
        return Err("--concurrency must be at least 1".into());
    }
    if !options.servers.is_empty() && !options.hickory {
        return Err("--server is for --hickory: the system has servers of its own".into());
    }
    Ok(Some(options))
}

fn resolver(options: &Options) -> Result<Resolver, BoxError> {
    // Names beyond the threads wait in the queue, so that none is refused.
    let builder = Resolver::builder().timeout(options.timeout).max_queued(options.concurrency);
    if !options.hickory {
        return Ok(builder.build());
    }
    #[cfg(feature = "hickory")]
    {
        use gaiter::Hickory;
        let servers = options.servers.clone();
        let hickory = if servers.is_empty() { Hickory::from_system()? } else { Hickory::with_servers(servers)? };
        Ok(builder.async_backend(hickory).build())
    }
    #[cfg(not(feature = "hickory"))]
    Err("built without the feature hickory: cargo run --release --features hickory --example bulk".into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    match run(&options).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(options: &Options) -> Result<ExitCode, BoxError> {
    let resolver = resolver(options)?;
    let (names, count) = names(options.file.as_deref(), options.concurrency)?;
    let bar = if options.quiet { ProgressBar::hidden() } else { progress_bar(count)? };
    let interrupts = interrupts()?;
    let mut interrupted = interrupts.clone();
    let stop = async {
        _ = interrupted.wait_for(|&interrupts| interrupts > 0).await;
        bar.suspend(|| eprintln!("waiting for the lookups in flight; Ctrl-C again ends the program"));
    };
    let lookups = names.take_until(Box::pin(stop)).map(|line| async {
        let name = line?;
        let began = Instant::now();
        let result = resolver.resolve(&name).await;
        io::Result::Ok(Lookup { name, result, took: began.elapsed() })
    });
    let mut lookups = Box::pin(lookups.buffer_unordered(options.concurrency));

    let mut interrupted_again = interrupts.clone();
    let mut summary = Summary::new(options)?;
    loop {
        let lookup = tokio::select! {
            lookup = lookups.next() => lookup,
            _ = interrupted_again.wait_for(|&interrupts| interrupts > 1) => None,
        };
        let Some(lookup) = lookup else { break };
        let lookup = lookup.map_err(|error| format!("cannot read the names: {error}"))?;
        summary.add(&lookup);
        bar.inc(1);
        let line = if options.json { lookup.json()? } else { lookup.text() };
        match bar.suspend(|| writeln!(io::stdout(), "{line}")) {
            // Whoever read the lines, such as `head`, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    drop(lookups);
    bar.finish_and_clear();
    if !options.quiet {
        eprint!("{summary}");
    }
    // Lookups are left only if the program is to end at once.
    for left in resolver.shutdown().within(Duration::ZERO).await.abandoned {
        eprintln!("left behind after {:.1?}: {}", left.running, left.name);
    }
    Ok(match *interrupts.borrow() {
        0 => ExitCode::from(u8::from(!summary.failed.is_empty())),
        _ => ExitCode::from(130),
    })
}

/// Returns the names as they are read, and how many there are if that can be told.
fn names(
    file: Option<&Path>,
    ahead: usize,
) -> Result<(impl Stream<Item = io::Result<String>> + use<>, Option<u64>), BoxError> {
    let (input, count): (Box<dyn BufRead + Send>, _) = match file {
        None => (Box::new(BufReader::new(io::stdin())), None),
        Some(path) => {
            let open = || File::open(path).map(BufReader::new).map_err(|error| format!("{}: {error}", path.display()));
            // A pipe can be read only once.
            let count = if path.is_file() { Some(lines(open()?).count() as u64) } else { None };
            (Box::new(open()?), count)
        }
    };
    // On a thread of its own, because a runtime waits for its own reads of the standard input when it ends.
    let (sender, mut receiver) = mpsc::channel(ahead);
    thread::spawn(move || lines(input).try_for_each(|line| sender.blocking_send(line)));
    Ok((stream::poll_fn(move |context| receiver.poll_recv(context)), count))
}

/// Returns the lines that have names. Bytes that are no UTF-8 are replaced, so that the resolver reports the name as invalid.
fn lines(input: impl BufRead) -> impl Iterator<Item = io::Result<String>> {
    let lines = input.split(b'\n').map(|line| Ok(String::from_utf8_lossy(&line?).trim().to_owned()));
    lines.filter(|line| line.as_ref().map_or(true, |line| !line.is_empty() && !line.starts_with('#')))
}

fn progress_bar(count: Option<u64>) -> Result<ProgressBar, BoxError> {
    let (bar, template) = match count {
        Some(count) => (ProgressBar::new(count), "{wide_bar} {human_pos}/{human_len} {per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} {per_sec}"),
    };
    Ok(bar.with_style(ProgressStyle::with_template(template)?))
}

/// Counts how often the program was told to stop, from now on.
fn interrupts() -> io::Result<watch::Receiver<usize>> {
    #[cfg(unix)]
    let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    #[cfg(windows)]
    let mut signals = tokio::signal::windows::ctrl_c()?;
    let (count, receiver) = watch::channel(0);
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(receiver)
}

/// A lookup that has ended.
struct Lookup {
    name: String,
    result: Result<Addrs, gaiter::Error>,
    took: Duration,
}

impl Lookup {
    fn addrs(addrs: &Addrs) -> Vec<String> {
        let text = |addr: SocketAddr| match addr {
            // `SocketAddr` prints it with a port.
            SocketAddr::V6(addr) if addr.scope_id() != 0 => format!("{}%{}", addr.ip(), addr.scope_id()),
            addr => addr.ip().to_string(),
        };
        addrs.clone().map(text).collect()
    }

    fn text(&self) -> String {
        match &self.result {
            Ok(addrs) => format!("{}: {}", self.name, Self::addrs(addrs).join(" ")),
            // It has the name.
            Err(error) => format!("error: {error}"),
        }
    }

    fn json(&self) -> Result<String, BoxError> {
        let (addrs, error) = (self.result.as_ref().ok(), self.result.as_ref().err());
        Ok(serde_json::to_string(&Line {
            name: &self.name,
            seconds: self.took.as_secs_f64(),
            addresses: addrs.map(Self::addrs),
            source: addrs.map(|addrs| format!("{:?}", addrs.source())),
            error: error.map(|error| error.to_string()),
            kind: error.map(|error| format!("{:?}", error.kind())),
            code: error.and_then(|error| error.code()),
        })?)
    }
}

/// A line of JSON. Has addresses or an error.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

/// What became of the lookups, and how long they took.
struct Summary {
    began: Instant,
    /// In microseconds.
    times: Histogram<u64>,
    failed: BTreeMap<String, u64>,
}

impl Summary {
    fn new(options: &Options) -> Result<Self, BoxError> {
        // A lookup takes little longer than its time limit. Whatever is beyond the histogram counts as its last value.
        let longest = u64::try_from(options.timeout.as_micros())?.saturating_mul(2).max(1_000_000);
        Ok(Self { began: Instant::now(), times: Histogram::new_with_max(longest, 3)?, failed: BTreeMap::new() })
    }

    fn add(&mut self, lookup: &Lookup) {
        self.times.saturating_record(lookup.took.as_micros() as u64);
        if let Err(error) = &lookup.result {
            *self.failed.entry(error.kind().to_string()).or_default() += 1;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, took) = (self.times.len(), self.began.elapsed());
        let failed: u64 = self.failed.values().sum();
        let rate = count as f64 / took.as_secs_f64();
        writeln!(f, "names: {count}, failed: {failed}, time: {took:.1?}, per second: {rate:.0}")?;
        for (kind, count) in &self.failed {
            writeln!(f, "{count:9}  {kind}")?;
        }
        if count == 0 {
            return Ok(());
        }
        let time = |micros| format!("{:.1?}", Duration::from_micros(micros));
        let percentile = |percent| time(self.times.value_at_quantile(percent / 100.0));
        let percentiles = [50.0, 90.0, 99.0, 99.9].map(|percent| format!("p{percent} {}", percentile(percent)));
        writeln!(f, "{}, maximum {}", percentiles.join(", "), time(self.times.max()))?;
        // Each line is twice as long a time as the one before.
        let steps =
            self.times.iter_log(100, 2.0).map(|step| (step.value_iterated_to(), step.count_since_last_iteration()));
        let steps: Vec<_> = steps.skip_while(|(_, count)| *count == 0).collect();
        let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        for (up_to, count) in steps {
            let bar = "#".repeat((count * 50).div_ceil(most) as usize);
            writeln!(f, "{:>12}  {count:9}  {bar}", format!("< {}", time(up_to + 1)))?;
        }
        Ok(())
    }
}
