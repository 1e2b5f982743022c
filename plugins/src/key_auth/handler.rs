//! What it does to a request.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Config;
use crate::directory::{KeyLookup, Namespaces, digest_of};
use crate::fields::{self, Field, Format, NotRewritten, Unreadable};
use crate::gate::{self, Gate, Miss, NOTHING_PRESENTED, Standing};
use crate::handler::{BodyError, BuildContext, Exchange, Refusal, RequestBody, Verdict};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    names: Box<[Name]>,
    in_header: bool,
    in_query: bool,
    in_body: bool,
    hide: bool,
    max_body_bytes: usize,
    namespaces: Namespaces,
    gate: Gate,
}

/// A name that may hold the key.
#[derive(Debug)]
struct Name {
    text: Box<str>,
    header: HeaderName,
    /// The name with `-` for `_`, where it has any: many clients and proxies do not pass on headers with `_`.
    hyphened: Option<HeaderName>,
}

/// What was presented under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presented {
    /// A key, by its SHA-256.
    Key([u8; 32]),
    /// An empty text.
    Empty,
    /// Several values.
    Repeated,
}

impl Presented {
    fn of(value: &[u8]) -> Self {
        if value.is_empty() {
            Self::Empty
        } else {
            Self::Key(digest_of(value))
        }
    }
}

/// What ends the search under a name.
enum Place {
    Presented(Presented),
    /// There is something, but no text: nothing else is searched under this name.
    NotText,
    Absent,
}

impl Place {
    fn of(field: &Field<'_>) -> Self {
        match field {
            Field::Absent => Self::Absent,
            Field::NotText => Self::NotText,
            Field::Text(text) => Self::Presented(Presented::of(text)),
            Field::Repeated => Self::Presented(Presented::Repeated),
        }
    }
}

/// Why nobody is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    NoKey,
    Repeated,
    Unknown,
    OutOfTime,
    Ambiguous,
    NoConsumer,
    TooManyFields,
    BodyTooLong,
    BodyIncomplete,
    NotRewritten,
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed => Self::NoKey,
            Unreadable::TooMany => Self::TooManyFields,
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLong => Self::BodyTooLong,
            BodyError::Incomplete => Self::BodyIncomplete,
        }
    }
}

impl From<NotRewritten> for Failure {
    fn from(NotRewritten: NotRewritten) -> Self {
        Self::NotRewritten
    }
}

impl Failure {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::Repeated => "duplicate_key",
            Self::Unknown => "unknown_key",
            Self::OutOfTime => "out_of_time",
            Self::Ambiguous => "ambiguous_key",
            Self::NoConsumer => "no_consumer",
            Self::TooManyFields => "too_many_fields",
            Self::BodyTooLong => "body_too_long",
            Self::BodyIncomplete => "body_incomplete",
            Self::NotRewritten => "not_rewritten",
        }
    }

    /// The reason where the anonymous Consumer takes over; None where it does not, because the request itself is at fault.
    pub(crate) const fn anonymous_reason(self) -> Option<&'static str> {
        match self {
            Self::NoKey => Some(NOTHING_PRESENTED),
            Self::Repeated => Some("anonymous_duplicate_key"),
            Self::Unknown => Some("anonymous_unknown_key"),
            Self::OutOfTime => Some("anonymous_out_of_time"),
            Self::Ambiguous => Some("anonymous_ambiguous_key"),
            Self::NoConsumer => Some("anonymous_no_consumer"),
            Self::TooManyFields | Self::BodyTooLong | Self::BodyIncomplete | Self::NotRewritten => {
                None
            }
        }
    }

    /// What it says of the credential.
    pub(crate) const fn standing(self) -> Standing {
        match self {
            Self::NoKey => Standing::Nothing,
            Self::Repeated
            | Self::Unknown
            | Self::OutOfTime
            | Self::Ambiguous
            | Self::NoConsumer => Standing::Refused,
            Self::TooManyFields | Self::BodyTooLong | Self::BodyIncomplete | Self::NotRewritten => {
                Standing::AtFault
            }
        }
    }

    const fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::NoKey => (StatusCode::UNAUTHORIZED, "No API key found in request"),
            Self::Repeated => (StatusCode::UNAUTHORIZED, "Duplicate API key found"),
            Self::Unknown | Self::OutOfTime | Self::Ambiguous | Self::NoConsumer => {
                (StatusCode::UNAUTHORIZED, "Unauthorized")
            }
            Self::TooManyFields => (
                StatusCode::BAD_REQUEST,
                "Too many parameters or body fields",
            ),
            Self::BodyTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "Request body too large"),
            Self::BodyIncomplete => (StatusCode::BAD_REQUEST, "Request body incomplete"),
            Self::NotRewritten => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "An unexpected error occurred",
            ),
        }
    }
}

impl Handler {
    pub(crate) fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let challenge = gate::challenge("Key", config.realm.as_deref(), None)?;
        Ok(Self {
            names: config
                .key_names
                .iter()
                .map(|name| Name::new(name))
                .collect::<Result<_, _>>()?,
            in_header: config.key_in_header,
            in_query: config.key_in_query,
            in_body: config.key_in_body,
            hide: config.hide_credentials,
            max_body_bytes: config.max_body_bytes as usize,
            gate: Gate::new(
                &context,
                config.anonymous,
                config.run_on_preflight,
                challenge,
            )?,
            namespaces: context.namespaces,
        })
    }

    pub(crate) async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        let outcome = self.attempt(exchange).await;
        let outcome = outcome.map_err(|failure| self.miss(failure));
        self.gate.settle(exchange, outcome)
    }

    /// Looks for somebody, without the anonymous Consumer.
    pub(crate) async fn attempt<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<&'static str, Failure> {
        match self.gate.passes(exchange) {
            Some(reason) => Ok(reason),
            None => self.authenticate(exchange).await.map(|()| "ok"),
        }
    }

    /// How to authenticate.
    pub(crate) const fn challenge(&self) -> &HeaderValue {
        self.gate.challenge()
    }

    async fn authenticate<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<(), Failure> {
        let (name, presented) = self.search(exchange).await?.ok_or(Failure::NoKey)?;
        if self.hide {
            self.hide(exchange, name).await?;
        }
        let digest = match presented {
            Presented::Key(digest) => digest,
            Presented::Empty => return Err(Failure::NoKey),
            Presented::Repeated => return Err(Failure::Repeated),
        };
        match exchange
            .directory
            .api_key(&digest, &self.namespaces, exchange.now)
        {
            KeyLookup::Found {
                consumer,
                credential,
            } => {
                exchange.caller.consumer = Some(consumer);
                exchange.caller.credential = Some(credential);
                exchange.caller.anonymous = false;
                Ok(())
            }
            KeyLookup::Unknown => Err(Failure::Unknown),
            KeyLookup::OutOfTime => Err(Failure::OutOfTime),
            KeyLookup::Ambiguous => Err(Failure::Ambiguous),
            KeyLookup::NoConsumer => Err(Failure::NoConsumer),
        }
    }

    /// The first name that holds a value in any place, and that value.
    async fn search<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<Option<(&Name, Presented)>, Failure> {
        let mut body: Option<std::vec::IntoIter<Place>> = None;
        for (index, name) in self.names.iter().enumerate() {
            if self.in_header
                && let Some(presented) = name.in_headers(&exchange.head.headers)
            {
                return Ok(Some((name, presented)));
            }
            let mut place = match exchange.head.uri.query() {
                Some(query) if self.in_query => Place::of(&fields::in_query(query, &name.text)?),
                _ => Place::Absent,
            };
            if self.in_body && matches!(place, Place::Absent) {
                let places = match &mut body {
                    Some(places) => places,
                    // The places from this name on; earlier ones had something else.
                    None => body.insert(self.in_body(exchange, index).await?.into_iter()),
                };
                place = places.next().unwrap_or(Place::Absent);
            } else if let Some(places) = &mut body {
                places.next();
            }
            if let Place::Presented(presented) = place {
                return Ok(Some((name, presented)));
            }
        }
        Ok(None)
    }

    /// What the body holds under each name from the one at `first` on.
    async fn in_body<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        first: usize,
    ) -> Result<Vec<Place>, Failure> {
        let Some(format) = Format::of(&exchange.head.headers) else {
            return Ok(Vec::new());
        };
        let body = exchange.body.buffer(self.max_body_bytes).await?;
        let names: Vec<&str> = self
            .names
            .iter()
            .skip(first)
            .map(|name| &*name.text)
            .collect();
        match format.find(&body, &names) {
            Ok(fields) => Ok(fields.iter().map(Place::of).collect()),
            Err(Unreadable::Malformed) => Ok(Vec::new()),
            Err(Unreadable::TooMany) => Err(Failure::TooManyFields),
        }
    }

    /// Removes what stands under the name that supplied the key, in all places.
    async fn hide<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        name: &Name,
    ) -> Result<(), Failure> {
        for header in std::iter::once(&name.header).chain(&name.hyphened) {
            exchange.head.headers.remove(header);
        }
        fields::remove_from_query(exchange.head, &name.text)?;
        if self.in_body
            && let Some(format) = Format::of(&exchange.head.headers)
        {
            let body = exchange.body.buffer(self.max_body_bytes).await?;
            match format.without(&body, &name.text) {
                Ok(Some(rest)) => exchange.replace_body(rest.into()),
                Ok(None) | Err(Unreadable::Malformed) => {}
                Err(Unreadable::TooMany) => return Err(Failure::TooManyFields),
            }
        }
        Ok(())
    }

    /// What a failure means for the request.
    pub(crate) fn miss(&self, failure: Failure) -> Miss {
        let (status, message) = failure.answer();
        let challenge = (status == StatusCode::UNAUTHORIZED).then(|| self.gate.challenge().clone());
        let refusal = Refusal {
            status,
            message: Cow::Borrowed(message),
            members: Vec::new(),
            challenges: challenge.into_iter().collect(),
            reason: failure.reason(),
        };
        Miss {
            refusal,
            anonymous: failure.anonymous_reason(),
        }
    }
}

impl Name {
    fn new(text: &str) -> Result<Self, String> {
        let header = |text: &str| {
            HeaderName::from_bytes(text.as_bytes())
                .map_err(|_| format!("keyNames: {text:?} is no name of a header"))
        };
        let hyphened = text
            .contains('_')
            .then(|| header(&text.replace('_', "-")))
            .transpose()?;
        Ok(Self {
            text: text.into(),
            header: header(text)?,
            hyphened,
        })
    }

    fn in_headers(&self, headers: &HeaderMap) -> Option<Presented> {
        let mut values = headers.get_all(&self.header).iter();
        let mut first = values.next();
        let mut more = values.next().is_some();
        if let Some(hyphened) = &self.hyphened {
            for value in headers.get_all(hyphened) {
                more |= first.replace(value).is_some();
            }
        }
        let first = first?;
        Some(if more {
            Presented::Repeated
        } else {
            Presented::of(first.as_bytes())
        })
    }
}
