//! What decides a request, and why: the listener, the rule and its rivals, the plugins, and what the upstream would get.
//!
//! A request that is explained takes the very way of a real one ([`Passage::prepare`]), on a worker of its own that listens
//! nowhere, counts nowhere and logs nowhere, and ends where it would leave for the upstream. Nobody is called.

mod client;
mod compose;
mod endpoint;
mod past;
mod shape;
mod words;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, request};

use plugins::handler::ResponseEdits;

use crate::background;
use crate::body::RequestBody;
use crate::clock;
use crate::http::forwarded::Peer;
use crate::http::{admit, host::Host, request_id};
use crate::limits::{Limits, Timeouts};
use crate::listen::{Conn, ConnState};
use crate::metrics::{Metrics, WorkerMetrics};
use crate::options::Networks;
use crate::pipeline::{Passage, Prepared};
use crate::record::Record;
use crate::runtime::{Port, Runtime};
use crate::state::{Delta, State};
use crate::worker::{Settings, Worker};

pub use client::{ClientError, Token, ask};
pub(crate) use endpoint::{Explainer, PATH};
pub use shape::{
    Answer, Asked, Backend, Caller, Explanation, Forward, Listener, Matched, Method as TriedMethod,
    Past, Plugin, Question, Rival, Route, Verdict,
};

/// How many rivals, and how many endpoints, are told.
const MOST: usize = 20;

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is none.
    #[error("{0}")]
    Request(String),
    /// No port of this proxy is meant.
    #[error("{0}")]
    Port(String),
    /// No thread can be had.
    #[error("explaining: {0}")]
    Thread(#[from] std::io::Error),
}

/// Explains a request by a snapshot that no proxy has in force: offline.
///
/// # Errors
/// What is asked is no request, or no listener could take it.
pub fn offline(
    change: snapshot::Change,
    trusted_proxies: Networks,
    question: &Question,
) -> Result<Explanation, Error> {
    let (_background, services) = background::idle()?;
    let mut state = State::new(Metrics::new(1), services);
    let upserts = change.diff.upserts.into_values();
    state.apply(Delta {
        version: change.version,
        upserts: upserts.map(|entry| entry.encoded).collect(),
        ..Delta::default()
    });
    let runtime = state.runtime().load_full();
    let settings = Arc::new(Settings {
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        trusted_proxies: trusted_proxies.0,
        proxy_protocol: Vec::new(),
    });
    explain(&runtime, &settings, question)
}

/// Explains a request. Takes its time: not for a thread that others wait for.
pub(crate) fn explain(
    runtime: &Arc<Runtime>,
    settings: &Arc<Settings>,
    question: &Question,
) -> Result<Explanation, Error> {
    let target = Target::read(question)?;
    let event_loop = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    // Ports that could be meant: those where something serves the request come first.
    let mut explanations = Vec::new();
    for port in target.ports(runtime)? {
        let one = event_loop.block_on(target.explain(runtime, settings, port))?;
        explanations.push(one);
    }
    explanations.sort_by_key(|one: &Explanation| one.route.is_none());
    let first = explanations.into_iter().next();
    first.ok_or_else(|| Error::Port("the snapshot has no listener".to_owned()))
}

/// A question that was understood.
struct Target {
    tls: bool,
    /// Said in the URL.
    port: Option<u16>,
    /// That a TLS handshake would name.
    sni: Option<Box<str>>,
    head: request::Parts,
    body: Vec<u8>,
}

impl Target {
    fn read(question: &Question) -> Result<Self, Error> {
        let wrong = |text: String| Error::Request(text);
        let url = question.url.split('#').next().unwrap_or_default();
        let uri: Uri = url.parse().map_err(|_| {
            wrong("the URL is none: it must be like https://shop.test/orders".into())
        })?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("the URL must begin with http:// or https://".into())),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| wrong("the URL names no host".into()))?;
        if authority.as_str().contains('@') {
            return Err(wrong(
                "the URL holds a user: give it as a header Authorization instead".into(),
            ));
        }
        let method = Method::from_bytes(question.method.as_bytes())
            .map_err(|_| wrong(format!("{:?} is no method", question.method)))?;
        let path = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .version(Version::HTTP_11)
            .body(())
            .map_err(|error| wrong(format!("the URL: {error}")))?;
        let headers = request.headers_mut();
        for (name, value) in &question.headers {
            // The value may be a secret: only the name is told.
            let key = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| wrong(format!("{name:?} is no name of a header")))?;
            let value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| wrong(format!("the value of {name} cannot stand in a header")))?;
            headers.append(key, value);
        }
        if !headers.contains_key(HOST) {
            let host = HeaderValue::try_from(authority.as_str())
                .map_err(|_| wrong("the URL's host cannot stand in a header".into()))?;
            headers.insert(HOST, host);
        }
        let body = STANDARD
            .decode(&question.body)
            .map_err(|_| wrong("the body is no base64".into()))?;
        if !body.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let sni = Host::parse(authority.as_str().as_bytes())
            .filter(|_| tls)
            .map(|host| host.name.into());
        Ok(Self {
            tls,
            port: authority.port_u16(),
            sni,
            head: request.into_parts().0,
            body,
        })
    }

    /// The ports that the URL may mean: by the number that clients see or that the proxy has opened; without a number also
    /// every port of the scheme.
    fn ports<'r>(&self, runtime: &'r Runtime) -> Result<Vec<&'r Arc<Port>>, Error> {
        let default = if self.tls { 443 } else { 80 };
        let wanted = self.port.unwrap_or(default);
        let all: Vec<_> = runtime
            .ports
            .values()
            .filter(|port| port.tls.is_some() == self.tls)
            .collect();
        let named = |port: &&&Arc<Port>| port.public_port == wanted || port.number == wanted;
        let meant: Vec<_> = all.iter().filter(named).copied().collect();
        if !meant.is_empty() {
            return Ok(meant);
        }
        if self.port.is_none() && !all.is_empty() {
            return Ok(all);
        }
        let there: Vec<String> = runtime
            .ports
            .values()
            .map(|port| {
                let scheme = if port.tls.is_some() { "https" } else { "http" };
                format!("{scheme} on {}", port.public_port)
            })
            .collect();
        let scheme = if self.tls { "https" } else { "http" };
        let there = if there.is_empty() {
            "there is none at all".to_owned()
        } else {
            format!("there are {}", there.join(", "))
        };
        Err(Error::Port(format!(
            "no listener serves {scheme} on port {wanted}: {there}"
        )))
    }

    async fn explain(
        &self,
        runtime: &Arc<Runtime>,
        settings: &Arc<Settings>,
        port: &Arc<Port>,
    ) -> Result<Explanation, Error> {
        clock::tick();
        let worker = Worker::aside(
            Arc::new(ArcSwap::new(Arc::clone(runtime))),
            Arc::clone(settings),
            WorkerMetrics::nowhere(),
        );
        let conn = Rc::new(Conn {
            worker: Rc::new(worker),
            peer: Peer::new(
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                &settings.trusted_proxies,
                self.tls,
                port.number,
                port.public_port,
            ),
            state: ConnState::new(),
            stalls: None,
            next: Cell::new(0),
            sni: self.sni.clone(),
            also: RefCell::default(),
        });
        let mut record = Record::begin();
        let (mut head, mut body) = (
            self.head.clone(),
            RequestBody::held(self.body.clone().into()),
        );
        let id = request_id(&head.headers, &conn.peer, &conn.worker.dice);
        let mut edits = ResponseEdits::default();
        let mut passage = Passage::rehearsal(&conn, &mut record, &id, &mut edits);
        let prepared = passage.prepare(&mut head, &mut body).await;
        let caller = passage.caller;
        // As it was understood, before any plugin changed it.
        let mut admitted = self.head.clone();
        let understood = admit(&mut admitted, &conn.peer, &settings.limits).ok();
        let scene = compose::Scene {
            runtime,
            port,
            admitted: &admitted,
            host_len: understood.map(|admitted| admitted.host_len),
            record: &record,
            caller: &caller,
            dice: &conn.worker.dice,
        };
        let ended = match prepared {
            Ok(Prepared::Respond(response)) => compose::Ended::Answered(response),
            Ok(Prepared::Forward(ready)) => {
                compose::Ended::Forwarded(Box::new(ready), Box::new(head), body)
            }
            Err(failure) => compose::Ended::Failed(failure),
        };
        Ok(scene.explanation(ended))
    }
}
