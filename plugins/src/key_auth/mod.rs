//! Key Auth: the caller presents an API key in a header, a query parameter or a body field.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ObjectName, Problem, Problems, schema};

#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(test)]
#[cfg(feature = "handlers")]
mod tests;

/// The most that `maxBodyBytes` may be.
const MAX_BODY_BYTES: u32 = 104_857_600;

/// Callers prove themselves with an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::KEY_PLACES])))]
pub struct Config {
    /// Names of the header, query parameter or body field that may hold the key, in the order of search; 1 to 16. Letter
    /// case counts in queries and bodies, not in headers. Default: apikey.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 128)),
        extend("x-kubernetes-validations" = schema::rules(&[schema::KEY_NAMES]))
    )]
    pub key_names: Vec<String>,
    /// Search the request's headers. Default: true.
    pub key_in_header: bool,
    /// Search the query string. Default: true.
    pub key_in_query: bool,
    /// Search the body: form, JSON or multipart, uncompressed. It is read as a whole where the key may be in it. Default:
    /// false.
    pub key_in_body: bool,
    /// Remove the key from the request before it is forwarded: whatever stands under the name that supplied it, in
    /// headers, query and, with keyInBody, body. Default: false.
    pub hide_credentials: bool,
    /// The Consumer, in the same namespace, that a request counts as where no valid key is found. Default: none, such a
    /// request is refused with 401.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<ObjectName>,
    /// Ask for a key on OPTIONS requests too. Default: true.
    pub run_on_preflight: bool,
    /// The realm of the challenge, printable ASCII. Default: none, the challenge names no realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = schema::rules(&[schema::REALM])))]
    pub realm: Option<String>,
    /// The longest body, in bytes, that is read in search of a key, 1 to 104857600; a longer one is refused with 413.
    /// Default: 1048576.
    #[schemars(range(min = 1, max = MAX_BODY_BYTES))]
    pub max_body_bytes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            key_names: vec!["apikey".to_owned()],
            key_in_header: true,
            key_in_query: true,
            key_in_body: false,
            hide_credentials: false,
            anonymous: None,
            run_on_preflight: true,
            realm: None,
            max_body_bytes: 1_048_576,
        }
    }
}

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.items("keyNames", &self.key_names, 1, 16, 128);
        problems.rule(
            "keyNames",
            self.key_names
                .iter()
                .all(|name| schema::is_header_name(name)),
            schema::KEY_NAMES,
        );
        problems.rule(
            "",
            self.key_in_header || self.key_in_query || self.key_in_body,
            schema::KEY_PLACES,
        );
        problems.anonymous(self.anonymous.as_ref());
        problems.realm(self.realm.as_deref());
        if !(1..=MAX_BODY_BYTES).contains(&self.max_body_bytes) {
            problems.add(
                "maxBodyBytes",
                format!("must be between 1 and {MAX_BODY_BYTES} bytes"),
            );
        }
        problems.0
    }
}
