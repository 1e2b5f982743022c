//! What Postern itself would refuse of the manifests is taken out again, and what it protects or carries is closed.
//!
//! This is the net below each import: none of them has to know every rule of every field.

use std::collections::{BTreeMap, BTreeSet};

use compile::{Compiler, Kind, Level, Object, ObjectRef};
use controller::files;
use serde_json::Value;

/// An object, "HTTPRoute orders", and what became of it.
type Refused = (String, String);

/// The objects that are left, without any that is refused.
pub(super) fn settle(mut objects: Vec<Value>) -> (Vec<Value>, Vec<Refused>) {
    let mut refused = Vec::new();
    // Each round takes something away or closes it.
    loop {
        let found = faults(&objects);
        if found.is_empty() {
            return (objects, refused);
        }
        let mut gone = BTreeSet::new();
        for (index, reason) in found {
            let Some(object) = objects.get(index).cloned() else {
                continue;
            };
            let remedy = mend(index, &object, &mut objects, &mut gone);
            let label = format!(
                "{} {}",
                text(&object, "/kind"),
                text(&object, "/metadata/name")
            );
            refused.push((label, format!("{reason}. {remedy}")));
        }
        let mut index = 0;
        objects.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
    }
}

/// Objects that are refused, and why; each once.
fn faults(objects: &[Value]) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut compiler = Compiler::new(files::settings());
    let mut references: BTreeMap<ObjectRef, usize> = BTreeMap::new();
    for (index, value) in objects.iter().enumerate() {
        match Object::from_json(value.clone()) {
            Ok(object) => {
                references.insert(object.reference().clone(), index);
                compiler.apply(object);
            }
            // The message may quote a value.
            Err(_) => found.push((index, "its fields do not fit".to_owned())),
        }
    }
    for diagnostic in compiler.update().diagnostics.iter() {
        if diagnostic.level != Level::Error {
            continue;
        }
        let reference = &diagnostic.object;
        let Some(index) = references.get(reference) else {
            continue;
        };
        let reason = match (reference.kind, diagnostic.field.as_str()) {
            // No more of it than where the fault is.
            (Kind::Secret | Kind::Credential, field) => format!("{field} does not fit"),
            (_, "") => diagnostic.message.clone(),
            (_, field) => format!("{field}: {}", diagnostic.message),
        };
        if !found.iter().any(|(other, _)| other == index) {
            found.push((*index, reason));
        }
    }
    found.sort_by_key(|(index, _)| *index);
    found
}

/// Takes a refused object away and closes what it was for; says what was done.
fn mend(
    index: usize,
    object: &Value,
    objects: &mut [Value],
    gone: &mut BTreeSet<usize>,
) -> &'static str {
    let kind = text(object, "/kind");
    match kind {
        "HTTPRoute" | "GRPCRoute" => {
            if objects.get_mut(index).is_some_and(close) {
                return "It is left out: requests that it matches are refused";
            }
            gone.insert(index);
            if at_https(object) && !has_https(objects) {
                return "It is left out: there is no HTTPS";
            }
            // Nobody knows which requests would have been its own.
            for other in objects.iter_mut() {
                close(other);
            }
            "What it matches cannot be said, so that all requests are refused until it is mended or removed"
        }
        "Gateway" => {
            if let Some(listeners) = objects
                .get_mut(index)
                .and_then(|gateway| gateway.pointer_mut("/spec/listeners"))
                .and_then(Value::as_array_mut)
            {
                let before = listeners.len();
                listeners.retain(|listener| listener["protocol"] != "HTTPS");
                if listeners.len() < before {
                    return "Its listener for HTTPS is left out";
                }
            }
            gone.insert(index);
            "It is left out: nothing is served"
        }
        "AuthPlugin" | "BackendTLSPolicy" | "UpstreamPolicy" => {
            gone.insert(index);
            let targets = object.pointer("/spec/targetRefs").and_then(Value::as_array);
            for target in targets.into_iter().flatten() {
                let kind = target["kind"].as_str().unwrap_or("Service");
                close_of(objects, kind, target["name"].as_str().unwrap_or_default());
            }
            "It is left out, and requests that it is for are refused"
        }
        "Service" => {
            gone.insert(index);
            close_of(objects, "Service", text(object, "/metadata/name"));
            "It is left out, and requests for it are refused"
        }
        _ => {
            gone.insert(index);
            "It is left out"
        }
    }
}

/// Closes the routes that an object is about.
fn close_of(objects: &mut [Value], kind: &str, name: &str) {
    for object in objects {
        let concerned = match kind {
            "HTTPRoute" | "GRPCRoute" => {
                text(object, "/kind") == kind && text(object, "/metadata/name") == name
            }
            "Service" => rules(object).any(|rule| {
                let backends = rule["backendRefs"].as_array();
                backends
                    .into_iter()
                    .flatten()
                    .any(|backend| backend["name"] == name)
            }),
            // A Gateway, or what has everything below it.
            _ => true,
        };
        if concerned {
            close(object);
        }
    }
}

fn rules(object: &Value) -> impl Iterator<Item = &Value> {
    object
        .pointer("/spec/rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Takes the backends and filters of a route's rules away. False where there were none.
fn close(object: &mut Value) -> bool {
    if !matches!(text(object, "/kind"), "HTTPRoute" | "GRPCRoute") {
        return false;
    }
    let rules = object
        .pointer_mut("/spec/rules")
        .and_then(Value::as_array_mut);
    let mut changed = false;
    for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
        changed |= rule.remove("backendRefs").is_some();
        changed |= rule.remove("filters").is_some();
    }
    changed
}

fn at_https(route: &Value) -> bool {
    let parents = route.pointer("/spec/parentRefs").and_then(Value::as_array);
    parents
        .into_iter()
        .flatten()
        .any(|parent| parent["sectionName"] == "https")
}

fn has_https(objects: &[Value]) -> bool {
    objects.iter().any(|object| {
        let listeners = object.pointer("/spec/listeners").and_then(Value::as_array);
        listeners
            .into_iter()
            .flatten()
            .any(|listener| listener["protocol"] == "HTTPS")
    })
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gateway() -> Value {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "default"},
            "spec": {"gatewayClassName": "postern", "listeners": [{"name": "http", "protocol": "HTTP", "port": 8000}]}})
    }

    fn service() -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "a.test", "ports": [{"port": 80}]}})
    }

    fn route(name: &str, path: &str) -> Value {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": "default"},
            "spec": {"parentRefs": [{"name": "g"}], "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                "backendRefs": [{"name": "s", "port": 80}]}]}})
    }

    fn plugin(block: Value) -> Value {
        json!({"apiVersion": "postern.dev/v1alpha1", "kind": "AuthPlugin", "metadata": {"name": "p", "namespace": "default"},
            "spec": {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}], "acl": block}})
    }

    fn open(objects: &[Value], name: &str) -> bool {
        let route = objects
            .iter()
            .find(|object| text(object, "/metadata/name") == name);
        route.is_some_and(|route| rules(route).all(|rule| rule.get("backendRefs").is_some()))
    }

    #[test]
    fn what_is_accepted_stays_as_it_is() {
        let objects = vec![
            gateway(),
            service(),
            route("r", "/"),
            plugin(json!({"allow": ["a"]})),
        ];
        assert_eq!(settle(objects.clone()), (objects, Vec::new()));
    }

    #[test]
    fn a_refused_plugin_closes_its_routes_and_no_others() {
        let objects = vec![
            gateway(),
            service(),
            route("r", "/"),
            route("other", "/b"),
            plugin(json!({})),
        ];
        let (left, refused) = settle(objects);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(!open(&left, "r") && open(&left, "other"));
        assert!(faults(&left).is_empty());
    }

    #[test]
    fn a_route_of_which_nobody_knows_what_it_matches_closes_all() {
        let objects = vec![
            gateway(),
            service(),
            route("r", "no slash"),
            route("other", "/b"),
        ];
        let (left, refused) = settle(objects);
        assert!(!refused.is_empty());
        assert!(!open(&left, "other"));
        assert!(faults(&left).is_empty());
    }
}
