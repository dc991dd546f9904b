//! gaiter beside its alternatives: `cargo bench --bench peers [-- [--quick] [--rounds N] [SCENARIO...]]`.
//!
//! Each comparison is made within one run, where the subjects take turns. The ratio is what counts. Scenarios that would disturb
//! each other run in separate processes. Scenarios that ask a DNS server need the namespaces of the real-DNS test bed. If
//! namespaces are permitted, the whole benchmark enters them at its start.

mod crowd;
mod footprint;
mod hit;
mod hung;
mod locked;
mod lossy;
mod measure;
mod misses;
mod peers;
mod report;

use std::net::IpAddr;
use std::path::Path;
use std::process::{self, Command, ExitCode, Stdio};
use std::{env, thread, time};

use gaiter_real_dns::{namespace, server};
use report::Line;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The options of this run.
pub struct Run {
    quick: bool,
    /// Whether a server can be asked.
    dns: bool,
    rounds: Option<usize>,
}

impl Run {
    /// Returns the number of rounds. `count` is the number in a full run.
    fn rounds(&self, count: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { count.div_ceil(4).max(3) } else { count })
    }
}

/// Returns the addresses of every name in scenarios with their own backend.
fn addrs() -> [IpAddr; 2] {
    [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])]
}

type Scenario = (&'static str, fn(&Run) -> Vec<Line>);

const SCENARIOS: &[Scenario] = &[
    ("hit", hit::run),
    ("literal", hit::literal),
    ("misses", misses::run),
    ("flood", crowd::flood),
    ("hickory", crowd::hickory),
    ("from_system", crowd::from_system),
    ("burst", crowd::burst),
    ("herd", crowd::herd),
    ("innocents", hung::innocents),
    ("cancelled", hung::cancelled),
    ("endings", hung::endings),
    ("lossy", lossy::run),
    ("memory", footprint::memory),
    ("growth", footprint::growth),
    ("locked", locked::run),
];

const USAGE: &str = "usage: cargo bench --bench peers -- [--quick] [--rounds N] [SCENARIO...]";

/// How long the whole run may take, in seconds.
const SECONDS: u32 = 3600;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [role, scenario, arguments @ ..] = &arguments[..]
        && role == "--child"
    {
        play(scenario, arguments);
        return ExitCode::SUCCESS;
    }
    let inside = namespace::is_inside();
    if !inside {
        match namespace::permitted() {
            Ok(()) => {
                let program = env::current_exe().expect("Linux knows it");
                let status = namespace::command(program, SECONDS).args(&arguments).status().expect("it was permitted");
                return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            }
            Err(reason) => {
                println!("namespaces are not permitted here ({reason}): nothing that needs a DNS server is run")
            }
        }
    }
    match parse(arguments) {
        Ok((run, wanted)) => measure_all(&Run { dns: inside, ..run }, &wanted),
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: Vec<String>) -> Result<(Run, Vec<String>), lexopt::Error> {
    use lexopt::prelude::*;
    let mut run = Run { quick: false, dns: false, rounds: None };
    let mut wanted = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => run.quick = true,
            Long("rounds") => run.rounds = Some(parser.value()?.parse()?),
            // Cargo passes this.
            Long("bench") => {}
            Value(scenario) => wanted.push(scenario.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    match wanted.iter().find(|wanted| SCENARIOS.iter().all(|(name, _)| name != wanted)) {
        Some(unknown) => Err(format!("no scenario {unknown}").into()),
        None => Ok((run, wanted)),
    }
}

fn measure_all(run: &Run, wanted: &[String]) -> ExitCode {
    let server = run.dns.then(Server::start);
    let mut lines = Vec::new();
    for (name, scenario) in SCENARIOS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            lines.extend(scenario(run));
        }
    }
    drop(server);
    // An incomplete run must not replace the results of a full one.
    if !wanted.is_empty() || !run.dns || run.quick || run.rounds.is_some() {
        return ExitCode::SUCCESS;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    match report::write(&folder, &lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// The scripted server, in a separate process, so that its cost is not measured.
struct Server(process::Child);

impl Server {
    fn start() -> Self {
        let server = Self(Child::new("server", &[]).command().spawn().expect("it runs already"));
        let began = time::Instant::now();
        while std::net::TcpStream::connect(server::ADDRESS).is_err() {
            assert!(began.elapsed() < time::Duration::from_secs(60), "the server has not started");
            thread::sleep(time::Duration::from_millis(1));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A further process of this program, which measures one thing.
pub struct Child {
    arguments: Vec<String>,
    pinned: bool,
}

impl Child {
    pub fn new(scenario: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["--child".to_owned(), scenario.to_owned()];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Self { arguments: all, pinned: false }
    }

    /// Pins the process to one CPU, where figures are steadier.
    pub fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    pub fn command(&self) -> Command {
        let program = env::current_exe().expect("Linux knows it");
        let mut command = Command::new(if self.pinned { "taskset".as_ref() } else { program.as_os_str() });
        if self.pinned {
            command.args(["--cpu-list", "0"]).arg(program);
        }
        command.args(&self.arguments);
        command
    }

    /// Runs the process. Returns its result.
    pub fn told<T: DeserializeOwned>(self) -> T {
        let output = self.command().stderr(Stdio::inherit()).output().expect("it runs already");
        assert!(output.status.success(), "{:?}: {}", self.arguments, output.status);
        serde_json::from_slice(&output.stdout).expect("the child prints JSON")
    }
}

fn play(scenario: &str, arguments: &[String]) {
    match scenario {
        "server" => {
            let _server = server::Server::start();
            loop {
                thread::park();
            }
        }
        "misses" => tell(&misses::play(arguments)),
        "flood" => tell(&crowd::play_flood(arguments)),
        "hickory" => tell(&crowd::play_hickory(arguments)),
        "herd" => tell(&crowd::play_herd(arguments)),
        "lossy" => tell(&lossy::play(arguments)),
        "innocents" => tell(&hung::play_innocents(arguments)),
        "cancelled" => tell(&hung::play_cancelled(arguments)),
        "ending" => hung::play_ending(arguments),
        "instructions" => hit::play_instructions(arguments),
        "memory" => tell(&footprint::play_memory(arguments)),
        _ => panic!("no such scenario: {scenario}"),
    }
}

fn tell(found: &impl Serialize) {
    println!("{}", serde_json::to_string(found).expect("numbers and names"));
    // Does not wait for lookups that hang.
    process::exit(0);
}
