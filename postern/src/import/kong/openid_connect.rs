//! Kong's openid-connect, whose options are not those of Postern's.

use serde_json::{Map, Value, json};

use super::plugins::drop_if;

const METADATA: &str = "/.well-known/openid-configuration";

/// Takes what has the same meaning; any other option is left, and closes what the plugin protects.
///
/// # Errors
/// The field that cannot be carried over, and why.
pub(super) fn adapt(config: &mut Map<String, Value>) -> Result<(), (String, String)> {
    let wrong = |field: &str, reason: &str| (format!("config.{field}"), reason.to_owned());
    let methods = words(config.remove("auth_methods"));
    let bearer_only = match methods.as_deref() {
        Some([one]) if one == "bearer" => true,
        Some(several)
            if several
                .iter()
                .all(|own| matches!(own.as_str(), "authorization_code" | "session")) =>
        {
            false
        }
        _ => {
            let reason = "only bearer alone, or authorization_code and session, can be carried over; name them";
            return Err(wrong("auth_methods", reason));
        }
    };
    let issuer = config.remove("issuer");
    let Some(issuer) = issuer.as_ref().and_then(Value::as_str) else {
        return Err(wrong("issuer", "is missing"));
    };
    let discovery = if issuer.ends_with(METADATA) {
        issuer.to_owned()
    } else {
        format!("{}{METADATA}", issuer.trim_end_matches('/'))
    };
    config.insert("discovery".to_owned(), json!(discovery));
    for (old, new) in [
        ("client_id", "client_id"),
        ("client_secret", "client_secret"),
        ("redirect_uri", "redirect_uri"),
        ("consumer_claim", "consumer_claim"),
    ] {
        let Some(value) = config.remove(old) else {
            continue;
        };
        match words(Some(value)).as_deref() {
            Some([]) => {}
            Some([one]) => {
                config.insert(new.to_owned(), json!(one));
            }
            _ => {
                return Err(wrong(
                    old,
                    "must be one text: several clients cannot be had",
                ));
            }
        }
    }
    match words(config.remove("scopes")) {
        Some(scopes) if !scopes.is_empty() => {
            config.insert("scope".to_owned(), json!(scopes.join(" ")));
        }
        _ => {}
    }
    if let Some(scopes) = config.remove("scopes_required") {
        match words(Some(scopes)) {
            // Each entry is an alternative; one is a list of scopes that are all needed.
            Some(required) if required.len() == 1 => {
                let all: Vec<&str> = required
                    .iter()
                    .flat_map(|scopes| scopes.split_whitespace())
                    .collect();
                config.insert("required_scopes".to_owned(), json!(all));
            }
            Some(required) if required.is_empty() => {}
            _ => return Err(wrong("scopes_required", "alternatives cannot be had")),
        }
    }
    // Kong's own default is not to check.
    config.entry("ssl_verify").or_insert(json!(true));
    if bearer_only {
        config.insert("bearer_only".to_owned(), json!(true));
        config.insert("use_jwks".to_owned(), json!(true));
    } else {
        config.insert("unauth_action".to_owned(), json!("auth"));
    }
    drop_if(config, "consumer_optional", &json!(false));
    Ok(())
}

fn words(value: Option<Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(one) => Some(vec![one]),
        Value::Array(items) => items
            .into_iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(config: Value) -> Result<Value, (String, String)> {
        let mut config = config.as_object().unwrap().clone();
        adapt(&mut config).map(|()| Value::Object(config))
    }

    #[test]
    fn what_means_the_same_is_carried() {
        let config = json!({"issuer": "https://idp.test/realm/", "client_id": ["app"], "client_secret": ["hush"],
            "auth_methods": ["bearer"], "scopes": ["openid", "mail"], "scopes_required": ["a b"]});
        let want = json!({"discovery": "https://idp.test/realm/.well-known/openid-configuration", "client_id": "app",
            "client_secret": "hush", "scope": "openid mail", "required_scopes": ["a", "b"], "bearer_only": true,
            "use_jwks": true, "ssl_verify": true});
        assert_eq!(adapted(config).unwrap(), want);
    }

    #[test]
    fn what_does_not_is_refused() {
        for (config, field) in [
            (json!({"issuer": "https://a.test"}), "config.auth_methods"),
            (
                json!({"issuer": "https://a.test", "auth_methods": ["password"]}),
                "config.auth_methods",
            ),
            (json!({"auth_methods": ["bearer"]}), "config.issuer"),
            (
                json!({"issuer": "https://a.test", "auth_methods": ["bearer"], "client_id": ["a", "b"]}),
                "config.client_id",
            ),
            (
                json!({"issuer": "https://a.test", "auth_methods": ["bearer"], "scopes_required": ["a", "b"]}),
                "config.scopes_required",
            ),
        ] {
            assert_eq!(adapted(config).unwrap_err().0, field);
        }
    }
}
