//! Reading credentials: lists, look-ups, and what is shown.

use std::collections::{BTreeMap, BTreeSet};

use compile::{Compiler, Kind, Object, ObjectRef};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{Seen, consumers, created_at, find, tags};
use super::Type;
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::Call;
use crate::api::page::{Paging, Place, Query};
use crate::api::refused::Refused;
use crate::api::tree::{at, set, text_at};

/// Whether an object is a credential of this type: a Credential, or a Secret with its label.
pub(super) fn is(proof: Type, object: &Object) -> bool {
    match object.credential_secret() {
        Some((kind, _)) => kind == proof.nested(),
        None => object.credential().is_some_and(|spec| proof.is(spec)),
    }
}

pub(in crate::api::entity) fn consumer_of(object: &Object) -> Option<ObjectRef> {
    let name = match (object.credential(), object.credential_secret()) {
        (Some(spec), _) => spec.consumer_ref.name.as_str(),
        (None, Some((_, name))) => name,
        (None, None) => return None,
    };
    Some(ObjectRef::new(
        Kind::Consumer,
        &object.reference().namespace,
        name,
    ))
}

fn own_tags(object: &Object) -> &[String] {
    object.credential().map_or(&[], |spec| spec.tags.as_slice())
}

/// A credential as an entity.
pub(super) fn show(proof: Type, seen: &Seen<'_>) -> Value {
    let object = seen.object;
    let consumer = consumer_of(object)
        .and_then(|consumer| seen.compiler.object(&consumer))
        .map(Object::id);
    let mut entity = json!({
        "id": object.id(),
        "created_at": created_at(object),
        "consumer": consumer.as_ref().map(|id| json!({"id": id})),
        "tags": tags(own_tags(object)),
        "ttl": ttl_left(object),
        "namespace": &*object.reference().namespace,
    });
    if let Value::Object(entity) = &mut entity {
        entity.extend(proof.show(seen));
        // As older versions of Kong have it.
        if proof.nested() == "jwt" {
            entity.insert("consumer_id".to_owned(), json!(consumer));
        }
    }
    entity
}

fn ttl_left(object: &Object) -> Option<i64> {
    let ttl = object.credential()?.ttl.filter(|ttl| *ttl > 0)?;
    let age = Timestamp::now()
        .as_second()
        .saturating_sub(object.created());
    Some(i64::from(ttl).saturating_sub(age).max(0))
}

/// The order of lists: kind, namespace, name.
fn place(object: &Object) -> Place {
    let reference = object.reference();
    vec![
        reference.kind.plural().to_owned(),
        reference.namespace.to_string(),
        reference.name.to_string(),
    ]
}

/// In the order of [`Kind`].
const KINDS: [Kind; 2] = [Kind::Secret, Kind::Credential];

pub(super) async fn list(proof: Type, nested: bool, call: Call) -> Result<Answer, Refused> {
    let mut namespace = call.namespace().map(str::to_owned);
    let consumer = if nested {
        let consumer = consumers::found(&call, "get", call.part(0)).await?;
        namespace = Some(consumer.namespace.to_string());
        Some(consumer)
    } else {
        None
    };
    let api = &call.api;
    api.need_list(&call.caller, Kind::Credential, namespace.as_deref())
        .await?;
    let secrets = api.sees(&call.caller, namespace.as_deref(), None).await?;
    let list = List {
        proof,
        namespace,
        secrets,
        paging: call.paging()?,
        query: call.query.clone(),
    };
    let page = move |api: &Api, compiler: &Compiler| list.page(api, compiler, consumer);
    Ok(Answer::Ok(api.look(page).await?))
}

/// What a list is asked for.
struct List {
    proof: Type,
    namespace: Option<String>,
    /// Whether the caller may see what is in Secrets.
    secrets: bool,
    paging: Paging,
    query: Query,
}

impl List {
    fn page(
        &self,
        api: &Api,
        compiler: &Compiler,
        consumer: Option<ObjectRef>,
    ) -> Result<Value, Refused> {
        let consumer = match (consumer, self.query.value("consumer_id")) {
            (None, Some(wanted)) => {
                match find::consumer(api, compiler, self.namespace.as_deref(), wanted) {
                    Ok(consumer) => Some(consumer),
                    Err(Refused::NotFound) => return Ok(json!({"data": [], "next": null})),
                    Err(refused) => return Err(refused),
                }
            }
            (consumer, _) => consumer,
        };
        let after = self.after()?;
        let holders = self.holders(compiler);
        let fits = |object: &&Object| {
            is(self.proof, object)
                && self.paging.fits(own_tags(object))
                && self.query.value("id").is_none_or(|id| object.id() == id)
                && consumer
                    .as_ref()
                    .is_none_or(|own| consumer_of(object).as_ref() == Some(own))
        };
        let all: Box<dyn Iterator<Item = &Object>> = match (&holders, &consumer) {
            (Some(holders), _) => Box::new(
                behind(holders.iter(), after).filter_map(|reference| compiler.object(reference)),
            ),
            (None, Some(consumer)) => Box::new(
                behind(compiler.referrers(consumer), after)
                    .filter_map(|reference| compiler.object(reference)),
            ),
            (None, None) => Box::new(self.everything(compiler, after)),
        };
        let shown = |object: &&Object| {
            let object = *object;
            let secrets = self.secrets;
            let seen = Seen {
                compiler,
                object,
                secrets,
            };
            show(self.proof, &seen)
        };
        let mut page = self
            .paging
            .page(all.filter(fits), |object| place(object), shown);
        // A page that is the whole list tells its length.
        if self.proof.nested() == "jwt"
            && self.paging.after().is_none()
            && at(&page, &["next"]).is_null()
        {
            let total = at(&page, &["data"]).as_array().map_or(0, Vec::len);
            set(&mut page, &["total"], total);
        }
        Ok(page)
    }

    fn after(&self) -> Result<Option<ObjectRef>, Refused> {
        let bad = || Refused::Offset(String::new());
        match self.paging.after().map(Vec::as_slice) {
            None => Ok(None),
            Some([kind, namespace, name]) => {
                let kind = KINDS.into_iter().find(|known| known.plural() == kind);
                Ok(Some(ObjectRef::new(kind.ok_or_else(bad)?, namespace, name)))
            }
            Some(_) => Err(bad()),
        }
    }

    /// Who has a value that is unique need not be searched for.
    fn holders(&self, compiler: &Compiler) -> Option<BTreeSet<ObjectRef>> {
        let value = self.query.value(self.proof.unique())?;
        let holders = spaces(compiler, self.namespace.as_deref())
            .into_iter()
            .filter_map(|space| self.proof.holder(compiler, &space, value).cloned());
        Some(holders.collect())
    }

    fn everything<'a>(
        &'a self,
        compiler: &'a Compiler,
        after: Option<ObjectRef>,
    ) -> impl Iterator<Item = &'a Object> {
        let first = after.as_ref().map(|after| after.kind);
        KINDS
            .into_iter()
            .filter(move |kind| first.is_none_or(|first| *kind >= first))
            .flat_map(move |kind| {
                let from = after.as_ref().filter(|after| after.kind == kind);
                let from = from.map(|from| (&*from.namespace, &*from.name));
                compiler.objects(kind, self.namespace.as_deref(), from)
            })
    }
}

/// The namespaces that hold credentials.
pub(in crate::api::entity) fn spaces(
    compiler: &Compiler,
    namespace: Option<&str>,
) -> BTreeSet<String> {
    KINDS
        .into_iter()
        .flat_map(|kind| find::namespaces(compiler, kind, namespace))
        .collect()
}

fn behind<'a>(
    all: impl Iterator<Item = &'a ObjectRef> + 'a,
    after: Option<ObjectRef>,
) -> impl Iterator<Item = &'a ObjectRef> + 'a {
    all.filter(move |reference| after.as_ref().is_none_or(|after| *reference > after))
}

/// Looks a credential up by its id, or by what it alone has.
pub(super) async fn found(
    proof: Type,
    call: &Call,
    verb: &str,
    consumer: Option<ObjectRef>,
    name: &str,
) -> Result<ObjectRef, Refused> {
    let namespace = match &consumer {
        Some(consumer) => Some(consumer.namespace.to_string()),
        None => call.namespace().map(str::to_owned),
    };
    let name = name.to_owned();
    let find = move |api: &Api, compiler: &Compiler| {
        let by_id = Uuid::parse_str(&name).ok().and_then(|_| {
            KINDS
                .into_iter()
                .find_map(|kind| find::by_id(compiler, kind, namespace.as_deref(), &name))
        });
        let found = match by_id {
            Some(found) => found,
            None => {
                let spaces = spaces(compiler, namespace.as_deref());
                let holders = spaces
                    .iter()
                    .filter_map(|space| proof.holder(compiler, space, &name));
                // The value may be a key: it is not repeated.
                find::one(api, holders.cloned().collect(), proof.unique())?
            }
        };
        let object = compiler.object(&found).ok_or(Refused::NotFound)?;
        let own = consumer
            .as_ref()
            .is_none_or(|own| consumer_of(object).as_ref() == Some(own));
        if is(proof, object) && own {
            Ok(found)
        } else {
            Err(Refused::NotFound)
        }
    };
    call.api.find(call, verb, Kind::Credential, find).await
}

/// A credential that is there, with what the caller may see of its Secret.
pub(super) async fn shown(
    proof: Type,
    call: &Call,
    reference: ObjectRef,
    fresh: Option<&BTreeMap<String, String>>,
) -> Result<Value, Refused> {
    let (of, seen) = (reference.clone(), reference);
    let secret = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&of).ok_or(Refused::NotFound)?;
        let spec = object.spec();
        let named = text_at(&spec, &[proof.block(), "secretRef", "name"]).map(str::to_owned);
        Ok((
            of.namespace.to_string(),
            named.unwrap_or_else(|| of.name.to_string()),
        ))
    };
    let (namespace, name) = call.api.look(secret).await?;
    let secrets = call
        .api
        .sees(&call.caller, Some(&namespace), Some(&name))
        .await?;
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&seen).ok_or(Refused::NotFound)?;
        Ok(show(
            proof,
            &Seen {
                compiler,
                object,
                secrets,
            },
        ))
    };
    let mut entity = call.api.look(look).await?;
    // What was made by this very call is shown once, whatever else the caller may see.
    let (field, entry) = proof.secret();
    if let Some(value) = fresh.and_then(|fresh| fresh.get(entry)) {
        set(&mut entity, &[field], value.as_str());
    }
    Ok(entity)
}

pub(super) async fn owner(proof: Type, call: Call) -> Result<Answer, Refused> {
    let reference = found(proof, &call, "get", None, call.part(0)).await?;
    let consumer = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&reference).ok_or(Refused::NotFound)?;
        let consumer = consumer_of(object).ok_or(Refused::NotFound)?;
        compiler.object(&consumer).ok_or(Refused::NotFound)?;
        Ok(consumer)
    };
    let consumer = call.api.look(consumer).await?;
    call.api
        .access
        .need_for(&call.caller, "get", &consumer)
        .await?;
    Ok(Answer::Ok(consumers::shown(&call.api, consumer).await?))
}
