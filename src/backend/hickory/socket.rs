//! hickory's sockets, for the one server that they are for.
//!
//! Its own neither hear that nobody listens at a server's port, which then costs the whole timeout, nor tell one link from another.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;

/// What hickory runs on: Tokio, and sockets for this server.
#[derive(Clone)]
pub(super) struct Sockets {
    tokio: TokioRuntimeProvider,
    server: SocketAddr,
}

impl Sockets {
    pub(super) fn to(server: SocketAddr) -> Self {
        Self { tokio: TokioRuntimeProvider::new(), server }
    }
}

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl RuntimeProvider for Sockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(&self, _: SocketAddr, local: Option<SocketAddr>, wait: Option<Duration>) -> Opening<Self::Tcp> {
        self.tokio.connect_tcp(self.server, local, wait)
    }

    fn bind_udp(&self, local: SocketAddr, _: SocketAddr) -> Opening<Self::Udp> {
        let server = self.server;
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            if reports_errors(&socket, server) {
                return Ok(Udp { socket, target: Some(server) });
            }
            socket.connect(server).await?;
            Ok(Udp { socket, target: None })
        })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn reports_errors(socket: &UdpSocket, server: SocketAddr) -> bool {
    crate::ffi::report_errors(socket, server.is_ipv4())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reports_errors(_: &UdpSocket, _: SocketAddr) -> bool {
    false
}

pub(super) struct Udp {
    socket: UdpSocket,
    /// `None` if it is connected.
    target: Option<SocketAddr>,
}

impl DnsUdpSocket for Udp {
    type Time = <TokioRuntimeProvider as RuntimeProvider>::Timer;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buf = ReadBuf::new(buf);
        let from = ready!(self.socket.poll_recv_from(cx, &mut buf))?;
        Poll::Ready(Ok((buf.filled().len(), from)))
    }

    // Written out as `async_trait` has it. An error alone does not count as something to read.
    fn recv_from<'a, 'b, 'c>(
        &'a self,
        buf: &'b mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<(usize, SocketAddr)>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move {
            loop {
                let state = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
                if let Some(error) = if state.is_error() { self.socket.take_error()? } else { None } {
                    return Err(error);
                }
                match self.socket.try_recv_from(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
        })
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], _: SocketAddr) -> Poll<io::Result<usize>> {
        match self.target {
            Some(target) => self.socket.poll_send_to(cx, buf, target),
            None => self.socket.poll_send(cx, buf),
        }
    }
}
