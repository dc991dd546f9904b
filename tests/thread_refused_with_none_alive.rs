//! If the operating system refuses the first thread, every caller gets a typed error at once.

mod support;

use std::error::Error as _;
use std::io;

use futures::executor::block_on;
use gaiter::ErrorKind;
use support::backend::Scripted;

/// A stack size that no address space has room for.
const ABSURD: usize = 1 << 50;

/// wine crashes at a stack of `usize::MAX`.
const STACKS: &[usize] = if cfg!(windows) { &[ABSURD] } else { &[ABSURD, usize::MAX] };

#[test]
fn every_caller_gets_a_typed_error() {
    for &stack in STACKS {
        let backend = Scripted::default();
        let resolver = support::plain().backend(backend.clone()).thread_stack_size(stack).build();
        for _ in 0..3 {
            let error = block_on(resolver.resolve("ok")).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::ThreadRefused);
            assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()), "{error:?}");
        }
        assert_eq!(backend.calls(), 0);
    }
}
