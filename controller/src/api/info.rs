//! What the Admin API says of the gateway and of itself.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use compile::{Compiler, Kind, Level};
use serde_json::{Value, json};

use super::answer::Answer;
use super::endpoint::{Call, Endpoint};
use super::entity::blocks;
use super::refused::Refused;
use super::{Api, openapi};

static OBJECT: LazyLock<Arc<Value>> = LazyLock::new(|| Arc::new(json!({"type": "object"})));

pub(super) fn endpoints() -> Vec<Endpoint> {
    let about = |path: &'static str, summary: &'static str| (path, summary);
    let (path, summary) = about("/", "The program and its plugins");
    let root = Endpoint::new(Method::GET, path, "information", summary, root);
    let (path, summary) = about(
        "/status",
        "How many objects are in force, and how many are refused",
    );
    let status = Endpoint::new(Method::GET, path, "information", summary, status);
    let (path, summary) = about("/endpoints", "All paths");
    let paths = Endpoint::new(Method::GET, path, "information", summary, paths);
    let (path, summary) = about("/plugins/enabled", "The names of all plugins");
    let enabled = Endpoint::new(Method::GET, path, "information", summary, enabled);
    let (path, summary) = about(
        "/schemas/plugins/{name}",
        "The options of a plugin, as a JSON Schema",
    );
    let plugin = Endpoint::new(Method::GET, path, "information", summary, plugin_schema);
    let (path, summary) = about("/openapi.json", "This document");
    let document = Endpoint::new(Method::GET, path, "information", summary, document);
    [root, status, paths, enabled, plugin, document]
        .into_iter()
        .map(|endpoint| endpoint.bare().gives(&OBJECT))
        .collect()
}

async fn root(call: Call) -> Result<Answer, Refused> {
    let plugins: serde_json::Map<_, _> = blocks()
        .keys()
        .map(|name| (name.clone(), json!({"version": env!("CARGO_PKG_VERSION")})))
        .collect();
    let names: Vec<_> = blocks().keys().collect();
    Ok(Answer::Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "tagline": "Welcome to postern",
        "plugins": {"available_on_server": plugins, "enabled_in_cluster": names},
        "configuration": {"namespace": call.api.namespace},
    })))
}

async fn status(call: Call) -> Result<Answer, Refused> {
    let kinds = [
        Kind::Consumer,
        Kind::Credential,
        Kind::AuthPlugin,
        Kind::HttpRoute,
        Kind::Ingress,
        Kind::Service,
    ];
    for kind in kinds {
        call.api.need_list(&call.caller, kind, None).await?;
    }
    let look = move |_: &Api, compiler: &Compiler| {
        let objects: serde_json::Map<_, _> = kinds
            .into_iter()
            .map(|kind| (kind.plural().to_owned(), json!(compiler.count(kind))))
            .collect();
        let errors = compiler
            .all_diagnostics()
            .iter()
            .filter(|diagnostic| diagnostic.level == Level::Error)
            .count();
        Ok(json!({"database": {"reachable": true}, "objects": objects, "errors": errors}))
    };
    Ok(Answer::Ok(call.api.look(look).await?))
}

async fn paths(_: Call) -> Result<Answer, Refused> {
    let mut paths: Vec<String> = super::endpoints()
        .into_iter()
        .map(|endpoint| endpoint.path)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    Ok(Answer::Ok(json!({"data": paths})))
}

async fn enabled(_: Call) -> Result<Answer, Refused> {
    Ok(Answer::Ok(
        json!({"enabled_plugins": blocks().keys().collect::<Vec<_>>()}),
    ))
}

async fn plugin_schema(call: Call) -> Result<Answer, Refused> {
    let block = blocks().get(call.part(0)).ok_or(Refused::NotFound)?;
    Ok(Answer::Ok(block.shown.clone()))
}

async fn document(_: Call) -> Result<Answer, Refused> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(&super::endpoints()));
    Ok(Answer::Ok(DOCUMENT.clone()))
}
