//! Fields that Kubernetes' own kinds do not have.
//!
//! Decoding passes over them, because an object may be newer than this program; but in a file they are mostly typing
//! errors, and the API server would warn of them.

use compile::Kind;
use gateway_api::apis::experimental::httproutes::HttpRoute;
use gateway_api::apis::standard::{
    backendtlspolicies::BackendTlsPolicy, gatewayclasses::GatewayClass, gateways::Gateway,
    grpcroutes::GrpcRoute, listenersets::ListenerSet, referencegrants::ReferenceGrant,
    tlsroutes::TlsRoute,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;

/// Paths of the unknown fields of an object; none for Postern's own kinds, which are decoded strictly.
pub(super) fn fields(kind: Kind, value: &Value) -> Vec<String> {
    match kind {
        Kind::Namespace => ignored_by::<Namespace>(value),
        Kind::GatewayClass => ignored_by::<GatewayClass>(value),
        Kind::Gateway => ignored_by::<Gateway>(value),
        Kind::HttpRoute => ignored_by::<HttpRoute>(value),
        Kind::GrpcRoute => ignored_by::<GrpcRoute>(value),
        Kind::TlsRoute => ignored_by::<TlsRoute>(value),
        Kind::ListenerSet => ignored_by::<ListenerSet>(value),
        Kind::ReferenceGrant => ignored_by::<ReferenceGrant>(value),
        Kind::BackendTlsPolicy => ignored_by::<BackendTlsPolicy>(value),
        Kind::IngressClass => ignored_by::<IngressClass>(value),
        Kind::Ingress => ignored_by::<Ingress>(value),
        Kind::Service => ignored_by::<Service>(value),
        Kind::EndpointSlice => ignored_by::<EndpointSlice>(value),
        Kind::Secret => ignored_by::<Secret>(value),
        Kind::ConfigMap => ignored_by::<ConfigMap>(value),
        Kind::Consumer | Kind::Credential | Kind::AuthPlugin | Kind::UpstreamPolicy => Vec::new(),
    }
}

fn ignored_by<T: DeserializeOwned>(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    // Where the value does not fit the type, decoding it in earnest says so.
    drop(serde_ignored::deserialize::<_, _, T>(value, |path| {
        found.push(written(&path))
    }));
    // Types that know what they are read neither.
    found.retain(|field| !matches!(field.as_str(), "apiVersion" | "kind"));
    found
}

fn written(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", written(parent)),
        Path::Map { parent, key } => {
            let mut text = written(parent);
            if !text.is_empty() {
                text.push('.');
            }
            text + key
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => written(parent),
    }
}
