//! The end of a session: because the user wants it, or the provider.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::client::Endpoint;
use super::cookies::Channel;
use super::core::Core;
use super::provider::Provider;
use super::session::{Held, Session, Sessions};
use super::token::Token;
use super::{answers, login};
use crate::handler::{Exchange, RequestBody, Verdict};

/// What makes a token one that ends sessions (OpenID Connect Back-Channel Logout 1.0).
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Longest body of a logout by the provider.
const LONGEST_BODY: usize = 64 << 10;
/// How old a logout token may be.
const FRESH: i64 = 120;

impl Core {
    /// Ends the session of a browser, and sends it to where it ends at the provider too.
    pub(super) async fn log_out<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
    ) -> Verdict {
        let channel = Channel::of(exchange.https);
        let headers = &exchange.head.headers;
        let found = sessions.find(headers, channel, exchange.now).await;
        let held = found.as_ref().ok().and_then(Option::as_ref);
        let ended = sessions
            .end(held, exchange.response, headers, channel)
            .await;
        login::end_attempts(sessions, exchange.response, headers, channel);
        if found.is_err() || ended.is_err() {
            return answers::unavailable(true, exchange.request_id, "store_unavailable");
        }
        let provider = match self.idp.provider().await {
            Ok(provider) => provider,
            Err(why) => return self.away(exchange, why),
        };
        let session = held.map(Held::session);
        if let (true, Some(session)) = (self.config.revoke_tokens_on_logout, session) {
            self.revoke(&provider, session, exchange.now).await;
        }
        let after = self.config.post_logout_redirect_uri.as_deref();
        let after = after.map(|uri| match uri.strip_prefix('/') {
            Some(_) => format!("{}{uri}", login::origin(exchange.head, exchange.https)),
            None => uri.to_owned(),
        });
        if let Some(endpoint) = &provider.metadata.end_session_endpoint {
            let mut url = endpoint.url().clone();
            let mut query = url.query_pairs_mut();
            match session.and_then(|session| session.id_token.as_ref()) {
                Some(id_token) => query.append_pair("id_token_hint", id_token),
                None => query.append_pair("client_id", &self.config.client_id),
            };
            if let Some(after) = &after {
                query.append_pair("post_logout_redirect_uri", after);
            }
            drop(query);
            return answers::redirect(url.as_str(), "signed_out");
        }
        match after {
            Some(after) => answers::redirect(&after, "signed_out"),
            None => answers::page(
                StatusCode::OK,
                "Logged Out",
                "You have signed out.",
                ("", "signed_out"),
            ),
        }
    }

    /// Revokes what the session holds. The session has ended already, so that failures do not matter to the user.
    async fn revoke(&self, provider: &Provider, session: &Session, now: i64) {
        let Some(url) = &provider.metadata.revocation_endpoint else {
            tracing::warn!(plugin = self.key, "the provider has no revocation endpoint");
            return;
        };
        let tokens = [
            ("refresh_token", &session.refresh_token),
            ("access_token", &session.access_token),
        ];
        for (hint, token) in tokens {
            let Some(token) = token else { continue };
            let metadata = &provider.metadata;
            let endpoint = Endpoint {
                url,
                // Every provider knows itself by its token endpoint (RFC 7523, section 3); Keycloak by this one not.
                audience: metadata.token_endpoint.as_ref().map_or(url, |url| url),
                wanted: self.config.token_endpoint_auth_method,
                supported: metadata.token_endpoint_auth_methods_supported.as_deref(),
                headers: HeaderMap::new(),
            };
            let form = [("token", &**token), ("token_type_hint", hint)];
            let sent = self.client.post(&self.idp, endpoint, &form, now).await;
            let problem = match sent {
                Ok(response) if response.status().is_success() => continue,
                Ok(_) => "bad_status",
                Err(reason) => reason,
            };
            tracing::warn!(plugin = self.key, hint, problem, "a token was not revoked");
        }
    }

    /// The provider ends sessions.
    pub(super) async fn log_out_by_provider<B: RequestBody>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
    ) -> Verdict {
        match self.provider_ends(sessions, exchange).await {
            Ok(()) => answers::json(StatusCode::OK, &json!({}), "signed_out_by_provider"),
            Err((status, reason)) => {
                tracing::warn!(plugin = self.key, reason, "a logout by the provider failed");
                answers::json(status, &json!({"error": "invalid_request"}), reason)
            }
        }
    }

    async fn provider_ends<B: RequestBody>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<(), (StatusCode, &'static str)> {
        const AWAY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        let bad = |reason| (StatusCode::BAD_REQUEST, reason);
        if exchange.head.method != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "not_a_post"));
        }
        let kind = exchange.head.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(bad("not_a_form"));
        }
        let body = exchange.body.buffer(LONGEST_BODY).await;
        let body = body.map_err(|_| bad("no_body"))?;
        let text = std::str::from_utf8(&body).map_err(|_| bad("not_a_form"))?;
        // A token has no characters that a form writes otherwise.
        let mut given = text
            .split('&')
            .filter_map(|pair| pair.strip_prefix("logout_token="));
        let (Some(text), None) = (given.next(), given.next()) else {
            return Err(bad("no_logout_token"));
        };
        let token = Token::read(text).map_err(bad)?;
        let provider = self.idp.provider().await.map_err(|why| (AWAY, why))?;
        let verified = self.rules.verify(&token, &provider).await;
        verified.map_err(bad)?;
        let issuer = &provider.metadata.issuer;
        self.judge_logout(&token, issuer, exchange.now)
            .map_err(bad)?;
        let id = token.text("jti").unwrap_or_default();
        let store = |_| (AWAY, "store_unavailable");
        let seconds = u64::from(self.config.iat_slack) * 2 + 240;
        if !sessions.is_first(id, seconds).await.map_err(store)? {
            return Err(bad("logout_token_used"));
        }
        let what = match (token.text("sid"), token.text("sub")) {
            (Some(sid), _) => ("sid", sid),
            (None, Some(sub)) => ("sub", sub),
            (None, None) => return Err(bad("nobody_named")),
        };
        let marked = sessions.end_at_provider(issuer, what, exchange.now).await;
        marked.map_err(store)
    }

    fn judge_logout(&self, token: &Token<'_>, issuer: &str, now: i64) -> Result<(), &'static str> {
        let slack = i64::from(self.config.iat_slack);
        if token.text("iss") != Some(issuer) {
            return Err("other_issuer");
        }
        self.rules.judge_audience(token)?;
        let iat = token.instant("iat").ok_or("no_issue_time")?;
        if iat > now.saturating_add(slack) || iat.saturating_add(slack + FRESH) < now {
            return Err("not_fresh");
        }
        let exp = token.claims.get("exp");
        if exp.is_some()
            && token
                .instant("exp")
                .is_none_or(|exp| exp.saturating_add(slack) <= now)
        {
            return Err("expired");
        }
        let event = token
            .claims
            .get("events")
            .and_then(|events| events.get(LOGOUT_EVENT));
        if !event.is_some_and(Value::is_object) {
            return Err("no_logout_event");
        }
        if token.claims.contains_key("nonce") {
            return Err("nonce_in_logout_token");
        }
        token
            .text("jti")
            .filter(|id| !id.is_empty())
            .ok_or("no_id")?;
        Ok(())
    }
}
