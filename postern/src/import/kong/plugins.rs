//! Plugins: which are carried over, which need not be, and which close what they protect.

use std::collections::BTreeMap;

use controller::api::translate::{self, Translated};
use serde_json::{Map, Value, json};

use super::entity::{Default, Entity, is_elsewhere};
use super::openid_connect;

const KNOWN: &[&str] = &[
    "id",
    "name",
    "instance_name",
    "config",
    "enabled",
    "protocols",
    "tags",
    "service",
    "route",
    "consumer",
    "consumer_group",
    "created_at",
    "updated_at",
    "run_on",
    "ordering",
    "_config",
];

/// They protect nothing: without them no more is reachable.
const HARMLESS: &[&str] = &[
    "acme",
    "correlation-id",
    "cors",
    "datadog",
    "file-log",
    "http-log",
    "kafka-log",
    "loggly",
    "opentelemetry",
    "prometheus",
    "proxy-cache",
    "proxy-cache-advanced",
    "rate-limiting",
    "rate-limiting-advanced",
    "request-transformer",
    "request-transformer-advanced",
    "response-ratelimiting",
    "response-transformer",
    "response-transformer-advanced",
    "statsd",
    "statsd-advanced",
    "syslog",
    "tcp-log",
    "udp-log",
    "zipkin",
];

/// What becomes of a plugin.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// An AuthPlugin: its block, its configuration, and the entries of its Secret.
    Carried {
        block: String,
        config: Value,
        entries: BTreeMap<String, String>,
    },
    /// Nothing, and nobody gets further for it.
    Dropped(String),
    /// What it protects is closed: the field, and the reason.
    Closes(String, String),
}

/// A plugin and where it counts.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    pub(super) entity: Entity,
    pub(super) name: String,
    pub(super) route: Option<usize>,
    pub(super) service: Option<usize>,
    /// A consumer or a group of consumers.
    pub(super) consumer: Option<String>,
    pub(super) of_group: bool,
    /// Name of the Secret, if it has any.
    pub(super) secret: String,
    pub(super) fate: Fate,
}

impl Plugin {
    /// How narrow it is; the narrowest of a name counts.
    pub(super) const fn rank(&self) -> u8 {
        match (self.route.is_some(), self.service.is_some()) {
            (true, true) => 3,
            (true, false) => 2,
            (false, true) => 1,
            (false, false) => 0,
        }
    }

    pub(super) fn is_for(&self, route: usize, service: Option<usize>) -> bool {
        self.consumer.is_none()
            && self.route.is_none_or(|own| own == route)
            && (self.service.is_none() || self.service == service)
    }
}

/// What becomes of a plugin. `anonymous` finds the Consumer that a configuration names.
pub(super) fn fate(
    entity: &Entity,
    name: &str,
    config: &Map<String, Value>,
    secret: &str,
    anonymous: &dyn Fn(&str) -> Option<String>,
) -> Fate {
    let closes = |field: &str, reason: &str| Fate::Closes(field.to_owned(), reason.to_owned());
    if HARMLESS.contains(&name) {
        let reason = match name {
            "cors" => "it is not carried over; add a CORS filter to the HTTPRoute",
            "rate-limiting" | "rate-limiting-advanced" | "response-ratelimiting" => {
                "it is not carried over: calls are not counted any more; limit them elsewhere"
            }
            _ => "it is not carried over; it protects nothing",
        };
        return Fate::Dropped(reason.to_owned());
    }
    if let Some(field) = entity.unknown(KNOWN).first() {
        return closes(field, "is not known here");
    }
    if !matches!(entity.fields.get("ordering"), None | Some(Value::Null)) {
        return closes("ordering", "the order of plugins is fixed here");
    }
    let mut config = config.clone();
    config.retain(|_, value| !value.is_null());
    if config.values().any(elsewhere) {
        return closes(
            "config",
            "a value is not in the file but in the environment or a vault; put it in",
        );
    }
    let anonymous = match config.remove("anonymous") {
        None => None,
        Some(Value::String(name)) if name.is_empty() => None,
        Some(Value::String(name)) => match anonymous(&name) {
            Some(consumer) => Some(consumer),
            None => return closes("config.anonymous", "names no consumer that is carried over"),
        },
        Some(_) => return closes("config.anonymous", "must be a text"),
    };
    let adapted = match adapt(name, &mut config) {
        Ok(adapted) => adapted,
        Err((field, reason)) => return closes(&field, &reason),
    };
    if !adapted {
        return closes(
            "name",
            "Postern has no such plugin; protect its routes with keyAuth, jwt, oauth2, openidConnect or acl and add them by hand",
        );
    }
    match translate::plugin(name, &Value::Object(config), secret) {
        Some(Ok(Translated {
            block,
            mut config,
            entries,
        })) => {
            if let (Some(consumer), Some(fields)) = (anonymous, config.as_object_mut()) {
                fields.insert("anonymous".to_owned(), json!({"name": consumer}));
            }
            if let (Some(fields), "jwt") = (config.as_object_mut(), name) {
                // Postern's own default is 403, Kong's answer 401.
                fields.insert("invalidTokenStatus".to_owned(), json!(401));
            }
            Fate::Carried {
                block,
                config,
                entries,
            }
        }
        Some(Err(problems)) => {
            let (field, reason) = problems.into_iter().next().unwrap_or_default();
            Fate::Closes(
                field,
                format!(
                    "{reason}; Postern's plugin does without it, so that it must be decided by hand"
                ),
            )
        }
        None => closes("name", "Postern has no such plugin"),
    }
}

fn elsewhere(value: &Value) -> bool {
    match value {
        Value::String(text) => is_elsewhere(text),
        Value::Array(items) => items.iter().any(elsewhere),
        Value::Object(fields) => fields.values().any(elsewhere),
        _ => false,
    }
}

type Wrong = (String, String);

/// Makes Kong's fields those of the Admin API. False where there is no such plugin.
fn adapt(name: &str, config: &mut Map<String, Value>) -> Result<bool, Wrong> {
    match name {
        "key-auth" => {
            // Keys of this file count, and those alone.
            let ours = |realms: &Value| {
                realms
                    .as_array()
                    .is_some_and(|realms| realms.iter().all(|realm| realm["scope"] == "cp"))
            };
            if config.get("identity_realms").is_some_and(ours) {
                config.remove("identity_realms");
            }
        }
        "jwt" => {}
        "acl" => {
            for (old, new) in [("whitelist", "allow"), ("blacklist", "deny")] {
                if let Some(groups) = config.remove(old) {
                    config.insert(new.to_owned(), groups);
                }
            }
            drop_if(config, "include_consumer_groups", &json!(false));
            drop_if(config, "always_use_authenticated_groups", &json!(false));
            for field in ["allow", "deny"] {
                drop_if(config, field, &json!([]));
            }
        }
        "oauth2" => drop_if(config, "persistent_refresh_token", &json!(false)),
        "upstream-oauth" => upstream_oauth(config),
        "openid-connect" => openid_connect::adapt(config)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn upstream_oauth(config: &mut Map<String, Value>) {
    let renamed = [
        ("client", "timeout", "timeout_ms"),
        ("cache", "eagerly_expire", "eagerly_expire_seconds"),
        ("cache", "default_ttl", "default_ttl_seconds"),
    ];
    for (group, old, new) in renamed {
        let Some(fields) = config.get_mut(group).and_then(Value::as_object_mut) else {
            continue;
        };
        if let Some(value) = fields.remove(old) {
            fields.insert(new.to_owned(), value);
        }
    }
    // Of connections, which are Postern's own, and of a cache that is not used.
    let idle = [
        ("client", "http_version"),
        ("client", "keep_alive"),
        ("cache", "memory"),
    ];
    for (group, field) in idle {
        if let Some(fields) = config.get_mut(group).and_then(Value::as_object_mut) {
            fields.remove(field);
            if field == "memory"
                && fields
                    .get("strategy")
                    .is_none_or(|strategy| strategy == "memory")
            {
                fields.remove("redis");
            }
        }
    }
}

/// Takes out what means nothing with this value.
pub(super) fn drop_if(config: &mut Map<String, Value>, field: &str, value: &Value) {
    if config.get(field) == Some(value) {
        config.remove(field);
    }
}

/// Whether it is switched off: then it is as if it was not there, with Kong, too.
pub(super) fn is_off(entity: &Entity) -> bool {
    !entity.flag("enabled", Default::On)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, config: Value) -> Fate {
        let entity = Entity {
            at: "plugins[0]".to_owned(),
            label: "plugin".to_owned(),
            fields: Map::new(),
        };
        let config = config.as_object().unwrap().clone();
        fate(&entity, name, &config, "own", &|name| {
            (name == "guest").then(|| name.to_owned())
        })
    }

    fn carried(name: &str, config: Value) -> (String, Value) {
        match of(name, config) {
            Fate::Carried { block, config, .. } => (block, config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn configurations_are_carried_with_what_kong_means() {
        let (block, config) = carried(
            "key-auth",
            json!({"key_names": ["k"], "realm": null, "anonymous": "guest",
            "identity_realms": [{"scope": "cp", "region": null, "id": null}]}),
        );
        assert_eq!(block, "keyAuth");
        assert_eq!(
            config,
            json!({"keyNames": ["k"], "anonymous": {"name": "guest"}})
        );
        assert_eq!(
            carried("jwt", json!({})).1,
            json!({"invalidTokenStatus": 401})
        );
        let acl = json!({"whitelist": ["a"], "deny": [], "include_consumer_groups": false});
        assert_eq!(carried("acl", acl).1, json!({"allow": ["a"]}));
        let upstream = json!({"oauth": {"token_endpoint": "https://a.test/", "client_id": "i", "client_secret": "s"},
            "client": {"timeout": 5, "http_version": 1.1}, "cache": {"memory": {}, "eagerly_expire": 4}});
        let want = json!({"oauth": {"tokenEndpoint": "https://a.test/", "clientId": "i",
            "clientSecretRef": {"name": "own", "key": "oauthClientSecret"}},
            "client": {"timeoutMs": 5}, "cache": {"eagerlyExpireSeconds": 4}});
        assert_eq!(carried("upstream-oauth", upstream).1, want);
    }

    #[test]
    fn what_is_not_known_to_be_harmless_closes() {
        for (name, config, field) in [
            ("basic-auth", json!({}), "name"),
            ("my-own", json!({}), "name"),
            (
                "key-auth",
                json!({"anonymous": "nobody"}),
                "config.anonymous",
            ),
            ("key-auth", json!({"new_option": true}), "config.new_option"),
            ("key-auth", json!({"realm": "{vault://env/x}"}), "config"),
            (
                "acl",
                json!({"include_consumer_groups": true, "allow": ["a"]}),
                "config.include_consumer_groups",
            ),
        ] {
            match of(name, config) {
                Fate::Closes(at, _) => assert_eq!(at, field, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(matches!(of("prometheus", json!({})), Fate::Dropped(_)));
    }
}
