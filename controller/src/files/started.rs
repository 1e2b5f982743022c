//! What is served, for people to read.

use prost::Message;
use snapshot::proto::{Listener, Protocol, Refusal, Resource, Route, path_match, resource::Body};

/// What is in force after a change.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    pub listeners: Vec<ListenerInForce>,
    pub routes: usize,
    pub plugins: usize,
    pub consumers: usize,
    pub credentials: usize,
    /// Objects taken from the files.
    pub objects: usize,
    /// Errors in the files.
    pub errors: usize,
    /// Requests that could be tried, a few of them.
    pub examples: Vec<Example>,
}

/// A listener.
#[derive(Debug, Clone)]
pub struct ListenerInForce {
    /// "namespace/gateway/listener".
    pub name: String,
    pub port: u32,
    pub tls: bool,
    /// Why the proxy could not open it.
    pub refused: Option<String>,
}

/// A request that a route would serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub tls: bool,
    pub port: u32,
    /// Empty: any.
    pub host: String,
    pub path: String,
    /// The header that Key Auth looks for the key in, where it protects the route.
    pub key_header: Option<String>,
}

const EXAMPLES: usize = 5;

impl InForce {
    pub(super) fn of(
        set: &snapshot::Set,
        refusals: &[Refusal],
        (objects, errors): (usize, usize),
    ) -> Self {
        let count = |prefix: &str| set.with_prefix(prefix).count();
        let mut result = Self {
            routes: count("Route/"),
            plugins: count("Plugin/"),
            consumers: count("Consumer/"),
            credentials: count("Credential/"),
            objects,
            errors,
            ..Self::default()
        };
        for (key, entry) in set.with_prefix("Listener/") {
            let Some(Body::Listener(listener)) = decode(entry) else {
                continue;
            };
            let refused = refusals
                .iter()
                .find(|refusal| *refusal.key == **key)
                .map(|refusal| refusal.reason.clone());
            result.listeners.push(ListenerInForce {
                port: listener.port,
                tls: is_tls(&listener),
                name: listener.name,
                refused,
            });
        }
        for (_, entry) in set.with_prefix("Route/") {
            if result.examples.len() == EXAMPLES {
                break;
            }
            if let Some(Body::Route(route)) = decode(entry) {
                result.examples.extend(example(set, &route));
            }
        }
        result
    }
}

fn decode(entry: &snapshot::Entry) -> Option<Body> {
    Resource::decode(entry.encoded.clone()).ok()?.body
}

fn is_tls(listener: &Listener) -> bool {
    listener.protocol == i32::from(Protocol::Https)
}

fn example(set: &snapshot::Set, route: &Route) -> Option<Example> {
    let attachment = route.attachments.first()?;
    let Some(Body::Listener(listener)) = set.get(&attachment.listener).and_then(decode) else {
        return None;
    };
    let rule = route.rules.first()?;
    let host = rule
        .hostnames
        .first()
        .or_else(|| attachment.hostnames.first())
        .cloned()
        .unwrap_or_default();
    let path = rule.matches.first().and_then(|rule| rule.path.as_ref());
    let path = path
        .filter(|path| path.r#type != i32::from(path_match::Type::Regex))
        .map_or("/", |path| &path.value);
    let plugins = rule.plugins.iter().chain(&listener.plugins);
    let mut key_headers = plugins.filter_map(|key| match set.get(key).and_then(decode) {
        Some(Body::Plugin(plugin)) if plugin.r#type == "keyAuth" => {
            let config: serde_json::Value = serde_json::from_slice(&plugin.config).ok()?;
            config.pointer("/keyNames/0")?.as_str().map(str::to_owned)
        }
        _ => None,
    });
    Some(Example {
        tls: is_tls(&listener),
        port: listener.port,
        host: host.replacen('*', "any", 1),
        path: path.to_owned(),
        key_header: key_headers.next(),
    })
}
