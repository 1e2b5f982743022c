//! Credentials: what proves a Consumer. Each is compiled alone; a Secret with our label is a Credential too.
//!
//! A key out of a Secret loses one line break at its end, which editors and `kubectl create secret --from-file` leave
//! there and which no header could carry.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use crds::CredentialSpec;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plugins::SecretKeyRef;
use snapshot::proto::{self, credential::Proof};

use crate::findings::{Findings, Reasons, in_spec};
use crate::inputs::Inputs;
use crate::keys::{Digest, Held, Keys};
use crate::object::Body;
use crate::secrets::{CONSUMER_ANNOTATION, CREDENTIAL_LABEL};
use crate::{Condition, Kind, Object, ObjectRef, StatusBody, WantedSecret, consumers};

pub(crate) use crate::keys::SharedKeys;

/// The entry of a Secret that holds a key, where nothing else is said.
const ENTRY: &str = "key";

/// What a Credential says, as far as that can be told without looking at others.
#[derive(Debug, Default)]
struct Reading {
    consumer: Arc<str>,
    digest: Option<Digest>,
    not_before: i64,
    expires_at: i64,
    /// Name of the Secret that is generated.
    generated: Option<Arc<str>>,
    wanted: bool,
    accepted: Reasons,
    resolved: Reasons,
    /// Field, reason, message.
    errors: Vec<(String, &'static str, String)>,
    warning: Option<&'static str>,
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
        let Some(key_auth) = &spec.key_auth else {
            return;
        };
        if let Some(hash) = &key_auth.hash {
            self.digest = from_hex(hash.trim_start_matches("sha256:"));
            return;
        }
        let Some(entry) = secret_of(&object.reference, spec) else {
            return;
        };
        if key_auth.secret_ref.is_some() {
            self.secret(
                inputs,
                &object.reference.namespace,
                &entry,
                "spec.keyAuth.secretRef",
            );
        } else {
            self.generated(inputs, object, &entry);
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

    fn generated(&mut self, inputs: &Inputs, object: &Object, entry: &SecretKeyRef) {
        let namespace = &object.reference.namespace;
        self.generated = Some(Arc::clone(&object.reference.name));
        let Some(secret) = inputs.find(Kind::Secret, namespace, &entry.name) else {
            self.wanted = true;
            let message = format!(
                "a key is being generated into Secret {namespace}/{}",
                entry.name
            );
            self.resolved.add("Pending", message);
            return;
        };
        if !secret
            .meta
            .owners
            .iter()
            .any(|owner| **owner == *object.meta.uid)
        {
            let message = format!(
                "Secret {namespace}/{0} is there already and not owned by this Credential, so no key is generated into it; \
                 refer to it with spec.keyAuth.secretRef, or rename one of them",
                entry.name
            );
            self.generated = None;
            self.unresolved("spec.keyAuth", "Conflicted", message);
            return;
        }
        self.secret(inputs, namespace, entry, "spec.keyAuth");
    }

    fn labelled_secret(&mut self, inputs: &Inputs, object: &Object) {
        let label = object
            .meta
            .labels
            .get(CREDENTIAL_LABEL)
            .map(String::as_str)
            .unwrap_or_default();
        if label != "key-auth" {
            let field = format!("metadata.labels[{CREDENTIAL_LABEL}]");
            self.refuse(field, format!("{label:?} is not supported; use key-auth"));
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
        let entry = SecretKeyRef {
            name: object.reference.name.to_string(),
            key: ENTRY.to_owned(),
        };
        self.secret(inputs, &object.reference.namespace, &entry, "data.key");
    }

    /// Takes the key out of a Secret.
    fn secret(&mut self, inputs: &Inputs, namespace: &str, entry: &SecretKeyRef, field: &str) {
        let name = format!("Secret {namespace}/{}", entry.name);
        let Some((_, secret)) = inputs.secret(namespace, &entry.name) else {
            let message = match inputs
                .find(Kind::Secret, namespace, &entry.name)
                .and_then(Object::unreadable)
            {
                Some(bad) => format!("{name} cannot be read: {} {}", bad.field, bad.message),
                None => format!("{name} does not exist"),
            };
            self.unresolved(field, "SecretNotFound", message);
            return;
        };
        let Some(data) = &secret.data else {
            self.resolved
                .add("Pending", format!("{name} is being read"));
            return;
        };
        let Some(value) = data.get(&entry.key) else {
            self.unresolved(
                field,
                "SecretNotFound",
                format!("{name} has no entry {}", entry.key),
            );
            return;
        };
        let value = value
            .strip_suffix(b"\n")
            .map_or(&value[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
        if value.is_empty() {
            self.refuse(
                field,
                format!(
                    "entry {} of {name} is empty; a key has at least one character",
                    entry.key
                ),
            );
            return;
        }
        let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        if blank(value.first()) || blank(value.last()) {
            self.warning =
                Some("the key begins or ends with a blank, which no request header can carry");
        }
        self.digest = Digest::try_from(digest::digest(&digest::SHA256, value).as_ref()).ok();
    }
}

/// The entry that holds the key of a Credential: the one it names, or the one that is generated for it.
pub(crate) fn secret_of(reference: &ObjectRef, spec: &CredentialSpec) -> Option<SecretKeyRef> {
    let key_auth = spec.key_auth.as_ref()?;
    if key_auth.hash.is_some() {
        return None;
    }
    let generated = || SecretKeyRef {
        name: reference.name.to_string(),
        key: ENTRY.to_owned(),
    };
    Some(key_auth.secret_ref.clone().unwrap_or_else(generated))
}

/// What an object holds in its namespace, if it is a sound Credential.
pub(crate) fn held(inputs: &Inputs, reference: &ObjectRef) -> Option<Held> {
    let object = inputs.of(reference)?;
    let reading = Reading::of(inputs, object);
    let digest = reading.digest.filter(|_| reading.accepted.is_empty())?;
    let consumer = ObjectRef::new(Kind::Consumer, &reference.namespace, &reading.consumer);
    Some(Held {
        digest,
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
    if let Some(digest) = reading.digest.filter(|_| reading.accepted.is_empty()) {
        compiled.credential = Some(proto::Credential {
            id: id.clone(),
            consumer: consumers::key_of(&reference.namespace, &reading.consumer),
            not_before: reading.not_before,
            expires_at: reading.expires_at,
            proof: Some(Proof::KeyAuth(proto::KeyAuth {
                digest: digest.to_vec().into(),
            })),
        });
    }
    if reading.wanted && reading.accepted.is_empty() {
        compiled.wanted = Some(WantedSecret {
            owner: reference.clone(),
            owner_uid: Arc::clone(&object.meta.uid),
            name: Arc::clone(&reference.name),
            entries: vec![ENTRY],
        });
    }
    for (field, reason, message) in std::mem::take(&mut reading.errors) {
        findings.error(reference, reason, field, message);
    }
    if let Some(warning) = reading.warning {
        findings.warning(reference, "InvalidField", "", warning);
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
        (false, false) if reading.wanted => {
            Condition::no("Programmed", "Pending", "the key is being generated")
        }
        _ => Condition::no(
            "Programmed",
            "Invalid",
            "the Credential does not count; see the other conditions",
        ),
    };
    let conditions = vec![
        reading.accepted.condition("Accepted", "Accepted"),
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
