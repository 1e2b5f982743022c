//! How objects are decoded, and what of them is kept.
//!
//! Only what the compiler reads is kept: a watch over a large cluster holds mostly metadata otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crds::{AuthPluginSpec, ConsumerSpec, CredentialSpec, UpstreamPolicySpec};
use gateway_api::apis::experimental::httproutes::HttpRouteSpec;
use gateway_api::apis::standard::backendtlspolicies::BackendTlsPolicySpec;
use gateway_api::apis::standard::gatewayclasses::GatewayClassSpec;
use gateway_api::apis::standard::gateways::GatewaySpec;
use gateway_api::apis::standard::referencegrants::ReferenceGrantSpec;
use k8s_openapi::api::networking::v1::{IngressClassSpec, IngressSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config_maps::ConfigMapBody;
use crate::endpoint_slices::Slice;
use crate::listener_sets::ListenerSetBody;
use crate::secrets::SecretBody;
use crate::services::ServiceBody;
use crate::{Kind, ObjectRef, grpc_routes, tls_routes};

/// An object, as far as Postern reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub(crate) reference: ObjectRef,
    pub(crate) meta: Meta,
    pub(crate) body: Body,
}

/// Metadata that matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    pub(crate) uid: Arc<str>,
    pub(crate) generation: i64,
    /// Seconds since 1970; 0 where nobody says.
    pub(crate) created: i64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// UIDs of the owners; kept for Secrets only.
    pub(crate) owners: Vec<String>,
}

/// What is particular to a kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// Namespace: that it exists, and its labels, is all that counts.
    Plain,
    GatewayClass(Box<GatewayClassSpec>),
    Gateway(Box<GatewaySpec>),
    ListenerSet(Box<ListenerSetBody>),
    /// A GRPCRoute or TLSRoute, too: each is read as the HTTPRoute that it means.
    HttpRoute(Box<HttpRouteSpec>),
    ReferenceGrant(Box<ReferenceGrantSpec>),
    BackendTlsPolicy(Box<BackendTlsPolicySpec>),
    IngressClass(Box<IngressClassSpec>),
    Ingress(Box<IngressSpec>),
    Service(Box<ServiceBody>),
    EndpointSlice(Box<Slice>),
    Secret(SecretBody),
    ConfigMap(ConfigMapBody),
    Consumer(Box<ConsumerSpec>),
    Credential(Box<CredentialSpec>),
    AuthPlugin(Box<AuthPluginSpec>),
    UpstreamPolicy(Box<UpstreamPolicySpec>),
    Unreadable(Box<Unreadable>),
}

/// An object whose fields do not fit. It is kept, because what it protects must be closed.
#[derive(Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Path of the field that does not fit ("spec.keyAuth.keyName").
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// The spec as it came, for what can still be made out of it.
    pub(crate) spec: Value,
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unreadable({}: {})", self.field, self.message)
    }
}

/// Why something cannot be taken as an object at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a mapping, or one without `apiVersion` or `kind`.
    #[error("not a Kubernetes object: {0}")]
    NotAnObject(&'static str),
    /// A kind that Postern does not read.
    #[error("Postern does not read kind {kind} of {api_version}")]
    UnknownKind { api_version: String, kind: String },
    /// `metadata.name` is missing or empty.
    #[error("{kind}: metadata.name is missing")]
    NoName { kind: Kind },
    /// The metadata do not fit.
    #[error("{reference}: {field}: {message}")]
    Metadata {
        reference: ObjectRef,
        field: String,
        message: String,
    },
}

impl Object {
    /// Decodes an object. Fields that do not fit make an object that [`Object::unreadable`] tells of; errors are for what
    /// cannot even be named. Objects without a namespace are in `default`.
    ///
    /// Postern's own kinds are taken strictly: a field that they do not have makes them unreadable. Kubernetes' kinds may
    /// have fields that are newer than this program.
    ///
    /// # Errors
    /// It has no kind, or none that Postern reads; it has no name; its metadata do not fit.
    pub fn from_json(value: Value) -> Result<Self, DecodeError> {
        let Value::Object(mut fields) = value else {
            return Err(DecodeError::NotAnObject("it is no mapping"));
        };
        let text = |name: &str| {
            fields
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (api_version, kind_name) = (text("apiVersion"), text("kind"));
        if api_version.is_empty() {
            return Err(DecodeError::NotAnObject("apiVersion is missing"));
        }
        if kind_name.is_empty() {
            return Err(DecodeError::NotAnObject("kind is missing"));
        }
        let known = Kind::from_api(&api_version, &kind_name);
        let Some(kind) = known.or_else(|| Kind::own(&api_version, &kind_name)) else {
            return Err(DecodeError::UnknownKind {
                api_version,
                kind: kind_name,
            });
        };
        let metadata = fields.remove("metadata").unwrap_or_default();
        let name = metadata
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if name.is_empty() {
            return Err(DecodeError::NoName { kind });
        }
        let namespace = metadata
            .get("namespace")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        let reference = ObjectRef::new(kind, namespace.unwrap_or("default"), name);
        let metadata = match decode::<ObjectMeta>("metadata", metadata) {
            Ok(metadata) => metadata,
            // What an AuthPlugin protects is closed, whatever about it cannot be read.
            Err(misfit) if kind.is_own() => {
                let body = Body::unreadable(misfit, fields.remove("spec").unwrap_or_default());
                return Ok(Self {
                    reference,
                    meta: Meta::default(),
                    body,
                });
            }
            Err(Misfit { field, message }) => {
                return Err(DecodeError::Metadata {
                    reference,
                    field,
                    message,
                });
            }
        };
        let meta = Meta::of(kind, metadata);
        let body = if known.is_none() {
            let message = format!("{kind_name} is of version {}", kind.api_version());
            let misfit = Misfit {
                field: "apiVersion".to_owned(),
                message,
            };
            Body::unreadable(misfit, fields.remove("spec").unwrap_or_default())
        } else {
            Body::decode(kind, fields)
        };
        Ok(Self {
            reference,
            meta,
            body,
        })
    }

    /// Which object it is.
    #[must_use]
    pub const fn reference(&self) -> &ObjectRef {
        &self.reference
    }

    /// `metadata.uid`; empty where there is none.
    #[must_use]
    pub const fn uid(&self) -> &Arc<str> {
        &self.meta.uid
    }

    /// `metadata.generation`; 0 where there is none.
    #[must_use]
    pub const fn generation(&self) -> i64 {
        self.meta.generation
    }

    /// `metadata.creationTimestamp` in seconds since 1970; 0 where there is none.
    #[must_use]
    pub const fn created(&self) -> i64 {
        self.meta.created
    }

    /// Why its fields do not fit, if they do not.
    #[must_use]
    pub const fn unreadable(&self) -> Option<&Unreadable> {
        match &self.body {
            Body::Unreadable(unreadable) => Some(unreadable),
            _ => None,
        }
    }

    /// Whether it is a Secret whose label says that it is a Credential.
    #[must_use]
    pub fn is_credential_secret(&self) -> bool {
        self.reference.kind == Kind::Secret
            && self
                .meta
                .labels
                .contains_key(crate::secrets::CREDENTIAL_LABEL)
    }

    /// Forgets the data of a Secret. [`crate::Compiler::missing_secret_data`] asks for them when they are needed.
    pub fn drop_secret_data(&mut self) {
        if let Body::Secret(secret) = &mut self.body {
            secret.data = None;
        }
    }
}

impl Meta {
    fn of(kind: Kind, metadata: ObjectMeta) -> Self {
        let mut labels = metadata.labels.unwrap_or_default();
        match kind {
            Kind::Namespace => {}
            Kind::Secret => labels.retain(|name, _| name.starts_with("postern.dev/")),
            Kind::EndpointSlice => {
                labels.retain(|name, _| name == crate::endpoint_slices::SERVICE_LABEL)
            }
            _ => labels.clear(),
        }
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations.retain(|name, _| {
            name.starts_with("postern.dev/")
                || name == crate::classes::CLASS_ANNOTATION
                || name == crate::classes::DEFAULT_ANNOTATION
        });
        let owners = match kind {
            Kind::Secret => metadata
                .owner_references
                .unwrap_or_default()
                .into_iter()
                .map(|owner| owner.uid)
                .collect(),
            _ => Vec::new(),
        };
        Self {
            uid: metadata.uid.unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata
                .creation_timestamp
                .map_or(0, |time| time.0.as_second()),
            labels,
            annotations,
            owners,
        }
    }
}

impl Body {
    fn decode(kind: Kind, mut fields: Map<String, Value>) -> Self {
        if kind.is_own() {
            let known = ["apiVersion", "kind", "spec", "status"];
            if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
                let unreadable = Unreadable {
                    field: unknown.clone(),
                    message: format!("unknown field; {kind} has metadata and spec"),
                    spec: fields.remove("spec").unwrap_or_default(),
                };
                return Self::Unreadable(Box::new(unreadable));
            }
            // As the API server does before its schema looks at the object.
            if let Some(spec) = fields.get_mut("spec") {
                crds::prune_nulls(spec);
            }
        }
        let spec = || {
            fields
                .remove("spec")
                .unwrap_or_else(|| Value::Object(Map::new()))
        };
        match kind {
            Kind::Namespace => Self::Plain,
            Kind::ConfigMap => match ConfigMapBody::decode(&mut fields) {
                Ok(config_map) => Self::ConfigMap(config_map),
                Err(error) => Self::unreadable(error, Value::Null),
            },
            Kind::GatewayClass => Self::of_spec(spec, Self::GatewayClass),
            Kind::Gateway => Self::of_spec(spec, Self::Gateway),
            Kind::HttpRoute => Self::of_spec(spec, Self::HttpRoute),
            Kind::ListenerSet => Self::of_spec(spec, Self::ListenerSet),
            Kind::TlsRoute => Self::of_spec(spec, |spec| {
                Self::HttpRoute(Box::new(tls_routes::as_http(*spec)))
            }),
            Kind::GrpcRoute => Self::of_spec(spec, |spec| {
                Self::HttpRoute(Box::new(grpc_routes::as_http(*spec)))
            }),
            Kind::ReferenceGrant => Self::of_spec(spec, Self::ReferenceGrant),
            Kind::BackendTlsPolicy => Self::of_spec(spec, Self::BackendTlsPolicy),
            Kind::IngressClass => Self::of_spec(spec, Self::IngressClass),
            Kind::Ingress => Self::of_spec(spec, Self::Ingress),
            Kind::Service => {
                Self::of_spec(spec, |spec| Self::Service(Box::new(ServiceBody::of(*spec))))
            }
            Kind::EndpointSlice => {
                Self::of_decoded(Slice::decode(Value::Object(fields)), Self::EndpointSlice)
            }
            Kind::Secret => match SecretBody::decode(&mut fields) {
                Ok(secret) => Self::Secret(secret),
                Err(error) => Self::unreadable(error, Value::Null),
            },
            Kind::Consumer => Self::of_spec(spec, Self::Consumer),
            Kind::Credential => Self::of_spec(spec, Self::Credential),
            Kind::AuthPlugin => Self::of_spec(spec, Self::AuthPlugin),
            Kind::UpstreamPolicy => Self::of_spec(spec, Self::UpstreamPolicy),
        }
    }

    fn of_spec<T: DeserializeOwned>(
        spec: impl FnOnce() -> Value,
        body: impl FnOnce(Box<T>) -> Self,
    ) -> Self {
        let spec = spec();
        match decode::<T>("spec", spec.clone()) {
            Ok(decoded) => body(Box::new(decoded)),
            Err(error) => Self::unreadable(error, spec),
        }
    }

    fn of_decoded<T>(decoded: Result<T, Misfit>, body: impl FnOnce(Box<T>) -> Self) -> Self {
        match decoded {
            Ok(decoded) => body(Box::new(decoded)),
            Err(error) => Self::unreadable(error, Value::Null),
        }
    }

    fn unreadable(Misfit { field, message }: Misfit, spec: Value) -> Self {
        Self::Unreadable(Box::new(Unreadable {
            field,
            message,
            spec,
        }))
    }
}

/// A field that does not fit its type.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) field: String,
    pub(crate) message: String,
}

/// Decodes a part of an object, and names the field where it does not fit.
pub(crate) fn decode<T: DeserializeOwned>(at: &str, value: Value) -> Result<T, Misfit> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let field = match inner.as_str() {
            "" | "." => at.to_owned(),
            _ if at.is_empty() => inner,
            _ => format!("{at}.{inner}"),
        };
        Misfit {
            field,
            message: without_value(&error.into_inner().to_string()),
        }
    })
}

/// What serde says of a misfit, without the value that does not fit: it may be a secret in the wrong place.
fn without_value(message: &str) -> String {
    let Some((what, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    // Names of fields and of choices are no values.
    if what.contains(" field `") || what.starts_with("unknown variant") {
        return message.to_owned();
    }
    let kind = what.split(['"', '`']).next().unwrap_or_default().trim_end();
    let expected = if expected.starts_with("struct ") {
        "an object"
    } else {
        expected
    };
    format!("{kind}, expected {expected}")
}
