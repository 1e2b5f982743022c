//! Connections whose hello decides what becomes of them, and those that are passed on as they are.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics::Event;
use crate::sorting::{Sorted, Sorting, TlsRule};
use crate::upstream;
use crate::worker::Worker;

/// A longer hello is none that a client of ours sends.
const MAX_HELLO: usize = 64 << 10;

/// A client's connection of which the first bytes are kept, until it is known who is to read them.
#[derive(Debug)]
pub(super) struct Overheard {
    stream: TcpStream,
    /// Some: keeps what is read.
    heard: Option<BytesMut>,
}

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(heard) = &mut self.heard {
            heard.extend_from_slice(buf.filled().get(before..).unwrap_or_default());
            if heard.len() > MAX_HELLO {
                return Poll::Ready(Err(io::Error::other("the hello is too long")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection after its hello.
pub(super) enum Greeted {
    /// HTTPS.
    Http(Box<TlsStream<Overheard>>),
    /// Decrypted, and to be passed on.
    Ended(Box<TlsStream<Overheard>>, Arc<TlsRule>),
    /// Still encrypted, to be passed on with what was read of it.
    Closed(TcpStream, Bytes, Arc<TlsRule>),
}

/// Reads the hello and does what follows from it; none where nobody serves that name.
pub(super) async fn greet(
    worker: &Worker,
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    sorting: &Sorting,
) -> Option<Greeted> {
    let overheard = Overheard {
        stream,
        heard: Some(BytesMut::new()),
    };
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), overheard);
    let failed = |error: io::Error| {
        tracing::debug!(%error, "TLS handshake failed");
        worker.metrics.event(Event::HandshakeFailed);
    };
    let mut start = acceptor.await.map_err(failed).ok()?;
    let name = start
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    let (config, rule) = match sorting.of(name.as_deref()) {
        Sorted::Http => (config, None),
        Sorted::Tls {
            passthrough: false,
            rule,
        } => (Arc::clone(&sorting.plain), Some(rule)),
        Sorted::Tls { rule, .. } => {
            let Overheard { stream, heard } = start.io;
            let heard = heard.unwrap_or_default().freeze();
            return Some(Greeted::Closed(stream, heard, rule));
        }
        Sorted::Nobody => {
            tracing::debug!(?name, "no listener of this port serves the name");
            worker.metrics.event(Event::HandshakeFailed);
            return None;
        }
    };
    start.io.heard = None;
    let stream = Box::new(start.into_stream(config).await.map_err(failed).ok()?);
    Some(match rule {
        None => Greeted::Http(stream),
        Some(rule) => Greeted::Ended(stream, rule),
    })
}

/// Passes a connection on until one side has no more.
pub(super) async fn pass_on(worker: &Rc<Worker>, client: Greeted, permit: OwnedSemaphorePermit) {
    let _guard = worker.tunnels.enter();
    let _permit = permit;
    match client {
        Greeted::Http(_) => {}
        Greeted::Ended(mut client, rule) => {
            join(worker, &mut *client, Bytes::new(), &rule).await;
        }
        Greeted::Closed(mut client, heard, rule) => {
            join(worker, &mut client, heard, &rule).await;
        }
    }
}

async fn join(
    worker: &Worker,
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut heard: Bytes,
    rule: &TlsRule,
) {
    if let Some(why) = &rule.closed {
        tracing::warn!(route = %rule.route, %why, "a connection was refused");
        return;
    }
    let (mut server, _active) = match upstream::dial(worker, rule).await {
        Ok(dialled) => dialled,
        Err(failure) => {
            tracing::debug!(route = %rule.route, why = failure.label(), "a connection was refused");
            worker.metrics.failure(failure.label());
            return;
        }
    };
    while heard.has_remaining() {
        if server.write_buf(&mut heard).await.is_err() {
            return;
        }
    }
    worker.metrics.event(Event::TunnelOpened);
    // Either side may break off at any time; there is nobody to tell.
    let _ = tokio::io::copy_bidirectional(client, &mut server).await;
    worker.metrics.event(Event::TunnelClosed);
    worker.metrics.event(Event::UpstreamClosed);
}
