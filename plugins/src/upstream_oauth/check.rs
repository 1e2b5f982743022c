//! What a configuration must not say.

use super::{AuthMethod, Behavior, Client, Config, GrantType, Oauth, Strategy};
use crate::schema::{self, Rule};
use crate::{Problem, Problems};

/// Where tokens are must be said once.
pub(super) const ONE_URL: Rule = Rule {
    cel: "has(self.url) != has(self.urlSecretRef)",
    message: "redis needs exactly one of url and urlSecretRef",
};

/// The header of the token.
pub(super) const HEADER_NAME: Rule = Rule {
    cel: "self.matches(\"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$\")",
    message: "may hold only characters of header names: letters, digits and !#$%&'*+-.^_`|~",
};

/// Headers that frame a message or belong to a connection: whoever set them would change what is sent.
const FRAMING: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Parameters that the other fields say.
const OURS: [&str; 9] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "audience",
    "username",
    "password",
];

pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Problems::default();
    oauth(&config.oauth, &mut problems);
    client(&config.client, &mut problems);
    let (oauth, client) = (&config.oauth, &config.client);
    let method = client.auth_method;
    if matches!(
        method,
        AuthMethod::ClientSecretPost | AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretJwt
    ) && oauth.client_secret_ref.is_none()
    {
        let message = "the authMethod needs it: name the Secret, or choose private_key_jwt or none";
        problems.add("oauth.clientSecretRef", message);
    }
    if method != AuthMethod::None && oauth.client_id.is_none() {
        problems.add("oauth.clientId", "the authMethod needs it");
    }
    if (method == AuthMethod::PrivateKeyJwt) != client.private_key_secret_ref.is_some() {
        let message = "belongs to the authMethod private_key_jwt, which needs it";
        problems.add("client.privateKeySecretRef", message);
    }
    if method == AuthMethod::ClientSecretBasic
        && oauth
            .token_headers
            .keys()
            .any(|name| name.eq_ignore_ascii_case("authorization"))
    {
        let message = "client_secret_basic sends an Authorization of its own";
        problems.add("oauth.tokenHeaders", message);
    }
    let cache = &config.cache;
    range(
        &mut problems,
        "cache.eagerlyExpireSeconds",
        cache.eagerly_expire_seconds,
        0,
        86_400,
    );
    range(
        &mut problems,
        "cache.defaultTtlSeconds",
        cache.default_ttl_seconds,
        1,
        31_536_000,
    );
    if let Some(redis) = &cache.redis {
        let one = redis.url.is_some() != redis.url_secret_ref.is_some();
        problems.rule("cache.redis", one, ONE_URL);
        if cache.strategy != Strategy::Redis {
            problems.add("cache.redis", "belongs to the strategy redis");
        }
        if let Some(url) = &redis.url {
            problems.length("cache.redis.url", url, 1, 2048);
            if !url.starts_with("redis") {
                problems.add("cache.redis.url", "must be a URL of Redis, redis://HOST");
            }
        }
    }
    behavior(&config.behavior, &mut problems);
    problems.0
}

fn oauth(oauth: &Oauth, problems: &mut Problems) {
    problems.length("oauth.tokenEndpoint", &oauth.token_endpoint, 1, 2048);
    let callable = is_url(&oauth.token_endpoint);
    problems.rule("oauth.tokenEndpoint", callable, schema::HTTP_URL);
    for (field, text) in [
        ("oauth.clientId", &oauth.client_id),
        ("oauth.username", &oauth.username),
    ] {
        if let Some(text) = text {
            problems.length(field, text, 1, 1024);
        }
    }
    problems.items("oauth.scopes", &oauth.scopes, 0, 64, 256);
    problems.items("oauth.audience", &oauth.audience, 0, 16, 1024);
    let user = oauth.username.is_some() && oauth.password_secret_ref.is_some();
    let neither = oauth.username.is_none() && oauth.password_secret_ref.is_none();
    match oauth.grant_type {
        GrantType::Password if !user => {
            let message = "password needs username and passwordSecretRef";
            problems.add("oauth.grantType", message);
        }
        GrantType::ClientCredentials if !neither => {
            let message = "username and passwordSecretRef belong to the grant password";
            problems.add("oauth.grantType", message);
        }
        GrantType::Password | GrantType::ClientCredentials => {}
    }
    for (field, map) in [
        ("oauth.tokenHeaders", &oauth.token_headers),
        ("oauth.tokenPostArgs", &oauth.token_post_args),
    ] {
        if map.len() > 32 {
            problems.add(field, "must have at most 32 entries");
        }
        for (name, value) in map {
            let at = format!("{field}.{name}");
            if name.is_empty() {
                problems.add(&*at, "must have a name");
            }
            problems.length(&at, value, 0, 2048);
        }
    }
    for (name, value) in &oauth.token_headers {
        let at = format!("oauth.tokenHeaders.{name}");
        problems.rule(&at, schema::is_header_name(name), HEADER_NAME);
        if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
            problems.add(&*at, "is set by the gateway itself");
        }
        if value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            problems.add(&*at, "must not hold control characters");
        }
    }
    for name in oauth.token_post_args.keys() {
        if OURS.contains(&name.as_str()) {
            let message = "has a field of its own under oauth or client";
            problems.add(format!("oauth.tokenPostArgs.{name}"), message);
        }
    }
}

fn client(client: &Client, problems: &mut Problems) {
    range(problems, "client.timeoutMs", client.timeout_ms, 1, 300_000);
    for (field, url) in [
        ("client.httpProxy", &client.http_proxy),
        ("client.httpsProxy", &client.https_proxy),
    ] {
        if let Some(url) = url {
            problems.length(field, url, 1, 2048);
            if !url.starts_with("http://") && !url.starts_with("https://") {
                problems.add(field, "must be http://host:port or https://host:port");
            }
        }
    }
    if let Some(hosts) = &client.no_proxy {
        problems.length("client.noProxy", hosts, 0, 2048);
    }
    if client.proxy_authorization_secret_ref.is_some()
        && client.http_proxy.is_none()
        && client.https_proxy.is_none()
    {
        let message = "belongs to httpProxy or httpsProxy";
        problems.add("client.proxyAuthorizationSecretRef", message);
    }
    if client.ca_ref.is_some() && !client.ssl_verify {
        problems.add("client.caRef", "means nothing while sslVerify is false");
    }
}

fn behavior(behavior: &Behavior, problems: &mut Problems) {
    let name = &behavior.upstream_access_token_header_name;
    let field = "behavior.upstreamAccessTokenHeaderName";
    problems.length(field, name, 1, 128);
    problems.rule(field, schema::is_header_name(name), HEADER_NAME);
    let lower = name.to_ascii_lowercase();
    if FRAMING.contains(&lower.as_str()) && lower != "proxy-authorization" {
        problems.add(field, "is set by the gateway itself");
    }
    let status = behavior.idp_error_response_status_code;
    let field = "behavior.idpErrorResponseStatusCode";
    range(problems, field, status.into(), 500, 599);
    let content_type = &behavior.idp_error_response_content_type;
    let field = "behavior.idpErrorResponseContentType";
    problems.length(field, content_type, 1, 256);
    if content_type
        .bytes()
        .any(|byte| !(b' '..=b'~').contains(&byte))
    {
        problems.add(field, "may hold only printable ASCII characters");
    }
    for (field, text, max) in [
        (
            "behavior.idpErrorResponseMessage",
            &behavior.idp_error_response_message,
            1024,
        ),
        (
            "behavior.idpErrorResponseBodyTemplate",
            &behavior.idp_error_response_body_template,
            8192,
        ),
    ] {
        problems.length(field, text, 0, max);
    }
    let codes = &behavior.purge_token_on_upstream_status_codes;
    let field = "behavior.purgeTokenOnUpstreamStatusCodes";
    if codes.len() > 32 {
        problems.add(field, "must have at most 32 items");
    }
    for (index, code) in codes.iter().enumerate() {
        range(
            problems,
            &format!("{field}[{index}]"),
            (*code).into(),
            100,
            599,
        );
    }
}

fn range(problems: &mut Problems, field: &str, value: u32, min: u32, max: u32) {
    if !(min..=max).contains(&value) {
        problems.add(field, format!("must be from {min} to {max}"));
    }
}

/// As [`schema::HTTP_URL`] says it.
fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    !host.is_empty()
        && !host.contains('@')
        && !rest.contains('#')
        && rest.bytes().all(|byte| byte.is_ascii_graphic())
}
