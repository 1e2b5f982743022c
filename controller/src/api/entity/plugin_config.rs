//! Plugins' configurations in Kong's spelling, made from the schema of AuthPlugin: a new plugin is there by itself.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::api::names::{camel, snake};
use crate::api::tree::{set, text_at};

/// The plugins: the name in the API, "key-auth", and the block.
pub(crate) struct Block {
    /// "keyAuth"
    pub(crate) name: String,
    /// Of the block, as an AuthPlugin has it.
    schema: Value,
    /// The same with the API's names.
    pub(crate) shown: Value,
}

static BLOCKS: LazyLock<BTreeMap<String, Block>> = LazyLock::new(read);

/// All plugins by their name in the API.
pub(crate) fn blocks() -> &'static BTreeMap<String, Block> {
    &BLOCKS
}

fn read() -> BTreeMap<String, Block> {
    let definitions = crds::definitions().unwrap_or_default();
    let definition = definitions
        .into_iter()
        .find(|definition| definition.spec.names.kind == "AuthPlugin");
    let definition = serde_json::to_value(definition).unwrap_or_default();
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let properties = definition.pointer(path).and_then(Value::as_object);
    let general = ["targetRefs", "enabled", "consumers"];
    properties
        .into_iter()
        .flatten()
        // What several methods together are has no counterpart in this API: each is a plugin of its own.
        .filter(|(name, schema)| !general.contains(&name.as_str()) && schema["type"] == "object")
        .map(|(name, schema)| {
            let block = Block {
                name: name.clone(),
                schema: schema.clone(),
                shown: renamed(schema),
            };
            (snake(name).replace('_', "-"), block)
        })
        .collect()
}

impl Block {
    /// A configuration as the API writes it, as the AuthPlugin has it.
    pub(crate) fn inner(&self, config: Value) -> Value {
        translate(config, &self.schema, &camel)
    }

    /// The other way round.
    pub(crate) fn outer(&self, config: Value) -> Value {
        translate(config, &self.schema, &|name| snake(name))
    }
}

/// Renames fields that the schema knows; the keys of maps are the user's own.
fn translate(value: Value, schema: &Value, rename: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => {
            let known = schema.get("properties");
            let fields = fields.into_iter().map(|(name, value)| {
                let new = rename(&name);
                let inner = known.and_then(|known| known.get(&name).or_else(|| known.get(&new)));
                match inner {
                    Some(inner) => (new, translate(value, inner, rename)),
                    None => (name, value),
                }
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => {
            let items = items.into_iter();
            Value::Array(
                items
                    .map(|item| translate(item, &schema["items"], rename))
                    .collect(),
            )
        }
        other => other,
    }
}

/// The schema with the API's names, and without what only Kubernetes understands.
fn renamed(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return schema.clone();
    };
    let mut result = Map::new();
    for (name, value) in fields {
        let value = match name.as_str() {
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let properties = properties.map(|(name, schema)| {
                    let schema = match name.as_str() {
                        "anonymous" => json!({"type": "string", "minLength": 1,
                            "description": "Username or id of the consumer that counts where nobody is authenticated."}),
                        _ => renamed(schema),
                    };
                    (snake(name), nullable(schema))
                });
                Value::Object(properties.collect())
            }
            "items" | "additionalProperties" => renamed(value),
            "required" => {
                let names = value.as_array().into_iter().flatten();
                names.filter_map(Value::as_str).map(snake).collect()
            }
            "type" | "enum" | "description" | "minimum" | "maximum" | "minLength" | "maxLength"
            | "minItems" | "maxItems" | "format" => value.clone(),
            _ => continue,
        };
        result.insert(name.clone(), value);
    }
    if fields.get("type").is_some_and(|kind| kind == "integer") {
        result.remove("format");
    }
    Value::Object(result)
}

/// Null stands for the default.
fn nullable(mut schema: Value) -> Value {
    if let Some(kind) = text_at(&schema, &["type"]).map(str::to_owned) {
        set(&mut schema, &["type"], json!([kind, "null"]));
    }
    if let Some(choices) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        choices.push(Value::Null);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_has_a_name_and_a_schema() {
        for name in ["key-auth", "jwt", "acl"] {
            assert!(blocks().contains_key(name), "{name}");
        }
        let properties = &blocks()["key-auth"].shown["properties"];
        assert_eq!(properties["key_names"]["type"], json!(["array", "null"]));
        assert!(!blocks()["jwt"].shown.to_string().contains("x-kubernetes"));
        let oauth = &blocks()["upstream-oauth"].shown["properties"]["oauth"];
        assert_eq!(oauth["required"], json!(["token_endpoint"]));
    }

    #[test]
    fn names_go_there_and_back() {
        let block = &blocks()["key-auth"];
        let outer = json!({"key_names": ["a_b"], "run_on_preflight": true});
        let inner = json!({"keyNames": ["a_b"], "runOnPreflight": true});
        assert_eq!(block.inner(outer.clone()), inner);
        assert_eq!(block.outer(inner), outer);
    }
}
