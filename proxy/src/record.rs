//! What is known of one request; handed to log and metrics when its response is over.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};
use plugins::Type;
use plugins::directory::ConsumerRef;
use smallvec::SmallVec;

use crate::extras::Shown;
use crate::runtime::Rule;

/// One request, from its head to the end of its response.
///
/// What only the access log needs is absent where that is off (`details`).
#[derive(Debug)]
pub(crate) struct Record {
    /// When its head was complete.
    pub(crate) started: Instant,
    /// From there to the head of the upstream's response; none where no upstream answered.
    pub(crate) upstream_time: Option<Duration>,
    /// The rule that serves it; none: 404, or refused before routing.
    pub(crate) rule: Option<Arc<Rule>>,
    /// Index into the rule's backends.
    pub(crate) backend: Option<usize>,
    /// Who called, the anonymous Consumer included.
    pub(crate) consumer: Option<ConsumerRef>,
    /// Whether that is the anonymous Consumer.
    pub(crate) anonymous: bool,
    /// What the plugins said, in the order in which they were asked.
    pub(crate) verdicts: Verdicts,
    /// The Consumer whom a plugin had authenticated before a later one put another in its place.
    pub(crate) replaced: Option<ConsumerRef>,
    /// Status of the response.
    pub(crate) status: StatusCode,
    /// The gateway's own answer: why ("no_route", "connect" …).
    pub(crate) failure: Option<&'static str>,
    /// More about `failure`, for the log only.
    pub(crate) cause: Option<Arc<str>>,
    /// Endpoint that was asked last.
    pub(crate) endpoint: Option<SocketAddr>,
    /// How many endpoints were asked.
    pub(crate) attempts: u8,
    /// Bytes of the response's body that the client's connection took.
    pub(crate) sent: u64,
    /// Whether the response ended before it was complete.
    pub(crate) aborted: bool,
    /// What pages of other origins are told.
    pub(crate) shown: Option<Box<Shown>>,
    /// What only the access log needs.
    pub(crate) details: Option<Box<Details>>,
}

/// Mostly there is one.
pub(crate) type Verdicts = SmallVec<[Spoken; 2]>;

/// What one plugin said, or one method of a plugin that has several.
#[derive(Debug, Clone)]
pub(crate) struct Spoken {
    /// "shop/api-key".
    pub(crate) plugin: Arc<str>,
    /// None: the plugin as a whole.
    pub(crate) method: Option<Type>,
    /// "ok", "no_key" …
    pub(crate) reason: &'static str,
    pub(crate) passed: bool,
}

/// What only the access log needs.
#[derive(Debug)]
pub(crate) struct Details {
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// As matched; the query may hold secrets and is redacted by whoever writes it down.
    pub(crate) target: Option<PathAndQuery>,
    /// Canonical, or as given where it is none.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) request_id: Option<HeaderValue>,
    /// The client, behind trusted proxies.
    pub(crate) client: IpAddr,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl Record {
    /// A record of a request that begins now.
    #[must_use]
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
            upstream_time: None,
            rule: None,
            backend: None,
            consumer: None,
            anonymous: false,
            verdicts: Verdicts::new(),
            replaced: None,
            status: StatusCode::OK,
            failure: None,
            cause: None,
            endpoint: None,
            attempts: 0,
            sent: 0,
            aborted: false,
            shown: None,
            details: None,
        }
    }

    /// How long it took until now.
    #[must_use]
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
