use crate::addrs::Answer;
use crate::backend::Backend;
use crate::error::Error;

/// A backend that runs outside of its callers' spans.
///
/// A blocking call holds the spans of the caller that it runs inside until it returns, even if that caller has left. Wrap a backend
/// whose calls may hang and whose events nobody needs, such as a closure, which cannot implement
/// [`emits_events`](Backend::emits_events) itself:
///
/// ```
/// use gaiter::{ErrorKind, Resolver, Untraced};
///
/// let resolver = Resolver::builder()
///     .backend(Untraced(|name: &str| match name {
///         "one.example" => Ok([std::net::IpAddr::from([192, 0, 2, 1])]),
///         _ => Err(ErrorKind::NotFound),
///     }))
///     .build();
/// # drop(resolver);
/// ```
///
/// Its calls run without a subscriber of a caller's and inside no span. Events that a call emits go to the global subscriber, if there
/// is one. The lookup's own `resolve` span is recorded as ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untraced<B>(pub B);

impl<B: Backend> Backend for Untraced<B> {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        self.0.lookup(name)
    }

    /// Returns `false`.
    fn emits_events(&self) -> bool {
        false
    }
}
