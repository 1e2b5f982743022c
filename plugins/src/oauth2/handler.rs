//! What it does to a request: its own endpoints, and the check of access tokens everywhere else.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::constant_time;
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use store::{Key, Store, Unavailable};

use super::answer::{self, Failure as EndpointFailure};
use super::secrets::{access_key, is_well_formed};
use super::{Config, cache};
use crate::directory::{Lookup, Namespaces, digest_of};
use crate::fields::{self, Field, Format, NotRewritten, Unreadable};
use crate::gate::{Gate, Miss, NOTHING_PRESENTED, Standing, challenge};
use crate::handler::{
    Answer, BodyError, BuildContext, Exchange, Refusal, RequestBody, ResponseEdits, Verdict,
};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Name of the parameter that may hold the access token.
const PARAMETER: &str = "access_token";
const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    config: Config,
    id: Box<str>,
    header: HeaderName,
    provision_key: ProvisionKey,
    namespaces: Namespaces,
    gate: Gate,
    invalid_token: HeaderValue,
    global_token: HeaderValue,
    store: Store,
}

/// Known by its digest.
struct ProvisionKey([u8; 32]);

impl fmt::Debug for ProvisionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProvisionKey(redacted)")
    }
}

/// What a path of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Authorize,
    Token,
    Revoke,
    Introspect,
    Metadata,
}

/// Where the access token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Query,
    Body,
}

/// When an access token that is to be hidden is removed from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hiding {
    /// As soon as it is found.
    Found,
    /// Once it is good: else it may be another method's.
    Accepted,
}

/// Why nobody is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    NoToken,
    Unknown,
    Expired,
    /// Issued by another plugin.
    OtherPlugin,
    /// Issued for all, and this plugin is not one of them.
    Global,
    /// The application or its Consumer is not there any more.
    NoApplication,
    TooManyFields,
    BodyTooLong,
    BodyIncomplete,
    NotRewritten,
    Unavailable,
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed => Self::NoToken,
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

impl From<Unavailable> for Failure {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

const INVALID: &str = "The access token is invalid or has expired";
const GLOBAL: &str =
    "The access token is global, but the current plugin is configured without 'global_credentials'";

impl Failure {
    /// The reason of a refusal, and the one where the anonymous Consumer takes over; none where it does not.
    pub(crate) const fn reasons(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::NoToken => ("no_token", Some(NOTHING_PRESENTED)),
            Self::Unknown => ("unknown_token", Some("anonymous_unknown_token")),
            Self::Expired => ("expired", Some("anonymous_expired")),
            Self::OtherPlugin => ("other_plugin", Some("anonymous_other_plugin")),
            Self::Global => ("global_token", Some("anonymous_global_token")),
            Self::NoApplication => ("no_application", Some("anonymous_no_application")),
            Self::TooManyFields => ("too_many_fields", None),
            Self::BodyTooLong => ("body_too_long", None),
            Self::BodyIncomplete => ("body_incomplete", None),
            Self::NotRewritten => ("not_rewritten", None),
            Self::Unavailable => ("store_unavailable", None),
        }
    }

    /// What it says of the credential.
    pub(crate) const fn standing(self) -> Standing {
        match self {
            Self::NoToken => Standing::Nothing,
            Self::Unknown => Standing::Foreign,
            Self::Expired | Self::OtherPlugin | Self::Global | Self::NoApplication => {
                Standing::Refused
            }
            Self::Unavailable => Standing::Unsettled,
            Self::TooManyFields | Self::BodyTooLong | Self::BodyIncomplete | Self::NotRewritten => {
                Standing::AtFault
            }
        }
    }

    /// Says when to come again, where that helps.
    pub(crate) fn say_when(self, edits: &mut ResponseEdits) {
        if self == Self::Unavailable {
            let retry = HeaderValue::from(Unavailable::RETRY_AFTER);
            edits.append.push((RETRY_AFTER, retry));
        }
    }

    /// Status, `error`, `error_description`.
    const fn answer(self) -> (StatusCode, &'static str, &'static str) {
        const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            Self::NoToken => (
                UNAUTHORIZED,
                "invalid_request",
                "The access token is missing",
            ),
            Self::Unknown | Self::Expired | Self::OtherPlugin | Self::NoApplication => {
                (UNAUTHORIZED, "invalid_token", INVALID)
            }
            Self::Global => (UNAUTHORIZED, "invalid_token", GLOBAL),
            Self::TooManyFields => (BAD, "invalid_request", "There are too many parameters"),
            Self::BodyTooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_request",
                "The request's body is too long",
            ),
            Self::BodyIncomplete => (BAD, "invalid_request", "The request's body is incomplete"),
            Self::NotRewritten => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "An unexpected error occurred",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "The token store does not answer",
            ),
        }
    }
}

impl Handler {
    pub(crate) fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let realm = config.realm.as_deref();
        let plain = challenge("Bearer", realm, None)?;
        let with = |description: &str| {
            // The end of the one is the beginning of the other: the description is a parameter of its own.
            let error = format!("invalid_token\", error_description=\"{description}");
            challenge("Bearer", realm, Some(&error))
        };
        Ok(Self {
            id: context.id.into(),
            header: HeaderName::from_bytes(config.auth_header_name.as_bytes())
                .map_err(|_| "authHeaderName: it is no name of a header".to_owned())?,
            provision_key: ProvisionKey(digest_of(context.values.value("provisionKeySecretRef")?)),
            gate: Gate::new(&context, config.anonymous.clone(), true, plain)?,
            invalid_token: with(INVALID)?,
            global_token: with(GLOBAL)?,
            store: context.services.store.clone(),
            namespaces: context.namespaces,
            config,
        })
    }

    pub(crate) async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        if let Some(verdict) = self.serve(exchange).await {
            return verdict;
        }
        let outcome = match self.gate.passes(exchange) {
            Some(reason) => Ok(reason),
            None => match self.authenticate(exchange, Hiding::Found).await {
                Ok(()) => Ok("ok"),
                Err(failure) => {
                    failure.say_when(exchange.response);
                    Err(self.miss(failure))
                }
            },
        };
        self.gate.settle(exchange, outcome)
    }

    /// Answers on the paths that are the plugin's own.
    pub(crate) async fn serve<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Option<Verdict> {
        let (prefix, endpoint) = endpoint(exchange.head.uri.path())?;
        if endpoint == Endpoint::Metadata && exchange.head.method != Method::GET {
            return None;
        }
        // Codes and tokens are issued there and used up.
        if exchange.rehearsal && endpoint != Endpoint::Metadata {
            return Some(Verdict::Undecided("would_serve"));
        }
        let issuer = self.issuer(&exchange.head.headers, prefix);
        let answer = self.answer_at(exchange, endpoint, &issuer).await;
        Some(Verdict::Answer(Box::new(answer)))
    }

    /// Looks for somebody, without the anonymous Consumer. A token that is no good stays where it is: see
    /// [`Self::hide_refused`].
    pub(crate) async fn attempt<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<&'static str, Failure> {
        self.authenticate(exchange, Hiding::Accepted)
            .await
            .map(|()| "ok")
    }

    /// Removes an access token that was no good from a request that goes on all the same, if tokens are hidden.
    pub(crate) async fn hide_refused<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<(), Failure> {
        if !self.config.hide_credentials {
            return Ok(());
        }
        match self.search(exchange).await? {
            Some((place, _)) => self.hide(exchange, place).await,
            None => Ok(()),
        }
    }

    /// How to authenticate.
    pub(crate) const fn challenge(&self) -> &HeaderValue {
        self.gate.challenge()
    }

    async fn answer_at<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        endpoint: Endpoint,
        issuer: &str,
    ) -> Answer {
        let name = match endpoint {
            Endpoint::Authorize => "authorization",
            Endpoint::Token => "token",
            Endpoint::Revoke => "revocation",
            Endpoint::Introspect => "introspection",
            Endpoint::Metadata => return self.metadata(issuer),
        };
        if exchange.head.method != Method::POST {
            return answer::wrong_method(&exchange.head.method, name);
        }
        match endpoint {
            Endpoint::Authorize => self.authorize(exchange, issuer).await,
            Endpoint::Token => self.token_endpoint(exchange).await,
            Endpoint::Revoke => self.revoke(exchange).await,
            Endpoint::Introspect => self.introspect(exchange, issuer).await,
            Endpoint::Metadata => self.metadata(issuer),
        }
    }

    async fn authenticate<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        hiding: Hiding,
    ) -> Result<(), Failure> {
        let (place, key) = self.search(exchange).await?.ok_or(Failure::NoToken)?;
        let hides = self.config.hide_credentials;
        if hides && hiding == Hiding::Found {
            self.hide(exchange, place).await?;
        }
        // Nothing else could be in the store.
        let key = key.ok_or(Failure::Unknown)?;
        let token = match cache::find(&key, exchange.now) {
            Some(token) => token,
            None => {
                let found = self.look_up(key, exchange.now).await?;
                found.ok_or(Failure::Unknown)?
            }
        };
        if token.is_over(exchange.now) {
            return Err(Failure::Expired);
        }
        if !self.honours(&token.plugin, token.global) {
            return Err(if token.global {
                Failure::Global
            } else {
                Failure::OtherPlugin
            });
        }
        let (directory, now) = (exchange.directory, exchange.now);
        let proven = directory.application(&token.client_id, &self.namespaces, now, |found| {
            match found {
                // The client id and the names may be others' by now.
                Lookup::Found(application) if *application.id() == *token.application => {
                    directory.owner_of(application)
                }
                _ => None,
            }
        });
        let (consumer, credential) = proven
            .filter(|(consumer, _)| *consumer.id() == *token.consumer)
            .ok_or(Failure::NoApplication)?;
        if hides && hiding == Hiding::Accepted {
            self.hide(exchange, place).await?;
        }
        exchange.caller.consumer = Some(consumer);
        exchange.caller.credential = Some(credential);
        exchange.caller.anonymous = false;
        exchange.caller.scope.clone_from(&token.scope);
        exchange.caller.user.clone_from(&token.user);
        Ok(())
    }

    /// Where the access token is, and what it would be found under; no key where it cannot be one of ours.
    async fn search<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<Option<(Place, Option<Key>)>, Failure> {
        let mut values = exchange.head.headers.get_all(&self.header).iter();
        if let Some(value) = values.next() {
            let token = bare(value.as_bytes());
            let one = values.next().is_none();
            let key = (one && is_well_formed(token)).then(|| access_key(token));
            return Ok(Some((Place::Header, key)));
        }
        let method = &exchange.head.method;
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH)
            && let Some(format) = Format::of(&exchange.head.headers)
        {
            let limit = self.config.max_body_bytes as usize;
            let body = exchange.body.buffer(limit).await?;
            match format.find(&body, &[PARAMETER]) {
                Ok(found) => {
                    if let Some(key) = found.first().and_then(key_of) {
                        return Ok(Some((Place::Body, key)));
                    }
                }
                Err(Unreadable::Malformed) => {}
                Err(Unreadable::TooMany) => return Err(Failure::TooManyFields),
            }
        }
        let query = exchange.head.uri.query().unwrap_or_default();
        let found = fields::in_query(query, PARAMETER)?;
        Ok(key_of(&found).map(|key| (Place::Query, key)))
    }

    /// Removes the access token from where it was found.
    async fn hide<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        place: Place,
    ) -> Result<(), Failure> {
        match place {
            Place::Header => drop(exchange.head.headers.remove(&self.header)),
            Place::Query => fields::remove_from_query(exchange.head, PARAMETER)?,
            Place::Body => {
                let format = Format::of(&exchange.head.headers);
                let Some(format @ (Format::Form | Format::Json)) = format else {
                    return Ok(());
                };
                let body = exchange
                    .body
                    .buffer(self.config.max_body_bytes as usize)
                    .await?;
                if let Ok(Some(rest)) = format.without(&body, PARAMETER) {
                    exchange.replace_body(rest.into());
                }
            }
        }
        Ok(())
    }

    /// What is answered, unless the anonymous Consumer takes over.
    pub(crate) fn miss(&self, failure: Failure) -> Miss {
        let (reason, anonymous) = failure.reasons();
        let (status, error, description) = failure.answer();
        let challenge = match failure {
            Failure::NoToken => self.gate.challenge(),
            Failure::Global => &self.global_token,
            _ => &self.invalid_token,
        };
        let challenge = (status == StatusCode::UNAUTHORIZED).then(|| challenge.clone());
        let refusal = Refusal {
            status,
            message: Cow::Borrowed(description),
            members: vec![("error", error), ("error_description", description)],
            challenges: challenge.into_iter().collect(),
            reason,
        };
        Miss { refusal, anonymous }
    }

    /// What the endpoints are reached by must be https.
    pub(super) fn check_https<B>(&self, exchange: &Exchange<'_, B>) -> Result<(), EndpointFailure> {
        let denied = |description| Err(EndpointFailure::bad("access_denied", description));
        if exchange.tls {
            return Ok(());
        }
        if self.config.accept_http_if_already_terminated {
            let mut said = exchange.head.headers.get_all(X_FORWARDED_PROTO).iter();
            if said.next().is_some() && said.next().is_some() {
                return denied("Only one X-Forwarded-Proto header allowed");
            }
            if exchange.https {
                return Ok(());
            }
        }
        denied("You must use HTTPS")
    }

    /// What the server calls itself on this path.
    fn issuer(&self, headers: &HeaderMap, prefix: &str) -> String {
        if let Some(issuer) = &self.config.issuer {
            return issuer.trim_end_matches('/').to_owned();
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        format!("https://{}{prefix}", host.unwrap_or_default())
    }

    pub(super) fn is_provision_key(&self, given: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.provision_key.0, &digest_of(given)).is_ok()
    }

    pub(super) const fn settings(&self) -> &Config {
        &self.config
    }

    pub(super) const fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn header(&self) -> &HeaderName {
        &self.header
    }

    pub(super) const fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }
}

/// The endpoint that a path is of, and what stands before it.
fn endpoint(path: &str) -> Option<(&str, Endpoint)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    for (suffix, endpoint) in [
        ("/oauth2/token", Endpoint::Token),
        ("/oauth2/authorize", Endpoint::Authorize),
        ("/oauth2/revoke", Endpoint::Revoke),
        ("/oauth2/introspect", Endpoint::Introspect),
        // As most clients look for it; RFC 8414 has it at the beginning.
        (WELL_KNOWN, Endpoint::Metadata),
    ] {
        if let Some(prefix) = path.strip_suffix(suffix) {
            return Some((prefix, endpoint));
        }
    }
    let prefix = path.strip_prefix(WELL_KNOWN)?;
    prefix
        .starts_with('/')
        .then_some((prefix, Endpoint::Metadata))
}

/// The token behind "Bearer" or "token"; any other value is one as a whole.
fn bare(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    let Some(end) = value.iter().position(u8::is_ascii_whitespace) else {
        return value;
    };
    let Some((scheme, token)) = value.split_at_checked(end) else {
        return value;
    };
    if scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"token") {
        token.trim_ascii()
    } else {
        value
    }
}

/// What a parameter would be found under; None where there is none.
fn key_of(field: &Field<'_>) -> Option<Option<Key>> {
    match field {
        Field::Absent => None,
        Field::Text(text) if text.is_empty() => None,
        Field::Text(text) => Some(is_well_formed(text).then(|| access_key(text))),
        Field::NotText | Field::Repeated => Some(None),
    }
}
