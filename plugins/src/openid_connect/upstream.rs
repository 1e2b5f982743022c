//! What the upstream is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::Config;

const X_ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");
const X_ID_TOKEN: HeaderName = HeaderName::from_static("x-id-token");
const X_USERINFO: HeaderName = HeaderName::from_static("x-userinfo");
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

/// The headers that say it, made once for all requests of a caller. Their values are sensitive, and not shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    access_token: Option<(HeaderName, HeaderValue)>,
    others: Vec<(HeaderName, HeaderValue)>,
}

impl Told {
    pub(super) fn new(config: &Config, known: &Known<'_>) -> Self {
        let access_token = known
            .access_token
            .filter(|_| config.set_access_token_header);
        let access_token = access_token.and_then(|token| {
            if config.access_token_in_authorization_header {
                header(AUTHORIZATION, format!("Bearer {token}"))
            } else {
                header(X_ACCESS_TOKEN, token.to_owned())
            }
        });
        let id_token = known.id_token.filter(|_| config.set_id_token_header);
        let user = known.user.filter(|_| config.set_userinfo_header);
        let refresh_token = known
            .refresh_token
            .filter(|_| config.set_refresh_token_header);
        let others = [
            id_token.and_then(|claims| header(X_ID_TOKEN, base64(claims))),
            user.and_then(|user| header(X_USERINFO, base64(user))),
            refresh_token.and_then(|token| header(X_REFRESH_TOKEN, token.to_owned())),
        ];
        Self {
            access_token,
            others: others.into_iter().flatten().collect(),
        }
    }

    /// Writes them; the access token only while it is `current`.
    pub(super) fn tell(&self, headers: &mut HeaderMap, current: bool) {
        let access_token = self.access_token.iter().filter(|_| current);
        for (name, value) in access_token.chain(&self.others) {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn header(name: HeaderName, value: String) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
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
