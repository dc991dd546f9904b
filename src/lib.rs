//! TODO
#![deny(unsafe_code)] // but in `ffi`
#![warn(missing_docs, unreachable_pub)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod backend;
mod builder; // the knobs
mod engine; // what is in progress: flights, the queue, the threads; no I/O
mod resolver; // the handle people hold
mod resolving; // the future a caller holds; dropping it leaves the flight
mod threads; // the workers and the timekeeper that do what the engine says // where answers come from

#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "reqwest")]
mod reqwest;

mod addrs;
mod error;
#[cfg(unix)]
mod ffi;
mod foreign;
mod name;
mod trace;
mod waiter;

pub use crate::addrs::{Addrs, Answer};
pub use crate::backend::{Backend, System};
pub use crate::builder::{Builder, Config};
pub use crate::error::{Error, ErrorKind};
pub use crate::resolver::Resolver;
pub use crate::resolving::Resolving;
