//! Plugins and credentials in Kong's spelling as resources have them, for whoever reads them from elsewhere than the API.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::entity::{PROOFS, blocks};
use super::names::camel;
use super::refused::{Refused, Violations};
use super::schema;

/// A block of a resource, and what its Secret has to hold.
pub struct Translated {
    /// Name of the block, "keyAuth".
    pub block: String,
    /// What is in it.
    pub config: Value,
    /// Entries for the Secret that it refers to.
    pub entries: BTreeMap<String, String>,
}

/// A field, "config.key_names", and what is wrong with it. No value is repeated.
pub type Problems = BTreeMap<String, String>;

/// The configuration of a plugin, "key-auth"; none where there is no such plugin. What must be kept in a Secret goes to the
/// one that `secret` names. `anonymous` is no part of it: whom it names, the caller knows.
///
/// # Errors
/// Fields that are unknown or do not fit.
#[must_use]
pub fn plugin(name: &str, config: &Value, secret: &str) -> Option<Result<Translated, Problems>> {
    let block = blocks().get(name)?;
    let mut entries = BTreeMap::new();
    let config = referred(config, &block.shown, secret, "", &mut entries);
    let config = match config {
        Value::Null => json!({}),
        config => config,
    };
    let mut found = Violations::default();
    schema::check(&config, &block.shown, "config", &mut found);
    if !found.0.is_empty() {
        return Some(Err(found.0));
    }
    Some(Ok(Translated {
        block: block.name.clone(),
        config: block.inner(config),
        entries,
    }))
}

/// A credential from its fields; `kind` is "key-auth", "jwt" or "oauth2". None where there is no such kind.
///
/// # Errors
/// Fields that are unknown or do not fit.
#[must_use]
pub fn credential(
    kind: &str,
    fields: &Map<String, Value>,
    secret: &str,
) -> Option<Result<Translated, Problems>> {
    let proof = PROOFS.into_iter().find(|proof| proof.nested() == kind)?;
    let fields: Map<String, Value> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let schema = json!({"type": "object", "properties": proof.properties()});
    let mut found = Violations::default();
    schema::check(&Value::Object(fields.clone()), &schema, "", &mut found);
    if !found.0.is_empty() {
        return Some(Err(found.0));
    }
    Some(match proof.make(&fields, &Value::Null, secret) {
        Ok(made) => Ok(Translated {
            block: proof.block().to_owned(),
            config: made.block,
            entries: made.entries,
        }),
        Err(Refused::Violations(found)) => Err(found.0),
        Err(_) => Err([(String::new(), "cannot be translated".to_owned())].into()),
    })
}

/// Takes out nulls, which stand for defaults, and puts plain secrets where the schema has a reference to one.
fn referred(
    value: &Value,
    schema: &Value,
    secret: &str,
    at: &str,
    entries: &mut BTreeMap<String, String>,
) -> Value {
    let Value::Object(fields) = value else {
        return value.clone();
    };
    let known = |name: &str| schema["properties"].get(name);
    let mut result = Map::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let reference = ["_secret_ref", "_ref"]
            .into_iter()
            .map(|tail| format!("{name}{tail}"))
            // `client_secret` is `client_secret_ref`, `password` is `password_secret_ref`.
            .find(|reference| known(reference).is_some());
        match (value, reference) {
            (Value::String(text), Some(reference)) if known(name).is_none() => {
                let entry = camel(&format!("{at}{name}"));
                result.insert(reference, json!({"name": secret, "key": entry}));
                entries.insert(entry, text.clone());
            }
            _ => {
                let inner = known(name).cloned().unwrap_or_default();
                let at = format!("{at}{name}_");
                result.insert(name.clone(), referred(value, &inner, secret, &at, entries));
            }
        }
    }
    Value::Object(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_secrets_become_references_and_nulls_defaults() {
        let config = json!({"scopes": ["a"], "enable_password_grant": true, "provision_key": "hush", "realm": null});
        let made = plugin("oauth2", &config, "own").unwrap().unwrap();
        assert_eq!(made.block, "oauth2");
        let want = json!({"scopes": ["a"], "enablePasswordGrant": true,
            "provisionKeySecretRef": {"name": "own", "key": "provisionKey"}});
        assert_eq!(made.config, want);
        assert_eq!(made.entries["provisionKey"], "hush");
    }

    #[test]
    fn what_is_unknown_is_named() {
        assert!(plugin("basic-auth", &json!({}), "own").is_none());
        let problems = plugin("key-auth", &json!({"identity_realms": []}), "own")
            .unwrap()
            .err()
            .unwrap();
        assert_eq!(problems["config.identity_realms"], "unknown field");
        let fields = Map::from_iter([("nmae".to_owned(), json!("x"))]);
        let problems = credential("oauth2", &fields, "own").unwrap().err().unwrap();
        assert_eq!(problems["nmae"], "unknown field");
    }

    #[test]
    fn credentials_are_made_as_by_the_api() {
        let fields = Map::from_iter([("key".to_owned(), json!("k"))]);
        let made = credential("key-auth", &fields, "own").unwrap().unwrap();
        assert_eq!(
            made.config,
            json!({"secretRef": {"name": "own", "key": "key"}})
        );
        assert_eq!(made.entries["key"], "k");
    }
}
