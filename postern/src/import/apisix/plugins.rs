//! What APISIX's plugins are in Postern.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::consumers::People;
use super::openid_connect;
use super::rewrite::{self, Changes};
use super::tables::{self, flag, text, texts};

/// Plugins that watch or shape traffic and keep nobody out: a route is served without them.
const HARMLESS: [&str; 42] = [
    "limit-req",
    "limit-conn",
    "limit-count",
    "prometheus",
    "node-status",
    "zipkin",
    "skywalking",
    "opentelemetry",
    "datadog",
    "http-logger",
    "tcp-logger",
    "udp-logger",
    "kafka-logger",
    "rocketmq-logger",
    "clickhouse-logger",
    "syslog",
    "log-rotate",
    "error-log-logger",
    "sls-logger",
    "google-cloud-logging",
    "splunk-hec-logging",
    "elasticsearch-logger",
    "loki-logger",
    "file-logger",
    "tencent-cloud-cls",
    "skywalking-logger",
    "loggly",
    "lago",
    "request-id",
    "gzip",
    "brotli",
    "proxy-cache",
    "proxy-buffering",
    "proxy-control",
    "proxy-mirror",
    "server-info",
    "api-breaker",
    "example-plugin",
    "inspect",
    "real-ip",
    "ai-prompt-template",
    "kafka-proxy",
];

/// Fields of a plugin that say nothing of what it does.
const META: [&str; 1] = ["_meta"];

/// What a route's plugins come to.
#[derive(Debug, Default)]
pub(super) struct Duties {
    /// Blocks of AuthPlugins. A secret in them is `{"$secret": TEXT}` until it has a Secret.
    pub(super) auth: Vec<(&'static str, Value)>,
    /// Everything that asks something of a request, carried over or not.
    pub(super) guards: BTreeSet<String>,
    pub(super) changes: Changes,
    /// What cannot be carried over and must not be missing: field, what and remedy.
    pub(super) problems: Vec<(String, String)>,
    /// What is otherwise afterwards.
    pub(super) notes: Vec<(String, String)>,
}

pub(super) fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name)
}

/// Works out the plugins of a route, each with the field it is from.
pub(super) fn duties(plugins: &BTreeMap<&str, (String, &Value)>, people: &People<'_>) -> Duties {
    let mut duties = Duties::default();
    for (name, (at, config)) in plugins {
        if is_harmless(name) {
            let what = if name.starts_with("limit-") {
                "calls are not counted any more; limit them elsewhere"
            } else {
                "the route is served without it"
            };
            duties.notes.push((
                at.clone(),
                format!("plugins.{name}: is not carried over; {what}"),
            ));
            continue;
        }
        let mut said = Said::default();
        let meta = config.get("_meta");
        let unusual = meta
            .into_iter()
            .flat_map(tables::fields)
            .find(|(field, _)| !matches!(*field, "disable" | "priority" | "error_response"));
        if let Some((field, _)) = unusual {
            said.problem(format!("_meta.{field} cannot be carried over"));
        } else if tables::is_elsewhere(config) {
            said.problem("a value is in the environment or a secret manager; put it into the file");
        } else if !config.is_object() {
            said.problem("is no object");
        } else {
            translate(name, config, people, &mut duties, &mut said);
        }
        if !rewrite::KNOWN.contains(name) {
            duties
                .guards
                .insert(format!("{name} {}", without_meta(config)));
        }
        let field = |message| (at.clone(), format!("plugins.{name}: {message}"));
        duties.problems.extend(said.problems.into_iter().map(field));
        duties.notes.extend(said.notes.into_iter().map(field));
    }
    for (block, count) in count(&duties.auth) {
        if count > 1 {
            duties.problems.push((
                "plugins".to_owned(),
                format!("plugins: two of them would each be {block}, and a route has one"),
            ));
        }
    }
    duties
}

/// What is said of one plugin.
#[derive(Debug, Default)]
pub(super) struct Said {
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Said {
    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(message.into());
    }

    pub(super) fn note(&mut self, message: impl Into<String>) {
        self.notes.push(message.into());
    }

    /// Fields that nobody knows might protect.
    pub(super) fn only(&mut self, config: &Value, known: &[&str]) {
        for (field, value) in tables::fields(config) {
            if !known.contains(&field) && !META.contains(&field) && !tables::is_empty(value) {
                self.problem(format!("{field} is not known, or cannot be carried over; take it out where the route is to be served without it"));
            }
        }
    }
}

fn translate(
    name: &str,
    config: &Value,
    people: &People<'_>,
    duties: &mut Duties,
    said: &mut Said,
) {
    match name {
        "key-auth" | "jwt-auth" | "openid-connect" => {
            if let Some((block, own)) = method(name, config, people, said) {
                duties.auth.push((block, own));
            }
        }
        "multi-auth" => any_of(config, people, duties, said),
        "consumer-restriction" => {
            if let Some(own) = restriction(config, said) {
                duties.auth.push(("acl", own));
            }
        }
        name if rewrite::KNOWN.contains(&name) => duties.changes.read(name, config, said),
        "basic-auth" | "hmac-auth" | "ldap-auth" | "wolf-rbac" | "forward-auth" => said.problem("is not carried over; use key-auth, jwt-auth or openid-connect in its place"),
        _ => said.problem("is not carried over, and might protect the route; take it out where the route is to be served without it"),
    }
}

fn method(
    name: &str,
    config: &Value,
    people: &People<'_>,
    said: &mut Said,
) -> Option<(&'static str, Value)> {
    match name {
        "key-auth" => Some(("keyAuth", key_auth(config, people, said))),
        "jwt-auth" => Some(("jwt", jwt_auth(config, people, said))),
        "openid-connect" => openid_connect::block(config, said).map(|own| ("openidConnect", own)),
        _ => None,
    }
}

fn key_auth(config: &Value, people: &People<'_>, said: &mut Said) -> Value {
    said.only(
        config,
        &[
            "header",
            "query",
            "hide_credentials",
            "anonymous_consumer",
            "realm",
        ],
    );
    let header = text(config, "header").unwrap_or_else(|| "apikey".to_owned());
    let query = text(config, "query").unwrap_or_else(|| "apikey".to_owned());
    let mut own = Map::new();
    if header == query {
        own.insert("keyNames".to_owned(), json!([header]));
    } else {
        said.note(format!("header and query have different names; both are searched for in headers and in the query ({header:?}, {query:?})"));
        own.insert("keyNames".to_owned(), json!([header, query]));
    }
    if flag(config, "hide_credentials") {
        own.insert("hideCredentials".to_owned(), json!(true));
    }
    shared(config, people, &mut own, said);
    Value::Object(own)
}

fn jwt_auth(config: &Value, people: &People<'_>, said: &mut Said) -> Value {
    said.only(
        config,
        &[
            "header",
            "query",
            "cookie",
            "hide_credentials",
            "anonymous_consumer",
            "realm",
            "key_claim_name",
            "claims_to_verify",
            "store_in_ctx",
        ],
    );
    let mut own = Map::new();
    let named =
        |field: &str, default: &str| text(config, field).unwrap_or_else(|| default.to_owned());
    own.insert(
        "headerNames".to_owned(),
        json!([named("header", "authorization")]),
    );
    own.insert("uriParamNames".to_owned(), json!([named("query", "jwt")]));
    own.insert("cookieNames".to_owned(), json!([named("cookie", "jwt")]));
    own.insert(
        "keyClaimName".to_owned(),
        json!(named("key_claim_name", "key")),
    );
    own.insert("invalidTokenStatus".to_owned(), json!(401));
    let claims = texts(config, "claims_to_verify", "claims_to_verify");
    let claims = if claims.is_empty() {
        vec!["exp".to_owned(), "nbf".to_owned()]
    } else {
        claims
    };
    if claims.iter().any(|claim| claim != "exp" && claim != "nbf") {
        said.problem("claims_to_verify: only exp and nbf can be verified");
    }
    said.note(format!(
        "claims_to_verify: APISIX verifies what a token has; a token without {} is refused now. Take out of claimsToVerify what yours do not have",
        claims.join(" or ")
    ));
    own.insert("claimsToVerify".to_owned(), json!(claims));
    if flag(config, "hide_credentials") {
        said.note("hide_credentials: the token is passed on to the upstream");
    }
    shared(config, people, &mut own, said);
    Value::Object(own)
}

fn shared(config: &Value, people: &People<'_>, own: &mut Map<String, Value>, said: &mut Said) {
    if let Some(realm) = text(config, "realm") {
        own.insert("realm".to_owned(), json!(realm));
    }
    if let Some(name) = text(config, "anonymous_consumer") {
        match people.object_of(&name) {
            Some(object) => {
                own.insert("anonymous".to_owned(), json!({"name": object}));
            }
            None => said.note(format!("anonymous_consumer: the consumer {name:?} is not carried over, so requests without a credential are refused")),
        }
    }
}

/// One of several is enough. Without one that cannot be carried over fewer get in, not more.
fn any_of(config: &Value, people: &People<'_>, duties: &mut Duties, said: &mut Said) {
    said.only(config, &["auth_plugins"]);
    let mut methods = Vec::new();
    let listed = config.get("auth_plugins").and_then(Value::as_array);
    for (name, own) in listed.into_iter().flatten().flat_map(tables::fields) {
        match method(name, own, people, said) {
            Some((block, own)) => {
                let mut one = Map::new();
                one.insert(block.to_owned(), own);
                methods.push(Value::Object(one));
            }
            None => said.note(format!(
                "auth_plugins: {name} is not carried over; who has nothing else is refused"
            )),
        }
    }
    match methods.len() {
        0 => said.problem("auth_plugins: none of them can be carried over"),
        1 => {
            let only = methods.pop().unwrap_or_default();
            for (name, block) in [
                ("keyAuth", "keyAuth"),
                ("jwt", "jwt"),
                ("openidConnect", "openidConnect"),
            ] {
                if let Some(own) = only.get(name) {
                    duties.auth.push((block, own.clone()));
                }
            }
        }
        _ => duties.auth.push(("anyOf", Value::Array(methods))),
    }
}

fn restriction(config: &Value, said: &mut Said) -> Option<Value> {
    said.only(
        config,
        &[
            "type",
            "whitelist",
            "blacklist",
            "rejected_code",
            "rejected_msg",
        ],
    );
    let group: fn(&String) -> String = match text(config, "type").as_deref() {
        None | Some("consumer_name") => |name| super::consumers::group_of(name),
        Some("consumer_group_id") => Clone::clone,
        Some(other) => {
            said.problem(format!(
                "type: {other:?} is not carried over; consumer_name and consumer_group_id are"
            ));
            return None;
        }
    };
    if config.get("rejected_code").is_some() || config.get("rejected_msg").is_some() {
        said.note("rejected_code, rejected_msg: the answer is 403 with Postern's own message");
    }
    let allow = texts(config, "whitelist", "whitelist");
    let deny = texts(config, "blacklist", "blacklist");
    let whitelisted = config.get("whitelist").is_some();
    let allow: Vec<String> = allow
        .iter()
        .filter(|name| !deny.contains(name))
        .map(group)
        .collect();
    let deny: Vec<String> = deny.iter().map(group).collect();
    if allow.len().max(deny.len()) > 64 {
        said.problem("more than 64 names; put the consumers into a group");
        return None;
    }
    // Postern's list of those who may excludes a list of those who may not.
    if whitelisted && allow.is_empty() || !whitelisted && deny.is_empty() {
        said.problem("nobody is named who may pass");
        return None;
    }
    Some(if whitelisted {
        json!({"allow": allow, "hideGroupsHeader": true})
    } else {
        json!({"deny": deny, "hideGroupsHeader": true})
    })
}

fn count(auth: &[(&'static str, Value)]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (block, _) in auth {
        *counts.entry(*block).or_insert(0) += 1;
    }
    counts
}

fn without_meta(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(fields) = config.as_object_mut() {
        fields.remove("_meta");
    }
    config
}
