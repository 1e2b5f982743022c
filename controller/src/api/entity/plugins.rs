//! Plugins: AuthPlugins, alone and behind what they protect.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use serde_json::{Map, Value, json};

use super::{
    blocks, consumers, created_at, find, fixed, list_of, namespace_schema, routes, services, text,
};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::names;
use crate::api::refused::{Refused, Violations};
use crate::api::schema;
use crate::api::tree::{at, set, take, text_at};
use crate::api::writer::Edit;

/// Tags have no field of their own in an AuthPlugin.
pub(super) const TAGS: &str = "postern.dev/tags";
/// Attaches AuthPlugins by name to the object that has it.
const ATTACHED: &str = "postern.dev/plugins";

static BODY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    let reference = json!({"type": ["object", "null"], "properties": {
        "id": {"type": "string", "minLength": 1, "description": "Id, or name."},
        "name": {"type": "string", "minLength": 1},
        "username": {"type": "string", "minLength": 1},
    }});
    Arc::new(json!({
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "format": "uuid"},
            "created_at": {"type": ["integer", "null"], "description": "Milliseconds since 1970."},
            "name": {"type": "string", "enum": blocks().keys().collect::<Vec<_>>()},
            "enabled": {"type": ["boolean", "null"], "description": "Default: true."},
            "config": {"type": ["object", "null"], "description": "The plugin's options, as the schema of its name says."},
            "route": reference,
            "service": reference,
            "consumer": reference,
            "tags": {"type": ["array", "null"], "maxItems": 64, "items": {"type": "string", "minLength": 1, "maxLength": 128}},
            "target_refs": {"type": ["array", "null"], "items": {"type": "object"},
                "description": "Everything that it protects, as the AuthPlugin says."},
            "namespace": namespace_schema(),
        },
    }))
});

/// Behind which entity a plugin is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Route,
    Service,
    Consumer,
}

impl Of {
    const fn path(self) -> &'static str {
        match self {
            Self::All => "/plugins",
            Self::Route => "/routes/{route}/plugins",
            Self::Service => "/services/{service}/plugins",
            Self::Consumer => "/consumers/{consumer}/plugins",
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Route => "route",
            Self::Service => "service",
            Self::Consumer => "consumer",
        }
    }

    /// The part of the path that names the plugin.
    const fn own(self) -> usize {
        match self {
            Self::All => 0,
            _ => 1,
        }
    }
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let entity = Arc::clone(&BODY);
    let listed = list_of(&entity);
    let mut all = Vec::new();
    for of in [Of::All, Of::Route, Of::Service, Of::Consumer] {
        let one = format!("{}/{{plugin}}", of.path());
        let new = |method, path: &str, summary: &str| (method, path.to_owned(), summary.to_owned());
        let make = |(method, path, summary): (Method, String, String)| {
            let run = method.clone();
            Endpoint::new(method, path, "plugins", summary, move |call| {
                run_one(of, run.clone(), call)
            })
        };
        all.extend([
            Endpoint::new(
                Method::GET,
                of.path(),
                "plugins",
                "List plugins",
                move |call| list(of, call),
            )
            .lists(&["tags", "name"])
            .gives(&listed),
            Endpoint::new(
                Method::POST,
                of.path(),
                "plugins",
                "Protect a route, a service or, with acl, limit a consumer",
                move |call| create(of, call),
            )
            .takes(&entity)
            .gives(&entity),
            make(new(
                Method::GET,
                &one,
                "A plugin by id or name of its object",
            ))
            .gives(&entity),
            make(new(Method::PUT, &one, "Replace a plugin"))
                .takes(&entity)
                .gives(&entity),
            make(new(Method::PATCH, &one, "Change a plugin"))
                .takes(&entity)
                .gives(&entity),
            make(new(Method::DELETE, &one, "Remove a plugin")),
        ]);
    }
    all
}

/// An AuthPlugin as an entity; None where it has no counterpart here.
fn show(compiler: &Compiler, object: &Object) -> Option<Value> {
    let spec = object.spec();
    let (name, block) = blocks().iter().find(|(_, block)| {
        spec.get(&block.name)
            .is_some_and(|config| !config.is_null())
    })?;
    let space = &object.reference().namespace;
    let mut config = block.outer(at(&spec, &[&block.name]).clone());
    if let Some(anonymous) = text_at(&config, &["anonymous", "name"]).map(str::to_owned) {
        let consumer = ObjectRef::new(Kind::Consumer, space, &anonymous);
        let id = compiler.object(&consumer).map(Object::id);
        set(&mut config, &["anonymous"], id.unwrap_or(anonymous));
    }
    let mut entity = json!({
        "id": object.id(),
        "created_at": created_at(object),
        "name": name,
        "enabled": at(&spec, &["enabled"]),
        "config": config,
        "route": null, "service": null, "consumer": null,
        "tags": super::tags(&tags(object)),
        "target_refs": spec.get("targetRefs").cloned().unwrap_or_else(|| json!([])),
        "namespace": &**space,
    });
    for target in targets(object) {
        let field = match target.kind {
            Kind::Service => "service",
            Kind::Consumer => "consumer",
            kind if routes::KINDS.contains(&kind) => "route",
            _ => continue,
        };
        if at(&entity, &[field]).is_null() {
            let id = compiler.object(&target).map(Object::id);
            set(&mut entity, &[field], id.map(|id| json!({"id": id})));
        }
    }
    Some(entity)
}

pub(super) fn tags(object: &Object) -> Vec<String> {
    let tags = object.annotation(TAGS).unwrap_or_default().split(',');
    tags.map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The whole objects that it names itself.
fn targets(object: &Object) -> Vec<ObjectRef> {
    let own = &object.reference().namespace;
    let targets = object.auth_plugin().map(|spec| spec.target_refs.as_slice());
    targets
        .unwrap_or_default()
        .iter()
        .filter(|target| target.section_name.is_none())
        .filter_map(|target| {
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| kind.kind() == target.kind && kind.group() == target.group)?;
            let namespace = target.namespace.as_deref().unwrap_or(own);
            Some(ObjectRef::new(kind, namespace, &target.name))
        })
        .collect()
}

/// Whether it protects an object: it says so, or the object does.
fn protects(compiler: &Compiler, plugin: &Object, object: &ObjectRef) -> bool {
    if targets(plugin).contains(object) {
        return true;
    }
    let reference = plugin.reference();
    let names = compiler
        .object(object)
        .and_then(|object| object.annotation(ATTACHED));
    reference.namespace == object.namespace
        && names.is_some_and(|names| names.split(',').any(|name| name.trim() == &*reference.name))
}

/// The entity that a path or a reference names.
async fn target(call: &Call, of: Of, name: &str) -> Result<ObjectRef, Refused> {
    match of {
        Of::Route => routes::found(call, name).await,
        Of::Service => services::found(call, name).await,
        Of::Consumer => consumers::found(call, "get", name).await,
        Of::All => Err(Refused::NotFound),
    }
}

async fn behind(call: &Call, of: Of) -> Result<Option<ObjectRef>, Refused> {
    match of {
        Of::All => Ok(None),
        _ => target(call, of, call.part(0)).await.map(Some),
    }
}

async fn list(of: Of, call: Call) -> Result<Answer, Refused> {
    let behind = behind(&call, of).await?;
    let space = behind.as_ref().map(|object| object.namespace.to_string());
    let namespace = space.or_else(|| call.namespace().map(str::to_owned));
    call.api
        .need_list(&call.caller, Kind::AuthPlugin, namespace.as_deref())
        .await?;
    let (paging, name) = (call.paging()?, call.query.value("name").map(str::to_owned));
    let page = move |_: &Api, compiler: &Compiler| {
        let after = match paging.after().map(Vec::as_slice) {
            Some([namespace, name]) => Some((namespace.as_str(), name.as_str())),
            Some(_) => return Err(Refused::Offset(String::new())),
            None => None,
        };
        let objects = compiler
            .objects(Kind::AuthPlugin, namespace.as_deref(), after)
            .filter(|object| {
                behind
                    .as_ref()
                    .is_none_or(|of| protects(compiler, object, of))
            })
            .filter(|object| paging.fits(&tags(object)))
            .filter_map(|object| Some((object, show(compiler, object)?)))
            .filter(|(_, shown)| name.as_deref().is_none_or(|name| shown["name"] == name));
        let place = |(object, _): &(&Object, Value)| {
            let reference = object.reference();
            vec![reference.namespace.to_string(), reference.name.to_string()]
        };
        Ok(paging.page(objects, place, |(_, shown)| shown.clone()))
    };
    Ok(Answer::Ok(call.api.look(page).await?))
}

async fn shown(api: &Arc<Api>, reference: ObjectRef) -> Result<Value, Refused> {
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&reference).ok_or(Refused::NotFound)?;
        show(compiler, object).ok_or(Refused::NotFound)
    };
    api.look(look).await
}

async fn create(of: Of, mut call: Call) -> Result<Answer, Refused> {
    let mut fields = std::mem::take(&mut call.fields);
    fixed(&mut fields, None, &["id", "created_at"]).none()?;
    let Some(name) = text(&fields, "name").map(str::to_owned) else {
        return Err(Refused::violation("name", "required field missing"));
    };
    let target = protected(&call, of, &mut fields).await?;
    let space = target.namespace.to_string();
    if text(&fields, "namespace").is_some_and(|named| named != space) {
        return Err(Refused::violation(
            "namespace",
            "must be the one of what it protects",
        ));
    }
    call.api
        .access
        .need(&call.caller, "create", Kind::AuthPlugin, Some(&space), None)
        .await?;
    let block = configured(&call, &name, &space, json!({}), &fields).await?;
    let object_name = names::fresh_name(&target.name, &name);
    let mut object = json!({
        "apiVersion": Kind::AuthPlugin.api_version(),
        "kind": Kind::AuthPlugin.kind(),
        "metadata": {"name": object_name, "namespace": space},
        "spec": {
            "targetRefs": [{"group": target.kind.group(), "kind": target.kind.kind(), "name": &*target.name}],
            "enabled": fields.get("enabled").and_then(Value::as_bool).unwrap_or(true),
        },
    });
    let Some(block_name) = blocks().get(&name).map(|block| block.name.clone()) else {
        return Err(Refused::violation("name", "there is no such plugin"));
    };
    set(&mut object, &["spec", &block_name], block);
    tag(&mut object, &fields)?;
    checked(&object)?;
    let edit = Edit {
        object,
        secret: None,
    };
    let reference = call
        .api
        .writer
        .create(&call.api.held, &|_| Ok(()), edit)
        .await?;
    Ok(Answer::Created(shown(&call.api, reference).await?))
}

/// The one object that a new plugin protects.
async fn protected(
    call: &Call,
    of: Of,
    fields: &mut Map<String, Value>,
) -> Result<ObjectRef, Refused> {
    if fields
        .get("target_refs")
        .is_some_and(|refs| !refs.is_null())
    {
        return Err(Refused::violation(
            "target_refs",
            "is shown only: name a route, a service or a consumer",
        ));
    }
    let mut found = behind(call, of).await?;
    for of in [Of::Route, Of::Service, Of::Consumer] {
        let Some(named) = fields.remove(of.field()) else {
            continue;
        };
        let name = ["id", "name", "username"]
            .into_iter()
            .find_map(|field| text_at(&named, &[field]));
        let Some(name) = name else { continue };
        let object = target(call, of, name)
            .await
            .map_err(|refused| match refused {
                Refused::NotFound => Refused::violation(of.field(), "there is no such entity"),
                other => other,
            })?;
        match &found {
            Some(other) if *other != object => {
                return Err(Refused::violation(
                    of.field(),
                    "a plugin made here protects one thing: a route, a service or a consumer",
                ));
            }
            _ => found = Some(object),
        }
    }
    found.ok_or_else(|| {
        Refused::violation(
            "",
            "name a route, a service or a consumer: what protects everything is an AuthPlugin whose target is a Gateway or a class",
        )
    })
}

/// The plugin's block with what a call changes.
async fn configured(
    call: &Call,
    name: &str,
    namespace: &str,
    before: Value,
    fields: &Map<String, Value>,
) -> Result<Value, Refused> {
    let Some(block) = blocks().get(name) else {
        return Err(Refused::violation("name", "there is no such plugin"));
    };
    let config = fields.get("config").cloned().unwrap_or_default();
    // What came in a form has only texts, and the schema of the body does not know which plugin it is for.
    let config = schema::infer(config, &block.shown);
    let mut found = Violations::default();
    if !config.is_null() {
        schema::check(&config, &block.shown, "config", &mut found);
    }
    found.none()?;
    let mut config = match config {
        Value::Object(config) => config,
        _ => Map::new(),
    };
    if let Some(anonymous) = text(&config, "anonymous").map(str::to_owned) {
        let (space, wanted) = (namespace.to_owned(), anonymous);
        let look = move |api: &Api, compiler: &Compiler| {
            find::consumer(api, compiler, Some(&space), &wanted)
        };
        let consumer = call.api.look(look).await.map_err(|refused| match refused {
            Refused::NotFound => Refused::violation(
                "config.anonymous",
                "there is no such consumer in the plugin's namespace",
            ),
            other => other,
        })?;
        config.insert("anonymous".to_owned(), json!({"name": &*consumer.name}));
    }
    let mut result = before;
    merge(&mut result, block.inner(Value::Object(config)));
    Ok(result)
}

/// Takes new values over old ones; null takes the value away.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                if value.is_null() {
                    old.remove(&name);
                } else if name == "anonymous" || !value.is_object() {
                    old.insert(name, value);
                } else {
                    merge(old.entry(name).or_insert_with(|| json!({})), value);
                }
            }
        }
        (old, new) => *old = new,
    }
}

fn tag(object: &mut Value, fields: &Map<String, Value>) -> Result<(), Refused> {
    let Some(tags) = fields.get("tags") else {
        return Ok(());
    };
    let tags: Vec<&str> = tags
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if tags
        .iter()
        .any(|tag| tag.contains(',') || tag.trim() != *tag)
    {
        return Err(Refused::violation(
            "tags",
            "must have no comma, and no blank at either end",
        ));
    }
    let Some(metadata) = object.get_mut("metadata") else {
        return Ok(());
    };
    if tags.is_empty() {
        let annotations = metadata.get_mut("annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove(TAGS);
        }
    } else {
        set(metadata, &["annotations", TAGS], tags.join(","));
    }
    Ok(())
}

/// What the API server would refuse.
fn checked(object: &Value) -> Result<(), Refused> {
    let decoded = crate::api::writer::decoded(object)?;
    let mut found = Violations::default();
    for problem in decoded
        .auth_plugin()
        .map(|spec| spec.check())
        .unwrap_or_default()
    {
        let (field, message) = names::renamed(&problem.field, &problem.message);
        found.add(field, message);
    }
    found.none()
}

async fn run_one(of: Of, method: Method, mut call: Call) -> Result<Answer, Refused> {
    let fields = std::mem::take(&mut call.fields);
    let behind = behind(&call, of).await?;
    let verb = match method {
        Method::GET => "get",
        Method::DELETE => "delete",
        _ => "update",
    };
    let (namespace, name) = (
        call.namespace().map(str::to_owned),
        call.part(of.own()).to_owned(),
    );
    let look = move |api: &Api, compiler: &Compiler| {
        let found = find::by_id_or_name(
            api,
            compiler,
            &[Kind::AuthPlugin],
            namespace.as_deref(),
            &name,
        )?;
        let object = compiler.object(&found).ok_or(Refused::NotFound)?;
        let own = behind
            .as_ref()
            .is_none_or(|of| protects(compiler, object, of));
        if own && show(compiler, object).is_some() {
            Ok(found)
        } else {
            Err(Refused::NotFound)
        }
    };
    let reference = match call.api.find(&call, verb, Kind::AuthPlugin, look).await {
        Ok(reference) => reference,
        Err(Refused::NotFound) if method == Method::DELETE && of == Of::All => {
            return Ok(Answer::NoContent);
        }
        Err(Refused::NotFound) if method == Method::PUT => {
            return Err(Refused::violation(
                "id",
                "there is none of this id, and ids are given by the gateway: create it with POST",
            ));
        }
        Err(refused) => return Err(refused),
    };
    match method {
        Method::GET => {}
        Method::DELETE => {
            call.api.writer.delete(&call.api.held, &reference).await?;
            return Ok(Answer::NoContent);
        }
        _ => update(&call, &reference, fields, method == Method::PUT).await?,
    }
    Ok(Answer::Ok(shown(&call.api, reference).await?))
}

async fn update(
    call: &Call,
    reference: &ObjectRef,
    mut fields: Map<String, Value>,
    whole: bool,
) -> Result<(), Refused> {
    let before = shown(&call.api, reference.clone()).await?;
    let names = [
        "id",
        "created_at",
        "namespace",
        "name",
        "route",
        "service",
        "consumer",
        "target_refs",
    ];
    fixed(&mut fields, Some(&before), &names).none()?;
    let name = text_at(&before, &["name"]).unwrap_or_default().to_owned();
    let Some(block_name) = blocks().get(&name).map(|block| block.name.clone()) else {
        return Err(Refused::NotFound);
    };
    if whole {
        fields.entry("tags").or_insert(Value::Null);
    }
    // What refers to others is resolved once; the rest is merged into whatever is there by then.
    let change = configured(call, &name, &reference.namespace, json!({}), &fields).await?;
    let removed: Vec<String> = match fields.get("config") {
        Some(Value::Object(config)) => {
            let null = config.iter().filter(|(_, value)| value.is_null());
            null.map(|(name, _)| names::camel(name)).collect()
        }
        _ => Vec::new(),
    };
    let edit = |_: &Compiler, mut object: Value| {
        let mut config = if whole {
            json!({})
        } else {
            take(&mut object, &["spec", &block_name])
        };
        if let Value::Object(config) = &mut config {
            config.retain(|name, _| !removed.contains(name));
        }
        merge(&mut config, change.clone());
        set(&mut object, &["spec", &block_name], config);
        match fields.get("enabled").and_then(Value::as_bool) {
            Some(enabled) => set(&mut object, &["spec", "enabled"], enabled),
            None if whole => set(&mut object, &["spec", "enabled"], true),
            None => {}
        }
        tag(&mut object, &fields)?;
        checked(&object)?;
        Ok(Edit {
            object,
            secret: None,
        })
    };
    call.api
        .writer
        .update(&call.api.held, reference, &edit)
        .await
}
