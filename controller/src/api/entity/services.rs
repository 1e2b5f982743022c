//! Services, as Kubernetes declares them: they are read here, and changed there.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use serde_json::{Value, json};

use super::{created_at, find, list_of};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::refused::Refused;
use crate::api::tree::{at, text_at};

pub(super) static ENTITY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    Arc::new(json!({
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "created_at": {"type": "integer", "description": "Milliseconds since 1970."},
            "name": {"type": "string"},
            "host": {"type": "string", "description": "What it stands for, or its name in the cluster."},
            "port": {"type": ["integer", "null"]},
            "protocol": {"type": "string"},
            "tags": {"type": "null"},
            "namespace": {"type": "string"},
        },
    }))
});

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::GET, "/services", "services", "List services", list)
            .lists(&["name"])
            .gives(&list_of(&ENTITY)),
        Endpoint::new(
            Method::GET,
            "/services/{service}",
            "services",
            "A service by name or id",
            get,
        )
        .gives(&ENTITY),
    ]
}

pub(super) fn show(object: &Object) -> Value {
    let spec = object.spec();
    let reference = object.reference();
    let host = text_at(&spec, &["externalName"]).map_or_else(
        || format!("{}.{}.svc", reference.name, reference.namespace),
        str::to_owned,
    );
    let port = at(&spec, &["ports"]).get(0).unwrap_or(&Value::Null);
    let protocol = match port["appProtocol"].as_str() {
        Some("https" | "kubernetes.io/wss") => "https",
        _ => "http",
    };
    json!({
        "id": object.id(),
        "created_at": created_at(object),
        "name": &*reference.name,
        "host": host,
        "port": port["port"],
        "protocol": protocol,
        "tags": null,
        "namespace": &*reference.namespace,
    })
}

pub(super) async fn found(call: &Call, name: &str) -> Result<ObjectRef, Refused> {
    let (namespace, name) = (call.namespace().map(str::to_owned), name.to_owned());
    let find = move |api: &Api, compiler: &Compiler| {
        find::by_id_or_name(api, compiler, &[Kind::Service], namespace.as_deref(), &name)
    };
    call.api.find(call, "get", Kind::Service, find).await
}

pub(super) async fn shown(api: &Arc<Api>, reference: ObjectRef) -> Result<Value, Refused> {
    let look = move |_: &Api, compiler: &Compiler| {
        compiler
            .object(&reference)
            .map(show)
            .ok_or(Refused::NotFound)
    };
    api.look(look).await
}

async fn get(call: Call) -> Result<Answer, Refused> {
    let reference = found(&call, call.part(0)).await?;
    Ok(Answer::Ok(shown(&call.api, reference).await?))
}

async fn list(call: Call) -> Result<Answer, Refused> {
    let namespace = call.namespace().map(str::to_owned);
    call.api
        .need_list(&call.caller, Kind::Service, namespace.as_deref())
        .await?;
    let (paging, name) = (call.paging()?, call.query.value("name").map(str::to_owned));
    let page = move |_: &Api, compiler: &Compiler| {
        let after = match paging.after().map(Vec::as_slice) {
            Some([namespace, name]) => Some((namespace.as_str(), name.as_str())),
            Some(_) => return Err(Refused::Offset(String::new())),
            None => None,
        };
        let objects = compiler
            .objects(Kind::Service, namespace.as_deref(), after)
            .filter(|object| {
                name.as_deref()
                    .is_none_or(|name| *object.reference().name == *name)
            });
        let place = |object: &&Object| {
            let reference = object.reference();
            vec![reference.namespace.to_string(), reference.name.to_string()]
        };
        Ok(paging.page(objects, place, |object| show(object)))
    };
    Ok(Answer::Ok(call.api.look(page).await?))
}
