//! What the claims of an access token must say.

use serde_json::{Map, Value};

use super::super::Config;
use super::super::token::{Token, instant};
use super::Rejected;
use crate::jwt::Algorithm;

/// What a token must say.
#[derive(Debug)]
pub(super) struct Judge {
    /// Seconds that clocks may be off.
    slack: i64,
    /// None: the one that the provider's metadata name.
    issuers: Box<[Box<str>]>,
    algorithm: Option<Algorithm>,
    scopes: Box<[Box<str>]>,
    audience: Audience,
}

#[derive(Debug)]
struct Audience {
    claim: Box<str>,
    required: bool,
    /// It must be among them.
    client: Option<Box<str>>,
}

/// What somebody who is known lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Scopes,
    Audience,
    OtherAudience,
    /// With the reason why the caller counts as none.
    Consumer(&'static str),
}

impl Missing {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Scopes => "no_scope",
            Self::Audience => "no_audience",
            Self::OtherAudience => "other_audience",
            Self::Consumer(reason) => reason,
        }
    }
}

const fn invalid(reason: &'static str, words: &'static str) -> Rejected {
    Rejected::Invalid(reason, words)
}

impl Judge {
    pub(super) fn new(config: &Config) -> Self {
        let all = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        let audience = &config.claim_validator.audience;
        Self {
            slack: config.iat_slack.into(),
            issuers: all(&config.claim_validator.issuer.valid_issuers),
            algorithm: config.token_signing_alg_values_expected,
            scopes: all(&config.required_scopes),
            audience: Audience {
                claim: audience.claim.as_str().into(),
                required: audience.required,
                client: audience
                    .match_with_client_id
                    .then(|| config.client_id.as_str().into()),
            },
        }
    }

    /// Shared secrets verify no access token: whoever could verify could sign.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        !algorithm.is_symmetric() && self.algorithm.is_none_or(|expected| expected == algorithm)
    }

    /// Other tokens of the provider are signed with the same keys, and prove something else.
    pub(super) fn is_access_token(&self, token: &Token<'_>) -> Result<(), Rejected> {
        const OTHER: Rejected = invalid("no_access_token", "this is no access token");
        let kind = token.kind().map(str::to_ascii_lowercase);
        let kind = kind
            .as_deref()
            .map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
        if !matches!(kind, None | Some("jwt" | "at+jwt")) {
            return Err(OTHER);
        }
        // Keycloak says it here.
        if let Some(kind) = token.claims.get("typ").and_then(Value::as_str)
            && !matches!(kind, "Bearer" | "DPoP")
        {
            return Err(OTHER);
        }
        // Only ID tokens have hashes of what they came with.
        if ["at_hash", "c_hash", "s_hash"]
            .iter()
            .any(|name| token.claims.contains_key(*name))
        {
            return Err(OTHER);
        }
        Ok(())
    }

    pub(super) const fn needs_discovered_issuer(&self) -> bool {
        self.issuers.is_empty()
    }

    pub(super) fn issued_by(
        &self,
        claims: &Map<String, Value>,
        issuer: &str,
    ) -> Result<(), Rejected> {
        if claims.get("iss").and_then(Value::as_str) == Some(issuer) {
            Ok(())
        } else {
            Err(invalid("other_issuer", "the issuer is not accepted"))
        }
    }

    pub(super) fn issued_by_a_valid_one(
        &self,
        claims: &Map<String, Value>,
    ) -> Result<(), Rejected> {
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuers.iter().any(|valid| issuer == Some(&**valid)) {
            Ok(())
        } else {
            Err(invalid("other_issuer", "the issuer is not accepted"))
        }
    }

    /// Judges the answer of the provider's own endpoint, which need not name an issuer.
    pub(super) fn introspected(
        &self,
        claims: &Map<String, Value>,
        now: i64,
    ) -> Result<(), Rejected> {
        if !self.issuers.is_empty() && claims.contains_key("iss") {
            self.issued_by_a_valid_one(claims)?;
        }
        for name in ["exp", "nbf"] {
            if claims.contains_key(name) && claims.get(name).and_then(instant).is_none() {
                return Err(invalid("bad_claims", "a time in the token is not a number"));
            }
        }
        self.times(claims, now)
    }

    /// Judges when a token counts that says so itself.
    pub(super) fn in_time(&self, claims: &Map<String, Value>, now: i64) -> Result<(), Rejected> {
        if claims.get("exp").and_then(instant).is_none() {
            return Err(invalid(
                "no_expiry",
                "the token does not say when it expires",
            ));
        }
        for name in ["nbf", "iat"] {
            if claims.contains_key(name) && claims.get(name).and_then(instant).is_none() {
                return Err(invalid("bad_claims", "a time in the token is not a number"));
            }
        }
        let issued = claims.get("iat").and_then(instant);
        if issued.is_some_and(|issued| issued > now.saturating_add(self.slack)) {
            return Err(invalid(
                "issued_in_the_future",
                "the token is from the future",
            ));
        }
        self.times(claims, now)
    }

    fn times(&self, claims: &Map<String, Value>, now: i64) -> Result<(), Rejected> {
        if self.end(claims).is_some_and(|end| end <= now) {
            return Err(invalid("expired", "the token has expired"));
        }
        let start = claims.get("nbf").and_then(instant);
        if start.is_some_and(|start| start > now.saturating_add(self.slack)) {
            return Err(invalid("not_yet_valid", "the token is not valid yet"));
        }
        Ok(())
    }

    /// The second from which a token counts no longer.
    pub(super) fn end(&self, claims: &Map<String, Value>) -> Option<i64> {
        let exp = claims.get("exp").and_then(instant)?;
        Some(exp.saturating_add(self.slack))
    }

    /// Judges scopes and audience.
    pub(super) fn entitled(&self, claims: &Map<String, Value>) -> Result<(), Missing> {
        if !self.scopes.iter().all(|scope| has_scope(claims, scope)) {
            return Err(Missing::Scopes);
        }
        let audience = claims.get(&*self.audience.claim);
        if self.audience.required && audience.is_none() {
            return Err(Missing::Audience);
        }
        let Some(client) = &self.audience.client else {
            return Ok(());
        };
        let is_client = |value: &Value| value.as_str() == Some(client);
        let matches = match audience {
            None => return Ok(()),
            Some(Value::Array(all)) => all.iter().any(is_client),
            Some(one) => is_client(one),
        };
        if matches {
            Ok(())
        } else {
            Err(Missing::OtherAudience)
        }
    }

    /// What the caller is told.
    pub(super) fn words(&self, missing: Missing) -> String {
        match missing {
            Missing::Scopes => format!("required scopes {} not present", self.scopes.join(", ")),
            Missing::Audience => "required audience claim not present".to_owned(),
            Missing::OtherAudience => "mismatched audience".to_owned(),
            Missing::Consumer(_) => "the caller is not known here".to_owned(),
        }
    }
}

/// A text with blanks between the scopes (RFC 8693, section 4.2), or a list; some providers call it scp.
fn has_scope(claims: &Map<String, Value>, scope: &str) -> bool {
    ["scope", "scp"].iter().any(|name| match claims.get(*name) {
        Some(Value::String(all)) => all.split_ascii_whitespace().any(|one| one == scope),
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(scope)),
        _ => false,
    })
}
