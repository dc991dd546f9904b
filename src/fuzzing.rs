//! Internals for the fuzz targets, in types that they can name. Exists only under `--cfg fuzzing`, and is no part of the API.
//! A program that uses this crate has it too while it is fuzzed.
#![allow(missing_docs)]

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
#[cfg(unix)]
use std::net::SocketAddr;

#[cfg(feature = "hickory")]
use futures_util::FutureExt as _;

#[cfg(feature = "hickory")]
use crate::backend::hickory;
#[cfg(unix)]
use crate::ffi;
use crate::name::{Name, NameRef};

pub use crate::engine::tests::model::Scenario;

/// A parsed name.
pub struct Parsed(Name);

impl Parsed {
    pub fn new(text: &str) -> Result<Self, &'static str> {
        Name::parse(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns whether both are one name, for the engine as for the cache.
    pub fn is_same_as(&self, other: &str) -> bool {
        let Some(borrowed) = NameRef::new(other) else { return false };
        let hasher = RandomState::new();
        let same = borrowed.is(&self.0);
        assert_eq!(same, Name::parse(other).is_ok_and(|other| other == self.0));
        assert!(!same || hasher.hash_one(&self.0) == hasher.hash_one(borrowed));
        same
    }
}

/// Returns the address that `text` spells out, if it does.
pub fn literal(text: &str) -> Option<IpAddr> {
    NameRef::new(text)?.literal()
}

/// Returns the addresses that `getaddrinfo` takes `text` for, if it takes it for numeric. Sends nothing.
#[cfg(unix)]
pub fn numeric_host(text: &str) -> Option<Vec<SocketAddr>> {
    ffi::with_c_string(text, |host| ffi::getaddrinfo_with(host, libc::AI_NUMERICHOST))?.ok()
}

/// Returns the labels that hickory asks about for `text`, and whether the name is fully qualified.
#[cfg(feature = "hickory")]
pub fn dns_name(text: &str) -> Option<(Vec<Vec<u8>>, bool)> {
    let name = hickory::name::parse(text).ok()?;
    Some((name.iter().map(<[u8]>::to_vec).collect(), name.is_fqdn()))
}

/// Returns the rank of `destination` by RFC 6724, if `source` is its source address.
#[cfg(feature = "hickory")]
pub fn rank(destination: IpAddr, source: Option<IpAddr>) -> impl Ord + Copy + std::fmt::Debug {
    hickory::order::Rank::of(destination, source)
}

/// Sorts addresses in RFC 6724's order, by their sources. Only for as many as one turn of the driver takes.
#[cfg(feature = "hickory")]
pub fn sort(addrs: &mut [IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) {
    hickory::order::sort(addrs, source).now_or_never().expect("a single turn");
}
