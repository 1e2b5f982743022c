//! The port: HTTP/1.1, bare on loopback, behind TLS in a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::Api;
use super::refused::Refused;

/// Connections at a time.
const CONNECTIONS: usize = 256;
/// For a handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For the answer to one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves until `shutdown`; calls that run are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    api: Arc<Api>,
    shutdown: CancellationToken,
) {
    let router = super::router(Arc::clone(&api));
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: some will be free again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (router, api, shutdown) = (router.clone(), Arc::clone(&api), shutdown.clone());
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let _place = place;
            match acceptor {
                None => connection(stream, router, api, shutdown).await,
                Some(acceptor) => {
                    let handshake = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream));
                    if let Ok(Ok(stream)) = handshake.await {
                        connection(stream, router, api, shutdown).await;
                    }
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    api: Arc<Api>,
    shutdown: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, api) = (router.clone(), Arc::clone(&api));
        async move {
            Ok::<_, std::convert::Infallible>(answer(router, &api, request.map(Body::new)).await)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the Admin API broke");
    }
}

async fn answer(router: Router, api: &Api, mut request: Request) -> Response {
    if let Err(refused) = api.hosts.check(request.uri(), request.headers()) {
        return refused.into_response();
    }
    if let Some(uri) = without_final_slash(request.uri()) {
        *request.uri_mut() = uri;
    }
    // The router's own error type has no values.
    let answered = tokio::time::timeout(CALL_TIMEOUT, router.oneshot(request));
    match answered.await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Refused::Unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))
            .into_response(),
    }
}

/// "/consumers/" is "/consumers".
fn without_final_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty())?;
    let text = match uri.query() {
        Some(query) => format!("{bare}?{query}"),
        None => bare.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

/// Opens the port.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, super::Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| super::Error::Bind { address, source })
}
