//! What is known of one request; handed to log and metrics when its response is over.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};
use plugins::directory::ConsumerRef;

use crate::runtime::Rule;

/// One request, from its head to the end of its response.
///
/// What only the access log needs is absent where that is off (`details`).
#[derive(Debug)]
pub struct Record {
    /// When its head was complete.
    pub started: Instant,
    /// From there to the head of the upstream's response; none where no upstream answered.
    pub upstream_time: Option<Duration>,
    /// The rule that serves it; none: 404, or refused before routing.
    pub rule: Option<Arc<Rule>>,
    /// Index into the rule's backends.
    pub backend: Option<usize>,
    /// Who called, the anonymous Consumer included.
    pub consumer: Option<ConsumerRef>,
    /// Whether that is the anonymous Consumer.
    pub anonymous: bool,
    /// The plugin that spoke last, as "shop/api-key", and its reason: "ok", "no_key" …
    pub verdict: Option<(Arc<str>, &'static str)>,
    /// Status of the response.
    pub status: StatusCode,
    /// The gateway's own answer: why ("no_route", "connect" …).
    pub failure: Option<&'static str>,
    /// More about `failure`, for the log only.
    pub cause: Option<Arc<str>>,
    /// Endpoint that was asked last.
    pub endpoint: Option<SocketAddr>,
    /// How many endpoints were asked.
    pub attempts: u8,
    /// Bytes of the response's body that the client's connection took.
    pub sent: u64,
    /// Whether the response ended before it was complete.
    pub aborted: bool,
    /// What only the access log needs.
    pub details: Option<Details>,
}

/// What only the access log needs.
#[derive(Debug)]
pub struct Details {
    pub method: Method,
    pub version: Version,
    /// As matched; the query may hold secrets and is redacted by whoever writes it down.
    pub target: Option<PathAndQuery>,
    /// Canonical, or as given where it is none.
    pub host: Option<HeaderValue>,
    pub request_id: Option<HeaderValue>,
    /// The client, behind trusted proxies.
    pub client: IpAddr,
    pub user_agent: Option<HeaderValue>,
    pub port: u16,
    pub tls: bool,
}

impl Record {
    /// A record of a request that begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            started: Instant::now(),
            upstream_time: None,
            rule: None,
            backend: None,
            consumer: None,
            anonymous: false,
            verdict: None,
            status: StatusCode::OK,
            failure: None,
            cause: None,
            endpoint: None,
            attempts: 0,
            sent: 0,
            aborted: false,
            details: None,
        }
    }

    /// How long it took until now.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
