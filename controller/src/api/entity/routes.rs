//! Routes, as Kubernetes declares them: HTTPRoutes, GRPCRoutes and Ingresses. They are read here, and changed there.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use serde_json::{Value, json};

use super::{created_at, find, list_of, services};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::refused::Refused;
use crate::api::tree::{at, text_at};

/// What is a route, in the order of [`Kind`].
pub(super) const KINDS: [Kind; 3] = [Kind::HttpRoute, Kind::GrpcRoute, Kind::Ingress];

static ENTITY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    let names = json!({"type": ["array", "null"], "items": {"type": "string"}});
    Arc::new(json!({
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "created_at": {"type": "integer", "description": "Milliseconds since 1970."},
            "name": {"type": "string"},
            "kind": {"type": "string", "description": "HTTPRoute, GRPCRoute or Ingress."},
            "hosts": names, "paths": names, "methods": names,
            "protocols": {"type": "array", "items": {"type": "string"}},
            "service": {"type": ["object", "null"], "properties": {"id": {"type": "string"}},
                "description": "Where all of its rules lead to the same one."},
            "tags": {"type": "null"},
            "namespace": {"type": "string"},
        },
    }))
});

pub(super) fn endpoints() -> Vec<Endpoint> {
    let listed = list_of(&ENTITY);
    vec![
        Endpoint::new(Method::GET, "/routes", "routes", "List routes", |call| {
            list(call, false)
        })
        .lists(&["name"])
        .gives(&listed),
        Endpoint::new(
            Method::GET,
            "/routes/{route}",
            "routes",
            "A route by name or id",
            get,
        )
        .gives(&ENTITY),
        Endpoint::new(
            Method::GET,
            "/routes/{route}/service",
            "routes",
            "The service that a route leads to",
            service,
        )
        .gives(&services::ENTITY),
        Endpoint::new(
            Method::GET,
            "/services/{service}/routes",
            "routes",
            "The routes that lead to a service alone",
            |call| list(call, true),
        )
        .lists(&["name"])
        .gives(&listed),
    ]
}

fn show(compiler: &Compiler, object: &Object) -> Value {
    let reference = object.reference();
    let said = Said::of(object);
    let protocols = match reference.kind {
        Kind::GrpcRoute => ["grpc", "grpcs"],
        _ => ["http", "https"],
    };
    let names = |set: &BTreeSet<String>| {
        if set.is_empty() {
            Value::Null
        } else {
            json!(set)
        }
    };
    let service = said.service(reference);
    let service = service
        .and_then(|service| compiler.object(&service))
        .map(Object::id);
    json!({
        "id": object.id(),
        "created_at": created_at(object),
        "name": &*reference.name,
        "kind": reference.kind.kind(),
        "hosts": names(&said.hosts),
        "paths": names(&said.paths),
        "methods": names(&said.methods),
        "protocols": protocols,
        "service": service.map(|id| json!({"id": id})),
        "tags": null,
        "namespace": &*reference.namespace,
    })
}

/// What the rules of a route say, taken together.
#[derive(Default)]
struct Said {
    hosts: BTreeSet<String>,
    paths: BTreeSet<String>,
    methods: BTreeSet<String>,
    services: BTreeSet<(Option<String>, String)>,
}

impl Said {
    fn of(object: &Object) -> Self {
        let spec = object.spec();
        let mut said = Self::default();
        match object.reference().kind {
            Kind::Ingress => said.ingress(&spec),
            _ => said.http_route(&spec),
        }
        said
    }

    fn http_route(&mut self, spec: &Value) {
        self.hosts.extend(texts(&spec["hostnames"]));
        for rule in items(&spec["rules"]) {
            for matched in items(&rule["matches"]) {
                self.paths.extend(rpc(&matched["method"]));
                let path = &matched["path"];
                let regex = path["type"] == "RegularExpression";
                let text = path["value"].as_str().map(|text| {
                    if regex {
                        format!("~{text}")
                    } else {
                        text.to_owned()
                    }
                });
                self.paths.extend(text);
                self.methods
                    .extend(matched["method"].as_str().map(str::to_owned));
            }
            for backend in items(&rule["backendRefs"]) {
                let name = backend["name"].as_str().unwrap_or_default().to_owned();
                let namespace = backend["namespace"].as_str().map(str::to_owned);
                self.services.insert((namespace, name));
            }
        }
    }

    fn ingress(&mut self, spec: &Value) {
        let mut backend = |backend: &Value| {
            if let Some(name) = text_at(backend, &["service", "name"]) {
                self.services.insert((None, name.to_owned()));
            }
        };
        backend(&spec["defaultBackend"]);
        for rule in items(&spec["rules"]) {
            for path in items(at(rule, &["http", "paths"])) {
                backend(&path["backend"]);
            }
        }
        for rule in items(&spec["rules"]) {
            self.hosts.extend(rule["host"].as_str().map(str::to_owned));
            for path in items(at(rule, &["http", "paths"])) {
                self.paths.extend(path["path"].as_str().map(str::to_owned));
            }
        }
    }

    fn service(&self, route: &ObjectRef) -> Option<ObjectRef> {
        let mut services = self.services.iter();
        let (namespace, name) = services.next()?;
        let namespace = namespace.as_deref().unwrap_or(&route.namespace);
        services
            .next()
            .is_none()
            .then(|| ObjectRef::new(Kind::Service, namespace, name))
    }
}

/// The path of the calls that a GRPCRoute names.
fn rpc(method: &Value) -> Option<String> {
    let method = method.as_object()?;
    let part = |name: &str| method.get(name).and_then(Value::as_str);
    let (service, call) = (part("service"), part("method"));
    if part("type") == Some("RegularExpression") {
        let any = "[^/]+";
        let (service, call) = (service.unwrap_or(any), call.unwrap_or(any));
        return Some(format!("~/{service}/{call}"));
    }
    match (service, call) {
        (Some(service), Some(call)) => Some(format!("/{service}/{call}")),
        (Some(service), None) => Some(format!("/{service}/")),
        (None, Some(call)) => Some(format!("~/[^/]+/{call}")),
        (None, None) => None,
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    items(list).filter_map(Value::as_str).map(str::to_owned)
}

pub(super) async fn found(call: &Call, name: &str) -> Result<ObjectRef, Refused> {
    let (namespace, name) = (call.namespace().map(str::to_owned), name.to_owned());
    let find = move |api: &Api, compiler: &Compiler| {
        find::by_id_or_name(api, compiler, &KINDS, namespace.as_deref(), &name)
    };
    call.api.find(call, "get", Kind::HttpRoute, find).await
}

async fn get(call: Call) -> Result<Answer, Refused> {
    let reference = found(&call, call.part(0)).await?;
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&reference).ok_or(Refused::NotFound)?;
        Ok(show(compiler, object))
    };
    Ok(Answer::Ok(call.api.look(look).await?))
}

async fn service(call: Call) -> Result<Answer, Refused> {
    let reference = found(&call, call.part(0)).await?;
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&reference).ok_or(Refused::NotFound)?;
        Said::of(object)
            .service(&reference)
            .ok_or(Refused::NotFound)
    };
    let service = call.api.look(look).await?;
    call.api
        .access
        .need_for(&call.caller, "get", &service)
        .await?;
    Ok(Answer::Ok(services::shown(&call.api, service).await?))
}

async fn list(call: Call, nested: bool) -> Result<Answer, Refused> {
    let service = if nested {
        Some(services::found(&call, call.part(0)).await?)
    } else {
        None
    };
    let namespace = call.namespace().map(str::to_owned);
    for kind in KINDS {
        call.api
            .need_list(&call.caller, kind, namespace.as_deref())
            .await?;
    }
    let (paging, name) = (call.paging()?, call.query.value("name").map(str::to_owned));
    let page = move |_: &Api, compiler: &Compiler| {
        let after = match paging.after().map(Vec::as_slice) {
            None => None,
            Some([kind, namespace, name]) => {
                let kind = KINDS.into_iter().find(|known| known.plural() == kind);
                let kind = kind.ok_or_else(|| Refused::Offset(String::new()))?;
                Some(ObjectRef::new(kind, namespace, name))
            }
            Some(_) => return Err(Refused::Offset(String::new())),
        };
        let from = after.as_ref();
        let objects = KINDS
            .into_iter()
            .filter(|kind| from.is_none_or(|from| *kind >= from.kind))
            .flat_map(|kind| {
                let from = from.filter(|from| from.kind == kind);
                let from = from.map(|from| (&*from.namespace, &*from.name));
                compiler.objects(kind, namespace.as_deref(), from)
            })
            .filter(|object| {
                name.as_deref()
                    .is_none_or(|name| *object.reference().name == *name)
            })
            .filter(|object| {
                service.is_none() || Said::of(object).service(object.reference()) == service
            });
        let place = |object: &&Object| {
            let reference = object.reference();
            vec![
                reference.kind.plural().to_owned(),
                reference.namespace.to_string(),
                reference.name.to_string(),
            ]
        };
        Ok(paging.page(objects, place, |object| show(compiler, object)))
    };
    Ok(Answer::Ok(call.api.look(page).await?))
}
