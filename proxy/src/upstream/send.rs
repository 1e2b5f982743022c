//! Sends a request and waits for the head of the response.

use std::future::{Future, poll_fn};
use std::pin::pin;

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;
use snapshot::proto::upstream::Scheme;
use tokio::time::Instant;

use super::balance::{Active, pick};
use super::connect;
use super::limits::{Permit, Turn};
use super::patience::{Allowed, Patience};
use super::pool::{Home, Lease, Line};
use super::secure::Connector;
use super::waits::Waits;
use crate::body::{Fault, Progress, RequestBody};
use crate::clock;
use crate::metrics::Event;
use crate::record::Record;
use crate::respond::Failure;
use crate::runtime::{Endpoint, Upstream};
use crate::worker::Worker;

/// How many endpoints a request is offered to.
const ATTEMPTS: u8 = 3;

/// A request that is ready to leave.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) head: request::Parts,
    pub(crate) body: RequestBody,
    /// The protocol that the client would like to change to.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Whether the client reads trailers.
    pub(crate) trailers: bool,
    /// When the response must have begun, as the route says.
    pub(crate) deadline: Option<Instant>,
    /// How to connect to an upstream that speaks TLS.
    pub(crate) connector: Option<Arc<Connector>>,
    /// Requests with the same one go to the same endpoint.
    pub(crate) key: Option<u64>,
    /// What the rule says about it.
    pub(crate) patience: Patience,
}

/// Why one try came to nothing, and what is left of the request.
struct Lost {
    failure: Failure,
    /// Present where nothing of it was sent.
    request: Option<Request<RequestBody>>,
}

/// A request in its upstream's form, and what it waits for.
struct Outgoing {
    request: Request<RequestBody>,
    http2: bool,
    connector: Option<Arc<Connector>>,
    wait: Wait,
}

impl Outgoing {
    fn new(worker: &Worker, upstream: &Upstream, forward: Forward) -> Result<Self, Failure> {
        let connector = forward.connector.clone();
        let http2 = match (upstream.scheme, connector.as_deref()) {
            (Scheme::Http1, _) => false,
            (Scheme::H2c, _) => true,
            (Scheme::Https, Some(connector)) => match &connector.config {
                Ok(_) => connector.http2,
                Err(why) => return Err(Failure::Incomplete(Arc::clone(why))),
            },
            // Nothing says whose certificate would be right.
            (Scheme::Https, None) => {
                return Err(Failure::Incomplete(Arc::from(
                    "the upstream speaks TLS, and there is no policy to check its certificate by",
                )));
            }
        };
        let wait = Wait {
            deadline: forward.deadline,
            allowed: forward
                .patience
                .or(upstream.patience())
                .within(&worker.settings.timeouts),
            progress: forward.body.progress(),
        };
        let request = prepare(forward, http2)?;
        Ok(Self {
            request,
            http2,
            connector,
            wait,
        })
    }
}

/// Forwards a request to one of the upstream's endpoints.
pub(crate) async fn forward(
    worker: &Worker,
    upstream: &Upstream,
    forward: Forward,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Failure> {
    // Made by a function of its own: what it takes apart need not be kept while the upstream is waited for.
    let key = forward.key;
    let Outgoing {
        request,
        http2,
        connector,
        wait,
    } = Outgoing::new(worker, upstream, forward)?;
    let under_way = upstream.enter()?;
    let mut _again = None;
    let connector = connector.as_deref();
    let mut request = Some(request);
    // Endpoints that take no connection.
    let mut dead = Vec::new();
    let mut last = Failure::NoEndpoint;
    loop {
        let endpoint = {
            let set = upstream.endpoints.load();
            Arc::clone(pick(&set, &dead, key, &worker.dice).ok_or(last)?)
        };
        let Some(now) = request.take() else {
            return Err(Failure::Closed);
        };
        record.endpoint = Some(endpoint.address);
        record.attempts = record.attempts.saturating_add(1);
        let sent = if http2 {
            over_http2(worker, (&endpoint, connector), now, &wait).await
        } else {
            over_http1(worker, upstream, (&endpoint, connector), now, &wait).await
        };
        let lost = match sent {
            Ok((response, mut lease)) => {
                upstream.answered(&endpoint, response.status());
                lease.active.enter(under_way);
                return Ok((response, lease));
            }
            Err(lost) => lost,
        };
        upstream.failed(&endpoint, &lost.failure);
        if lost.request.is_none() || record.attempts >= ATTEMPTS || wait.is_over() {
            return Err(lost.failure);
        }
        if lost.failure.may_retry() {
            dead.push(endpoint.address);
        }
        match upstream.again() {
            Ok(again) => _again = again,
            Err(_) => return Err(lost.failure),
        }
        worker.metrics.event(Event::Retried);
        request = lost.request;
        last = lost.failure;
    }
}

/// How long to wait for a response.
struct Wait {
    deadline: Option<Instant>,
    /// Where the route sets no deadline.
    allowed: Allowed,
    progress: Option<Rc<Progress>>,
}

impl Wait {
    fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits. While the client still sends its body, the upstream need not answer, but it must take what there is.
    async fn for_response<T>(
        &self,
        waits: &Waits,
        response: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        if let Some(deadline) = self.deadline {
            return tokio::time::timeout_at(deadline, response)
                .await
                .map_err(|_| Failure::ResponseTimeout);
        }
        if self.allowed.response.is_zero() && self.allowed.send.is_zero() {
            return Ok(response.await);
        }
        let mut response = pin!(response);
        let mut waiting = None;
        let mut sent = self.sent();
        poll_fn(|cx| {
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            let patience = |sent: Option<u32>| match sent {
                Some(_) => self.allowed.send,
                None => self.allowed.response,
            };
            let waiting = waiting.get_or_insert_with(|| waits.begin(patience(sent), cx));
            if !waiting.is_over(cx) {
                return Poll::Pending;
            }
            let now = self.sent();
            if sent.is_none() || (now == sent && self.is_stuck()) {
                return Poll::Ready(Err(Failure::ResponseTimeout));
            }
            // From the end of the body on the upstream has all the time again.
            sent = now;
            waiting.again(patience(sent));
            Poll::Pending
        })
        .await
    }

    /// How many pieces of the body the upstream has taken; none: there is nothing more to send.
    fn sent(&self) -> Option<u32> {
        let progress = self.progress.as_ref()?;
        (!progress.done.get()).then(|| progress.taken.get())
    }

    /// Whether it is the upstream that does not go on with the body, and not the client.
    fn is_stuck(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(|progress| !progress.owed.get())
    }

    /// Whose fault it is that no response came: the client's, where its body broke off.
    fn failure(&self, error: &hyper::Error) -> Failure {
        match self
            .progress
            .as_ref()
            .and_then(|progress| progress.fault.get())
        {
            Some(Fault::TooSlow) => Failure::BodyTimeout,
            Some(Fault::TooLong) => crate::extras::too_long(),
            Some(_) => Failure::BadBody,
            None if error.is_parse() => Failure::BadResponse,
            None => Failure::Closed,
        }
    }
}

/// Gives a request the form that the upstream's protocol wants.
fn prepare(forward: Forward, http2: bool) -> Result<Request<RequestBody>, Failure> {
    let encrypted = forward.connector.is_some();
    let Forward {
        mut head,
        body,
        upgrade,
        trailers,
        ..
    } = forward;
    if http2 {
        head.version = Version::HTTP_2;
        let host = head
            .headers
            .remove(HOST)
            .ok_or(Failure::BadRequest("the Host is missing"))?;
        let mut uri = std::mem::take(&mut head.uri).into_parts();
        uri.scheme = Some(if encrypted {
            http::uri::Scheme::HTTPS
        } else {
            http::uri::Scheme::HTTP
        });
        uri.authority = http::uri::Authority::try_from(host.as_bytes()).ok();
        head.uri = Uri::from_parts(uri)
            .map_err(|_| Failure::BadRequest("the request target is not valid"))?;
        if trailers {
            head.headers
                .insert(TE, HeaderValue::from_static("trailers"));
        }
        return Ok(Request::from_parts(head, body));
    }
    head.version = Version::HTTP_11;
    // hyper takes a GET without framing for one without a body, whatever the body says.
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        head.headers
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocol) = upgrade {
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
    } else if trailers {
        head.headers
            .insert(TE, HeaderValue::from_static("trailers"));
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(Request::from_parts(head, body))
}

async fn over_http1(
    worker: &Worker,
    upstream: &Upstream,
    (endpoint, connector): (&Arc<Endpoint>, Option<&Connector>),
    request: Request<RequestBody>,
    wait: &Wait,
) -> Result<(Response<Incoming>, Lease), Lost> {
    let active = Active::new(endpoint);
    let home = home(worker, endpoint, connector);
    let mut request = request;
    let mut idle = home.checkout().await;
    let mut permit = None;
    if idle.is_none() && upstream.limits_connections() {
        // Rare, and in a box, so that other requests do not carry it about.
        match Box::pin(take_turn(upstream, &home, wait)).await {
            Ok(Way::Idle(line)) => idle = Some(line),
            Ok(Way::New(granted)) => permit = granted,
            Err(failure) => return Err(not_sent(failure, request)),
        }
    }
    if let Some(mut line) = idle {
        let copy = repeatable(&request);
        let lost = match send(&worker.waits, &mut line.sender.http, request, wait).await {
            Ok(response) => return Ok(finish(response, line, home, active)),
            Err(lost) => lost,
        };
        // The endpoint may have closed the idle connection while the request was on its way.
        request = match (lost.request, copy) {
            (Some(request), _) => request,
            (None, Some(copy)) if matches!(lost.failure, Failure::Closed) => copy,
            (None, _) => {
                return Err(Lost {
                    failure: lost.failure,
                    request: None,
                });
            }
        };
        worker.metrics.event(Event::Retried);
        // The new connection takes the place of the one that was closed.
        permit = line.permit.take();
    }
    let mut line =
        match connect::http1(worker, endpoint, connector, permit, wait.allowed.connect).await {
            Ok(line) => line,
            Err(failure) => return Err(not_sent(failure, request)),
        };
    let response = send(&worker.waits, &mut line.sender.http, request, wait).await?;
    Ok(finish(response, line, home, active))
}

/// How a request gets a connection.
enum Way {
    Idle(Line),
    New(Option<Arc<Permit>>),
}

/// Waits for a connection, or for the right to open one.
async fn take_turn(upstream: &Upstream, home: &Home, wait: &Wait) -> Result<Way, Failure> {
    let until = Instant::now() + wait.allowed.connect;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let turn = upstream.turn(Some(home), left);
        let turn = match wait.deadline {
            None => turn.await,
            Some(deadline) => tokio::time::timeout_at(deadline, turn)
                .await
                .map_err(|_| Failure::ResponseTimeout)?,
        };
        match turn? {
            None => return Ok(Way::New(None)),
            Some(Turn::Open(permit)) => return Ok(Way::New(Some(permit))),
            // Somebody else may have been quicker.
            Some(Turn::Freed) => {
                if let Some(line) = home.checkout().await {
                    return Ok(Way::Idle(line));
                }
            }
        }
    }
}

/// The connections that may carry a request to an endpoint.
fn home(worker: &Worker, endpoint: &Endpoint, connector: Option<&Connector>) -> Rc<Home> {
    match connector {
        None => worker.pools.home(endpoint.address),
        Some(connector) => worker.pools.secure_home(endpoint.address, connector.id),
    }
}

/// A request that no endpoint has seen.
fn not_sent(failure: Failure, request: Request<RequestBody>) -> Lost {
    let request = failure.may_retry().then_some(request);
    Lost { failure, request }
}

async fn send(
    waits: &Waits,
    sender: &mut hyper::client::conn::http1::SendRequest<RequestBody>,
    request: Request<RequestBody>,
    wait: &Wait,
) -> Result<Response<Incoming>, Lost> {
    match wait
        .for_response(waits, sender.try_send_request(request))
        .await
    {
        // Two ways to tell the length: nobody knows where the response ends.
        Ok(Ok(response)) if has_two_lengths(response.headers()) => Err(Lost {
            failure: Failure::BadResponse,
            request: None,
        }),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(mut error)) => {
            let request = error.take_message();
            Err(Lost {
                failure: wait.failure(error.error()),
                request,
            })
        }
        Err(failure) => Err(Lost {
            failure,
            request: None,
        }),
    }
}

fn has_two_lengths(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}

/// A second copy of a request that may be sent twice.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn finish(
    response: Response<Incoming>,
    line: Line,
    home: Rc<Home>,
    mut active: Active,
) -> (Response<Incoming>, Lease) {
    active.permit(line.permit);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        active.spend();
    }
    let lease = Lease {
        sender: Some(line.sender),
        home,
        active,
    };
    (response, lease)
}

async fn over_http2(
    worker: &Worker,
    (endpoint, connector): (&Arc<Endpoint>, Option<&Connector>),
    request: Request<RequestBody>,
    wait: &Wait,
) -> Result<(Response<Incoming>, Lease), Lost> {
    let active = Active::new(endpoint);
    let home = home(worker, endpoint, connector);
    let mut shared =
        match connect::http2(worker, &home, endpoint, connector, wait.allowed.connect).await {
            Ok(shared) => shared,
            Err(failure) => return Err(not_sent(failure, request)),
        };
    let began = clock::millis();
    match wait
        .for_response(&worker.waits, shared.sender.try_send_request(request))
        .await
    {
        Ok(Ok(response)) => {
            shared.heard.set(clock::millis());
            let lease = Lease {
                sender: None,
                home,
                active,
            };
            Ok((response, lease))
        }
        Ok(Err(mut error)) => {
            let request = error.take_message();
            Err(Lost {
                failure: wait.failure(error.error()),
                request,
            })
        }
        Err(failure) => {
            home.doubt(&shared, began);
            Err(Lost {
                failure,
                request: None,
            })
        }
    }
}
