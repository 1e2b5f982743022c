//! The entities: one file each.

mod acls;
mod consumers;
mod credentials;
mod find;
mod jwts;
mod key_auths;
mod oauth2_tokens;
mod oauth2s;
mod plugin_config;
mod plugins;
mod proof;
mod routes;
mod services;
mod tags;

use std::sync::Arc;

use compile::Object;
use serde_json::{Map, Value, json};

use super::endpoint::{Call, Endpoint};
use super::refused::Violations;
use crate::files::is_label;

pub(super) use plugin_config::blocks;
pub(super) use proof::{Made, Proof, Seen};

/// The types of credentials.
pub(super) static PROOFS: [&dyn Proof; 3] = [&key_auths::KeyAuths, &jwts::Jwts, &oauth2s::OAuth2s];

/// What can be called about entities.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut all = consumers::endpoints();
    for proof in PROOFS {
        all.extend(credentials::endpoints(proof));
    }
    all.extend(oauth2_tokens::endpoints());
    all.extend(acls::endpoints());
    all.extend(plugins::endpoints());
    all.extend(services::endpoints());
    all.extend(routes::endpoints());
    all.extend(tags::endpoints());
    all
}

/// When an object was made, in milliseconds since 1970.
fn created_at(object: &Object) -> Value {
    json!(object.created().saturating_mul(1000))
}

/// No tags are null.
fn tags(tags: &[String]) -> Value {
    if tags.is_empty() {
        Value::Null
    } else {
        json!(tags)
    }
}

/// A list's schema.
fn list_of(entity: &Arc<Value>) -> Arc<Value> {
    Arc::new(json!({
        "type": "object",
        "required": ["data", "next"],
        "properties": {
            "data": {"type": "array", "items": **entity},
            "next": {"type": ["string", "null"], "description": "Where the next page is; null behind the last."},
            "offset": {"type": "string", "description": "Of the next page."},
            "total": {"type": "integer", "description": "How many there are in all; of jwts only."},
        },
    }))
}

/// Fields that an entity has from its object. Who sends an entity back sends them, too; they cannot be changed.
fn fixed(fields: &mut Map<String, Value>, shown: Option<&Value>, names: &[&str]) -> Violations {
    let mut found = Violations::default();
    for name in names {
        let Some(value) = fields.remove(*name).filter(|value| !value.is_null()) else {
            continue;
        };
        match shown {
            Some(shown) if shown[*name] == value => {}
            Some(_) => found.add(*name, "cannot be changed"),
            None => found.add(*name, "is given by the gateway"),
        }
    }
    found
}

/// Of the field that names a namespace.
fn namespace_schema() -> Value {
    json!({"type": ["string", "null"], "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"})
}

/// The namespace in which something is made.
fn namespace_for(call: &Call, fields: &mut Map<String, Value>) -> Result<String, Violations> {
    let named = fields.remove("namespace");
    let named = named.as_ref().and_then(Value::as_str);
    let namespace = match (call.namespace(), named) {
        (Some(asked), Some(named)) if asked != named => {
            let message = "differs from the one of the query";
            return Err(Violations::of("namespace", message));
        }
        (Some(namespace), _) | (None, Some(namespace)) => namespace,
        (None, None) => &call.api.namespace,
    };
    // It becomes part of paths: of files, and of what the API server is asked for.
    if !is_label(namespace) {
        let message =
            "must be at most 63 lower-case letters, digits and '-', a letter or digit at both ends";
        return Err(Violations::of("namespace", message));
    }
    Ok(namespace.to_owned())
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}
