//! What the fuzz targets reach of what is inside, in types that they have. There under `--cfg fuzzing` alone, and no part of
//! the API. (Whoever fuzzes a program that uses this crate has it too, with whatever features that has.)
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

/// A name, as it is kept.
pub struct Parsed(Name);

impl Parsed {
    pub fn new(text: &str) -> Result<Self, &'static str> {
        Name::parse(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether both are one name, for the engine as for the cache.
    pub fn is_same_as(&self, other: &str) -> bool {
        let Some(borrowed) = NameRef::new(other) else { return false };
        let hasher = RandomState::new();
        let same = borrowed.is(&self.0);
        assert_eq!(same, Name::parse(other).is_ok_and(|other| other == self.0));
        assert!(!same || hasher.hash_one(&self.0) == hasher.hash_one(borrowed));
        same
    }
}

/// The address that `text` is.
pub fn literal(text: &str) -> Option<IpAddr> {
    NameRef::new(text)?.literal()
}

/// What `getaddrinfo` takes `text` for, if it takes it for an address. Sends nothing.
#[cfg(unix)]
pub fn numeric_host(text: &str) -> Option<Vec<SocketAddr>> {
    ffi::getaddrinfo_with(&ffi::c_string(text)?, libc::AI_NUMERICHOST).ok()
}

/// The labels that hickory asks about for `text`, and whether it is a whole name.
#[cfg(feature = "hickory")]
pub fn dns_name(text: &str) -> Option<(Vec<Vec<u8>>, bool)> {
    let name = hickory::name::parse(text).ok()?;
    Some((name.iter().map(<[u8]>::to_vec).collect(), name.is_fqdn()))
}

/// RFC 6724's place for `destination` among others, if `source` is its source.
#[cfg(feature = "hickory")]
pub fn rank(destination: IpAddr, source: Option<IpAddr>) -> impl Ord + Copy + std::fmt::Debug {
    hickory::order::Rank::of(destination, source)
}

/// Puts addresses into RFC 6724's order, by their sources. For as many as one turn of the driver takes.
#[cfg(feature = "hickory")]
pub fn sort(addrs: &mut [IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) {
    hickory::order::sort(addrs, source).now_or_never().expect("a single turn");
}
