//! The file's objects, by what others call them.

use serde_json::{Map, Value};

/// An object of the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) at: String,
    pub(super) value: &'a Value,
    /// For a route within a service: that service.
    pub(super) within: Option<(&'a Value, String)>,
}

#[derive(Debug)]
pub(super) struct Tables<'a> {
    pub(super) routes: Vec<Entry<'a>>,
    pub(super) services: Vec<Entry<'a>>,
    pub(super) upstreams: Vec<Entry<'a>>,
    pub(super) consumers: Vec<Entry<'a>>,
    pub(super) groups: Vec<Entry<'a>>,
    pub(super) plugin_configs: Vec<Entry<'a>>,
    pub(super) ssls: Vec<Entry<'a>>,
    /// Plugins of all routes: where, name and configuration.
    pub(super) global: Vec<(String, &'a str, &'a Value)>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(file: &'a Value) -> Self {
        let mut ssls = list(file, "ssls");
        ssls.extend(list(file, "ssl"));
        let services = list(file, "services");
        let mut routes = list(file, "routes");
        routes.extend(nested(&services, "routes"));
        let groups = list(file, "consumer_groups");
        let mut consumers = list(file, "consumers");
        consumers.extend(nested(&groups, "consumers"));
        Self {
            routes,
            services,
            upstreams: list(file, "upstreams"),
            consumers,
            groups,
            plugin_configs: list(file, "plugin_configs"),
            ssls,
            global: global(file),
        }
    }
}

/// The one with an id; with ADC the name is the id.
pub(super) fn find<'t, 'a>(table: &'t [Entry<'a>], id: &str) -> Option<&'t Entry<'a>> {
    let by = |field: &str| {
        table
            .iter()
            .find(|entry| text(entry.value, field).as_deref() == Some(id))
    };
    by("id").or_else(|| by("name"))
}

/// A field that is a text, or a number that stands for one.
pub(super) fn text(of: &Value, field: &str) -> Option<String> {
    of.get(field).and_then(plain)
}

/// A text, number or boolean as text.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// One text or a list of them, in either field.
pub(super) fn texts(of: &Value, one: &str, many: &str) -> Vec<String> {
    let listed = |field| match of.get(field) {
        Some(Value::Array(list)) => list.iter().filter_map(plain).collect(),
        Some(other) => plain(other).into_iter().collect(),
        None => Vec::new(),
    };
    let many: Vec<String> = listed(many);
    if many.is_empty() { listed(one) } else { many }
}

pub(super) fn flag(of: &Value, field: &str) -> bool {
    of.get(field).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn number(of: &Value, field: &str) -> Option<i64> {
    of.get(field).and_then(Value::as_i64)
}

/// The fields of an object; none where it is another thing.
pub(super) fn fields(of: &Value) -> impl Iterator<Item = (&str, &Value)> {
    of.as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
}

pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Whether a value is elsewhere: in the environment or with a secret manager.
pub(super) fn is_elsewhere(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let lower = text.to_ascii_lowercase();
            text.contains("${{") || lower.starts_with("$env://") || lower.starts_with("$secret://")
        }
        Value::Array(list) => list.iter().any(is_elsewhere),
        Value::Object(fields) => fields.values().any(is_elsewhere),
        _ => false,
    }
}

/// Whether APISIX does not run a plugin because its configuration says so.
pub(super) fn is_disabled(config: &Value) -> bool {
    config
        .get("_meta")
        .is_some_and(|meta| flag(meta, "disable"))
        || flag(config, "disable")
}

/// What the file calls an object.
pub(super) fn label(kind: &str, value: &Value, at: &str) -> String {
    let name = ["name", "id", "username"]
        .iter()
        .find_map(|field| text(value, field))
        .unwrap_or_else(|| at.to_owned());
    format!("{kind} \"{name}\"")
}

fn list<'a>(of: &'a Value, field: &str) -> Vec<Entry<'a>> {
    let all = of
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    all.enumerate()
        .map(|(index, value)| Entry {
            at: format!("{field}[{index}]"),
            value,
            within: None,
        })
        .collect()
}

/// What the objects of a list hold, ADC's form.
fn nested<'a>(parents: &[Entry<'a>], field: &str) -> Vec<Entry<'a>> {
    let of = |parent: &Entry<'a>| {
        let (at, value) = (parent.at.clone(), parent.value);
        list(value, field).into_iter().map(move |own| Entry {
            at: format!("{at}.{}", own.at),
            value: own.value,
            within: Some((value, at.clone())),
        })
    };
    parents.iter().flat_map(of).collect()
}

/// APISIX has a list of rules with plugins, ADC the plugins themselves.
fn global(file: &Value) -> Vec<(String, &str, &Value)> {
    match file.get("global_rules") {
        Some(Value::Array(rules)) => rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| Some((index, rule.get("plugins")?)))
            .flat_map(|(index, plugins)| {
                fields(plugins).map(move |(name, config)| {
                    (
                        format!("global_rules[{index}].plugins.{name}"),
                        name,
                        config,
                    )
                })
            })
            .collect(),
        Some(Value::Object(plugins)) => of_map(plugins),
        _ => Vec::new(),
    }
}

fn of_map(plugins: &Map<String, Value>) -> Vec<(String, &str, &Value)> {
    plugins
        .iter()
        .map(|(name, config)| (format!("global_rules.{name}"), name.as_str(), config))
        .collect()
}
