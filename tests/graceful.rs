//! Runs `examples/graceful` as a real process with real signals.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;

use support::WATCHDOG;
use support::example::example;

/// The running example. It is killed when dropped, even if the test fails.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut child = example("graceful").args(args).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, output, address: String::new() };
        let line = server.line();
        server.address = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).to_owned();
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads the next line that does not tell of a call. A call that is slow gets a second one.
    fn line_after_calls(&mut self) -> String {
        loop {
            let line = self.line();
            if line != HANGS {
                return line;
            }
        }
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = self.child.id().try_into().unwrap();
        // SAFETY: the process is a child of this one that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Sends a request, and returns the stream to read the response from.
    fn request(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        response(self.request(path))
    }

    /// Returns what the server prints until its end, and whether it ended well.
    fn end(mut self) -> (String, bool) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
    }
}

fn response(mut stream: TcpStream) -> String {
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn it_ends_cleanly() {
    let mut server = Server::start(&["--grace", "60s"]);
    assert!(server.get("/").ends_with("hello from upstream\n"));
    assert!(server.get("/?host=localhost").starts_with("HTTP/1.1 200 OK"));
    assert!(server.get("/?host=name.invalid").starts_with("HTTP/1.1 502 "));
    assert!(server.get("/ready").starts_with("HTTP/1.1 200 OK"));
    server.signal(libc::SIGTERM);
    assert_eq!(server.line(), "stopping");
    // A worker that has just told its caller may still count as running. Its lookup then finishes during the shutdown.
    let (report, well) = server.end();
    assert!(report.ends_with(" finished, 0 cancelled, 0 abandoned\n") && well, "{report}");
}

/// Sends a request, and returns the response. `None` if the server has not taken it, and so has sent nothing.
fn try_get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut response = Vec::new();
    let read = stream.read_to_end(&mut response);
    let response = String::from_utf8(response).unwrap();
    assert!(read.is_ok() || response.is_empty(), "{read:?} after {response}");
    (!response.is_empty()).then_some(response)
}

#[test]
fn under_load_every_request_that_was_taken_is_answered() {
    let mut server = Server::start(&["--grace", "60s"]);
    let (busy, all_busy) = mpsc::channel();
    thread::scope(|scope| {
        for client in 0..8 {
            let (busy, address) = (busy.clone(), &server.address);
            scope.spawn(move || {
                // Names that libc knows without DNS, and that are not in the cache.
                for number in 0..=u16::MAX {
                    let Some(response) = try_get(address, &format!("/?host=127.{client}.{number}")) else { return };
                    let [high, low] = number.to_be_bytes();
                    let expected = format!("\r\n\r\n127.{client}.{high}.{low}\n");
                    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with(&expected), "{response}");
                    if number == 10 {
                        busy.send(()).unwrap();
                    }
                }
                panic!("the server has not stopped");
            });
        }
        drop(busy);
        assert_eq!(all_busy.iter().take(8).count(), 8);
        server.signal(libc::SIGTERM);
    });
    assert_eq!(server.line(), "stopping");
    let (report, well) = server.end();
    assert!(report.ends_with(" finished, 0 cancelled, 0 abandoned\n") && well, "{report}");
}

/// What the example prints when a call begins that hangs.
const HANGS: &str = "looking up hung.example, for ever";

/// Starts a server with one request that waits for a name that hangs.
fn hung(grace: &str) -> (Server, TcpStream) {
    let mut server = Server::start(&["--grace", grace, "--hang", "hung.example"]);
    let waiting = server.request("/?host=hung.example");
    assert_eq!(server.line(), HANGS);
    assert!(server.get("/?host=localhost").starts_with("HTTP/1.1 200 OK"));
    (server, waiting)
}

#[test]
fn a_name_that_hangs_is_named_when_the_grace_period_is_over() {
    let (mut server, waiting) = hung("50ms");
    server.signal(libc::SIGINT);
    assert_eq!(server.line_after_calls(), "stopping");
    let report = server.line_after_calls();
    assert!(report.contains(" abandoned: hung.example ("), "{report}");
    let told = response(waiting);
    assert!(told.starts_with("HTTP/1.1 502 ") && told.contains("the resolver is closed"), "{told}");
    assert_eq!(server.end(), (String::new(), true));
}

#[test]
fn a_second_signal_ends_the_waiting() {
    let (mut server, waiting) = hung("1h");
    server.signal(libc::SIGTERM);
    assert_eq!(server.line_after_calls(), "stopping");
    server.signal(libc::SIGTERM);
    let report = server.line_after_calls();
    assert!(report.contains(" abandoned: hung.example ("), "{report}");
    assert_eq!(server.end(), (String::new(), true));
    drop(waiting);
}
