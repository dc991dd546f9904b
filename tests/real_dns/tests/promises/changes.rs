//! The files of the system's resolver change while the program runs.

use std::net::IpAddr;

use gaiter::{Hickory, Resolver};
use gaiter_real_dns::namespace;
use gaiter_real_dns::server::Server;

use crate::support::{ask, plain};

fn first(resolver: &Resolver, name: &str) -> Option<IpAddr> {
    ask(resolver, name).ok()?.into_iter().find(IpAddr::is_ipv4)
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("a literal"))
}

/// The first has one thread, so that a thread that has read the old file has to notice the new one.
fn resolvers() -> [Resolver; 2] {
    [plain().max_lookups(1).build(), Resolver::new()]
}

/// As above, and with `Hickory`, which reads the files itself.
fn readers() -> Vec<Resolver> {
    let hickory = || Hickory::from_system().expect("resolv.conf can be read");
    let hickories = [plain().async_backend(hickory()).build(), Resolver::builder().async_backend(hickory()).build()];
    resolvers().into_iter().chain(hickories).collect()
}

pub fn resolv_conf() {
    let (one, two) = (Server::start(), Server::start_on("127.0.0.2:53"));
    one.set_number(1);
    two.set_number(2);
    for resolver in readers() {
        for round in 0..5 {
            namespace::write("resolv.conf", "nameserver 127.0.0.1\n");
            resolver.flush();
            assert_eq!(first(&resolver, "ok.test"), ip("192.0.2.1"), "round {round}");
            namespace::write(
                "resolv.conf",
                "# The other server, and a search list.\nnameserver 127.0.0.2\nsearch test\n",
            );
            assert_eq!(first(&resolver, &format!("ok-{round}.test")), ip("192.0.2.2"), "round {round}");
            assert_eq!(first(&resolver, &format!("ok-{round}")), ip("192.0.2.2"), "round {round}");
            // The old answer is cached until the program flushes it.
            resolver.flush();
            assert_eq!(first(&resolver, "ok.test"), ip("192.0.2.2"), "round {round}");
        }
    }
}

pub fn hosts() {
    let server = Server::start();
    for resolver in readers() {
        let asked = server.count("ok.test");
        for host in 10..15 {
            namespace::write("hosts", &format!("192.0.2.{host} ok.test new-{host}.test\n"));
            resolver.flush();
            assert_eq!(first(&resolver, "ok.test"), ip(&format!("192.0.2.{host}")));
            assert_eq!(first(&resolver, &format!("new-{host}.test")), ip(&format!("192.0.2.{host}")));
        }
        assert_eq!(server.count("ok.test"), asked);
        namespace::write("hosts", namespace::HOSTS);
        resolver.flush();
        assert_eq!(first(&resolver, "ok.test"), ip("192.0.2.1"));
    }
}

pub fn nsswitch_conf() {
    let server = Server::start();
    for resolver in resolvers() {
        namespace::write("hosts", "192.0.2.50 ok.test\n");
        for _ in 0..5 {
            namespace::write("nsswitch.conf", "hosts: dns files # the server first\n");
            resolver.flush();
            assert_eq!(first(&resolver, "ok.test"), ip("192.0.2.1"));
            namespace::write("nsswitch.conf", namespace::NSSWITCH);
            resolver.flush();
            assert_eq!(first(&resolver, "ok.test"), ip("192.0.2.50"));
        }
    }
    assert!(server.count("ok.test") > 0);
}
