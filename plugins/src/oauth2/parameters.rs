//! Parameters of the endpoints: in the query string and in the body, where the body's count.

use super::answer::{Failure, Refused};
use crate::fields::{Field, Format, Unreadable};
use crate::handler::{BodyError, Exchange, RequestBody};

/// The longest body that an endpoint reads.
const MAX_BODY: usize = 64 << 10;

/// The parameters that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    ProvisionKey,
    AuthenticatedUserid,
    ResponseType,
    GrantType,
    ClientId,
    ClientSecret,
    RedirectUri,
    Scope,
    State,
    Code,
    CodeChallenge,
    CodeChallengeMethod,
    CodeVerifier,
    RefreshToken,
    Token,
}

/// In the order of [`Name`].
const NAMES: [&str; 15] = [
    "provision_key",
    "authenticated_userid",
    "response_type",
    "grant_type",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "refresh_token",
    "token",
];

/// What was given under a name.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Absent,
    Text(String),
    /// A number, a name without a value, bytes that are no text …
    NotText,
    Repeated,
}

/// All that was given.
pub(super) struct Parameters(Vec<Value>);

impl Value {
    fn of(field: &Field<'_>) -> Self {
        match field {
            Field::Absent => Self::Absent,
            Field::NotText => Self::NotText,
            Field::Repeated => Self::Repeated,
            // RFC 6749, section 3.1: what has no value counts as left out.
            Field::Text(text) if text.is_empty() => Self::Absent,
            Field::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::NotText,
            },
        }
    }
}

impl Parameters {
    /// Reads what the request says.
    pub(super) async fn read<B: RequestBody>(
        exchange: &mut Exchange<'_, B>,
    ) -> Result<Self, Refused> {
        let query = exchange.head.uri.query().unwrap_or_default();
        let mut values = fields(&Format::Form, query.as_bytes())?;
        if let Some(format) = Format::of(&exchange.head.headers) {
            let body = exchange.body.buffer(MAX_BODY).await.map_err(unread)?;
            for (value, own) in values.iter_mut().zip(fields(&format, &body)?) {
                if own != Value::Absent {
                    *value = own;
                }
            }
        }
        Ok(Self(values))
    }

    /// What was given under a name.
    pub(super) fn value(&self, name: Name) -> &Value {
        self.0.get(name as usize).unwrap_or(&Value::Absent)
    }

    /// The text that was given under a name.
    pub(super) fn text(&self, name: Name) -> Option<&str> {
        match self.value(name) {
            Value::Text(text) => Some(text),
            Value::Absent | Value::NotText | Value::Repeated => None,
        }
    }

    /// Refuses what is given more than once (RFC 6749, section 3.1), so that nobody reads another one of them than we do.
    /// `scope` and `code_verifier` have errors of their own.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let own = [Name::Scope as usize, Name::CodeVerifier as usize];
        let repeated = self
            .0
            .iter()
            .zip(NAMES)
            .enumerate()
            .find(|(at, (value, _))| **value == Value::Repeated && !own.contains(at));
        repeated.map_or(Ok(()), |(_, (_, name))| {
            let description = format!("{name} must be given once");
            Err(Failure::bad("invalid_request", description))
        })
    }
}

fn fields(format: &Format, text: &[u8]) -> Result<Vec<Value>, Refused> {
    match format.find(text, &NAMES) {
        Ok(fields) => Ok(fields.iter().map(Value::of).collect()),
        Err(Unreadable::Malformed) => Ok(vec![Value::Absent; NAMES.len()]),
        Err(Unreadable::TooMany) => {
            Err(Failure::bad("invalid_request", "There are too many parameters").into())
        }
    }
}

fn unread(error: BodyError) -> Refused {
    match error {
        BodyError::TooLong => Failure {
            status: http::StatusCode::PAYLOAD_TOO_LARGE,
            ..Failure::bad("invalid_request", "The request's body is too long")
        },
        BodyError::Incomplete => {
            Failure::bad("invalid_request", "The request's body is incomplete")
        }
    }
    .into()
}
