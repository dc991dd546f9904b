//! Runs `examples/bulk`: every name gets a line, and the exit status and the summary say what became of them.

mod support;

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::example::example;

/// Runs the example with names on its standard input.
fn run(args: &[&str], names: &str) -> (Option<i32>, Vec<String>, String) {
    let mut bulk = example("bulk");
    bulk.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = bulk.spawn().unwrap();
    // Fewer than a pipe holds. The example may end without having read them.
    _ = child.stdin.take().unwrap().write_all(names.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let mut lines: Vec<_> = String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    (status.code(), lines, String::from_utf8(stderr).unwrap())
}

#[test]
fn each_name_gets_a_line_and_a_failure_sets_the_exit_status() {
    let (code, lines, summary) = run(&[], "127.0.0.1\n\n# a comment\n  ::1  \r\n127.0.0.1");
    assert_eq!(
        (code, lines),
        (Some(0), ["127.0.0.1: 127.0.0.1", "127.0.0.1: 127.0.0.1", "::1: ::1"].map(Into::into).to_vec())
    );
    assert!(summary.starts_with("names: 3, failed: 0, "), "{summary}");
    assert!(summary.contains("p99 "), "{summary}");

    let (code, lines, summary) = run(&[], "127.0.0.1\nno\0name");
    assert_eq!(code, Some(1));
    assert!(lines[0] == "127.0.0.1: 127.0.0.1" && lines[1].starts_with("error: "), "{lines:?}");
    assert!(summary.contains("\n        1  invalid host name\n"), "{summary}");

    assert_eq!(run(&["--quiet"], ""), (Some(0), vec![], String::new()));
}

#[test]
fn json_has_addresses_or_an_error() {
    let (code, lines, _) = run(&["--json", "--concurrency", "1"], "127.0.0.1\nno\0name\n");
    assert_eq!(code, Some(1));
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (failed, good): (Vec<_>, Vec<_>) = lines.partition(|line| line.get("error").is_some());
    assert_eq!(good[0]["name"], "127.0.0.1");
    assert_eq!(good[0]["addresses"], Value::from(vec!["127.0.0.1"]));
    assert_eq!((&failed[0]["kind"], failed[0].get("addresses")), (&Value::from("InvalidName"), None));
    assert!(good[0]["seconds"].is_number() && failed[0]["seconds"].is_number());
}

#[test]
fn bad_options_and_unreadable_files_are_errors_of_one_line() {
    for args in [&["--concurrency", "0"][..], &["--nonsense"], &["--timeout", "soon"], &["no/such/file"], &["."]] {
        let (code, lines, error) = run(args, "");
        assert_eq!((code, lines.len()), (Some(2), 0), "{args:?}: {error}");
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let mut bulk = example("bulk");
    bulk.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).arg("--quiet");
    let mut child = bulk.spawn().unwrap();
    drop(child.stdout.take());
    _ = child.stdin.take().unwrap().write_all("127.0.0.1\n".repeat(100).as_bytes());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), stderr.len()), (Some(0), 0));
}

/// Sends Ctrl-C once while the names go on, and twice while a lookup hangs.
#[cfg(all(unix, feature = "hickory"))]
#[test]
fn ctrl_c_waits_for_lookups_and_a_second_one_does_not() {
    use std::io::{BufRead, BufReader, Read};

    for hangs in [false, true] {
        // A name server that never answers.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = silent.local_addr().unwrap().to_string();
        let mut bulk = example("bulk");
        bulk.args(["--hickory", "--server", &server, "--timeout", "1h"]);
        let mut child = bulk.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let interrupt = {
            let id = child.id().try_into().unwrap();
            // SAFETY: the process is a child of this one that has not been waited for.
            move || assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0)
        };
        // Kept open: there may always be another name.
        let mut names = child.stdin.take().unwrap();
        names.write_all(b"hung.example\n127.0.0.1\n"[if hangs { 0 } else { 13 }..].as_ref()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "127.0.0.1: 127.0.0.1\n");
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        interrupt();
        let mut waiting = String::new();
        errors.read_line(&mut waiting).unwrap();
        assert!(waiting.starts_with("waiting for the lookups in flight"), "{waiting}");
        if hangs {
            interrupt();
        }
        let mut rest = String::new();
        errors.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
        assert!(rest.starts_with("names: 1, failed: 0, "), "{rest}");
        drop(names);
    }
}
