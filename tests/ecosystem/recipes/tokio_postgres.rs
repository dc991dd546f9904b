//! tokio-postgres, deadpool-postgres, bb8-postgres: each address as a `hostaddr`, beside the `host` that TLS checks.

pub async fn add_host(
    config: &mut tokio_postgres::Config,
    host: &str,
    resolver: &gaiter::Resolver,
) -> Result<(), gaiter::Error> {
    for addr in resolver.resolve(host).await? {
        config.host(host).hostaddr(addr.ip());
    }
    Ok(())
}
