//! What gaiter is held against.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::process::Command;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service as _;

/// `getent ahosts`: the C library's own idea of `getaddrinfo`, but for its wish to encode names, which programs do not have. `None` if the name is not found, for whatever reason.
pub fn getent(name: &str) -> Option<Vec<IpAddr>> {
    let output =
        Command::new("getent").args(["--no-idn", "ahosts", "--", name]).output().expect("getent(1) comes with glibc");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut ips = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(ip), Some("STREAM")) = (fields.next(), fields.next()) {
            ips.push(ip.parse().expect("getent(1) prints addresses"));
        }
    }
    match output.status.code() {
        Some(0) => Some(ips),
        // Its manual: "one or more supplied key could not be found".
        Some(2) => None,
        _ => panic!("getent ahosts {name}: {}", output.status),
    }
}

/// `std::net::ToSocketAddrs`: the addresses, or what libc said.
pub fn std_lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    match (name, 0).to_socket_addrs() {
        Ok(addrs) => Ok(addrs.map(|addr| addr.ip()).collect()),
        Err(error) => {
            let text = error.to_string();
            Err(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned())
        }
    }
}

/// hyper-util's resolver, on the Tokio runtime that this runs in.
pub async fn hyper_lookup(name: &str) -> Result<Vec<IpAddr>, std::io::Error> {
    let name: Name = name.parse().expect("any text is one");
    Ok(GaiResolver::new().call(name).await?.map(|addr| addr.ip()).collect())
}
