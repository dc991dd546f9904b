//! The sockets that hickory uses, each for one server.
//!
//! hickory's own sockets do not hear that nobody listens at a server's port, which then costs the whole timeout, and ignore scope ids.
//! From a TCP connection hickory reads up to a hundred messages in one turn of the driver, and each may take 1 ms.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{AsyncRead, AsyncWrite};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::task;

/// The runtime that hickory runs on: Tokio, with sockets for one server.
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
    type Tcp = Paced<<TokioRuntimeProvider as RuntimeProvider>::Tcp>;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(&self, _: SocketAddr, local: Option<SocketAddr>, wait: Option<Duration>) -> Opening<Self::Tcp> {
        let connecting = self.tokio.connect_tcp(self.server, local, wait);
        Box::pin(async move { Ok(Paced { stream: connecting.await?, unpaid: 0 }) })
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
    /// `None` if the socket is connected.
    target: Option<SocketAddr>,
}

impl DnsUdpSocket for Udp {
    type Time = <TokioRuntimeProvider as RuntimeProvider>::Timer;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buf = ReadBuf::new(buf);
        let from = ready!(self.socket.poll_recv_from(cx, &mut buf))?;
        Poll::Ready(Ok((buf.filled().len(), from)))
    }

    // In the form that `async_trait` expands to. An error alone does not count as readable.
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
        // A new socket has room. Tokio would learn that by another turn of the runtime.
        let socket = SockRef::from(&self.socket);
        let sent = match self.target {
            Some(target) => socket.send_to(buf, &target.into()),
            None => socket.send(buf),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.target {
                Some(target) => self.socket.poll_send_to(cx, buf, target),
                None => self.socket.poll_send(cx, buf),
            },
            sent => Poll::Ready(sent),
        }
    }
}

/// A stream whose reader yields to other tasks after half the length of the longest message.
pub(super) struct Paced<S> {
    stream: S,
    /// Number of bytes that were read and not yet charged to the task's budget.
    unpaid: usize,
}

/// Number of bytes for one unit of a task's budget. Tokio gives a task 128 units a turn.
const UNIT: usize = 256;

/// Maximum number of bytes that are read at once, so that the turn that ends one long message does not read all of the next.
const PIECE: usize = 8 << 10;

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.unpaid >= UNIT {
            ready!(pin!(task::consume_budget()).poll(cx));
            self.unpaid -= UNIT;
        }
        let piece = buf.len().min(PIECE);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf[..piece]))?;
        self.unpaid += read;
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl<S: DnsTcpStream> DnsTcpStream for Paced<S> {
    type Time = S::Time;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_stream_that_has_more_to_read_gives_others_their_turn() {
        let mut endless = Paced { stream: futures::io::repeat(0), unpaid: 0 };
        // The longest message, and a usual one.
        for length in [0xffff, 400] {
            let (mut turns, mut read) = (0, 0);
            let mut buf = vec![0; length];
            let reading = poll_fn(|cx| {
                turns += 1;
                // Far more than one turn reads.
                for _ in 0..1_000 {
                    match Pin::new(&mut endless).poll_read(cx, &mut buf) {
                        Poll::Ready(some) => read += some.expect("there is no end"),
                        Poll::Pending if turns < 10 => return Poll::Pending,
                        Poll::Pending => return Poll::Ready(()),
                    }
                }
                panic!("{length}: {read} bytes in {turns} turns")
            });
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(reading);
            let budget = turns * 128 * UNIT;
            assert!(read > budget / 2 && read <= budget + PIECE, "{length}: {read} bytes in {turns} turns");
        }
    }
}
