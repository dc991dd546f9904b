use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
#[cfg(feature = "hickory")]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::name::Name;

/// The error of a lookup.
///
/// Cloning it is cheap. All callers of a shared call get the same error, each with the name as it wrote it.
///
/// It displays as one line with the name and the reason, in the platform's words if there are any. Control characters are escaped.
/// [`source`](StdError::source) returns the cause, if there is one: an [`io::Error`] with the OS code, or the error that a backend
/// returned. The line does not repeat the cause, except for an error from the cache, which has no source. The source of a
/// [`Timeout`](ErrorKind::Timeout) is an [`io::Error`] of kind [`TimedOut`](io::ErrorKind::TimedOut), by which clients such as reqwest
/// recognize a timeout.
///
/// It converts into an [`io::Error`], and back without loss.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    name: Option<Name>,
    /// A longer text than the kind's.
    detail: Option<Cow<'static, str>>,
    code: Option<i32>,
    symbol: Option<&'static str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    cached: bool,
    /// How long a lookup that timed out was queued, and how long its call had been running.
    times: Option<(Duration, Duration)>,
}

/// The kinds of [`Error`], from [`Error::kind`].
///
/// A [`Backend`](crate::Backend) may return any of them. What a kind says of the resolver itself is then not true: `Closed`,
/// `Overloaded`, `InvalidName`, `Panicked`, `ThreadRefused` and `Timeout` are better left to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name is empty, longer than 1,024 bytes, or contains a NUL byte. It was not looked up.
    InvalidName,
    /// There is no such name: `EAI_NONAME`, `WSAHOST_NOT_FOUND`.
    NotFound,
    /// The name exists but has no address: `EAI_NODATA`, `EAI_ADDRFAMILY`, `WSANO_DATA`, or an empty answer.
    NoData,
    /// A failure that may go away: `EAI_AGAIN`, `WSATRY_AGAIN`, or a network error of a backend, such as a refused connection.
    Temporary,
    /// A failure that is not likely to go away: `EAI_FAIL`, `WSANO_RECOVERY`.
    Permanent,
    /// The operating system failed: `EAI_SYSTEM`, `EAI_MEMORY`, or a backend that ran out of file descriptors. The source has the
    /// `errno`, if there is one.
    System,
    /// The backend panicked. Other lookups and the thread go on.
    Panicked,
    /// The operating system refused to start a thread, and no other thread could do the lookup.
    ThreadRefused,
    /// The caller's deadline passed. See [`Builder::timeout`](crate::Builder::timeout). A backend whose own limit has passed returns
    /// `Temporary`.
    Timeout,
    /// The queue is full. See [`Builder::max_queued`](crate::Builder::max_queued).
    Overloaded,
    /// The resolver is closed, or its shutdown gave up on this lookup.
    Closed,
    /// The [filter](crate::AddrFilter) denies the name, or an address of it. A backend may return this too.
    Denied,
    /// Any other error: a platform code that says nothing about the name, an error of a backend without a kind, a future that was polled
    /// after it had completed, or a refresh without a cache.
    Other,
}

impl ErrorKind {
    /// Returns an identifier for logs.
    fn id(self) -> &'static str {
        match self {
            Self::InvalidName => "invalid_name",
            Self::NotFound => "not_found",
            Self::NoData => "no_data",
            Self::Temporary => "temporary",
            Self::Permanent => "permanent",
            Self::System => "system",
            Self::Panicked => "panicked",
            Self::ThreadRefused => "thread_refused",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
            Self::Denied => "denied",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidName => "invalid host name",
            Self::NotFound => "no such host",
            Self::NoData => "host has no address",
            Self::Temporary => "temporary failure in name resolution",
            Self::Permanent => "permanent failure in name resolution",
            Self::System => "system error",
            Self::Panicked => "the resolver backend panicked",
            Self::ThreadRefused => "the system refused to start a thread for the lookup",
            Self::Timeout => "timed out",
            Self::Overloaded => "too many names are queued already",
            Self::Closed => "the resolver is closed",
            Self::Denied => "denied",
            Self::Other => "lookup failed",
        })
    }
}

impl Error {
    /// Returns an error of `kind` with `source` as its cause, for use in a [`Backend`](crate::Backend).
    ///
    /// `ErrorKind::NotFound.into()` is an error without a cause. An [`io::Error`] converts with `?`.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::with(kind, |inner| inner.source = Some(Arc::from(source.into())))
    }

    fn with(kind: ErrorKind, fill: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner {
            kind,
            name: None,
            detail: None,
            code: None,
            symbol: None,
            source: None,
            cached: false,
            times: None,
        };
        fill(&mut inner);
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn invalid_name(text: &str, why: &'static str) -> Self {
        let shown: String = text.chars().take(64).collect();
        let more = if shown.len() < text.len() { "..." } else { "" };
        let detail = format!("{why}: {shown:?}{more}");
        Self::with(ErrorKind::InvalidName, |inner| inner.detail = Some(detail.into()))
    }

    /// Returns an error of the platform's resolver: its code, the code's name, and its text.
    #[cfg(unix)]
    pub(crate) fn platform(kind: ErrorKind, code: i32, symbol: Option<&'static str>, message: String) -> Self {
        Self::with(kind, |inner| {
            inner.code = Some(code);
            inner.symbol = symbol;
            inner.detail = Some(message.into());
        })
    }

    pub(crate) fn panicked(message: Option<String>) -> Self {
        Self::with(ErrorKind::Panicked, |inner| {
            inner.detail = message.map(|message| format!("{}: {message}", ErrorKind::Panicked).into());
        })
    }

    /// Returns the error of a filter, with the rule that applies.
    pub(crate) fn denied(rule: &str) -> Self {
        Self::with(ErrorKind::Denied, |inner| inner.detail = Some(format!("denied by the filter: {rule}").into()))
    }

    pub(crate) fn no_data(what: &'static str) -> Self {
        Self::with(ErrorKind::NoData, |inner| inner.detail = Some(what.into()))
    }

    pub(crate) fn timed_out(name: &Name, queued: Duration, in_call: Duration) -> Self {
        Self::with(ErrorKind::Timeout, |inner| {
            inner.name = Some(name.clone());
            inner.times = Some((queued, in_call));
        })
    }

    /// Returns the error of a backend that cannot read a file.
    #[cfg(feature = "hickory")]
    pub(crate) fn unreadable(path: &Path, error: io::Error) -> Self {
        Self::with(ErrorKind::System, |inner| {
            inner.detail = Some(format!("cannot read {}", path.display()).into());
            inner.source = Some(Arc::new(error));
        })
    }

    /// Returns this error with a code of the platform's.
    pub(crate) fn coded(mut self, code: i32, symbol: Option<&'static str>) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        inner.code = Some(code);
        inner.symbol = symbol;
        self
    }

    /// Returns this error as the cache stores it: with its source, which is foreign, as text.
    pub(crate) fn cached(mut self) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        inner.cached = true;
        if let Some(source) = inner.source.take() {
            let detail = inner.detail.take().unwrap_or_else(|| inner.kind.to_string().into());
            inner.detail = Some(format!("{detail}: {source}").into());
        }
        self
    }

    /// Returns this error as one about `name`.
    pub(crate) fn about(mut self, name: &Name) -> Self {
        if self.name() != Some(name.as_str()) {
            Arc::make_mut(&mut self.inner).name = Some(name.clone());
        }
        self
    }

    /// Returns the kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns the name that was looked up, as this caller wrote it. For an error from the cache, as the first caller wrote it.
    ///
    /// `None` for invalid names, and for errors that did not pass through a resolver.
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_ref().map(Name::as_str)
    }

    /// Returns the code of the platform's resolver: an `EAI_*` value on Unix, a Winsock code on Windows. For `EAI_SYSTEM` the `errno` is
    /// in the source.
    ///
    /// `None` for errors of the resolver itself and of other backends.
    pub fn code(&self) -> Option<i32> {
        self.inner.code
    }

    /// Returns whether there is no such name, or it has no address: `NotFound` or `NoData`.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind(), ErrorKind::NotFound | ErrorKind::NoData)
    }

    /// Returns whether a name server or the network failed for the moment: `Temporary`. Timeouts and overload are not included.
    pub fn is_temporary(&self) -> bool {
        self.kind() == ErrorKind::Temporary
    }

    /// Returns whether the caller's deadline passed: `Timeout`.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Returns whether the lookup was refused because the queue is full: `Overloaded`.
    pub fn is_overloaded(&self) -> bool {
        self.kind() == ErrorKind::Overloaded
    }

    /// Returns whether the resolver was closed, or shut down before the lookup had ended: `Closed`.
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }

    /// Returns whether a [filter](crate::AddrFilter) denies the name or an address of it: `Denied`. The text of the error has the rule.
    pub fn is_denied(&self) -> bool {
        self.kind() == ErrorKind::Denied
    }

    /// Returns whether this error came from the cache. Such an error has no source; its text includes that of the source it had.
    pub fn is_cached(&self) -> bool {
        self.inner.cached
    }

    /// Returns how long this caller waited for a call to begin. `None` unless the caller's deadline passed.
    pub fn time_queued(&self) -> Option<Duration> {
        self.inner.times.map(|(queued, _)| queued)
    }

    /// Returns how long this caller waited for a running call, or zero if no call began. `None` unless the caller's deadline passed.
    pub fn time_in_call(&self) -> Option<Duration> {
        self.inner.times.map(|(_, in_call)| in_call)
    }

    /// Returns whether dropping this error may run foreign code.
    pub(crate) fn is_foreign(&self) -> bool {
        self.inner.source.is_some()
    }

    /// Returns whether no old answer may be given in place of this error.
    pub(crate) fn is_final(&self) -> bool {
        self.is_not_found() || self.is_denied() || self.is_closed()
    }

    /// Returns whether `getaddrinfo` failed with `EAI_SYSTEM` or `EAI_MEMORY`. After an error such as `EMFILE`, libc's resolver state
    /// may stay broken in the thread that called it.
    pub(crate) fn may_have_broken_libc(&self) -> bool {
        self.kind() == ErrorKind::System && self.code().is_some()
    }

    /// Returns OpenTelemetry's `error.type`: the name of the platform's code, or the kind if there is none.
    pub(crate) fn error_type(&self) -> &'static str {
        self.inner.symbol.unwrap_or(self.kind().id())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.inner.name {
            // Escaped, so that a hostile name cannot add lines to a log.
            write!(f, "failed to resolve {}: ", name.as_str().escape_debug())?;
        }
        match &self.inner.detail {
            // A panic's message may have several lines.
            Some(detail) => detail.split_inclusive(char::is_control).try_for_each(|part| {
                let text = part.trim_end_matches(char::is_control);
                write!(f, "{text}{}", part[text.len()..].escape_debug())
            })?,
            None => fmt::Display::fmt(&self.kind(), f)?,
        }
        if let Some((queued, in_call)) = self.inner.times {
            write!(f, " (queued {queued:.1?}, in the call {in_call:.1?})")?;
        }
        match (self.inner.symbol, self.inner.code) {
            (Some(symbol), _) => write!(f, " ({symbol})"),
            (None, Some(code)) => write!(f, " (code {code})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, name, detail, code, symbol, source, cached, times } = &*self.inner;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", kind);
        // Absent fields are left out: most errors have two or three.
        name.as_ref().map(|name| debug.field("name", name));
        code.as_ref().map(|code| debug.field("code", code));
        symbol.as_ref().map(|symbol| debug.field("symbol", symbol));
        detail.as_ref().map(|detail| debug.field("detail", detail));
        source.as_ref().map(|source| debug.field("source", source));
        cached.then(|| debug.field("cached", cached));
        times.as_ref().map(|(queued, in_call)| debug.field("queued", queued).field("in_call", in_call));
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Not a `LazyLock`, whose lock a fork could copy held.
        static TIMED_OUT: OnceBox<io::Error> = OnceBox::new();
        match &self.inner.source {
            Some(source) => Some(&**source),
            None if self.is_timeout() => Some(TIMED_OUT.get_or_init(|| Box::new(io::ErrorKind::TimedOut.into()))),
            None => None,
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::with(kind, |_| ())
    }
}

/// Converts an I/O error of a backend.
///
/// | [`io::ErrorKind`] | kind |
/// |---|---|
/// | `ConnectionRefused`, `ConnectionReset`, `ConnectionAborted`, `NotConnected`, `BrokenPipe`, `HostUnreachable`, `NetworkUnreachable`, `NetworkDown`, `AddrNotAvailable`, `TimedOut`, `WouldBlock`, `Interrupted`, `UnexpectedEof` | [`ErrorKind::Temporary`] |
/// | any other, with an OS code | [`ErrorKind::System`] |
/// | `NotFound`, without one | [`ErrorKind::NotFound`] |
/// | any other, without one | [`ErrorKind::Other`] |
///
/// An `Error` that became an `io::Error` becomes itself again.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Self::new(kind_of(&error), error),
        }
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::TimedOut
        // The error of a socket's read timeout on Unix.
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::Interrupted
        | io::ErrorKind::UnexpectedEof => ErrorKind::Temporary,
        _ if error.raw_os_error().is_some() => ErrorKind::System,
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Other,
    }
}

/// Converts into an [`io::Error`] that contains this error.
///
/// | kind | [`io::ErrorKind`] |
/// |---|---|
/// | [`ErrorKind::InvalidName`] | `InvalidInput` |
/// | [`ErrorKind::NotFound`], [`ErrorKind::NoData`] | `NotFound` |
/// | [`ErrorKind::Timeout`] | `TimedOut` |
/// | [`ErrorKind::Overloaded`] | `ResourceBusy` |
/// | [`ErrorKind::Denied`] | `PermissionDenied` |
/// | [`ErrorKind::System`], [`ErrorKind::Temporary`] | that of the source, if it is an [`io::Error`]; otherwise `Other` |
/// | any other | `Other` |
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::InvalidName => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound | ErrorKind::NoData => io::ErrorKind::NotFound,
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Overloaded => io::ErrorKind::ResourceBusy,
            ErrorKind::Denied => io::ErrorKind::PermissionDenied,
            ErrorKind::System | ErrorKind::Temporary => {
                let os = error.inner.source.as_deref().and_then(|source| source.downcast_ref::<io::Error>());
                os.map_or(io::ErrorKind::Other, io::Error::kind)
            }
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_the_host_once_and_on_one_line() {
        let name = Name::parse("a\nb").unwrap();
        let error = Error::from(ErrorKind::NotFound).about(&Name::parse("c").unwrap()).about(&name);
        assert_eq!(error.to_string(), r"failed to resolve a\nb: no such host");
        assert_eq!(error.name(), Some("a\nb"));
        let panicked = Error::panicked(Some("left:\t\"1\"\n\nright".into())).about(&name);
        let text = "failed to resolve a\\nb: the resolver backend panicked: left:\\t\"1\"\\n\\nright";
        assert_eq!(panicked.to_string(), text);
        let long = Error::invalid_name(&"x".repeat(2000), "too long");
        assert!(long.to_string().len() < 100, "{long}");
    }

    #[test]
    fn io_errors_go_in_and_come_out_whole() {
        let os = io::Error::from_raw_os_error(24);
        let error = Error::from(io::Error::from_raw_os_error(24));
        assert_eq!(error.kind(), ErrorKind::System);
        let back = io::Error::from(error.clone());
        assert_eq!(back.kind(), os.kind());
        let inner = back.get_ref().and_then(|e| e.downcast_ref::<Error>()).expect("our error inside");
        let source = inner.source().and_then(|e| e.downcast_ref::<io::Error>()).expect("the OS error inside");
        assert_eq!(source.raw_os_error(), Some(24));
        assert!(Arc::ptr_eq(&Error::from(back).inner, &error.inner), "wrapped twice");
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::NotFound)).kind(), ErrorKind::NotFound);
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::InvalidData)).kind(), ErrorKind::Other);
    }

    #[test]
    #[cfg(unix)]
    fn network_errors_are_temporary_and_others_of_the_system_are_not() {
        let network = [
            libc::ECONNREFUSED,
            libc::ECONNRESET,
            libc::ECONNABORTED,
            libc::ENOTCONN,
            libc::EPIPE,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::ENETDOWN,
            libc::EADDRNOTAVAIL,
            libc::ETIMEDOUT,
            libc::EAGAIN,
            libc::EINTR,
        ];
        for os in network.map(io::Error::from_raw_os_error) {
            let kind = os.kind();
            let without_code = io::Error::new(kind, "in more words");
            for error in [os, io::Error::from(kind), without_code].map(Error::from) {
                assert_eq!(error.kind(), ErrorKind::Temporary, "{error:?}");
                assert_eq!(io::Error::from(error).kind(), kind);
            }
        }
        assert!(Error::from(io::Error::from(io::ErrorKind::UnexpectedEof)).is_temporary());
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EACCES, libc::ENOENT] {
            assert_eq!(Error::from(io::Error::from_raw_os_error(code)).kind(), ErrorKind::System, "{code}");
        }
    }

    #[test]
    fn only_an_error_of_getaddrinfos_may_have_broken_libc() {
        let system = || Error::from(io::Error::from_raw_os_error(24));
        assert!(!system().may_have_broken_libc());
        assert!(system().coded(-11, Some("EAI_SYSTEM")).may_have_broken_libc());
        assert!(!Error::from(ErrorKind::Temporary).coded(-3, Some("EAI_AGAIN")).may_have_broken_libc());
    }
}
