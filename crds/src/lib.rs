//! Postern's own kinds: Consumer, Credential, `AuthPlugin` and `UpstreamPolicy` as Rust types, and the manifests that `kubectl apply -f crds/`
//! takes.
//!
//! The schemas that the API server checks objects against are generated from these types ([`manifests`]), CEL rules
//! included. Objects that come from files have seen no API server: [`ConsumerSpec::check`], [`CredentialSpec::check`],
//! [`AuthPluginSpec::check`] and [`UpstreamPolicySpec::check`] refuse the same values with the same words.

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column names its type"
)]

mod active_health;
mod auth_plugin;
mod check;
mod consumer;
mod credential;
mod manifest;
mod nulls;
mod schema;
mod upstream_policy;

#[cfg(test)]
mod tests;

pub use active_health::{ActiveHealth, GrpcProbe, HttpProbe};
pub use auth_plugin::{
    AuthPlugin, AuthPluginSpec, AuthPluginStatus, ConsumerNamespaces, IfDifferent,
    NamespaceSelector, NamespacesFrom, SelectorOperator, SelectorRequirement, TargetRef,
};
pub use check::{is_client_id, is_redirect_uri};
pub use consumer::{Consumer, ConsumerSpec, ConsumerStatus};
pub use credential::{
    ClientType, Credential, CredentialSpec, CredentialStatus, JwtCredential, KeyAuthCredential,
    OAuth2Credential,
};
pub use manifest::{ManifestError, definitions, manifests};
pub use nulls::prune_nulls;
pub use upstream_policy::{
    ConsistentHash, Empty, HashCookie, PassiveHealth, PolicyTarget, RetryBudget, UpstreamLimits,
    UpstreamPolicy, UpstreamPolicySpec, UpstreamPolicyStatus, UpstreamTimeouts, is_cookie_path,
    is_token,
};
