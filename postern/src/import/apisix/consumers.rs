//! Consumers, what proves them, and their groups.

use std::collections::{BTreeMap, BTreeSet};

use compile::Kind;
use serde_json::{Map, Value, json};

use super::super::manifests::Manifests;
use super::plugins::is_harmless;
use super::tables::{self, Entry, Tables, flag, label, number, text};

const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384",
    "PS512", "EdDSA",
];

/// Who is carried over.
#[derive(Debug, Default)]
pub(super) struct People<'a> {
    all: Vec<Person<'a>>,
    /// Groups that some acl names: only then a Consumer is in one of its own.
    wanted: BTreeSet<String>,
}

#[derive(Debug)]
struct Person<'a> {
    username: String,
    object: String,
    label: String,
    group: Option<String>,
    /// Where it stands, which plugin it is for, what is in it.
    proofs: Vec<(String, String, &'a Value)>,
}

/// The group that stands for one consumer. No group of APISIX has a colon in its name.
pub(super) fn group_of(username: &String) -> String {
    format!("consumer:{username}")
}

pub(super) fn read<'a>(tables: &Tables<'a>, manifests: &mut Manifests) -> People<'a> {
    let mut people = People::default();
    let mut proofs: BTreeMap<String, Vec<(String, &'a Value)>> = BTreeMap::new();
    for entry in &tables.consumers {
        // A credential of its own is listed among the consumers, as NAME/credentials/ID.
        if let Some(owner) = text(entry.value, "id")
            .and_then(|id| Some(id.split_once("/credentials/")?.0.to_owned()))
        {
            proofs
                .entry(owner)
                .or_default()
                .push((entry.at.clone(), entry.value));
        }
    }
    let mut seen = BTreeSet::new();
    for entry in &tables.consumers {
        let Some(username) = text(entry.value, "username") else {
            if !text(entry.value, "id").is_some_and(|id| id.contains("/credentials/")) {
                manifests.note(
                    &entry.at,
                    &label("consumer", entry.value, &entry.at),
                    "username: is missing; the consumer is left out",
                );
            }
            continue;
        };
        let label = format!("consumer {username:?}");
        if !seen.insert(username.clone()) {
            manifests.note(
                &entry.at,
                &label,
                "username: is taken; the second is left out",
            );
            continue;
        }
        match person(tables, entry, &username, &label, manifests) {
            Err((at, message)) => {
                manifests.note(&at, &label, format!("{message}; the consumer is left out"))
            }
            Ok((group, mut own)) => {
                for (at, value) in proofs.remove(&username).unwrap_or_default() {
                    for (name, config) in value.get("plugins").into_iter().flat_map(tables::fields)
                    {
                        own.push((format!("{at}.plugins.{name}"), name.to_owned(), config));
                    }
                }
                people.all.push(Person {
                    object: manifests.name(Kind::Consumer, &username),
                    username,
                    label,
                    group,
                    proofs: own,
                });
            }
        }
    }
    for (owner, listed) in proofs {
        for (at, _) in listed {
            manifests.note(
                &at,
                &format!("consumer {owner:?}"),
                "id: the consumer of this credential is not carried over, nor is the credential",
            );
        }
    }
    people
}

type Proofs<'a> = Vec<(String, String, &'a Value)>;

fn person<'a>(
    tables: &Tables<'a>,
    entry: &Entry<'a>,
    username: &str,
    label: &str,
    manifests: &mut Manifests,
) -> Result<(Option<String>, Proofs<'a>), (String, String)> {
    let at = &entry.at;
    let mut proofs = Vec::new();
    let group = match (text(entry.value, "group_id"), &entry.within) {
        (Some(id), _) => {
            let found = tables::find(&tables.groups, &id).ok_or_else(|| {
                (format!("{at}.group_id"), format!("group_id: there is no consumer_group {id:?}, and what it asks of its consumers is not known"))
            })?;
            Some((id, found.value))
        }
        (None, Some((group, _))) => text(group, "id")
            .or_else(|| text(group, "name"))
            .map(|id| (id, *group)),
        (None, None) => None,
    };
    let own = entry
        .value
        .get("plugins")
        .into_iter()
        .flat_map(tables::fields);
    let shared = group
        .iter()
        .flat_map(|(_, group)| group.get("plugins"))
        .flat_map(tables::fields);
    let sources = own
        .map(|(name, config)| (format!("{at}.plugins.{name}"), name, config))
        .chain(shared.map(|(name, config)| (format!("{at}.group_id"), name, config)));
    for (place, name, config) in sources {
        if tables::is_disabled(config) {
            continue;
        }
        if is_proof(name) {
            proofs.push((place, name.to_owned(), config));
        } else if is_harmless(name) || super::rewrite::KNOWN.contains(&name) {
            manifests.note(
                &place,
                label,
                format!("plugins.{name}: is not carried over for consumers"),
            );
        } else {
            return Err((
                place,
                format!(
                    "plugins.{name}: is not carried over for consumers, and might keep {username:?} from something; take it out where it need not"
                ),
            ));
        }
    }
    let listed = entry.value.get("credentials").and_then(Value::as_array);
    for (index, credential) in listed.into_iter().flatten().enumerate() {
        let place = format!("{at}.credentials[{index}]");
        match (text(credential, "type"), credential.get("config")) {
            (Some(kind), Some(config)) => proofs.push((place, kind, config)),
            _ => {
                for (name, config) in credential
                    .get("plugins")
                    .into_iter()
                    .flat_map(tables::fields)
                {
                    proofs.push((format!("{place}.plugins.{name}"), name.to_owned(), config));
                }
            }
        }
    }
    Ok((group.map(|(id, _)| id), proofs))
}

fn is_proof(name: &str) -> bool {
    matches!(
        name,
        "key-auth"
            | "jwt-auth"
            | "basic-auth"
            | "hmac-auth"
            | "ldap-auth"
            | "wolf-rbac"
            | "jwe-decrypt"
    )
}

impl People<'_> {
    /// The name of the object of a consumer that is carried over.
    pub(super) fn object_of(&self, username: &str) -> Option<&str> {
        let found = self.all.iter().find(|person| person.username == username);
        found.map(|person| person.object.as_str())
    }

    /// A consumer's own group is asked for somewhere.
    pub(super) fn want(&mut self, group: &str) {
        self.wanted.insert(group.to_owned());
    }

    pub(super) fn emit(&self, manifests: &mut Manifests) {
        let mut taken = BTreeSet::new();
        for person in &self.all {
            let own = Some(group_of(&person.username)).filter(|own| self.wanted.contains(own));
            let groups: Vec<String> = person.group.iter().cloned().chain(own).collect();
            let mut spec = Map::new();
            spec.insert("username".to_owned(), json!(person.username));
            if !groups.is_empty() {
                spec.insert("groups".to_owned(), json!(groups));
            }
            manifests.add(Kind::Consumer, &person.object, json!({"spec": spec}));
            for (at, name, config) in &person.proofs {
                let made = if tables::is_elsewhere(config) {
                    Err("the value is in the environment or a secret manager; make a Credential with a Secret that holds it".to_owned())
                } else {
                    proof(person, name, config, &mut taken, manifests)
                };
                match made {
                    Ok(Some(note)) => manifests.note(at, &person.label, format!("{name}: {note}")),
                    Ok(None) => {}
                    Err(message) => manifests.note(
                        at,
                        &person.label,
                        format!("{name}: {message}; the credential is left out"),
                    ),
                }
            }
        }
    }
}

/// Makes a Credential; what there is to say of it. `taken` holds keys that others have, by their kind.
fn proof(
    person: &Person<'_>,
    name: &str,
    config: &Value,
    taken: &mut BTreeSet<(&'static str, String)>,
    manifests: &mut Manifests,
) -> Result<Option<String>, String> {
    let key = text(config, "key").filter(|key| !key.is_empty());
    let reference = json!({"name": person.object});
    match name {
        "key-auth" => {
            let key = key.ok_or("key: is missing")?;
            if !taken.insert(("key", key.clone())) {
                return Err("key: another credential has the same".to_owned());
            }
            let credential = manifests.name(Kind::Credential, &format!("{}-key", person.object));
            let secret = manifests.name(Kind::Secret, &credential);
            manifests.secret(&secret, &BTreeMap::from([("key".to_owned(), key)]));
            let own = json!({"secretRef": {"name": secret, "key": "key"}});
            manifests.add(
                Kind::Credential,
                &credential,
                json!({"spec": {"consumerRef": reference, "keyAuth": own}}),
            );
            Ok(None)
        }
        "jwt-auth" => {
            let key = key.ok_or("key: is missing")?;
            if taken.contains(&("jwt", key.clone())) {
                return Err("key: another credential has the same".to_owned());
            }
            let own = token(person, &key, config, manifests)?;
            taken.insert(("jwt", key));
            let credential = manifests.name(Kind::Credential, &format!("{}-jwt", person.object));
            manifests.add(
                Kind::Credential,
                &credential,
                json!({"spec": {"consumerRef": reference, "jwt": own}}),
            );
            let skew = number(config, "lifetime_grace_period").unwrap_or(0);
            Ok((skew > 0).then(|| "lifetime_grace_period: is not carried over; clockSkewSeconds of the AuthPlugin is for all credentials".to_owned()))
        }
        _ => Err("is not carried over; give the consumer a key or a token".to_owned()),
    }
}

fn token(
    person: &Person<'_>,
    key: &str,
    config: &Value,
    manifests: &mut Manifests,
) -> Result<Value, String> {
    let algorithm = text(config, "algorithm").unwrap_or_else(|| "HS256".to_owned());
    if !ALGORITHMS.contains(&algorithm.as_str()) {
        return Err(format!("algorithm: {algorithm:?} is not known"));
    }
    if !algorithm.starts_with("HS") {
        let public = text(config, "public_key").ok_or("public_key: is missing")?;
        let fine = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----"];
        if !fine
            .iter()
            .any(|begin| public.trim_start().starts_with(begin))
        {
            return Err(
                "public_key: is no PEM of a public key or certificate (BEGIN PUBLIC KEY)"
                    .to_owned(),
            );
        }
        return Ok(json!({"key": key, "algorithm": algorithm, "publicKey": public}));
    }
    let shared = text(config, "secret")
        .filter(|secret| !secret.is_empty())
        .ok_or("secret: is missing; one that APISIX made itself is not in the file")?;
    let secret = manifests.name(Kind::Secret, &format!("{}-jwt", person.object));
    if flag(config, "base64_secret") {
        let digits = shared.trim_end_matches('=');
        let fine = shared.len().is_multiple_of(4)
            && shared.len() - digits.len() <= 2
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
        if !fine {
            return Err("secret: is no base64".to_owned());
        }
        manifests.add(
            Kind::Secret,
            &secret,
            json!({"type": "Opaque", "data": {"secret": shared}}),
        );
    } else {
        manifests.secret(&secret, &BTreeMap::from([("secret".to_owned(), shared)]));
    }
    Ok(json!({"key": key, "algorithm": algorithm, "secretRef": {"name": secret, "key": "secret"}}))
}
