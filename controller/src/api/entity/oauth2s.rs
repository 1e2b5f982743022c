//! Applications that ask for tokens.

use std::collections::BTreeMap;

use compile::{Compiler, ObjectRef};
use crds::{ClientType, CredentialSpec};
use serde_json::{Map, Value, json};

use super::{Made, Proof, Seen, text};
use crate::api::names;
use crate::api::refused::Refused;

pub(super) struct OAuth2s;

/// The entry of the Secret that holds the application's secret.
const SECRET_ENTRY: &str = "clientSecret";

impl Proof for OAuth2s {
    fn flat(&self) -> &'static str {
        "oauth2"
    }

    fn nested(&self) -> &'static str {
        "oauth2"
    }

    fn entity(&self) -> &'static str {
        "oauth2_credentials"
    }

    fn block(&self) -> &'static str {
        "oauth2"
    }

    fn properties(&self) -> Value {
        json!({
            "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 253,
                "description": "What people call the application. Required."},
            "client_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 253, "pattern": "^[!-9;-~]+$",
                "description": "What it calls itself by in requests; generated when absent."},
            "client_secret": {"type": ["string", "null"], "minLength": 1, "maxLength": 65536,
                "description": "Generated when absent; none of public ones. Null where the caller may not read its Secret."},
            "client_type": {"type": ["string", "null"], "enum": ["confidential", "public", null],
                "description": "Default: confidential."},
            "hash_secret": {"type": ["boolean", "null"], "enum": [false, null],
                "description": "The secret is kept in a Secret; proxies know its digest alone, whatever is said here."},
            "redirect_uris": {"type": ["array", "null"], "maxItems": 32,
                "items": {"type": "string", "minLength": 1, "maxLength": 1024},
                "description": "Where its users may be sent to with a code or a token; compared byte for byte."},
        })
    }

    fn unique(&self) -> &'static str {
        "client_id"
    }

    fn unique_is_secret(&self) -> bool {
        false
    }

    fn secret(&self) -> (&'static str, &'static str) {
        ("client_secret", SECRET_ENTRY)
    }

    fn replaced(&self) -> &'static [&'static str] {
        &["redirect_uris"]
    }

    fn is(&self, spec: &CredentialSpec) -> bool {
        spec.oauth2.is_some()
    }

    fn show(&self, seen: &Seen<'_>) -> Map<String, Value> {
        let either =
            |own: &str, kongs: &str| seen.entry(None, own).or_else(|| seen.entry(None, kongs));
        let (name, id, secret, kind, uris) = match seen.object.credential() {
            Some(spec) => {
                let block = spec.oauth2.clone().unwrap_or_default();
                let confidential = block.client_type == ClientType::Confidential;
                let secret = confidential
                    .then(|| seen.entry(block.client_secret_ref.as_ref(), SECRET_ENTRY))
                    .flatten();
                let id = block.client_id.or_else(|| seen.entry(None, "clientId"));
                let (kind, uris) = (json!(block.client_type), json!(block.redirect_uris));
                (Some(block.name), id, secret, kind, uris)
            }
            None => (
                Some(seen.object.reference().name.to_string()),
                either("clientId", "client_id"),
                either(SECRET_ENTRY, "client_secret"),
                either("clientType", "client_type")
                    .map_or_else(|| json!("confidential"), Value::String),
                either("redirectUris", "redirect_uris").map_or_else(
                    || json!([]),
                    |uris| json!(uris.split_whitespace().collect::<Vec<_>>()),
                ),
            ),
        };
        Map::from_iter([
            ("name".to_owned(), json!(name)),
            ("client_id".to_owned(), json!(id)),
            ("client_secret".to_owned(), json!(secret)),
            ("client_type".to_owned(), kind),
            ("hash_secret".to_owned(), json!(false)),
            ("redirect_uris".to_owned(), uris),
        ])
    }

    fn holder<'a>(
        &self,
        compiler: &'a Compiler,
        namespace: &str,
        value: &str,
    ) -> Option<&'a ObjectRef> {
        compiler.client_id_holder(namespace, value)
    }

    fn make(
        &self,
        fields: &Map<String, Value>,
        before: &Value,
        secret: &str,
    ) -> Result<Made, Refused> {
        let mut block = match before {
            Value::Object(before) => before.clone(),
            _ => Map::new(),
        };
        let was_confidential = !before.is_null() && before["clientType"] != "public";
        for (field, name) in [("name", "name"), ("client_type", "clientType")] {
            if let Some(value) = text(fields, field) {
                block.insert(name.to_owned(), json!(value));
            }
        }
        if !block.contains_key("name") {
            return Err(Refused::violation("name", "required field missing"));
        }
        match text(fields, "client_id") {
            Some(id) => {
                block.insert("clientId".to_owned(), json!(id));
            }
            None if before.is_null() => {
                block.insert("clientId".to_owned(), json!(names::secret()?));
            }
            // The one that was there, or is generated, stays.
            None => {}
        }
        match fields.get("redirect_uris") {
            Some(Value::Null) => {
                block.remove("redirectUris");
            }
            Some(uris) => {
                block.insert("redirectUris".to_owned(), uris.clone());
            }
            None => {}
        }
        let given = text(fields, "client_secret").map(str::to_owned);
        let mut entries = BTreeMap::new();
        if block.get("clientType").is_some_and(|kind| kind == "public") {
            if given.is_some() {
                return Err(Refused::violation(
                    "client_secret",
                    "a public application has no secret",
                ));
            }
            block.remove("clientSecretRef");
        } else if given.is_some() || !was_confidential {
            let value = given.map_or_else(names::secret, Ok)?;
            let reference = json!({"name": secret, "key": SECRET_ENTRY});
            block.insert("clientSecretRef".to_owned(), reference);
            entries.insert(SECRET_ENTRY.to_owned(), value);
        }
        Ok(Made {
            block: Value::Object(block),
            entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &Value, fields: Value) -> Result<Made, Refused> {
        let Value::Object(fields) = fields else {
            panic!("{fields}")
        };
        OAuth2s.make(&fields, before, "own")
    }

    #[test]
    fn a_new_one_has_an_id_and_a_secret_unless_it_is_public() {
        let made = change(&Value::Null, json!({"name": "app"})).unwrap();
        assert_eq!(made.block["clientId"].as_str().map(str::len), Some(32));
        assert_eq!(made.block["clientSecretRef"]["name"], "own");
        assert_eq!(made.entries[SECRET_ENTRY].len(), 32);
        let public = json!({"name": "app", "client_type": "public", "client_id": "me"});
        let made = change(&Value::Null, public).unwrap();
        assert_eq!(made.block["clientId"], "me");
        assert!(made.block.get("clientSecretRef").is_none() && made.entries.is_empty());
        for bad in [
            json!({}),
            json!({"name": "app", "client_type": "public", "client_secret": "s"}),
        ] {
            assert!(change(&Value::Null, bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before = json!({"name": "app", "clientSecretRef": {"name": "s", "key": "e"}, "redirectUris": ["https://a/"]});
        let made = change(&before, json!({"name": "other"})).unwrap();
        assert_eq!(made.block["name"], "other");
        assert_eq!(made.block["clientSecretRef"]["name"], "s");
        assert_eq!(made.block["redirectUris"], json!(["https://a/"]));
        assert!(made.block.get("clientId").is_none() && made.entries.is_empty());
        let made = change(
            &before,
            json!({"client_secret": "new", "redirect_uris": null}),
        )
        .unwrap();
        assert_eq!(made.block["clientSecretRef"]["name"], "own");
        assert_eq!(made.entries[SECRET_ENTRY], "new");
        assert!(made.block.get("redirectUris").is_none());
        // Who had no secret gets one with the first need of it.
        let public = change(&before, json!({"client_type": "public"})).unwrap();
        assert!(public.block.get("clientSecretRef").is_none());
        let back = change(&public.block, json!({"client_type": "confidential"})).unwrap();
        assert_eq!(back.entries.len(), 1);
    }
}
