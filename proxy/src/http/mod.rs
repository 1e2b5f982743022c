//! Hygiene: what a request must look like before anything is decided on it.
//!
//! Everything behind this module sees one host, one canonical path, no header of this connection only, and none that
//! pretends to come from the gateway.

pub(crate) mod forwarded;
pub(crate) mod host;
pub(crate) mod names;
pub(crate) mod path;
pub(crate) mod request_id;

use http::header::{CONNECTION, HOST, TE, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request};

use crate::limits::Limits;
use crate::respond::{Asker, Failure, X_REQUEST_ID, is_grpc};
use forwarded::Peer;
use host::Host;
use names::{Class, classify};
use request_id::{Dice, RequestId, is_sane};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What was found out about a request that is fit to be served.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Length of the host's name in the Host header, the port apart.
    pub(crate) host_len: usize,
    /// The protocol that the client would like to change to.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Whether the client reads trailers.
    pub(crate) trailers: bool,
    /// More than one Authorization line.
    pub(crate) several_authorizations: bool,
}

/// What one look at all headers shows.
#[derive(Debug, Default)]
struct Survey {
    hosts: u8,
    authorizations: u8,
    request_ids: u8,
    traceparents: u8,
    lengths: u8,
    encodings: u8,
    connection: bool,
    te: bool,
    upgrade: bool,
    expect: bool,
    remove: Vec<HeaderName>,
}

impl Survey {
    fn of(headers: &HeaderMap, peer: &Peer) -> Self {
        let mut survey = Self::default();
        for name in headers.keys() {
            match classify(name) {
                Class::Other => {}
                Class::Host => survey.hosts = count(headers, name),
                Class::Authorization => survey.authorizations = count(headers, name),
                Class::RequestId => survey.request_ids = count(headers, name),
                Class::TraceParent => survey.traceparents = count(headers, name),
                Class::ContentLength => survey.lengths = count(headers, name),
                Class::TransferEncoding => survey.encodings = count(headers, name),
                Class::Connection => survey.connection = true,
                Class::Te => survey.te = true,
                Class::Upgrade => survey.upgrade = true,
                Class::Expect => survey.expect = true,
                Class::Forwarding if peer.trusted && name.as_str().starts_with("x-forwarded-") => {}
                Class::Identity | Class::Hop | Class::Forwarding => {
                    survey.remove.push(name.clone())
                }
            }
        }
        survey
    }
}

fn count(headers: &HeaderMap, name: &HeaderName) -> u8 {
    let mut lines = headers.get_all(name).iter();
    lines.next();
    if lines.next().is_none() { 1 } else { 2 }
}

/// The id of a request: a trusted proxy's, or a new one.
pub(crate) fn request_id(headers: &HeaderMap, peer: &Peer, dice: &Dice) -> RequestId {
    if peer.trusted
        && let Some(id) = headers.get(X_REQUEST_ID).filter(|id| is_sane(id))
    {
        return RequestId::Theirs(id.clone());
    }
    dice.request_id()
}

/// The form that answers to this request have.
pub(crate) fn asker(parts: &request::Parts) -> Asker {
    Asker {
        grpc: is_grpc(&parts.headers),
        http1: parts.version < Version::HTTP_2,
    }
}

/// Makes a request fit to be served, or says why it is not.
pub(crate) fn admit(
    parts: &mut request::Parts,
    peer: &Peer,
    limits: &Limits,
) -> Result<Admitted, Failure> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Failure::MethodNotAllowed);
    }
    if parts.headers.len() > usize::from(limits.max_headers) {
        return Err(Failure::HeadersTooLarge);
    }
    let survey = Survey::of(&parts.headers, peer);
    framing(&survey, parts.version)?;
    expectation(&survey, &mut parts.headers)?;
    let authority = target(parts, limits)?;
    let host_len = host(&survey, parts, authority.as_ref())?;
    let admitted = Admitted {
        host_len,
        upgrade: upgrade(&survey, parts),
        trailers: survey.te && names_token(&parts.headers, &TE, b"trailers"),
        several_authorizations: survey.authorizations > 1,
    };
    strip(survey, &mut parts.headers);
    Ok(admitted)
}

/// One way to find the end of the body.
fn framing(survey: &Survey, version: Version) -> Result<(), Failure> {
    if survey.encodings > 0
        && (survey.lengths > 0 || survey.encodings > 1 || version != Version::HTTP_11)
    {
        return Err(Failure::BadRequest(
            "the length of the request's body is ambiguous",
        ));
    }
    if survey.lengths > 1 {
        return Err(Failure::BadRequest("more than one Content-Length"));
    }
    Ok(())
}

/// 100-continue is answered when the body is first asked for, which is after every plugin.
fn expectation(survey: &Survey, headers: &mut HeaderMap) -> Result<(), Failure> {
    if survey.expect {
        let met = headers
            .get_all(http::header::EXPECT)
            .iter()
            .all(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        headers.remove(http::header::EXPECT);
        if !met {
            return Err(Failure::Expectation);
        }
    }
    Ok(())
}

/// Leaves the canonical path and the query in the target; what else it named is returned.
fn target(
    parts: &mut request::Parts,
    limits: &Limits,
) -> Result<Option<http::uri::Authority>, Failure> {
    let path_and_query = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if path_and_query.len() > limits.max_uri_bytes as usize {
        return Err(Failure::UriTooLong);
    }
    if parts.uri.query().is_some_and(|query| !query.is_ascii()) {
        return Err(Failure::BadRequest(path::BadPath::Raw.message()));
    }
    let canonical =
        path::canonical(parts.uri.path()).map_err(|bad| Failure::BadRequest(bad.message()))?;
    let authority = parts.uri.authority().is_some();
    if canonical.is_none() && !authority {
        return Ok(None);
    }
    let unfit = |_| Failure::BadRequest("the request target is not valid");
    let old = std::mem::take(&mut parts.uri).into_parts();
    let path_and_query = match canonical {
        None => old
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
        Some(mut path) => {
            if let Some(query) = old.path_and_query.as_ref().and_then(PathAndQuery::query) {
                path.push('?');
                path.push_str(query);
            }
            PathAndQuery::try_from(path).map_err(unfit)?
        }
    };
    parts.uri = Uri::from(path_and_query);
    Ok(old.authority)
}

/// Leaves one canonical Host header; the length of its name is returned.
fn host(
    survey: &Survey,
    parts: &mut request::Parts,
    authority: Option<&http::uri::Authority>,
) -> Result<usize, Failure> {
    if survey.hosts > 1 {
        return Err(Failure::BadRequest("more than one Host"));
    }
    let given = parts.headers.get(HOST);
    let named = match (authority, given) {
        (None, None) => return Err(Failure::BadRequest("the Host is missing")),
        (None, Some(given)) => given.as_bytes(),
        (Some(authority), given) => {
            // HTTP/1.1 says which one wins; in HTTP/2 both must be the same.
            let contradicts = |host: &HeaderValue| {
                !host
                    .as_bytes()
                    .eq_ignore_ascii_case(authority.as_str().as_bytes())
            };
            if parts.version == Version::HTTP_2 && given.is_some_and(contradicts) {
                return Err(Failure::BadRequest("the Host contradicts the authority"));
            }
            authority.as_str().as_bytes()
        }
    };
    let host = Host::parse(named).ok_or(Failure::BadRequest("the Host is not valid"))?;
    let len = host.name.len();
    if !given.is_some_and(|given| host.is_spelled(given.as_bytes())) {
        let spelled = HeaderValue::try_from(host.spell())
            .map_err(|_| Failure::BadRequest("the Host is not valid"))?;
        parts.headers.insert(HOST, spelled);
    }
    Ok(len)
}

/// The protocol that the client may change to; never to HTTP/2, whose requests nobody would look at.
fn upgrade(survey: &Survey, parts: &request::Parts) -> Option<HeaderValue> {
    if !survey.upgrade
        || parts.version != Version::HTTP_11
        || !names_token(&parts.headers, &CONNECTION, b"upgrade")
    {
        return None;
    }
    let mut lines = parts.headers.get_all(UPGRADE).iter();
    let only = lines.next()?;
    let protocol = only.as_bytes().trim_ascii();
    let one = lines.next().is_none() && !protocol.is_empty() && !protocol.contains(&b',');
    let tunnels_http = protocol.len() >= 2
        && protocol
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"h2"));
    let http = protocol
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"http"));
    let tls = protocol
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"tls"));
    (one && !tunnels_http && !http && !tls).then(|| only.clone())
}

/// Whether a list header contains a token.
pub(crate) fn names_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    headers.get_all(name).iter().any(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
    })
}

/// Removes what must not be passed on; what the gateway itself says is added later, out of the client's reach.
fn strip(survey: Survey, headers: &mut HeaderMap) {
    if survey.connection {
        remove_named(headers);
        headers.remove(CONNECTION);
    }
    if survey.te {
        headers.remove(TE);
    }
    if survey.upgrade {
        headers.remove(UPGRADE);
    }
    if survey.encodings > 0 {
        headers.remove(http::header::TRANSFER_ENCODING);
    }
    for name in survey.remove {
        headers.remove(name);
    }
    let traced = survey.traceparents == 1 && headers.get(TRACEPARENT).is_some_and(is_traceparent);
    if survey.traceparents > 0 && !traced {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

/// Removes the headers that Connection names, but for those that routing and framing rest on.
pub(crate) fn remove_named(headers: &mut HeaderMap) {
    const KEPT: [&[u8]; 9] = [
        b"close",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"",
    ];
    let mut named = Vec::new();
    for line in headers.get_all(CONNECTION) {
        for item in line
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
        {
            if !KEPT.iter().any(|kept| item.eq_ignore_ascii_case(kept))
                && let Ok(name) = HeaderName::from_bytes(item)
            {
                named.push(name);
            }
        }
    }
    for name in named {
        headers.remove(name);
    }
}

/// Version 00 of the W3C trace context, or a later one that begins like it.
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let hex = |part: &[u8]| {
        part.iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let mut fields = bytes.split(|byte| *byte == b'-');
    let mut field = |len: usize| {
        fields
            .next()
            .is_some_and(|part| part.len() == len && hex(part))
    };
    bytes.len() >= 55 && field(2) && field(32) && field(16) && field(2) && !bytes.starts_with(b"ff")
}

#[cfg(test)]
mod tests;
