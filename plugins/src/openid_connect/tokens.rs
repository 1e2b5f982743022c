//! What the token endpoint answers, and what becomes of it.

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::Endpoint;
use super::core::Core;
use super::provider::Provider;

/// Tokens, as the provider gives them.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tokens {
    pub(super) access_token: String,
    pub(super) token_type: Option<String>,
    pub(super) expires_in: Option<Value>,
    pub(super) refresh_token: Option<String>,
    pub(super) id_token: Option<String>,
    pub(super) scope: Option<String>,
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

impl Tokens {
    /// Reads an answer of the token endpoint.
    pub(super) fn read(status: StatusCode, body: &[u8]) -> Result<Self, Denied> {
        #[derive(Deserialize)]
        struct Failed {
            error: Option<String>,
        }
        if status.is_success() {
            let tokens: Self =
                serde_json::from_slice(body).map_err(|_| Denied::Away("not_a_token_answer"))?;
            let bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
            let fits = tokens.token_type.as_ref().is_none_or(bearer);
            let whole = fits && !tokens.access_token.is_empty();
            return whole
                .then_some(tokens)
                .ok_or(Denied::Away("no_bearer_token"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(Denied::Away("bad_status"));
        }
        let failed: Option<Failed> = serde_json::from_slice(body).ok();
        let error = failed.and_then(|failed| failed.error);
        Err(match error.as_deref() {
            Some("invalid_client" | "unauthorized_client") => Denied::Client,
            _ if status == StatusCode::UNAUTHORIZED => Denied::Client,
            _ => Denied::Refused,
        })
    }

    /// When the access token is no longer good.
    pub(super) fn ends(&self, default: i64, now: i64) -> i64 {
        let seconds = self.expires_in.as_ref().and_then(|value| {
            // Some write the number as a text.
            value.as_str().map_or_else(
                || super::token::instant(value),
                |text| text.trim().parse().ok(),
            )
        });
        now.saturating_add(seconds.unwrap_or(default).max(0))
    }
}

impl Core {
    /// Asks the token endpoint.
    pub(super) async fn ask_for_tokens(
        &self,
        provider: &Provider,
        form: &[(&str, &str)],
        now: i64,
    ) -> Result<Tokens, Denied> {
        let metadata = &provider.metadata;
        let url = metadata.token_endpoint.as_deref();
        let endpoint = Endpoint {
            url: url.ok_or(Denied::Away("no_token_endpoint"))?,
            wanted: self.config.token_endpoint_auth_method,
            supported: metadata.token_endpoint_auth_methods_supported.as_deref(),
            headers: HeaderMap::new(),
        };
        let sent = self.client.post(&self.idp, endpoint, form, now).await;
        let response = sent.map_err(Denied::Away)?;
        Tokens::read(response.status(), response.body())
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
