//! A test bed for resolvers that use the system's own: namespaces with a `resolv.conf`, `nsswitch.conf` and `hosts` of their
//! own, and a DNS server on loopback that does as the name in the question says.
//!
//! The tests in `tests/promises/` run each in namespaces of its own; the benchmarks use the same two pieces.

mod script;

pub mod namespace;
pub mod server;
