//! `/livez`, `/readyz` and `/metrics`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// What readiness is made of.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    /// Everything is read and compiled.
    pub(crate) synced: watch::Receiver<bool>,
    /// Proxies can be served: there is a certificate.
    pub(crate) certified: watch::Receiver<bool>,
    /// The end has begun.
    pub(crate) shutdown: CancellationToken,
}

impl Readiness {
    fn missing(&self) -> Option<&'static str> {
        if self.shutdown.is_cancelled() {
            Some("shutting down")
        } else if !*self.certified.borrow() {
            Some("waiting for the control plane's certificate: is the API server there?")
        } else if !*self.synced.borrow() {
            Some("reading the cluster's objects")
        } else {
            None
        }
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    registry: Arc<Registry>,
}

/// Opens the port.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Status { address, source })
}

/// Answers until the process ends: readiness is asked for during shutdown, too.
pub(crate) async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    registry: Registry,
) -> io::Result<()> {
    axum::serve(listener, router(readiness, registry)).await
}

fn router(readiness: Readiness, registry: Registry) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Shared {
            readiness,
            registry: Arc::new(registry),
        })
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    match shared.readiness.missing() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &shared.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_says_what_is_missing() {
        let (synced, certified) = (watch::Sender::new(false), watch::Sender::new(false));
        let shutdown = CancellationToken::new();
        let readiness = Readiness {
            synced: synced.subscribe(),
            certified: certified.subscribe(),
            shutdown: shutdown.clone(),
        };
        let shared = Shared {
            readiness,
            registry: Arc::default(),
        };
        let answer = || ready(State(shared.clone()));
        assert!(answer().await.1.contains("certificate"));
        certified.send_replace(true);
        assert!(answer().await.1.contains("objects"));
        synced.send_replace(true);
        assert_eq!(answer().await, (StatusCode::OK, "ok\n".to_owned()));
        shutdown.cancel();
        assert_eq!(answer().await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
