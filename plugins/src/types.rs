//! Types that several plugins' configurations use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of an object in the namespace of the object that names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectName {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One entry of a Secret in the namespace of the object that names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Entry of its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// One entry of a ConfigMap in the namespace of the object that names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Entry of its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// An entry that holds PEM certificates of certificate authorities, in a ConfigMap or Secret in the namespace of the object
/// that names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaRef {
    /// ConfigMap or Secret.
    pub kind: CaRefKind,
    /// Name of the ConfigMap or Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Entry of its data. Default: ca.crt.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}

/// What holds the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CaRefKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}
