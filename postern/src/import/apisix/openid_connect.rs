//! `openid-connect`: Postern has its options in another spelling.

use serde_json::{Map, Value, json};

use super::plugins::Said;
use super::tables::{self, flag, text};

/// Options that are the same but for their spelling.
const SAME: [&str; 38] = [
    "client_id",
    "discovery",
    "scope",
    "required_scopes",
    "realm",
    "bearer_only",
    "logout_path",
    "post_logout_redirect_uri",
    "redirect_uri",
    "timeout",
    "ssl_verify",
    "introspection_endpoint",
    "introspection_endpoint_auth_method",
    "token_endpoint_auth_method",
    "public_key",
    "use_jwks",
    "use_pkce",
    "token_signing_alg_values_expected",
    "set_access_token_header",
    "access_token_in_authorization_header",
    "set_id_token_header",
    "set_userinfo_header",
    "set_refresh_token_header",
    "unauth_action",
    "client_rsa_private_key_id",
    "client_jwt_assertion_expires_in",
    "renew_access_token_on_expiry",
    "access_token_expires_in",
    "refresh_session_interval",
    "iat_slack",
    "accept_none_alg",
    "accept_unsupported_alg",
    "access_token_expires_leeway",
    "force_reauthorize",
    "use_nonce",
    "revoke_tokens_on_logout",
    "jwk_expires_in",
    "introspection_interval",
];

const MORE: [&str; 13] = [
    "client_secret",
    "client_rsa_private_key",
    "session",
    "session_contents",
    "proxy_opts",
    "authorization_params",
    "claim_validator",
    "jwt_verification_cache_ignore",
    "cache_segment",
    "introspection_expiry_claim",
    "introspection_addon_headers",
    "_meta",
    "set_raw_id_token_header",
];

/// The block; none where it cannot be had.
pub(super) fn block(config: &Value, said: &mut Said) -> Option<Value> {
    let mut known: Vec<&str> = SAME.to_vec();
    known.extend(MORE);
    said.only(config, &known);
    for field in ["client_id", "discovery"] {
        if text(config, field).is_none() {
            said.problem(format!("{field}: is missing"));
            return None;
        }
    }
    let mut own = Map::new();
    for (field, value) in tables::fields(config) {
        let same = SAME.contains(&field)
            || matches!(
                field,
                "jwt_verification_cache_ignore"
                    | "cache_segment"
                    | "introspection_expiry_claim"
                    | "introspection_addon_headers"
                    | "authorization_params"
            );
        if same && !value.is_null() {
            own.insert(camel(field), value.clone());
        }
    }
    for (field, to) in [
        ("client_secret", "clientSecretRef"),
        ("client_rsa_private_key", "clientRsaPrivateKeyRef"),
    ] {
        if let Some(secret) = text(config, field).filter(|secret| !secret.is_empty()) {
            own.insert(to.to_owned(), json!({"$secret": secret}));
        }
    }
    // ssl_verify was a word once.
    if let Some(word) = config.get("ssl_verify").and_then(Value::as_str) {
        own.insert("sslVerify".to_owned(), json!(word != "no"));
    }
    for field in ["session_contents", "claim_validator"] {
        if let Some(value) = config.get(field).filter(|value| !tables::is_empty(value)) {
            own.insert(camel(field), camels(value));
        }
    }
    if let Some(value) = config.get("proxy_opts") {
        own.insert("proxyOpts".to_owned(), proxies(value));
    }
    session(config, &mut own, said);
    if text(config, "redirect_uri").is_none() && !flag(config, "bearer_only") {
        said.note("redirect_uri: is not given; the provider must allow PATH/.postern/redirect in place of PATH/.apisix/redirect");
    }
    if flag(config, "set_raw_id_token_header") {
        said.note("set_raw_id_token_header: is not carried over");
    }
    Some(Value::Object(own))
}

fn session(config: &Value, own: &mut Map<String, Value>, said: &mut Said) {
    let Some(from) = config.get("session") else {
        return;
    };
    let mut session = Map::new();
    for (field, value) in tables::fields(from) {
        match field {
            "secret" => {
                session.insert(
                    "secretRef".to_owned(),
                    json!({"$secret": tables::plain(value).unwrap_or_default()}),
                );
            }
            "cookie" => {
                if let Some(lifetime) = value.get("lifetime") {
                    session.insert("cookie".to_owned(), json!({"lifetime": lifetime}));
                }
            }
            "cookie_name" | "absolute_timeout" => {
                session.insert(camel(field), value.clone());
            }
            "cookie_path" | "cookie_domain" | "cookie_secure" | "cookie_same_site" => {
                session.insert(camel(field.trim_start_matches("cookie_")), value.clone());
            }
            "idling_timeout" => {
                session.insert("idleTimeout".to_owned(), value.clone());
            }
            "storage" => {
                let store = value.as_str() == Some("redis");
                session.insert(
                    "storage".to_owned(),
                    json!(if store { "store" } else { "cookie" }),
                );
                if store {
                    said.note("session.redis: sessions are in the gateway's own store; say where that is with --store");
                }
            }
            "redis" | "cookie_http_only" => {}
            other => said.note(format!("session.{other}: is not carried over")),
        }
    }
    if !session.is_empty() {
        own.insert("session".to_owned(), Value::Object(session));
    }
}

fn proxies(from: &Value) -> Value {
    let mut own = Map::new();
    for (field, value) in tables::fields(from) {
        if field.ends_with("_authorization") {
            own.insert(
                format!("{}SecretRef", camel(field)),
                json!({"$secret": tables::plain(value).unwrap_or_default()}),
            );
        } else {
            own.insert(camel(field), value.clone());
        }
    }
    Value::Object(own)
}

fn camels(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (camel(name), camels(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn camel(name: &str) -> String {
    let mut all = String::new();
    let mut upper = false;
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else if upper {
            all.push(letter.to_ascii_uppercase());
            upper = false;
        } else {
            all.push(letter);
        }
    }
    all
}
