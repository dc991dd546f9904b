//! Runs the examples as processes.

use std::process::Command;

/// Returns a command that runs an example. `cargo test` builds the examples.
pub fn example(name: &str) -> Command {
    // Next to this test: `target/debug/examples/name` for `target/debug/deps/test-…`.
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "no {}: `cargo build --all-features --examples` makes it", path.display());
    Command::new(path)
}
