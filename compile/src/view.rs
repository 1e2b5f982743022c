//! What others may ask of the objects that the compiler holds, so that nobody needs a second copy of them.

use std::ops::Bound;
use std::sync::Arc;

use aws_lc_rs::digest;
use crds::{AuthPluginSpec, ConsumerSpec, CredentialSpec};
use serde::Serialize;
use serde_json::Value;

use crate::keys::{Digest, Unique};
use crate::object::Body;
use crate::secrets::{CONSUMER_ANNOTATION, CREDENTIAL_LABEL};
use crate::{Compiler, Diagnostic, Kind, Object, ObjectRef, consumers};

impl Compiler {
    /// The object in force of that name.
    #[must_use]
    pub fn object(&self, reference: &ObjectRef) -> Option<&Object> {
        self.inputs().of(reference)
    }

    /// Objects of a kind by namespace and name, all or those of one namespace, behind the one named by `after`.
    pub fn objects<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let from = match (after, namespace) {
            (Some(after), _) => after,
            (None, Some(namespace)) => (namespace, ""),
            (None, None) => ("", ""),
        };
        let (first, skip): (Arc<str>, Arc<str>) = (from.0.into(), from.1.into());
        let only: Option<Arc<str>> = namespace.map(Into::into);
        let table = self.inputs().table(kind);
        let namespaces = table.into_iter().flat_map({
            let first = Arc::clone(&first);
            move |table| table.range((Bound::Included(first.clone()), Bound::Unbounded))
        });
        namespaces
            .take_while(move |(name, _)| only.as_ref().is_none_or(|only| only == *name))
            .flat_map(move |(name, objects)| {
                let start = if *name == first && !skip.is_empty() {
                    Bound::Excluded(Arc::clone(&skip))
                } else {
                    Bound::Unbounded
                };
                objects.range((start, Bound::Unbounded)).map(|(_, o)| o)
            })
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let table = self.inputs().table(kind);
        table
            .into_iter()
            .flat_map(|table| table.values())
            .map(|objects| objects.len())
            .sum()
    }

    /// The namespaces that hold objects of a kind.
    pub fn namespaces(&self, kind: Kind) -> impl Iterator<Item = &Arc<str>> {
        self.inputs().namespaces_with(kind)
    }

    /// Who refers to a Secret, a ConfigMap or a Consumer, by kind, namespace and name.
    pub fn referrers(&self, reference: &ObjectRef) -> impl Iterator<Item = &ObjectRef> {
        self.inputs().users(reference)
    }

    /// The Consumer of a namespace that has a value to itself; `field` is "username", "customId" or "id".
    #[must_use]
    pub fn consumer_with(&self, namespace: &str, field: &str, value: &str) -> Option<&ObjectRef> {
        self.claims().holder(namespace, field, value)
    }

    /// The Credential of a namespace that has this API key.
    #[must_use]
    pub fn api_key_holder(&self, namespace: &str, key: &str) -> Option<&ObjectRef> {
        let digest = digest::digest(&digest::SHA256, key.as_bytes());
        let digest = Digest::try_from(digest.as_ref()).ok()?;
        self.keys().holder(namespace, &Unique::ApiKey(digest))
    }

    /// The Credential of a namespace that tokens with this key claim mean.
    #[must_use]
    pub fn jwt_key_holder(&self, namespace: &str, key: &str) -> Option<&ObjectRef> {
        self.keys().holder(namespace, &Unique::JwtKey(key.into()))
    }

    /// The Credential of a namespace that is the application of this client id.
    #[must_use]
    pub fn client_id_holder(&self, namespace: &str, client_id: &str) -> Option<&ObjectRef> {
        self.keys()
            .holder(namespace, &Unique::ClientId(client_id.into()))
    }

    /// Whether everything that follows from a Consumer, Credential or AuthPlugin has been compiled.
    #[must_use]
    pub fn is_compiled(&self, reference: &ObjectRef) -> bool {
        let dirty = self.dirty();
        let alone = dirty.credentials.contains(reference) || dirty.consumers.contains(reference);
        !(alone || dirty.everything && reference.kind == Kind::AuthPlugin)
    }

    /// What is to be said of any object, sorted by object.
    #[must_use]
    pub fn all_diagnostics(&self) -> &[Diagnostic] {
        self.diagnostics()
    }

    /// What is to be said of an object.
    #[must_use]
    pub fn diagnostics_of(&self, reference: &ObjectRef) -> &[Diagnostic] {
        let all = self.diagnostics();
        let from = all.partition_point(|diagnostic| diagnostic.object < *reference);
        let to = all.partition_point(|diagnostic| diagnostic.object <= *reference);
        all.get(from..to).unwrap_or_default()
    }
}

impl Object {
    /// Its specification, where it is a readable Consumer.
    #[must_use]
    pub fn consumer(&self) -> Option<&ConsumerSpec> {
        match &self.body {
            Body::Consumer(spec) => Some(spec),
            _ => None,
        }
    }

    /// Its specification, where it is a readable Credential.
    #[must_use]
    pub fn credential(&self) -> Option<&CredentialSpec> {
        match &self.body {
            Body::Credential(spec) => Some(spec),
            _ => None,
        }
    }

    /// Its specification, where it is a readable AuthPlugin.
    #[must_use]
    pub fn auth_plugin(&self) -> Option<&AuthPluginSpec> {
        match &self.body {
            Body::AuthPlugin(spec) => Some(spec),
            _ => None,
        }
    }

    /// The type of Credential that a Secret is by its label, and the Consumer that it names.
    #[must_use]
    pub fn credential_secret(&self) -> Option<(&str, &str)> {
        if !self.is_credential_secret() {
            return None;
        }
        let kind = self.meta.labels.get(CREDENTIAL_LABEL)?;
        Some((kind, self.annotation(CONSUMER_ANNOTATION)?.trim()))
    }

    /// What is kept of its specification; null where it has none, or it cannot be read.
    #[must_use]
    pub fn spec(&self) -> Value {
        fn json(spec: impl Serialize) -> Value {
            serde_json::to_value(spec).unwrap_or_default()
        }
        match &self.body {
            Body::GatewayClass(spec) => json(spec),
            Body::Gateway(spec) => json(spec),
            Body::HttpRoute(spec) => json(spec),
            Body::IngressClass(spec) => json(spec),
            Body::Ingress(spec) => json(spec),
            Body::Service(service) => service.view(),
            Body::Consumer(spec) => json(spec),
            Body::Credential(spec) => json(spec),
            Body::AuthPlugin(spec) => json(spec),
            Body::UpstreamPolicy(spec) => json(spec),
            _ => Value::Null,
        }
    }

    /// An entry of a Secret whose data are held.
    #[must_use]
    pub fn secret_entry(&self, name: &str) -> Option<&[u8]> {
        match &self.body {
            Body::Secret(secret) => secret.data.as_ref()?.get(name).map(Vec::as_slice),
            _ => None,
        }
    }

    /// An annotation, of those that Postern reads.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.meta.annotations.get(name).map(String::as_str)
    }

    /// The annotations that Postern reads.
    #[must_use]
    pub const fn annotations(&self) -> &std::collections::BTreeMap<String, String> {
        &self.meta.annotations
    }

    /// A label of Postern's own.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.meta.labels.get(name).map(String::as_str)
    }

    /// Whether it is a Secret that an object of that UID owns.
    #[must_use]
    pub fn is_owned_by(&self, uid: &str) -> bool {
        self.meta.owners.iter().any(|owner| owner == uid)
    }

    /// The id that the gateway tells of: a Consumer's own, or the object's UID.
    #[must_use]
    pub fn id(&self) -> String {
        match &self.body {
            Body::Consumer(spec) => consumers::id(self, spec),
            // It counts as one, in the data plane too.
            _ if self.is_credential_secret() => {
                consumers::default_id(self, Kind::Credential.plural())
            }
            _ => consumers::default_id(self, self.reference.kind.plural()),
        }
    }

    /// Whether it says the same, whenever and by whom it was made.
    #[must_use]
    pub fn says_what(&self, other: &Self) -> bool {
        self.reference == other.reference
            && self.body == other.body
            && self.meta.annotations == other.meta.annotations
            && self.meta.labels == other.meta.labels
    }
}
