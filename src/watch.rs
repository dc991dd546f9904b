use std::fmt;
use std::future::poll_fn;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::addrs::Addrs;
use crate::error::{Error, ErrorKind};
use crate::name::{Name, NameRef};
use crate::policy::Policy;
use crate::shell::{Board, Open, Set, Shell, WatchId, leak};

/// A watch of a name's addresses, from [`Resolver::watch`](crate::Resolver::watch).
///
/// [`changed`](Self::changed) returns the current addresses as soon as there are any, and then each set that differs from the last one
/// it returned. Two answers with the same addresses are the same set, whatever their order. If several answers come before
/// `changed` is called again, it returns the latest. With the feature `stream`, a watch is a `Stream` too.
///
/// ```no_run
/// # async fn example(resolver: gaiter::Resolver) -> Result<(), gaiter::Error> {
/// let mut watch = resolver.watch("db.example.com");
/// loop {
///     let addrs = watch.changed().await?; // fails once the resolver is closed
///     println!("{}: {addrs:?}", watch.name());
/// }
/// # }
/// ```
///
/// # Lookups
///
/// The first lookup begins with the watch. If the cache has an answer, that is given meanwhile. The next begins when the answer
/// expires: after its TTL within the bounds of the [cache](crate::CacheConfig), or after [`CacheConfig::ttl`](crate::CacheConfig::ttl())
/// if it has none. Up to a tenth of that is added, so that names that are watched together are not looked up together. No time between
/// two lookups is shorter than the [`cooldown`](crate::CacheConfig::cooldown()), or a second if that is zero. All this holds with the
/// cache disabled too, and whether or not anybody waits for `changed`.
///
/// Lookups of watches are background lookups: other callers go first, join them, and find their answers in the cache. An answer
/// that another caller waited for counts as the watch's own. A watch holds no thread, and needs no runtime. All watches of a name share
/// its lookups.
///
/// # Failures
///
/// A lookup that fails changes nothing, "no such name" included. The program keeps the last set, and
/// [`last_error`](Self::last_error) returns the error. The lookup is made again after the cooldown, then after twice that, and so on up to the
/// time for which the last answer lasted. A lookup that takes longer than the [timeout](crate::Builder::timeout), or finds the queue
/// full, is a failure as well. If there is no set yet, `changed` waits on. A program that wants the first failure looks the name
/// up with [`resolve`](crate::Resolver::resolve) before it watches.
///
/// A [fallback](crate::Builder::fallback_host) is given if a lookup fails before there is a set.
///
/// A [flush](crate::Resolver::flush) or a new [filter](crate::Resolver::set_filter) makes the watch look the name up at once. What it had and
/// had not returned is then not given any more. If the new filter denies the name, its lookups go on and end in that error.
///
/// # End
///
/// Dropping the watch ends it. It keeps the resolver open, as a clone of the [`Resolver`](crate::Resolver) does. After a
/// [`close`](crate::Resolver::close) or a shutdown, `changed` returns an error that [`is_closed`](crate::Error::is_closed).
///
/// In a forked child, a watch from before the fork looks its name up anew when it is polled, and returns only a set that differs.
#[must_use = "dropping a watch ends it"]
pub struct Watch {
    name: Box<str>,
    target: Target,
    /// See [`keep`](Self::keep).
    keep: u32,
    /// The set that was returned last.
    given: Option<Set>,
    /// Dropped after the place in the target, since it may close the resolver.
    open: Arc<Open>,
}

/// What is watched.
enum Target {
    Name(Name, Option<Place>),
    /// An address, or an override.
    Fixed(Addrs, Option<Place>),
    /// Nothing, because the watch never began.
    Failed(Error),
}

/// A watcher's place at the board of its name.
struct Place {
    shell: Arc<Shell>,
    watch: WatchId,
    board: Arc<Board>,
    watcher: u64,
}

impl Target {
    fn new(policy: &Policy, text: &str) -> Result<Self, Error> {
        if let Some(fixed) = NameRef::new(text).and_then(|name| policy.without_lookup(name)) {
            return Ok(Self::Fixed(fixed?, None));
        }
        let name = Name::parse(text).map_err(|why| Error::invalid_name(text, why))?;
        policy.check_name(&name)?;
        Ok(Self::Name(name, None))
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::Name(_, place) | Self::Fixed(_, place) => place.as_ref(),
            Self::Failed(_) => None,
        }
    }
}

impl Place {
    fn new(shell: &Arc<Shell>, name: Option<&Name>, fixed: Option<&Addrs>, keep: u32) -> Option<Self> {
        let (watch, board, watcher) = shell.watch(name, fixed, keep)?;
        Some(Self { shell: Arc::clone(shell), watch, board, watcher })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.shell.is_inherited() {
            // A lock in there may be held by a thread that is not in this process.
            leak(&self.shell);
            leak(&self.board);
            return;
        }
        self.shell.unwatch(self.watch, &self.board, self.watcher);
    }
}

impl Watch {
    pub(crate) fn new(open: &Arc<Open>, text: &str) -> Self {
        let setup = open.0.setup();
        let target = if setup.is_closed() { Err(ErrorKind::Closed.into()) } else { Target::new(&setup.policy, text) };
        let target = target.unwrap_or_else(Target::Failed);
        let mut watch = Self { open: Arc::clone(open), name: text.into(), target, keep: 1, given: None };
        watch.begin();
        watch
    }

    /// Returns the name, as the program wrote it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keeps an address until this many answers in a row lack it, for names whose servers return some of their addresses in turn.
    ///
    /// The kept addresses, at most 1,024, come after those of the latest answer. Applies to this watch alone, from the next answer on.
    /// 0 counts as 1.
    ///
    /// Default: 1. An address goes as soon as an answer lacks it, as in Envoy and gRPC.
    pub fn keep(mut self, answers: u32) -> Self {
        self.keep = answers.max(1);
        // A copy of a fork begins anew, with this number.
        if let Some(place) = self.target.place().filter(|place| !place.shell.is_inherited()) {
            place.board.set_keep(place.watcher, self.keep);
        }
        self
    }

    /// Waits for a set of addresses that differs from the one that was returned last. The first call waits for any.
    ///
    /// Needs no runtime.
    ///
    /// # Errors
    ///
    /// Returns an error only if no set will ever come: `Closed` once the resolver is closed; and from the first call on `InvalidName` for an
    /// invalid name, or `Denied` or `NoData` if the filter denies it or its override is empty. Failed lookups are no errors: see
    /// [`last_error`](Self::last_error).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has missed nothing: the next call returns what it would have.
    pub async fn changed(&mut self) -> Result<Addrs, Error> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// Returns the error of the latest lookup, if that has failed. If the watch has ended, returns why.
    pub fn last_error(&self) -> Option<Error> {
        if let Target::Failed(error) = &self.target {
            return Some(error.clone());
        }
        match self.target.place() {
            Some(place) if place.shell.is_inherited() => None,
            Some(place) => place.board.error().map(|error| self.about(error)),
            None => Some(self.about(ErrorKind::Closed.into())),
        }
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Addrs, Error>> {
        if self.target.place().is_some_and(|place| place.shell.is_inherited()) {
            self.begin();
        }
        let news = match self.target.place() {
            Some(place) => {
                let news = place.board.poll(place.watcher, self.given.as_ref(), cx);
                if news.is_pending() {
                    place.shell.keep_time();
                }
                ready!(news)
            }
            None => None,
        };
        Poll::Ready(match news {
            Some((set, addrs)) => {
                self.given = Some(set);
                Ok(addrs)
            }
            None => Err(self.last_error().unwrap_or_else(|| self.about(ErrorKind::Closed.into()))),
        })
    }

    /// Begins the watch in this process.
    fn begin(&mut self) {
        let shell = self.open.0.current();
        match &mut self.target {
            Target::Name(name, place) => *place = Place::new(shell, Some(name), None, self.keep),
            Target::Fixed(addrs, place) => *place = Place::new(shell, None, Some(addrs), self.keep),
            Target::Failed(_) => {}
        }
    }

    /// Returns an error with the name in this watch's spelling.
    fn about(&self, error: Error) -> Error {
        match &self.target {
            Target::Name(name, _) => error.about(name),
            _ => error,
        }
    }
}

/// Each item is a set, as [`Watch::changed`] returns it. Where that would return an error, the stream ends. [`Watch::last_error`] then
/// tells why.
#[cfg(feature = "stream")]
impl futures_core::Stream for Watch {
    type Item = Addrs;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Addrs>> {
        self.poll_changed(cx).map(Result::ok)
    }
}

// For the reasons that `Resolver` has.
impl UnwindSafe for Watch {}
impl RefUnwindSafe for Watch {}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("name", &self.name).field("keep", &self.keep).finish_non_exhaustive()
    }
}
