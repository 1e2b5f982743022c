//! Credentials: what proves a Consumer. Each is compiled alone; a Secret with our label is a Credential too.
//!
//! A key out of a Secret loses one line break at its end, which editors and `kubectl create secret --from-file` leave
//! there and which no header could carry.

mod application;
mod jwt;
mod public_key;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use crds::{CredentialSpec, KeyAuthCredential};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plugins::SecretKeyRef;
use snapshot::proto::{self, credential::Proof};

use crate::findings::{Findings, Reasons, in_spec};
use crate::inputs::Inputs;
use crate::keys::{Digest, Held, Keys, Unique};
use crate::object::Body;
use crate::secrets::{CONSUMER_ANNOTATION, CREDENTIAL_LABEL};
use crate::values::{self, Generated, Missing};
use crate::{Condition, Kind, Object, ObjectRef, StatusBody, WantedSecret, consumers};

pub(crate) use crate::keys::SharedKeys;

/// The entry of a Secret that holds a key, where nothing else is said.
const ENTRY: &str = "key";

/// What a Credential says, as far as that can be told without looking at others.
#[derive(Debug, Default)]
struct Reading {
    consumer: Arc<str>,
    /// What the proxies get; complete only.
    proof: Option<(Unique, Proof)>,
    not_before: i64,
    expires_at: i64,
    /// Name of the Secret that is generated.
    generated: Option<Arc<str>>,
    /// Entries of it that are not there yet.
    wanted: Vec<&'static str>,
    accepted: Reasons,
    resolved: Reasons,
    /// Field, reason, message.
    errors: Vec<(String, &'static str, String)>,
    warning: Option<String>,
}

impl Reading {
    fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let (field, message) = (field.into(), message.into());
        self.accepted.add("Invalid", format!("{field}: {message}"));
        self.errors.push((field, "InvalidField", message));
    }

    fn unresolved(&mut self, field: &str, reason: &'static str, message: String) {
        self.resolved.add(reason, message.clone());
        self.errors.push((field.to_owned(), reason, message));
    }

    fn of(inputs: &Inputs, object: &Object) -> Self {
        let mut reading = Self::default();
        match &object.body {
            Body::Credential(spec) => reading.credential(inputs, object, spec),
            Body::Secret(_) if object.is_credential_secret() => {
                reading.labelled_secret(inputs, object)
            }
            Body::Unreadable(bad) => reading.refuse(bad.field.clone(), bad.message.clone()),
            _ => {}
        }
        reading
    }

    fn credential(&mut self, inputs: &Inputs, object: &Object, spec: &CredentialSpec) {
        self.consumer = spec.consumer_ref.name.as_str().into();
        for problem in spec.check() {
            self.refuse(in_spec(&problem.field), problem.message);
        }
        self.times(object, spec);
        if let Some(key_auth) = &spec.key_auth {
            self.key_auth(inputs, object, key_auth);
        } else if let Some(jwt) = &spec.jwt {
            self.jwt(inputs, object, jwt);
        } else if let Some(oauth2) = &spec.oauth2 {
            self.application(inputs, object, oauth2);
        }
    }

    fn key_auth(&mut self, inputs: &Inputs, object: &Object, spec: &KeyAuthCredential) {
        if let Some(hash) = &spec.hash {
            let digest = from_hex(hash.trim_start_matches("sha256:"));
            self.proof = digest.map(api_key);
            return;
        }
        let namespace = &object.reference.namespace;
        let found = match &spec.secret_ref {
            Some(entry) => self.entry(inputs, namespace, entry, "spec.keyAuth.secretRef"),
            None => {
                let field = "spec.keyAuth";
                let name = &*object.reference.name;
                self.generated(inputs, object, &[ENTRY], field)
                    .then(|| self.entry(inputs, namespace, &entry(name, ENTRY), field))
                    .flatten()
            }
        };
        if let Some(key) = found {
            self.api_key(&key);
        }
    }

    fn times(&mut self, object: &Object, spec: &CredentialSpec) {
        if let Some(Time(instant)) = spec.not_before {
            // A part of a second counts as a whole one, so that nothing is let in too early.
            self.not_before = instant.as_second() + i64::from(instant.subsec_nanosecond() > 0);
        }
        if let Some(Time(instant)) = spec.expires_at {
            // 0 would mean never.
            self.expires_at = instant.as_second().max(1);
        }
        match spec.ttl {
            None | Some(0) => {}
            Some(_) if object.meta.created == 0 => {
                self.refuse(
                    "spec.ttl",
                    "counts from metadata.creationTimestamp, which is missing; use expiresAt",
                );
            }
            Some(ttl) => self.expires_at = (object.meta.created + i64::from(ttl)).max(1),
        }
    }

    /// Whether the Secret of generated values is there with all of `entries`; if not, it is asked for.
    fn generated(
        &mut self,
        inputs: &Inputs,
        object: &Object,
        entries: &[&'static str],
        field: &str,
    ) -> bool {
        let ObjectRef {
            namespace, name, ..
        } = &object.reference;
        match values::generated(inputs, object, entries) {
            Generated::Complete => {
                self.generated = Some(Arc::clone(name));
                true
            }
            Generated::Lacks(missing) => self.want(object, missing),
            Generated::Foreign => {
                let message = format!(
                    "Secret {namespace}/{name} is there already and not owned by this Credential, so nothing is generated \
                     into it; refer to it in {field}, or rename one of them"
                );
                self.unresolved(field, "Conflicted", message);
                false
            }
        }
    }

    fn want(&mut self, object: &Object, entries: Vec<&'static str>) -> bool {
        let ObjectRef {
            namespace, name, ..
        } = &object.reference;
        let what = entries.join(" and ");
        let message = format!("a {what} is being generated into Secret {namespace}/{name}");
        self.resolved.add("Pending", message);
        self.generated = Some(Arc::clone(name));
        self.wanted = entries;
        false
    }

    fn labelled_secret(&mut self, inputs: &Inputs, object: &Object) {
        let label = object
            .meta
            .labels
            .get(CREDENTIAL_LABEL)
            .map(String::as_str)
            .unwrap_or_default();
        if !matches!(label, "key-auth" | "jwt" | "oauth2") {
            let field = format!("metadata.labels[{CREDENTIAL_LABEL}]");
            let message = format!("{label:?} is not supported; use key-auth, jwt or oauth2");
            self.refuse(field, message);
            return;
        }
        match object
            .meta
            .annotations
            .get(CONSUMER_ANNOTATION)
            .map(|name| name.trim())
            .filter(|name| !name.is_empty())
        {
            Some(consumer) => self.consumer = consumer.into(),
            None => {
                let field = format!("metadata.annotations[{CONSUMER_ANNOTATION}]");
                self.refuse(
                    field,
                    "is missing: it names the Consumer that this Secret proves",
                );
                return;
            }
        }
        match label {
            "jwt" => return self.jwt_secret(inputs, object),
            "oauth2" => return self.application_secret(inputs, object),
            _ => {}
        }
        let (namespace, name) = (&object.reference.namespace, &object.reference.name);
        if let Some(key) = self.entry(inputs, namespace, &entry(name, ENTRY), "data.key") {
            self.api_key(&key);
        }
    }

    /// Takes a value out of a Secret.
    fn entry(
        &mut self,
        inputs: &Inputs,
        namespace: &str,
        entry: &SecretKeyRef,
        field: &str,
    ) -> Option<Vec<u8>> {
        match values::of_secret(inputs, namespace, entry) {
            Ok(value) => return Some(value.to_vec()),
            Err(Missing::Pending(message)) => self.resolved.add("Pending", message),
            Err(Missing::NotFound(reason, message)) => self.unresolved(field, reason, message),
            Err(Missing::Empty(message)) => self.refuse(field, message),
        }
        None
    }

    fn api_key(&mut self, key: &[u8]) {
        let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        if blank(key.first()) || blank(key.last()) {
            let warning = "the key begins or ends with a blank, which no request header can carry";
            self.warning = Some(warning.to_owned());
        }
        let digest = digest::digest(&digest::SHA256, key);
        self.proof = Digest::try_from(digest.as_ref()).ok().map(api_key);
    }
}

fn api_key(digest: Digest) -> (Unique, Proof) {
    let proof = proto::KeyAuth {
        digest: digest.to_vec().into(),
    };
    (Unique::ApiKey(digest), Proof::KeyAuth(proof))
}

fn entry(secret: &str, key: &str) -> SecretKeyRef {
    SecretKeyRef {
        name: secret.to_owned(),
        key: key.to_owned(),
    }
}

/// The Secrets and ConfigMaps that a Credential's values come from: those that it names, and the one that is generated.
pub(crate) fn sources(reference: &ObjectRef, spec: &CredentialSpec) -> Vec<ObjectRef> {
    let of = |kind, name: &str| ObjectRef::new(kind, &reference.namespace, name);
    let mut sources = Vec::new();
    let mut generates = false;
    if let Some(key_auth) = &spec.key_auth {
        generates = key_auth.hash.is_none() && key_auth.secret_ref.is_none();
        sources.extend(
            key_auth
                .secret_ref
                .as_ref()
                .filter(|_| key_auth.hash.is_none())
                .map(|entry| of(Kind::Secret, &entry.name)),
        );
    }
    if let Some(jwt) = &spec.jwt {
        generates |= !jwt::to_generate(jwt).is_empty();
        let secrets = jwt.secret_ref.iter().chain(&jwt.public_key_secret_ref);
        sources.extend(secrets.map(|entry| of(Kind::Secret, &entry.name)));
        let config_map = jwt.public_key_config_map_ref.as_ref();
        sources.extend(config_map.map(|entry| of(Kind::ConfigMap, &entry.name)));
    }
    if let Some(oauth2) = &spec.oauth2 {
        generates |= !application::to_generate(oauth2).is_empty();
        let secret = oauth2.client_secret_ref.as_ref();
        sources.extend(secret.map(|entry| of(Kind::Secret, &entry.name)));
    }
    sources.extend(generates.then(|| of(Kind::Secret, &reference.name)));
    sources
}

/// What an object holds in its namespace, if it is a sound Credential.
pub(crate) fn held(inputs: &Inputs, reference: &ObjectRef) -> Option<Held> {
    let object = inputs.of(reference)?;
    let reading = Reading::of(inputs, object);
    let (key, _) = reading.proof.filter(|_| reading.accepted.is_empty())?;
    let consumer = ObjectRef::new(Kind::Consumer, &reference.namespace, &reading.consumer);
    Some(Held {
        key,
        created: object.meta.created,
        consumer,
    })
}

/// Key of a Credential in the snapshot.
pub(crate) fn key_of(reference: &ObjectRef) -> String {
    let prefix = if reference.kind == Kind::Secret {
        "secret:"
    } else {
        ""
    };
    format!(
        "Credential/{}/{prefix}{}",
        reference.namespace, reference.name
    )
}

/// What came of one Credential.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// None where it is refused, or its key is not there.
    pub(crate) credential: Option<proto::Credential>,
    pub(crate) wanted: Option<WantedSecret>,
}

/// Compiles one Credential.
pub(crate) fn compile(
    object: &Object,
    inputs: &Inputs,
    keys: &Keys,
    claims: &consumers::Claims,
    findings: &mut Findings,
) -> Compiled {
    let reference = &object.reference;
    let mut reading = Reading::of(inputs, object);
    let mut compiled = Compiled::default();
    if reading.accepted.is_empty() {
        if let Some(older) = keys.older(reference) {
            let message = format!(
                "{older}, which is older, has the same key in this namespace; give one of them another"
            );
            reading.accepted.add("Conflicted", message.clone());
            reading.errors.push((String::new(), "Conflicted", message));
        }
        let consumer = inputs.find(Kind::Consumer, &reference.namespace, &reading.consumer);
        if !consumer.is_some_and(|consumer| consumers::is_accepted(consumer, claims)) {
            let problem = if consumer.is_some() {
                "is not accepted"
            } else {
                "does not exist"
            };
            let message = format!(
                "Consumer {}/{} {problem}",
                reference.namespace, reading.consumer
            );
            reading.unresolved("spec.consumerRef", "ConsumerNotFound", message);
        }
    }
    let id = consumers::default_id(object, "credentials");
    if let Some((_, proof)) = reading.proof.take().filter(|_| reading.accepted.is_empty()) {
        compiled.credential = Some(proto::Credential {
            id: id.clone(),
            consumer: consumers::key_of(&reference.namespace, &reading.consumer),
            not_before: reading.not_before,
            expires_at: reading.expires_at,
            proof: Some(proof),
        });
    }
    if !reading.wanted.is_empty() && reading.accepted.is_empty() {
        compiled.wanted = Some(WantedSecret {
            owner: reference.clone(),
            owner_uid: Arc::clone(&object.meta.uid),
            name: Arc::clone(&reference.name),
            entries: std::mem::take(&mut reading.wanted),
        });
    }
    for (field, reason, message) in std::mem::take(&mut reading.errors) {
        findings.error(reference, reason, field, message);
    }
    if let Some(warning) = &reading.warning {
        findings.warning(reference, "InvalidField", "", warning.clone());
    }
    if reference.kind == Kind::Credential {
        status(object, &reading, id, &compiled, findings);
    }
    compiled
}

fn status(
    object: &Object,
    reading: &Reading,
    id: String,
    compiled: &Compiled,
    findings: &mut Findings,
) {
    let mut fields: BTreeMap<&'static str, serde_json::Value> = BTreeMap::new();
    if reading.accepted.is_empty() {
        fields.insert("id", id.into());
    }
    if let Some(name) = &reading.generated {
        fields.insert("secretName", (**name).into());
    }
    if let Some(instant) = Timestamp::from_second(reading.expires_at)
        .ok()
        .filter(|_| reading.expires_at > 0)
    {
        fields.insert("expiresAt", instant.to_string().into());
    }
    let programmed = match (compiled.credential.is_some(), reading.resolved.is_empty()) {
        (true, true) => Condition::programmed([key_of(&object.reference).into()]),
        (false, false) if compiled.wanted.is_some() => {
            Condition::no("Programmed", "Pending", "a value is being generated")
        }
        _ => Condition::no(
            "Programmed",
            "Invalid",
            "the Credential does not count; see the other conditions",
        ),
    };
    let mut accepted = reading.accepted.condition("Accepted", "Accepted");
    if accepted.message.is_empty() {
        accepted.message = reading.warning.clone().unwrap_or_default();
    }
    let conditions = vec![
        accepted,
        reading.resolved.condition("ResolvedRefs", "ResolvedRefs"),
        programmed,
    ];
    findings.status(object, StatusBody::Conditions { conditions, fields });
}

fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    for byte in &mut digest {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(digest)
}
