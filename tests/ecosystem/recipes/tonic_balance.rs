//! tonic: a channel that balances over the addresses that a name has now. `endpoint` sets `origin`, and the `domain_name` for TLS.

use std::collections::HashSet;
use std::net::SocketAddr;

use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};

pub fn balance<E>(mut watch: gaiter::Watch, port: u16, endpoint: E) -> Channel
where
    E: Fn(SocketAddr) -> Endpoint + Send + 'static,
{
    let (channel, changes) = Channel::balance_channel(16);
    tokio::spawn(async move {
        let mut known = HashSet::new();
        // Ends with the resolver.
        while let Ok(addrs) = watch.changed().await {
            let now: HashSet<_> = addrs.with_port(port).collect();
            let new = now.difference(&known).map(|&addr| Change::Insert(addr, endpoint(addr)));
            let gone = known.difference(&now).map(|&addr| Change::Remove(addr));
            for change in new.chain(gone).collect::<Vec<_>>() {
                if changes.send(change).await.is_err() {
                    return; // The channel is dropped.
                }
            }
            known = now;
        }
    });
    channel
}
