//! Credentials of any type: what can be called about them, and what changes them.

mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::oauth2s::OAuth2s;
use super::{Proof, Seen, consumers, fixed, list_of, namespace_for, namespace_schema, text};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::names;
use crate::api::refused::Refused;
use crate::api::tree::{at, take, text_at};
use crate::api::writer::{Edit, SecretData};
use reading::{found, list, owner, shown};

pub(super) use reading::{consumer_of, spaces};

type Type = &'static dyn Proof;

/// Seconds, at most.
const LONGEST_TTL: i64 = 100_000_000;

fn properties(proof: Type) -> Map<String, Value> {
    let mut properties = Map::new();
    let own = [
        ("id", json!({"type": ["string", "null"], "format": "uuid"})),
        (
            "created_at",
            json!({"type": ["integer", "null"], "description": "Milliseconds since 1970."}),
        ),
        (
            "consumer",
            json!({"type": ["object", "null"], "properties": {
            "id": {"type": "string"}, "username": {"type": "string"}}}),
        ),
        ("consumer_id", json!({"type": ["string", "null"]})),
        ("namespace", namespace_schema()),
        (
            "tags",
            json!({"type": ["array", "null"], "maxItems": 64, "items": {"type": "string", "minLength": 1, "maxLength": 128}}),
        ),
        (
            "ttl",
            json!({"type": ["integer", "null"], "minimum": 0, "maximum": LONGEST_TTL,
            "description": "Seconds from now until it counts no longer; null: it never expires. 0 is null, too, where it is sent."}),
        ),
    ];
    for (name, schema) in own {
        properties.insert(name.to_owned(), schema);
    }
    if let Value::Object(own) = proof.properties() {
        properties.extend(own);
    }
    properties
}

pub(super) fn endpoints(proof: Type) -> Vec<Endpoint> {
    let schema = Arc::new(json!({"type": "object", "properties": properties(proof)}));
    let listed = list_of(&schema);
    let (group, unique) = (proof.flat(), proof.unique());
    let flat = format!("/{group}");
    let owned = format!("/consumers/{{consumer}}/{}", proof.nested());
    let mut all = Vec::new();
    for (path, nested) in [(flat.clone(), false), (owned, true)] {
        let filters: &[&'static str] = if nested {
            &["tags", "id"]
        } else {
            &["tags", "id", "consumer_id"]
        };
        let summary = "List them";
        let lists = Endpoint::new(Method::GET, &*path, group, summary, move |call| {
            list(proof, nested, call)
        });
        let summary = "Create one; where the path does not say whose, `consumer` does";
        let creates = Endpoint::new(Method::POST, &*path, group, summary, move |call| {
            create(proof, nested, call)
        });
        all.push(lists.lists(filters).lists_by(unique).gives(&listed));
        all.push(creates.takes(&schema).gives(&schema));
        let one = format!("{path}/{{credential}}");
        for (method, summary) in [
            (Method::GET, "One, by id or by what it alone has"),
            (Method::PUT, "Create or replace one"),
            (Method::PATCH, "Change one"),
            (Method::DELETE, "Delete one"),
        ] {
            let run = method.clone();
            let endpoint = Endpoint::new(method.clone(), &*one, group, summary, move |call| {
                run_one(proof, run.clone(), nested, call)
            });
            all.push(match method {
                Method::DELETE => endpoint,
                Method::GET => endpoint.gives(&schema),
                _ => endpoint.takes(&schema).gives(&schema),
            });
        }
    }
    let whose = format!("{flat}/{{credential}}/consumer");
    let owns = Endpoint::new(Method::GET, whose, group, "Whose it is", move |call| {
        owner(proof, call)
    });
    all.push(owns.gives(&consumers::ENTITY));
    all
}

async fn create(proof: Type, nested: bool, mut call: Call) -> Result<Answer, Refused> {
    let mut fields = std::mem::take(&mut call.fields);
    let consumer = consumer_for(&call, nested, &mut fields).await?;
    let (reference, entries) = make(proof, &call, &consumer, fields).await?;
    let entity = shown(proof, &call, reference, Some(&entries)).await?;
    Ok(Answer::Created(entity))
}

/// The Consumer that the path or the body names.
async fn consumer_for(
    call: &Call,
    nested: bool,
    fields: &mut Map<String, Value>,
) -> Result<ObjectRef, Refused> {
    let id = fields.remove("consumer_id");
    let named = fields.remove("consumer").unwrap_or_default();
    let named = ["id", "username"]
        .into_iter()
        .find_map(|field| text_at(&named, &[field]))
        .or_else(|| id.as_ref().and_then(Value::as_str));
    if !nested {
        let missing = || Refused::violation("consumer", "required field missing");
        let name = named.ok_or_else(missing)?;
        return consumers::found(call, "get", name)
            .await
            .map_err(|refused| match refused {
                Refused::NotFound => Refused::violation("consumer", "there is no such consumer"),
                other => other,
            });
    }
    let consumer = consumers::found(call, "get", call.part(0)).await?;
    if let Some(name) = named {
        let same = consumers::found(call, "get", name)
            .await
            .is_ok_and(|found| found == consumer);
        if !same {
            return Err(Refused::violation(
                "consumer",
                "is not the consumer of the path",
            ));
        }
    }
    Ok(consumer)
}

async fn make(
    proof: Type,
    call: &Call,
    consumer: &ObjectRef,
    mut fields: Map<String, Value>,
) -> Result<(ObjectRef, BTreeMap<String, String>), Refused> {
    let asked = fields.contains_key("namespace");
    let namespace = namespace_for(call, &mut fields).map_err(Refused::Violations)?;
    if asked && *namespace != *consumer.namespace {
        let message = "must be the consumer's";
        return Err(Refused::violation("namespace", message));
    }
    fixed(&mut fields, None, &["id", "created_at"]).none()?;
    let space = &consumer.namespace;
    for (verb, kind) in [("create", Kind::Credential), ("create", Kind::Secret)] {
        call.api
            .access
            .need(&call.caller, verb, kind, Some(space), None)
            .await?;
    }
    let name = names::fresh_name(&consumer.name, proof.nested());
    let made = proof.make(&fields, &Value::Null, &name)?;
    let mut spec = Map::new();
    spec.insert("consumerRef".to_owned(), json!({"name": &*consumer.name}));
    spec.insert(proof.block().to_owned(), made.block);
    general(&mut spec, &fields, 0);
    let edit = Edit {
        object: json!({
            "apiVersion": Kind::Credential.api_version(),
            "kind": Kind::Credential.kind(),
            "metadata": {"name": name, "namespace": &**space},
            "spec": spec,
        }),
        secret: secret_data(&name, &made.entries),
    };
    let guard = |compiler: &Compiler| free(proof, compiler, space, &fields, None);
    let created = call.api.writer.create(&call.api.held, &guard, edit).await;
    let reference = created.map_err(|refused| taken(proof, &fields, refused))?;
    Ok((reference, made.entries))
}

fn secret_data(name: &str, entries: &BTreeMap<String, String>) -> Option<SecretData> {
    (!entries.is_empty()).then(|| SecretData {
        name: name.to_owned(),
        entries: entries.clone(),
    })
}

/// The fields of any type. A ttl counts from now on, but a Credential's from its creation.
fn general(spec: &mut Map<String, Value>, fields: &Map<String, Value>, age: i64) {
    if let Some(tags) = fields.get("tags") {
        match tags.as_array().filter(|tags| !tags.is_empty()) {
            Some(tags) => spec.insert("tags".to_owned(), json!(tags)),
            None => spec.remove("tags"),
        };
    }
    if let Some(ttl) = fields.get("ttl") {
        spec.remove("expiresAt");
        match ttl.as_i64().filter(|ttl| *ttl > 0) {
            Some(ttl) => spec.insert("ttl".to_owned(), json!(ttl.saturating_add(age))),
            None => spec.remove("ttl"),
        };
    }
}

/// Refuses a value that another has.
fn free(
    proof: Type,
    compiler: &Compiler,
    namespace: &str,
    fields: &Map<String, Value>,
    own: Option<&ObjectRef>,
) -> Result<(), Refused> {
    let holder = text(fields, proof.unique())
        .and_then(|value| proof.holder(compiler, namespace, value))
        .filter(|holder| Some(*holder) != own);
    match holder {
        Some(_) => Err(taken(proof, fields, Refused::Conflict(String::new()))),
        None => Ok(()),
    }
}

/// What the compiler calls a conflict, in the API's words. A secret is not repeated.
fn taken(proof: Type, fields: &Map<String, Value>, refused: Refused) -> Refused {
    match (refused, text(fields, proof.unique())) {
        (Refused::Conflict(_), Some(value)) => Refused::Taken {
            field: proof.unique(),
            value: if proof.unique_is_secret() {
                "***".to_owned()
            } else {
                value.to_owned()
            },
        },
        (refused, _) => refused,
    }
}

/// Calls about one credential, behind its Consumer (`nested`) or not.
async fn run_one(
    proof: Type,
    method: Method,
    nested: bool,
    mut call: Call,
) -> Result<Answer, Refused> {
    let mut fields = std::mem::take(&mut call.fields);
    let (consumer, name) = if nested {
        let consumer = consumers::found(&call, "get", call.part(0)).await?;
        (Some(consumer), call.part(1).to_owned())
    } else {
        (None, call.part(0).to_owned())
    };
    let verb = match method {
        Method::GET => "get",
        Method::DELETE => "delete",
        _ => "update",
    };
    let reference = match found(proof, &call, verb, consumer.clone(), &name).await {
        Ok(reference) => reference,
        Err(Refused::NotFound) if method == Method::DELETE && !nested => {
            return Ok(Answer::NoContent);
        }
        Err(Refused::NotFound) if method == Method::PUT => {
            return insert(proof, &call, nested, &name, fields).await;
        }
        Err(refused) => return Err(refused),
    };
    if method == Method::GET {
        return Ok(Answer::Ok(shown(proof, &call, reference, None).await?));
    }
    if reference.kind == Kind::Secret {
        return Err(Refused::ReadOnly(format!(
            "{reference} is a credential by its label: change that Secret itself"
        )));
    }
    if method == Method::DELETE {
        call.api.writer.delete(&call.api.held, &reference).await?;
        return Ok(Answer::NoContent);
    }
    if method == Method::PUT {
        for field in ["tags", "ttl"].iter().chain(proof.replaced()) {
            fields.entry(*field).or_insert(Value::Null);
        }
    }
    let entries = update(proof, &call, &reference, fields).await?;
    let entity = shown(proof, &call, reference, Some(&entries)).await?;
    Ok(Answer::Ok(entity))
}

/// PUT of what is not there.
async fn insert(
    proof: Type,
    call: &Call,
    nested: bool,
    name: &str,
    mut fields: Map<String, Value>,
) -> Result<Answer, Refused> {
    if Uuid::parse_str(name).is_ok() {
        return Err(Refused::violation(
            "id",
            "there is none of this id, and ids are given by the gateway: create it with POST",
        ));
    }
    if text(&fields, proof.unique()).is_some_and(|given| given != name) {
        let message = "differs from the one of the path";
        return Err(Refused::violation(proof.unique(), message));
    }
    fields.insert(proof.unique().to_owned(), json!(name));
    let consumer = consumer_for(call, nested, &mut fields).await?;
    let (reference, entries) = make(proof, call, &consumer, fields).await?;
    Ok(Answer::Ok(
        shown(proof, call, reference, Some(&entries)).await?,
    ))
}

async fn update(
    proof: Type,
    call: &Call,
    reference: &ObjectRef,
    mut fields: Map<String, Value>,
) -> Result<BTreeMap<String, String>, Refused> {
    let before = shown(proof, call, reference.clone(), None).await?;
    let names = ["id", "created_at", "namespace", "consumer", "consumer_id"];
    fixed(&mut fields, Some(&before), &names).none()?;
    // What was shown and comes back unchanged is no change.
    let (secret, _) = proof.secret();
    for name in [proof.unique(), secret] {
        if fields
            .get(name)
            .is_some_and(|given| given == at(&before, &[name]))
        {
            fields.remove(name);
        }
    }
    if [secret, "algorithm", "client_type"]
        .iter()
        .any(|name| text(&fields, name).is_some())
    {
        let kind = Kind::Secret;
        let (space, name) = (Some(&*reference.namespace), Some(&*reference.name));
        call.api
            .access
            .need(&call.caller, "update", kind, space, name)
            .await?;
    }
    let entries = parking_lot::Mutex::new(BTreeMap::new());
    let edit = |compiler: &Compiler, mut object: Value| {
        let namespace = &reference.namespace;
        free(proof, compiler, namespace, &fields, Some(reference))?;
        let before = take(&mut object, &["spec", proof.block()]);
        let made = proof.make(&fields, &before, &reference.name)?;
        let age = compiler.object(reference).map_or(0, |object| {
            Timestamp::now()
                .as_second()
                .saturating_sub(object.created())
        });
        if let Some(Value::Object(spec)) = object.get_mut("spec") {
            spec.insert(proof.block().to_owned(), made.block);
            general(spec, &fields, age.max(0));
        }
        let secret = secret_data(&reference.name, &made.entries);
        *entries.lock() = made.entries;
        Ok(Edit { object, secret })
    };
    let updated = call
        .api
        .writer
        .update(&call.api.held, reference, &edit)
        .await;
    updated.map_err(|refused| taken(proof, &fields, refused))?;
    Ok(entries.into_inner())
}

/// An application by its id or client id, and its id.
pub(super) async fn application(
    call: &Call,
    verb: &str,
    name: &str,
) -> Result<(ObjectRef, String), Refused> {
    let reference = found(&OAuth2s, call, verb, None, name).await?;
    let of = reference.clone();
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&of).ok_or(Refused::NotFound)?;
        Ok(object.id())
    };
    let id = call.api.look(look).await?;
    Ok((reference, id))
}

/// What an application in force calls itself by.
pub(super) fn client_id(compiler: &Compiler, object: &Object) -> Option<String> {
    // The Secret is read for an entry that is not secret.
    let seen = Seen {
        compiler,
        object,
        secrets: true,
    };
    let shown = OAuth2s.show(&seen);
    let id = text(&shown, "client_id")?;
    let reference = object.reference();
    let holder = compiler.client_id_holder(&reference.namespace, id);
    (holder == Some(reference)).then(|| id.to_owned())
}
