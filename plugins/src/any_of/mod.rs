//! Any of: several ways to prove who calls, tried in order; the first that succeeds counts.
//!
//! Each is a block like that of a plugin of its own, and does what that plugin does. What is different is what a failure
//! means: the next one is tried. Where none succeeds, the answer challenges for all of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::openid_connect::UnauthAction;
use crate::{
    ObjectName, Problem, Problems, Reference, Type, jwt, key_auth, oauth2, openid_connect, schema,
};

#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(feature = "handlers")]
mod method;
#[cfg(test)]
#[cfg(feature = "handlers")]
mod tests;

/// How many methods there may be.
const METHODS: usize = 8;

/// Callers prove themselves by any one of these methods, 1 to 8, tried in this order; oauth2 and openidConnect may be there
/// once each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend(
    "minItems" = 1,
    "maxItems" = METHODS,
    "x-kubernetes-validations" = schema::rules(&[
        schema::ANONYMOUS_LAST,
        schema::PASS_LAST,
        schema::SIGN_IN_OR_ANONYMOUS,
        schema::ONE_OAUTH2,
        schema::ONE_OPENID_CONNECT,
    ])
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
    /// An access token that the plugin itself issues. Exactly one block must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<Box<oauth2::Config>>,
    /// A session with an OpenID provider, or one of its access tokens. Exactly one block must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openid_connect: Option<Box<openid_connect::Config>>,
}

impl Method {
    /// The blocks that are given. [`Config::check`] accepts exactly one.
    #[must_use]
    pub fn configs(&self) -> Vec<crate::Config> {
        let key_auth = self.key_auth.clone().map(crate::Config::KeyAuth);
        let jwt = self.jwt.clone().map(crate::Config::Jwt);
        let oauth2 = self.oauth2.clone().map(crate::Config::OAuth2);
        let openid_connect = self.openid_connect.clone();
        let openid_connect = openid_connect.map(crate::Config::OpenidConnect);
        let own = key_auth.into_iter().chain(jwt);
        own.chain(oauth2).chain(openid_connect).collect()
    }

    fn anonymous(&self) -> Option<&ObjectName> {
        let key_auth = self.key_auth.as_ref().map(|block| &block.anonymous);
        let jwt = self.jwt.as_ref().map(|block| &block.anonymous);
        let oauth2 = self.oauth2.as_ref().map(|block| &block.anonymous);
        key_auth.or(jwt).or(oauth2)?.as_ref()
    }

    /// What becomes of those who have no session, where the method is about sessions.
    fn unauth_action(&self) -> Option<UnauthAction> {
        let block = self.openid_connect.as_ref()?;
        (!block.bearer_only).then_some(block.unauth_action)
    }
}

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        if self.0.is_empty() {
            problems.add(
                "",
                "must name at least one method: keyAuth, jwt, oauth2 or openidConnect",
            );
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
        self.check_together(&mut problems);
        problems.0
    }

    /// What is wrong with methods that are right by themselves.
    fn check_together(&self, problems: &mut Problems) {
        let count = |fits: &dyn Fn(&Method) -> bool| self.0.iter().filter(|one| fits(one)).count();
        let last_only = |fits: &dyn Fn(&Method) -> bool| {
            let first = self.0.iter().position(fits);
            first.is_none_or(|first| first + 1 == self.0.len())
        };
        let anonymous = |method: &Method| method.anonymous().is_some();
        problems.rule("", last_only(&anonymous), schema::ANONYMOUS_LAST);
        let passes = |method: &Method| method.unauth_action() == Some(UnauthAction::Pass);
        problems.rule("", last_only(&passes), schema::PASS_LAST);
        let signs_in = |method: &Method| method.unauth_action() == Some(UnauthAction::Auth);
        let both = count(&signs_in) > 0 && count(&anonymous) > 0;
        problems.rule("", !both, schema::SIGN_IN_OR_ANONYMOUS);
        let oauth2 = count(&|method| method.oauth2.is_some());
        problems.rule("", oauth2 <= 1, schema::ONE_OAUTH2);
        let openid_connect = count(&|method| method.openid_connect.is_some());
        problems.rule("", openid_connect <= 1, schema::ONE_OPENID_CONNECT);
    }

    /// The Consumer that stands in where no method finds anybody: the last method's.
    #[must_use]
    pub fn anonymous(&self) -> Option<&ObjectName> {
        self.0.last()?.anonymous()
    }

    /// Path of the field that names it.
    pub(crate) fn anonymous_field(&self) -> Option<String> {
        let (block, _) = self.blocks().pop()?;
        Some(format!("{block}.anonymous.name"))
    }

    /// The blocks, each with its path from the list on.
    pub(crate) fn blocks(&self) -> Vec<(String, crate::Config)> {
        let methods = self.0.iter().enumerate();
        let of = |(index, method): (usize, &Method)| {
            let named = move |config: crate::Config| {
                (format!("[{index}].{}", config.kind().name()), config)
            };
            method.configs().into_iter().map(named)
        };
        methods.flat_map(of).collect()
    }

    pub(crate) fn references(&self) -> Vec<Reference> {
        let of = |(block, config): (String, crate::Config)| {
            let own = config.references().into_iter();
            own.map(move |reference| reference.within(&block))
        };
        self.blocks().into_iter().flat_map(of).collect()
    }

    /// See [`crate::Config::check_value`].
    pub(crate) fn check_value(&self, field: &str, value: &[u8]) -> Option<String> {
        self.blocks().into_iter().find_map(|(block, config)| {
            let own = field.strip_prefix(&block)?.strip_prefix('.')?;
            config.check_value(own, value)
        })
    }

    /// The types of credentials that its methods look up, each once.
    #[must_use]
    pub fn credentials(&self) -> Vec<Type> {
        let all = self.0.iter().flat_map(Method::configs);
        let mut kinds: Vec<Type> = all.flat_map(|config| config.credentials()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}
