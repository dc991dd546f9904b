//! Runs the scripted server until it is killed: `scripted-server [ADDRESS:PORT]`. Default: 127.0.0.1:53.

use std::thread;

use gaiter_real_dns::server::{ADDRESS, Server};

fn main() {
    let address = std::env::args().nth(1);
    let _server = Server::start_on(address.as_deref().unwrap_or(ADDRESS));
    loop {
        thread::park();
    }
}
