//! Pingora: `Backends::new(Box::new(Discovery::new(resolver.watch(name), port)))`, for a `LoadBalancer` with an `update_frequency`.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use futures::FutureExt;
use pingora_core::{ErrorType, OrErr, Result};
use pingora_load_balancing::{Backend, discovery::ServiceDiscovery};
use tokio::sync::Mutex;

pub struct Discovery(Mutex<(gaiter::Watch, BTreeSet<Backend>)>, u16);

impl Discovery {
    pub fn new(watch: gaiter::Watch, port: u16) -> Self {
        Self(Mutex::new((watch, BTreeSet::new())), port)
    }
}

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let (watch, backends) = &mut *self.0.lock().await;
        // Waits only for the first set.
        let changed = if backends.is_empty() { Some(watch.changed().await) } else { watch.changed().now_or_never() };
        if let Some(addrs) = changed {
            let addrs = addrs.or_err(ErrorType::ConnectError, "the resolver is closed")?.with_port(self.1);
            *backends = addrs.map(|addr| Backend::new(&addr.to_string())).collect::<Result<_>>()?;
        }
        Ok((backends.clone(), HashMap::new()))
    }
}
