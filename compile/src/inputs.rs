//! The objects there are, and who refers to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::AuthPluginSpec;
use gateway_api::apis::standard::backendtlspolicies::BackendTlsPolicySpec;
use gateway_api::apis::standard::gateways::{GatewayListeners, GatewaySpec};
use k8s_openapi::api::networking::v1::IngressSpec;
use plugins::{Reference, Source};

use crate::endpoint_slices::{SERVICE_LABEL, Slice};
use crate::object::Body;
use crate::secrets::SecretBody;
use crate::services::ServiceBody;
use crate::{Kind, Object, ObjectRef, credentials, listeners, trust};

pub(crate) type Table = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Object>>;

/// Namespace and name.
pub(crate) type ServiceName = (Arc<str>, Arc<str>);

/// All objects, by kind, namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    tables: BTreeMap<Kind, Table>,
    /// Who refers to an object, whether or not that exists. Kept for Secrets, ConfigMaps and Consumers, which there may be
    /// too many of to look at all of them whenever one changes.
    users: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
    /// EndpointSlices by namespace and name of the Service.
    slices: BTreeMap<ServiceName, BTreeSet<Arc<str>>>,
    /// Consumers with an annotation of ours.
    annotated_consumers: BTreeSet<ObjectRef>,
    /// Secrets whose data were dropped.
    without_data: BTreeSet<ObjectRef>,
}

/// Names plugins that are attached to the annotated object.
pub(crate) const PLUGINS_ANNOTATION: &str = "postern.dev/plugins";

impl Inputs {
    /// Takes an object in. None where it is the same as before; else what was there.
    pub(crate) fn apply(&mut self, object: Object) -> Option<Option<Object>> {
        let reference = object.reference.clone();
        let table = self.tables.entry(reference.kind).or_default();
        let names = table.entry(Arc::clone(&reference.namespace)).or_default();
        if names.get(&reference.name) == Some(&object) {
            return None;
        }
        let links = Links::of(&object);
        let old = names.insert(Arc::clone(&reference.name), object);
        if let Some(old) = &old {
            Links::of(old).remove(&reference, self);
        }
        links.add(&reference, self);
        Some(old)
    }

    /// Forgets an object, and returns it.
    pub(crate) fn delete(&mut self, reference: &ObjectRef) -> Option<Object> {
        let table = self.tables.get_mut(&reference.kind)?;
        let names = table.get_mut(&reference.namespace)?;
        let old = names.remove(&reference.name)?;
        if names.is_empty() {
            table.remove(&reference.namespace);
        }
        Links::of(&old).remove(reference, self);
        Some(old)
    }

    pub(crate) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.tables.get(&kind)?.get(namespace)?.get(name)
    }

    pub(crate) fn of(&self, reference: &ObjectRef) -> Option<&Object> {
        self.find(reference.kind, &reference.namespace, &reference.name)
    }

    /// All of a kind, by namespace and name.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.tables
            .get(&kind)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(BTreeMap::values)
    }

    pub(crate) fn table(&self, kind: Kind) -> Option<&Table> {
        self.tables.get(&kind)
    }

    /// The namespaces that hold objects of a kind.
    pub(crate) fn namespaces_with(&self, kind: Kind) -> impl Iterator<Item = &Arc<str>> {
        self.tables.get(&kind).into_iter().flat_map(BTreeMap::keys)
    }

    /// Who refers to a Secret, a ConfigMap or a Consumer.
    pub(crate) fn users(&self, reference: &ObjectRef) -> impl Iterator<Item = &ObjectRef> {
        self.users.get(reference).into_iter().flatten()
    }

    /// Consumers that name plugins themselves.
    pub(crate) fn annotated_consumers(&self) -> impl Iterator<Item = &Object> {
        self.annotated_consumers
            .iter()
            .filter_map(|reference| self.of(reference))
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&ServiceBody> {
        match &self.find(Kind::Service, namespace, name)?.body {
            Body::Service(service) => Some(service),
            _ => None,
        }
    }

    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<(&Object, &SecretBody)> {
        let object = self.find(Kind::Secret, namespace, name)?;
        match &object.body {
            Body::Secret(secret) => Some((object, secret)),
            _ => None,
        }
    }

    /// The slices of a Service, by name.
    pub(crate) fn slices(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Slice> {
        let key = (Arc::from(namespace), Arc::from(service));
        let names = self.slices.get(&key).into_iter().flatten();
        let slices = self
            .tables
            .get(&Kind::EndpointSlice)
            .and_then(|table| table.get(namespace));
        names.filter_map(move |name| match &slices?.get(name)?.body {
            Body::EndpointSlice(slice) => Some(&**slice),
            _ => None,
        })
    }

    /// How many objects of a kind a namespace holds.
    pub(crate) fn count(&self, kind: Kind, namespace: &str) -> usize {
        self.tables
            .get(&kind)
            .and_then(|table| table.get(namespace))
            .map_or(0, BTreeMap::len)
    }

    /// Whether something refers to a Secret or a Consumer.
    pub(crate) fn is_referred_to(&self, reference: &ObjectRef) -> bool {
        self.users.contains_key(reference)
    }

    /// Whether something refers to a Secret, or it is a Credential itself.
    pub(crate) fn needs_secret(&self, reference: &ObjectRef) -> bool {
        self.is_referred_to(reference)
            || self.of(reference).is_some_and(Object::is_credential_secret)
    }

    /// Forgets the data of the Secrets that an object, which changed or is gone, was the last to refer to.
    pub(crate) fn drop_needless_data(&mut self, old: &Object) {
        for secret in refers_to(old)
            .into_iter()
            .filter(|target| target.kind == Kind::Secret)
        {
            if self.needs_secret(&secret) {
                continue;
            }
            let table = self.tables.get_mut(&Kind::Secret);
            let names = table.and_then(|table| table.get_mut(&secret.namespace));
            if let Some(object) = names.and_then(|names| names.get_mut(&secret.name)) {
                object.drop_secret_data();
                self.without_data.insert(secret);
            }
        }
    }

    /// Secrets that are needed and whose data were dropped.
    pub(crate) fn missing_secret_data(&self) -> impl Iterator<Item = &ObjectRef> {
        self.without_data
            .iter()
            .filter(|reference| self.needs_secret(reference))
    }
}

/// What an object contributes to the indexes.
#[derive(Debug, Default)]
struct Links {
    refers_to: BTreeSet<ObjectRef>,
    slice_of: Option<ServiceName>,
    annotated: bool,
    without_data: bool,
}

impl Links {
    fn of(object: &Object) -> Self {
        let reference = &object.reference;
        let slice_of = object
            .meta
            .labels
            .get(SERVICE_LABEL)
            .filter(|_| reference.kind == Kind::EndpointSlice)
            .map(|service| {
                (
                    Arc::clone(&reference.namespace),
                    Arc::from(service.as_str()),
                )
            });
        let annotated = reference.kind == Kind::Consumer
            && object.meta.annotations.contains_key(PLUGINS_ANNOTATION);
        let without_data = matches!(&object.body, Body::Secret(secret) if secret.data.is_none());
        Self {
            refers_to: refers_to(object),
            slice_of,
            annotated,
            without_data,
        }
    }

    fn add(self, reference: &ObjectRef, inputs: &mut Inputs) {
        for target in self.refers_to {
            inputs
                .users
                .entry(target)
                .or_default()
                .insert(reference.clone());
        }
        if let Some(service) = self.slice_of {
            inputs
                .slices
                .entry(service)
                .or_default()
                .insert(Arc::clone(&reference.name));
        }
        if self.annotated {
            inputs.annotated_consumers.insert(reference.clone());
        }
        if self.without_data {
            inputs.without_data.insert(reference.clone());
        }
    }

    fn remove(self, reference: &ObjectRef, inputs: &mut Inputs) {
        for target in self.refers_to {
            if let Some(users) = inputs.users.get_mut(&target) {
                users.remove(reference);
                if users.is_empty() {
                    inputs.users.remove(&target);
                }
            }
        }
        if let Some(service) = self.slice_of
            && let Some(names) = inputs.slices.get_mut(&service)
        {
            names.remove(&reference.name);
            if names.is_empty() {
                inputs.slices.remove(&service);
            }
        }
        inputs.annotated_consumers.remove(reference);
        inputs.without_data.remove(reference);
    }
}

/// The Secrets, ConfigMaps and Consumers that an object names.
fn refers_to(object: &Object) -> BTreeSet<ObjectRef> {
    let namespace = &object.reference.namespace;
    match &object.body {
        Body::Gateway(gateway) => certificates_of_gateway(gateway, namespace),
        Body::ListenerSet(set) => certificates_of(&set.listeners, namespace).collect(),
        Body::BackendTlsPolicy(policy) => authorities_of_policy(policy, namespace),
        Body::Ingress(ingress) => certificates_of_ingress(ingress, namespace),
        Body::Credential(credential) => {
            let consumer = ObjectRef::new(Kind::Consumer, namespace, &credential.consumer_ref.name);
            let sources = credentials::sources(&object.reference, credential);
            sources.into_iter().chain([consumer]).collect()
        }
        Body::Secret(_) if object.is_credential_secret() => object
            .meta
            .annotations
            .get(crate::secrets::CONSUMER_ANNOTATION)
            .map(|name| ObjectRef::new(Kind::Consumer, namespace, name.trim()))
            .into_iter()
            .collect(),
        Body::AuthPlugin(plugin) => of_plugin(plugin, &object.reference),
        _ => BTreeSet::new(),
    }
}

/// Its anonymous Consumers, the Consumers that it is attached to, and whatever holds its values.
fn of_plugin(plugin: &AuthPluginSpec, own: &ObjectRef) -> BTreeSet<ObjectRef> {
    let namespace = &own.namespace;
    let here = |kind, name: &str| ObjectRef::new(kind, namespace, name);
    let mut found = BTreeSet::new();
    for config in plugin.configs() {
        let anonymous = config.anonymous();
        found.extend(anonymous.map(|consumer| here(Kind::Consumer, &consumer.name)));
        for Reference { source, .. } in config.references() {
            found.insert(match source {
                Source::Secret(at) => here(Kind::Secret, &at.name),
                Source::ConfigMap(at) => here(Kind::ConfigMap, &at.name),
                Source::Generated(_) => here(Kind::Secret, &own.name),
            });
        }
    }
    let targets = plugin.target_refs.iter();
    let consumers = targets.filter(|target| target.kind == "Consumer");
    found.extend(consumers.map(|target| {
        let namespace = target.namespace.as_deref().unwrap_or(namespace);
        ObjectRef::new(Kind::Consumer, namespace, &target.name)
    }));
    found
}

fn certificates_of<'a>(
    listeners: &'a [GatewayListeners],
    own: &'a str,
) -> impl Iterator<Item = ObjectRef> + 'a {
    let tls = listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref());
    tls.flat_map(|tls| tls.certificate_refs.iter().flatten())
        .map(move |certificate| {
            let namespace = certificate.namespace.as_deref().unwrap_or(own);
            ObjectRef::new(Kind::Secret, namespace, &certificate.name)
        })
}

fn certificates_of_gateway(gateway: &GatewaySpec, own: &str) -> BTreeSet<ObjectRef> {
    let backend = gateway.tls.as_ref().and_then(|tls| tls.backend.as_ref());
    let client = backend.and_then(|backend| backend.client_certificate_ref.as_ref());
    let client = client.map(|client| {
        let namespace = client.namespace.as_deref().unwrap_or(own);
        ObjectRef::new(Kind::Secret, namespace, &client.name)
    });
    let validations = listeners::validations(gateway);
    let authorities = validations
        .iter()
        .flat_map(|validation| &validation.ca_certificate_refs)
        .filter_map(|reference| {
            let kind = trust::kind_of(&reference.group, &reference.kind)?;
            let namespace = reference.namespace.as_deref().unwrap_or(own);
            Some(ObjectRef::new(kind, namespace, &reference.name))
        });
    certificates_of(&gateway.listeners, own)
        .chain(client)
        .chain(authorities)
        .collect()
}

fn authorities_of_policy(policy: &BackendTlsPolicySpec, own: &str) -> BTreeSet<ObjectRef> {
    let references = policy.validation.ca_certificate_refs.iter().flatten();
    references
        .filter_map(|reference| {
            let kind = trust::kind_of(&reference.group, &reference.kind)?;
            Some(ObjectRef::new(kind, own, &reference.name))
        })
        .collect()
}

fn certificates_of_ingress(ingress: &IngressSpec, namespace: &str) -> BTreeSet<ObjectRef> {
    let names = ingress
        .tls
        .iter()
        .flatten()
        .filter_map(|tls| tls.secret_name.as_deref());
    names
        .map(|name| ObjectRef::new(Kind::Secret, namespace, name))
        .collect()
}
