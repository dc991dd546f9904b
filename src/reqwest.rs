//! Lets a [`Resolver`] be the resolver of a reqwest `Client`.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::resolver::Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.resolve(name.as_str());
        Box::pin(async move {
            let addrs: Addrs = Box::new(lookup.await?);
            Ok(addrs)
        })
    }
}
