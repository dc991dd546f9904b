//! Runs `examples/watch`: it prints the addresses of names, connects to each, and ends when it is told to.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Stdio;

use support::example::example;

#[test]
fn it_prints_addresses_connects_to_each_and_ends_on_ctrl_c() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let mut watch = example("watch");
    watch.args(["--port", &to.port().to_string(), "127.0.0.1"]);
    let mut child = watch.stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id().try_into().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    };
    assert_eq!([lines(), lines()], ["127.0.0.1: + 127.0.0.1\n".to_owned(), format!("{to}: connected\n")]);
    drop(server.accept().unwrap());
    // SAFETY: the process is a child of this one that has not been waited for.
    assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert!(rest.ends_with("0 lookups finished, 0 cancelled, 0 abandoned\n"), "{rest}");
}
