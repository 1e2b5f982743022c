//! What the endpoints answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use store::Unavailable;

use super::secrets::NoRandomness;
use crate::handler::Answer;

/// All that RFC 3986 does not leave alone.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An error of RFC 6749.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: &'static str,
    pub(super) description: Cow<'static, str>,
    pub(super) status: StatusCode,
    pub(super) challenge: Option<HeaderValue>,
}

impl Failure {
    /// One with status 400.
    pub(super) fn bad(error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self {
            error,
            description: description.into(),
            status: StatusCode::BAD_REQUEST,
            challenge: None,
        }
    }

    /// The application is not who it says.
    pub(super) fn client() -> Self {
        Self::bad("invalid_client", "Invalid client authentication")
    }

    /// The same, with 401 and how to authenticate.
    pub(super) fn client_challenged() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: Some(HeaderValue::from_static("Basic realm=\"OAuth2.0\"")),
            ..Self::client()
        }
    }

    /// As JSON.
    pub(super) fn answer(self, state: Option<&str>) -> Answer {
        let mut members = Map::new();
        members.insert("error".to_owned(), self.error.into());
        members.insert("error_description".to_owned(), self.description.into());
        let mut answer = json(self.status, with_state(members, state), self.error);
        if let Some(challenge) = self.challenge {
            answer.headers.insert(WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

/// Why an endpoint gives nothing.
#[derive(Debug)]
pub(super) enum Refused {
    Failed(Failure),
    /// The store does not answer, or there is no randomness.
    Unavailable,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unavailable> for Refused {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl From<NoRandomness> for Refused {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::Unavailable
    }
}

impl Refused {
    pub(super) fn answer(self, state: Option<&str>) -> Answer {
        match self {
            Self::Failed(failure) => failure.answer(state),
            Self::Unavailable => {
                let failure = Failure {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    ..Failure::bad("temporarily_unavailable", "The token store does not answer")
                };
                let mut answer = failure.answer(state);
                answer
                    .headers
                    .insert(RETRY_AFTER, HeaderValue::from(Unavailable::RETRY_AFTER));
                answer.reason = "store_unavailable";
                answer
            }
        }
    }
}

/// Members with the state that the client sent.
pub(super) fn with_state(
    mut members: Map<String, Value>,
    state: Option<&str>,
) -> Map<String, Value> {
    if let Some(state) = state {
        members.insert("state".to_owned(), state.into());
    }
    members
}

/// An answer that nobody may keep.
pub(super) fn json(
    status: StatusCode,
    members: Map<String, Value>,
    reason: &'static str,
) -> Answer {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    let body = Value::Object(members).to_string();
    Answer {
        status,
        headers,
        body: Bytes::from(body),
        reason,
    }
}

/// The answer to another method than POST.
pub(super) fn wrong_method(method: &http::Method, endpoint: &str) -> Answer {
    let description = format!("The HTTP method {method} is invalid for the {endpoint} endpoint");
    let challenge = format!("Bearer error=\"invalid_method\", error_description=\"{description}\"");
    let failure = Failure {
        status: StatusCode::METHOD_NOT_ALLOWED,
        // A method is a token: it needs no escapes and fits into a header.
        challenge: HeaderValue::try_from(challenge).ok(),
        ..Failure::bad("invalid_method", description)
    };
    let mut answer = failure.answer(None);
    answer
        .headers
        .insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}

/// `{"redirect_uri": …}`: where the login page shall send the user.
pub(super) fn redirect(status: StatusCode, uri: String, reason: &'static str) -> Answer {
    let mut members = Map::new();
    members.insert("redirect_uri".to_owned(), uri.into());
    json(status, members, reason)
}

/// Parameters behind the query of a redirect URI, which is kept as it is.
pub(super) fn in_query(uri: &str, parameters: &[(&str, &str)]) -> String {
    let separator = match uri.rsplit_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{uri}{separator}{}", encode(parameters))
}

/// Parameters as the fragment of a redirect URI, which has none.
pub(super) fn in_fragment(uri: &str, parameters: &[(&str, &str)]) -> String {
    format!("{uri}#{}", encode(parameters))
}

fn encode(parameters: &[(&str, &str)]) -> String {
    let pairs = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, RESERVED)));
    pairs.collect::<Vec<_>>().join("&")
}
