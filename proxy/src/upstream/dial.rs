//! Connections to upstreams that carry something else than HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::balance::{Active, pick};
use super::connect::{connect, encrypt};
use super::limits::Turn;
use crate::respond::Failure;
use crate::sorting::{TlsBackend, TlsRule};
use crate::worker::Worker;

/// How many endpoints are asked.
const ATTEMPTS: usize = 3;

/// The bytes of a connection to an upstream.
#[derive(Debug)]
pub(crate) enum Line {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to an endpoint of one of a rule's backends.
pub(crate) async fn dial(worker: &Worker, rule: &TlsRule) -> Result<(Line, Active), Failure> {
    let backend = choose(worker, rule)?;
    let upstream = backend
        .upstream
        .as_ref()
        .ok_or(Failure::NoBackend("the route's backend is not valid"))?;
    let mut under_way = upstream.enter()?;
    let patience = upstream
        .patience()
        .within(&worker.settings.timeouts)
        .connect;
    // The connection lasts as long as what is passed on, and so do the rights to both.
    let mut permit = match upstream.turn(None, patience).await? {
        Some(Turn::Open(permit)) => Some(permit),
        Some(Turn::Freed) | None => None,
    };
    let mut dead = Vec::new();
    let mut last = Failure::NoEndpoint;
    while dead.len() < ATTEMPTS {
        let endpoint = {
            let set = upstream.endpoints.load();
            Arc::clone(pick(&set, &dead, None, &worker.dice).ok_or(last)?)
        };
        let mut active = Active::new(&endpoint);
        let connected = match connect(worker, &endpoint, patience).await {
            Ok(stream) => match &backend.connector {
                None => Ok(Line::Plain(stream)),
                Some(connector) => encrypt(worker, stream, connector, patience)
                    .await
                    .map(|stream| Line::Tls(Box::new(stream))),
            },
            Err(failure) => Err(failure),
        };
        match connected {
            Ok(line) => {
                upstream.connected(&endpoint);
                active.permit(permit.take());
                active.enter(under_way.take());
                return Ok((line, active));
            }
            Err(failure) => {
                upstream.failed(&endpoint, &failure);
                if !failure.may_retry() {
                    return Err(failure);
                }
                last = failure;
            }
        }
        dead.push(endpoint.address);
    }
    Err(last)
}

fn choose<'r>(worker: &Worker, rule: &'r TlsRule) -> Result<&'r TlsBackend, Failure> {
    let mut point = worker.dice.below(rule.total_weight as usize);
    rule.backends
        .iter()
        .filter(|backend| backend.weight > 0)
        .find(|backend| {
            let weight = backend.weight as usize;
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        })
        .ok_or(Failure::NoBackend("the route has no backend"))
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
