//! What is asked, and what is answered.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A request to be explained.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// Absolute, "https://shop.test/orders?page=2".
    pub url: String,
    pub method: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Base64.
    #[serde(default)]
    pub body: String,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything else may be a secret.
        f.debug_struct("Question")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Question {
    /// A question; `body` as it is.
    #[must_use]
    pub fn new(url: &str, method: &str, headers: Vec<(String, String)>, body: &[u8]) -> Self {
        Self {
            url: url.to_owned(),
            method: method.to_owned(),
            headers,
            body: STANDARD.encode(body),
        }
    }
}

/// What decides a request, and why. Nothing in it is a secret.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Explanation {
    pub request: Asked,
    /// Only where a request of the past is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
    /// Version of the snapshot that this was found in.
    pub snapshot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Other rules, those that came closest first.
    pub rivals: Vec<Rival>,
    /// How many more there are.
    pub rivals_left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// In the order in which they are asked.
    pub plugins: Vec<Plugin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// What the gateway answers itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What the upstream gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<Forward>,
}

/// The request as it was understood.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    pub method: String,
    pub host: String,
    /// Canonical, with the names of the query's parameters.
    pub target: String,
    pub tls: bool,
    /// Names of its headers.
    pub headers: Vec<String>,
}

/// When a request of the past was refused, and whose it was.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Past {
    pub request_id: String,
    /// RFC 3339.
    pub at: String,
    pub client: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// "shop/gateway/http".
    pub name: String,
    /// Empty: any.
    pub hostname: String,
    /// That the proxy has opened.
    pub port: u16,
    /// As clients see it.
    pub public_port: u16,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    /// "HTTPRoute/shop/orders".
    pub route: String,
    /// Its name, or its place in the route.
    pub rule: String,
    /// What matched; absent where a request of the past is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<Matched>,
    /// It answers instead of an upstream.
    pub redirects: bool,
}

/// A hostname and a path that rules ask for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Matched {
    /// Empty: any.
    pub hostname: String,
    /// "exact /a", "prefix /a", "regex /a.*".
    pub path: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rival {
    pub route: String,
    pub rule: String,
    pub matched: Matched,
    /// listener, host, path, method, header, query or precedence.
    pub lost_by: String,
    pub why: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backend {
    /// "shop/orders/80"; empty where the rule's backend is not valid.
    pub upstream: String,
    pub weight: u32,
    /// Of all backends of the rule.
    pub total_weight: u32,
    /// The others, by name.
    pub others: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugin {
    /// The AuthPlugin, "shop/api-key".
    pub plugin: String,
    /// keyAuth, jwt …; empty where nobody can read it.
    pub r#type: String,
    /// consumer, route, service or listener.
    pub scope: String,
    /// The object that it is attached to, "HTTPRoute shop/orders".
    pub attached_to: String,
    pub verdict: Verdict,
    /// As in the log and the metrics; empty where it was not asked.
    pub reason: String,
    pub says: String,
    /// What came of each method that it tried, where it has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It was not asked: the request had ended.
    #[default]
    NotAsked,
    Passed,
    Refused,
    /// A narrower plugin of its type takes its place.
    Outdone,
    /// It answers the request itself, and does not refuse it: a redirect, a document.
    Answered,
    /// It would have to ask somebody else, or to change something: an explanation does neither.
    Undecided,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Method {
    pub r#type: String,
    pub reason: String,
    pub says: String,
}

/// Who calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Caller {
    pub consumer: String,
    pub id: String,
    pub groups: Vec<String>,
    /// Its public identifier; empty for an anonymous Consumer.
    pub credential: String,
    pub anonymous: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    pub status: u16,
    /// Short, as in the log and the metrics.
    pub reason: String,
    pub message: String,
    pub challenges: Vec<String>,
    /// Where it redirects to, without the values of its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What the client is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Forward {
    pub method: String,
    /// With the names of the query's parameters.
    pub target: String,
    /// Values are shown of those only that the gateway itself has made.
    pub headers: Vec<(String, String)>,
    pub body_bytes: usize,
    pub upstream: String,
    /// Those that may get it; the first is one that would.
    pub endpoints: Vec<String>,
    pub endpoints_left_out: usize,
}
