//! ACL: which groups of Consumers may pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Problem, Problems, schema};

#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(test)]
#[cfg(feature = "handlers")]
mod tests;

/// Lets only some groups of Consumers pass. Exactly one of `allow` and `deny`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::ALLOW_XOR_DENY])))]
pub struct Config {
    /// A Consumer of one of these groups may pass, nobody else; at most 64. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub allow: Vec<String>,
    /// A Consumer of one of these groups may not pass, every other Consumer may; at most 64. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub deny: Vec<String>,
    /// Do not tell the upstream the groups (X-Consumer-Groups). Default: false.
    pub hide_groups_header: bool,
}

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.items("allow", &self.allow, 0, 64, 128);
        problems.items("deny", &self.deny, 0, 64, 128);
        problems.rule(
            "",
            self.allow.is_empty() != self.deny.is_empty(),
            schema::ALLOW_XOR_DENY,
        );
        problems.0
    }
}
