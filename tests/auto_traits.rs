//! Public types cross threads, move, and pass through `catch_unwind`, as their docs promise. Checked at compile time.

use std::panic::{RefUnwindSafe, UnwindSafe};

use gaiter::{
    Abandoned, AddrFilter, Addrs, Answer, Builder, CacheConfig, Config, Error, ErrorKind, Family, Order, Resolver,
    Resolving, Shutdown, ShutdownReport, Source, Stats, System, Untraced, Watch,
};

fn cross_threads<T: Send + Sync + Unpin>() {}
fn pass_through_panics<T: UnwindSafe + RefUnwindSafe>() {}
fn are_sent_and_moved<T: Send + Unpin>() {}

#[test]
fn all_of_them() {
    cross_threads::<(Resolver, Builder, Config, CacheConfig)>();
    cross_threads::<(Resolving, Watch, Addrs, Answer, Source, Error, ErrorKind)>();
    cross_threads::<(ShutdownReport, Abandoned, Stats)>();
    cross_threads::<(AddrFilter, Family, Order)>();
    cross_threads::<(System, Untraced<System>)>();
    // Not `Sync`, because it may wait for a signal that is not.
    are_sent_and_moved::<Shutdown<'_>>();

    // Without `Error` and `Builder`: they may hold values of the program that are not unwind-safe. So may `std::io::Error`.
    pass_through_panics::<(Resolver, Resolving, Watch, Config, CacheConfig)>();
    pass_through_panics::<(Addrs, Answer, Source, ErrorKind)>();
    pass_through_panics::<(ShutdownReport, Abandoned, Stats)>();
    pass_through_panics::<(AddrFilter, Family, Order)>();
    pass_through_panics::<(System, Untraced<System>)>();
}

#[cfg(feature = "hyper")]
#[test]
fn connectors_too() {
    type Connector = hyper_util::client::legacy::connect::HttpConnector<Resolver>;
    cross_threads::<(gaiter::Guarded<Connector>, gaiter::Reconnect<Connector>)>();
    are_sent_and_moved::<gaiter::Reconnecting<Connector>>();
}

#[cfg(feature = "hickory")]
#[test]
fn hickory_too() {
    cross_threads::<gaiter::Hickory>();
    pass_through_panics::<gaiter::Hickory>();
}
