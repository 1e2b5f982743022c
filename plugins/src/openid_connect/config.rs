//! The block that users write.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::jwt::Algorithm;
use crate::{CaRef, SecretKeyRef, schema};

/// The most that a number of seconds may be: ten years.
pub(super) const MAX_SECONDS: u32 = 315_360_000;
/// The most that clocks may be off.
pub(super) const MAX_SLACK: u32 = 3600;
/// What is appended to the path of a request where `redirectUri` is not given.
pub const REDIRECT_SUFFIX: &str = "/.postern/redirect";

/// Callers sign in at an OpenID provider, or prove themselves with one of its access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The id that the provider knows this gateway by.
    #[schemars(length(min = 1, max = 1024))]
    pub client_id: String,
    /// The client's secret. Default: none, for a public client with PKCE, for private_key_jwt, and where tokens are only
    /// verified with keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,
    /// URL of the provider's metadata, which ends in /.well-known/openid-configuration; the issuer that it names must be the
    /// part before that, or one of claimValidator.issuer.validIssuers.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = schema::rules(&[schema::HTTP_URL])))]
    pub discovery: String,
    /// The scopes that are asked for, with blanks between them; openid has to be among them. Default: openid.
    #[serde(default = "openid")]
    #[schemars(length(min = 1, max = 2048))]
    pub scope: String,
    /// Scopes that an access token or a session must have, at most 64; otherwise 403. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub required_scopes: Vec<String>,
    /// The realm of challenges, printable ASCII. Default: postern.
    #[serde(default = "postern")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = schema::rules(&[schema::REALM])))]
    pub realm: String,
    /// Only take access tokens from the Authorization header; nobody signs in. Default: false.
    #[serde(default)]
    pub bearer_only: bool,
    /// The path that ends a session. Default: /logout.
    #[serde(default = "logout")]
    #[schemars(length(min = 1, max = 1024))]
    pub logout_path: String,
    /// Where a browser goes after logout. Default: none; the provider, or a page of the gateway, has the last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub post_logout_redirect_uri: Option<String>,
    /// The path at which the provider may end sessions itself (OpenID Connect Back-Channel Logout). It must be routed to
    /// this plugin. Default: none, the provider cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub backchannel_logout_path: Option<String>,
    /// Where the provider sends browsers back to: an absolute URL that is routed to this plugin, and is not a page of the
    /// upstream. Default: the URL of the request with /.postern/redirect at the end of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = schema::rules(&[schema::HTTP_URL])))]
    pub redirect_uri: Option<String>,
    /// Seconds that one call to the provider may take, 1 to 60. Default: 3.
    #[serde(default = "timeout")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout: u32,
    /// Verify the provider's certificate. Default: true.
    #[serde(default = "yes")]
    pub ssl_verify: bool,
    /// The CA certificates, in PEM, that the provider's certificate must come from. Default: those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// URL of the introspection endpoint (RFC 7662). Default: the provider's metadata say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = schema::rules(&[schema::HTTP_URL])))]
    pub introspection_endpoint: Option<String>,
    /// How the client authenticates at the introspection endpoint. Default: client_secret_basic, or where the provider
    /// does not support that the first one that both do.
    #[serde(default)]
    pub introspection_endpoint_auth_method: AuthMethod,
    /// How the client authenticates at the token and revocation endpoints. Default: client_secret_basic, or where the
    /// provider does not support that the first one that both do.
    #[serde(default)]
    pub token_endpoint_auth_method: AuthMethod,
    /// A public key, in PEM, that verifies access tokens instead of introspection. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub public_key: Option<String>,
    /// Verify access tokens with the provider's published keys instead of introspection, where publicKey is not given.
    /// Default: false.
    #[serde(default)]
    pub use_jwks: bool,
    /// Prove with PKCE (RFC 7636, S256) that who redeems a code is who asked for it. Default: true.
    #[serde(default = "yes")]
    pub use_pkce: bool,
    /// The one algorithm that tokens may be signed with. Default: those that the provider announces, but for the ones with a
    /// shared secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_signing_alg_values_expected: Option<Algorithm>,
    /// Tell the upstream the access token, in X-Access-Token. Default: true.
    #[serde(default = "yes")]
    pub set_access_token_header: bool,
    /// Tell it in Authorization instead. Default: false.
    #[serde(default)]
    pub access_token_in_authorization_header: bool,
    /// Tell the upstream the claims of the ID token, as base64 of JSON in X-ID-Token. Default: true.
    #[serde(default = "yes")]
    pub set_id_token_header: bool,
    /// Tell the upstream what is known of the user, as base64 of JSON in X-Userinfo. Default: true.
    #[serde(default = "yes")]
    pub set_userinfo_header: bool,
    /// Tell the upstream the refresh token, in X-Refresh-Token. Default: false.
    #[serde(default)]
    pub set_refresh_token_header: bool,
    /// Sessions of those who have signed in. Default: what each of its fields says.
    #[serde(default)]
    pub session: Session,
    /// What becomes of a request without a session: auth (sign in), deny (401), pass (the upstream sees that nobody signed
    /// in). Default: auth.
    #[serde(default)]
    pub unauth_action: UnauthAction,
    /// What a session holds. Default: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_contents: Option<SessionContents>,
    /// Forward proxies for calls to the provider. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_opts: Option<ProxyOpts>,
    /// More parameters of the authorization request, at most 32. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::parameters")]
    pub authorization_params: BTreeMap<String, String>,
    /// The RSA key, in PEM, that signs assertions of private_key_jwt. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_rsa_private_key_ref: Option<SecretKeyRef>,
    /// The id of that key (kid). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub client_rsa_private_key_id: Option<String>,
    /// Seconds that an assertion of private_key_jwt or client_secret_jwt is good for, 1 to 3600. Default: 60.
    #[serde(default = "assertion")]
    #[schemars(range(min = 1, max = 3600))]
    pub client_jwt_assertion_expires_in: u32,
    /// Renew an access token that has expired with the refresh token, without the user. Default: true; otherwise the
    /// upstream gets none any more.
    #[serde(default = "yes")]
    pub renew_access_token_on_expiry: bool,
    /// Seconds that an access token is good for where the provider does not say. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    pub access_token_expires_in: Option<u32>,
    /// Seconds after which the provider is asked again, without the user noticing, whether the user is still signed in there.
    /// Default: none, it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    pub refresh_session_interval: Option<u32>,
    /// Seconds that the provider's clock may be off, 0 to 3600. Default: 120.
    #[serde(default = "slack")]
    #[schemars(range(max = MAX_SLACK))]
    pub iat_slack: u32,
    /// Accept ID tokens that are not signed at all. Unsafe unless the provider is called over TLS. Default: false.
    #[serde(default)]
    pub accept_none_alg: bool,
    /// Accept ID tokens signed with an algorithm that is not supported here, without verifying them. Unsafe unless the
    /// provider is called over TLS. Default: false.
    #[serde(default)]
    pub accept_unsupported_alg: bool,
    /// Seconds before its end at which an access token is renewed, 0 to 3600. Default: 0.
    #[serde(default)]
    #[schemars(range(max = MAX_SLACK))]
    pub access_token_expires_leeway: u32,
    /// Sign in anew for every page that a browser opens, session or not. Default: false.
    #[serde(default)]
    pub force_reauthorize: bool,
    /// Bind the ID token to the login with a nonce. Default: true.
    #[serde(default = "yes")]
    pub use_nonce: bool,
    /// Revoke the tokens at the provider (RFC 7009) when a session is ended. Default: false.
    #[serde(default)]
    pub revoke_tokens_on_logout: bool,
    /// Seconds that the provider's keys are used before they are fetched again, 30 to 86400. Default: 86400.
    #[serde(default = "day")]
    #[schemars(range(min = 30, max = 86400))]
    pub jwk_expires_in: u32,
    /// Verify the signature of an access token every time, and remember no result. Default: false.
    #[serde(default)]
    pub jwt_verification_cache_ignore: bool,
    /// Plugins with the same provider, client and segment share what they remember of access tokens. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub cache_segment: Option<String>,
    /// Seconds that the result of an introspection is remembered at most; 0: as long as the token is good. Default: 0.
    #[serde(default)]
    #[schemars(range(max = MAX_SECONDS))]
    pub introspection_interval: u32,
    /// The claim of an introspection that says how long its result is good: exp as an instant, every other as a number of
    /// seconds. Default: exp.
    #[serde(default = "exp")]
    #[schemars(length(min = 1, max = 256))]
    pub introspection_expiry_claim: String,
    /// Headers of the request that are sent with an introspection too, at most 16. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 128)),
        extend("x-kubernetes-validations" = schema::rules(&[schema::HEADER_NAMES]))
    )]
    pub introspection_addon_headers: Vec<String>,
    /// What tokens must say besides. Default: what each of its fields says.
    #[serde(default)]
    pub claim_validator: ClaimValidator,
    /// The claim whose value is the name of the Consumer, in the namespace of the plugin, that the caller counts as; for email
    /// the provider must have verified it. Without such a Consumer: 403. Default: none, the caller counts as no Consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub consumer_claim: Option<String>,
}

/// How a client authenticates (OpenID Connect Core, section 9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AuthMethod {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    ClientSecretJwt,
    PrivateKeyJwt,
}

/// What becomes of a request without a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum UnauthAction {
    #[default]
    Auth,
    Deny,
    Pass,
}

/// Sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Session {
    /// The secret that cookies are sealed with, of 16 characters or more. To rotate it, put the new one in a line before the
    /// old one: the first line seals, every line opens. Default: one that is generated and shared by all proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// How long a session lives. Default: what its field says.
    pub cookie: SessionCookie,
    /// Name of the cookie. Over TLS, with path / and without a domain, __Host- is put before it. Default: session.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-validations" = schema::rules(&[schema::COOKIE_NAME])))]
    pub cookie_name: String,
    /// Path of the cookie. Default: /.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Domain of the cookie. Default: none, the host of the request alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub domain: Option<String>,
    /// Send the cookie over TLS only. Default: true where the request came over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// Whether other sites may send the cookie: Lax (with links), Strict (never; but the cookies of a login under way are
    /// Lax, because it comes back from another site), None (always; needs TLS). Default: Lax.
    pub same_site: SameSite,
    /// Seconds without a request after which a session ends. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    pub idle_timeout: Option<u32>,
    /// Seconds after its login at which a session ends, however often it was renewed. Default: 86400.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    pub absolute_timeout: u32,
    /// Where a session is kept: cookie (in the browser, sealed; in the store where it is too large for that), or store.
    /// Default: cookie.
    pub storage: Storage,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            secret_ref: None,
            cookie: SessionCookie::default(),
            cookie_name: "session".to_owned(),
            path: "/".to_owned(),
            domain: None,
            secure: None,
            same_site: SameSite::default(),
            idle_timeout: None,
            absolute_timeout: 86_400,
            storage: Storage::default(),
        }
    }
}

/// How long a session lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SessionCookie {
    /// Seconds after which a session ends, counted from its login or its last renewal at the provider. Default: 3600.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    pub lifetime: u32,
}

impl Default for SessionCookie {
    fn default() -> Self {
        Self { lifetime: 3600 }
    }
}

/// Whether other sites may send a cookie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SameSite {
    #[default]
    Lax,
    Strict,
    None,
}

/// Where a session is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Storage {
    #[default]
    Cookie,
    Store,
}

/// What a session holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SessionContents {
    /// The access token and the refresh token. Default: false.
    pub access_token: bool,
    /// The claims of the ID token. Default: false.
    pub id_token: bool,
    /// The ID token as it was signed: the provider is shown it at logout. Default: false.
    pub enc_id_token: bool,
    /// What the userinfo endpoint says. Default: false, it is not asked.
    pub user: bool,
}

/// Forward proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxyOpts {
    /// For http URLs: http://host:port. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub http_proxy: Option<String>,
    /// For https URLs: http://host:port. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub https_proxy: Option<String>,
    /// The Proxy-Authorization for httpProxy. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub http_proxy_authorization: Option<String>,
    /// The same, in a Secret. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy_authorization_secret_ref: Option<SecretKeyRef>,
    /// The Proxy-Authorization for httpsProxy. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub https_proxy_authorization: Option<String>,
    /// The same, in a Secret. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_proxy_authorization_secret_ref: Option<SecretKeyRef>,
    /// Hosts that are called directly, with commas between them. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub no_proxy: Option<String>,
}

/// What tokens must say besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimValidator {
    /// Whose tokens count. Default: the issuer that the provider's metadata name.
    pub issuer: IssuerValidator,
    /// For whom access tokens must be. Default: anybody.
    pub audience: AudienceValidator,
}

/// Whose tokens count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IssuerValidator {
    /// Issuers whose access tokens count, at most 16. Default: the one that the provider's metadata name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 2048)))]
    pub valid_issuers: Vec<String>,
}

/// For whom access tokens must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AudienceValidator {
    /// The claim that names the audience. Default: aud.
    #[schemars(length(min = 1, max = 256))]
    pub claim: String,
    /// The claim has to be there; otherwise 403. Default: false.
    pub required: bool,
    /// The client id has to be among the audience; otherwise 403. Default: false.
    pub match_with_client_id: bool,
}

impl Default for AudienceValidator {
    fn default() -> Self {
        Self {
            claim: "aud".to_owned(),
            required: false,
            match_with_client_id: false,
        }
    }
}

const fn yes() -> bool {
    true
}
fn openid() -> String {
    "openid".to_owned()
}
fn postern() -> String {
    "postern".to_owned()
}
fn logout() -> String {
    "/logout".to_owned()
}
fn exp() -> String {
    "exp".to_owned()
}
const fn timeout() -> u32 {
    3
}
const fn assertion() -> u32 {
    60
}
const fn slack() -> u32 {
    120
}
const fn day() -> u32 {
    86_400
}
