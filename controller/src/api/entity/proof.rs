//! What one type of credential adds to what all have.

use std::collections::BTreeMap;

use compile::{Compiler, Kind, Object, ObjectRef};
use crds::CredentialSpec;
use plugins::SecretKeyRef;
use serde_json::{Map, Value};

use crate::api::refused::Refused;

/// A type of credential. A new one is a file with an implementation, and a line in [`super::PROOFS`].
pub(crate) trait Proof: Send + Sync + 'static {
    /// Path of all of them: "key-auths".
    fn flat(&self) -> &'static str;
    /// Path of a Consumer's, and value of the label of Secrets that are such credentials: "key-auth".
    fn nested(&self) -> &'static str;
    /// Name in the list of tags: "`keyauth_credentials`".
    fn entity(&self) -> &'static str;
    /// The block of the Credential: "keyAuth".
    fn block(&self) -> &'static str;
    /// Schema of the fields that only this type has.
    fn properties(&self) -> Value;
    /// The field that no two may have the same of; lists can be filtered by it.
    fn unique(&self) -> &'static str;
    /// Whether that field is secret, and not to be repeated in an error.
    fn unique_is_secret(&self) -> bool;
    /// Secret field, and the entry of the Secret that holds it.
    fn secret(&self) -> (&'static str, &'static str);
    /// Fields that a PUT takes away where it does not name them, besides those of any type.
    fn replaced(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether a Credential is of this type.
    fn is(&self, spec: &CredentialSpec) -> bool;
    /// The fields that only this type has.
    fn show(&self, seen: &Seen<'_>) -> Map<String, Value>;
    /// The Credential that has a value of the unique field.
    fn holder<'a>(
        &self,
        compiler: &'a Compiler,
        namespace: &str,
        value: &str,
    ) -> Option<&'a ObjectRef>;
    /// The block with what a call changes; `before` is null for a new one. `secret` names the Secret of the Credential.
    fn make(
        &self,
        fields: &Map<String, Value>,
        before: &Value,
        secret: &str,
    ) -> Result<Made, Refused>;
}

/// What becomes of a call.
#[derive(Default)]
pub(crate) struct Made {
    /// The Credential's block.
    pub(crate) block: Value,
    /// Entries for its Secret.
    pub(crate) entries: BTreeMap<String, String>,
}

/// A Credential, and what may be shown of it.
pub(crate) struct Seen<'a> {
    pub(crate) compiler: &'a Compiler,
    /// A Credential, or a Secret that is one by its label.
    pub(crate) object: &'a Object,
    /// Whether the caller may see what is in Secrets.
    pub(crate) secrets: bool,
}

impl Seen<'_> {
    /// An entry of a Secret that the Credential names, of the one that is generated, or of the one that it is.
    pub(crate) fn entry(&self, named: Option<&SecretKeyRef>, own: &str) -> Option<String> {
        if !self.secrets {
            return None;
        }
        let reference = self.object.reference();
        let (name, entry) = match named {
            Some(named) => (named.name.as_str(), named.key.as_str()),
            None => (&*reference.name, own),
        };
        let secret = ObjectRef::new(Kind::Secret, &reference.namespace, name);
        let value = self.compiler.object(&secret)?.secret_entry(entry)?;
        // A Secret from a file often ends with a line break that is not part of the value.
        let text = std::str::from_utf8(value).ok()?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Some(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }
}
