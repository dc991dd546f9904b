//! The resolvers that gaiter is compared with.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::process::Command;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service as _;

/// Returns the addresses that `getent ahosts` prints, by glibc's own use of `getaddrinfo`, or `None` if the name is not found for
/// whatever reason. With `--no-idn`, because programs do not ask glibc to encode names.
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
        // The manual: "one or more supplied key could not be found".
        Some(2) => None,
        _ => panic!("getent ahosts {name}: {}", output.status),
    }
}

/// Returns the addresses by `std::net::ToSocketAddrs`, or libc's message.
pub fn std_lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    match (name, 0).to_socket_addrs() {
        Ok(addrs) => Ok(addrs.map(|addr| addr.ip()).collect()),
        Err(error) => {
            let text = error.to_string();
            Err(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned())
        }
    }
}

/// Returns the addresses by hyper-util's resolver, on the current Tokio runtime.
pub async fn hyper_lookup(name: &str) -> Result<Vec<IpAddr>, std::io::Error> {
    let name: Name = name.parse().expect("any text is one");
    Ok(GaiResolver::new().call(name).await?.map(|addr| addr.ip()).collect())
}
