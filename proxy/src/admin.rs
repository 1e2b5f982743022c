//! `/livez`, `/readyz` and `/metrics`, on a port of their own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::explain::{self, Explainer};
use crate::metrics::{CONTENT_TYPE as METRICS, Metrics};

/// Connections at a time: probes and scrapers are few.
const CONNECTIONS: usize = 64;

/// For a request's head, and for a response to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `/readyz` tells.
#[derive(Debug, Default)]
pub(crate) struct Status(Mutex<Told>);

#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    draining: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane: Option<ControlPlane>,
}

#[derive(Debug, Clone, Serialize)]
struct ControlPlane {
    connected: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Status {
    /// A snapshot is in force, listeners included; with the digest of the manifests from which it came, if it did.
    pub(crate) fn in_force(&self, version: &Arc<str>, manifests: Option<Arc<str>>) {
        let mut told = self.0.lock();
        told.version = Some(version.to_string());
        if let Some(manifests) = manifests {
            told.manifests = Some(manifests.to_string());
        }
    }

    /// The stream to the control plane is open.
    pub(crate) fn connected(&self) {
        self.0.lock().control_plane = Some(ControlPlane {
            connected: true,
            reason: None,
        });
    }

    /// The stream to the control plane is not open.
    pub(crate) fn disconnected(&self, reason: &str) {
        self.0.lock().control_plane = Some(ControlPlane {
            connected: false,
            reason: Some(reason.to_owned()),
        });
    }

    /// No new requests are wanted: not ready from now on.
    pub(crate) fn drain(&self) {
        self.0.lock().draining = true;
    }

    #[cfg(test)]
    pub(crate) fn is_ready(&self) -> bool {
        self.told().ready
    }

    fn told(&self) -> Told {
        let mut told = self.0.lock().clone();
        told.ready = told.version.is_some() && !told.draining;
        told
    }
}

/// Opens the port, and answers until it is told to stop.
///
/// # Errors
/// The port cannot be opened.
pub(crate) async fn serve(
    address: SocketAddr,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    explainer: Arc<OnceLock<Arc<Explainer>>>,
    stop: CancellationToken,
) -> Result<SocketAddr, Error> {
    let wrong = |source| Error::Start {
        what: format!("opening {address} for /readyz (--status-address)"),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept(listener, status, metrics, explainer) => {}
        }
    });
    Ok(address)
}

async fn accept(
    listener: TcpListener,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    explainer: Arc<OnceLock<Arc<Explainer>>>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                // Mostly there are no file descriptors left: others must be given the time to return some.
                tracing::debug!(%error, "a connection to the status port was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (status, metrics) = (Arc::clone(&status), Arc::clone(&metrics));
        let explainer = explainer.get().cloned();
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let (status, metrics) = (Arc::clone(&status), Arc::clone(&metrics));
                let explainer = explainer.clone();
                async move {
                    let asks = explainer.filter(|_| request.uri().path() == explain::PATH);
                    let response = match asks {
                        None => answer(&request, &status, &metrics),
                        Some(explainer) => match explainer.answer(peer, request).await {
                            Some((status, json)) => {
                                text(status, "application/json; charset=utf-8", json)
                            }
                            None => nothing(),
                        },
                    };
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), answer);
            // One that lingers gives its slot to others; whoever uses it opens a new one.
            let over = tokio::time::timeout(PATIENCE * 6, connection).await;
            tracing::trace!(?over, "a connection to the status port is over");
            drop(slot);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    status: &Status,
    metrics: &Arc<Metrics>,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "only GET\n",
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        "/readyz" => {
            let told = status.told();
            let code = if told.ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            text(
                code,
                "application/json; charset=utf-8",
                serde_json::to_string(&told).unwrap_or_default(),
            )
        }
        "/metrics" => match metrics.text() {
            Ok(body) => text(StatusCode::OK, METRICS, body),
            Err(error) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain; charset=utf-8",
                error.to_string(),
            ),
        },
        _ => nothing(),
    }
}

fn nothing() -> Response<Full<Bytes>> {
    text(
        StatusCode::NOT_FOUND,
        "text/plain; charset=utf-8",
        "there are /livez, /readyz and /metrics here\n",
    )
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
