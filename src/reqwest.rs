//! For reqwest's `ClientBuilder::dns_resolver`.

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
