//! New connections to endpoints.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::families::open;
use super::limits::Permit;
use super::pool::{Home, Line, Sender, Shared};
use super::secure::Connector;
use crate::body::RequestBody;
use crate::clock;
use crate::gather::Gathered;
use crate::metrics::Event;
use crate::respond::Failure;
use crate::runtime::Endpoint;
use crate::worker::{LocalExecutor, Worker};

/// The longest head of a response. (It may have 100 headers, hyper's default: another number would cost an allocation for
/// each response.)
const MAX_HEADER_BYTES: usize = 64 << 10;
/// How long a connection that nobody uses any more may take to end well.
const PARTING: Duration = Duration::from_secs(1);
const WINDOW: u32 = 1 << 20;

pub(super) async fn connect(
    worker: &Worker,
    endpoint: &Endpoint,
    patience: Duration,
) -> Result<TcpStream, Failure> {
    let connected = tokio::time::timeout(patience, open(endpoint)).await;
    let failure = match connected {
        Ok(Ok(stream)) => {
            worker.metrics.event(Event::UpstreamConnected);
            return Ok(stream);
        }
        Ok(Err(error)) => {
            tracing::debug!(endpoint = %endpoint.address, %error, "cannot connect");
            Failure::Connect
        }
        Err(_) => Failure::ConnectTimeout,
    };
    worker.metrics.event(Event::UpstreamConnectFailed);
    Err(failure)
}

/// Encrypts a connection, and checks who is at its other end.
pub(super) async fn encrypt(
    worker: &Worker,
    stream: TcpStream,
    connector: &Connector,
    patience: Duration,
) -> Result<TlsStream<TcpStream>, Failure> {
    let config = match &connector.config {
        Ok(config) => Arc::clone(config),
        Err(why) => return Err(Failure::Incomplete(Arc::clone(why))),
    };
    let handshake = TlsConnector::from(config).connect(connector.server_name.clone(), stream);
    let failure = match tokio::time::timeout(patience, handshake).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the TLS handshake with an upstream failed");
            Failure::Connect
        }
        Err(_) => Failure::ConnectTimeout,
    };
    worker.metrics.event(Event::UpstreamConnectFailed);
    worker.metrics.event(Event::UpstreamClosed);
    Err(failure)
}

/// A connection for one request at a time.
pub(super) async fn http1(
    worker: &Worker,
    endpoint: &Endpoint,
    connector: Option<&Connector>,
    permit: Option<Arc<Permit>>,
    patience: Duration,
) -> Result<Line, Failure> {
    let stream = connect(worker, endpoint, patience).await?;
    match connector {
        None => http1_over(worker, Gathered(stream), permit).await,
        Some(connector) => {
            let stream = Box::pin(encrypt(worker, stream, connector, patience)).await?;
            Box::pin(http1_over(worker, stream, permit)).await
        }
    }
}

async fn http1_over(
    worker: &Worker,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    permit: Option<Arc<Permit>>,
) -> Result<Line, Failure> {
    let handshake = http1::Builder::new()
        .max_header_size(MAX_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await;
    let (http, connection) = handshake.map_err(|_| Failure::Connect)?;
    let (in_use, unused) = tokio::sync::oneshot::channel::<()>();
    let metrics = worker.metrics.clone();
    let held = permit.clone();
    tokio::task::spawn_local(async move {
        let _held = held;
        let connection = connection.with_upgrades();
        tokio::pin!(connection);
        // What breaks here is reported to whoever waits for the response.
        tokio::select! {
            _ = &mut connection => {}
            _ = unused => {
                let _ = tokio::time::timeout(PARTING, connection).await;
            }
        }
        metrics.event(Event::UpstreamClosed);
    });
    let sender = Box::new(Sender {
        http,
        _in_use: in_use,
    });
    Ok(Line { sender, permit })
}

/// The connection that all requests to one endpoint share.
pub(super) async fn http2(
    worker: &Worker,
    home: &Rc<Home>,
    endpoint: &Endpoint,
    connector: Option<&Connector>,
    patience: Duration,
) -> Result<Shared, Failure> {
    // Whoever holds the lock is connecting; where that fails, those behind do not all try in turn.
    let mut shared = tokio::time::timeout(patience, home.shared.lock())
        .await
        .map_err(|_| Failure::ConnectTimeout)?;
    if let Some(known) = shared.as_ref().filter(|shared| !shared.sender.is_closed()) {
        return Ok(known.clone());
    }
    let stream = connect(worker, endpoint, patience).await?;
    let sender = match connector {
        None => http2_over(worker, stream, patience).await?,
        Some(connector) => {
            let stream = Box::pin(encrypt(worker, stream, connector, patience)).await?;
            Box::pin(http2_over(worker, stream, patience)).await?
        }
    };
    let new = Shared {
        sender,
        heard: Rc::new(Cell::new(clock::millis())),
    };
    *shared = Some(new.clone());
    Ok(new)
}

async fn http2_over(
    worker: &Worker,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    patience: Duration,
) -> Result<http2::SendRequest<RequestBody>, Failure> {
    // No PINGs: servers of gRPC close a connection that has more than one in five minutes. What is dead shows by the kernel's
    // probes, or by requests that are not answered (`Home::doubt`).
    let handshake = http2::Builder::new(LocalExecutor)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .handshake(TokioIo::new(stream));
    let (sender, connection) = tokio::time::timeout(patience, handshake)
        .await
        .map_err(|_| Failure::ConnectTimeout)?
        .map_err(|_| Failure::Connect)?;
    let metrics = worker.metrics.clone();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
        metrics.event(Event::UpstreamClosed);
    });
    Ok(sender)
}
