//! What the file holds: nested entities and those with references, brought into one form.

use serde_json::{Map, Value};

/// One entity of the file.
#[derive(Debug, Clone)]
pub(super) struct Entity {
    /// Where it stands, "services[0].routes[1]".
    pub(super) at: String,
    /// What people call it, `route "orders"`.
    pub(super) label: String,
    pub(super) fields: Map<String, Value>,
}

impl Entity {
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.fields
            .get(field)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    pub(super) fn number(&self, field: &str) -> Option<u64> {
        self.fields.get(field).and_then(Value::as_u64)
    }

    pub(super) fn flag(&self, field: &str, default: Default) -> bool {
        match self.fields.get(field) {
            Some(Value::Bool(value)) => *value,
            _ => default == Default::On,
        }
    }

    /// Texts of a list; none where it is absent or empty.
    ///
    /// # Errors
    /// It is no list of texts.
    pub(super) fn texts(&self, field: &str) -> Result<Vec<String>, String> {
        texts(self.fields.get(field)).ok_or_else(|| format!("{field} must be a list of texts"))
    }

    pub(super) fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.at)
    }

    /// Whether a reference means it: by its name, username or id.
    pub(super) fn is(&self, reference: &str) -> bool {
        ["name", "username", "id"]
            .into_iter()
            .any(|field| self.text(field) == Some(reference))
    }

    /// Fields that are set and not among those that are known.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<String> {
        self.fields
            .iter()
            .filter(|(name, value)| !value.is_null() && !known.contains(&name.as_str()))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// What a flag is where it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Default {
    On,
    Off,
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        Some(_) => None,
    }
}

/// The entities of a list within `of`, which stands at `at`; `kind` is what people call one.
///
/// # Errors
/// It is no list of maps.
pub(super) fn list(
    of: &Map<String, Value>,
    at: &str,
    field: &str,
    kind: &str,
) -> Result<Vec<Entity>, String> {
    let place = if at.is_empty() {
        field.to_owned()
    } else {
        format!("{at}.{field}")
    };
    let items = match of.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(format!("{place} must be a list")),
    };
    items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let at = format!("{place}[{index}]");
            let Value::Object(fields) = item else {
                return Err(format!("{at} must be a map"));
            };
            let mut entity = Entity {
                at,
                label: String::new(),
                fields: fields.clone(),
            };
            let name = ["name", "username", "custom_id", "id"]
                .into_iter()
                .find_map(|field| entity.text(field));
            entity.label = match name {
                Some(name) => format!("{kind} {name:?}"),
                None => format!("{kind} {}", index + 1),
            };
            Ok(entity)
        })
        .collect()
}

/// The name or id in a field that refers to another entity.
///
/// # Errors
/// Something is there, and it refers to nothing.
pub(super) fn reference(
    fields: &Map<String, Value>,
    field: &str,
) -> Result<Option<String>, String> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(Value::Object(parts)) => ["id", "name", "username"]
            .into_iter()
            .find_map(|part| parts.get(part).and_then(Value::as_str))
            .map(|name| Some(name.to_owned()))
            .ok_or_else(|| format!("{field} names nothing")),
        Some(_) => Err(format!("{field} must be a name or an id")),
    }
}

/// Whether a value is not in the file but stands elsewhere: in the environment of decK, or in a vault.
pub(super) fn is_elsewhere(text: &str) -> bool {
    text.contains("${{") || text.contains("{vault://")
}
