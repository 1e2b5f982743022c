//! What is asked of the provider, and what it answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use outbound::{ForwardProxies, ForwardProxy, Profile, ProfileOptions, Verify};

use super::slot::{Token, now};
use super::{AuthMethod, Config, GrantType, SecretAlgorithm};
use crate::client_assertion::{self, Signer};
use crate::handler::{Services, Values};

/// Longest answer, and longest token.
const MAX_ANSWER: usize = 256 << 10;
const MAX_TOKEN: usize = 16 << 10;

/// A provider that can be asked.
#[derive(Debug)]
pub(super) struct Provider {
    client: outbound::Client,
    profile: Profile,
    endpoint: Uri,
    headers: HeaderMap,
    /// All that is the same each time.
    form: Form,
    assertion: Option<Assertion>,
    default_ttl: Duration,
}

#[derive(Debug)]
struct Assertion {
    signer: Signer,
    client_id: String,
    audience: String,
}

/// A form that may hold secrets.
#[derive(Clone)]
struct Form(String);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Form(redacted)")
    }
}

impl Form {
    fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0
            .extend(form_urlencoded::byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0
            .extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }
}

/// What a provider answers to a request that it grants.
#[derive(serde::Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Provider {
    pub(super) fn new(
        config: &Config,
        values: &Values<'_>,
        services: &Services,
    ) -> Result<Self, String> {
        let oauth = &config.oauth;
        let endpoint: Uri = oauth
            .token_endpoint
            .parse()
            .map_err(|_| "oauth.tokenEndpoint: it is no URL".to_owned())?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        for (name, value) in &oauth.token_headers {
            let field = || format!("oauth.tokenHeaders.{name}: it is no header");
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| field())?;
            let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| field())?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let mut form = Form(String::new());
        let grant = match oauth.grant_type {
            GrantType::ClientCredentials => "client_credentials",
            GrantType::Password => "password",
        };
        form.push("grant_type", grant);
        if oauth.grant_type == GrantType::Password {
            form.push("username", oauth.username.as_deref().unwrap_or_default());
            form.push("password", text(values, "oauth.passwordSecretRef")?);
        }
        if !oauth.scopes.is_empty() {
            form.push("scope", &oauth.scopes.join(" "));
        }
        for audience in &oauth.audience {
            form.push("audience", audience);
        }
        for (name, value) in &oauth.token_post_args {
            form.push(name, value);
        }
        let assertion = authenticate(config, values, &mut headers, &mut form)?;
        let profile = services
            .outbound
            .profile(&profile(config, values)?)
            .map_err(|error| format!("client: {error}"))?;
        Ok(Self {
            client: services.outbound.clone(),
            profile,
            endpoint,
            headers,
            form,
            assertion,
            default_ttl: Duration::from_secs(config.cache.default_ttl_seconds.into()),
        })
    }

    /// Where it is, for the log.
    pub(super) fn host(&self) -> &str {
        self.endpoint.host().unwrap_or_default()
    }

    /// Asks for a token. What it gets cannot be older than the request for it.
    ///
    /// # Errors
    /// A constant reason.
    pub(super) async fn ask(&self) -> Result<Token, &'static str> {
        let mut form = self.form.clone();
        let asked = now();
        if let Some(assertion) = &self.assertion {
            let seconds = i64::try_from(asked / 1000).unwrap_or_default();
            let Assertion {
                signer,
                client_id,
                audience,
            } = assertion;
            let signed = signer
                .assertion(client_id, audience, seconds)
                .ok_or("not_signed")?;
            form.push("client_assertion", &signed);
        }
        let mut request = Request::new(Bytes::from(form.0));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let sent = self.client.send(&self.profile, request).await;
        let response = sent.map_err(outbound::Error::reason)?;
        if !response.status().is_success() {
            return Err("provider_refused");
        }
        self.granted(response.body(), asked)
    }

    fn granted(&self, body: &[u8], asked: u64) -> Result<Token, &'static str> {
        let granted: Granted = serde_json::from_slice(body).map_err(|_| "bad_answer")?;
        let bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
        if !granted.token_type.as_ref().is_none_or(bearer) {
            return Err("not_bearer");
        }
        let life = match &granted.expires_in {
            None | Some(serde_json::Value::Null) => self.default_ttl,
            Some(value) => seconds(value).ok_or("bad_answer")?,
        };
        let token = granted.access_token;
        let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.is_empty() || token.len() > MAX_TOKEN || !plain {
            return Err("bad_answer");
        }
        if life.is_zero() {
            return Err("expired");
        }
        Token::new(token, asked, life).ok_or("bad_answer")
    }
}

/// Seconds as a number or, as some providers have it, as text.
fn seconds(value: &serde_json::Value) -> Option<Duration> {
    let number = match value {
        serde_json::Value::Number(number) => number.as_f64()?,
        serde_json::Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.clamp(0.0, 1e10)).ok()
}

/// Adds what proves who asks.
fn authenticate(
    config: &Config,
    values: &Values<'_>,
    headers: &mut HeaderMap,
    form: &mut Form,
) -> Result<Option<Assertion>, String> {
    let client_id = config.oauth.client_id.as_deref().unwrap_or_default();
    let secret = || text(values, "oauth.clientSecretRef");
    let signer = match config.client.auth_method {
        AuthMethod::None => {
            if !client_id.is_empty() {
                form.push("client_id", client_id);
            }
            return Ok(None);
        }
        AuthMethod::ClientSecretPost => {
            form.push("client_id", client_id);
            form.push("client_secret", secret()?);
            return Ok(None);
        }
        AuthMethod::ClientSecretBasic => {
            headers.insert(AUTHORIZATION, basic(client_id, secret()?)?);
            return Ok(None);
        }
        AuthMethod::ClientSecretJwt => match config.client.client_secret_jwt_alg {
            SecretAlgorithm::HS256 => Signer::hs256(secret()?.as_bytes()),
            SecretAlgorithm::HS512 => Signer::hs512(secret()?.as_bytes()),
        },
        AuthMethod::PrivateKeyJwt => {
            let field = "client.privateKeySecretRef";
            Signer::private(values.value(field)?).map_err(|wrong| format!("{field}: {wrong}"))?
        }
    };
    // RFC 7521 lets the assertion alone say it, but many providers look for it before they read that.
    form.push("client_id", client_id);
    form.push("client_assertion_type", client_assertion::TYPE);
    Ok(Some(Assertion {
        signer,
        client_id: client_id.to_owned(),
        audience: config.oauth.token_endpoint.clone(),
    }))
}

/// Both parts are form-encoded first: RFC 6749, 2.3.1.
fn basic(id: &str, secret: &str) -> Result<HeaderValue, String> {
    use base64::Engine;
    let encoded =
        |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = format!("{}:{}", encoded(id), encoded(secret));
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {pair}"))
        .map_err(|_| "oauth.clientId: it fits no header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn profile(config: &Config, values: &Values<'_>) -> Result<ProfileOptions, String> {
    let client = &config.client;
    let authorization = match values.find("client.proxyAuthorizationSecretRef") {
        None => None,
        Some(value) => {
            let name = PROXY_AUTHORIZATION.as_str();
            let wrong = |_| format!("client.proxyAuthorizationSecretRef: it fits no {name}");
            Some(HeaderValue::from_bytes(value.trim_ascii()).map_err(wrong)?)
        }
    };
    let proxy = |url: &Option<String>| {
        url.as_ref().map(|url| ForwardProxy {
            url: url.clone(),
            authorization: authorization.clone(),
        })
    };
    let verify = match values.find("client.caRef") {
        _ if !client.ssl_verify => Verify::Nothing,
        Some(pem) => Verify::Only(pem.to_vec()),
        None => Verify::System,
    };
    Ok(ProfileOptions {
        timeout: Duration::from_millis(client.timeout_ms.into()),
        verify,
        proxies: ForwardProxies {
            http: proxy(&client.http_proxy),
            https: proxy(&client.https_proxy),
            no_proxy: client.no_proxy.clone().unwrap_or_default(),
        },
        max_body_bytes: MAX_ANSWER,
        ..ProfileOptions::default()
    })
}

/// A value that is text; editors end files with a line feed, which is no part of it.
pub(super) fn text<'a>(values: &Values<'a>, field: &str) -> Result<&'a str, String> {
    let value = values.value(field)?;
    std::str::from_utf8(value)
        .map(|text| text.trim_end_matches(['\r', '\n']))
        .map_err(|_| format!("{field}: it is no text"))
}
