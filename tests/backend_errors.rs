//! An error of a backend's own I/O ends no thread, and a network error starts a cooldown.

mod support;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use futures::executor::block_on;
use gaiter::{Answer, Backend, CacheConfig, ErrorKind};

/// `ECONNREFUSED` and `EMFILE`.
#[cfg(unix)]
const CODES: (i32, i32) = (libc::ECONNREFUSED, libc::EMFILE);
/// `WSAECONNREFUSED` and `WSAEMFILE`.
#[cfg(windows)]
const CODES: (i32, i32) = (10061, 10024);

/// The thread that made each call.
type Calls = Arc<Mutex<Vec<ThreadId>>>;

fn failing(code: i32) -> (Calls, impl Backend) {
    let calls = Calls::default();
    let made = Arc::clone(&calls);
    let backend = move |_: &str| -> io::Result<Answer> {
        made.lock().unwrap().push(thread::current().id());
        Err(io::Error::from_raw_os_error(code))
    };
    (calls, backend)
}

#[test]
fn it_costs_no_thread() {
    for (code, kind) in [(CODES.0, ErrorKind::Temporary), (CODES.1, ErrorKind::System)] {
        let (calls, backend) = failing(code);
        let resolver = support::plain().max_lookups(1).backend(backend).build();
        for _ in 0..20 {
            assert_eq!(block_on(resolver.resolve("name")).expect_err("an error").kind(), kind);
        }
        let calls = calls.lock().unwrap();
        assert_eq!(calls.len(), 20);
        assert_eq!(calls.iter().collect::<HashSet<_>>().len(), 1, "{kind:?}");
    }
}

#[test]
fn a_network_error_has_its_cooldown() {
    let (calls, backend) = failing(CODES.0);
    let cache = CacheConfig::new().cooldown(std::time::Duration::from_secs(3600));
    let resolver = support::plain().backend(backend).cache(cache).build();
    for is_cached in [false, true, true] {
        let error = block_on(resolver.resolve("name")).expect_err("an error");
        assert_eq!((error.kind(), error.is_cached()), (ErrorKind::Temporary, is_cached));
    }
    assert_eq!(calls.lock().unwrap().len(), 1);
}
