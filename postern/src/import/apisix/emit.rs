//! What is printed: the Gateway, HTTPRoutes and AuthPlugins.

use std::collections::BTreeMap;

use compile::Kind;
use serde_json::{Map, Value, json};

use super::super::manifests::{Manifests, target};
use super::consumers::People;
use super::pattern::{Pattern, hosts_meet};
use super::routes::Route;
use super::upstreams::Made;

/// A rule has at most 64 matches.
const MATCHES: usize = 64;
/// An AuthPlugin has at most 16 targets.
const TARGETS: usize = 16;

/// Protections that several routes share: what they are, what the first of them calls them, and the routes.
type Shared = BTreeMap<(&'static str, String), (Value, String, Vec<String>)>;

pub(super) fn routes(
    routes: &[Route],
    listeners: &[Value],
    people: &mut People<'_>,
    manifests: &mut Manifests,
) {
    let gateway = manifests.name(Kind::Gateway, "apisix");
    let mut all = vec![json!({"name": "http", "protocol": "HTTP", "port": 8000})];
    all.extend(listeners.iter().cloned());
    let spec = json!({"gatewayClassName": "postern", "listeners": all});
    manifests.add(Kind::Gateway, &gateway, json!({"spec": spec}));
    let mut shared = Shared::new();
    let mut made = Made::new();
    for route in routes {
        let mut emission = Emission {
            gateway: &gateway,
            listeners,
            manifests: &mut *manifests,
        };
        if route.left_out {
            if route.closed {
                emission.matches(route, &Map::new());
            }
            continue;
        }
        let names = emission.route(route, &mut made);
        for (block, config) in &route.duties.auth {
            for group in ["allow", "deny"]
                .iter()
                .filter_map(|field| config.get(field))
            {
                for group in group
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                {
                    people.want(group);
                }
            }
            let entry = shared
                .entry((*block, config.to_string()))
                .or_insert_with(|| (config.clone(), route.name.clone(), Vec::new()));
            entry.2.extend(names.iter().cloned());
        }
    }
    plugins(shared, manifests);
}

struct Emission<'a> {
    gateway: &'a str,
    listeners: &'a [Value],
    manifests: &'a mut Manifests,
}

impl Emission<'_> {
    /// The names of the HTTPRoutes of a route.
    fn route(&mut self, route: &Route, made: &mut Made) -> Vec<String> {
        let mut rule = Map::new();
        if !route.duties.changes.is_redirect()
            && let Some(plan) = &route.plan
        {
            rule.insert(
                "backendRefs".to_owned(),
                json!(plan.emit(&route.upstream_name, made, self.manifests)),
            );
            if let Some(attempts) = plan.retries {
                rule.insert("retry".to_owned(), json!({"attempts": attempts}));
            }
        }
        if route.duties.changes.https_only {
            let filter = json!({"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}});
            let redirect = Map::from_iter([("filters".to_owned(), json!([filter]))]);
            self.put(
                &format!("{}-to-https", route.name),
                route,
                &redirect,
                all_of(route),
                &[json!({"name": self.gateway, "sectionName": "http"})],
            );
            if self.secure(route).is_empty() {
                let at = format!("{}.plugins.redirect", route.at);
                self.manifests.note(&at, &route.label, "plugins.redirect: the file has no certificate for its hosts, so that nothing is served where requests are sent to; add an HTTPS listener and the route for it");
                return Vec::new();
            }
        }
        self.matches(route, &rule)
    }

    fn matches(&mut self, route: &Route, rule: &Map<String, Value>) -> Vec<String> {
        let parents: Vec<Value> = if route.duties.changes.https_only && !route.left_out {
            let names = self.secure(route).into_iter().take(32);
            names
                .map(|name| json!({"name": self.gateway, "sectionName": name}))
                .collect()
        } else {
            vec![json!({"name": self.gateway})]
        };
        let changes = &route.duties.changes;
        let with = |pattern: Option<&Pattern>| {
            let mut rule = rule.clone();
            let filters = if route.left_out {
                Vec::new()
            } else {
                changes.filters(pattern)
            };
            if !filters.is_empty() {
                rule.insert("filters".to_owned(), json!(filters));
            }
            rule
        };
        if !changes.replaces_prefix() {
            return self.put(&route.name, route, &with(None), all_of(route), &parents);
        }
        let patterns = route.patterns.iter().enumerate();
        let matches = patterns.flat_map(|(number, pattern)| {
            of_pattern(route, pattern, route.expressions.contains(&number))
        });
        let mut names = self.put(&route.name, route, &with(None), matches.collect(), &parents);
        for path in &route.own_paths {
            let pattern = Pattern::Exact(path.clone());
            names.extend(self.put(
                &route.name,
                route,
                &with(Some(&pattern)),
                of_pattern(route, &pattern, false),
                &parents,
            ));
        }
        names
    }

    /// Names of the listeners with TLS that have a host of the route; a parent without one would be refused.
    fn secure(&self, route: &Route) -> Vec<Value> {
        let fits = |listener: &&Value| {
            let host = listener.get("hostname").and_then(Value::as_str);
            let host: Vec<String> = host.map(str::to_owned).into_iter().collect();
            hosts_meet(&route.hosts, &host)
        };
        let names = self.listeners.iter().filter(fits);
        names
            .filter_map(|listener| listener.get("name").cloned())
            .collect()
    }

    /// Adds HTTPRoutes for these matches.
    fn put(
        &mut self,
        name: &str,
        route: &Route,
        rule: &Map<String, Value>,
        matches: Vec<Value>,
        parents: &[Value],
    ) -> Vec<String> {
        let mut names = Vec::new();
        for some in matches.chunks(MATCHES) {
            let mut rule = rule.clone();
            rule.insert("matches".to_owned(), json!(some));
            let mut spec = Map::new();
            spec.insert("parentRefs".to_owned(), json!(parents));
            if !route.hosts.is_empty() {
                spec.insert("hostnames".to_owned(), json!(route.hosts));
            }
            spec.insert("rules".to_owned(), json!([rule]));
            let name = self.manifests.name(Kind::HttpRoute, name);
            self.manifests
                .add(Kind::HttpRoute, &name, json!({"spec": spec}));
            names.push(name);
        }
        names
    }
}

fn all_of(route: &Route) -> Vec<Value> {
    let patterns = route.patterns.iter().enumerate();
    let mut all: Vec<Value> = patterns
        .flat_map(|(number, pattern)| {
            of_pattern(route, pattern, route.expressions.contains(&number))
        })
        .collect();
    for path in &route.own_paths {
        let pattern = Pattern::Exact(path.clone());
        if !route.patterns.contains(&pattern) {
            all.extend(of_pattern(route, &pattern, false));
        }
    }
    all
}

fn of_pattern(route: &Route, pattern: &Pattern, expression: bool) -> Vec<Value> {
    let methods: Vec<Option<&String>> = if route.methods.is_empty() {
        vec![None]
    } else {
        route.methods.iter().map(Some).collect()
    };
    let mut all = Vec::new();
    for method in methods {
        for one in &route.alternatives {
            let mut fields = Map::new();
            fields.insert("path".to_owned(), pattern.path(expression));
            if let Some(method) = method {
                fields.insert("method".to_owned(), json!(method));
            }
            for (field, values) in [("headers", &one.headers), ("queryParams", &one.query)] {
                let values: Vec<Value> = values
                    .iter()
                    .map(|(name, value)| json!({"name": name, "value": value}))
                    .collect();
                if !values.is_empty() {
                    fields.insert(field.to_owned(), json!(values));
                }
            }
            all.push(Value::Object(fields));
        }
    }
    all
}

fn plugins(shared: Shared, manifests: &mut Manifests) {
    for ((block, _), (config, route, names)) in shared {
        let suffix = match block {
            "keyAuth" => "key-auth",
            "openidConnect" => "openid-connect",
            "anyOf" => "any-of",
            other => other,
        };
        let config = with_secrets(&config, &route, manifests);
        for some in names.chunks(TARGETS) {
            let targets: Vec<Value> = some
                .iter()
                .map(|name| target(Kind::HttpRoute, name))
                .collect();
            let name = manifests.name(Kind::AuthPlugin, &format!("{route}-{suffix}"));
            manifests.plugin(&name, &targets, block, config.clone());
        }
    }
}

/// Puts what is secret into Secrets.
fn with_secrets(config: &Value, name: &str, manifests: &mut Manifests) -> Value {
    match config {
        Value::Object(fields) => match fields.get("$secret").and_then(Value::as_str) {
            Some(text) => {
                let secret = manifests.name(Kind::Secret, &format!("{name}-openid-connect"));
                manifests.secret(
                    &secret,
                    &BTreeMap::from([("value".to_owned(), text.to_owned())]),
                );
                json!({"name": secret, "key": "value"})
            }
            None => Value::Object(
                fields
                    .iter()
                    .map(|(field, value)| (field.clone(), with_secrets(value, name, manifests)))
                    .collect(),
            ),
        },
        Value::Array(list) => Value::Array(
            list.iter()
                .map(|value| with_secrets(value, name, manifests))
                .collect(),
        ),
        other => other.clone(),
    }
}
