//! What the upstream is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::Config;

const X_ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");
const X_ID_TOKEN: HeaderName = HeaderName::from_static("x-id-token");
pub(super) const X_USERINFO: HeaderName = HeaderName::from_static("x-userinfo");
const X_REFRESH_TOKEN: HeaderName = HeaderName::from_static("x-refresh-token");

/// What is known of the caller.
#[derive(Default)]
pub(super) struct Known<'a> {
    pub(super) access_token: Option<&'a str>,
    pub(super) refresh_token: Option<&'a str>,
    pub(super) id_token: Option<&'a Map<String, Value>>,
    pub(super) user: Option<&'a Map<String, Value>>,
}

/// Removes what a client sent in these names, in every spelling that an upstream could take for them.
pub(crate) fn clear(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_ours(name.as_str())).cloned() {
        headers.remove(name);
    }
}

fn is_ours(name: &str) -> bool {
    const OURS: [&str; 4] = [
        "x-access-token",
        "x-id-token",
        "x-userinfo",
        "x-refresh-token",
    ];
    let alike = |ours: &str| {
        name.len() == ours.len()
            && name.bytes().zip(ours.bytes()).all(|(theirs, ours)| {
                theirs == ours || (ours == b'-' && !theirs.is_ascii_alphanumeric())
            })
    };
    name.starts_with('x') && OURS.into_iter().any(alike)
}

/// Writes the headers.
pub(super) fn tell(config: &Config, headers: &mut HeaderMap, known: &Known<'_>) {
    if config.set_access_token_header
        && let Some(token) = known.access_token
    {
        if config.access_token_in_authorization_header {
            put(headers, AUTHORIZATION, format!("Bearer {token}"));
        } else {
            put(headers, X_ACCESS_TOKEN, token.to_owned());
        }
    }
    if config.set_id_token_header
        && let Some(claims) = known.id_token
    {
        put(headers, X_ID_TOKEN, base64(claims));
    }
    if config.set_userinfo_header
        && let Some(user) = known.user
    {
        put(headers, X_USERINFO, base64(user));
    }
    if config.set_refresh_token_header
        && let Some(token) = known.refresh_token
    {
        put(headers, X_REFRESH_TOKEN, token.to_owned());
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(mut value) = HeaderValue::try_from(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

fn base64(members: &Map<String, Value>) -> String {
    STANDARD.encode(serde_json::to_vec(members).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_clients_own_gets_through() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-access-token",
            "X_Access_Token",
            "x_id-token",
            "x-userinfo",
            "X.Userinfo",
            "x-refresh_token",
        ] {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static("evil"),
            );
        }
        headers.insert("x-access-tokens", HeaderValue::from_static("fine"));
        clear(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
