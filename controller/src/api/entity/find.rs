//! Looking entities up by what calls name them.

use compile::{Compiler, Kind, Object, ObjectRef};
use uuid::Uuid;

use crate::api::Api;
use crate::api::refused::Refused;

/// The namespaces that are looked into.
pub(crate) fn namespaces(compiler: &Compiler, kind: Kind, namespace: Option<&str>) -> Vec<String> {
    match namespace {
        Some(namespace) => vec![namespace.to_owned()],
        None => compiler
            .namespaces(kind)
            .map(|name| name.to_string())
            .collect(),
    }
}

/// A Consumer by its username or id.
pub(crate) fn consumer(
    api: &Api,
    compiler: &Compiler,
    namespace: Option<&str>,
    name: &str,
) -> Result<ObjectRef, Refused> {
    let id = Uuid::parse_str(name).ok().map(|id| id.to_string());
    let mut found = Vec::new();
    for namespace in namespaces(compiler, Kind::Consumer, namespace) {
        let by_id = id
            .as_deref()
            .and_then(|id| compiler.consumer_with(&namespace, "id", id));
        let holder = by_id.or_else(|| compiler.consumer_with(&namespace, "username", name));
        found.extend(holder.cloned());
    }
    one(api, found, name)
}

/// The one that is meant; of several, the one in the namespace that is meant where nobody says.
pub(crate) fn one(api: &Api, found: Vec<ObjectRef>, name: &str) -> Result<ObjectRef, Refused> {
    let count = found.len();
    let own = found
        .iter()
        .position(|reference| *reference.namespace == *api.namespace);
    let namespaces: Vec<String> = found.iter().map(|r| r.namespace.to_string()).collect();
    let mut found = found;
    match (count, own) {
        (0, _) => Err(Refused::NotFound),
        (1, _) => found.pop().ok_or(Refused::NotFound),
        (_, Some(index)) => Ok(found.swap_remove(index)),
        _ => Err(Refused::Conflict(format!(
            "{name:?} is in several namespaces ({}): choose one with ?namespace=",
            namespaces.join(", ")
        ))),
    }
}

/// An object by its id.
pub(crate) fn by_id(
    compiler: &Compiler,
    kind: Kind,
    namespace: Option<&str>,
    id: &str,
) -> Option<ObjectRef> {
    let id = Uuid::parse_str(id).ok()?.to_string();
    compiler
        .objects(kind, namespace, None)
        .find(|object| has_id(object, &id))
        .map(|object| object.reference().clone())
}

/// An object by its id or name.
pub(crate) fn by_id_or_name(
    api: &Api,
    compiler: &Compiler,
    kinds: &[Kind],
    namespace: Option<&str>,
    name: &str,
) -> Result<ObjectRef, Refused> {
    let by_id = kinds
        .iter()
        .find_map(|kind| by_id(compiler, *kind, namespace, name));
    if let Some(found) = by_id {
        return Ok(found);
    }
    let mut found = Vec::new();
    for kind in kinds {
        for namespace in namespaces(compiler, *kind, namespace) {
            let reference = ObjectRef::new(*kind, &namespace, name);
            found.extend(compiler.object(&reference).map(|o| o.reference().clone()));
        }
    }
    one(api, found, name)
}

/// Ids are compared without being made: there may be very many.
fn has_id(object: &Object, id: &str) -> bool {
    **object.uid() == *id || (object.uid().len() != id.len() && object.id() == id)
}
