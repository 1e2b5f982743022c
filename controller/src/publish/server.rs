//! The listening side: TLS handshakes off the accept loop, bounded by peer and in all.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use snapshot::proto::control_plane_server::ControlPlaneServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::auth::Authenticate;
use super::hub::Hub;
use super::service::Service;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A Hello with every bucket has about 100 KB, an acknowledgement with a thousand refusals less than 1 MiB.
const MAX_REQUEST_BYTES: usize = 2 << 20;

/// Bounds of what proxies may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connected at once.
    pub proxies: usize,
    /// Connections of one address at once.
    pub connections_per_peer: usize,
    /// How often the tokens of open streams are reviewed again.
    pub review_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            proxies: 1000,
            connections_per_peer: 32,
            review_every: Duration::from_secs(60),
        }
    }
}

/// The gRPC server could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, or not allowed.
    #[error("cannot listen on {address} for proxies: {source}; choose another --grpc-address")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server gave up.
    #[error("the server for proxies failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves a [`Hub`].
pub struct Server {
    listener: TcpListener,
    service: Service,
    tls: Arc<rustls::ServerConfig>,
}

impl Server {
    /// Opens the port. `tls` must offer ALPN `h2`.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn bind(
        address: SocketAddr,
        hub: Hub,
        authenticate: Arc<dyn Authenticate>,
        tls: Arc<rustls::ServerConfig>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Bind { address, source })?;
        Ok(Self {
            listener,
            service: Service {
                hub,
                authenticate,
                limits,
            },
            tls,
        })
    }

    /// The address that was opened (port 0 asks for any).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the hub is closed and its streams have ended.
    ///
    /// # Errors
    /// When the server breaks.
    pub async fn run(self) -> Result<(), Error> {
        let Self {
            listener,
            service,
            tls,
        } = self;
        let closing = service.hub.closing().clone();
        let limits = service.limits.clone();
        let (sender, mut receiver) = mpsc::channel(16);
        let accepting = tokio::spawn({
            let closing = closing.clone();
            async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = accept(listener, TlsAcceptor::from(tls), limits, sender) => {}
                }
            }
        });
        let incoming = futures::stream::poll_fn(move |cx| {
            receiver
                .poll_recv(cx)
                .map(|next| next.map(Ok::<_, io::Error>))
        });
        let server = ControlPlaneServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES);
        let served = tonic::transport::Server::builder()
            .max_concurrent_streams(8)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_header_list_size(64 * 1024)
            .serve_with_incoming_shutdown(server, incoming, closing.cancelled_owned())
            .await;
        accepting.abort();
        Ok(served?)
    }
}

/// Accepts for ever. Whatever a peer does while it shakes hands keeps nobody else waiting.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: Limits,
    sender: mpsc::Sender<Connection>,
) {
    let places = Places {
        taken: Arc::default(),
        per_peer: limits.connections_per_peer,
        all: limits.proxies * 2 + 64,
    };
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: others may close some.
                tracing::warn!(%error, "cannot accept a proxy's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip()) else {
            tracing::warn!(%peer, "refused a connection: this peer, or all together, hold too many");
            continue;
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let _ = sender
                        .send(Connection {
                            stream,
                            peer,
                            _place: place,
                        })
                        .await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took longer than 10 s"),
            }
        });
    }
}

type Taken = Arc<Mutex<HashMap<IpAddr, usize>>>;

struct Places {
    taken: Taken,
    per_peer: usize,
    all: usize,
}

impl Places {
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock();
        if taken.values().sum::<usize>() >= self.all {
            return None;
        }
        let count = taken.entry(peer).or_default();
        if *count >= self.per_peer {
            return None;
        }
        *count += 1;
        Some(Place {
            taken: Arc::clone(&self.taken),
            peer,
        })
    }
}

/// One connection's share of what its peer may have; given back when dropped.
struct Place {
    taken: Taken,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

/// A connection after its handshake.
struct Connection {
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    _place: Place,
}

/// Who a request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerAddr(pub(super) SocketAddr);

impl Connected for Connection {
    type ConnectInfo = PeerAddr;

    fn connect_info(&self) -> PeerAddr {
        PeerAddr(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_its_share_and_gives_it_back() {
        let places = Places {
            taken: Arc::default(),
            per_peer: 2,
            all: 3,
        };
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = places.take(a).unwrap();
        let _second = places.take(a).unwrap();
        assert!(places.take(a).is_none(), "a third of one peer");
        let third = places.take(b).unwrap();
        assert!(places.take(b).is_none(), "a fourth of all");
        drop((first, third));
        assert!(places.take(a).is_some());
        assert!(
            !places.taken.lock().contains_key(&b),
            "nothing is kept of peers that are gone"
        );
    }
}
