//! `AuthPlugin`: one step of authentication or authorization, attached to what it protects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use plugins::{Config, acl, any_of, jwt, key_auth, oauth2, openid_connect, upstream_oauth};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// One step of authentication or authorization, and what it protects.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "AuthPlugin",
    plural = "authplugins",
    namespaced,
    shortname = "pauth",
    category = "postern",
    status = "AuthPluginStatus",
    derive = "PartialEq",
    doc = "One step of authentication or authorization, attached to what it protects.",
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Resolved",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ResolvedRefs\")].status"
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
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    schema::ONE_PLUGIN,
    schema::CONSUMER_TARGET,
    schema::IF_DIFFERENT,
])))]
pub struct AuthPluginSpec {
    /// What it protects, 1 to 16 objects: in the same namespace, or in another one that permits it with a ReferenceGrant.
    /// Default: none, only annotations postern.dev/plugins attach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// Whether it counts at all. Default: true.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Whose Credentials count. Default: those of the plugin's own namespace.
    #[serde(default)]
    pub consumers: ConsumerNamespaces,
    /// Callers prove themselves with an API key. Exactly one plugin block must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_auth: Option<key_auth::Config>,
    /// Callers prove themselves with a signed JSON Web Token. Exactly one plugin block must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<jwt::Config>,
    /// Callers sign in at an OpenID provider, or present one of its access tokens. Exactly one plugin block must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openid_connect: Option<Box<openid_connect::Config>>,
    /// Callers prove themselves with an access token that this plugin issues. Exactly one plugin block must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<oauth2::Config>,
    /// Callers prove themselves by any one of these methods, 1 to 8, tried in this order. Exactly one plugin block must be
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of: Option<any_of::Config>,
    /// Only some groups of Consumers may pass. Exactly one plugin block must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<acl::Config>,
    /// The gateway gets an access token and sends it to the upstream. Exactly one plugin block must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_oauth: Option<Box<upstream_oauth::Config>>,
}

const fn enabled() -> bool {
    true
}

impl AuthPluginSpec {
    /// The configurations that are given. [`Self::check`] accepts exactly one.
    #[must_use]
    pub fn configs(&self) -> Vec<Config> {
        let key_auth = self.key_auth.clone().map(Config::KeyAuth);
        let jwt = self.jwt.clone().map(Config::Jwt);
        let oauth2 = self.oauth2.clone().map(Box::new).map(Config::OAuth2);
        let acl = self.acl.clone().map(Config::Acl);
        let openid_connect = self.openid_connect.clone().map(Config::OpenidConnect);
        let any_of = self.any_of.clone().map(Config::AnyOf);
        let upstream_oauth = self.upstream_oauth.clone().map(Config::UpstreamOauth);
        let authenticating = key_auth.into_iter().chain(jwt).chain(oauth2);
        let authenticating = authenticating.chain(openid_connect).chain(any_of);
        authenticating.chain(acl).chain(upstream_oauth).collect()
    }
}

/// An object that a plugin protects.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    schema::TARGET_KIND,
    schema::TARGET_SECTION,
    schema::TARGET_NAMESPACE,
])))]
pub struct TargetRef {
    /// API group: gateway.networking.k8s.io, networking.k8s.io (IngressClass, Ingress), postern.dev (Consumer) or ""
    /// (Service). Default: "".
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind: GatewayClass, Gateway, HTTPRoute, GRPCRoute, IngressClass, Ingress, Service, or for acl and upstreamOauth Consumer.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object. Default: the plugin's own. Another one must permit it with a ReferenceGrant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Name of a Gateway's listener, or of a rule of an HTTPRoute or GRPCRoute. Default: the whole object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}

/// The namespaces whose Consumers and Credentials count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::SELECTOR])))]
pub struct ConsumerNamespaces {
    /// Same: this namespace. All: every namespace. Selector: those whose labels the selector matches. A key that two of
    /// these namespaces know is refused. Default: Same.
    pub from: NamespacesFrom,
    /// Where a plugin that ran before has authenticated another Consumer: Replace: this plugin's Consumer counts.
    /// Refuse: the request is refused with 403. Default: Replace.
    pub if_different: IfDifferent,
    /// Labels of the namespaces; with from: Selector, and only then. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// What two credentials of different Consumers in one request mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum IfDifferent {
    #[default]
    Replace,
    Refuse,
}

/// How the namespaces are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum NamespacesFrom {
    #[default]
    Same,
    All,
    Selector,
}

/// Which labels a namespace must have: all of what is given. An empty selector matches every namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespaceSelector {
    /// Labels and the values that they must have; at most 16. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels; at most 16. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::SELECTOR_VALUES])))]
pub struct SelectorRequirement {
    /// Name of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In or NotIn (one of values), Exists or DoesNotExist (without values).
    pub operator: SelectorOperator,
    /// Values for In and NotIn; at most 16. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// What a label is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SelectorOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// What the gateway made of an `AuthPlugin`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthPluginStatus {
    /// Accepted: the object is well formed, its targets are there, and no older plugin of its type holds the same place.
    /// ResolvedRefs: everything it refers to is there. Programmed: the connected proxies enforce it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Name of the Secret that holds what was generated for it, if anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
}
