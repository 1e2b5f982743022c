//! What only some rules ask for. A rule that asks for none of it costs one look at an absent box.

mod cors;
mod mirror;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, request};
use ipnet::IpNet;
use plugins::handler::Refusal;

use crate::body::{Body, RequestBody};
use crate::listen::Conn;
use crate::record::Record;
use crate::respond::{self, Failure};
use crate::runtime::{Backend, Redirect, Rule, Upstream};
use crate::upstream::{HashOn, Patience};
pub(crate) use cors::{Cors, Shown};
pub(crate) use mirror::{Mirror, copy};

/// Of a rule.
#[derive(Debug, Default)]
pub struct Extras {
    pub(crate) cors: Option<Cors>,
    pub(crate) retry: Option<Retry>,
    pub(crate) mirrors: Vec<Mirror>,
    /// Where requests without TLS are sent to.
    pub(crate) https_port: Option<u16>,
    /// Not empty: whose clients may come.
    pub(crate) sources: Box<[IpNet]>,
    /// Longer bodies are not taken.
    pub(crate) max_body: Option<u64>,
    /// What tells clients apart that keep to one endpoint.
    pub(crate) affinity: Option<HashOn>,
    /// How long upstreams are waited for.
    pub(crate) patience: Option<Patience>,
}

/// Of a backend.
#[derive(Debug, Default)]
pub struct BackendExtras {
    pub(crate) mirrors: Vec<Mirror>,
    /// Answers instead of forwarding, after the plugins.
    pub(crate) redirect: Option<Redirect>,
}

/// When a request is sent again that an upstream could not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    /// After the first.
    pub(crate) attempts: u32,
    pub(crate) codes: Box<[StatusCode]>,
    pub(crate) backoff: Duration,
}

impl Extras {
    /// In a box, where there is any.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let none = self.cors.is_none()
            && self.retry.is_none()
            && self.mirrors.is_empty()
            && self.https_port.is_none()
            && self.sources.is_empty()
            && self.max_body.is_none()
            && self.affinity.is_none()
            && self.patience.is_none();
        (!none).then(|| Box::new(self))
    }

    /// What comes before the plugins: refuses, redirects, answers a preflight, because browsers send no credentials with it
    /// and nothing of it goes to the upstream; and notes what pages of the request's origin may see of the answer.
    pub(crate) fn begin(
        &self,
        conn: &Conn,
        (head, host): (&request::Parts, &str),
        body: &mut RequestBody,
        record: &mut Record,
    ) -> Result<Option<Response<Body>>, Failure> {
        let shown = self.cors.as_ref().and_then(|cors| cors.shown(head));
        record.shown = shown;
        if !self.sources.is_empty() {
            let trusted = &conn.worker.settings.trusted_proxies;
            let client = conn.peer.client(&head.headers, trusted);
            if !self.sources.iter().any(|net| net.contains(&client)) {
                return Err(refuse(
                    StatusCode::FORBIDDEN,
                    "the route does not take requests from this address",
                    "source",
                ));
            }
        }
        if let Some(port) = self.https_port
            && !conn.peer.is_https(&head.headers)
        {
            return Ok(Some(to_https(head, host, port)?));
        }
        if let Some(most) = self.max_body
            && !body.limit(most)
        {
            return Err(too_long());
        }
        Ok(record.shown.as_ref().and_then(|shown| shown.preflight()))
    }
}

fn to_https(head: &request::Parts, host: &str, port: u16) -> Result<Response<Body>, Failure> {
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let port = if port == 443 {
        String::new()
    } else {
        format!(":{port}")
    };
    let location = HeaderValue::try_from(format!("https://{host}{port}{target}"))
        .map_err(|_| Failure::BadRequest("the request target is not valid"))?;
    Ok(respond::redirect(
        StatusCode::PERMANENT_REDIRECT,
        location,
        None,
    ))
}

/// The answer to a body that is longer than a route allows.
pub(crate) fn too_long() -> Failure {
    refuse(
        StatusCode::PAYLOAD_TOO_LARGE,
        "the request's body is longer than the route allows",
        "body_too_long",
    )
}

fn refuse(status: StatusCode, message: &'static str, reason: &'static str) -> Failure {
    Failure::Refused(Refusal {
        status,
        message: message.into(),
        members: Vec::new(),
        challenges: Vec::new(),
        reason,
    })
}

impl Rule {
    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.extras.as_ref()?.retry.as_ref()
    }

    pub(crate) fn patience(&self) -> Patience {
        let said = self.extras.as_ref().and_then(|extras| extras.patience);
        said.unwrap_or_default()
    }

    pub(crate) fn affinity(&self) -> Option<&HashOn> {
        self.extras.as_ref()?.affinity.as_ref()
    }
}

impl Backend {
    pub(crate) fn redirect(&self) -> Option<&Redirect> {
        self.extras.as_ref()?.redirect.as_ref()
    }
}

impl Backend {
    /// Where its requests go.
    pub(crate) fn upstream(&self) -> Result<&Arc<Upstream>, Failure> {
        match &self.upstream {
            Some(upstream) if upstream.missing => {
                Err(Failure::NoBackend("the route's Service does not exist"))
            }
            Some(upstream) => Ok(upstream),
            None => Err(Failure::NoBackend("the route's backend is not valid")),
        }
    }
}

impl BackendExtras {
    /// In a box, where there is any.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self.redirect.is_some() || !self.mirrors.is_empty()).then(|| Box::new(self))
    }
}
