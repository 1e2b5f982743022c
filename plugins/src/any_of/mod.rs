//! Any of: several ways to prove who calls, tried in order; the first that succeeds counts.
//!
//! Each is a block like that of a plugin of its own, and does what that plugin does. What is different is what a failure
//! means: the next one is tried. Where none succeeds, the answer challenges for all of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ObjectName, Problem, Problems, Reference, Type, jwt, key_auth, schema};

#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(test)]
#[cfg(feature = "handlers")]
mod tests;

/// How many methods there may be.
const METHODS: usize = 8;

/// Callers prove themselves by any one of these methods, 1 to 8, tried in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend(
    "minItems" = 1,
    "maxItems" = METHODS,
    "x-kubernetes-validations" = schema::rules(&[schema::ANONYMOUS_LAST])
))]
pub struct Config(pub Vec<Method>);

/// One way for callers to prove themselves: exactly one block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::ONE_METHOD])))]
pub struct Method {
    /// An API key. Exactly one block must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_auth: Option<key_auth::Config>,
    /// A signed JSON Web Token. Exactly one block must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<jwt::Config>,
}

impl Method {
    /// The blocks that are given. [`Config::check`] accepts exactly one.
    #[must_use]
    pub fn configs(&self) -> Vec<crate::Config> {
        let key_auth = self.key_auth.clone().map(crate::Config::KeyAuth);
        let jwt = self.jwt.clone().map(crate::Config::Jwt);
        key_auth.into_iter().chain(jwt).collect()
    }

    fn anonymous(&self) -> Option<&ObjectName> {
        let key_auth = self.key_auth.as_ref().map(|block| &block.anonymous);
        let jwt = self.jwt.as_ref().map(|block| &block.anonymous);
        key_auth.or(jwt)?.as_ref()
    }
}

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        if self.0.is_empty() {
            problems.add("", "must name at least one method: keyAuth or jwt");
        } else if self.0.len() > METHODS {
            problems.add(
                "",
                format!(
                    "must name at most {METHODS} methods, it names {}",
                    self.0.len()
                ),
            );
        }
        for (index, method) in self.0.iter().enumerate() {
            let field = format!("[{index}]");
            let configs = method.configs();
            problems.rule(&field, configs.len() == 1, schema::ONE_METHOD);
            for config in configs {
                let block = format!("{field}.{}", config.kind().name());
                let found = config.check().into_iter();
                problems
                    .0
                    .extend(found.map(|problem| problem.within(&block)));
            }
        }
        let first = self
            .0
            .iter()
            .position(|method| method.anonymous().is_some());
        let last = first.is_none_or(|first| first + 1 == self.0.len());
        problems.rule("", last, schema::ANONYMOUS_LAST);
        problems.0
    }

    /// The Consumer that stands in where no method finds anybody: the last method's.
    #[must_use]
    pub fn anonymous(&self) -> Option<&ObjectName> {
        self.0.last()?.anonymous()
    }

    /// Path of the field that names it.
    pub(crate) fn anonymous_field(&self) -> Option<String> {
        let (index, last) = self.0.iter().enumerate().next_back()?;
        let kind = last.configs().first()?.kind();
        Some(format!("[{index}].{}.anonymous.name", kind.name()))
    }

    pub(crate) fn references(&self) -> Vec<Reference> {
        let mut all = Vec::new();
        for (index, method) in self.0.iter().enumerate() {
            for config in method.configs() {
                let block = format!("[{index}].{}", config.kind().name());
                let own = config.references().into_iter();
                all.extend(own.map(|reference| reference.within(&block)));
            }
        }
        all
    }

    /// The types of the methods, each once.
    #[must_use]
    pub fn kinds(&self) -> Vec<Type> {
        let all = self.0.iter().flat_map(Method::configs);
        let mut kinds: Vec<Type> = all.map(|config| config.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}
