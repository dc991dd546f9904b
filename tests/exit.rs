//! A process ends when its `main` returns, even while lookups hang.

mod support;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::WATCHDOG;
use support::backend::Scripted;

const CHILD: &str = "GAITER_TEST_HANGS";

/// Runs in the child: leaves 10 lookups hanging and returns, which ends the process.
fn hang_ten() {
    let backend = Scripted::default();
    let resolver = support::plain().backend(backend.clone()).build();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for number in 0..10 {
        let resolver = resolver.clone();
        runtime.spawn(async move { resolver.resolve(format!("hang-{number}")).await });
    }
    backend.gate.await_arrivals(10);
    drop(runtime);
    drop(resolver);
    println!("dropped");
}

#[test]
fn a_process_ends_although_lookups_hang() {
    if std::env::var_os(CHILD).is_some() {
        return hang_ten();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_process_ends_although_lookups_hang", "--nocapture"]).env(CHILD, "1");
    let mut child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            // The limit keeps a child that hangs from hanging this process too.
            None if began.elapsed() > WATCHDOG => {
                child.kill().unwrap();
                panic!("the process hangs");
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    let output = child.wait_with_output().unwrap();
    assert!(status.success() && String::from_utf8_lossy(&output.stdout).contains("dropped"));
}
