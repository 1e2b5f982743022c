//! Bodies against their JSON Schema: values of forms get their types, everything is checked, and the same schema is what
//! the OpenAPI document shows.

use serde_json::{Map, Value};

use super::refused::Violations;

/// Gives texts, which is all that forms have, the types that the schema asks for.
pub(crate) fn infer(value: Value, schema: &Value) -> Value {
    let Some(kind) = kind(schema) else {
        return value;
    };
    match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::String(text) => infer_text(text, kind, schema),
        Value::Array(items) if kind == "array" => {
            let item = &schema["items"];
            Value::Array(items.into_iter().map(|value| infer(value, item)).collect())
        }
        Value::Object(fields) if kind == "object" => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let inner = property(schema, &name).cloned().unwrap_or_default();
                    (name, infer(value, &inner))
                })
                .collect(),
        ),
        other => other,
    }
}

fn infer_text(text: String, kind: &str, schema: &Value) -> Value {
    match kind {
        "integer" => text.parse::<i64>().map_or(Value::String(text), Value::from),
        "number" => text.parse::<f64>().map_or(Value::String(text), Value::from),
        "boolean" => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::String(text),
        },
        "array" => {
            let item = &schema["items"];
            // Lists of words may be written with commas between them; a URI may have a comma of its own.
            let parts: Vec<String> = if item["format"] == "uri" {
                vec![text]
            } else {
                text.split(',').map(|part| part.trim().to_owned()).collect()
            };
            let parts = parts.into_iter();
            Value::Array(parts.map(|part| infer(Value::String(part), item)).collect())
        }
        _ => Value::String(text),
    }
}

/// The type; of several, the one that is not null.
fn kind(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null"),
        _ => None,
    }
}

fn nullable(schema: &Value) -> bool {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "null"),
        Value::String(_) => false,
        _ => true,
    }
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema
        .get("properties")
        .and_then(|properties| properties.get(name))
        .or_else(|| schema.get("additionalProperties").filter(|s| s.is_object()))
}

/// Names everything that does not fit.
pub(crate) fn check(value: &Value, schema: &Value, at: &str, found: &mut Violations) {
    if value.is_null() {
        if !nullable(schema) {
            found.add(at, "must not be null");
        }
        return;
    }
    let Some(kind) = kind(schema) else { return };
    let fits = match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if !fits {
        let expected = match kind {
            "integer" => "an integer",
            "array" => "an array",
            "object" => "a record",
            other => other,
        };
        found.add(at, format!("expected {expected}"));
        return;
    }
    check_value(value, schema, at, found);
    match value {
        Value::Array(items) => {
            for item in items {
                check(item, &schema["items"], at, found);
            }
        }
        Value::Object(fields) => check_fields(fields, schema, at, found),
        _ => {}
    }
}

fn check_value(value: &Value, schema: &Value, at: &str, found: &mut Violations) {
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        let words: Vec<String> = choices
            .iter()
            .filter(|choice| !choice.is_null())
            .map(|choice| {
                choice
                    .as_str()
                    .map_or_else(|| choice.to_string(), str::to_owned)
            })
            .collect();
        found.add(at, format!("expected one of: {}", words.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        let low = schema["minimum"].as_f64();
        let high = schema["maximum"].as_f64();
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let bound = |bound: Option<f64>, open: &str| {
                bound.map_or_else(|| open.to_owned(), |bound| bound.to_string())
            };
            let (low, high) = (bound(low, "-infinity"), bound(high, "infinity"));
            found.add(at, format!("value should be between {low} and {high}"));
        }
    }
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        _ => return,
    };
    let (least, most) = if value.is_string() {
        ("minLength", "maxLength")
    } else {
        ("minItems", "maxItems")
    };
    let limit = |name: &str| {
        let limit = schema[name].as_u64()?;
        usize::try_from(limit).ok()
    };
    if let Some(least) = limit(least).filter(|least| length < *least) {
        found.add(at, format!("length must be at least {least}"));
    }
    if let Some(most) = limit(most).filter(|most| length > *most) {
        found.add(at, format!("length must be at most {most}"));
    }
}

fn check_fields(fields: &Map<String, Value>, schema: &Value, at: &str, found: &mut Violations) {
    let path = |name: &str| {
        if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}.{name}")
        }
    };
    let closed = schema.get("properties").is_some();
    for (name, value) in fields {
        match property(schema, name) {
            Some(inner) => check(value, inner, &path(name), found),
            None if closed => found.add(path(name), "unknown field"),
            None => {}
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if fields.get(name).is_none_or(Value::is_null) {
            found.add(path(name), "required field missing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "minLength": 1},
            "ttl": {"type": ["integer", "null"], "minimum": 0, "maximum": 10},
            "tags": {"type": ["array", "null"], "items": {"type": "string"}},
            "uris": {"type": "array", "items": {"type": "string", "format": "uri"}},
            "on": {"type": "boolean"},
            "config": {"type": "object", "properties": {"names": {"type": "array", "items": {"type": "string"}}}},
        }})
    }

    #[test]
    fn texts_become_what_the_schema_asks_for() {
        let form = json!({"name": "7", "ttl": "5", "tags": "a, b", "uris": "http://x/a,b", "on": "true",
            "config": {"names": "x"}});
        assert_eq!(
            infer(form, &schema()),
            json!({"name": "7", "ttl": 5, "tags": ["a", "b"], "uris": ["http://x/a,b"], "on": true,
                "config": {"names": ["x"]}})
        );
        assert_eq!(infer(json!({"tags": ""}), &schema()), json!({"tags": null}));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut found = Violations::default();
        let value = json!({"ttl": 11, "tags": [1], "on": "maybe", "config": {"nmaes": []}, "x": 1});
        check(&value, &schema(), "", &mut found);
        let found: Vec<_> = found.0.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        assert_eq!(
            found,
            [
                "config.nmaes: unknown field",
                "name: required field missing",
                "on: expected boolean",
                "tags: expected string",
                "ttl: value should be between 0 and 10",
                "x: unknown field",
            ]
        );
    }
}
