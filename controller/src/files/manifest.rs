//! From a document to the objects in it.

use aws_lc_rs::digest;
use compile::{DecodeError, Kind, Level, Object, ObjectRef};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::document::Beginning;
use super::unknown;

/// One object of a document, before its metadata are filled in.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Where it stands in the document: empty, or "items[3]" in a list.
    pub(super) at: String,
    value: Value,
}

/// What became of a manifest.
#[derive(Debug)]
pub(super) enum Read {
    /// An object, possibly one whose fields do not fit ([`Object::unreadable`]).
    Object {
        object: Box<Object>,
        notes: Vec<Note>,
    },
    /// No object; where its name can be told, it is said.
    Refused {
        reference: Option<ObjectRef>,
        note: Note,
    },
}

/// Something about a manifest, for a [`super::Finding`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(super) level: Level,
    pub(crate) field: String,
    pub(crate) message: String,
}

/// What an API server would fill in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) created: jiff::Timestamp,
    pub(super) generation: i64,
}

/// The objects of a document: itself, or the items of a `List`.
pub(super) fn expand(document: Value) -> Vec<Manifest> {
    let kind = text(&document, "kind").to_owned();
    let Some(item_kind) = kind.strip_suffix("List") else {
        return vec![Manifest {
            at: String::new(),
            value: document,
        }];
    };
    let Value::Object(mut list) = document else {
        return Vec::new();
    };
    let api_version = list.remove("apiVersion").unwrap_or_default();
    let items = match list.remove("items") {
        Some(Value::Array(items)) => items,
        Some(Value::Null) => Vec::new(),
        // Not a list of objects after all; the decoder says what it is.
        _ => {
            list.insert("apiVersion".to_owned(), api_version);
            return vec![Manifest {
                at: String::new(),
                value: Value::Object(list),
            }];
        }
    };
    let typed = !item_kind.is_empty();
    items
        .into_iter()
        .enumerate()
        .map(|(index, mut value)| {
            // The items of an "HTTPRouteList" need not repeat what they are.
            if let (true, Value::Object(item)) = (typed, &mut value) {
                item.entry("apiVersion")
                    .or_insert_with(|| api_version.clone());
                item.entry("kind").or_insert_with(|| json!(item_kind));
            }
            Manifest {
                at: format!("items[{index}]"),
                value,
            }
        })
        .collect()
}

impl Manifest {
    /// Which object it is; None where that cannot be told or Postern does not read it.
    pub(super) fn reference(&self) -> Option<ObjectRef> {
        let (api_version, kind) = (text(&self.value, "apiVersion"), text(&self.value, "kind"));
        // Own kinds of another version are refused, but they are known.
        let kind = Kind::from_api(api_version, kind).or_else(|| Kind::own(api_version, kind))?;
        let metadata = self.value.get("metadata")?;
        let name = Some(text(metadata, "name")).filter(|name| !name.is_empty())?;
        let namespace = Some(text(metadata, "namespace")).filter(|name| !name.is_empty());
        Some(ObjectRef::new(kind, namespace.unwrap_or("default"), name))
    }

    /// The beginning of an AuthPlugin whose rest cannot be read, made so that it closes what it protects. None where not
    /// even its name is sure.
    pub(super) fn closing(beginning: Beginning) -> Option<Self> {
        let all_targets = beginning.has_all_of("targetRefs");
        let all_metadata = beginning.has_all_of("metadata");
        let mut value = beginning.value;
        let fields = value.as_object_mut()?;
        let unreadable = json!(format!("{}/unreadable", Kind::AuthPlugin.group()));
        fields.insert("apiVersion".to_owned(), unreadable);
        if !all_targets {
            // Nor is it known what it protects.
            fields.insert("spec".to_owned(), json!({"targetRefs": "unreadable"}));
        }
        let manifest = Self {
            at: String::new(),
            value,
        };
        let reference = manifest.reference().filter(|_| all_metadata)?;
        (reference.kind == Kind::AuthPlugin && check_names(&reference).is_ok()).then_some(manifest)
    }

    /// Whether it is meant to be an AuthPlugin, or one of Postern's kinds that nobody can tell.
    pub(super) fn may_protect(&self) -> bool {
        let (api_version, kind) = (text(&self.value, "apiVersion"), text(&self.value, "kind"));
        let ours = Kind::is_of_own_group(api_version);
        if mentions_of_auth_plugin(kind) > 0 {
            return ours || !api_version.contains('/');
        }
        ours && Kind::own(api_version, kind).is_none()
    }

    /// Tells one text from another.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        let bytes = serde_json::to_vec(&self.value).unwrap_or_default();
        for (to, from) in hash
            .iter_mut()
            .zip(digest::digest(&digest::SHA256, &bytes).as_ref())
        {
            *to = *from;
        }
        hash
    }

    /// Decodes it. `stamp` is what an API server would have said of an object of this name.
    pub(super) fn decode(mut self, reference: Option<&ObjectRef>, stamp: Stamp) -> Read {
        if let Some(reference) = reference {
            if let Err(note) = check_names(reference) {
                return Read::Refused {
                    reference: Some(reference.clone()),
                    note,
                };
            }
            self.fill_in(reference, stamp);
        }
        let mut notes = Vec::new();
        if let Some(kind) = reference
            .map(|reference| reference.kind)
            .filter(|kind| !kind.is_own())
        {
            notes.extend(
                unknown::fields(kind, &self.value)
                    .into_iter()
                    .map(|field| Note {
                        level: Level::Warning,
                        message: format!("unknown field of kind {kind}, passed over"),
                        field,
                    }),
            );
        }
        match Object::from_json(self.value) {
            Ok(object) => Read::Object {
                object: Box::new(object),
                notes,
            },
            Err(error) => refusal(reference, &error),
        }
    }

    fn fill_in(&mut self, reference: &ObjectRef, stamp: Stamp) {
        let Some(Value::Object(metadata)) = self.value.get_mut("metadata") else {
            return;
        };
        let ObjectRef {
            kind,
            namespace,
            name,
        } = reference;
        let id = format!("postern.dev/{}/{namespace}/{name}", kind.plural());
        let uid = Uuid::new_v5(&Uuid::NAMESPACE_URL, id.as_bytes());
        metadata.insert("uid".to_owned(), json!(uid.to_string()));
        metadata.insert(
            "creationTimestamp".to_owned(),
            json!(stamp.created.to_string()),
        );
        metadata.insert("generation".to_owned(), json!(stamp.generation));
        if kind.namespaced() {
            metadata.insert("namespace".to_owned(), json!(&**namespace));
        }
        // Exported objects bring their old life along; here they begin a new one.
        for stale in [
            "resourceVersion",
            "deletionTimestamp",
            "managedFields",
            "selfLink",
        ] {
            metadata.remove(stale);
        }
        if let Value::Object(fields) = &mut self.value {
            fields.remove("status");
        }
    }
}

/// How often a text names the kind, however its letters are written.
pub(super) fn mentions_of_auth_plugin(text: &str) -> usize {
    let kind = Kind::AuthPlugin.kind().as_bytes();
    text.as_bytes()
        .windows(kind.len())
        .filter(|window| window.eq_ignore_ascii_case(kind))
        .count()
}

fn refusal(reference: Option<&ObjectRef>, error: &DecodeError) -> Read {
    let (level, field, message) = match error {
        DecodeError::UnknownKind { api_version, .. } if Kind::is_of_own_group(api_version) => {
            (Level::Error, "kind".to_owned(), error.to_string())
        }
        DecodeError::UnknownKind { .. } => (
            Level::Warning,
            String::new(),
            format!("{error}; it is passed over"),
        ),
        DecodeError::Metadata { field, message, .. } => {
            (Level::Error, field.clone(), message.clone())
        }
        _ => (Level::Error, String::new(), error.to_string()),
    };
    Read::Refused {
        reference: reference.cloned(),
        note: Note {
            level,
            field,
            message,
        },
    }
}

/// Names are checked as an API server does: they become parts of keys, of file names and of messages.
pub(crate) fn check_names(reference: &ObjectRef) -> Result<(), Note> {
    let wrong = |field: &str, value: &str, limit: usize| Note {
        level: Level::Error,
        field: field.to_owned(),
        message: format!(
            "{value:?} is no valid name: at most {limit} lower-case letters, digits, '-'{}, a letter or digit at both ends",
            if limit > 63 { " and '.'" } else { "" }
        ),
    };
    if !is_label(&reference.namespace) && reference.kind.namespaced() {
        return Err(wrong("metadata.namespace", &reference.namespace, 63));
    }
    if reference.name.len() > 253 || !reference.name.split('.').all(|part| is_label_of(part, 253)) {
        return Err(wrong("metadata.name", &reference.name, 253));
    }
    Ok(())
}

/// Whether a text can be the name of a namespace (RFC 1123, section 2.1, in lower case).
pub(crate) fn is_label(text: &str) -> bool {
    is_label_of(text, 63)
}

fn is_label_of(text: &str, limit: usize) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= limit
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A Secret manifest.
pub(super) fn secret(
    reference: &ObjectRef,
    owner: &ObjectRef,
    owner_uid: &str,
    created: &str,
    entries: &Map<String, Value>,
) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": &*reference.name,
            "namespace": &*reference.namespace,
            "creationTimestamp": created,
            "ownerReferences": [{
                "apiVersion": owner.kind.api_version(),
                "kind": owner.kind.kind(),
                "name": &*owner.name,
                "uid": owner_uid,
                "controller": true,
            }],
        },
        "stringData": entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        created: jiff::Timestamp::UNIX_EPOCH,
        generation: 3,
    };

    fn one(value: Value) -> (Option<ObjectRef>, Read) {
        let manifest = expand(value).pop().unwrap();
        let reference = manifest.reference();
        (
            reference.clone(),
            manifest.decode(reference.as_ref(), STAMP),
        )
    }

    #[test]
    fn metadata_are_filled_in_as_an_api_server_would() {
        let (reference, read) = one(json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Consumer",
            "metadata": {"name": "alice", "uid": "other", "creationTimestamp": "2001-01-01T00:00:00Z"}, "spec": {}
        }));
        assert_eq!(reference.unwrap().to_string(), "Consumer default/alice");
        let Read::Object { object, notes } = read else {
            panic!("{read:?}")
        };
        assert_eq!(notes, []);
        assert_eq!(object.created(), 0);
        assert_eq!(object.generation(), 3);
        // uuid.uuid5(uuid.NAMESPACE_URL, "postern.dev/consumers/default/alice")
        assert_eq!(&**object.uid(), "7d17bed1-ed17-539e-bbc8-f3bc8d05c9d7");
    }

    #[test]
    fn lists_are_their_items() {
        let item = |name: &str| json!({"metadata": {"name": name}});
        let list = json!({"apiVersion": "postern.dev/v1alpha1", "kind": "ConsumerList", "items": [item("a"), item("b")]});
        let manifests = expand(list);
        assert_eq!(manifests.len(), 2);
        assert_eq!(manifests[1].at, "items[1]");
        assert_eq!(
            manifests[1].reference().unwrap().to_string(),
            "Consumer default/b"
        );
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [item("a")]});
        assert_eq!(expand(list)[0].reference(), None);
        assert_eq!(expand(json!({"apiVersion": "v1", "kind": "List"})).len(), 1);
    }

    #[test]
    fn what_is_no_object_is_refused_with_the_reason() {
        for (value, level, expected) in [
            (json!([1]), Level::Error, "mapping"),
            (json!({"kind": "Consumer"}), Level::Error, "apiVersion"),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
                Level::Warning,
                "Deployment of apps/v1",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}}),
                Level::Error,
                "metadata.name",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "../x"}}),
                Level::Error,
                "no valid name",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "a.b"}}),
                Level::Error,
                "no valid name",
            ),
        ] {
            let (_, read) = one(value.clone());
            let Read::Refused { note, .. } = read else {
                panic!("{value} is accepted")
            };
            assert_eq!(note.level, level, "{value}");
            assert!(note.message.contains(expected), "{value}: {}", note.message);
        }
    }

    #[test]
    fn unknown_fields_of_kubernetes_kinds_are_named() {
        let (_, read) = one(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "nmae": 1},
            "spec": {"ports": [{"port": 80, "protcol": "TCP"}]}
        }));
        let Read::Object { notes, .. } = read else {
            panic!("{read:?}")
        };
        let fields: Vec<_> = notes.iter().map(|note| note.field.as_str()).collect();
        assert_eq!(fields, ["metadata.nmae", "spec.ports[0].protcol"]);
        let (_, read) = one(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "x"},
            "spec": {"rules": [{"matches": [{"path": {"type": "Exact", "valeu": "/"}}], "backendRef": []}]}
        }));
        let Read::Object { notes, .. } = read else {
            panic!("{read:?}")
        };
        let fields: Vec<_> = notes.iter().map(|note| note.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.rules[0].backendRef",
                "spec.rules[0].matches[0].path.valeu"
            ]
        );
    }
}
