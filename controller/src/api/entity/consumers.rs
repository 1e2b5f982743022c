//! Consumers.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use crds::ConsumerSpec;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{created_at, find, fixed, list_of, namespace_for, namespace_schema, tags, text};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::names;
use crate::api::refused::{Refused, Violations};
use crate::api::tree::{set, take};
use crate::api::writer::Edit;

static BODY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    Arc::new(json!({
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "format": "uuid"},
            "username": {"type": ["string", "null"], "minLength": 1, "maxLength": 253, "description": "Unique in its namespace."},
            "custom_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 253, "description": "Unique in its namespace."},
            "tags": {"type": ["array", "null"], "maxItems": 64, "items": {"type": "string", "minLength": 1, "maxLength": 128}},
            "created_at": {"type": ["integer", "null"]},
            "namespace": namespace_schema(),
        },
    }))
});

pub(super) static ENTITY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    Arc::new(json!({
        "type": "object",
        "required": ["id", "created_at", "username", "custom_id", "tags", "namespace"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "created_at": {"type": "integer", "description": "Milliseconds since 1970."},
            "username": {"type": "string"},
            "custom_id": {"type": ["string", "null"]},
            "tags": {"type": ["array", "null"], "items": {"type": "string"}},
            "namespace": {"type": "string"},
        },
    }))
});

pub(super) fn endpoints() -> Vec<Endpoint> {
    let of =
        |method, path, summary, handler| Endpoint::new(method, path, "consumers", summary, handler);
    let one = "/consumers/{consumer}";
    vec![
        Endpoint::new(
            Method::GET,
            "/consumers",
            "consumers",
            "List consumers",
            list,
        )
        .lists(&["tags", "username", "custom_id", "id"])
        .gives(&list_of(&ENTITY)),
        Endpoint::new(
            Method::POST,
            "/consumers",
            "consumers",
            "Create a consumer",
            create,
        )
        .takes(&BODY)
        .gives(&ENTITY),
        Endpoint::new(
            Method::GET,
            one,
            "consumers",
            "A consumer by username or id",
            get,
        )
        .gives(&ENTITY),
        Endpoint::new(
            Method::PUT,
            one,
            "consumers",
            "Create or replace a consumer",
            put,
        )
        .takes(&BODY)
        .gives(&ENTITY),
        Endpoint::new(Method::PATCH, one, "consumers", "Change a consumer", patch)
            .takes(&BODY)
            .gives(&ENTITY),
        of(
            Method::DELETE,
            one,
            "Delete a consumer and its credentials",
            delete,
        ),
    ]
}

/// A Consumer as an entity.
pub(super) fn show(object: &Object) -> Value {
    let spec = object.consumer().cloned().unwrap_or_default();
    json!({
        "id": object.id(),
        "created_at": created_at(object),
        "username": spec.username.as_deref().unwrap_or(&object.reference().name),
        "custom_id": spec.custom_id,
        "tags": tags(&spec.tags),
        "namespace": &*object.reference().namespace,
    })
}

/// Shows a Consumer that is there.
pub(super) async fn shown(api: &Arc<Api>, reference: ObjectRef) -> Result<Value, Refused> {
    let show = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&reference).ok_or(Refused::NotFound)?;
        Ok(show(object))
    };
    api.look(show).await
}

/// Looks up the Consumer that a part of the path names.
pub(super) async fn found(call: &Call, verb: &str, name: &str) -> Result<ObjectRef, Refused> {
    let (namespace, name) = (call.namespace().map(str::to_owned), name.to_owned());
    let find = move |api: &Api, compiler: &Compiler| {
        find::consumer(api, compiler, namespace.as_deref(), &name)
    };
    call.api.find(call, verb, Kind::Consumer, find).await
}

async fn list(call: Call) -> Result<Answer, Refused> {
    let namespace = call.namespace().map(str::to_owned);
    call.api
        .need_list(&call.caller, Kind::Consumer, namespace.as_deref())
        .await?;
    let paging = call.paging()?;
    let query = call.query.clone();
    let page = move |_: &Api, compiler: &Compiler| {
        let after = paging.after().map(Vec::as_slice);
        let after = match after {
            Some([namespace, name]) => Some((namespace.as_str(), name.as_str())),
            Some(_) => return Err(Refused::Offset("?".to_owned())),
            None => None,
        };
        let fits = |name: &str, value: Option<&str>| {
            query.value(name).is_none_or(|wanted| Some(wanted) == value)
        };
        let objects = compiler
            .objects(Kind::Consumer, namespace.as_deref(), after)
            .filter(|object| {
                object.consumer().is_some_and(|spec| {
                    let username = spec.username.as_deref();
                    paging.fits(&spec.tags)
                        && fits("username", username.or(Some(&object.reference().name)))
                        && fits("custom_id", spec.custom_id.as_deref())
                        && (query.value("id").is_none() || fits("id", Some(&object.id())))
                })
            });
        let place = |object: &&Object| {
            let reference = object.reference();
            vec![reference.namespace.to_string(), reference.name.to_string()]
        };
        Ok(paging.page(objects, place, |object| show(object)))
    };
    Ok(Answer::Ok(call.api.look(page).await?))
}

async fn get(call: Call) -> Result<Answer, Refused> {
    let reference = found(&call, "get", call.part(0)).await?;
    Ok(Answer::Ok(shown(&call.api, reference).await?))
}

async fn create(mut call: Call) -> Result<Answer, Refused> {
    let fields = std::mem::take(&mut call.fields);
    let reference = make(&call, fields).await?;
    Ok(Answer::Created(shown(&call.api, reference).await?))
}

async fn make(call: &Call, mut fields: Map<String, Value>) -> Result<ObjectRef, Refused> {
    let namespace = namespace_for(call, &mut fields).map_err(Refused::Violations)?;
    fixed(&mut fields, None, &["created_at"]).none()?;
    call.api
        .access
        .need(
            &call.caller,
            "create",
            Kind::Consumer,
            Some(&namespace),
            None,
        )
        .await?;
    let spec = changed(ConsumerSpec::default(), &fields)?;
    let known_as = spec.username.clone().or_else(|| spec.custom_id.clone());
    let Some(known_as) = known_as else {
        let message = "at least one of these fields must be non-empty: 'custom_id', 'username'";
        return Err(Refused::violation("", message));
    };
    let name = {
        let (spec, namespace) = (spec.clone(), namespace.clone());
        let free = move |_: &Api, compiler: &Compiler| {
            unique(compiler, &namespace, &spec, None)?;
            let plain = names::object_name(&known_as);
            let taken = |name: &str| {
                let reference = ObjectRef::new(Kind::Consumer, &namespace, name);
                compiler.object(&reference).is_some()
            };
            Ok(if taken(&plain) {
                names::distinct_name(&known_as)
            } else {
                plain
            })
        };
        call.api.look(free).await?
    };
    let object = json!({
        "apiVersion": Kind::Consumer.api_version(),
        "kind": Kind::Consumer.kind(),
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    let edit = Edit {
        object,
        secret: None,
    };
    let guard = |compiler: &Compiler| unique(compiler, &namespace, &spec, None);
    call.api.writer.create(&call.api.held, &guard, edit).await
}

/// The specification with what a call changes.
fn changed(mut spec: ConsumerSpec, fields: &Map<String, Value>) -> Result<ConsumerSpec, Refused> {
    let value = |name: &str| {
        fields
            .get(name)
            .map(|_| text(fields, name).map(str::to_owned))
    };
    if let Some(username) = value("username") {
        spec.username = username;
    }
    if let Some(custom_id) = value("custom_id") {
        spec.custom_id = custom_id;
    }
    if let Some(id) = value("id").flatten() {
        let id =
            Uuid::parse_str(&id).map_err(|_| Refused::violation("id", "expected a valid UUID"))?;
        spec.id = Some(id.to_string());
    }
    if let Some(tags) = fields.get("tags") {
        spec.tags = serde_json::from_value(tags.clone()).unwrap_or_default();
    }
    let mut found = Violations::default();
    for problem in spec.check() {
        let (field, message) = names::renamed(&problem.field, &problem.message);
        found.add(field, message);
    }
    found.none()?;
    Ok(spec)
}

/// Refuses values that another Consumer has.
fn unique(
    compiler: &Compiler,
    namespace: &str,
    spec: &ConsumerSpec,
    own: Option<&ObjectRef>,
) -> Result<(), Refused> {
    let values = [
        ("username", "username", &spec.username),
        ("custom_id", "customId", &spec.custom_id),
        ("id", "id", &spec.id),
    ];
    for (field, name, value) in values {
        let Some(value) = value else { continue };
        let holder = compiler.consumer_with(namespace, name, value);
        if holder.is_some_and(|holder| Some(holder) != own) {
            return Err(Refused::Taken {
                field,
                value: value.clone(),
            });
        }
    }
    Ok(())
}

async fn put(mut call: Call) -> Result<Answer, Refused> {
    let mut fields = std::mem::take(&mut call.fields);
    let name = call.part(0).to_owned();
    match found(&call, "update", &name).await {
        Ok(reference) => {
            // What is not given goes, but not the name by which it was called.
            for field in ["username", "custom_id", "tags"] {
                fields.entry(field).or_insert(Value::Null);
            }
            if Uuid::parse_str(&name).is_err() && fields.get("username").is_some_and(Value::is_null)
            {
                fields.insert("username".to_owned(), json!(name));
            }
            update(&call, reference, fields).await
        }
        Err(Refused::NotFound) => {
            let field = match Uuid::parse_str(&name) {
                Ok(_) => "id",
                Err(_) => "username",
            };
            let given = text(&fields, field).is_some_and(|given| given != name);
            if given {
                let message = "differs from the one of the path";
                return Err(Refused::violation(field, message));
            }
            fields.insert(field.to_owned(), json!(name));
            let reference = make(&call, fields).await?;
            Ok(Answer::Ok(shown(&call.api, reference).await?))
        }
        Err(refused) => Err(refused),
    }
}

async fn patch(mut call: Call) -> Result<Answer, Refused> {
    let fields = std::mem::take(&mut call.fields);
    let reference = found(&call, "update", call.part(0)).await?;
    update(&call, reference, fields).await
}

async fn update(
    call: &Call,
    reference: ObjectRef,
    mut fields: Map<String, Value>,
) -> Result<Answer, Refused> {
    let before = shown(&call.api, reference.clone()).await?;
    fixed(
        &mut fields,
        Some(&before),
        &["id", "created_at", "namespace"],
    )
    .none()?;
    change(&call.api, &reference, |compiler, spec| {
        let spec = changed(spec, &fields)?;
        if spec.username.is_none() && spec.custom_id.is_none() {
            let message = "at least one of these fields must be non-empty: 'custom_id', 'username'";
            return Err(Refused::violation("", message));
        }
        unique(compiler, &reference.namespace, &spec, Some(&reference))?;
        Ok(spec)
    })
    .await?;
    Ok(Answer::Ok(shown(&call.api, reference).await?))
}

/// Changes the specification of a Consumer.
pub(super) async fn change(
    api: &Api,
    reference: &ObjectRef,
    change: impl Fn(&Compiler, ConsumerSpec) -> Result<ConsumerSpec, Refused> + Sync,
) -> Result<(), Refused> {
    let edit = |compiler: &Compiler, mut object: Value| {
        let spec = serde_json::from_value(take(&mut object, &["spec"])).unwrap_or_default();
        set(&mut object, &["spec"], json!(change(compiler, spec)?));
        Ok(Edit {
            object,
            secret: None,
        })
    };
    api.writer.update(&api.held, reference, &edit).await
}

/// Its Credentials go with it: another Consumer of that name must not come by them.
async fn delete(call: Call) -> Result<Answer, Refused> {
    let reference = match found(&call, "delete", call.part(0)).await {
        Ok(reference) => reference,
        Err(Refused::NotFound) => return Ok(Answer::NoContent),
        Err(refused) => return Err(refused),
    };
    let api = &call.api;
    let of = reference.clone();
    let credentials = move |_: &Api, compiler: &Compiler| {
        let referrers = compiler.referrers(&of);
        let own = referrers.filter(|user| match compiler.object(user) {
            Some(object) if user.kind == Kind::AuthPlugin => {
                object
                    .auth_plugin()
                    .is_some_and(|spec| spec.target_refs.len() == 1)
                    && object.auth_plugin().is_some_and(|spec| {
                        spec.target_refs
                            .iter()
                            .all(|target| target.kind == "Consumer" && target.name == *of.name)
                    })
            }
            Some(_) => matches!(user.kind, Kind::Credential | Kind::Secret),
            None => false,
        });
        Ok(own.cloned().collect::<Vec<_>>())
    };
    let credentials = api.look(credentials).await?;
    for credential in credentials.iter().chain([&reference]) {
        api.access
            .need_for(&call.caller, "delete", credential)
            .await?;
        if credential.kind == Kind::Secret {
            return Err(Refused::ReadOnly(format!(
                "{credential} proves this consumer by its label: delete that Secret first"
            )));
        }
        api.writer.writable(credential)?;
    }
    for credential in &credentials {
        api.writer.delete(&api.held, credential).await?;
    }
    api.writer.delete(&api.held, &reference).await?;
    Ok(Answer::NoContent)
}
