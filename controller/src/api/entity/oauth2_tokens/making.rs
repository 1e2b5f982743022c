//! Making and changing tokens.

use compile::{Compiler, Kind, Object, ObjectRef};
use plugins::oauth2::Config;
use plugins::oauth2::ledger::{self, Change, Grant, Known, Lifetimes, Token};
use serde_json::{Map, Value};

use super::super::{credentials, find, fixed, text};
use super::{found, now, of, refused, show, with_tokens};
use crate::api::Api;
use crate::api::answer::Answer;
use crate::api::endpoint::Call;
use crate::api::refused::Refused;
use crate::api::tree::text_at;

/// The plugin that a token counts for.
struct Issuer {
    id: String,
    config: Config,
}

pub(super) async fn create(mut call: Call) -> Result<Answer, Refused> {
    let mut fields = std::mem::take(&mut call.fields);
    fixed(&mut fields, None, &["id", "created_at", "ttl"]).none()?;
    let missing = || Refused::violation("credential", "required field missing");
    let credential = fields
        .get("credential")
        .and_then(|named| text_at(named, &["id"]));
    let credential = credential.ok_or_else(missing)?;
    let (reference, application) = match credentials::application(&call, "update", credential).await
    {
        Ok(found) => found,
        Err(Refused::NotFound) => {
            return Err(Refused::violation(
                "credential",
                "there is no such application",
            ));
        }
        Err(refused) => return Err(refused),
    };
    let namespace = text(&fields, "namespace");
    if namespace.is_some_and(|namespace| *namespace != *reference.namespace) {
        return Err(Refused::violation("namespace", "must be the application's"));
    }
    let issuer = match fields
        .get("plugin")
        .and_then(|named| text_at(named, &["id"]))
    {
        Some(name) => Some(issuer(&call, &reference, name).await?),
        None => None,
    };
    let scope = scope(&fields, issuer.as_ref())?.unwrap_or_default();
    let config = issuer
        .as_ref()
        .map(|issuer| issuer.config.clone())
        .unwrap_or_default();
    let grant = Grant {
        plugin: issuer
            .as_ref()
            .map_or_else(String::new, |issuer| issuer.id.clone()),
        global: issuer.is_none() || config.global_credentials,
        application,
        scope,
        user: text(&fields, "authenticated_userid")
            .unwrap_or_default()
            .to_owned(),
        ..owner(&call, &reference).await?
    };
    let lifetimes = Lifetimes {
        access: seconds(&fields).unwrap_or(config.token_expiration),
        refresh: config.refresh_token_ttl,
    };
    let known = Known {
        access: token(&fields, "access_token")?,
        refresh: token(&fields, "refresh_token")?,
    };
    let refresh = text(&fields, "refresh_token");
    let now = now();
    let added = of(&call.api)?.add(grant, lifetimes, known, now).await;
    let (access, issued) = added.map_err(refused)?;
    let look = move |_: &Api, compiler: &Compiler| {
        show(compiler, None, &issued, now).ok_or(Refused::NotFound)
    };
    let holder = call.api.look(look).await?;
    Ok(Answer::Created(with_tokens(
        holder.entity,
        access.expose(),
        refresh,
    )))
}

pub(super) async fn change(mut call: Call) -> Result<Answer, Refused> {
    let mut fields = std::mem::take(&mut call.fields);
    let (issued, holder) = found(&call, "update").await?;
    let names = [
        "id",
        "created_at",
        "credential",
        "plugin",
        "namespace",
        "token_type",
        "access_token",
        "refresh_token",
        "ttl",
    ];
    fixed(&mut fields, Some(&holder.entity), &names).none()?;
    let change = Change {
        scope: scope(&fields, None)?,
        user: fields
            .get("authenticated_userid")
            .map(|user| user.as_str().unwrap_or_default().to_owned()),
        expires_in: seconds(&fields),
    };
    let changed = of(&call.api)?.change(&issued.id(), &change, now()).await;
    let changed = changed.map_err(refused)?;
    let look = move |_: &Api, compiler: &Compiler| {
        show(compiler, None, &changed, now()).ok_or(Refused::NotFound)
    };
    Ok(Answer::Ok(call.api.look(look).await?.entity))
}

/// The client id of an application, and whose it is.
async fn owner(call: &Call, application: &ObjectRef) -> Result<Grant, Refused> {
    let application = application.clone();
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&application).ok_or(Refused::NotFound)?;
        let consumer = credentials::consumer_of(object).ok_or(Refused::NotFound)?;
        let consumer = compiler
            .object(&consumer)
            .ok_or_else(|| Refused::violation("credential", "its consumer does not exist"))?;
        let client_id = credentials::client_id(compiler, object)
            .ok_or_else(|| Refused::violation("credential", "is not in force: see its status"))?;
        Ok(Grant {
            client_id,
            consumer: consumer.id(),
            ..Grant::default()
        })
    };
    call.api.look(look).await
}

/// The plugin of an id or name; without a namespace in the query, the one beside the application counts first.
async fn issuer(call: &Call, application: &ObjectRef, name: &str) -> Result<Issuer, Refused> {
    let (own, name) = (application.namespace.to_string(), name.to_owned());
    let look = move |api: &Api, compiler: &Compiler| {
        let kinds = [Kind::AuthPlugin];
        let near = find::by_id_or_name(api, compiler, &kinds, Some(&own), &name);
        near.or_else(|_| find::by_id_or_name(api, compiler, &kinds, None, &name))
    };
    let reference = match call.api.find(call, "get", Kind::AuthPlugin, look).await {
        Ok(reference) => reference,
        Err(Refused::NotFound) => {
            return Err(Refused::violation("plugin", "there is no such plugin"));
        }
        Err(refused) => return Err(refused),
    };
    let look = move |_: &Api, compiler: &Compiler| {
        let object = compiler.object(&reference).ok_or(Refused::NotFound)?;
        let config = provider(object).cloned();
        let config = config.ok_or_else(|| Refused::violation("plugin", "is no oauth2 plugin"))?;
        Ok(Issuer {
            id: object.id(),
            config,
        })
    };
    call.api.look(look).await
}

/// What issues tokens in a plugin.
fn provider(object: &Object) -> Option<&Config> {
    let spec = object.auth_plugin()?;
    let methods = spec.any_of.iter().flat_map(|methods| &methods.0);
    let within = methods.filter_map(|method| method.oauth2.as_deref());
    spec.oauth2.iter().chain(within).next()
}

/// The scopes that are asked for, each on offer.
fn scope(fields: &Map<String, Value>, issuer: Option<&Issuer>) -> Result<Option<String>, Refused> {
    let Some(scope) = fields.get("scope") else {
        return Ok(None);
    };
    let scope = ledger::scope(scope.as_str().unwrap_or_default());
    let scope = scope.map_err(|message| Refused::violation("scope", message))?;
    let offered = |scope: &str| {
        issuer.is_none_or(|issuer| issuer.config.scopes.iter().any(|own| own == scope))
    };
    match scope
        .split(' ')
        .find(|part| !part.is_empty() && !offered(part))
    {
        None => Ok(Some(scope)),
        Some(part) => {
            let message = format!("{part:?} is not among the scopes of the plugin");
            Err(Refused::violation("scope", message))
        }
    }
}

fn seconds(fields: &Map<String, Value>) -> Option<u32> {
    let seconds = fields.get("expires_in")?.as_u64()?;
    u32::try_from(seconds).ok()
}

fn token(fields: &Map<String, Value>, name: &'static str) -> Result<Option<Token>, Refused> {
    let Some(given) = text(fields, name) else {
        return Ok(None);
    };
    let token = Token::parse(given);
    let message = "must be 32 letters and digits";
    token
        .map(Some)
        .ok_or_else(|| Refused::violation(name, message))
}
