//! What has to be compiled again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::endpoint_slices::SERVICE_LABEL;
use crate::inputs::{Inputs, PLUGINS_ANNOTATION};
use crate::{Kind, Object, ObjectRef, Settings};

/// Marks.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Listeners, routes, plugins, upstreams.
    pub(crate) everything: bool,
    /// Services whose addresses changed, by namespace and name.
    pub(crate) services: BTreeSet<(Arc<str>, Arc<str>)>,
    pub(crate) consumers: BTreeSet<ObjectRef>,
    /// Credentials, and Secrets that are Credentials.
    pub(crate) credentials: BTreeSet<ObjectRef>,
    /// Objects of kinds that nothing else reports about.
    pub(crate) unreadable: BTreeSet<ObjectRef>,
}

impl Dirty {
    /// An object appeared, changed or went away; `inputs` hold what is there now.
    pub(crate) fn changed(
        &mut self,
        inputs: &Inputs,
        settings: &Settings,
        reference: &ObjectRef,
        old: Option<&Object>,
    ) {
        let new = inputs.of(reference);
        let existence = old.is_some() != new.is_some();
        let both = || [old, new].into_iter().flatten();
        match reference.kind {
            Kind::Namespace
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::ListenerSet
            | Kind::HttpRoute
            | Kind::GrpcRoute
            | Kind::TlsRoute
            | Kind::ReferenceGrant
            | Kind::BackendTlsPolicy
            | Kind::IngressClass
            | Kind::Ingress
            | Kind::Service
            | Kind::AuthPlugin
            | Kind::UpstreamPolicy => self.everything = true,
            Kind::EndpointSlice => {
                let services = both().filter_map(|object| object.meta.labels.get(SERVICE_LABEL));
                let service =
                    |name: &String| (Arc::clone(&reference.namespace), Arc::from(name.as_str()));
                self.services.extend(services.map(service));
            }
            Kind::Secret => {
                if both().any(Object::is_credential_secret) {
                    self.credentials.insert(reference.clone());
                }
                self.used(inputs, reference);
            }
            Kind::ConfigMap => self.used(inputs, reference),
            Kind::Consumer => {
                self.consumers.insert(reference.clone());
                self.credentials_of(inputs, reference);
                let named = |object: Option<&Object>| {
                    object
                        .and_then(|object| object.meta.annotations.get(PLUGINS_ANNOTATION).cloned())
                };
                let plugins = inputs
                    .users(reference)
                    .any(|user| user.kind == Kind::AuthPlugin);
                self.everything |= (existence && plugins) || named(old) != named(new);
            }
            Kind::Credential => {
                self.credentials.insert(reference.clone());
            }
        }
        let reported_here = matches!(
            reference.kind,
            Kind::ReferenceGrant
                | Kind::Service
                | Kind::EndpointSlice
                | Kind::Secret
                | Kind::ConfigMap
        );
        if reported_here && both().any(|object| object.unreadable().is_some()) {
            self.unreadable.insert(reference.clone());
        }
        // From files, a namespace is one as soon as something is in it.
        let declares = matches!(
            reference.kind,
            Kind::Consumer | Kind::Credential | Kind::Secret
        );
        if settings.standalone && declares && existence {
            let others =
                inputs.count(reference.kind, &reference.namespace) - usize::from(new.is_some());
            self.everything |= others == 0;
        }
    }

    /// Whoever refers to a Secret or ConfigMap.
    fn used(&mut self, inputs: &Inputs, reference: &ObjectRef) {
        for user in inputs.users(reference) {
            match user.kind {
                Kind::Credential => {
                    self.credentials.insert(user.clone());
                }
                _ => self.everything = true,
            }
        }
    }

    /// The Credentials of a Consumer.
    pub(crate) fn credentials_of(&mut self, inputs: &Inputs, consumer: &ObjectRef) {
        let users = inputs
            .users(consumer)
            .filter(|user| matches!(user.kind, Kind::Credential | Kind::Secret));
        self.credentials.extend(users.cloned());
    }
}
