//! Callers that present an access token of the provider: verified by introspection, with the provider's keys, or with one
//! given key.

mod introspection;
mod judge;
mod memory;
mod public_key;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{self, SHA256};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::answers;
use super::core::Core;
use super::failure::{ASKING, Failure};
use super::provider::Provider;
use super::token::{Token, verify_with_keys, verify_with_known};
use super::upstream::{Known, Told};
use crate::handler::{BuildContext, Exchange, Refusal, Verdict};
use crate::jwt::{Algorithm, VerificationKey};
use introspection::Introspection;
use judge::Judge;
pub(crate) use judge::Missing;
use memory::{Mark, Remembered};

/// How long a worker remembers a token that was verified with a key of the provider: as long a key that is withdrawn may
/// still count.
const KEY_MEMORY: i64 = 60;

/// Ready to judge access tokens.
#[derive(Debug)]
pub(super) struct Bearer {
    /// Tells apart what workers remember for each handler.
    id: u64,
    required: bool,
    by: By,
    judge: Judge,
    forget: bool,
    realm: Box<str>,
    core: Arc<Core>,
}

/// What verifies.
#[derive(Debug)]
enum By {
    Introspection(Box<Introspection>),
    ProviderKeys,
    /// One for each algorithm that the key is for.
    Key(Box<[VerificationKey]>),
}

/// When a token is judged, and whether only to explain what would become of it.
#[derive(Debug, Clone, Copy)]
struct When {
    now: i64,
    rehearsal: bool,
}

impl When {
    const fn of<B>(exchange: &Exchange<'_, B>) -> Self {
        Self {
            now: exchange.now,
            rehearsal: exchange.rehearsal,
        }
    }
}

/// What a good token comes to.
#[derive(Debug)]
struct Accepted {
    told: Told,
    /// Name of the Consumer that the caller counts as.
    consumer: Option<String>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Nothing is proved: 401, with the reason for the log and the words of the challenge.
    Invalid(&'static str, &'static str),
    /// The provider, which was to judge it, gives no verdict: 401.
    Unanswered(&'static str),
    /// The provider would have to be asked, and an explanation asks nobody.
    Undecided,
    /// The provider, which would have to be asked, does not answer: 503.
    Unavailable(&'static str),
    /// Proved, and not enough: 403.
    Lacking(Missing),
}

impl Bearer {
    /// None where access tokens are not looked at.
    pub(super) fn new(
        core: &Arc<Core>,
        context: &BuildContext<'_>,
    ) -> Result<Option<Self>, String> {
        static ID: AtomicU64 = AtomicU64::new(0);
        let config = &core.config;
        let by = if let Some(pem) = &config.public_key {
            By::Key(public_key::read(
                pem,
                config.token_signing_alg_values_expected,
            )?)
        } else if config.use_jwks {
            By::ProviderKeys
        } else if config.bearer_only || config.introspection_endpoint.is_some() {
            By::Introspection(Box::new(Introspection::new(core, context)?))
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            id: ID.fetch_add(1, Ordering::Relaxed),
            required: config.bearer_only,
            by,
            judge: Judge::new(config),
            forget: config.jwt_verification_cache_ignore,
            realm: config.realm.as_str().into(),
            core: Arc::clone(core),
        }))
    }

    /// Judges the access token of a request; None: there is none, and a session may do instead.
    pub(super) async fn attempt<B>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Option<Result<(), Failure>> {
        // A clone of a value is the same bytes.
        let value = exchange.head.headers.get(AUTHORIZATION).cloned();
        let token = match presented(value.as_ref()) {
            Presented::Token(token) => token,
            Presented::Nothing if !self.required => return None,
            Presented::Nothing => return Some(Err(Failure::NoToken)),
            Presented::Malformed => return Some(Err(Failure::Malformed)),
        };
        let (headers, when) = (&exchange.head.headers, When::of(exchange));
        let accepted = match self.accept(token, headers, when).await {
            Ok(accepted) => accepted,
            Err(rejected) => return Some(Err(Failure::Token(rejected))),
        };
        Some(self.admit(exchange, &accepted))
    }

    async fn accept(
        &self,
        token: &str,
        headers: &HeaderMap,
        when: When,
    ) -> Result<Rc<Accepted>, Rejected> {
        let now = when.now;
        let mark = self.mark(token, headers);
        if let Some(known) = memory::find(&mark, now) {
            return Ok(known);
        }
        let (claims, until) = match &self.by {
            By::Introspection(introspection) => {
                let active = if when.rehearsal {
                    let known = introspection.known(token, headers, now);
                    known.ok_or(Rejected::Undecided)?
                } else {
                    introspection.ask(token, headers, now).await?
                };
                self.judge.introspected(&active.claims, now)?;
                (active.claims.clone(), active.until)
            }
            By::ProviderKeys | By::Key(_) => {
                let claims = self.verified(token, when).await?;
                let until = self.judge.end(&claims).unwrap_or(i64::MAX);
                let until = until.min(now.saturating_add(KEY_MEMORY));
                (claims, (!self.forget).then_some(until))
            }
        };
        self.judge.entitled(&claims).map_err(Rejected::Lacking)?;
        let accepted = Rc::new(self.accepted(token, &claims)?);
        if let Some(until) = until.filter(|_| !when.rehearsal) {
            let remembered = Remembered {
                accepted: Rc::clone(&accepted),
                until,
            };
            memory::keep(mark, remembered, now);
        }
        Ok(accepted)
    }

    /// Verifies a token with keys, and judges who it is from and when it counts.
    async fn verified(&self, text: &str, when: When) -> Result<Map<String, Value>, Rejected> {
        let token = Token::read(text)
            .map_err(|reason| Rejected::Invalid(reason, "the token cannot be read"))?;
        let algorithm = Algorithm::from_name(token.algorithm())
            .filter(|algorithm| self.judge.allows(*algorithm))
            .ok_or(Rejected::Invalid(
                "wrong_algorithm",
                "the token's algorithm is not accepted",
            ))?;
        self.judge.is_access_token(&token)?;
        const BAD: Rejected = Rejected::Invalid("bad_signature", "the signature is wrong");
        match &self.by {
            By::Key(keys) => {
                let key = keys.iter().find(|key| key.algorithm() == algorithm);
                let key = key.ok_or(Rejected::Invalid(
                    "wrong_algorithm",
                    "the token's algorithm is not accepted",
                ))?;
                if !token.verifies_with(key) {
                    return Err(BAD);
                }
            }
            By::ProviderKeys => {
                let provider = self.provider(when).await?;
                if when.rehearsal {
                    let keys = provider.known_keys().ok_or(Rejected::Undecided)?;
                    let verified = verify_with_known(&token, algorithm, &keys);
                    verified.ok_or(Rejected::Undecided)?.map_err(|()| BAD)?;
                } else {
                    provider.key_set().await.map_err(Rejected::Unavailable)?;
                    verify_with_keys(&token, algorithm, &provider)
                        .await
                        .map_err(|_| BAD)?;
                }
            }
            By::Introspection(_) => return Err(BAD),
        }
        if self.judge.needs_discovered_issuer() {
            let provider = self.provider(when).await?;
            self.judge
                .issued_by(&token.claims, &provider.metadata.issuer)?;
        } else {
            self.judge.issued_by_a_valid_one(&token.claims)?;
        }
        self.judge.in_time(&token.claims, when.now)?;
        Ok(token.claims)
    }

    /// What is known of the provider; who only explains does not ask it.
    async fn provider(&self, when: When) -> Result<Arc<Provider>, Rejected> {
        let idp = &self.core.idp;
        if when.rehearsal {
            return idp.known().ok_or(Rejected::Undecided);
        }
        idp.provider().await.map_err(Rejected::Unavailable)
    }

    fn accepted(&self, token: &str, claims: &Map<String, Value>) -> Result<Accepted, Rejected> {
        let consumer = self.core.consumer_name(&[Some(claims)]);
        let consumer = consumer.map_err(|reason| Rejected::Lacking(Missing::Consumer(reason)))?;
        let known = Known {
            access_token: Some(token),
            user: Some(claims),
            ..Known::default()
        };
        let told = Told::new(&self.core.config, &known);
        Ok(Accepted { told, consumer })
    }

    /// Lets a request pass, with what the upstream is told.
    fn admit<B>(&self, exchange: &mut Exchange<'_, B>, accepted: &Accepted) -> Result<(), Failure> {
        self.core.count_as(exchange, accepted.consumer.as_deref())?;
        accepted.told.tell(&mut exchange.head.headers, true);
        Ok(())
    }

    /// What a worker remembers a token by: whatever its acceptance may hang on.
    fn mark(&self, token: &str, headers: &HeaderMap) -> Mark {
        let mut context = digest::Context::new(&SHA256);
        context.update(&self.id.to_be_bytes());
        if let By::Introspection(introspection) = &self.by {
            introspection.mark_headers(&mut context, headers);
        }
        context.update(token.as_bytes());
        memory::finish(context)
    }

    /// What is answered to a token that is not accepted.
    pub(super) fn reject(&self, rejected: Rejected) -> Verdict {
        match rejected {
            Rejected::Invalid(reason, _) | Rejected::Unanswered(reason) => {
                unauthorized(reason, self.challenge(rejected))
            }
            Rejected::Undecided => Verdict::Undecided(ASKING),
            Rejected::Unavailable(reason) => answers::unavailable(false, "", reason),
            Rejected::Lacking(missing) => {
                let body = serde_json::json!({ "error": self.judge.words(missing) });
                answers::json(StatusCode::FORBIDDEN, &body, missing.reason())
            }
        }
    }

    /// How to authenticate, and what was wrong with the token.
    pub(super) fn challenge(&self, rejected: Rejected) -> Option<HeaderValue> {
        let words = match rejected {
            Rejected::Invalid(_, words) => words,
            Rejected::Unanswered(_) => "the token cannot be verified now",
            Rejected::Undecided | Rejected::Unavailable(_) | Rejected::Lacking(_) => return None,
        };
        let realm = self.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let text = format!(
            "Bearer realm=\"{realm}\", error=\"invalid_token\", error_description=\"{words}\""
        );
        HeaderValue::try_from(text).ok()
    }
}

/// Nothing is proved.
pub(super) fn unauthorized(reason: &'static str, challenge: Option<HeaderValue>) -> Verdict {
    Verdict::Refuse(Refusal {
        status: StatusCode::UNAUTHORIZED,
        message: Cow::Borrowed("Unauthorized"),
        members: Vec::new(),
        challenges: challenge.into_iter().collect(),
        reason,
    })
}

/// What the Authorization header holds.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'h> {
    Nothing,
    Token(&'h str),
    /// A scheme without anything behind it.
    Malformed,
}

fn presented(value: Option<&HeaderValue>) -> Presented<'_> {
    let Some(value) = value else {
        return Presented::Nothing;
    };
    let Ok(text) = str::from_utf8(value.as_bytes()) else {
        return Presented::Malformed;
    };
    let Some((scheme, rest)) = text.trim_ascii().split_once([' ', '\t']) else {
        return Presented::Malformed;
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Presented::Nothing;
    }
    let token = rest.trim_ascii();
    // RFC 6750, section 2.1. As one pattern it is one look into a table.
    let fits = |byte: u8| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    if !token.is_empty() && token.bytes().all(fits) {
        Presented::Token(token)
    } else {
        Presented::Malformed
    }
}

/// The answer to an Authorization that holds no scheme and token.
pub(super) fn malformed() -> Verdict {
    Verdict::Refuse(Refusal {
        status: StatusCode::BAD_REQUEST,
        message: Cow::Borrowed("the Authorization header must be a scheme and a token"),
        members: Vec::new(),
        challenges: Vec::new(),
        reason: "bad_authorization",
    })
}
