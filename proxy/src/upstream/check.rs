//! Asks endpoints whether they are well, from time to time and beside their requests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::crypto::CryptoProvider;
use snapshot::proto::{self, active_health::Probe, upstream::Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use super::families::open;
use super::policy::statuses;
use super::secure::{Connector, Connectors};
use crate::http::request_id::Dice;
use crate::runtime::{Endpoint, Upstream};

/// Of an answer to a check that is about gRPC no more is read; of others nothing.
const MAX_ANSWER: usize = 4 << 10;
const SERVING: i32 = 1;

/// What is asked, how often, and how often an endpoint must pass or fail before that counts.
#[derive(Debug)]
pub(super) struct Active {
    probe: Probe,
    statuses: Box<[StatusCode]>,
    interval: Duration,
    timeout: Duration,
    healthy: u32,
    unhealthy: u32,
}

impl Active {
    /// None: this proxy does not know how to ask.
    pub(super) fn read(from: &proto::ActiveHealth) -> Option<Self> {
        let probe = from.probe.clone()?;
        let statuses = match &probe {
            Probe::Http(http) => statuses(&http.statuses),
            Probe::Tcp(_) | Probe::Grpc(_) => Box::default(),
        };
        Some(Self {
            probe,
            statuses,
            interval: Duration::from_millis(from.interval_ms.max(1).into()),
            timeout: Duration::from_millis(from.timeout_ms.max(1).into()),
            healthy: from.healthy_threshold.max(1),
            unhealthy: from.unhealthy_threshold.max(1),
        })
    }

    /// The time until the next check: a tenth more or less, so that many proxies do not ask at the same moment.
    fn pause(&self, dice: &Dice) -> Duration {
        self.interval * 9 / 10 + part(self.interval / 5, dice)
    }
}

/// A part of a time, by chance.
fn part(of: Duration, dice: &Dice) -> Duration {
    let most = usize::try_from(of.as_micros()).unwrap_or(usize::MAX);
    Duration::from_micros(dice.below(most) as u64)
}

/// Checks the endpoints of an upstream, whichever there are.
pub(crate) async fn check(
    upstream: Arc<Upstream>,
    tls: Option<proto::UpstreamTls>,
    provider: Arc<CryptoProvider>,
) {
    let Some(policy) = upstream.policy.as_ref() else {
        return;
    };
    let connector = tls.map(|tls| Connectors::default().of(&upstream.name, &tls, None, &provider));
    let mut all = JoinSet::new();
    let mut running: HashMap<SocketAddr, (Arc<Endpoint>, AbortHandle)> = HashMap::new();
    loop {
        let moved = policy.moved.notified();
        let members = policy.members();
        running.retain(|_, (endpoint, task)| {
            let keep = members.iter().any(|member| Arc::ptr_eq(member, endpoint));
            if !keep {
                task.abort();
            }
            keep
        });
        for endpoint in members {
            running.entry(endpoint.address).or_insert_with(|| {
                let task = watch(
                    Arc::clone(&upstream),
                    Arc::clone(&endpoint),
                    connector.clone(),
                );
                (endpoint, all.spawn(task))
            });
        }
        moved.await;
        while all.try_join_next().is_some() {}
    }
}

/// Checks one endpoint until it is gone.
async fn watch(
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    connector: Option<Arc<Connector>>,
) {
    let Some((policy, active)) = upstream
        .policy
        .as_ref()
        .and_then(|policy| Some((policy, policy.active.as_ref()?)))
    else {
        return;
    };
    let dice = Dice::new();
    let mut in_a_row = 0_u32;
    tokio::time::sleep(part(active.interval, &dice)).await;
    loop {
        let asked = tokio::time::timeout(
            active.timeout,
            ask(&upstream, active, &endpoint, connector.as_deref()),
        );
        let problem = match asked.await {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some("no answer in time".to_owned()),
        };
        policy.series.checked(problem.is_none());
        // Only what speaks against the present state is counted.
        let well = endpoint.health.is_well();
        in_a_row = if problem.is_none() == well {
            0
        } else {
            in_a_row.saturating_add(1)
        };
        let enough = if well {
            active.unhealthy
        } else {
            active.healthy
        };
        if in_a_row >= enough {
            in_a_row = 0;
            policy.turn_health(&upstream, &endpoint, problem);
        }
        tokio::time::sleep(active.pause(&dice)).await;
    }
}

/// Ok: the endpoint is well.
async fn ask(
    upstream: &Upstream,
    active: &Active,
    endpoint: &Endpoint,
    connector: Option<&Connector>,
) -> Result<(), String> {
    let address = endpoint.address;
    let stream = open(endpoint).await.map_err(text)?;
    if let Probe::Tcp(_) = &active.probe {
        return Ok(());
    }
    let http2 = match (upstream.scheme, connector) {
        (Scheme::Http1, _) => false,
        (Scheme::H2c, _) => true,
        (Scheme::Https, Some(connector)) => connector.http2,
        (Scheme::Https, None) => return Err("nobody says whose certificate is right".to_owned()),
    };
    match connector.filter(|_| upstream.scheme == Scheme::Https) {
        None => ask_over(active, address, stream, http2).await,
        Some(connector) => {
            let config = connector.config.clone().map_err(|why| why.to_string())?;
            let name = connector.server_name.clone();
            let stream = TlsConnector::from(config).connect(name, stream).await;
            ask_over(active, address, stream.map_err(text)?, http2).await
        }
    }
}

async fn ask_over(
    active: &Active,
    address: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
) -> Result<(), String> {
    match &active.probe {
        Probe::Tcp(_) => Ok(()),
        Probe::Http(probe) => {
            let host = if probe.host.is_empty() {
                address.to_string()
            } else {
                probe.host.clone()
            };
            let request = request(http2, &host, &probe.path)?;
            let response = send(stream, http2, request).await?;
            let status = response.status();
            if active.statuses.contains(&status) {
                Ok(())
            } else {
                Err(format!("status {}", status.as_u16()))
            }
        }
        Probe::Grpc(service) => {
            let path = "/grpc.health.v1.Health/Check";
            let mut request = request(true, &address.to_string(), path)?;
            *request.method_mut() = http::Method::POST;
            let headers = request.headers_mut();
            headers.insert(
                CONTENT_TYPE,
                http::HeaderValue::from_static("application/grpc"),
            );
            headers.insert(TE, http::HeaderValue::from_static("trailers"));
            *request.body_mut() = Full::new(HealthCheck::frame(service));
            is_serving(send(stream, true, request).await?).await
        }
    }
}

fn request(http2: bool, host: &str, path: &str) -> Result<Request<Full<Bytes>>, String> {
    let request = Request::builder().header(USER_AGENT, "postern-health");
    let request = if http2 {
        let uri = format!("http://{host}{path}");
        request.version(Version::HTTP_2).uri(uri)
    } else {
        request.header(HOST, host).uri(path)
    };
    request.body(Full::default()).map_err(text)
}

/// Sends a request over a connection of its own.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    request: Request<Full<Bytes>>,
) -> Result<Response<Answer>, String> {
    use hyper::client::conn::{http1, http2};
    let stream = TokioIo::new(stream);
    let mut driver = JoinSet::new();
    let response = if http2 {
        let shaken = http2::handshake(TokioExecutor::new(), stream).await;
        let (mut sender, connection) = shaken.map_err(text)?;
        driver.spawn(async move { drop(connection.await) });
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = http1::handshake(stream).await.map_err(text)?;
        driver.spawn(async move { drop(connection.await) });
        sender.send_request(request).await
    };
    let response = response.map_err(text)?;
    Ok(response.map(|body| Answer {
        body,
        _driver: driver,
    }))
}

/// A body whose connection is driven for as long as it is there, and closed with it.
struct Answer {
    body: Incoming,
    _driver: JoinSet<()>,
}

async fn is_serving(response: Response<Answer>) -> Result<(), String> {
    let (head, answer) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("status {}", head.status.as_u16()));
    }
    #[expect(clippy::disallowed_methods, reason = "the body is Limited")]
    let body = Limited::new(answer.body, MAX_ANSWER).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let code = |headers: &HeaderMap| Some(headers.get("grpc-status")?.to_str().ok()?.to_owned());
    match code(&trailers).or_else(|| code(&head.headers)).as_deref() {
        Some("0") => {}
        other => return Err(format!("grpc-status {}", other.unwrap_or("missing"))),
    }
    match HealthStatus::read(body.to_bytes())?.status {
        SERVING => Ok(()),
        other => Err(format!("health status {other}")),
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheck {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthStatus {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl HealthCheck {
    /// As gRPC frames it, not compressed.
    fn frame(service: &str) -> Bytes {
        let message = Self {
            service: service.to_owned(),
        };
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len()).unwrap_or(0));
        frame.extend_from_slice(&message.encode_to_vec());
        frame.freeze()
    }
}

impl HealthStatus {
    fn read(mut frame: Bytes) -> Result<Self, String> {
        let short = || "the answer is too short".to_owned();
        let compressed = frame.try_get_u8().map_err(|_| short())?;
        if compressed != 0 {
            return Err("the answer is compressed".to_owned());
        }
        let length = frame.try_get_u32().map_err(|_| short())? as usize;
        let message = frame.get(..length).ok_or_else(short)?;
        Self::decode(message).map_err(text)
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_as_grpc_does() {
        assert_eq!(&HealthCheck::frame("ab")[..], b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(&HealthCheck::frame("")[..], b"\0\0\0\0\0");
        let read = |frame: &'static [u8]| HealthStatus::read(Bytes::from_static(frame));
        assert_eq!(read(b"\0\0\0\0\x02\x08\x01").unwrap().status, SERVING);
        assert_eq!(read(b"\0\0\0\0\0").unwrap().status, 0);
        for bad in [
            &b""[..],
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x09\x08\x01",
            b"\0\0\0\0\x01\xff",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn proxies_ask_at_different_moments() {
        let active = Active::read(&proto::ActiveHealth {
            probe: Some(Probe::Tcp(true)),
            interval_ms: 10_000,
            ..proto::ActiveHealth::default()
        });
        let (active, dice) = (active.unwrap(), Dice::new());
        let pauses: Vec<_> = (0..100).map(|_| active.pause(&dice).as_millis()).collect();
        assert!(pauses.iter().all(|pause| (9_000..=11_000).contains(pause)));
        assert!(pauses.iter().max() > pauses.iter().min());
    }
}
