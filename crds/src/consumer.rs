//! Consumer: who calls.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What is known of a caller.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "Consumer",
    plural = "consumers",
    namespaced,
    shortname = "pcon",
    category = "postern",
    status = "ConsumerStatus",
    derive = "PartialEq",
    doc = "A person or a program that calls through the gateway. Credentials prove who it is.",
    printcolumn(name = "Username", type_ = "string", json_path = ".spec.username"),
    printcolumn(
        name = "Credentials",
        type_ = "integer",
        json_path = ".status.credentials"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerSpec {
    /// Name that the upstream is told (X-Consumer-Username). Unique in the namespace. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = schema::rules(&[schema::NO_CONTROL])))]
    pub username: Option<String>,
    /// Id of the caller in another system (X-Consumer-Custom-ID). Unique in the namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = schema::rules(&[schema::NO_CONTROL])))]
    pub custom_id: Option<String>,
    /// UUID that the upstream is told (X-Consumer-ID), for ids carried over from another gateway. Default: the object's
    /// UID; from files a version 5 UUID of "postern.dev/consumers/NAMESPACE/NAME" in the URL namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36), extend("x-kubernetes-validations" = schema::rules(&[schema::UUID])))]
    pub id: Option<String>,
    /// Groups that the Consumer belongs to, for acl plugins and X-Consumer-Groups; at most 64, without commas. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 128)),
        extend("x-kubernetes-validations" = schema::rules(&[schema::GROUPS]))
    )]
    pub groups: Vec<String>,
    /// Free labels for people; the gateway does not act on them; at most 64. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub tags: Vec<String>,
}

/// What the gateway made of a Consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerStatus {
    /// The id in force, a UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub id: Option<String>,
    /// How many accepted Credentials prove this Consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<i32>,
    /// Accepted: the object is well formed and its names are free. Programmed: the connected proxies know it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
