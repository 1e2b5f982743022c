//! Values out of Secrets and ConfigMaps, for whatever refers to them.

use crate::inputs::Inputs;
use crate::object::Body;
use crate::{Kind, Object};
use plugins::{ConfigMapKeyRef, SecretKeyRef};

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It will be there soon.
    Pending(String),
    /// Reason and message.
    NotFound(&'static str, String),
    /// The value is there, and cannot be right.
    Empty(String),
}

/// A value of a Secret, without one line break at its end.
pub(crate) fn of_secret<'a>(
    inputs: &'a Inputs,
    namespace: &str,
    entry: &SecretKeyRef,
) -> Result<&'a [u8], Missing> {
    const REASON: &str = "SecretNotFound";
    let name = format!("Secret {namespace}/{}", entry.name);
    let Some((_, secret)) = inputs.secret(namespace, &entry.name) else {
        let message = match inputs
            .find(Kind::Secret, namespace, &entry.name)
            .and_then(Object::unreadable)
        {
            Some(bad) => format!("{name} cannot be read: {} {}", bad.field, bad.message),
            None => format!("{name} does not exist"),
        };
        return Err(Missing::NotFound(REASON, message));
    };
    let Some(data) = &secret.data else {
        return Err(Missing::Pending(format!("{name} is being read")));
    };
    let value = data
        .get(&entry.key)
        .ok_or_else(|| Missing::NotFound(REASON, format!("{name} has no entry {}", entry.key)))?;
    let value = without_line_break(value);
    if value.is_empty() {
        let message = format!(
            "entry {} of {name} is empty; it needs at least one character",
            entry.key
        );
        return Err(Missing::Empty(message));
    }
    Ok(value)
}

/// PEM out of a ConfigMap.
pub(crate) fn of_config_map<'a>(
    inputs: &'a Inputs,
    namespace: &str,
    entry: &ConfigMapKeyRef,
) -> Result<&'a str, Missing> {
    let object = inputs.find(Kind::ConfigMap, namespace, &entry.name);
    let found = match object.map(|object| &object.body) {
        Some(Body::ConfigMap(config_map)) => config_map.pem(&entry.key),
        Some(Body::Unreadable(bad)) => {
            Err(format!("cannot be read: {} {}", bad.field, bad.message))
        }
        _ => Err("does not exist".to_owned()),
    };
    found.map_err(|problem| {
        let message = format!("ConfigMap {namespace}/{} {problem}", entry.name);
        Missing::NotFound("ConfigMapNotFound", message)
    })
}

/// What is there of the Secret that is generated for an object and has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Generated {
    /// All entries; or who reads it says what is wrong.
    Complete,
    /// These have to be made.
    Lacks(Vec<&'static str>),
    /// Somebody else's Secret has the name.
    Foreign,
}

/// Looks for entries of the Secret that is generated for an object.
pub(crate) fn generated(inputs: &Inputs, owner: &Object, entries: &[&'static str]) -> Generated {
    let (namespace, name) = (&owner.reference.namespace, &owner.reference.name);
    let Some(secret) = inputs.find(Kind::Secret, namespace, name) else {
        return Generated::Lacks(entries.to_vec());
    };
    let mut owners = secret.meta.owners.iter();
    if !owners.any(|one| **one == *owner.meta.uid) {
        return Generated::Foreign;
    }
    let held = inputs
        .secret(namespace, name)
        .and_then(|(_, secret)| secret.data.as_ref());
    let missing: Vec<_> = held.map_or_else(Vec::new, |held| {
        let missing = entries.iter().filter(|entry| !held.contains_key(**entry));
        missing.copied().collect()
    });
    if missing.is_empty() {
        Generated::Complete
    } else {
        Generated::Lacks(missing)
    }
}

/// A value loses one line break at its end. What is no text keeps it: it may be one byte of many.
fn without_line_break(value: &[u8]) -> &[u8] {
    if std::str::from_utf8(value).is_err() {
        return value;
    }
    value
        .strip_suffix(b"\n")
        .map_or(value, |line| line.strip_suffix(b"\r").unwrap_or(line))
}
