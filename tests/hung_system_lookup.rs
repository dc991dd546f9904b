//! A system lookup that hangs keeps no span of its caller open. This binary's own `getaddrinfo` takes the place of libc's.
#![cfg(unix)]

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Waker};

use libc::{addrinfo, c_char, c_int};
use support::gate::{Gate, OpenOnDrop};
use support::log::Log;
use support::panics;
use support::strict::Strict;
use tracing::{Dispatch, dispatcher, info_span};

static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);

/// Hangs until the gate opens, and then fails with `EAI_AGAIN`.
///
/// # Safety
///
/// The same as libc's, but this one reads no argument.
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    _: *const c_char,
    _: *const c_char,
    _: *const addrinfo,
    _: *mut *mut addrinfo,
) -> c_int {
    tracing::info!("inside the call");
    GATE.pass();
    libc::EAI_AGAIN
}

#[test]
fn spans_close_when_the_caller_leaves() {
    let panics_before = panics::unexpected();
    let _open = OpenOnDrop(&GATE);
    let log = Log::default();
    let own = Dispatch::new(Strict::new(log.clone()));
    let resolver = support::plain().build();
    let lookup =
        || dispatcher::with_default(&own, || info_span!("request").in_scope(|| resolver.resolve("hang.example")));

    let (left, mut stayed) = (lookup(), pin!(lookup()));
    GATE.await_arrivals(1);
    let poll = |lookup: std::pin::Pin<&mut gaiter::Resolving>| lookup.poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll(stayed.as_mut()).is_pending());
    let open = || log.look(|seen| seen.open.len());
    assert_eq!(open(), 4, "a request and a `resolve` each");
    drop(left);
    assert_eq!(open(), 2, "while the call hangs");

    GATE.open();
    let error = futures::executor::block_on(stayed).expect_err("it cannot tell");
    assert!(error.is_temporary());
    assert_eq!((error.code(), error.name()), (Some(libc::EAI_AGAIN), Some("hang.example")));
    assert_eq!(GATE.arrived(), 1, "one flight for both");
    log.look(|seen| {
        assert_eq!((seen.open.len(), &*seen.failures), (0, &[][..]));
        assert!(seen.events.is_empty(), "the call has no subscriber: {:?}", seen.events);
    });
    assert_eq!(panics::unexpected(), panics_before);
}
