//! Tags, and what has them.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use serde_json::{Value, json};

use super::{PROOFS, list_of, plugins};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::refused::Refused;

/// What can have tags, in the order of [`Kind`].
const KINDS: [Kind; 3] = [Kind::Consumer, Kind::Credential, Kind::AuthPlugin];

static ENTITY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    Arc::new(json!({
        "type": "object",
        "properties": {
            "tag": {"type": "string"},
            "entity_name": {"type": "string"},
            "entity_id": {"type": "string", "format": "uuid"},
        },
    }))
});

pub(super) fn endpoints() -> Vec<Endpoint> {
    let listed = list_of(&ENTITY);
    vec![
        Endpoint::new(
            Method::GET,
            "/tags",
            "tags",
            "List all tags and what has them",
            list,
        )
        .lists(&[])
        .gives(&listed),
        Endpoint::new(
            Method::GET,
            "/tags/{tag}",
            "tags",
            "List what has a tag",
            list,
        )
        .lists(&[])
        .gives(&listed),
    ]
}

/// The tags of an object, and what the API calls it.
fn tagged(object: &Object) -> (&'static str, Vec<String>) {
    if let Some(spec) = object.consumer() {
        ("consumers", spec.tags.clone())
    } else if let Some(spec) = object.credential() {
        let proof = PROOFS.iter().find(|proof| proof.is(spec));
        (
            proof.map_or("credentials", |proof| proof.entity()),
            spec.tags.clone(),
        )
    } else {
        ("plugins", plugins::tags(object))
    }
}

async fn list(call: Call) -> Result<Answer, Refused> {
    let namespace = call.namespace().map(str::to_owned);
    for kind in KINDS {
        call.api
            .need_list(&call.caller, kind, namespace.as_deref())
            .await?;
    }
    let (paging, wanted) = (call.paging()?, call.path.first().cloned());
    let page = move |_: &Api, compiler: &Compiler| {
        let after = match paging.after().map(Vec::as_slice) {
            None => None,
            Some([kind, namespace, name, index]) => {
                let kind = KINDS.into_iter().find(|known| known.plural() == kind);
                let kind = kind.ok_or_else(|| Refused::Offset(String::new()))?;
                let index = index
                    .parse::<usize>()
                    .map_err(|_| Refused::Offset(String::new()))?;
                Some((ObjectRef::new(kind, namespace, name), index))
            }
            Some(_) => return Err(Refused::Offset(String::new())),
        };
        let from = after.as_ref();
        let first = from.and_then(|(reference, _)| compiler.object(reference));
        let rest = KINDS
            .into_iter()
            .filter(|kind| from.is_none_or(|(from, _)| *kind >= from.kind))
            .flat_map(|kind| {
                let from = from.filter(|(from, _)| from.kind == kind);
                let from = from.map(|(from, _)| (&*from.namespace, &*from.name));
                compiler.objects(kind, namespace.as_deref(), from)
            });
        let all = first
            .into_iter()
            .chain(rest)
            .flat_map(|object| {
                let (name, tags) = tagged(object);
                let tags = tags.into_iter().enumerate();
                tags.map(move |(index, tag)| (object, name, index, tag))
            })
            .filter(|(object, _, index, _)| {
                from.is_none_or(|(from, last)| *object.reference() != *from || index > last)
            })
            .filter(|(_, _, _, tag)| wanted.as_ref().is_none_or(|wanted| wanted == tag));
        let place = |(object, _, index, _): &(&Object, &str, usize, String)| {
            let reference = object.reference();
            vec![
                reference.kind.plural().to_owned(),
                reference.namespace.to_string(),
                reference.name.to_string(),
                index.to_string(),
            ]
        };
        Ok(paging.page(all, place, |(object, name, _, tag)| {
            json!({"tag": tag, "entity_name": name, "entity_id": object.id()})
        }))
    };
    Ok(Answer::Ok(call.api.look(page).await?))
}
