//! The one list of kinds that Postern reads, and how objects of them are decoded.

use std::sync::Arc;

use crds::{AuthPlugin, Consumer, Credential};
use gateway_api::apis::standard::{
    gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HTTPRoute, referencegrants::ReferenceGrant,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

/// A kind that Postern reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    GatewayClass,
    Gateway,
    HttpRoute,
    ReferenceGrant,
    IngressClass,
    Ingress,
    Service,
    EndpointSlice,
    Secret,
    ConfigMap,
    Consumer,
    Credential,
    AuthPlugin,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    pub kind: Kind,
    /// Empty for kinds without a namespace.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}
// filled in by the module's owner: Kind::{ALL, from_api(api_version, kind), api_version(), kind(), plural(), namespaced()},
// Object (an enum over Arc<T> of the kinds, plus Unreadable { reference, metadata, target_refs, error } for AuthPlugins and
// others whose fields do not fit), Object::from_json(serde_json::Value) -> Result<Object, DecodeError>, DecodeError { UnknownKind,
// NoName, ... with the path of the field }.
