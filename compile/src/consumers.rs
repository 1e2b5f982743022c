//! Consumers: who calls. Each is compiled alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::ConsumerSpec;
use snapshot::proto;

use crate::findings::{Findings, Reasons, in_spec};
use crate::object::Body;
use crate::{Condition, Object, ObjectRef, StatusBody};

/// A value that only one Consumer of a namespace may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    namespace: Arc<str>,
    field: &'static str,
    value: String,
}

/// Who claims what; the oldest has it. One that is refused for another value of its keeps its claims, so that whether a
/// Consumer is accepted depends on its direct rivals alone.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    holders: BTreeMap<Claim, BTreeSet<(i64, ObjectRef)>>,
    by_consumer: BTreeMap<ObjectRef, (i64, Vec<Claim>)>,
}

impl Claims {
    /// Notes what a Consumer claims now, and returns those whose standing may have changed.
    pub(crate) fn set(
        &mut self,
        consumer: &ObjectRef,
        object: Option<&Object>,
    ) -> BTreeSet<ObjectRef> {
        let new = object.map(|object| (object.meta.created, claims(object)));
        let mut touched = BTreeSet::new();
        if self.by_consumer.get(consumer) == new.as_ref() {
            return touched;
        }
        if let Some((created, claims)) = self.by_consumer.remove(consumer) {
            for claim in claims {
                if let Some(holders) = self.holders.get_mut(&claim) {
                    holders.remove(&(created, consumer.clone()));
                    touched.extend(holders.iter().map(|(_, holder)| holder.clone()));
                    if holders.is_empty() {
                        self.holders.remove(&claim);
                    }
                }
            }
        }
        if let Some((created, claims)) = new {
            for claim in &claims {
                let holders = self.holders.entry(claim.clone()).or_default();
                touched.extend(holders.iter().map(|(_, holder)| holder.clone()));
                holders.insert((created, consumer.clone()));
            }
            self.by_consumer.insert(consumer.clone(), (created, claims));
        }
        touched.remove(consumer);
        touched
    }

    /// Who has a value to itself in a namespace.
    pub(crate) fn holder(&self, namespace: &str, field: &str, value: &str) -> Option<&ObjectRef> {
        let field = ["username", "customId", "id"]
            .into_iter()
            .find(|known| *known == field)?;
        let claim = Claim {
            namespace: namespace.into(),
            field,
            value: value.to_owned(),
        };
        let (_, holder) = self.holders.get(&claim)?.first()?;
        Some(holder)
    }

    /// What a Consumer claims and an older one has.
    fn lost(&self, consumer: &ObjectRef) -> impl Iterator<Item = (&Claim, &ObjectRef)> {
        let claims = self
            .by_consumer
            .get(consumer)
            .map(|(_, claims)| claims.as_slice())
            .unwrap_or_default();
        claims.iter().filter_map(move |claim| {
            let (_, first) = self.holders.get(claim)?.first()?;
            (first != consumer).then_some((claim, first))
        })
    }
}

fn claims(object: &Object) -> Vec<Claim> {
    let Body::Consumer(spec) = &object.body else {
        return Vec::new();
    };
    if !spec.check().is_empty() {
        return Vec::new();
    }
    let claim = |field, value: String| Claim {
        namespace: Arc::clone(&object.reference.namespace),
        field,
        value,
    };
    let custom = spec.custom_id.clone().map(|value| claim("customId", value));
    [
        claim("username", username(object, spec)),
        claim("id", id(object, spec)),
    ]
    .into_iter()
    .chain(custom)
    .collect()
}

fn username(object: &Object, spec: &ConsumerSpec) -> String {
    spec.username
        .clone()
        .unwrap_or_else(|| object.reference.name.to_string())
}

/// The id that the upstream is told.
pub(crate) fn id(object: &Object, spec: &ConsumerSpec) -> String {
    match &spec.id {
        // The standard form, so that equal ids are equal texts.
        Some(id) => uuid::Uuid::parse_str(id).map_or_else(|_| id.clone(), |id| id.to_string()),
        None => default_id(object, "consumers"),
    }
}

/// The object's UID; where that is none, one that follows from its name.
pub(crate) fn default_id(object: &Object, plural: &str) -> String {
    match uuid::Uuid::parse_str(&object.meta.uid) {
        Ok(uid) => uid.to_string(),
        Err(_) => {
            let name = format!(
                "postern.dev/{plural}/{}/{}",
                object.reference.namespace, object.reference.name
            );
            uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
        }
    }
}

/// Whether a Consumer is in the snapshot.
pub(crate) fn is_accepted(object: &Object, claims: &Claims) -> bool {
    matches!(&object.body, Body::Consumer(spec) if spec.check().is_empty())
        && claims.lost(&object.reference).next().is_none()
}

/// Key of a Consumer in the snapshot.
pub(crate) fn key_of(namespace: &str, name: &str) -> String {
    format!("Consumer/{namespace}/{name}")
}

/// Compiles one Consumer. None where it is refused.
pub(crate) fn compile(
    object: &Object,
    claims: &Claims,
    plugins: &[String],
    credentials: usize,
    findings: &mut Findings,
) -> Option<proto::Consumer> {
    let reference = &object.reference;
    let mut accepted = Reasons::default();
    let mut consumer = None;
    match &object.body {
        Body::Consumer(spec) => {
            for problem in spec.check() {
                let field = in_spec(&problem.field);
                accepted.add("Invalid", format!("{field}: {}", problem.message));
                findings.error(reference, "InvalidField", field, problem.message);
            }
            for (claim, older) in claims.lost(reference) {
                let message = format!(
                    "{} {:?} belongs to the older {older}; choose another one, or remove one of the objects",
                    claim.field, claim.value
                );
                findings.error(
                    reference,
                    "Conflicted",
                    in_spec(claim.field),
                    message.clone(),
                );
                accepted.add("Conflicted", message);
            }
            consumer = Some(proto::Consumer {
                id: id(object, spec),
                username: username(object, spec),
                custom_id: spec.custom_id.clone().unwrap_or_default(),
                groups: spec.groups.clone(),
                plugins: plugins.to_vec(),
            });
        }
        Body::Unreadable(bad) => {
            findings.error(
                reference,
                "InvalidField",
                bad.field.clone(),
                bad.message.clone(),
            );
            accepted.add("Invalid", format!("{}: {}", bad.field, bad.message));
        }
        _ => return None,
    }
    let consumer = consumer.filter(|_| accepted.is_empty());
    let programmed = if consumer.is_some() {
        Condition::programmed([key_of(&reference.namespace, &reference.name).into()])
    } else {
        Condition::no("Programmed", "Invalid", "the object is not accepted")
    };
    let mut fields: BTreeMap<_, serde_json::Value> = [("credentials", credentials.into())].into();
    if let Some(consumer) = &consumer {
        fields.insert("id", consumer.id.clone().into());
    }
    let conditions = vec![accepted.condition("Accepted", "Accepted"), programmed];
    findings.status(object, StatusBody::Conditions { conditions, fields });
    consumer
}
