//! Nulls in manifests.

use serde_json::Value;

/// Takes out members that are null, at any depth, as the API server does before it looks at an object of these kinds:
/// `tags:` without a value is the same as no `tags`. Items of lists stay.
pub fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}
