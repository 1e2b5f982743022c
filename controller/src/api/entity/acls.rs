//! The groups of Consumers, one entity for each.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{consumers, created_at, fixed, list_of, namespace_schema, text};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::refused::Refused;

static ENTITY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    Arc::new(json!({
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "format": "uuid"},
            "created_at": {"type": ["integer", "null"], "description": "Of the consumer, in milliseconds since 1970."},
            "group": {"type": "string", "minLength": 1, "maxLength": 128},
            "consumer": {"type": ["object", "null"], "properties": {"id": {"type": "string"}}},
            "namespace": namespace_schema(),
        },
    }))
});

pub(super) fn endpoints() -> Vec<Endpoint> {
    let owned = "/consumers/{consumer}/acls";
    let own = "/consumers/{consumer}/acls/{acl}";
    let flat = "/acls/{acl}";
    let list_schema = list_of(&ENTITY);
    vec![
        Endpoint::new(
            Method::GET,
            "/acls",
            "acls",
            "List the groups of all consumers",
            list,
        )
        .lists(&["group"])
        .gives(&list_schema),
        Endpoint::new(Method::GET, flat, "acls", "A membership by id", |call| {
            one(call, false)
        })
        .gives(&ENTITY),
        Endpoint::new(
            Method::GET,
            "/acls/{acl}/consumer",
            "acls",
            "Whose membership it is",
            owner,
        )
        .gives(&consumers::ENTITY),
        Endpoint::new(Method::DELETE, flat, "acls", "End a membership", |call| {
            delete(call, false)
        }),
        Endpoint::new(
            Method::GET,
            owned,
            "acls",
            "List a consumer's groups",
            list_own,
        )
        .lists(&[])
        .gives(&list_schema),
        Endpoint::new(
            Method::POST,
            owned,
            "acls",
            "Add a consumer to a group",
            create,
        )
        .takes(&ENTITY)
        .gives(&ENTITY),
        Endpoint::new(
            Method::GET,
            own,
            "acls",
            "A membership by id or group",
            |call| one(call, true),
        )
        .gives(&ENTITY),
        Endpoint::new(
            Method::PUT,
            own,
            "acls",
            "Add to a group, or change which",
            put,
        )
        .takes(&ENTITY)
        .gives(&ENTITY),
        Endpoint::new(Method::PATCH, own, "acls", "Change which group", patch)
            .takes(&ENTITY)
            .gives(&ENTITY),
        Endpoint::new(
            Method::DELETE,
            own,
            "acls",
            "Take a consumer out of a group",
            |call| delete(call, true),
        ),
    ]
}

/// The id of a membership: it follows from the Consumer and the group.
fn id_of(consumer: &ObjectRef, group: &str) -> String {
    let name = format!(
        "postern.dev/acls/{}/{}/{group}",
        consumer.namespace, consumer.name
    );
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}

fn show(object: &Object, group: &str) -> Value {
    json!({
        "id": id_of(object.reference(), group),
        "created_at": created_at(object),
        "group": group,
        "consumer": {"id": object.id()},
        "namespace": &*object.reference().namespace,
    })
}

/// Memberships behind a place, in the order of namespaces, names and groups.
fn memberships<'a>(
    compiler: &'a Compiler,
    namespace: Option<&str>,
    after: Option<&'a [String; 3]>,
) -> impl Iterator<Item = (&'a Object, &'a str)> {
    // The object of the place itself may have more groups: it begins one object earlier and skips.
    let first = after.and_then(|[namespace, name, _]| {
        compiler.object(&ObjectRef::new(Kind::Consumer, namespace, name))
    });
    let from = after.map(|[namespace, name, _]| (namespace.as_str(), name.as_str()));
    let rest = compiler.objects(Kind::Consumer, namespace, from);
    let behind = after.map(|[_, _, group]| group.as_str());
    let groups = |object: &'a Object| {
        let mut groups: Vec<&str> = object
            .consumer()
            .map(|spec| spec.groups.iter().map(String::as_str).collect())
            .unwrap_or_default();
        groups.sort_unstable();
        groups.into_iter().map(move |group| (object, group))
    };
    let first = first.into_iter().flat_map(groups);
    first
        .filter(move |(_, group)| behind.is_none_or(|behind| *group > behind))
        .chain(rest.flat_map(groups))
}

async fn list(call: Call) -> Result<Answer, Refused> {
    let namespace = call.namespace().map(str::to_owned);
    let api = &call.api;
    api.need_list(&call.caller, Kind::Consumer, namespace.as_deref())
        .await?;
    let (paging, group) = (call.paging()?, call.query.value("group").map(str::to_owned));
    let page = move |_: &Api, compiler: &Compiler| {
        let after: Option<[String; 3]> = match paging.after() {
            Some(place) => Some(
                <[String; 3]>::try_from(place.clone())
                    .map_err(|_| Refused::Offset(String::new()))?,
            ),
            None => None,
        };
        let all = memberships(compiler, namespace.as_deref(), after.as_ref())
            .filter(|(_, own)| group.as_deref().is_none_or(|group| group == *own));
        let place = |(object, group): &(&Object, &str)| {
            let reference = object.reference();
            vec![
                reference.namespace.to_string(),
                reference.name.to_string(),
                (*group).to_owned(),
            ]
        };
        Ok(paging.page(all, place, |(object, group)| show(object, group)))
    };
    Ok(Answer::Ok(api.look(page).await?))
}

async fn list_own(call: Call) -> Result<Answer, Refused> {
    let consumer = consumers::found(&call, "get", call.part(0)).await?;
    let paging = call.paging()?;
    let page = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&consumer).ok_or(Refused::NotFound)?;
        let mut groups = object
            .consumer()
            .map(|spec| spec.groups.clone())
            .unwrap_or_default();
        groups.sort_unstable();
        let after = paging.after().and_then(|place| place.first());
        let groups = groups
            .into_iter()
            .filter(|group| after.is_none_or(|after| group > after));
        Ok(paging.page(
            groups,
            |group| vec![group.clone()],
            |group| show(object, group),
        ))
    };
    Ok(Answer::Ok(call.api.look(page).await?))
}

/// The Consumer and the group that a path means.
async fn found(call: &Call, nested: bool, verb: &str) -> Result<(ObjectRef, String), Refused> {
    if nested {
        let consumer = consumers::found(call, verb, call.part(0)).await?;
        let (of, wanted) = (consumer.clone(), call.part(1).to_owned());
        let group = move |_: &Api, compiler: &Compiler| {
            let spec = compiler.object(&of).and_then(Object::consumer);
            let groups = spec.map(|spec| spec.groups.clone()).unwrap_or_default();
            groups
                .into_iter()
                .find(|group| *group == wanted || id_of(&of, group) == wanted)
                .ok_or(Refused::NotFound)
        };
        let group = call.api.look(group).await?;
        return Ok((consumer, group));
    }
    let (namespace, wanted) = (call.namespace().map(str::to_owned), call.part(0).to_owned());
    call.api
        .need_list(&call.caller, Kind::Consumer, namespace.as_deref())
        .await?;
    let look = move |_: &Api, compiler: &Compiler| {
        memberships(compiler, namespace.as_deref(), None)
            .find(|(object, group)| id_of(object.reference(), group) == wanted)
            .map(|(object, group)| (object.reference().clone(), group.to_owned()))
            .ok_or(Refused::NotFound)
    };
    let (consumer, group) = call.api.look(look).await?;
    call.api
        .access
        .need_for(&call.caller, verb, &consumer)
        .await?;
    Ok((consumer, group))
}

async fn shown(api: &Arc<Api>, consumer: ObjectRef, group: String) -> Result<Value, Refused> {
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&consumer).ok_or(Refused::NotFound)?;
        Ok(show(object, &group))
    };
    api.look(look).await
}

async fn one(call: Call, nested: bool) -> Result<Answer, Refused> {
    let (consumer, group) = found(&call, nested, "get").await?;
    Ok(Answer::Ok(shown(&call.api, consumer, group).await?))
}

async fn owner(call: Call) -> Result<Answer, Refused> {
    let (consumer, _) = found(&call, false, "get").await?;
    Ok(Answer::Ok(consumers::shown(&call.api, consumer).await?))
}

fn group_of(fields: &Map<String, Value>) -> Result<String, Refused> {
    let missing = || Refused::violation("group", "required field missing");
    let group = text(fields, "group").ok_or_else(missing)?;
    if group.chars().any(|c| c == ',' || c.is_control()) {
        let message = "must have no comma and no control character";
        return Err(Refused::violation("group", message));
    }
    Ok(group.to_owned())
}

async fn create(mut call: Call) -> Result<Answer, Refused> {
    let mut fields = std::mem::take(&mut call.fields);
    fields.remove("consumer");
    fixed(&mut fields, None, &["id", "created_at", "namespace"]).none()?;
    let group = group_of(&fields)?;
    let consumer = consumers::found(&call, "update", call.part(0)).await?;
    add(&call, &consumer, None, &group).await?;
    Ok(Answer::Created(shown(&call.api, consumer, group).await?))
}

/// Adds a Consumer to a group, in place of another one.
async fn add(
    call: &Call,
    consumer: &ObjectRef,
    old: Option<&str>,
    group: &str,
) -> Result<(), Refused> {
    consumers::change(&call.api, consumer, |_, mut spec| {
        if spec.groups.iter().any(|own| own == group) {
            return if old == Some(group) {
                Ok(spec)
            } else {
                Err(Refused::Taken {
                    field: "group",
                    value: group.to_owned(),
                })
            };
        }
        spec.groups.retain(|own| Some(own.as_str()) != old);
        spec.groups.push(group.to_owned());
        match spec.check().pop() {
            None => Ok(spec),
            Some(problem) => Err(crate::api::violations(&problem.field, &problem.message)),
        }
    })
    .await
}

async fn put(mut call: Call) -> Result<Answer, Refused> {
    let fields = std::mem::take(&mut call.fields);
    match found(&call, true, "update").await {
        Ok((consumer, old)) => replace(&call, consumer, &old, fields).await,
        Err(Refused::NotFound) => {
            let consumer = consumers::found(&call, "update", call.part(0)).await?;
            let name = call.part(1);
            let group = match text(&fields, "group") {
                Some(_) => group_of(&fields)?,
                None if Uuid::parse_str(name).is_err() => name.to_owned(),
                None => {
                    return Err(Refused::violation("group", "required field missing"));
                }
            };
            match add(&call, &consumer, None, &group).await {
                Ok(()) => Ok(Answer::Ok(shown(&call.api, consumer, group).await?)),
                Err(refused) => Err(refused),
            }
        }
        Err(refused) => Err(refused),
    }
}

async fn patch(mut call: Call) -> Result<Answer, Refused> {
    let fields = std::mem::take(&mut call.fields);
    let (consumer, old) = found(&call, true, "update").await?;
    replace(&call, consumer, &old, fields).await
}

async fn replace(
    call: &Call,
    consumer: ObjectRef,
    old: &str,
    mut fields: Map<String, Value>,
) -> Result<Answer, Refused> {
    let before = shown(&call.api, consumer.clone(), old.to_owned()).await?;
    fixed(
        &mut fields,
        Some(&before),
        &["id", "created_at", "namespace", "consumer"],
    )
    .none()?;
    let group = match fields.get("group") {
        Some(_) => group_of(&fields)?,
        None => old.to_owned(),
    };
    add(call, &consumer, Some(old), &group).await?;
    Ok(Answer::Ok(shown(&call.api, consumer, group).await?))
}

async fn delete(call: Call, nested: bool) -> Result<Answer, Refused> {
    let (consumer, group) = match found(&call, nested, "update").await {
        Ok(found) => found,
        Err(Refused::NotFound) if !nested => return Ok(Answer::NoContent),
        Err(refused) => return Err(refused),
    };
    consumers::change(&call.api, &consumer, |_, mut spec| {
        spec.groups.retain(|own| *own != group);
        Ok(spec)
    })
    .await?;
    Ok(Answer::NoContent)
}
