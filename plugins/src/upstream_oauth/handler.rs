//! What it does to a request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use store::{Key, Store, Url};
use tokio::runtime::Handle;

use super::fetch::Fetcher;
use super::provider::{Provider, text};
use super::slot::{Token, now};
use super::{AuthMethod, Behavior, Config, Strategy};
use crate::handler::{Answer, BuildContext, Exchange, RequestBody, Services, Values, Verdict};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    fetcher: Arc<Fetcher>,
    background: Handle,
    header: HeaderName,
    purge: Box<[u16]>,
    /// What a client gets where there is no token.
    answer: Answer,
}

impl Handler {
    pub(crate) fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let (values, services) = (&context.values, context.services);
        let behavior = &config.behavior;
        let name = &behavior.upstream_access_token_header_name;
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            format!("behavior.upstreamAccessTokenHeaderName: {name:?} is no header")
        })?;
        let answer = answer(behavior)?;
        let provider = Provider::new(&config, values, services)?;
        let (shared, whose) = shared(&config, values, services)?;
        let place = (digest(&config, values)?, whose);
        let fetcher = Fetcher {
            provider,
            slot: services.upstream_tokens.slot(&place),
            place,
            pool: services.upstream_tokens.clone(),
            shared,
            timeout: Duration::from_millis(config.client.timeout_ms.into()),
            eagerly: u64::from(config.cache.eagerly_expire_seconds) * 1000,
        };
        Ok(Self {
            fetcher: Arc::new(fetcher),
            background: services.background.clone(),
            header,
            purge: config.behavior.purge_token_on_upstream_status_codes.into(),
            answer,
        })
    }

    pub(crate) async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        let (slot, now_ms) = (&self.fetcher.slot, now());
        if let Some(token) = &*slot.token()
            && token.is_good(now_ms, self.fetcher.eagerly)
        {
            if !exchange.rehearsal && slot.begins_renewal(token, now_ms) {
                self.renew(token.id);
            }
            self.give(exchange, token);
            return Verdict::Continue("cached");
        }
        if exchange.rehearsal {
            return self.rehearse(exchange).await;
        }
        let fetching = tokio::time::timeout(self.fetcher.timeout, self.fetcher.fetch(None));
        let reason = match fetching.await {
            // One that is over already when it arrives is nobody's.
            Ok(Ok(token)) if token.is_good(now(), 0) => {
                self.give(exchange, &token);
                return Verdict::Continue("fetched");
            }
            Ok(Ok(_)) => "expired",
            Ok(Err(reason)) => reason,
            Err(_) => "timeout",
        };
        self.without_token(reason)
    }

    /// What becomes of a request for which there is no token here, as far as that is known without asking the provider.
    async fn rehearse<B>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        if let Some(reason) = self.fetcher.slot.paused() {
            return self.without_token(reason);
        }
        match self.fetcher.look().await {
            Some(token) => {
                self.give(exchange, &token);
                Verdict::Continue("shared")
            }
            None => Verdict::Undecided("would_fetch"),
        }
    }

    fn without_token(&self, reason: &'static str) -> Verdict {
        Verdict::Answer(Box::new(Answer {
            status: self.answer.status,
            headers: self.answer.headers.clone(),
            body: self.answer.body.clone(),
            reason,
        }))
    }

    /// Sees the upstream's answer to a request that had this token.
    pub(crate) fn response(&self, status: StatusCode, token: u64) {
        if self.purge.contains(&status.as_u16()) && self.fetcher.slot.purge(token) {
            let fetcher = Arc::clone(&self.fetcher);
            if fetcher.shared.is_some() {
                drop(
                    self.background
                        .spawn(async move { fetcher.forget(token).await }),
                );
            }
        }
    }

    fn give<B>(&self, exchange: &mut Exchange<'_, B>, token: &Token) {
        let headers = &mut exchange.head.headers;
        // Upstreams that read "_" as "-" must find no other.
        if self.header.as_str().contains('-') {
            let twin = |name: &HeaderName| {
                let name = name.as_str();
                name.contains('_') && name.replace('_', "-") == self.header.as_str()
            };
            let twins: Vec<HeaderName> =
                headers.keys().filter(|name| twin(name)).cloned().collect();
            for twin in twins {
                headers.remove(twin);
            }
        }
        headers.insert(self.header.clone(), token.header.clone());
        if !self.purge.is_empty() {
            exchange.watch = Some(token.id);
        }
    }

    /// Fetches the next token while this one still serves.
    fn renew(&self, old: u64) {
        let fetcher = Arc::clone(&self.fetcher);
        drop(self.background.spawn(async move {
            // Whether it fails or not: the old one serves as long as it lives.
            let _ = fetcher.fetch(Some(old)).await;
            fetcher.slot.renewed();
        }));
    }
}

/// Where proxies share tokens, and a name for the place.
fn shared(
    config: &Config,
    values: &Values<'_>,
    services: &Services,
) -> Result<(Option<Store>, String), String> {
    if config.cache.strategy == Strategy::Memory {
        return Ok((None, String::new()));
    }
    let Some(redis) = &config.cache.redis else {
        return Ok((Some(services.store.clone()), "store".to_owned()));
    };
    let (field, url) = match &redis.url {
        Some(url) => ("cache.redis.url", url.as_str()),
        None => {
            let field = "cache.redis.urlSecretRef";
            (field, text(values, field)?)
        }
    };
    let parsed: Url = url.parse().map_err(|error| format!("{field}: {error}"))?;
    let store = services
        .store
        .elsewhere(&parsed, &services.background)
        .map_err(|error| format!("{field}: {error}"))?;
    Ok((Some(store), url.to_owned()))
}

/// A digest of all that decides which token the provider gives. What proves who asks is part of it, so that nobody gets
/// a token who could not have asked for it: secrets are values of `oauth`, a private key stands beside it.
fn digest(config: &Config, values: &Values<'_>) -> Result<Key, String> {
    // Names of Secrets do not matter, only what is in them.
    let mut oauth = config.oauth.clone();
    (oauth.client_secret_ref, oauth.password_secret_ref) = (None, None);
    let mut parts = serde_json::to_vec(&oauth).map_err(|error| error.to_string())?;
    let private = match config.client.auth_method {
        AuthMethod::PrivateKeyJwt => values.find("client.privateKeySecretRef"),
        _ => None,
    };
    let public = config.client.auth_method == AuthMethod::None;
    parts.push(u8::from(public));
    for value in [
        values.find("oauth.clientSecretRef"),
        values.find("oauth.passwordSecretRef"),
        private,
    ] {
        let value = value.map_or(&[][..], |value| value);
        parts.extend_from_slice(&(value.len() as u64).to_be_bytes());
        parts.extend_from_slice(value);
    }
    Ok(Key::of("upstream oauth", &parts))
}

/// The answer that the configuration says, made once.
fn answer(behavior: &Behavior) -> Result<Answer, String> {
    let number = behavior.idp_error_response_status_code;
    let status = StatusCode::from_u16(number)
        .map_err(|_| format!("behavior.idpErrorResponseStatusCode: {number} is no status"))?;
    let content_type = &behavior.idp_error_response_content_type;
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_str(content_type).map_err(|_| {
            format!("behavior.idpErrorResponseContentType: {content_type:?} fits no header")
        })?,
    );
    let message = &behavior.idp_error_response_message;
    // Within JSON the message stands between quotes.
    let message = if content_type.to_ascii_lowercase().contains("json") {
        let quoted = serde_json::to_string(message).map_err(|error| error.to_string())?;
        let inner = quoted
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        inner.unwrap_or_default().to_owned()
    } else {
        message.clone()
    };
    let template = &behavior.idp_error_response_body_template;
    let body = fill(template, &number.to_string(), &message);
    Ok(Answer {
        status,
        headers,
        body: Bytes::from(body),
        reason: "",
    })
}

/// Puts values into a template; what a value holds is never a template itself.
fn fill(template: &str, status: &str, message: &str) -> String {
    let mut filled = String::with_capacity(template.len() + message.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, behind)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        match name.trim() {
            "status" => filled.push_str(status),
            "message" => filled.push_str(message),
            _ => {
                filled.push_str("{{");
                rest = after;
                continue;
            }
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}
