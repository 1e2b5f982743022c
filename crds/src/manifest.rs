//! The manifests of Postern's kinds, as the API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::{AuthPlugin, Consumer, Credential, UpstreamPolicy};

const HEADER: &str = "# Generated from the types in crds/src; a test keeps it equal to them (POSTERN_BLESS=1 rewrites it).\n";

/// The definitions of Postern's kinds.
///
/// # Errors
/// A definition cannot be written or read as JSON, which a test of every definition excludes.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    let all = [
        Consumer::crd(),
        Credential::crd(),
        AuthPlugin::crd(),
        UpstreamPolicy::crd(),
    ];
    all.into_iter()
        .map(|definition| {
            let mut json = serde_json::to_value(definition)?;
            tidy(&mut json);
            serde_json::from_value(json)
        })
        .collect()
}

/// Name and YAML text of each manifest, for the folder that `kubectl apply -f` takes.
///
/// # Errors
/// A definition cannot be written, which a test of every definition excludes.
pub fn manifests() -> Result<Vec<(String, String)>, ManifestError> {
    definitions()?
        .iter()
        .map(|definition| {
            let names = &definition.spec.names;
            let file = format!("{}_{}.yaml", definition.spec.group, names.plural);
            let mut json = in_reading_order(serde_json::to_value(definition)?);
            whole_numbers(&mut json);
            Ok((file, format!("{HEADER}{}", serde_saphyr::to_string(&json)?)))
        })
        .collect()
}

/// A manifest cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// As JSON.
    #[error("a definition cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// As YAML.
    #[error("a definition cannot be written as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// Takes out what Rust types say and the Kubernetes API does not understand or means otherwise.
///
/// A field that is `nullable` keeps an explicit null, which then counts as present for CEL's `has`; without it the API
/// server drops nulls, as it does for its own kinds. Formats of unsigned integers are unknown to it.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            // Line breaks of the source are none of the reader's.
            if let Some(Value::String(description)) = map.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            if let Some(format) = map.get("format").and_then(Value::as_str)
                && format.starts_with("uint")
            {
                map.insert("format".to_owned(), "int64".into());
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// `apiVersion` and `kind` first, as people write manifests.
fn in_reading_order(json: Value) -> Value {
    let Value::Object(mut fields) = json else {
        return json;
    };
    let mut ordered = Map::new();
    for key in ["apiVersion", "kind", "metadata", "spec"] {
        if let Some(value) = fields.remove(key) {
            ordered.insert(key.to_owned(), value);
        }
    }
    Value::Object(ordered)
}

/// Bounds are floating-point numbers in the API's own type, but `100.0` is not how people write them.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(list) => list.iter_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number
                .as_f64()
                .and_then(|float| format!("{float}").parse::<i64>().ok())
            {
                *value = whole.into();
            }
        }
        _ => {}
    }
}
