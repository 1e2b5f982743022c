//! What the token endpoint answers, and what becomes of it.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use openidconnect::core::{
    CoreErrorResponseType, CoreGenderClaim, CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AsyncHttpClient, AuthorizationCode, EmptyAdditionalClaims, HttpRequest,
    HttpResponse, IdToken, OAuth2TokenResponse, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardErrorResponse, TokenResponse, TokenType,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::Endpoint;
use super::core::Core;
use super::provider::{Idp, Provider};

/// Tokens, as the provider gives them.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tokens {
    pub(super) access_token: AccessToken,
    #[serde(default)]
    token_type: Kind,
    expires_in: Option<Value>,
    pub(super) refresh_token: Option<RefreshToken>,
    pub(super) id_token: Option<String>,
    pub(super) scope: Option<String>,
}

/// What kind of access token it is; some providers do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kind(Option<String>);

/// What tokens are asked for with.
#[derive(Clone, Copy)]
pub(super) enum Grant<'a> {
    /// A code that the browser has brought.
    Code {
        code: &'a str,
        redirect_uri: &'a str,
        verifier: Option<&'a str>,
    },
    /// A refresh token.
    Refresh(&'a str),
}

/// Why there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The provider does not accept what it was shown.
    Refused,
    /// The provider does not accept who shows it: the client, its secret or its key.
    Client,
    /// The provider cannot be asked, or answers nonsense.
    Away(&'static str),
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

impl TokenType for Kind {}

impl OAuth2TokenResponse for Tokens {
    type TokenType = Kind;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &Kind {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        let seconds = self.seconds()?;
        Some(Duration::from_secs(seconds.try_into().unwrap_or_default()))
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    /// Never: they are read from the text where they matter.
    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl TokenResponse<EmptyAdditionalClaims, CoreGenderClaim, Encryption, CoreJwsSigningAlgorithm>
    for Tokens
{
    /// Never: the library cannot read a token in which one claim of no importance has an odd type, and nobody could sign
    /// in at such a provider. `token` reads it.
    fn id_token(&self) -> Option<&SignedByCore> {
        None
    }
}

type Encryption = CoreJweContentEncryptionAlgorithm;
type SignedByCore =
    IdToken<EmptyAdditionalClaims, CoreGenderClaim, Encryption, CoreJwsSigningAlgorithm>;
/// Why the library has no tokens.
type Failed = RequestTokenError<Unreachable, StandardErrorResponse<CoreErrorResponseType>>;

/// The provider gives no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreachable(&'static str);

impl Tokens {
    /// What an answer comes to: only bearer tokens can be passed on.
    fn of(asked: Result<Self, Failed>, status: Option<StatusCode>) -> Result<Self, Denied> {
        let tokens = asked.map_err(|failed| Denied::of(&failed, status))?;
        let bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
        let fits = tokens.token_type.0.as_ref().is_none_or(bearer);
        let whole = fits && !tokens.access_token.secret().is_empty();
        whole
            .then_some(tokens)
            .ok_or(Denied::Away("no_bearer_token"))
    }

    fn seconds(&self) -> Option<i64> {
        let value = self.expires_in.as_ref()?;
        // Some write the number as a text.
        value.as_str().map_or_else(
            || super::token::instant(value),
            |text| text.trim().parse().ok(),
        )
    }

    /// When the access token is no longer good.
    pub(super) fn ends(&self, default: i64, now: i64) -> i64 {
        now.saturating_add(self.seconds().unwrap_or(default).max(0))
    }
}

impl Denied {
    fn of(failed: &Failed, status: Option<StatusCode>) -> Self {
        let busy = |status: StatusCode| {
            status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
        };
        let status = match (failed, status) {
            (RequestTokenError::Request(Unreachable(why)), _) => return Self::Away(why),
            (_, None) => return Self::Away("bad_url"),
            (_, Some(status)) if busy(status) => return Self::Away("bad_status"),
            (_, Some(status)) => status,
        };
        if let RequestTokenError::ServerResponse(answer) = failed
            && matches!(
                answer.error(),
                CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient
            )
        {
            return Self::Client;
        }
        match status {
            StatusCode::UNAUTHORIZED => Self::Client,
            _ if status.is_success() => Self::Away("not_a_token_answer"),
            _ => Self::Refused,
        }
    }
}

/// Sends the library's requests, and notes which status the answer has.
struct Sender<'a> {
    idp: &'a Idp,
    status: OnceLock<StatusCode>,
}

impl<'c> AsyncHttpClient<'c> for Sender<'_> {
    type Error = Unreachable;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Unreachable>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        let mut request = request.map(bytes::Bytes::from);
        if let Some(authorization) = request.headers_mut().get_mut(AUTHORIZATION) {
            authorization.set_sensitive(true);
        }
        Box::pin(async move {
            let answered = self.idp.call(request).await.map_err(Unreachable)?;
            let status = answered.status();
            let _ = self.status.set(status);
            Ok(understood(status, answered.into_body().into()))
        })
    }
}

/// An answer as the library understands it, which knows one good status and one type of content.
fn understood(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    let mut response = HttpResponse::new(body);
    if !status.is_success() {
        *response.status_mut() = status;
    }
    response
}

/// What fuzzers read.
#[cfg(any(test, feature = "invariants"))]
pub(super) fn read(status: StatusCode, body: &[u8]) -> Option<Result<Tokens, Denied>> {
    use openidconnect::{ClientId, IssuerUrl, JsonWebKeySet, TokenUrl};
    let url = "https://idp.test".to_owned();
    let (id, issuer) = (
        ClientId::new(String::new()),
        IssuerUrl::new(url.clone()).ok()?,
    );
    let protocol = super::client::Protocol::new(id, issuer, JsonWebKeySet::default());
    let protocol = protocol.set_token_uri(TokenUrl::new(url).ok()?);
    let request = protocol.exchange_code(AuthorizationCode::new(String::new()));
    let asked = request.request(&|_| Ok(understood(status, body.to_vec())));
    Some(Tokens::of(asked, Some(status)))
}

impl Core {
    /// Asks the token endpoint.
    pub(super) async fn ask_for_tokens(
        &self,
        provider: &Provider,
        grant: Grant<'_>,
        now: i64,
    ) -> Result<Tokens, Denied> {
        let metadata = &provider.metadata;
        let url = metadata.token_endpoint.as_ref();
        let url = url.ok_or(Denied::Away("no_token_endpoint"))?;
        let endpoint = Endpoint {
            url,
            audience: url,
            wanted: self.config.token_endpoint_auth_method,
            supported: metadata.token_endpoint_auth_methods_supported.as_deref(),
            headers: HeaderMap::new(),
        };
        let proof = self.client.proof(&endpoint, now).map_err(Denied::Away)?;
        let protocol = self.client.protocol(&metadata.issuer, &proof);
        let protocol = protocol.set_token_uri(url.clone());
        let sender = Sender {
            idp: &self.idp,
            status: OnceLock::new(),
        };
        let asked = match grant {
            Grant::Code {
                code,
                redirect_uri,
                verifier,
            } => {
                let redirect = RedirectUrl::new(redirect_uri.to_owned());
                let redirect = redirect.map_err(|_| Denied::Away("bad_url"))?;
                let code = AuthorizationCode::new(code.to_owned());
                let mut request = protocol.exchange_code(code);
                request = request.set_redirect_uri(Cow::Owned(redirect));
                if let Some(verifier) = verifier {
                    request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()));
                }
                for (name, value) in proof.assertion() {
                    request = request.add_extra_param(name, value);
                }
                request.request_async(&sender).await
            }
            Grant::Refresh(token) => {
                let token = RefreshToken::new(token.to_owned());
                let mut request = protocol.exchange_refresh_token(&token);
                for (name, value) in proof.assertion() {
                    request = request.add_extra_param(name, value);
                }
                request.request_async(&sender).await
            }
        };
        Tokens::of(asked, sender.status.get().copied())
    }

    /// What the provider says of the user. Without an answer, or with one about somebody else, the login goes on without.
    pub(super) async fn ask_for_user(
        &self,
        provider: &Provider,
        access_token: &str,
        subject: &str,
    ) -> Option<Map<String, Value>> {
        let url = provider.metadata.userinfo_endpoint.as_deref()?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {access_token}")).ok()?;
        authorization.set_sensitive(true);
        let request = Request::get(url)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json")
            .body(bytes::Bytes::new())
            .ok()?;
        let problem = match self.idp.call(request).await {
            Err(reason) => reason,
            Ok(response) if response.status() != StatusCode::OK => "bad_status",
            Ok(response) => match serde_json::from_slice::<Map<String, Value>>(response.body()) {
                Ok(user) if user.get("sub").and_then(Value::as_str) == Some(subject) => {
                    return Some(user);
                }
                Ok(_) => "other_subject",
                Err(_) => "not_json",
            },
        };
        tracing::warn!(
            plugin = self.key,
            problem,
            "the userinfo endpoint gave no user"
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str) -> Result<Tokens, Denied> {
        read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap()
    }

    #[test]
    fn answers_are_read_as_providers_write_them() {
        let plain = r#"{"access_token": "at", "token_type": "Bearer", "expires_in": 60}"#;
        assert_eq!(outcome(200, plain).unwrap().ends(1, 1000), 1060);
        let odd = r#"{"access_token": "at", "expires_in": " 60 ", "id_token": "a.b.c", "scope": "a b", "x": {"y": []}}"#;
        let tokens = outcome(201, odd).unwrap();
        assert_eq!(tokens.ends(1, 1000), 1060);
        assert_eq!(tokens.id_token.as_deref(), Some("a.b.c"));
        assert_eq!(tokens.scope.as_deref(), Some("a b"));
        let silent = r#"{"access_token": "at", "token_type": null, "expires_in": -5}"#;
        assert_eq!(outcome(200, silent).unwrap().ends(7, 1000), 1000);
        assert!(!format!("{tokens:?}").contains("at\""));
    }

    #[test]
    fn what_brings_no_tokens_says_whose_fault_it_is() {
        let invalid = r#"{"error": "invalid_client", "error_description": "no"}"#;
        for (status, body, why) in [
            (200, "", Denied::Away("not_a_token_answer")),
            (200, "<html>", Denied::Away("not_a_token_answer")),
            (200, r#"{"token": 1}"#, Denied::Away("not_a_token_answer")),
            (
                200,
                r#"{"access_token": ""}"#,
                Denied::Away("no_bearer_token"),
            ),
            (
                200,
                r#"{"access_token": "at", "token_type": "mac"}"#,
                Denied::Away("no_bearer_token"),
            ),
            (400, invalid, Denied::Client),
            (400, r#"{"error": "unauthorized_client"}"#, Denied::Client),
            (400, r#"{"error": "invalid_grant"}"#, Denied::Refused),
            (400, "gone", Denied::Refused),
            (401, "", Denied::Client),
            (302, "", Denied::Refused),
            (429, invalid, Denied::Away("bad_status")),
            (503, invalid, Denied::Away("bad_status")),
        ] {
            assert_eq!(outcome(status, body).err(), Some(why), "{status} {body}");
        }
    }
}
