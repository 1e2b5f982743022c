//! From what the compiler says to what the API server keeps.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use compile::{Condition, ConditionStatus, Kind, ListenerStatus, ObjectStatus, StatusBody};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Address;
use crate::publish::Progress;

/// Refusals that one condition names.
const NAMED_REFUSALS: usize = 3;
/// Addresses that a Gateway's status may have.
const MAX_ADDRESSES: usize = 16;

/// A status without the times of its conditions, and whether all its `When`s are settled.
#[derive(Debug, PartialEq)]
pub(super) struct Rendered {
    pub(super) status: Value,
    pub(super) settled: bool,
}

/// What a status depends on besides the compiler.
pub(super) struct Surroundings<'a> {
    /// Name of this controller in the parents of routes.
    pub(super) controller: &'a str,
    /// How far some keys are.
    pub(super) progress: &'a dyn Fn(&[std::sync::Arc<str>]) -> Progress,
    /// How many stores of tokens and sessions the proxies have between them.
    pub(super) stores: usize,
    /// Of the Service that leads to the object: a Gateway's own, or that of all Ingresses.
    pub(super) addresses: &'a [Address],
}

/// Renders a status.
pub(super) fn render(object: &ObjectStatus, around: &Surroundings<'_>) -> Rendered {
    let mut settled = true;
    let mut conditions = |list: &[Condition]| -> Value {
        list.iter()
            .map(|one| condition(one, object, around, &mut settled))
            .collect()
    };
    let status = match &object.body {
        StatusBody::Conditions {
            conditions: list,
            fields,
        } => {
            let mut status: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            status.insert("conditions".into(), conditions(list));
            Value::Object(status)
        }
        StatusBody::Gateway {
            conditions: list,
            listeners,
            attached_sets,
            addresses,
        } => {
            let mut own = conditions(list);
            let missing: Vec<&str> = addresses
                .iter()
                .filter(|wanted| !around.addresses.iter().any(|one| one.is(wanted)))
                .map(String::as_str)
                .collect();
            if !missing.is_empty() {
                lack(&mut own, &missing);
            }
            let shown = around.addresses.iter().take(MAX_ADDRESSES);
            json!({
                "conditions": own,
                "listeners": of_listeners(listeners, &mut conditions),
                "addresses": shown.map(Address::of_gateway).collect::<Vec<_>>(),
                "attachedListenerSets": attached_sets,
            })
        }
        StatusBody::ListenerSet {
            conditions: list,
            listeners,
        } => json!({
            "conditions": conditions(list),
            "listeners": of_listeners(listeners, &mut conditions),
        }),
        StatusBody::Route { parents } => {
            let parents: Vec<Value> = parents
                .iter()
                .map(|parent| {
                    json!({
                        "parentRef": parent.parent_ref,
                        "controllerName": around.controller,
                        "conditions": conditions(&parent.conditions),
                    })
                })
                .collect();
            json!({"parents": parents})
        }
        StatusBody::Policy { ancestors } => {
            let ancestors: Vec<Value> = ancestors
                .iter()
                .map(|ancestor| {
                    json!({
                        "ancestorRef": ancestor.parent_ref,
                        "controllerName": around.controller,
                        "conditions": conditions(&ancestor.conditions),
                    })
                })
                .collect();
            json!({"ancestors": ancestors})
        }
        StatusBody::Ingress => {
            let addresses: Vec<Value> = around.addresses.iter().map(Address::of_ingress).collect();
            json!({"loadBalancer": {"ingress": addresses}})
        }
    };
    Rendered { status, settled }
}

fn of_listeners(
    listeners: &[ListenerStatus],
    conditions: &mut impl FnMut(&[Condition]) -> Value,
) -> Vec<Value> {
    let render = |listener: &ListenerStatus| {
        let kinds = listener.supported_kinds.iter();
        json!({
            "name": listener.name,
            "attachedRoutes": listener.attached_routes,
            "supportedKinds": kinds
                .map(|kind| json!({"group": "gateway.networking.k8s.io", "kind": kind}))
                .collect::<Vec<_>>(),
            "conditions": conditions(&listener.conditions),
        })
    };
    listeners.iter().map(render).collect()
}

/// A Gateway that does not have the addresses which it asks for is not programmed.
fn lack(conditions: &mut Value, missing: &[&str]) {
    for condition in conditions.as_array_mut().into_iter().flatten() {
        if field(condition, "type") == "Programmed"
            && let Some(condition) = condition.as_object_mut()
        {
            condition.insert("status".into(), "False".into());
            condition.insert("reason".into(), "AddressNotUsable".into());
            let message = format!("its Service has not got {}", missing.join(", "));
            condition.insert("message".into(), message.into());
        }
    }
}

fn condition(
    one: &Condition,
    object: &ObjectStatus,
    around: &Surroundings<'_>,
    settled: &mut bool,
) -> Value {
    let (status, reason, message) = match &one.status {
        ConditionStatus::True => ("True", one.reason, one.message.clone()),
        ConditionStatus::False => ("False", one.reason, one.message.clone()),
        ConditionStatus::When(by) => {
            let progress = (around.progress)(&by.keys);
            let outcome = Outcome::of(&progress);
            *settled &= outcome == Outcome::Programmed;
            let mut text = outcome.message(&progress);
            if by.shares_store && around.stores > 1 {
                text.push_str(&format!(
                    "; the {} connected proxies have {} stores of tokens and sessions, so that what one of them issues or \
                     ends is unknown to others: give all of them the same --store, in Redis",
                    progress.proxies, around.stores
                ));
            }
            let message = if one.message.is_empty() {
                text
            } else {
                format!("{}; {text}", one.message)
            };
            match outcome {
                Outcome::Programmed => ("True", one.reason, message),
                Outcome::Refused => ("False", "Refused", message),
                Outcome::Pending => ("False", "Pending", message),
            }
        }
    };
    json!({
        "type": one.kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": object.generation,
    })
}

/// How far resources are on the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Programmed,
    Refused,
    Pending,
}

impl Outcome {
    fn of(progress: &Progress) -> Self {
        if !progress.refusals.is_empty() {
            Self::Refused
        } else if progress.proxies > 0 && progress.programmed == progress.proxies {
            Self::Programmed
        } else {
            Self::Pending
        }
    }

    fn message(self, progress: &Progress) -> String {
        if progress.proxies == 0 {
            return "no proxy is connected".to_owned();
        }
        let mut text = format!(
            "programmed on {} of {} connected proxies",
            progress.programmed, progress.proxies
        );
        for (proxy, key, reason) in progress.refusals.iter().take(NAMED_REFUSALS) {
            text.push_str(&format!("; {proxy} refused {key}: {reason}"));
        }
        if let Some(more @ 1..) = progress.refusals.len().checked_sub(NAMED_REFUSALS) {
            text.push_str(&format!("; and {more} more refusals"));
        }
        text
    }
}

impl Address {
    fn is(&self, wanted: &str) -> bool {
        match self {
            Self::Ip(text) | Self::Hostname(text) => text == wanted,
        }
    }

    fn of_gateway(&self) -> Value {
        match self {
            Self::Ip(ip) => json!({"type": "IPAddress", "value": ip}),
            Self::Hostname(name) => json!({"type": "Hostname", "value": name}),
        }
    }

    fn of_ingress(&self) -> Value {
        match self {
            Self::Ip(ip) => json!({"ip": ip}),
            Self::Hostname(name) => json!({"hostname": name}),
        }
    }
}

/// The present status with what is ours in it replaced. Conditions that did not change keep their time.
pub(super) fn merged(
    kind: Kind,
    rendered: &Value,
    present: &Value,
    controller: &str,
    now: Timestamp,
) -> Value {
    let mut status = rendered.clone();
    let now = format!("{now:.0}");
    stamp(&mut status, present, &now);
    match (kind, shared_list(kind)) {
        (_, Some(list)) => {
            // A status list is replaced as a whole, so the entries of other controllers are repeated.
            let others = items(present, list)
                .iter()
                .filter(|entry| field(entry, "controllerName") != controller);
            if let Some(entries) = status.get_mut(list).and_then(Value::as_array_mut) {
                entries.splice(0..0, others.cloned());
            }
        }
        (Kind::Ingress, None) => {}
        (_, None) => {
            // What is no longer said goes away.
            if let (Some(status), Some(present)) = (status.as_object_mut(), present.as_object()) {
                for name in present.keys() {
                    status.entry(name.clone()).or_insert(Value::Null);
                }
            }
        }
    }
    status
}

/// The list of a status that several controllers write to.
const fn shared_list(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute => Some("parents"),
        Kind::BackendTlsPolicy => Some("ancestors"),
        _ => None,
    }
}

/// Gives every condition its time: of conditions, listeners, parents and ancestors.
fn stamp(status: &mut Value, present: &Value, now: &str) {
    stamp_conditions(status, present, now);
    for (list, same) in [
        ("listeners", same_listener as fn(&Value, &Value) -> bool),
        ("parents", same_parent),
        ("ancestors", same_ancestor),
    ] {
        let Some(own) = status.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for item in own {
            let before = items(present, list)
                .iter()
                .find(|before| same(before, item))
                .unwrap_or(&Value::Null);
            stamp_conditions(item, before, now);
        }
    }
}

fn same_listener(a: &Value, b: &Value) -> bool {
    field(a, "name") == field(b, "name")
}

fn same_parent(a: &Value, b: &Value) -> bool {
    ["parentRef", "controllerName"]
        .iter()
        .all(|name| field(a, name) == field(b, name))
}

fn same_ancestor(a: &Value, b: &Value) -> bool {
    ["ancestorRef", "controllerName"]
        .iter()
        .all(|name| field(a, name) == field(b, name))
}

fn stamp_conditions(holder: &mut Value, present: &Value, now: &str) {
    let Some(conditions) = holder.get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    for condition in conditions {
        let before = items(present, "conditions")
            .iter()
            .find(|before| {
                ["type", "status"]
                    .iter()
                    .all(|name| field(before, name) == field(condition, name))
            })
            .and_then(|before| before.get("lastTransitionTime"));
        let time = before
            .filter(|time| time.is_string())
            .cloned()
            .unwrap_or_else(|| now.into());
        if let Some(condition) = condition.as_object_mut() {
            condition.insert("lastTransitionTime".into(), time);
        }
    }
}

fn field<'a>(holder: &'a Value, name: &str) -> &'a Value {
    holder.get(name).unwrap_or(&Value::Null)
}

fn items<'a>(holder: &'a Value, list: &str) -> &'a [Value] {
    holder
        .get(list)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Sums up what of a status is ours, without times: equal for statuses that need no write.
pub(super) fn fingerprint(kind: Kind, status: Option<&Value>, controller: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(status) = status {
        match (kind, shared_list(kind)) {
            (_, Some(list)) => {
                for entry in items(status, list)
                    .iter()
                    .filter(|entry| field(entry, "controllerName") == controller)
                {
                    feed(entry, &mut hasher);
                }
            }
            (Kind::Ingress, None) => {
                feed(field(field(status, "loadBalancer"), "ingress"), &mut hasher)
            }
            (_, None) => feed(status, &mut hasher),
        }
    }
    hasher.finish()
}

fn feed(value: &Value, hasher: &mut DefaultHasher) {
    if is_empty(value) {
        return;
    }
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields
                .iter()
                .filter(|(name, value)| *name != "lastTransitionTime" && !is_empty(value))
                .collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            fields.len().hash(hasher);
            for (name, value) in fields {
                name.hash(hasher);
                feed(value, hasher);
            }
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| feed(item, hasher));
        }
        Value::String(text) => text.hash(hasher),
        other => other.to_string().hash(hasher),
    }
}

/// The API server leaves empty fields out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
