//! Consumers, their groups and their credentials.

use std::collections::BTreeMap;

use compile::Kind;
use controller::api::translate;
use serde_json::{Map, Value, json};

use super::entity::{Entity, is_elsewhere, list, reference};
use crate::import::manifests::Manifests;

const KNOWN: &[&str] = &[
    "id",
    "username",
    "custom_id",
    "tags",
    "created_at",
    "updated_at",
    "groups",
    "plugins",
    "acls",
    "keyauth_credentials",
    "jwt_secrets",
    "oauth2_credentials",
];

/// List of the file, and what the credentials in it are.
pub(super) const CREDENTIALS: &[(&str, &str)] = &[
    ("keyauth_credentials", "key-auth"),
    ("jwt_secrets", "jwt"),
    ("oauth2_credentials", "oauth2"),
];

/// Credentials of plugins that Postern does not have.
pub(super) const FOREIGN: &[&str] = &[
    "basicauth_credentials",
    "hmacauth_credentials",
    "mtls_auth_credentials",
    "keyauth_enc_credentials",
    "header_cert_auth_credentials",
];

/// A consumer of the file, and the name that its object has.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) entity: Entity,
    pub(super) name: String,
    /// What keeps it out, if anything does.
    pub(super) dropped: bool,
}

pub(super) fn read(entities: Vec<Entity>, manifests: &mut Manifests) -> Vec<Consumer> {
    entities
        .into_iter()
        .map(|entity| {
            let wanted = ["username", "custom_id", "id"]
                .into_iter()
                .find_map(|field| entity.text(field));
            let name = manifests.name(Kind::Consumer, wanted.unwrap_or("consumer"));
            Consumer {
                entity,
                name,
                dropped: false,
            }
        })
        .collect()
}

/// Adds what is there of all of them; `top` is the whole file, where credentials may stand by themselves.
///
/// # Errors
/// Lists that are none.
pub(super) fn add(
    consumers: &[Consumer],
    top: &Map<String, Value>,
    manifests: &mut Manifests,
) -> Result<(), String> {
    let of = |entity: &Entity, name: &str| entity.is(name);
    let mut loose = BTreeMap::new();
    for (field, kind) in CREDENTIALS.iter().copied().chain([("acls", "group")]) {
        loose.insert(field, list(top, "", field, kind)?);
    }
    for field in FOREIGN {
        for entity in list(top, "", field, field)? {
            foreign(&entity, manifests);
        }
    }
    for entity in loose.values().flatten() {
        let owner = reference(&entity.fields, "consumer").ok().flatten();
        if !owner.is_some_and(|owner| consumers.iter().any(|own| of(&own.entity, &owner))) {
            manifests.note(
                &entity.at,
                &entity.label,
                "consumer: names nobody; it is left out",
            );
        }
    }
    for consumer in consumers.iter().filter(|consumer| !consumer.dropped) {
        let own = |field: &str, kind: &str| -> Result<Vec<Entity>, String> {
            let mut all = list(&consumer.entity.fields, &consumer.entity.at, field, kind)?;
            for entity in loose.get(field).into_iter().flatten() {
                let owner = reference(&entity.fields, "consumer").ok().flatten();
                if owner.is_some_and(|owner| of(&consumer.entity, &owner)) {
                    all.push(entity.clone());
                }
            }
            Ok(all)
        };
        let groups = own("acls", "group")?;
        let groups: Option<Vec<String>> = groups
            .iter()
            .map(|entity| entity.text("group").map(str::to_owned))
            .collect();
        // A group that is not known might be one that is refused.
        let Some(groups) = groups else {
            let message = "acls: one of them has no group; it is left out";
            manifests.note(&consumer.entity.at("acls"), &consumer.entity.label, message);
            continue;
        };
        one(consumer, groups, manifests);
        for (field, kind) in CREDENTIALS {
            for entity in own(field, kind)? {
                credential(consumer, kind, &entity, manifests);
            }
        }
        for field in FOREIGN {
            for entity in list(&consumer.entity.fields, &consumer.entity.at, field, field)? {
                foreign(&entity, manifests);
            }
        }
    }
    Ok(())
}

fn one(consumer: &Consumer, mut groups: Vec<String>, manifests: &mut Manifests) {
    let entity = &consumer.entity;
    for field in entity.unknown(KNOWN) {
        if !FOREIGN.contains(&&*field) {
            manifests.note(
                &entity.at(&field),
                &entity.label,
                format!("{field}: is not carried over"),
            );
        }
    }
    if entity
        .fields
        .get("groups")
        .and_then(Value::as_array)
        .is_some_and(|groups| !groups.is_empty())
    {
        let message = "groups: groups of consumers are not carried over; acl knows those of acls";
        manifests.note(&entity.at("groups"), &entity.label, message);
    }
    groups.sort_unstable();
    groups.dedup();
    let mut spec = Map::new();
    if let Some(username) = entity
        .text("username")
        .filter(|username| *username != consumer.name)
    {
        spec.insert("username".to_owned(), json!(username));
    }
    for (field, name) in [("custom_id", "customId"), ("id", "id")] {
        if let Some(value) = entity.text(field) {
            spec.insert(name.to_owned(), json!(value));
        }
    }
    if !groups.is_empty() {
        spec.insert("groups".to_owned(), json!(groups));
    }
    tags(entity, &mut spec);
    manifests.add(Kind::Consumer, &consumer.name, json!({"spec": spec}));
}

fn tags(entity: &Entity, spec: &mut Map<String, Value>) {
    if let Some(tags) = entity.texts("tags").ok().filter(|tags| !tags.is_empty()) {
        spec.insert("tags".to_owned(), json!(tags));
    }
}

fn foreign(entity: &Entity, manifests: &mut Manifests) {
    let message = "Postern has no such credentials; it is left out. Give its consumer a key, a token or a sign-in";
    manifests.note(&entity.at, &entity.label, message);
}

fn credential(consumer: &Consumer, kind: &str, entity: &Entity, manifests: &mut Manifests) {
    let label = format!("{} of {}", entity.label, consumer.entity.label);
    // What is secret is not repeated, and the place says which it is.
    let label = match kind {
        "key-auth" => format!("key-auth credential of {}", consumer.entity.label),
        _ => label,
    };
    let mut fields = entity.fields.clone();
    for field in ["id", "consumer", "created_at", "updated_at", "tags", "ttl"] {
        fields.remove(field);
    }
    fields.retain(|_, value| !value.is_null());
    let problem = prepare(kind, &mut fields);
    if let Err((field, reason)) = problem {
        manifests.note(
            &entity.at(&field),
            &label,
            format!("{field}: {reason}; it is left out"),
        );
        return;
    }
    let name = manifests.name(Kind::Credential, &format!("{}-{kind}", consumer.name));
    let secret = manifests.name(Kind::Secret, &name);
    match translate::credential(kind, &fields, &secret) {
        Some(Ok(made)) => {
            let mut spec = Map::new();
            spec.insert("consumerRef".to_owned(), json!({"name": consumer.name}));
            if let Some(ttl) = entity.number("ttl").filter(|ttl| *ttl > 0) {
                spec.insert("ttl".to_owned(), json!(ttl));
            }
            tags(entity, &mut spec);
            spec.insert(made.block, made.config);
            if !made.entries.is_empty() {
                manifests.secret(&secret, &made.entries);
            }
            manifests.add(Kind::Credential, &name, json!({"spec": spec}));
        }
        Some(Err(problems)) => {
            for (field, reason) in problems {
                manifests.note(
                    &entity.at(&field),
                    &label,
                    format!("{field}: {reason}; it is left out"),
                );
            }
        }
        None => {}
    }
}

/// Makes what Kong keeps what the Admin API takes. Nothing is generated: what is made up would be new every time.
fn prepare(kind: &str, fields: &mut Map<String, Value>) -> Result<(), (String, String)> {
    let wrong = |field: &str, reason: &str| (field.to_owned(), reason.to_owned());
    let needed: &[&str] = match kind {
        "key-auth" => &["key"],
        "jwt" => {
            let algorithm = fields.entry("algorithm").or_insert(json!("HS256"));
            let symmetric = algorithm
                .as_str()
                .is_some_and(|name| name.starts_with("HS"));
            // Kong has both, and looks at one.
            fields.remove(if symmetric {
                "rsa_public_key"
            } else {
                "secret"
            });
            if symmetric {
                &["key", "secret"]
            } else {
                &["key", "rsa_public_key"]
            }
        }
        _ => {
            if fields.remove("hash_secret") == Some(json!(true)) {
                return Err(wrong(
                    "hash_secret",
                    "only a digest of the secret is there; give the application a new one",
                ));
            }
            match fields.get("client_type").and_then(Value::as_str) {
                Some("public") => {
                    fields.remove("client_secret");
                    &["name", "client_id"]
                }
                _ => &["name", "client_id", "client_secret"],
            }
        }
    };
    for field in needed {
        match fields.get(*field).and_then(Value::as_str) {
            None | Some("") => return Err(wrong(field, "is not in the file; put it in")),
            Some(text) if is_elsewhere(text) => {
                return Err(wrong(
                    field,
                    "is in the environment or a vault; put it in, or make a Credential for it",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
