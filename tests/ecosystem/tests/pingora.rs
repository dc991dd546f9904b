//! Runs `examples/pingora.rs`, a proxy that resolves its upstreams, as a process with real signals.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use gaiter_ecosystem::WATCHDOG;
use gaiter_ecosystem::servers::{self, Dead, HalfDead};
use tokio::runtime::Runtime;

/// The running proxy. It and its files are gone when this is dropped.
struct Proxy {
    child: Child,
    daemon: bool,
    dir: PathBuf,
    events: UnixListener,
    /// The upstream.
    _upstream: (Runtime, Dead),
}

impl Proxy {
    fn start(name: &str, daemon: bool) -> Self {
        let dir = std::env::temp_dir().join(format!("gaiter-pingora-{}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let events = UnixListener::bind(dir.join("events")).unwrap();
        let runtime = Runtime::new().unwrap();
        let HalfDead { alive, port, dead } = runtime.block_on(HalfDead::refusing());
        runtime.block_on(async { servers::serve(alive, Router::new().route("/", get(|| async { "hello" }))) });
        // Next to this test: `target/debug/examples/pingora` for `target/debug/deps/pingora-…`.
        let mut program = std::env::current_exe().unwrap();
        program.pop();
        program.set_file_name("examples");
        program.push("pingora");
        let mut command = Command::new(program);
        command.arg(&dir).arg(port.to_string()).args(daemon.then_some("--daemon")).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let mut proxy = Self { child, daemon, dir, events, _upstream: (runtime, dead) };
        assert_eq!(proxy.event().0, "background: true");
        if daemon {
            assert!(proxy.child.wait().unwrap().success());
        }
        proxy
    }

    /// Waits for an event. The stream ends when the proxy does, if the event is its last.
    fn event(&self) -> (String, BufReader<UnixStream>) {
        let (stream, _) = self.events.accept().unwrap();
        let (mut stream, mut line) = (BufReader::new(stream), String::new());
        stream.read_line(&mut line).unwrap();
        (line.trim_end().to_owned(), stream)
    }

    /// Sends a request to one of the services, and returns the stream to read the response from.
    fn request(&self, service: &str, host: &str) -> UnixStream {
        let path = self.dir.join(service);
        let started = Instant::now();
        let mut stream = loop {
            // The service may not listen yet, and nothing tells when it does.
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > WATCHDOG => panic!("{error}: {}", self.log()),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    fn get(&self, service: &str, host: &str) -> String {
        let mut response = String::new();
        self.request(service, host).read_to_string(&mut response).unwrap();
        response
    }

    fn pid(&self) -> libc::pid_t {
        if self.daemon {
            return fs::read_to_string(self.dir.join("pid")).unwrap().trim().parse().unwrap();
        }
        self.child.id().try_into().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Uses the proxy, ends it with this signal while a lookup hangs, and waits until it has gone.
    fn check(mut self, signal: libc::c_int) {
        for service in ["first", "second"] {
            let found = self.get(service, "a.test");
            assert!(found.starts_with("HTTP/1.1 200 ") && found.ends_with("hello"), "{found} {}", self.log());
            let missing = self.get(service, "missing.test");
            assert!(missing.starts_with("HTTP/1.1 502 "), "{missing} {}", self.log());
        }
        let _waiting = self.request("first", "hung.test");
        assert_eq!(self.event().0, "hung");
        // SAFETY: the process is there, since it has not told its end.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
        let mut event = self.event();
        while event.0 == "hung" {
            // The name's second call, made because the first is slow.
            event = self.event();
        }
        let (report, mut end) = event;
        assert!(report.contains(" abandoned: hung.test ("), "{report}");
        // The process holds the stream to its end, although a thread of it still hangs.
        assert_eq!(end.read_to_end(&mut Vec::new()).unwrap(), 0);
        if !self.daemon {
            assert!(self.child.wait().unwrap().success());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !self.daemon {
            _ = self.child.kill();
        } else if thread::panicking() {
            // SAFETY: the daemon has not told its end.
            _ = unsafe { libc::kill(self.pid(), libc::SIGKILL) };
        }
        _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn sigterm_ends_it_while_a_lookup_hangs() {
    Proxy::start("term", false).check(libc::SIGTERM);
}

#[test]
fn sigint_ends_it_while_a_lookup_hangs() {
    Proxy::start("int", false).check(libc::SIGINT);
}

#[test]
fn sigquit_ends_it_while_a_lookup_hangs() {
    Proxy::start("quit", false).check(libc::SIGQUIT);
}

#[test]
fn a_daemon_resolves_after_its_fork_and_ends_while_a_lookup_hangs() {
    Proxy::start("daemon", true).check(libc::SIGTERM);
}
