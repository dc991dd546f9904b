use crate::addrs::Answer;
use crate::backend::Backend;
use crate::error::Error;

/// A wrapper that runs a backend outside its callers' spans.
///
/// A blocking call keeps its caller's spans open until it returns, even if the caller has left. Wrap a backend if its calls may hang and
/// it emits no events that matter. A closure needs this wrapper, because it cannot implement
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
/// Events of a call go to the global subscriber, if there is one, and are inside no span. The `resolve` span of a lookup is recorded as
/// usual.
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
