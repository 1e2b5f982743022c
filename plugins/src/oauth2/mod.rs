//! OAuth 2.0: an authorization server on every route that it protects, and the check of the tokens that it issues.
//!
//! Applications are Credentials. Codes and tokens are random and opaque, and only their digests are kept, in the store that
//! the proxies share. Who the end user is, an application's own login page says: it vouches with the provision key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ObjectName, Problem, Problems, Reference, SecretKeyRef, schema};

#[cfg(feature = "ledger")]
#[cfg_attr(
    not(feature = "handlers"),
    expect(dead_code, reason = "only handlers ask")
)]
mod ages;
#[cfg(feature = "handlers")]
mod answer;
#[cfg(feature = "handlers")]
mod authorize;
#[cfg(feature = "handlers")]
mod cache;
#[cfg(feature = "handlers")]
mod client;
#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(feature = "handlers")]
mod inspect;
#[cfg(feature = "handlers")]
mod issue;
#[cfg(feature = "ledger")]
pub mod ledger;
#[cfg(feature = "handlers")]
mod metadata;
#[cfg(feature = "handlers")]
mod parameters;
#[cfg(feature = "ledger")]
mod records;
#[cfg(feature = "ledger")]
#[cfg_attr(
    not(feature = "handlers"),
    expect(dead_code, reason = "issuing needs the rest")
)]
mod secrets;
#[cfg(test)]
#[cfg(feature = "handlers")]
mod tests;
#[cfg(feature = "handlers")]
mod token;

/// The most that lifetimes may be, in seconds.
const MAX_LIFETIME: u32 = 100_000_000;
/// The most that `retryGraceSeconds` may be.
const MAX_GRACE: u32 = 60;
/// The most that `maxBodyBytes` may be.
const MAX_BODY_BYTES: u32 = 104_857_600;
/// Entry of the Secret that a provision key is generated into.
const PROVISION_KEY: &str = "provisionKey";

/// Callers prove themselves with an access token of this plugin, which it issues on the paths that end with
/// /oauth2/authorize and /oauth2/token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::GRANTS, schema::MANDATORY_SCOPE])))]
pub struct Config {
    /// The scopes on offer, at most 64; letter case counts. Default: none, tokens have no scope.
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 128)),
        extend("x-kubernetes-validations" = schema::rules(&[schema::SCOPES]))
    )]
    pub scopes: Vec<String>,
    /// Refuse requests for a token that ask for no scope; needs scopes. Default: false.
    pub mandatory_scope: bool,
    /// Entry of a Secret in the same namespace that holds the key by which the login page vouches for users. Default: one of
    /// 32 characters is generated into the entry provisionKey of a Secret that is named after the AuthPlugin and owned by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provision_key_secret_ref: Option<SecretKeyRef>,
    /// How many seconds an access token lives, 0 to 100000000; 0: for ever, and without a refresh token. Default: 7200.
    #[schemars(range(max = MAX_LIFETIME))]
    pub token_expiration: u32,
    /// Issue tokens for codes that the user has permitted (RFC 6749, section 4.1). Default: false.
    pub enable_authorization_code: bool,
    /// Issue tokens to applications in their own name (RFC 6749, section 4.4). Default: false.
    pub enable_client_credentials: bool,
    /// Issue tokens in the address of a redirect (RFC 6749, section 4.2). Browsers and logs see them there: use codes with
    /// PKCE where you can. Default: false.
    pub enable_implicit_grant: bool,
    /// Issue tokens for users that a back end has verified by name and password (RFC 6749, section 4.3). Default: false.
    pub enable_password_grant: bool,
    /// Name of the header that holds the access token, and at the token endpoint the Basic credentials of the application.
    /// Default: authorization.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = schema::rules(&[schema::HEADER_NAME])))]
    pub auth_header_name: String,
    /// Remove the access token from the request before it is forwarded. In a multipart body it stays. Default: false.
    pub hide_credentials: bool,
    /// Take X-Forwarded-Proto: https of a trusted proxy for https at the endpoints. Default: false.
    pub accept_http_if_already_terminated: bool,
    /// The Consumer, in the same namespace, that a request counts as where no valid token is found. Default: none, such a
    /// request is refused with 401.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<ObjectName>,
    /// Tokens count for every AuthPlugin that has this set too, not only for the one that issued them. Default: false.
    pub global_credentials: bool,
    /// How many seconds a refresh token lives, 0 to 100000000; 0: for ever. Default: 1209600.
    #[schemars(range(max = MAX_LIFETIME))]
    pub refresh_token_ttl: u32,
    /// Let a refresh token be used again and again. Default: false, each is used once and replaced by a new one. When one of
    /// a public application comes a second time, all tokens that followed from the same permission end.
    pub reuse_refresh_token: bool,
    /// For how many seconds, 0 to 60, a code or refresh token that comes again gets the same answer again, for applications
    /// that retry when the answer was lost. Default: 0, it counts as stolen.
    #[schemars(range(max = MAX_GRACE))]
    pub retry_grace_seconds: u32,
    /// Who must use PKCE with codes (RFC 7636, S256 only): none, lax (public applications) or strict (all). A challenge that
    /// was sent is always enforced. Default: lax.
    pub pkce: Pkce,
    /// The realm of the challenge, printable ASCII. Default: none, the challenge names no realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = schema::rules(&[schema::REALM])))]
    pub realm: Option<String>,
    /// The https address that the server calls itself, as iss (RFC 9207) and in its metadata (RFC 8414). Default: https, the
    /// host of the request, and its path before /oauth2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = schema::rules(&[schema::HTTPS_URL])))]
    pub issuer: Option<String>,
    /// The https address of the login page, which the metadata name as the authorization endpoint. Default: the path
    /// /oauth2/authorize, which only the login page may ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = schema::rules(&[schema::HTTPS_URL])))]
    pub login_url: Option<String>,
    /// The longest body, in bytes, that is read in search of an access token, 1 to 104857600; a longer one is refused with
    /// 413. Default: 1048576.
    #[schemars(range(min = 1, max = MAX_BODY_BYTES))]
    pub max_body_bytes: u32,
}

/// Who must use PKCE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Pkce {
    None,
    #[default]
    Lax,
    Strict,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scopes: Vec::new(),
            mandatory_scope: false,
            provision_key_secret_ref: None,
            token_expiration: 7200,
            enable_authorization_code: false,
            enable_client_credentials: false,
            enable_implicit_grant: false,
            enable_password_grant: false,
            auth_header_name: "authorization".to_owned(),
            hide_credentials: false,
            accept_http_if_already_terminated: false,
            anonymous: None,
            global_credentials: false,
            refresh_token_ttl: 1_209_600,
            reuse_refresh_token: false,
            retry_grace_seconds: 0,
            pkce: Pkce::Lax,
            realm: None,
            issuer: None,
            login_url: None,
            max_body_bytes: 1_048_576,
        }
    }
}

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.items("scopes", &self.scopes, 0, 64, 128);
        let fit = self.scopes.iter().all(|scope| schema::is_scope(scope));
        problems.rule("scopes", fit, schema::SCOPES);
        let some = !self.mandatory_scope || !self.scopes.is_empty();
        problems.rule("", some, schema::MANDATORY_SCOPE);
        let grants = self.enable_authorization_code
            || self.enable_client_credentials
            || self.enable_implicit_grant
            || self.enable_password_grant;
        problems.rule("", grants, schema::GRANTS);
        if let Some(at) = &self.provision_key_secret_ref {
            problems.length("provisionKeySecretRef.name", &at.name, 1, 253);
            problems.length("provisionKeySecretRef.key", &at.key, 1, 253);
        }
        problems.length("authHeaderName", &self.auth_header_name, 1, 128);
        let named = schema::is_header_name(&self.auth_header_name);
        problems.rule("authHeaderName", named, schema::HEADER_NAME);
        for (field, value, max) in [
            ("tokenExpiration", self.token_expiration, MAX_LIFETIME),
            ("refreshTokenTtl", self.refresh_token_ttl, MAX_LIFETIME),
            ("retryGraceSeconds", self.retry_grace_seconds, MAX_GRACE),
        ] {
            if value > max {
                problems.add(field, format!("must be between 0 and {max} seconds"));
            }
        }
        problems.anonymous(self.anonymous.as_ref());
        problems.realm(self.realm.as_deref());
        for (field, url) in [("issuer", &self.issuer), ("loginUrl", &self.login_url)] {
            if let Some(url) = url {
                problems.length(field, url, 1, 1024);
                problems.rule(field, schema::is_https_url(url), schema::HTTPS_URL);
            }
        }
        if !(1..=MAX_BODY_BYTES).contains(&self.max_body_bytes) {
            problems.add(
                "maxBodyBytes",
                format!("must be between 1 and {MAX_BODY_BYTES} bytes"),
            );
        }
        problems.0
    }

    /// See [`crate::Config::references`].
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        vec![Reference::secret_or_generated(
            "provisionKeySecretRef",
            self.provision_key_secret_ref.as_ref(),
            PROVISION_KEY,
        )]
    }
}
