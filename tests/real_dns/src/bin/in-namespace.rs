//! Runs a command in new namespaces: `in-namespace SECONDS COMMAND [ARGUMENT...]`.

use std::process::{ExitCode, exit};

use gaiter_real_dns::namespace;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let seconds = arguments.next().and_then(|seconds| seconds.to_str()?.parse().ok());
    let (Some(seconds), Some(program)) = (seconds, arguments.next()) else {
        eprintln!("usage: in-namespace SECONDS COMMAND [ARGUMENT...]");
        return ExitCode::FAILURE;
    };
    match namespace::command(program, seconds).args(arguments).status() {
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("in-namespace: cannot run timeout(1): {error}");
            ExitCode::FAILURE
        }
    }
}
