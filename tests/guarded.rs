//! Runs `examples/guarded`: hyper and reqwest refuse loopback by name, as an address in all its forms, and by redirect.

use std::path::PathBuf;
use std::process::Command;

/// Runs the example, and returns its lines and whether it ended well.
fn run(urls: &[&str]) -> (Vec<String>, bool) {
    // Next to this test: `target/debug/examples/guarded` for `target/debug/deps/guarded-…`.
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push("guarded");
    let output = Command::new(&path)
        .args(urls)
        // Not for this server: the example must not ask it.
        .env("http_proxy", "http://127.0.0.1:1")
        .output()
        .unwrap_or_else(|error| {
            panic!("{}: {error}; `cargo build --examples --all-features` makes it", path.display())
        });
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, output.status.success())
}

#[test]
fn loopback_is_refused_in_every_way_and_the_public_page_is_fetched() {
    let (lines, well) = run(&[]);
    assert!(well, "{lines:#?}");
    let (count, lines) = lines.split_last().unwrap();
    assert_eq!(count, "the secret was fetched 0 times");
    let fetched: Vec<_> = lines.iter().filter(|line| line.ends_with("/: 200 OK")).collect();
    assert_eq!(fetched.len(), 2, "{lines:#?}");
    for client in ["hyper   ", "reqwest "] {
        let refused = lines.iter().filter(|line| line.starts_with(client) && line.contains(": refused: "));
        assert_eq!(refused.filter(|line| line.contains(" (loopback, RFC ")).count(), 11, "{lines:#?}");
    }
    assert_eq!(lines.len(), 24, "{lines:#?}");
}

#[test]
fn urls_of_the_user_are_refused_too() {
    let (lines, _) = run(&["http://[::1]/", "http://169.254.169.254/latest/", "http://0/"]);
    let refused = lines.iter().filter(|line| line.contains(": refused: failed to resolve "));
    assert_eq!(refused.count(), 6, "{lines:#?}");
}
