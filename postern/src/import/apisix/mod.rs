//! APISIX's `apisix.yaml`, and what ADC dumps: routes, services, upstreams, consumers and what protects them.
//!
//! First every route is read with all that concerns it; then it is worked out which requests would fall to another route than
//! they do there; what would lose its protection is left out or closed; the rest becomes manifests.

mod consumers;
mod emit;
mod openid_connect;
mod overlap;
mod pattern;
mod plugins;
mod rewrite;
mod routes;
mod tables;
mod tls;
mod upstreams;

use serde_json::Value;

use super::manifests::Manifests;
use tables::Tables;

/// What a file of theirs may have at its top.
const KNOWN: [&str; 17] = [
    "routes",
    "services",
    "upstreams",
    "consumers",
    "consumer_groups",
    "global_rules",
    "plugin_configs",
    "plugin_metadata",
    "ssls",
    "ssl",
    "plugins",
    "secrets",
    "protos",
    "stream_routes",
    "credentials",
    "conf_version",
    "consumer_credentials",
];

/// # Errors
/// The file is not one of APISIX's.
pub(super) fn import(file: &Value, manifests: &mut Manifests) -> Result<(), String> {
    let fields = file
        .as_object()
        .ok_or_else(|| "is not an object with routes, services and consumers".to_owned())?;
    if !fields.keys().any(|field| KNOWN.contains(&field.as_str())) {
        return Err("has none of routes, services, upstreams, consumers, ssls: it is no file of APISIX or ADC".to_owned());
    }
    for field in fields.keys() {
        let remedy = match field.as_str() {
            "stream_routes" => "connections that are no HTTP are not carried over",
            "secrets" => {
                "secret managers are not carried over; put the values into the file or into Secrets"
            }
            "protos" => "is not carried over",
            "plugin_metadata" => "is not carried over",
            other if KNOWN.contains(&other) || other.ends_with("_conf_version") => continue,
            _ => "is not known, and not carried over",
        };
        if fields
            .get(field)
            .is_some_and(|value| !tables::is_empty(value))
        {
            manifests.note(field, "file", format!("{field}: {remedy}"));
        }
    }
    let tables = Tables::new(file);
    let mut people = consumers::read(&tables, manifests);
    let mut routes = routes::read(&tables, &people, manifests);
    overlap::settle(&mut routes, manifests);
    let listeners = tls::listeners(&tables, manifests);
    emit::routes(&routes, &listeners, &mut people, manifests);
    people.emit(manifests);
    Ok(())
}
