//! Metadata of the authorization server (RFC 8414).

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer;
use super::handler::Handler;
use crate::handler::Answer;

impl Handler {
    pub(super) fn metadata(&self, issuer: &str) -> Answer {
        let config = self.settings();
        let at = |endpoint: &str| Value::from(format!("{issuer}/oauth2/{endpoint}"));
        let login = config.login_url.as_deref();
        let chosen = |list: &[(bool, &str)]| -> Value {
            let chosen = list.iter().filter(|(is, _)| *is);
            chosen.map(|(_, name)| Value::from(*name)).collect()
        };
        let code = config.enable_authorization_code;
        let grants = chosen(&[
            (code, "authorization_code"),
            (config.enable_implicit_grant, "implicit"),
            (config.enable_client_credentials, "client_credentials"),
            (config.enable_password_grant, "password"),
            (
                (code || config.enable_password_grant) && config.token_expiration > 0,
                "refresh_token",
            ),
        ]);
        let responses = chosen(&[(code, "code"), (config.enable_implicit_grant, "token")]);
        let methods = json!(["client_secret_basic", "client_secret_post", "none"]);
        let proven = json!(["client_secret_basic", "client_secret_post"]);
        let mut members = Map::new();
        for (name, value) in [
            ("issuer", Value::from(issuer)),
            (
                "authorization_endpoint",
                login.map_or_else(|| at("authorize"), Value::from),
            ),
            ("token_endpoint", at("token")),
            ("revocation_endpoint", at("revoke")),
            ("introspection_endpoint", at("introspect")),
            ("grant_types_supported", grants),
            ("response_types_supported", responses),
            ("scopes_supported", config.scopes.clone().into()),
            ("token_endpoint_auth_methods_supported", methods.clone()),
            ("revocation_endpoint_auth_methods_supported", methods),
            ("introspection_endpoint_auth_methods_supported", proven),
            ("code_challenge_methods_supported", json!(["S256"])),
            (
                "authorization_response_iss_parameter_supported",
                true.into(),
            ),
        ] {
            members.insert(name.to_owned(), value);
        }
        answer::json(StatusCode::OK, members, "metadata")
    }
}
