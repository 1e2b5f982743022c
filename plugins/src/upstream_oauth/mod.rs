//! Upstream OAuth: the gateway gets an access token from a provider and sends it to the upstream.
//!
//! Tokens are kept until they expire, shared by all plugins whose `oauth` block comes to the same values, fetched once
//! however many requests want one, and renewed ahead of time while they are in use. A client never sees one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CaRef, Problem, Reference, SecretKeyRef};

mod check;
#[cfg(feature = "handlers")]
mod fetch;
#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(feature = "handlers")]
mod pool;
#[cfg(feature = "handlers")]
mod provider;
#[cfg(feature = "handlers")]
mod slot;
#[cfg(test)]
#[cfg(feature = "handlers")]
mod tests;

#[cfg(feature = "handlers")]
pub use pool::Pool;

/// The gateway authenticates itself to the upstream with an OAuth 2.0 access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Which token is asked for, and of whom. Plugins of equal values share tokens.
    pub oauth: Oauth,
    /// How the provider is called. Default: as its fields say.
    #[serde(default)]
    pub client: Client,
    /// How long tokens are kept, and where. Default: as its fields say.
    #[serde(default)]
    pub cache: Cache,
    /// What happens to requests. Default: as its fields say.
    #[serde(default)]
    pub behavior: Behavior,
}

/// Which token is asked for, and of whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Oauth {
    /// URL of the provider's token endpoint, https://host/path; http is for networks where nobody listens.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = crate::schema::rules(&[crate::schema::HTTP_URL])))]
    pub token_endpoint: String,
    /// client_credentials: the gateway asks for itself. password: it asks for a user, with username and passwordSecretRef.
    /// Default: client_credentials.
    #[serde(default)]
    pub grant_type: GrantType,
    /// The gateway's name at the provider. Default: none, which only the authMethod none permits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub client_id: Option<String>,
    /// Entry of the Secret that holds the client's secret. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,
    /// The user of the grant password. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub username: Option<String>,
    /// Entry of the Secret that holds the user's password. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// Scopes that are asked for, at most 64; an empty list asks for none. Default: openid.
    #[serde(default = "scopes")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub scopes: Vec<String>,
    /// Audiences that are asked for, at most 16, each in a parameter of its own. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 1024)))]
    pub audience: Vec<String>,
    /// Headers that are added to requests for tokens; at most 32. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::parameters")]
    pub token_headers: BTreeMap<String, String>,
    /// Parameters that are added to requests for tokens; at most 32. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::parameters")]
    pub token_post_args: BTreeMap<String, String>,
}

/// How a token is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum GrantType {
    #[default]
    ClientCredentials,
    Password,
}

/// How the provider is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Client {
    /// How the gateway proves itself: client_secret_post (in the form), client_secret_basic (in a header), client_secret_jwt
    /// (an assertion signed with the secret), private_key_jwt (one signed with privateKeySecretRef), none. Default:
    /// client_secret_post.
    pub auth_method: AuthMethod,
    /// Algorithm of client_secret_jwt. Default: HS512.
    pub client_secret_jwt_alg: SecretAlgorithm,
    /// Entry of the Secret that holds the private key of private_key_jwt in PEM: RSA (signs with RS256), P-256 (ES256), P-384
    /// (ES384) or Ed25519 (EdDSA). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_secret_ref: Option<SecretKeyRef>,
    /// How long the provider may take, and how long a request waits for its token, in milliseconds, 1 to 300000. Default:
    /// 10000.
    #[schemars(range(min = 1, max = 300_000))]
    pub timeout_ms: u32,
    /// URL of the forward proxy for http endpoints; a user and password in it go out as Proxy-Authorization. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub http_proxy: Option<String>,
    /// URL of the forward proxy for https endpoints; a user and password in it go out as Proxy-Authorization. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub https_proxy: Option<String>,
    /// Hosts that are called without a proxy, comma-separated: names with what is below them, addresses, networks, * for all.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub no_proxy: Option<String>,
    /// Entry of the Secret that holds the Proxy-Authorization, in place of what the proxies' URLs say. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_authorization_secret_ref: Option<SecretKeyRef>,
    /// Verify the provider's certificate. Default: true.
    pub ssl_verify: bool,
    /// Certificates of the CAs that the provider may be known by. Default: those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

/// How the gateway proves itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AuthMethod {
    #[default]
    ClientSecretPost,
    ClientSecretBasic,
    ClientSecretJwt,
    PrivateKeyJwt,
    None,
}

/// Algorithms that sign with a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SecretAlgorithm {
    #[default]
    HS512,
    HS256,
}

/// How long tokens are kept, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cache {
    /// memory: each proxy has tokens of its own. redis: all proxies share them, in the gateway's store or in a Redis of its
    /// own. Default: memory.
    pub strategy: Strategy,
    /// The Redis of the strategy redis. Default: the gateway's store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// So many seconds before it expires a token is no longer used, 0 to 86400. Default: 5.
    #[schemars(range(max = 86_400))]
    pub eagerly_expire_seconds: u32,
    /// How many seconds a token lives of which the provider does not say it, 1 to 31536000. Default: 3600.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub default_ttl_seconds: u32,
}

/// Where tokens are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Strategy {
    #[default]
    Memory,
    Redis,
}

/// A Redis, by exactly one of `url` and `urlSecretRef`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = crate::schema::rules(&[check::ONE_URL])))]
pub struct Redis {
    /// URL: redis://, redis+cluster://, redis+sentinel://, with rediss for TLS. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// Entry of the Secret that holds the URL, for one with a password. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
}

/// What happens to requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behavior {
    /// Header in which the upstream gets the token, behind the word Bearer; what the client sends in it is replaced. Default:
    /// Authorization.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = crate::schema::rules(&[check::HEADER_NAME])))]
    pub upstream_access_token_header_name: String,
    /// Status of the answer where there is no token, 500 to 599. Default: 502.
    #[schemars(range(min = 500, max = 599))]
    pub idp_error_response_status_code: u16,
    /// Type of that answer. Default: application/json; charset=utf-8.
    #[schemars(length(min = 1, max = 256))]
    pub idp_error_response_content_type: String,
    /// Message of that answer. Default: Failed to authenticate request to upstream.
    #[schemars(length(max = 1024))]
    pub idp_error_response_message: String,
    /// Body of that answer; {{status}} and {{message}} stand for the two above. Default: a JSON object of code and message.
    #[schemars(length(max = 8192))]
    pub idp_error_response_body_template: String,
    /// When the upstream answers with one of these statuses, the answer is passed on and the token is no longer used; at most
    /// 32, none for never. Default: 401.
    #[schemars(length(max = 32), inner(range(min = 100, max = 599)))]
    pub purge_token_on_upstream_status_codes: Vec<u16>,
}

fn scopes() -> Vec<String> {
    vec!["openid".to_owned()]
}

impl Default for Client {
    fn default() -> Self {
        Self {
            auth_method: AuthMethod::default(),
            client_secret_jwt_alg: SecretAlgorithm::default(),
            private_key_secret_ref: None,
            timeout_ms: 10_000,
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            proxy_authorization_secret_ref: None,
            ssl_verify: true,
            ca_ref: None,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            redis: None,
            eagerly_expire_seconds: 5,
            default_ttl_seconds: 3600,
        }
    }
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            upstream_access_token_header_name: "Authorization".to_owned(),
            idp_error_response_status_code: 502,
            idp_error_response_content_type: "application/json; charset=utf-8".to_owned(),
            idp_error_response_message: "Failed to authenticate request to upstream".to_owned(),
            idp_error_response_body_template:
                "{ \"code\": \"{{status}}\", \"message\": \"{{message}}\" }".to_owned(),
            purge_token_on_upstream_status_codes: vec![401],
        }
    }
}

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        check::check(self)
    }

    /// See [`crate::Config::references`].
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let redis = self.cache.redis.as_ref();
        let secrets = [
            ("oauth.clientSecretRef", &self.oauth.client_secret_ref),
            ("oauth.passwordSecretRef", &self.oauth.password_secret_ref),
            (
                "client.privateKeySecretRef",
                &self.client.private_key_secret_ref,
            ),
            (
                "client.proxyAuthorizationSecretRef",
                &self.client.proxy_authorization_secret_ref,
            ),
            (
                "cache.redis.urlSecretRef",
                &redis.and_then(|redis| redis.url_secret_ref.clone()),
            ),
        ];
        let secrets = secrets
            .into_iter()
            .filter_map(|(field, at)| Some(Reference::secret(field, at.as_ref()?)));
        let ca = self.client.ca_ref.as_ref();
        secrets
            .chain(ca.map(|at| Reference::ca("client.caRef", at)))
            .collect()
    }
}
