//! Servers on loopback.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Serves `routes` over HTTP/1.1, on 127.0.0.1.
pub async fn http(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    serve(listener, routes);
    addr
}

pub fn serve(listener: TcpListener, routes: Router) {
    tokio::spawn(async { axum::serve(listener, routes).await });
}

/// Serves `routes` over HTTP/1.1 and HTTP/2 with TLS, on 127.0.0.1.
pub async fn https(config: Arc<ServerConfig>, routes: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, routes) = (acceptor.clone(), routes.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let http = auto::Builder::new(TokioExecutor::new());
                _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)).await;
            });
        }
    });
    addr
}

/// Two sockets on one port: 127.0.0.1 accepts, and `::1` does not.
pub struct HalfDead {
    pub alive: TcpListener,
    pub port: u16,
    pub dead: Dead,
}

pub enum Dead {
    Refusing(TcpSocket),
    Silent { listener: TcpListener, filler: TcpStream },
}

impl HalfDead {
    /// Connections to `::1` are refused.
    pub async fn refusing() -> Self {
        let (alive, port, socket) = Self::sockets().await.unwrap();
        Self { alive, port, dead: Dead::Refusing(socket) }
    }

    /// Connections to `::1` get no answer: its queue has room for one, which is taken.
    pub async fn silent() -> Self {
        let (alive, port, socket) = Self::sockets().await.unwrap();
        let listener = socket.listen(0).unwrap();
        let filler = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        Self { alive, port, dead: Dead::Silent { listener, filler } }
    }

    async fn sockets() -> io::Result<(TcpListener, u16, TcpSocket)> {
        loop {
            let alive = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let port = alive.local_addr()?.port();
            let dead = TcpSocket::new_v6()?;
            // The port may be taken in the other family.
            match dead.bind((Ipv6Addr::LOCALHOST, port).into()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound.map(|()| (alive, port, dead)),
            }
        }
    }
}

impl Dead {
    /// Checks that no other connection has reached `::1`.
    pub async fn assert_nobody_got_through(self) {
        if let Self::Silent { listener, filler } = self {
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, filler.local_addr().unwrap());
            let another = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx).is_ready())).await;
            assert!(!another, "the queue had more room");
        }
    }
}
