//! Parts of JSON trees, by path: absent ones are null, and are made where they are set.

use serde_json::{Map, Value};

/// What is at a path.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    const NOTHING: &Value = &Value::Null;
    path.iter()
        .try_fold(value, |value, name| value.get(*name))
        .unwrap_or(NOTHING)
}

/// The text at a path.
pub(crate) fn text_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path).as_str()
}

/// Sets what is at a path; what is no object on the way becomes one.
pub(crate) fn set(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    let Some((name, rest)) = path.split_first() else {
        *value = new.into();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Value::Object(fields) = value {
        set(fields.entry(*name).or_insert(Value::Null), rest, new);
    }
}

/// Takes what is at a path, and leaves null.
pub(crate) fn take(value: &mut Value, path: &[&str]) -> Value {
    let found = path
        .iter()
        .try_fold(value, |value, name| value.get_mut(*name));
    found.map(Value::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_parts() {
        let mut tree = json!({"a": {"b": "x"}});
        assert_eq!(text_at(&tree, &["a", "b"]), Some("x"));
        assert_eq!(*at(&tree, &["a", "c", "d"]), Value::Null);
        set(&mut tree, &["a", "c", "d"], 1);
        assert_eq!(take(&mut tree, &["a", "b"]), "x");
        assert_eq!(tree, json!({"a": {"b": null, "c": {"d": 1}}}));
    }
}
