//! A client's connection as hyper reads and writes it, with what hyper does not look at itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::connections::State;
use super::frames::Frames;
use super::framing::{Framing, POISON, Refused};
use super::passage::Overheard;
use crate::gather;

/// How long a client that is told to stop may take to hear it.
const PARTING: Duration = Duration::from_secs(2);
/// How much of what it still sends is thrown away before others have their turn.
const SCRAP: usize = 16 << 10;

/// The bytes of a connection.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS on a port where not everything is HTTP.
    Sorted(Box<TlsStream<Overheard>>),
}

/// Who follows the client's bytes.
#[derive(Debug)]
pub(super) enum Scanner {
    Http1(Framing),
    Http2(Frames),
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    transport: Transport,
    /// Read already, to find out about the protocol.
    early: Bytes,
    scanner: Scanner,
    state: Arc<State>,
    /// Everything was written; until then the client may still send.
    parting: Option<Pin<Box<Sleep>>>,
    /// Counts against the limit of connections, also as a tunnel.
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl ClientStream {
    pub(super) fn new(
        transport: Transport,
        early: Bytes,
        scanner: Scanner,
        state: Arc<State>,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) -> Self {
        Self {
            transport,
            early,
            scanner,
            state,
            parting: None,
            _permit: permit,
        }
    }

    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        self.state.await_write(written.is_pending());
        if let (Scanner::Http2(frames), Poll::Ready(Ok(bytes))) = (&mut self.scanner, written) {
            frames.wrote(*bytes);
        }
    }

    /// Throws away what the client still sends of a request that has been answered: a connection that is closed with unread
    /// bytes is reset, and the answer may be lost with it.
    fn poll_part(&mut self, cx: &mut Context<'_>, until: &mut Pin<Box<Sleep>>) -> Poll<()> {
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scrap = [std::mem::MaybeUninit::uninit(); SCRAP];
        let mut scrap = ReadBuf::uninit(&mut scrap);
        match Pin::new(&mut self.transport).poll_read(cx, &mut scrap) {
            Poll::Ready(Ok(())) if !scrap.filled().is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.transport).poll_read(cx, buf);
        }
        let taken = self.early.len().min(buf.remaining());
        buf.put_slice(self.early.get(..taken).unwrap_or_default());
        self.early.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Scanner::Http1(framing) = &this.scanner
            && framing.is_dead()
        {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(this.poll_bytes(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        match &mut this.scanner {
            Scanner::Http1(framing) => {
                if let Err(Refused { fine }) = framing.scan(new, &this.state) {
                    buf.set_filled(before + fine);
                    // What was refused made room for at least one byte of it.
                    buf.put_slice(
                        POISON
                            .get(..buf.remaining().min(POISON.len()))
                            .unwrap_or_default(),
                    );
                }
            }
            Scanner::Http2(frames) => frames.scan(new, &this.state).map_err(io::Error::other)?,
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.transport).poll_write(cx, buf);
        this.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.transport).poll_write_vectored(cx, bufs);
        this.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Sorted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.transport).poll_flush(cx);
        if flushed.is_pending() {
            this.state.await_write(true);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut until = match this.parting.take() {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
                match &this.scanner {
                    Scanner::Http1(framing) if framing.is_under_way() => {
                        Box::pin(tokio::time::sleep(PARTING))
                    }
                    _ => return Poll::Ready(Ok(())),
                }
            }
        };
        let parted = this.poll_part(cx, &mut until);
        if parted.is_pending() {
            this.parting = Some(until);
        }
        parted.map(Ok)
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Sorted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Sorted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => gather::poll_write(stream, cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Sorted(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Sorted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Sorted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
