//! Source addresses: the address from which the system would connect to another.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Finds source addresses. Keeps one socket for each family, where a socket can be used again.
#[derive(Default)]
pub(super) struct Sources {
    v4: Cell<Option<Socket>>,
    v6: Cell<Option<Socket>>,
}

impl Sources {
    /// Returns the address from which the system would connect to `destination` now, or `None` if there is no route. Sends nothing.
    pub(super) fn find(&self, destination: IpAddr) -> Option<IpAddr> {
        let place = if destination.is_ipv4() { &self.v4 } else { &self.v6 };
        // The port does not matter. 9 is `discard`.
        let destination = SocketAddr::new(destination, 9);
        let open = || Socket::new(Domain::for_address(destination), Type::DGRAM, Some(Protocol::UDP)).ok();
        let socket = place.take().or_else(open)?;
        let connected = socket.connect(&destination.into());
        let source = connected.and_then(|()| socket.local_addr());
        // Without this, the next connect would keep the source.
        place.set(Some(socket).filter(dissolve));
        Some(source.ok()?.as_socket()?.ip())
    }
}

// On Android a socket stays with the network that the process used when the socket was opened.
#[cfg(target_os = "linux")]
fn dissolve(socket: &Socket) -> bool {
    crate::ffi::dissolve(socket)
}

#[cfg(not(target_os = "linux"))]
fn dissolve(_: &Socket) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_source_is_found_without_a_packet() {
        let sources = Sources::default();
        assert_eq!(sources.find(ip("127.0.0.1")), Some(ip("127.0.0.1")));
        // No route leads there.
        assert_eq!(sources.find(ip("::")).filter(|source| !source.is_loopback()), None);
    }

    /// Addresses with different sources, unreachable ones, and ones that the system takes for another address.
    #[test]
    fn a_source_is_the_same_whatever_was_asked_for_before() {
        let kinds = [
            "127.0.0.1",
            "192.0.2.1",
            "255.255.255.255",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "2001:db8::1",
            "fe80::1",
            "ff02::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.1",
            "fd00::1",
        ];
        let kept = Sources::default();
        for (first, second) in kinds.iter().flat_map(|first| kinds.map(|second| (ip(first), ip(second)))) {
            kept.find(first);
            assert_eq!(kept.find(second), Sources::default().find(second), "{second} after {first}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn addresses_of_one_family_take_one_socket() {
        use std::os::fd::AsRawFd;

        // Including its port, which no other socket has.
        let socket = |place: &Cell<Option<Socket>>| {
            let socket = place.take().expect("it is kept");
            let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("procfs is mounted");
            place.set(Some(socket));
            link
        };
        let sources = Sources::default();
        sources.find(ip("127.0.0.1"));
        let first = socket(&sources.v4);
        for unlike in ["255.255.255.255", "127.0.0.2", "192.0.2.1", "::1", "fe80::1"] {
            sources.find(ip(unlike));
            assert_eq!(socket(&sources.v4), first, "{unlike}");
        }
    }
}
