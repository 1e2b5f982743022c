//! Every answer that the gateway gives in its own name, in one place.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use plugins::handler::{Answer, Refusal};

use crate::body::Body;
use crate::http::request_id::RequestId;

/// The request's identity, in answers and towards upstreams.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Why a request is not served by its upstream.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request breaks a rule of HTTP, or can be read in more than one way.
    BadRequest(&'static str),
    /// The request's body breaks a rule of HTTP, or the client went away in the middle of it.
    BadBody,
    /// The client is too slow in sending the body.
    BodyTimeout,
    /// The target is longer than is allowed.
    UriTooLong,
    /// The headers are longer, or more, than is allowed.
    HeadersTooLarge,
    /// CONNECT, TRACE.
    MethodNotAllowed,
    /// `Expect:` something else than 100-continue.
    Expectation,
    /// A host of another listener than the one that the TLS handshake named.
    Misdirected,
    /// No route matches.
    NoRoute,
    /// The rule, or one of its plugins, cannot be resolved: the text is for the log.
    Incomplete(std::sync::Arc<str>),
    /// The rule has no backend that could be asked.
    NoBackend(&'static str),
    /// A plugin says no.
    Refused(Refusal),
    /// A plugin answers itself.
    Answered(Box<Answer>),
    /// An explanation goes no further: a plugin would ask somebody else, or change something.
    Undecided,
    /// The Service has no endpoint that is ready.
    NoEndpoint,
    /// No endpoint takes the connection.
    Connect,
    /// No endpoint takes the connection in time.
    ConnectTimeout,
    /// The upstream has as much as its policy allows.
    Overloaded(crate::metrics::Overflow),
    /// The upstream closed the connection before it answered.
    Closed,
    /// The upstream's answer breaks a rule of HTTP.
    BadResponse,
    /// The upstream's answer did not begin in time.
    ResponseTimeout,
}

impl Failure {
    /// The status of the answer.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Incomplete(_) | Self::NoBackend(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Refused(refusal) => refusal.status,
            Self::Answered(answer) => answer.status,
            Self::Undecided => StatusCode::NOT_IMPLEMENTED,
            Self::NoEndpoint | Self::Overloaded(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect | Self::Closed | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Short and constant, for the log and the metric.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::BadBody => "bad_body",
            Self::BodyTimeout => "body_timeout",
            Self::UriTooLong => "uri_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Expectation => "expectation",
            Self::Misdirected => "misdirected",
            Self::NoRoute => "no_route",
            Self::Incomplete(_) => "incomplete",
            Self::NoBackend(_) => "no_backend",
            Self::Refused(refusal) => refusal.reason,
            Self::Answered(answer) => answer.reason,
            Self::Undecided => "undecided",
            Self::NoEndpoint => "no_endpoint",
            Self::Overloaded(what) => what.label(),
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Closed => "upstream_closed",
            Self::BadResponse => "bad_response",
            Self::ResponseTimeout => "response_timeout",
        }
    }

    /// Whether another endpoint may be tried: only where nothing of the request can have reached an upstream.
    pub(crate) const fn may_retry(&self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout)
    }

    /// Whether an endpoint has failed, so that another try may end better.
    pub(crate) const fn is_upstreams(&self) -> bool {
        matches!(
            self,
            Self::Connect
                | Self::ConnectTimeout
                | Self::Closed
                | Self::BadResponse
                | Self::ResponseTimeout
        )
    }

    /// What a client is told.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::BadRequest(message) | Self::NoBackend(message) => message,
            Self::BadBody => "the request's body could not be read",
            Self::BodyTimeout => "the request's body did not arrive in time",
            Self::UriTooLong => "the request's target is too long",
            Self::HeadersTooLarge => "the request's headers are too large",
            Self::MethodNotAllowed => "this method is not allowed here",
            Self::Expectation => "this expectation cannot be met",
            Self::Misdirected => "this connection does not serve the host",
            Self::NoRoute => "no route matches the request",
            Self::Incomplete(_) => "the gateway's configuration of this route is incomplete",
            Self::Refused(refusal) => &refusal.message,
            Self::Undecided => "an explanation goes no further than this",
            Self::Answered(_) => "the gateway asks for something that gRPC cannot give",
            Self::NoEndpoint => "the upstream has no endpoint that is ready",
            Self::Overloaded(_) => "the upstream has as many requests as it may have",
            Self::Connect => "the upstream cannot be reached",
            Self::ConnectTimeout => "the upstream cannot be reached in time",
            Self::Closed => "the upstream closed the connection without an answer",
            Self::BadResponse => "the upstream's answer is not valid",
            Self::ResponseTimeout => "the upstream did not answer in time",
        }
    }

    /// What a client is told, as JSON: `{"message": …}` unless a plugin says otherwise.
    fn json(&self) -> Bytes {
        match self {
            Self::Refused(refusal) if !refusal.members.is_empty() => {
                let members = refusal.members.iter();
                let members = members.map(|(name, text)| ((*name).to_owned(), (*text).into()));
                Bytes::from(serde_json::Value::Object(members.collect()).to_string())
            }
            _ => json(self.message()),
        }
    }

    /// Whether what follows on the same connection cannot be told from this request.
    const fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_) | Self::BadBody | Self::BodyTimeout
        )
    }
}

/// Who asked, as far as the form of the answer depends on it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asker {
    pub(crate) grpc: bool,
    pub(crate) http1: bool,
}

/// Answers in the gateway's own name.
pub(crate) fn answer(
    failure: &Failure,
    asker: Asker,
    request_id: Option<&RequestId>,
) -> Response<Body> {
    let mut response = match failure {
        _ if asker.grpc => grpc(failure),
        Failure::Answered(answer) => {
            let mut response = Response::new(Body::full(answer.body.clone()));
            *response.status_mut() = answer.status;
            response.headers_mut().clone_from(&answer.headers);
            response
        }
        _ => {
            let mut response = Response::new(Body::full(failure.json()));
            *response.status_mut() = failure.status();
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
    };
    let headers = response.headers_mut();
    if let Some(id) = request_id {
        headers.insert(X_REQUEST_ID, id.header());
    }
    if let Failure::Refused(refusal) = failure {
        for challenge in &refusal.challenges {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        }
    }
    if let Failure::MethodNotAllowed = failure {
        const ALLOW: HeaderValue =
            HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        headers.insert(http::header::ALLOW, ALLOW);
    }
    if failure.closes() && asker.http1 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A redirect of a route.
pub(crate) fn redirect(
    status: StatusCode,
    location: HeaderValue,
    request_id: Option<&RequestId>,
) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::LOCATION, location);
    if let Some(id) = request_id {
        response.headers_mut().insert(X_REQUEST_ID, id.header());
    }
    response
}

/// Whether a gRPC client asks: it reads statuses from `grpc-status` only.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .get(..16)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
    })
}

/// A response that consists of trailers only.
fn grpc(failure: &Failure) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(grpc_status(failure)));
    headers.insert(GRPC_MESSAGE, grpc_message(failure.message()));
    response
}

/// The gRPC status code of a failure.
const fn grpc_status(failure: &Failure) -> &'static str {
    const DEADLINE_EXCEEDED: &str = "4";
    match failure {
        Failure::NoRoute => "12",
        Failure::ConnectTimeout | Failure::ResponseTimeout | Failure::BodyTimeout => {
            DEADLINE_EXCEEDED
        }
        _ => match failure.status().as_u16() {
            300..=399 | 401 => "16",
            403 => "7",
            404 | 405 => "12",
            408 => DEADLINE_EXCEEDED,
            413 | 429 | 431 => "8",
            502..=504 => "14",
            _ => "13",
        },
    }
}

/// Percent-encodes what `grpc-message` must not hold.
fn grpc_message(message: &str) -> HeaderValue {
    const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    let text = percent_encoding::utf8_percent_encode(message, ENCODED).to_string();
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("failed"))
}

/// `{"message": …}`
fn json(message: &str) -> Bytes {
    let text = serde_json::Value::from(message).to_string();
    Bytes::from(["{\"message\":", &text, "}"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugins::handler::Refusal;

    fn refused(status: StatusCode) -> Failure {
        Failure::Refused(Refusal {
            status,
            message: "No \"API\" key".into(),
            members: Vec::new(),
            challenges: vec![HeaderValue::from_static("Key")],
            reason: "no_key",
        })
    }

    #[test]
    fn messages_are_json() {
        assert_eq!(json("a \"b\"\n"), r#"{"message":"a \"b\"\n"}"#);
    }

    #[test]
    fn a_refusal_challenges_and_names_the_request() {
        let id = RequestId::Theirs(HeaderValue::from_static("abc"));
        let response = answer(
            &refused(StatusCode::UNAUTHORIZED),
            Asker::default(),
            Some(&id),
        );
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Key");
        assert_eq!(response.headers()[X_REQUEST_ID], "abc");
        assert_eq!(
            response.headers()[CONTENT_TYPE],
            "application/json; charset=utf-8"
        );
        assert!(!response.headers().contains_key(CONNECTION));
    }

    #[test]
    fn a_refusal_may_have_members_of_its_own() {
        let Failure::Refused(mut refusal) = refused(StatusCode::UNAUTHORIZED) else {
            unreachable!()
        };
        refusal.members = vec![("exp", "token expired"), ("nbf", "must be a number")];
        assert_eq!(
            Failure::Refused(refusal).json(),
            r#"{"exp":"token expired","nbf":"must be a number"}"#
        );
    }

    #[test]
    fn grpc_clients_get_trailers_only() {
        for (failure, code) in [
            (refused(StatusCode::UNAUTHORIZED), "16"),
            (refused(StatusCode::FORBIDDEN), "7"),
            (Failure::NoRoute, "12"),
            (Failure::NoEndpoint, "14"),
            (Failure::Connect, "14"),
            (Failure::ResponseTimeout, "4"),
            (Failure::Incomplete("".into()), "13"),
            (refused(StatusCode::PAYLOAD_TOO_LARGE), "8"),
        ] {
            let response = answer(
                &failure,
                Asker {
                    grpc: true,
                    http1: false,
                },
                None,
            );
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[GRPC_STATUS], code, "{failure:?}");
        }
    }

    #[test]
    fn only_what_was_never_sent_may_be_tried_again() {
        assert!(Failure::Connect.may_retry() && Failure::ConnectTimeout.may_retry());
        assert!(!Failure::Closed.may_retry() && !Failure::ResponseTimeout.may_retry());
    }

    #[test]
    fn ambiguous_requests_end_the_connection() {
        let asker = Asker {
            grpc: false,
            http1: true,
        };
        assert_eq!(
            answer(&Failure::BadRequest("x"), asker, None).headers()[CONNECTION],
            "close"
        );
    }
}
