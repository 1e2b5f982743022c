//! JWT: the caller presents a signed token in a header, a query parameter or a cookie.
//!
//! A claim of the token names the Credential; the Credential says with which algorithm and key the signature is verified.
//! Nothing that a token says about keys (`jku`, `x5u`, `x5c`, `jwk`) is ever looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ObjectName, Problem, Problems, schema};

mod algorithm;
#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(any(test, feature = "invariants"))]
#[cfg(feature = "handlers")]
pub mod invariants;
#[cfg(feature = "handlers")]
mod keys;
#[cfg(feature = "handlers")]
mod presented;
#[cfg(test)]
#[cfg(feature = "handlers")]
mod tests;
#[cfg(feature = "handlers")]
mod token;
#[cfg(feature = "handlers")]
mod verified;

pub use algorithm::{Algorithm, Family};
#[cfg(feature = "handlers")]
#[cfg(feature = "handlers")]
pub use keys::{Material, VerificationKey, Verifier};

/// The most that `maximumExpiration` may be: a year.
const MAX_EXPIRATION: u32 = 31_536_000;
/// The most that `clockSkewSeconds` may be.
const MAX_SKEW: u32 = 3600;

/// Callers prove themselves with a signed JSON Web Token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::TOKEN_PLACES, schema::EXPIRATION])))]
pub struct Config {
    /// Names of the query parameters that may hold the token, at most 16; letter case counts. Default: jwt.
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub uri_param_names: Vec<String>,
    /// Names of the cookies that may hold the token, at most 16; letter case counts. Default: none.
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 128)),
        extend("x-kubernetes-validations" = schema::rules(&[schema::HEADER_NAMES]))
    )]
    pub cookie_names: Vec<String>,
    /// Names of the headers that may hold the token behind the word Bearer, at most 16. Default: authorization.
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 128)),
        extend("x-kubernetes-validations" = schema::rules(&[schema::HEADER_NAMES]))
    )]
    pub header_names: Vec<String>,
    /// Claims that must be there as numbers and must hold: exp (in the future), nbf (not in the future). Default: none, an
    /// expired token passes.
    #[schemars(length(max = 2))]
    pub claims_to_verify: Vec<Claim>,
    /// The claim, of the payload or else of the header, that names the Credential by its key; a dot in it has no meaning.
    /// Default: iss.
    #[schemars(length(min = 1, max = 256))]
    pub key_claim_name: String,
    /// The Credentials' shared secrets (HS256, HS384, HS512) are base64 of the secret proper. Default: false.
    pub secret_is_base64: bool,
    /// The Consumer, in the same namespace, that a request counts as where no valid token is found. Default: none, such a
    /// request is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<ObjectName>,
    /// Ask for a token on OPTIONS requests too. Default: true.
    pub run_on_preflight: bool,
    /// How many seconds ahead exp may be at most, 0 to 31536000; more than 0 needs exp in claimsToVerify. Default: 0, any
    /// number.
    #[schemars(range(max = MAX_EXPIRATION))]
    pub maximum_expiration: u32,
    /// The realm of the challenge, printable ASCII. Default: none, the challenge names no realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = schema::rules(&[schema::REALM])))]
    pub realm: Option<String>,
    /// How many seconds the issuers' clocks may be off when exp, nbf and maximumExpiration are verified, 0 to 3600.
    /// Default: 0.
    #[schemars(range(max = MAX_SKEW))]
    pub clock_skew_seconds: u32,
    /// Remember which signatures have been verified with a public key, at most until the token expires or the key
    /// changes. Claims are verified on every request. Default: true.
    pub verification_cache: bool,
    /// The answer to a bad signature, an algorithm that is not the Credential's, a key claim that names no Credential, and
    /// a lifetime over maximumExpiration: 403 or 401. Every other refusal is 401. Default: 403.
    #[schemars(extend("enum" = [401, 403]))]
    pub invalid_token_status: u16,
    /// Refuse tokens of Credentials whose shared secret is shorter than the hash of its algorithm (32, 48 or 64 bytes):
    /// such secrets can be guessed from a single token. Default: false.
    pub refuse_short_secrets: bool,
}

/// A registered claim that can be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Claim {
    Exp,
    Nbf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uri_param_names: vec!["jwt".to_owned()],
            cookie_names: Vec::new(),
            header_names: vec!["authorization".to_owned()],
            claims_to_verify: Vec::new(),
            key_claim_name: "iss".to_owned(),
            secret_is_base64: false,
            anonymous: None,
            run_on_preflight: true,
            maximum_expiration: 0,
            realm: None,
            clock_skew_seconds: 0,
            verification_cache: true,
            invalid_token_status: 403,
            refuse_short_secrets: false,
        }
    }
}

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.items("uriParamNames", &self.uri_param_names, 0, 16, 128);
        for (field, names) in [
            ("cookieNames", &self.cookie_names),
            ("headerNames", &self.header_names),
        ] {
            problems.items(field, names, 0, 16, 128);
            let fit = names.iter().all(|name| schema::is_header_name(name));
            problems.rule(field, fit, schema::HEADER_NAMES);
        }
        let places = [
            &self.uri_param_names,
            &self.cookie_names,
            &self.header_names,
        ];
        problems.rule(
            "",
            places.iter().any(|names| !names.is_empty()),
            schema::TOKEN_PLACES,
        );
        if self.claims_to_verify.len() > 2 {
            problems.add("claimsToVerify", "must have at most 2 items: exp and nbf");
        }
        problems.length("keyClaimName", &self.key_claim_name, 1, 256);
        problems.anonymous(self.anonymous.as_ref());
        if self.maximum_expiration > MAX_EXPIRATION {
            problems.add(
                "maximumExpiration",
                format!("must be between 0 and {MAX_EXPIRATION} seconds"),
            );
        }
        let bounded = self.maximum_expiration == 0 || self.claims_to_verify.contains(&Claim::Exp);
        problems.rule("", bounded, schema::EXPIRATION);
        problems.realm(self.realm.as_deref());
        if self.clock_skew_seconds > MAX_SKEW {
            problems.add(
                "clockSkewSeconds",
                format!("must be between 0 and {MAX_SKEW} seconds"),
            );
        }
        if !matches!(self.invalid_token_status, 401 | 403) {
            problems.add("invalidTokenStatus", "must be 401 or 403");
        }
        problems.0
    }
}
