//! A plain `TcpStream`, of std and of Tokio: each address is tried in turn.

pub fn blocking(resolver: &gaiter::Resolver, host: &str, port: u16) -> std::io::Result<std::net::TcpStream> {
    std::net::TcpStream::connect(resolver.resolve(host).wait()?.with_port(port))
}

pub async fn tokio(resolver: &gaiter::Resolver, host: &str, port: u16) -> std::io::Result<tokio::net::TcpStream> {
    let addrs: Vec<_> = resolver.resolve(host).await?.with_port(port).collect();
    tokio::net::TcpStream::connect(&addrs[..]).await
}
