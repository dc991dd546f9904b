use crate::addrs::Answer;
use crate::backend::Backend;
use crate::error::Error;

/// The operating system's own resolver, `getaddrinfo`.
///
/// It honours everything the machine is configured to do: `/etc/hosts`, nsswitch, VPN split DNS, mDNS, search domains.
///
/// It asks for stream sockets of both families, without `AI_ADDRCONFIG`, as std and hyper do. Addresses, their order and the error
/// code are the platform's.
///
/// `getaddrinfo` reads the environment. A program that calls `setenv` while a lookup runs has undefined behaviour, with any resolver
/// that uses `getaddrinfo`.
///
/// # Platforms
///
/// **glibc**: works in forked children.
///
/// **musl**:
///
/// - Only the hosts file and DNS are used, not nsswitch, mDNS or `gai.conf`.
/// - All servers are asked at once, for both families, and the first answer counts.
/// - If one family fails, the lookup fails: with "no such name" if that is the answer to either question, and with `EAI_AGAIN` if a
///   server fails. glibc returns the addresses of the other family.
/// - The search list is used only for names with fewer dots than `ndots`.
/// - There are at most 48 addresses. Before musl 1.2.4, an answer that does not fit into 512 bytes is cut short, and "no address" is
///   `EAI_NONAME`.
///
/// **macOS**:
///
/// - Lookups do not work in a forked child.
/// - A lookup that cannot open a file descriptor fails with `EAI_NONAME`. If the process still has no descriptor left after that, the error
///   here is [`System`](crate::ErrorKind::System), which is never cached. Otherwise "no such name" is cached for
///   [`negative_ttl`](crate::CacheConfig::negative_ttl()).
///
/// **Windows**:
///
/// - Lookups go through [`std::net::ToSocketAddrs`]. An error has the Winsock code, such as `WSAHOST_NOT_FOUND`, and its source is
///   the [`io::Error`](std::io::Error) with that code.
/// - std passes names in UTF-8, and Windows takes them for text in the process's code page. A name that is not ASCII must be in its `xn--`
///   form.
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

/// Returns the error for a name with a NUL byte, which C would cut short there.
fn with_nul(name: &str) -> Error {
    Error::invalid_name(name, "a host name cannot contain a NUL byte")
}

#[cfg(unix)]
mod platform {
    use std::io;

    use libc::c_int;

    use crate::addrs::Answer;
    use crate::error::{Error, ErrorKind};
    use crate::ffi::{self, GaiError};

    // RFC 2553 has these two. POSIX dropped them, and the `libc` crate lacks one or both on some platforms. All libcs with negative codes
    // (glibc, musl, OpenBSD) agree on their values, and so do all with positive ones (the other BSDs, macOS, Android).
    const EAI_ADDRFAMILY: c_int = if libc::EAI_NONAME < 0 { -9 } else { 1 };
    const EAI_NODATA: c_int = if libc::EAI_NONAME < 0 { -5 } else { 7 };

    pub(super) fn lookup(name: &str) -> Result<Answer, Error> {
        let answer = ffi::with_c_string(name, ffi::getaddrinfo).ok_or_else(|| super::with_nul(name))?;
        answer.map_err(|failure| {
            let descriptors = if cfg!(target_vendor = "apple") { ffi::try_descriptor } else { || Ok(()) };
            error(failure, descriptors)
        })
    }

    /// Returns the error for a failed call.
    ///
    /// macOS reports a lookup that could not open a descriptor as "no such name". There `try_descriptor` tells the two apart.
    fn error(GaiError { code, errno }: GaiError, try_descriptor: impl FnOnce() -> io::Result<()>) -> Error {
        let (kind, symbol) = classify(code);
        let cause = match kind {
            ErrorKind::NotFound => try_descriptor().err(),
            _ => errno,
        };
        match cause {
            Some(cause) => Error::new(ErrorKind::System, cause).coded(code, symbol),
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

        use super::*;

        fn error(failure: GaiError) -> Error {
            super::error(failure, || Ok(()))
        }

        fn errno(error: &Error) -> Option<i32> {
            error.source()?.downcast_ref::<io::Error>()?.raw_os_error()
        }

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
            assert_eq!(errno(&emfile), Some(libc::EMFILE));

            let nothing = error(GaiError { code, errno: None });
            assert_eq!(nothing.kind(), ErrorKind::System);
            assert!(!nothing.to_string().contains("Success"), "{nothing}");
        }

        #[test]
        fn no_such_name_for_want_of_a_descriptor_is_a_system_error() {
            let emfile = || Err(io::Error::from_raw_os_error(libc::EMFILE));
            let exhausted = super::error(GaiError { code: libc::EAI_NONAME, errno: None }, emfile);
            assert_eq!((exhausted.kind(), exhausted.code()), (ErrorKind::System, Some(libc::EAI_NONAME)));
            assert_eq!(errno(&exhausted), Some(libc::EMFILE));

            let again = super::error(GaiError { code: libc::EAI_AGAIN, errno: None }, emfile);
            assert_eq!((again.kind(), errno(&again)), (ErrorKind::Temporary, None), "not what the code says");
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::net::ToSocketAddrs;

    use super::winsock;
    use crate::addrs::Answer;
    use crate::error::Error;

    pub(super) fn lookup(name: &str) -> Result<Answer, Error> {
        if name.contains('\0') {
            return Err(super::with_nul(name));
        }
        (name, 0).to_socket_addrs().map(Iterator::collect).map_err(winsock::error)
    }
}

#[cfg(any(test, not(unix)))]
mod winsock {
    use std::io;

    use crate::error::{Error, ErrorKind};

    /// Returns the error for a failed call, which std returns with the Winsock code.
    pub(super) fn error(error: io::Error) -> Error {
        let Some(code) = error.raw_os_error() else {
            return error.into();
        };
        let (kind, symbol) = classify(code);
        let error = match kind {
            Some(kind) => Error::new(kind, error),
            None => error.into(),
        };
        error.coded(code, symbol)
    }

    /// Returns the kind of a code of `getaddrinfo`'s, and its name in `<winerror.h>`. Other codes have the kind of an I/O error.
    ///
    /// The kinds are those of the `EAI_*` codes that `<ws2tcpip.h>` defines as these.
    fn classify(code: i32) -> (Option<ErrorKind>, Option<&'static str>) {
        let (kind, symbol) = match code {
            11001 => (ErrorKind::NotFound, "WSAHOST_NOT_FOUND"),
            11002 => (ErrorKind::Temporary, "WSATRY_AGAIN"),
            11003 => (ErrorKind::Permanent, "WSANO_RECOVERY"),
            11004 => (ErrorKind::NoData, "WSANO_DATA"),
            8 => (ErrorKind::System, "WSA_NOT_ENOUGH_MEMORY"),
            10022 => (ErrorKind::Other, "WSAEINVAL"),
            10044 => (ErrorKind::Other, "WSAESOCKTNOSUPPORT"),
            10047 => (ErrorKind::Other, "WSAEAFNOSUPPORT"),
            10109 => (ErrorKind::Other, "WSATYPE_NOT_FOUND"),
            10093 => (ErrorKind::System, "WSANOTINITIALISED"),
            _ => return (None, None),
        };
        (Some(kind), Some(symbol))
    }

    #[cfg(test)]
    mod tests {
        use std::error::Error as _;

        use super::*;

        #[test]
        fn codes_keep_their_number_name_and_words() {
            for (code, kind, symbol) in [
                (11001, ErrorKind::NotFound, "WSAHOST_NOT_FOUND"),
                (11002, ErrorKind::Temporary, "WSATRY_AGAIN"),
                (11003, ErrorKind::Permanent, "WSANO_RECOVERY"),
                (11004, ErrorKind::NoData, "WSANO_DATA"),
                (8, ErrorKind::System, "WSA_NOT_ENOUGH_MEMORY"),
                (10022, ErrorKind::Other, "WSAEINVAL"),
            ] {
                let os = io::Error::from_raw_os_error(code);
                let words = os.to_string();
                let error = error(os);
                assert_eq!((error.kind(), error.code()), (kind, Some(code)));
                assert_eq!(error.to_string(), format!("{kind} ({symbol})"));
                assert_eq!(error.source().map(ToString::to_string), Some(words));
            }
        }

        #[test]
        fn another_code_has_the_kind_of_an_io_error() {
            // Elsewhere std does not know `WSAECONNREFUSED`.
            let refused = if cfg!(windows) { ErrorKind::Temporary } else { ErrorKind::System };
            for (code, kind) in [(10061, refused), (4711, ErrorKind::System)] {
                let error = error(io::Error::from_raw_os_error(code));
                assert_eq!((error.kind(), error.code()), (kind, Some(code)));
                assert!(error.to_string().ends_with(&format!("(code {code})")), "{error}");
            }
            let plain = error(io::ErrorKind::InvalidInput.into());
            assert_eq!((plain.kind(), plain.code()), (ErrorKind::Other, None));
        }
    }
}
