use crate::addrs::Answer;
use crate::backend::Backend;
use crate::error::Error;

/// The operating system's own resolver, `getaddrinfo`.
///
/// It honours everything the machine is configured to do: `/etc/hosts`, nsswitch, VPN split DNS, mDNS, search domains.
///
/// It asks for stream sockets of both families, without `AI_ADDRCONFIG`, as std and hyper do. Addresses, their order and the error
/// code are the platform's. Off Unix it uses [`std::net::ToSocketAddrs`], and errors have the Winsock code.
///
/// `getaddrinfo` reads the environment. A program that calls `setenv` while a lookup runs has undefined behaviour, with any resolver
/// that uses `getaddrinfo`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct System;

impl System {
    /// Returns the system's resolver.
    pub fn new() -> Self {
        Self
    }
}

impl Backend for System {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        platform::lookup(name)
    }

    fn emits_events(&self) -> bool {
        false
    }
}

#[cfg(unix)]
mod platform {
    use libc::c_int;

    use crate::addrs::Answer;
    use crate::error::{Error, ErrorKind};
    use crate::ffi::{self, GaiError};

    // RFC 2553 has these two. POSIX dropped them, and the `libc` crate lacks one or both on some platforms. All libcs with negative codes
    // (glibc, musl, OpenBSD) agree on their values, and so do all with positive ones (the other BSDs, macOS, Android).
    const EAI_ADDRFAMILY: c_int = if libc::EAI_NONAME < 0 { -9 } else { 1 };
    const EAI_NODATA: c_int = if libc::EAI_NONAME < 0 { -5 } else { 7 };

    pub(super) fn lookup(name: &str) -> Result<Answer, Error> {
        match ffi::with_c_string(name, ffi::getaddrinfo) {
            Some(answer) => answer.map_err(error),
            None => Err(Error::invalid_name(name, "a host name cannot contain a NUL byte")),
        }
    }

    fn error(GaiError { code, errno }: GaiError) -> Error {
        let (kind, symbol) = classify(code);
        match errno {
            Some(errno) => Error::new(kind, errno).coded(code, symbol),
            None => Error::platform(kind, code, symbol, ffi::gai_strerror(code)),
        }
    }

    /// Returns the kind of a code, and its name in `<netdb.h>`.
    fn classify(code: c_int) -> (ErrorKind, Option<&'static str>) {
        let (kind, symbol) = match code {
            libc::EAI_NONAME => (ErrorKind::NotFound, "EAI_NONAME"),
            EAI_NODATA => (ErrorKind::NoData, "EAI_NODATA"),
            EAI_ADDRFAMILY => (ErrorKind::NoData, "EAI_ADDRFAMILY"),
            libc::EAI_AGAIN => (ErrorKind::Temporary, "EAI_AGAIN"),
            libc::EAI_FAIL => (ErrorKind::Permanent, "EAI_FAIL"),
            libc::EAI_SYSTEM => (ErrorKind::System, "EAI_SYSTEM"),
            libc::EAI_MEMORY => (ErrorKind::System, "EAI_MEMORY"),
            libc::EAI_FAMILY => (ErrorKind::Other, "EAI_FAMILY"),
            libc::EAI_SERVICE => (ErrorKind::Other, "EAI_SERVICE"),
            libc::EAI_SOCKTYPE => (ErrorKind::Other, "EAI_SOCKTYPE"),
            libc::EAI_BADFLAGS => (ErrorKind::Other, "EAI_BADFLAGS"),
            libc::EAI_OVERFLOW => (ErrorKind::Other, "EAI_OVERFLOW"),
            _ => return (ErrorKind::Other, None),
        };
        (kind, Some(symbol))
    }

    #[cfg(test)]
    mod tests {
        use std::error::Error as _;
        use std::io;

        use super::*;

        #[test]
        fn codes_keep_their_number_name_and_words() {
            for (code, kind, symbol) in [
                (libc::EAI_NONAME, ErrorKind::NotFound, "EAI_NONAME"),
                (EAI_NODATA, ErrorKind::NoData, "EAI_NODATA"),
                (EAI_ADDRFAMILY, ErrorKind::NoData, "EAI_ADDRFAMILY"),
                (libc::EAI_AGAIN, ErrorKind::Temporary, "EAI_AGAIN"),
                (libc::EAI_FAIL, ErrorKind::Permanent, "EAI_FAIL"),
            ] {
                let error = error(GaiError { code, errno: None });
                assert_eq!((error.kind(), error.code()), (kind, Some(code)));
                assert_eq!(error.to_string(), format!("{} ({symbol})", ffi::gai_strerror(code)));
            }
            assert_eq!(error(GaiError { code: 4711, errno: None }).code(), Some(4711));
        }

        #[test]
        fn a_system_error_is_its_errno_and_never_a_success() {
            let code = libc::EAI_SYSTEM;
            let emfile = error(GaiError { code, errno: Some(io::Error::from_raw_os_error(libc::EMFILE)) });
            assert_eq!((emfile.kind(), emfile.code()), (ErrorKind::System, Some(code)));
            let source = emfile.source().and_then(|e| e.downcast_ref::<io::Error>()).expect("errno");
            assert_eq!(source.raw_os_error(), Some(libc::EMFILE));

            let nothing = error(GaiError { code, errno: None });
            assert_eq!(nothing.kind(), ErrorKind::System);
            assert!(!nothing.to_string().contains("Success"), "{nothing}");
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::net::ToSocketAddrs;

    use crate::addrs::Answer;
    use crate::error::{Error, ErrorKind};

    pub(super) fn lookup(name: &str) -> Result<Answer, Error> {
        let error = match (name, 0).to_socket_addrs() {
            Ok(addrs) => return Ok(addrs.collect()),
            Err(error) => error,
        };
        let Some(code) = error.raw_os_error() else {
            return Err(error.into());
        };
        // From `winsock2.h`. No dependency of the crate has names for them.
        let (kind, symbol) = match code {
            11001 => (ErrorKind::NotFound, Some("WSAHOST_NOT_FOUND")),
            11002 => (ErrorKind::Temporary, Some("WSATRY_AGAIN")),
            11003 => (ErrorKind::Permanent, Some("WSANO_RECOVERY")),
            11004 => (ErrorKind::NoData, Some("WSANO_DATA")),
            _ => (ErrorKind::System, None),
        };
        Err(Error::new(kind, error).coded(code, symbol))
    }
}
