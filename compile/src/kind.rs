//! The one list of kinds that Postern reads.

use std::fmt;
use std::sync::Arc;

/// A kind that Postern reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    GatewayClass,
    Gateway,
    ListenerSet,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    ReferenceGrant,
    BackendTlsPolicy,
    IngressClass,
    Ingress,
    Service,
    EndpointSlice,
    Secret,
    ConfigMap,
    Consumer,
    Credential,
    AuthPlugin,
    UpstreamPolicy,
}

/// API group of the Gateway API.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// API group of Ingress.
pub(crate) const INGRESS_GROUP: &str = "networking.k8s.io";
/// Postern's own API group.
pub(crate) const OWN_GROUP: &str = "postern.dev";

impl Kind {
    /// All of them. Secrets come last: by then it is known whose data are needed. The result does not depend on the order.
    pub const ALL: [Self; 19] = [
        Self::Namespace,
        Self::GatewayClass,
        Self::Gateway,
        Self::ListenerSet,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::ReferenceGrant,
        Self::BackendTlsPolicy,
        Self::IngressClass,
        Self::Ingress,
        Self::Service,
        Self::EndpointSlice,
        Self::ConfigMap,
        Self::Consumer,
        Self::Credential,
        Self::AuthPlugin,
        Self::UpstreamPolicy,
        Self::Secret,
    ];

    /// The kind of an `apiVersion` and a `kind`, if Postern reads it.
    #[must_use]
    pub fn from_api(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Self::ALL.into_iter().find(|candidate| {
            candidate.kind() == kind
                && candidate.group() == group
                // What the Gateway API calls v1 today it served as v1beta1 for years, with the same fields.
                && (candidate.version() == version || (group == GATEWAY_GROUP && version == "v1beta1"))
        })
    }

    /// One of our own kinds, of whatever version: such objects are not overlooked.
    #[must_use]
    pub fn own(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|own| own.is_own() && Self::is_of_own_group(api_version) && own.kind() == kind)
    }

    /// Whether `api_version` is of Postern's own group, whatever the version.
    #[must_use]
    pub fn is_of_own_group(api_version: &str) -> bool {
        let group = api_version.split_once('/').map(|(group, _)| group);
        group.unwrap_or(api_version) == OWN_GROUP
    }

    /// Whether it says what of the traffic goes where.
    #[must_use]
    pub const fn is_route(self) -> bool {
        matches!(
            self,
            Self::HttpRoute | Self::GrpcRoute | Self::TlsRoute | Self::Ingress
        )
    }

    /// API group; empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Secret | Self::ConfigMap => "",
            Self::GatewayClass
            | Self::Gateway
            | Self::ListenerSet
            | Self::HttpRoute
            | Self::GrpcRoute
            | Self::TlsRoute
            | Self::ReferenceGrant
            | Self::BackendTlsPolicy => GATEWAY_GROUP,
            Self::IngressClass | Self::Ingress => INGRESS_GROUP,
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Consumer | Self::Credential | Self::AuthPlugin | Self::UpstreamPolicy => {
                OWN_GROUP
            }
        }
    }

    /// The version to read.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            _ if self.is_own() => "v1alpha1",
            _ => "v1",
        }
    }

    /// The `apiVersion` to read.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Secret | Self::ConfigMap => "v1",
            Self::GatewayClass
            | Self::Gateway
            | Self::ListenerSet
            | Self::HttpRoute
            | Self::GrpcRoute
            | Self::TlsRoute
            | Self::ReferenceGrant
            | Self::BackendTlsPolicy => "gateway.networking.k8s.io/v1",
            Self::IngressClass | Self::Ingress => "networking.k8s.io/v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::Consumer | Self::Credential | Self::AuthPlugin | Self::UpstreamPolicy => {
                "postern.dev/v1alpha1"
            }
        }
    }

    /// The `kind`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::ListenerSet => "ListenerSet",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::IngressClass => "IngressClass",
            Self::Ingress => "Ingress",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Consumer => "Consumer",
            Self::Credential => "Credential",
            Self::AuthPlugin => "AuthPlugin",
            Self::UpstreamPolicy => "UpstreamPolicy",
        }
    }

    /// The resource's name in URLs.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::GatewayClass => "gatewayclasses",
            Self::Gateway => "gateways",
            Self::HttpRoute => "httproutes",
            Self::ListenerSet => "listenersets",
            Self::GrpcRoute => "grpcroutes",
            Self::TlsRoute => "tlsroutes",
            Self::ReferenceGrant => "referencegrants",
            Self::BackendTlsPolicy => "backendtlspolicies",
            Self::IngressClass => "ingressclasses",
            Self::Ingress => "ingresses",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::Consumer => "consumers",
            Self::Credential => "credentials",
            Self::AuthPlugin => "authplugins",
            Self::UpstreamPolicy => "upstreampolicies",
        }
    }

    /// Whether objects of it live in namespaces.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        !matches!(
            self,
            Self::Namespace | Self::GatewayClass | Self::IngressClass
        )
    }

    /// Whether it is one of Postern's own, whose fields are all known.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(
            self,
            Self::Consumer | Self::Credential | Self::AuthPlugin | Self::UpstreamPolicy
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    pub kind: Kind,
    /// Empty for kinds without a namespace.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectRef {
    /// Refers to an object; for kinds without a namespace, `namespace` is ignored.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced() { namespace } else { "" };
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_own_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_api(kind.api_version(), kind.kind()), Some(kind));
            let expected = if kind.group().is_empty() {
                kind.version().to_owned()
            } else {
                format!("{}/{}", kind.group(), kind.version())
            };
            assert_eq!(kind.api_version(), expected);
        }
        assert_eq!(
            Kind::from_api("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"),
            Some(Kind::ReferenceGrant)
        );
        assert_eq!(Kind::from_api("networking.k8s.io/v1beta1", "Ingress"), None);
        assert_eq!(Kind::from_api("v1", "Pod"), None);
    }
}
