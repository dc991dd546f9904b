//! The libc binding, and the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::iter;
use std::mem;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use socket2::SockAddr;

/// A failure of `getaddrinfo`.
#[derive(Debug)]
pub(crate) struct GaiError {
    /// Its return value, an `EAI_*` code. Never 0.
    pub(crate) code: libc::c_int,
    /// `errno`, if the code is `EAI_SYSTEM` and `errno` was set.
    pub(crate) errno: Option<io::Error>,
}

/// A list from `getaddrinfo`, freed when dropped.
struct AddrInfoList(*mut libc::addrinfo);

impl Drop for AddrInfoList {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: a non-null list comes from a `getaddrinfo` that returned 0, is owned by `self` alone and freed once.
            unsafe { libc::freeaddrinfo(self.0) }
        }
    }
}

/// Returns the addresses of `host` in libc's order, one for each that a stream socket could connect to. Blocks.
pub(crate) fn getaddrinfo<A: FromIterator<SocketAddr>>(host: &CStr) -> Result<A, GaiError> {
    getaddrinfo_with(host, 0)
}

/// Does the same, with flags of getaddrinfo(3).
pub(crate) fn getaddrinfo_with<A: FromIterator<SocketAddr>>(host: &CStr, flags: libc::c_int) -> Result<A, GaiError> {
    // SAFETY: `addrinfo` is a plain C struct of integers and pointers, for which all zeroes is valid. getaddrinfo(3) requires
    // zeroes in hints beyond the fields set below.
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_flags = flags;
    hints.ai_family = libc::AF_UNSPEC;
    hints.ai_socktype = libc::SOCK_STREAM;

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    forget_other_threads_lookups();
    let mut list = AddrInfoList(ptr::null_mut());
    // SAFETY: `host` is NUL-terminated, a null service is allowed beside a host, and `hints` and the out pointer are
    // valid for the call.
    let code = unsafe { libc::getaddrinfo(host.as_ptr(), ptr::null(), &hints, &mut list.0) };
    if code != 0 {
        // Read at once, before anything else can set it. Read for no other code, since it means nothing there.
        let errno = (code == libc::EAI_SYSTEM).then(io::Error::last_os_error);
        // The out pointer is unspecified after a failure, and must not be freed.
        mem::forget(list);
        return Err(GaiError { code, errno: errno.filter(|e| e.raw_os_error() != Some(0)) });
    }

    let mut next = list.0;
    // SAFETY: a non-null `next` is a node of `list`, which lives until the end of this function.
    let nodes = iter::from_fn(|| unsafe { next.as_ref() }.inspect(|node| next = node.ai_next));
    Ok(nodes.filter_map(socket_addr).collect())
}

/// Returns the node's address, unless it is missing, cut short, or neither IPv4 nor IPv6.
fn socket_addr(node: &libc::addrinfo) -> Option<SocketAddr> {
    let needed = match node.ai_family {
        libc::AF_INET => mem::size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => mem::size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    let len = usize::try_from(node.ai_addrlen).ok()?;
    if node.ai_addr.is_null() || len < needed {
        return None;
    }
    // SAFETY: at least `needed` bytes are at `ai_addr` (checked above), and a `sockaddr_storage` holds more than either
    // family's struct. The length set is that of the bytes copied. The storage is zeroed before.
    let (_, addr) = unsafe {
        SockAddr::try_init(|storage, storage_len| {
            ptr::copy_nonoverlapping(node.ai_addr.cast::<u8>(), storage.cast::<u8>(), needed);
            *storage_len = needed as libc::socklen_t;
            Ok(())
        })
    }
    .ok()?;
    addr.as_socket()
}

/// Returns libc's text for an `EAI_*` code, in the locale of the process.
pub(crate) fn gai_strerror(code: libc::c_int) -> String {
    // SAFETY: gai_strerror(3) takes any code and returns a NUL-terminated string that is never freed, or null on some
    // platforms for codes it does not know.
    unsafe {
        let text = libc::gai_strerror(code);
        if text.is_null() {
            return format!("unknown error {code}");
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

/// Returns how many descriptors this process may open now (the soft `RLIMIT_NOFILE`), or `None` without a limit or an answer.
pub(crate) fn descriptor_limit() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call to write to.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0;
    if failed || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    usize::try_from(limit.rlim_cur).ok()
}

/// Returns whether this process could open a descriptor just now, or why not.
pub(crate) fn try_descriptor() -> io::Result<()> {
    match UnixDatagram::unbound() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Err(error),
        // Any other failure tells nothing of descriptors.
        _ => Ok(()),
    }
}

/// Returns the number of the network interface with that name.
#[cfg(all(feature = "hickory", not(any(target_os = "android", target_vendor = "apple"))))]
pub(crate) fn interface(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is NUL-terminated.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Makes a datagram socket report errors that come back for what it has sent, such as that nobody listens there. Returns
/// whether the system can.
///
/// Connecting the socket would do so too, but costs more than everything else that is done with a socket for one question.
#[cfg(all(feature = "hickory", any(target_os = "linux", target_os = "android")))]
pub(crate) fn report_errors(socket: &impl std::os::fd::AsRawFd, is_ipv4: bool) -> bool {
    let (level, option) =
        if is_ipv4 { (libc::IPPROTO_IP, libc::IP_RECVERR) } else { (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) };
    let on: libc::c_int = 1;
    // SAFETY: `on` is valid for the call to read, and of the length that is given; the descriptor is the socket's own.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    failed == 0
}

/// Undoes what `connect` has set on a datagram socket: its own address and port, and its destination. Returns whether the
/// system can.
#[cfg(all(feature = "hickory", target_os = "linux"))]
pub(crate) fn dissolve(socket: &impl std::os::fd::AsRawFd) -> bool {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    // SAFETY: `nowhere` is valid for the call to read, and of the length that is given; the descriptor is the socket's own.
    let failed = unsafe {
        libc::connect(socket.as_raw_fd(), ptr::from_ref(&nowhere), mem::size_of_val(&nowhere) as libc::socklen_t)
    };
    failed == 0
}

/// Number of forks between this process and the first one that called [`watch_forks`].
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Counts forks from here on. The handler stays for good.
pub(crate) fn watch_forks() {
    static WATCHING: AtomicBool = AtomicBool::new(false);

    /// Runs in the child, on its only thread, and may do only what is async-signal-safe.
    unsafe extern "C" fn count() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    // Not a `Once`, which a fork could leave locked in the child. If two threads come at the same time, the handler is
    // registered twice, and a fork counts twice.
    if !WATCHING.load(Ordering::Acquire) {
        // SAFETY: pthread_atfork(3) accepts null for any of the three. `count` is a function of this program and touches
        // nothing but an atomic.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(count)) } != 0;
        // Fails only for want of memory. The next resolver tries again.
        WATCHING.store(!failed, Ordering::Release);
    }
}

/// Returns a number that tells processes apart: it differs after each fork.
#[inline]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Resets the resolver state of a thread in a forked child before its first lookup.
///
/// glibc gives a child's new thread the stack of one that the fork has left behind, and with it that thread's resolver state.
/// If that thread was in a lookup, the state has the socket of that lookup, and parent and child steal each other's answers
/// (measured: 36 children of 40 waited in vain). `res_init` closes what was left behind, as glibc would after using it. If
/// nothing was left behind, this only reads `resolv.conf` once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn forget_other_threads_lookups() {
    thread_local! {
        static FORGOTTEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    if FORGOTTEN.get() != generation() {
        FORGOTTEN.set(generation());
        // SAFETY: res_init(3) may be called at any time; it sets up this thread's state anew.
        unsafe { libc::res_init() };
    }
}

/// A clock that is faster to read because it moves in steps, on platforms that have one.
#[cfg(any(target_os = "linux", target_os = "android"))]
const COARSE_CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const COARSE_CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Returns nanoseconds since a moment of the system's choosing, some milliseconds behind.
#[inline]
pub(crate) fn coarse_nanos() -> u64 {
    nanos_by(COARSE_CLOCK)
}

/// Returns nanoseconds by `clock`, or by the exact clock if the system does not have it. On Linux both count from the same moment.
#[inline]
fn nanos_by(clock: libc::clockid_t) -> u64 {
    // Without any clock, no answer is fresh by this one.
    read_clock(clock).or_else(|| read_clock(EXACT_CLOCK)).unwrap_or(u64::MAX)
}

/// Std's choices for `Instant`. Apple's stands still while the computer sleeps, as the others do.
#[cfg(target_vendor = "apple")]
const EXACT_CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
#[cfg(not(target_vendor = "apple"))]
const EXACT_CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Returns nanoseconds since a moment of the system's choosing.
#[inline]
pub(crate) fn exact_nanos() -> u64 {
    // Every system has this clock. Without it, no time passes.
    read_clock(EXACT_CLOCK).unwrap_or(0)
}

#[inline]
fn read_clock(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write to.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) } != 0;
    (!failed).then(|| (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
}

/// Calls `f` with `text` as a C string, or returns `None` if it has a NUL byte inside. Allocates only for a long text.
pub(crate) fn with_c_string<T>(text: &str, f: impl FnOnce(&CStr) -> T) -> Option<T> {
    let mut buffer = [0; 256];
    match buffer.split_at_mut_checked(text.len()) {
        Some((bytes, [_, ..])) => bytes.copy_from_slice(text.as_bytes()),
        _ => return CString::new(text).ok().map(|text| f(&text)),
    }
    CStr::from_bytes_with_nul(&buffer[..=text.len()]).ok().map(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(family: libc::c_int, addr: *mut libc::sockaddr, len: usize) -> libc::addrinfo {
        // SAFETY: as for the hints above.
        let mut node: libc::addrinfo = unsafe { mem::zeroed() };
        node.ai_family = family;
        node.ai_addr = addr;
        node.ai_addrlen = len as libc::socklen_t;
        node
    }

    #[test]
    fn broken_nodes_are_skipped_and_scopes_kept() {
        let scoped: SocketAddr = "[fe80::1%7]:0".parse().unwrap();
        let real = SockAddr::from(scoped);
        let addr = real.as_ptr().cast_mut().cast::<libc::sockaddr>();
        let len = real.len() as usize;
        assert_eq!(socket_addr(&node(libc::AF_INET6, addr, len)), Some(scoped));
        assert_eq!(socket_addr(&node(libc::AF_INET6, addr, len - 1)), None, "cut short");
        assert_eq!(socket_addr(&node(libc::AF_INET6, addr, 0)), None, "empty");
        assert_eq!(socket_addr(&node(libc::AF_INET6, ptr::null_mut(), len)), None, "missing");
        assert_eq!(socket_addr(&node(libc::AF_UNIX, addr, len)), None, "another family");
    }

    /// Without the fallback, every answer would stay fresh for ever.
    #[test]
    fn a_clock_that_there_is_not_gives_way_to_the_exact_one() {
        const NO_CLOCK: libc::clockid_t = 1 << 20;
        assert_eq!(read_clock(NO_CLOCK), None);
        let exact = || read_clock(EXACT_CLOCK).unwrap();
        let (before, given, after) = (exact(), nanos_by(NO_CLOCK), exact());
        assert!(0 < before && before <= given && given <= after, "{before} {given} {after}");
        while nanos_by(NO_CLOCK) == given {}
    }

    /// In a process of its own, because the limit is the process's.
    #[test]
    fn a_process_without_descriptors_is_told_apart() {
        assert!(try_descriptor().is_ok());
        // SAFETY: the child makes only system calls, and ends with `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `none` is valid for the call to read.
            let limited = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) } == 0;
            let told = limited && try_descriptor().is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE));
            // SAFETY: ends the process without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!told)) }
        }
        let mut status = 0;
        // SAFETY: `status` is valid for the call to write to.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid, "{}", io::Error::last_os_error());
        assert_eq!(status, 0);
    }

    #[test]
    fn a_c_string_has_the_bytes_of_its_text_however_long_it_is() {
        for len in [0, 1, 254, 255, 256, 257, 1000] {
            let text = "a".repeat(len);
            assert_eq!(with_c_string(&text, |c| c.to_str() == Ok(&text)), Some(true), "{len}");
            assert_eq!(with_c_string(&(text.clone() + "\0"), |_| ()), None);
            assert_eq!(with_c_string(&(text + "\0b"), |_| ()), None);
        }
    }

    #[test]
    fn every_code_has_words() {
        for code in [libc::EAI_NONAME, libc::EAI_AGAIN, 0, -12345, 12345] {
            assert!(!gai_strerror(code).is_empty(), "{code}");
        }
    }
}
