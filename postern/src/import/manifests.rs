//! The manifests that an import makes, and what it has to say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use compile::Kind;
use serde_json::{Map, Value, json};

use super::settle;

/// Names of objects are at most so long, so that something can be put behind them.
const LONGEST: usize = 52;

/// What is printed.
pub(crate) struct Imported {
    pub(crate) yaml: String,
    /// `LINE: OBJECT: FIELD: MESSAGE`, in the file's order.
    pub(crate) notes: Vec<String>,
}

/// Something that is not the same afterwards. No secret is in it.
struct Note {
    /// Path of the field in the file, "services[0].routes[1].protocols".
    at: String,
    object: String,
    message: String,
}

/// The objects so far, each with a name that no other of its kind has.
pub(crate) struct Manifests {
    namespace: String,
    objects: Vec<Value>,
    taken: BTreeSet<(Kind, String)>,
    notes: Vec<Note>,
}

impl Manifests {
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            objects: Vec::new(),
            taken: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    /// A name for a new object of a kind, from what the file calls it: a DNS label that is free, and is not afterwards.
    pub(crate) fn name(&mut self, kind: Kind, wanted: &str) -> String {
        let bare = match slug(wanted) {
            bare if bare.is_empty() => kind.kind().to_ascii_lowercase(),
            // A Service's name begins with a letter.
            bare if kind == Kind::Service && bare.starts_with(|c: char| c.is_ascii_digit()) => {
                format!("s-{bare}")
            }
            bare => bare,
        };
        let mut name = bare.clone();
        let mut number = 1_usize;
        while !self.taken.insert((kind, name.clone())) {
            number += 1;
            name = format!("{bare}-{number}");
        }
        name
    }

    /// Adds an object: `body` is what comes beside its metadata, mostly `{"spec": …}`.
    pub(crate) fn add(&mut self, kind: Kind, name: &str, body: Value) {
        self.labelled(kind, name, &Value::Null, body);
    }

    /// The same with more of its metadata: labels, annotations.
    pub(crate) fn labelled(&mut self, kind: Kind, name: &str, metadata: &Value, body: Value) {
        let mut full = Map::new();
        full.insert("name".to_owned(), json!(name));
        if kind.namespaced() {
            full.insert("namespace".to_owned(), json!(self.namespace));
        }
        full.extend(metadata.as_object().cloned().unwrap_or_default());
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), json!(kind.api_version()));
        object.insert("kind".to_owned(), json!(kind.kind()));
        object.insert("metadata".to_owned(), Value::Object(full));
        if let Value::Object(body) = body {
            object.extend(body);
        }
        self.objects.push(Value::Object(object));
    }

    /// Adds a Secret of texts.
    pub(crate) fn secret(&mut self, name: &str, entries: &BTreeMap<String, String>) {
        self.add(
            Kind::Secret,
            name,
            json!({"type": "Opaque", "stringData": entries}),
        );
    }

    /// Adds a Service for one host, a name or an address, and one port. `protocol` is its `appProtocol`.
    pub(crate) fn external(&mut self, name: &str, host: &str, port: u16, protocol: Option<&str>) {
        let mut entry = json!({"name": "main", "port": port});
        if let (Some(protocol), Some(fields)) = (protocol, entry.as_object_mut()) {
            fields.insert("appProtocol".to_owned(), json!(protocol));
        }
        let spec = json!({"type": "ExternalName", "externalName": host, "ports": [entry]});
        self.add(Kind::Service, name, json!({"spec": spec}));
    }

    /// Adds an AuthPlugin: `block` is its field ("keyAuth") and `config` what is in it.
    pub(crate) fn plugin(&mut self, name: &str, targets: &[Value], block: &str, config: Value) {
        let mut spec = Map::new();
        spec.insert("targetRefs".to_owned(), json!(targets));
        spec.insert(block.to_owned(), config);
        self.add(Kind::AuthPlugin, name, json!({"spec": spec}));
    }

    /// Says that something is not the same: `at` is where it stands in the file, `object` what the file calls it
    /// (`route "orders"`), `message` names the field, what is wrong and the remedy. It must not hold secrets.
    pub(crate) fn note(&mut self, at: &str, object: &str, message: impl Into<String>) {
        self.notes.push(Note {
            at: at.to_owned(),
            object: object.to_owned(),
            message: message.into(),
        });
    }

    /// The text of it all; `line_of` says where a field stands.
    ///
    /// # Errors
    /// It cannot be written as YAML.
    pub(crate) fn finish(mut self, line_of: impl Fn(&str) -> u32) -> Result<Imported, String> {
        let objects = std::mem::take(&mut self.objects);
        let (objects, refused) = settle::settle(objects);
        for (object, message) in refused {
            self.note("", &object, message);
        }
        let mut yaml = String::new();
        for object in &objects {
            if !yaml.is_empty() {
                yaml.push_str("---\n");
            }
            let text = serde_saphyr::to_string(object).map_err(|error| error.to_string())?;
            yaml.push_str(&text);
        }
        let mut notes: Vec<(u32, String)> = self
            .notes
            .iter()
            .map(|note| {
                let line = line_of(&note.at);
                let text = format!("{}: {}", note.object, note.message);
                (line, format!("{line}: {}", text.escape_debug_controls()))
            })
            .collect();
        notes.sort_by_key(|(line, _)| *line);
        notes.dedup();
        let notes = notes.into_iter().map(|(_, text)| text).collect();
        Ok(Imported { yaml, notes })
    }
}

/// A targetRef of an AuthPlugin.
pub(crate) fn target(kind: Kind, name: &str) -> Value {
    json!({"group": kind.group(), "kind": kind.kind(), "name": name})
}

/// Whether a text can be a name of a namespace.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 63
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether a Service of type ExternalName can have this host.
pub(crate) fn is_host(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || (text.len() <= 253 && text.trim_end_matches('.').split('.').all(is_label))
}

/// Lower-case letters, digits and hyphens of a text.
fn slug(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars().map(|letter| letter.to_ascii_lowercase()) {
        let letter = match letter {
            'a'..='z' | '0'..='9' => letter,
            _ => '-',
        };
        // Neither at the beginning nor twice.
        if letter != '-' || !(name.is_empty() || name.ends_with('-')) {
            name.push(letter);
        }
        if name.len() == LONGEST {
            break;
        }
    }
    name.trim_end_matches('-').to_owned()
}

/// Notes are one line each, whatever names are in them.
trait OneLine {
    fn escape_debug_controls(&self) -> String;
}

impl OneLine for String {
    fn escape_debug_controls(&self) -> String {
        self.chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_differ() {
        let mut manifests = Manifests::new("default");
        let long = "x".repeat(300);
        let wanted = ["Orders API", "orders-api", "--", "ü", "7up", &long, &long];
        let names: Vec<String> = wanted
            .iter()
            .map(|wanted| manifests.name(Kind::Service, wanted))
            .collect();
        assert_eq!(
            names[..5],
            [
                "orders-api",
                "orders-api-2",
                "service",
                "service-2",
                "s-7up"
            ]
        );
        let different: BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        assert!(names.iter().all(|name| is_label(name)), "{names:?}");
    }

    #[test]
    fn notes_are_in_the_order_of_the_file_and_one_line_each() {
        let mut manifests = Manifests::new("default");
        manifests.note("b", "route \"a\nb\"", "second");
        manifests.note("a", "service", "first");
        let imported = manifests
            .finish(|at| if at == "a" { 3 } else { 12 })
            .unwrap();
        assert_eq!(
            imported.notes,
            ["3: service: first", "12: route \"a b\": second"]
        );
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        for good in ["shop.test", "10.0.0.1", "::1", "[::1]", "a"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a b", "http://a", "a_b", "-a"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
