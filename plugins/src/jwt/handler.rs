//! What it does to a request.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::keys::{SecretUse, Unverified, VerificationKey, Verifier};
use super::presented::{Places, Presented};
use super::token::{Malformed, Parts, Token, Value};
use super::{Claim, Config, verified};
use crate::directory::{Directory, JwtCredential, JwtLookup, Namespaces, Proven};
use crate::fields::Unreadable;
use crate::gate::{Gate, Miss, NOTHING_PRESENTED, Standing, challenge};
use crate::handler::{BuildContext, Exchange, Refusal, RequestBody, Verdict};
use crate::jwks::{KeySet, RemoteKeys};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    gate: Gate,
    places: Places,
    namespaces: Namespaces,
    key_claim: Box<str>,
    claims: Claims,
    secrets: SecretUse,
    remember: bool,
    invalid_status: StatusCode,
    /// The challenge where there is a token.
    invalid_token: HeaderValue,
}

/// Which claims have to hold.
#[derive(Debug)]
struct Claims {
    exp: bool,
    nbf: bool,
    /// Seconds; 0: any.
    max_ahead: f64,
    skew: f64,
}

/// What is wrong with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    NoNumber,
    Expired,
    NotYet,
    TooLong,
}

impl Unfit {
    const fn message(self) -> &'static str {
        match self {
            Self::NoNumber => "must be a number",
            Self::Expired => "token expired",
            Self::NotYet => "token not valid yet",
            Self::TooLong => "exceeds maximum allowed expiration",
        }
    }
}

/// Why nobody is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    NoToken,
    Several,
    Malformed(Malformed),
    NoKeyClaim,
    BadKeyClaim,
    Unknown,
    OutOfTime,
    Ambiguous,
    NoConsumer,
    WrongAlgorithm,
    BadKey,
    /// The issuer's keys could not be fetched yet.
    NoKeySet,
    UnknownKid,
    BadSignature,
    Claims {
        exp: Option<Unfit>,
        nbf: Option<Unfit>,
    },
    TooManyFields,
}

/// Why a token is not accepted with what is known.
enum Judgement {
    Failed(Failure),
    /// The issuer may have published other keys since: they are worth a fetch, and a second look.
    Outdated {
        keys: Arc<RemoteKeys>,
        seen: Option<Arc<KeySet>>,
        otherwise: Failure,
    },
}

impl From<Failure> for Judgement {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed => Self::NoToken,
            Unreadable::TooMany => Self::TooManyFields,
        }
    }
}

impl From<Unverified> for Failure {
    fn from(unverified: Unverified) -> Self {
        match unverified {
            Unverified::BadKey => Self::BadKey,
            Unverified::BadSignature => Self::BadSignature,
        }
    }
}

impl Failure {
    /// The reason of a refusal, and the one where the anonymous Consumer takes over; none where it does not, because the
    /// request itself is at fault.
    pub(crate) const fn reasons(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::NoToken => ("no_token", Some(NOTHING_PRESENTED)),
            Self::Several => ("several_tokens", Some("anonymous_several_tokens")),
            Self::Malformed(_) => ("bad_token", Some("anonymous_bad_token")),
            Self::NoKeyClaim | Self::BadKeyClaim => {
                ("bad_key_claim", Some("anonymous_bad_key_claim"))
            }
            Self::Unknown => ("unknown_key", Some("anonymous_unknown_key")),
            Self::OutOfTime => ("out_of_time", Some("anonymous_out_of_time")),
            Self::Ambiguous => ("ambiguous_key", Some("anonymous_ambiguous_key")),
            Self::NoConsumer => ("no_consumer", Some("anonymous_no_consumer")),
            Self::WrongAlgorithm => ("wrong_algorithm", Some("anonymous_wrong_algorithm")),
            Self::BadKey => ("unusable_secret", Some("anonymous_unusable_secret")),
            // The caller may well be who the token says, so that nobody else takes over.
            Self::NoKeySet => ("no_key_set", None),
            Self::UnknownKid => ("unknown_kid", Some("anonymous_unknown_kid")),
            Self::BadSignature => ("bad_signature", Some("anonymous_bad_signature")),
            Self::Claims {
                exp: Some(Unfit::Expired),
                ..
            } => ("expired", Some("anonymous_expired")),
            Self::Claims {
                nbf: Some(Unfit::NotYet),
                ..
            } => ("not_yet_valid", Some("anonymous_not_yet_valid")),
            Self::Claims {
                exp: Some(Unfit::TooLong),
                ..
            } => ("too_long_lived", Some("anonymous_too_long_lived")),
            Self::Claims { .. } => ("bad_claims", Some("anonymous_bad_claims")),
            Self::TooManyFields => ("too_many_fields", None),
        }
    }

    /// What it says of the credential.
    pub(crate) const fn standing(self) -> Standing {
        match self {
            Self::NoToken => Standing::Nothing,
            Self::Malformed(_) | Self::NoKeyClaim | Self::BadKeyClaim | Self::Unknown => {
                Standing::Foreign
            }
            Self::NoKeySet => Standing::Unsettled,
            Self::TooManyFields => Standing::AtFault,
            _ => Standing::Refused,
        }
    }

    /// Whether the answer's status is the configured one.
    const fn is_invalid_token(self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::OutOfTime
                | Self::Ambiguous
                | Self::NoConsumer
                | Self::WrongAlgorithm
                | Self::BadKey
                | Self::UnknownKid
                | Self::BadSignature
                | Self::Claims {
                    exp: Some(Unfit::TooLong),
                    ..
                }
        )
    }

    fn message(self, key_claim: &str) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::NoToken => "Unauthorized",
            Self::Several => "Multiple tokens provided",
            Self::Malformed(Malformed::Json) => "Bad token; invalid JSON",
            Self::Malformed(Malformed::Algorithm) => "Bad token; invalid alg",
            Self::Malformed(Malformed::Critical) => "Bad token; invalid crit",
            Self::Malformed(Malformed::Signature) => "Bad token; invalid signature",
            Self::NoKeyClaim => return Cow::Owned(format!("No mandatory '{key_claim}' in claims")),
            Self::BadKeyClaim => return Cow::Owned(format!("Invalid '{key_claim}' in claims")),
            // What is there is nobody's business who has not proved to be in it.
            Self::Unknown | Self::OutOfTime | Self::Ambiguous | Self::NoConsumer => {
                return Cow::Owned(format!("No credentials found for given '{key_claim}'"));
            }
            Self::WrongAlgorithm => "Invalid algorithm",
            Self::BadKey => "Invalid key/secret",
            Self::NoKeySet => "The keys of the token's issuer are not available",
            Self::UnknownKid => "No key found for given 'kid'",
            Self::BadSignature => "Invalid signature",
            Self::Claims { exp, nbf } => return Cow::Owned(claims_in_words(exp, nbf)),
            Self::TooManyFields => "Too many parameters",
        })
    }

    /// Members of the answer's JSON; none: the message.
    fn members(self) -> Vec<(&'static str, &'static str)> {
        let Self::Claims { exp, nbf } = self else {
            return Vec::new();
        };
        let named = [("exp", exp), ("nbf", nbf)].into_iter();
        named
            .filter_map(|(name, unfit)| Some((name, unfit?.message())))
            .collect()
    }
}

fn claims_in_words(exp: Option<Unfit>, nbf: Option<Unfit>) -> String {
    let members = Failure::Claims { exp, nbf }.members();
    let words: Vec<String> = members
        .iter()
        .map(|(name, message)| format!("{name}: {message}"))
        .collect();
    words.join(", ")
}

impl Handler {
    pub(crate) fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let realm = config.realm.as_deref();
        let plain = challenge("Bearer", realm, None)?;
        let verifies = |claim| config.claims_to_verify.contains(&claim);
        Ok(Self {
            places: Places::of(&config)?,
            claims: Claims {
                exp: verifies(Claim::Exp),
                nbf: verifies(Claim::Nbf),
                max_ahead: config.maximum_expiration.into(),
                skew: config.clock_skew_seconds.into(),
            },
            secrets: SecretUse {
                base64: config.secret_is_base64,
                refuse_short: config.refuse_short_secrets,
            },
            remember: config.verification_cache,
            invalid_status: StatusCode::from_u16(config.invalid_token_status)
                .unwrap_or(StatusCode::FORBIDDEN),
            invalid_token: challenge("Bearer", realm, Some("invalid_token"))?,
            gate: Gate::new(&context, config.anonymous, config.run_on_preflight, plain)?,
            key_claim: config.key_claim_name.into(),
            namespaces: context.namespaces,
        })
    }

    pub(crate) async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        let outcome = self.attempt(exchange).await;
        let outcome = outcome.map_err(|failure| self.miss(failure));
        self.gate.settle(exchange, outcome)
    }

    /// Looks for somebody, without the anonymous Consumer.
    pub(crate) async fn attempt<B>(
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

    async fn authenticate<B>(&self, exchange: &mut Exchange<'_, B>) -> Result<(), Failure> {
        let text = match self.places.search(exchange.head)? {
            Presented::Token(text) => text,
            Presented::Nothing => return Err(Failure::NoToken),
            Presented::Several => return Err(Failure::Several),
        };
        let mut parts = Parts::of(&text)?;
        let token = parts.read(&self.key_claim)?;
        let key = match &token.key {
            None => return Err(Failure::NoKeyClaim),
            Some(Value::Text(key)) if !key.is_empty() => key,
            Some(_) => return Err(Failure::BadKeyClaim),
        };
        let (directory, now) = (exchange.directory, exchange.now);
        let look_up = || {
            let judge = |found: JwtLookup<'_>| self.judge(found, &token, &text, directory, now);
            directory.jwt(key, &self.namespaces, now, judge)
        };
        let (consumer, credential) = match look_up() {
            Ok(proven) => proven,
            Err(Judgement::Failed(failure)) => return Err(failure),
            Err(Judgement::Outdated {
                keys,
                seen,
                otherwise,
            }) => {
                // An explanation calls nobody: it goes by the keys that are there.
                if exchange.rehearsal || keys.newer(seen.as_ref(), token.kid()).await.is_none() {
                    return Err(otherwise);
                }
                look_up().map_err(|judgement| match judgement {
                    Judgement::Failed(failure) => failure,
                    Judgement::Outdated { otherwise, .. } => otherwise,
                })?
            }
        };
        exchange.caller.consumer = Some(consumer);
        exchange.caller.credential = Some(credential);
        exchange.caller.anonymous = false;
        Ok(())
    }

    fn judge(
        &self,
        found: JwtLookup<'_>,
        token: &Token<'_>,
        text: &[u8],
        directory: &Directory,
        now: i64,
    ) -> Result<Proven, Judgement> {
        let credential = match found {
            JwtLookup::Found(credential) => credential,
            JwtLookup::Unknown => return Err(Failure::Unknown.into()),
            JwtLookup::OutOfTime => return Err(Failure::OutOfTime.into()),
            JwtLookup::Ambiguous => return Err(Failure::Ambiguous.into()),
        };
        self.verify(credential, token, text, now)?;
        self.claims.check(token, now)?;
        let proven = directory.proven_by(credential);
        proven.ok_or_else(|| Failure::NoConsumer.into())
    }

    fn verify(
        &self,
        credential: &JwtCredential,
        token: &Token<'_>,
        text: &[u8],
        now: i64,
    ) -> Result<(), Judgement> {
        let verifier = credential.verifier();
        if token.algorithm != verifier.algorithm() {
            return Err(Failure::WrongAlgorithm.into());
        }
        let (algorithm, keys) = match verifier {
            Verifier::Key(key) => return Ok(self.verify_with(key, token, text, now)?),
            Verifier::Set(algorithm, keys) => (*algorithm, keys),
        };
        let current = keys.current();
        let outdated = |otherwise| Judgement::Outdated {
            keys: Arc::clone(keys),
            seen: current.clone(),
            otherwise,
        };
        let Some(set) = &*current else {
            return Err(outdated(Failure::NoKeySet));
        };
        // What is no text names no key.
        if token.kid.is_some() && token.kid().is_none() {
            return Err(Failure::UnknownKid.into());
        }
        let candidates = set.candidates(token.kid(), algorithm);
        let mut failure = Failure::UnknownKid;
        for key in candidates.keys() {
            match self.verify_with(key, token, text, now) {
                Ok(()) => return Ok(()),
                Err(wrong) => failure = wrong,
            }
        }
        if candidates.are_named() {
            Err(failure.into())
        } else {
            Err(outdated(failure))
        }
    }

    fn verify_with(
        &self,
        key: &VerificationKey,
        token: &Token<'_>,
        text: &[u8],
        now: i64,
    ) -> Result<(), Failure> {
        let verify = || key.verify(token.signed, token.signature, self.secrets);
        if !self.remember || key.algorithm().is_symmetric() {
            return Ok(verify()?);
        }
        let exp = match token.exp {
            Some(Value::Number(exp)) => Some(exp),
            _ => None,
        };
        if verified::remember((key.version(), text), (now, exp), || verify().is_ok()) {
            Ok(())
        } else {
            Err(Failure::BadSignature)
        }
    }

    /// What a failure means for the request.
    pub(crate) fn miss(&self, failure: Failure) -> Miss {
        let (reason, anonymous) = failure.reasons();
        let (status, challenge) = match failure {
            Failure::TooManyFields => (StatusCode::BAD_REQUEST, None),
            Failure::NoKeySet => (StatusCode::SERVICE_UNAVAILABLE, None),
            Failure::NoToken => (StatusCode::UNAUTHORIZED, Some(self.gate.challenge())),
            _ if failure.is_invalid_token() => (self.invalid_status, Some(&self.invalid_token)),
            _ => (StatusCode::UNAUTHORIZED, Some(&self.invalid_token)),
        };
        let refusal = Refusal {
            status,
            message: failure.message(&self.key_claim),
            members: failure.members(),
            challenges: challenge
                .filter(|_| status == StatusCode::UNAUTHORIZED)
                .cloned()
                .into_iter()
                .collect(),
            reason,
        };
        Miss { refusal, anonymous }
    }
}

impl Claims {
    #[expect(clippy::cast_precision_loss, reason = "the clock is far from 2^53")]
    fn check(&self, token: &Token<'_>, now: i64) -> Result<(), Failure> {
        let now = now as f64;
        let exp = self
            .exp
            .then(|| {
                unless(
                    token.exp.as_ref(),
                    |exp| exp + self.skew > now,
                    Unfit::Expired,
                )
            })
            .flatten();
        let nbf = self
            .nbf
            .then(|| {
                unless(
                    token.nbf.as_ref(),
                    |nbf| nbf - self.skew <= now,
                    Unfit::NotYet,
                )
            })
            .flatten();
        if exp.is_some() || nbf.is_some() {
            return Err(Failure::Claims { exp, nbf });
        }
        if self.max_ahead > 0.0 {
            let limit = now + self.max_ahead + self.skew;
            let exp = unless(token.exp.as_ref(), |exp| exp <= limit, Unfit::TooLong);
            if exp.is_some() {
                return Err(Failure::Claims { exp, nbf: None });
            }
        }
        Ok(())
    }
}

/// What is wrong with a claim, if anything is.
fn unless(
    claim: Option<&Value<'_>>,
    holds: impl FnOnce(f64) -> bool,
    otherwise: Unfit,
) -> Option<Unfit> {
    match claim {
        Some(Value::Number(number)) if holds(*number) => None,
        Some(Value::Number(_)) => Some(otherwise),
        _ => Some(Unfit::NoNumber),
    }
}
