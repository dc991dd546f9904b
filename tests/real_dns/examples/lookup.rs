//! Looks each argument up with gaiter and prints a line for each: the addresses, or the error's kind and code.
//!
//! Fails if std gets other addresses. `differential::musl` runs it built for musl.

use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;

use futures::executor::block_on;
use gaiter::Resolver;

fn main() {
    let lookups = std::env::args().skip(1).map(|name| thread::spawn(move || look_up(&name)));
    for lookup in lookups.collect::<Vec<_>>() {
        println!("{}", lookup.join().expect("it does not panic"));
    }
}

fn look_up(name: &str) -> String {
    let ours = block_on(Resolver::builder().timeout(None).build().resolve(name));
    let std: Option<Vec<SocketAddr>> = (name, 0).to_socket_addrs().ok().map(Iterator::collect);
    assert_eq!(ours.clone().ok().map(Iterator::collect), std, "{name}: gaiter (left) and std (right)");
    match ours {
        Ok(addrs) => addrs.map(|addr| addr.ip().to_string()).collect::<Vec<_>>().join(" "),
        Err(error) => format!("{:?} {}", error.kind(), error.code().map_or_else(String::new, |code| code.to_string())),
    }
}
