//! Access tokens of applications, as far as the store knows them: never the tokens themselves.

mod making;

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Object, ObjectRef};
use jiff::Timestamp;
use plugins::oauth2::ledger::{Failure, Issued, Ledger};
use serde_json::{Value, json};
use store::Position;

use super::{credentials, list_of, namespace_schema};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::{Call, Endpoint};
use crate::api::refused::Refused;
use crate::api::tree::set;

/// Seconds, at most.
const LONGEST: u32 = 100_000_000;

static ENTITY: LazyLock<Arc<Value>> = LazyLock::new(|| {
    let token = |description: &str| json!({"type": ["string", "null"], "pattern": "^[A-Za-z0-9]{32}$", "description": description});
    let one = |description: &str| json!({"type": ["object", "null"], "description": description, "properties": {"id": {"type": "string"}}});
    Arc::new(json!({"type": "object", "properties": {
        "id": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
        "created_at": {"type": ["integer", "null"], "description": "Milliseconds since 1970."},
        "credential": one("The application, by its id or client_id. Required."),
        "plugin": one("The plugin that it counts for, by its id or name. Default: all with global_credentials."),
        "namespace": namespace_schema(),
        "token_type": {"type": ["string", "null"], "enum": ["bearer", null]},
        "access_token": token("Shown in the answer to its creation only; generated when absent."),
        "refresh_token": token("Shown in the answer to its creation only; none when absent."),
        "scope": {"type": ["string", "null"], "maxLength": 8192, "description": "Separated by blanks."},
        "authenticated_userid": {"type": ["string", "null"], "maxLength": 1024},
        "expires_in": {"type": ["integer", "null"], "minimum": 0, "maximum": LONGEST,
            "description": "Seconds from its creation until it counts no longer; 0: never. Default: the plugin's token_expiration."},
        "ttl": {"type": ["integer", "null"], "description": "Seconds that are left; null: it never expires. Read only."},
    }}))
});

pub(super) fn endpoints() -> Vec<Endpoint> {
    let (all, one, group) = ("/oauth2_tokens", "/oauth2_tokens/{token}", "oauth2_tokens");
    let summary = "Bring a token along from elsewhere, or issue one";
    let create = Endpoint::new(Method::POST, all, group, summary, making::create);
    let summary = "One, by its id or by the token itself";
    let get = Endpoint::new(Method::GET, one, group, summary, get);
    let change = Endpoint::new(Method::PATCH, one, group, "Change a token", making::change);
    let summary = "End a token, and the refresh token beside it";
    vec![
        Endpoint::new(Method::GET, all, group, "List access tokens", list)
            .lists(&["credential_id", "authenticated_userid"])
            .gives(&list_of(&ENTITY)),
        create.takes(&ENTITY).gives(&ENTITY),
        get.gives(&ENTITY),
        change.takes(&ENTITY).gives(&ENTITY),
        Endpoint::new(Method::DELETE, one, group, summary, delete),
    ]
}

/// Whom a token was issued to.
struct Holder {
    application: ObjectRef,
    /// As it is shown.
    entity: Value,
}

fn of(api: &Api) -> Result<&Ledger, Refused> {
    api.ledger.as_ref().ok_or_else(|| {
        let message = "this control plane does not reach the store of tokens: give it the one that the proxies share (--store, --store-key-file)";
        Refused::Unavailable(message.to_owned())
    })
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn refused(failure: Failure) -> Refused {
    let taken = |field| Refused::Taken {
        field,
        value: "***".to_owned(),
    };
    match failure {
        Failure::AccessTaken => taken("access_token"),
        Failure::RefreshTaken => taken("refresh_token"),
        Failure::NotFound => Refused::NotFound,
        Failure::Over => {
            let message = "it would have expired already: delete it instead";
            Refused::violation("expires_in", message)
        }
        Failure::Position => Refused::Offset(String::new()),
        Failure::Unavailable(reason) => Refused::Unavailable(format!("{reason}: try again")),
    }
}

/// A token whose application is there, as an entity.
fn show(compiler: &Compiler, namespace: Option<&str>, issued: &Issued, now: i64) -> Option<Holder> {
    let grant = issued.grant();
    let object = application(compiler, namespace, &grant.client_id, &grant.application)?;
    let plugin = compiler
        .objects(Kind::AuthPlugin, None, None)
        .find(|object| object.id() == grant.plugin);
    let text = |text: String| {
        if text.is_empty() {
            Value::Null
        } else {
            text.into()
        }
    };
    let expires = issued.expires();
    let application = object.reference().clone();
    let entity = json!({
        "id": issued.id(),
        "created_at": issued.issued().saturating_mul(1000),
        "credential": {"id": grant.application},
        "plugin": plugin.map(|object| json!({"id": object.id()})),
        "namespace": &*application.namespace,
        "token_type": "bearer",
        "access_token": null,
        "refresh_token": null,
        "scope": text(grant.scope),
        "authenticated_userid": text(grant.user),
        "expires_in": expires.map_or(0, |expires| expires.saturating_sub(issued.issued())),
        "ttl": expires.map(|expires| expires.saturating_sub(now).max(0)),
    });
    Some(Holder {
        application,
        entity,
    })
}

/// The application of an id; what it calls itself by leads there.
fn application<'a>(
    compiler: &'a Compiler,
    namespace: Option<&str>,
    client_id: &str,
    id: &str,
) -> Option<&'a Object> {
    credentials::spaces(compiler, namespace)
        .iter()
        .filter_map(|space| compiler.client_id_holder(space, client_id))
        .filter_map(|reference| compiler.object(reference))
        .find(|object| object.id() == id)
}

async fn list(call: Call) -> Result<Answer, Refused> {
    let (api, paging) = (&call.api, call.paging()?);
    let namespace = call.namespace().map(str::to_owned);
    api.need_list(&call.caller, Kind::Credential, namespace.as_deref())
        .await?;
    let credential = match call.query.value("credential_id") {
        None => None,
        Some(name) => match credentials::application(&call, "get", name).await {
            Ok((_, id)) => Some(id),
            Err(Refused::NotFound) => return Ok(Answer::Ok(json!({"data": [], "next": null}))),
            Err(refused) => return Err(refused),
        },
    };
    let user = call.query.value("authenticated_userid").map(str::to_owned);
    let from = match paging.after().map(Vec::as_slice) {
        None => None,
        Some([place]) => Some(Position::told(place)),
        Some(_) => return Err(Refused::Offset(String::new())),
    };
    let now = now();
    let fits = move |issued: &Issued| {
        let grant = issued.grant();
        credential
            .as_ref()
            .is_none_or(|own| grant.application == *own)
            && user.as_ref().is_none_or(|own| grant.user == *own)
    };
    let page = of(api)?.page(from.as_ref(), paging.size(), now, fits);
    let page = page.await.map_err(refused)?;
    let look = move |_: &Api, compiler: &Compiler| {
        let shown = page.tokens.iter();
        let shown = shown.filter_map(|issued| show(compiler, namespace.as_deref(), issued, now));
        let data: Vec<Value> = shown.map(|holder| holder.entity).collect();
        Ok((data, page.next.map(|next| vec![next.to_string()])))
    };
    let (data, next) = api.look(look).await?;
    Ok(Answer::Ok(paging.answer(data, next)))
}

/// A token that the caller may do this to the application of. Who may not list applications does not learn which are there.
async fn found(call: &Call, verb: &str) -> Result<(Issued, Holder), Refused> {
    let (api, now) = (&call.api, now());
    let found = of(api)?.find(call.part(0), now).await.map_err(refused);
    let namespace = call.namespace().map(str::to_owned);
    let holder = match found {
        Ok(issued) => {
            let look = move |_: &Api, compiler: &Compiler| {
                let holder = show(compiler, namespace.as_deref(), &issued, now);
                holder
                    .map(|holder| (issued, holder))
                    .ok_or(Refused::NotFound)
            };
            api.look(look).await
        }
        Err(refused) => Err(refused),
    };
    match holder {
        Ok((issued, holder)) => {
            api.access
                .need_for(&call.caller, verb, &holder.application)
                .await?;
            Ok((issued, holder))
        }
        Err(refused) => {
            api.need_list(&call.caller, Kind::Credential, call.namespace())
                .await?;
            Err(refused)
        }
    }
}

async fn get(call: Call) -> Result<Answer, Refused> {
    let (_, holder) = found(&call, "get").await?;
    Ok(Answer::Ok(holder.entity))
}

async fn delete(call: Call) -> Result<Answer, Refused> {
    match found(&call, "update").await {
        Ok((issued, _)) => of(&call.api)?.remove(&issued).await.map_err(refused)?,
        Err(Refused::NotFound) => {}
        Err(refused) => return Err(refused),
    }
    Ok(Answer::NoContent)
}

/// An entity with the tokens that were just made.
fn with_tokens(mut entity: Value, access: &str, refresh: Option<&str>) -> Value {
    set(&mut entity, &["access_token"], access);
    set(&mut entity, &["refresh_token"], json!(refresh));
    entity
}
