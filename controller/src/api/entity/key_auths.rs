//! API keys.

use compile::{Compiler, ObjectRef};
use crds::CredentialSpec;
use serde_json::{Map, Value, json};

use super::{Made, Proof, Seen, text};
use crate::api::names;
use crate::api::refused::Refused;

pub(super) struct KeyAuths;

impl Proof for KeyAuths {
    fn flat(&self) -> &'static str {
        "key-auths"
    }

    fn nested(&self) -> &'static str {
        "key-auth"
    }

    fn entity(&self) -> &'static str {
        "keyauth_credentials"
    }

    fn block(&self) -> &'static str {
        "keyAuth"
    }

    fn properties(&self) -> Value {
        json!({
            "key": {"type": ["string", "null"], "minLength": 1, "maxLength": 4096,
                "description": "The API key; generated when absent. Null where it is not held, or the caller may not read its Secret."},
        })
    }

    fn unique(&self) -> &'static str {
        "key"
    }

    fn unique_is_secret(&self) -> bool {
        true
    }

    fn secret(&self) -> (&'static str, &'static str) {
        ("key", "key")
    }

    fn is(&self, spec: &CredentialSpec) -> bool {
        spec.key_auth.is_some()
    }

    fn show(&self, seen: &Seen<'_>) -> Map<String, Value> {
        let block = seen
            .object
            .credential()
            .and_then(|spec| spec.key_auth.as_ref());
        let hashed = block.is_some_and(|block| block.hash.is_some());
        let named = block.and_then(|block| block.secret_ref.as_ref());
        let key = (!hashed).then(|| seen.entry(named, "key")).flatten();
        Map::from_iter([("key".to_owned(), json!(key))])
    }

    fn holder<'a>(
        &self,
        compiler: &'a Compiler,
        namespace: &str,
        value: &str,
    ) -> Option<&'a ObjectRef> {
        compiler.api_key_holder(namespace, value)
    }

    fn make(
        &self,
        fields: &Map<String, Value>,
        before: &Value,
        secret: &str,
    ) -> Result<Made, Refused> {
        let key = match text(fields, "key") {
            Some(key) => key.to_owned(),
            None if !before.is_null() => {
                return Ok(Made {
                    block: before.clone(),
                    ..Made::default()
                });
            }
            None => names::secret()?,
        };
        Ok(Made {
            block: json!({"secretRef": {"name": secret, "key": "key"}}),
            entries: [("key".to_owned(), key)].into(),
        })
    }
}
