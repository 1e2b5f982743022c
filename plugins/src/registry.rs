//! The one list of plugins.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    ObjectName, Problem, Reference, acl, any_of, jwt, key_auth, oauth2, openid_connect,
    upstream_oauth,
};

/// The plugins there are, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Type {
    /// [`jwt`]
    Jwt,
    /// [`oauth2`]
    #[serde(rename = "oauth2")]
    OAuth2,
    /// [`key_auth`]
    KeyAuth,
    /// [`openid_connect`]
    OpenidConnect,
    /// [`any_of`]
    AnyOf,
    /// [`acl`]
    Acl,
    /// [`upstream_oauth`]
    UpstreamOauth,
}

impl Type {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 7] = [
        Self::Jwt,
        Self::OAuth2,
        Self::KeyAuth,
        Self::OpenidConnect,
        Self::AnyOf,
        Self::Acl,
        Self::UpstreamOauth,
    ];

    /// The name of the block in an `AuthPlugin`, of the type in the snapshot and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::OAuth2 => "oauth2",
            Self::KeyAuth => "keyAuth",
            Self::OpenidConnect => "openidConnect",
            Self::AnyOf => "anyOf",
            Self::Acl => "acl",
            Self::UpstreamOauth => "upstreamOauth",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it proves who calls; others build on that proof.
    #[must_use]
    pub const fn authenticates(self) -> bool {
        match self {
            Self::Jwt | Self::OAuth2 | Self::KeyAuth | Self::OpenidConnect | Self::AnyOf => true,
            Self::Acl | Self::UpstreamOauth => false,
        }
    }

    /// Whether an `AuthPlugin` of it may target a Consumer.
    #[must_use]
    pub const fn attaches_to_consumers(self) -> bool {
        match self {
            Self::Jwt | Self::OAuth2 | Self::KeyAuth | Self::OpenidConnect | Self::AnyOf => false,
            Self::Acl | Self::UpstreamOauth => true,
        }
    }
}

/// The configuration of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// [`jwt`]
    Jwt(jwt::Config),
    /// [`oauth2`]
    OAuth2(Box<oauth2::Config>),
    /// [`key_auth`]
    KeyAuth(key_auth::Config),
    /// [`openid_connect`]
    OpenidConnect(Box<openid_connect::Config>),
    /// [`any_of`]
    AnyOf(any_of::Config),
    /// [`acl`]
    Acl(acl::Config),
    /// [`upstream_oauth`]
    UpstreamOauth(Box<upstream_oauth::Config>),
}

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No plugin has this name.
    #[error("no plugin is called {0:?}")]
    UnknownType(String),
    /// The JSON does not fit the plugin's configuration.
    #[error("{kind}: {source}", kind = kind.name())]
    Unreadable {
        /// The plugin.
        kind: Type,
        /// What does not fit.
        source: serde_json::Error,
    },
}

impl Config {
    /// Reads the canonical JSON of the snapshot, or the block of an `AuthPlugin`.
    ///
    /// # Errors
    /// An unknown plugin, an unknown field or a value of the wrong type.
    pub fn from_json(kind: &str, json: &[u8]) -> Result<Self, ConfigError> {
        let kind =
            Type::from_name(kind).ok_or_else(|| ConfigError::UnknownType(kind.to_owned()))?;
        let read = match kind {
            Type::Jwt => serde_json::from_slice(json).map(Self::Jwt),
            Type::OAuth2 => serde_json::from_slice(json).map(Self::OAuth2),
            Type::KeyAuth => serde_json::from_slice(json).map(Self::KeyAuth),
            Type::OpenidConnect => serde_json::from_slice(json).map(Self::OpenidConnect),
            Type::AnyOf => serde_json::from_slice(json).map(Self::AnyOf),
            Type::Acl => serde_json::from_slice(json).map(Self::Acl),
            Type::UpstreamOauth => serde_json::from_slice(json).map(Self::UpstreamOauth),
        };
        read.map_err(|source| ConfigError::Unreadable { kind, source })
    }

    /// Whether it keeps tokens or sessions that every proxy has to see.
    #[must_use]
    pub fn shares_store(&self) -> bool {
        match self {
            Self::OAuth2(_) => true,
            Self::OpenidConnect(config) => !config.bearer_only,
            Self::AnyOf(_) => {
                let mut blocks = self.blocks().into_iter();
                blocks.any(|(_, config)| config.shares_store())
            }
            Self::Jwt(_) | Self::KeyAuth(_) | Self::Acl(_) | Self::UpstreamOauth(_) => false,
        }
    }

    /// The canonical JSON: fields in the order of the type, defaults written out.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let written = match self {
            Self::Jwt(config) => serde_json::to_vec(config),
            Self::OAuth2(config) => serde_json::to_vec(config),
            Self::KeyAuth(config) => serde_json::to_vec(config),
            Self::OpenidConnect(config) => serde_json::to_vec(config),
            Self::AnyOf(config) => serde_json::to_vec(config),
            Self::Acl(config) => serde_json::to_vec(config),
            Self::UpstreamOauth(config) => serde_json::to_vec(config),
        };
        // Writing plain structs to memory does not fail; an empty text would be refused by every reader.
        written.unwrap_or_default()
    }

    /// Which plugin this is of.
    #[must_use]
    pub const fn kind(&self) -> Type {
        match self {
            Self::Jwt(_) => Type::Jwt,
            Self::OAuth2(_) => Type::OAuth2,
            Self::KeyAuth(_) => Type::KeyAuth,
            Self::OpenidConnect(_) => Type::OpenidConnect,
            Self::AnyOf(_) => Type::AnyOf,
            Self::Acl(_) => Type::Acl,
            Self::UpstreamOauth(_) => Type::UpstreamOauth,
        }
    }

    /// Values that cannot be right. The API server's schema refuses most of them first; files have no API server.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        match self {
            Self::Jwt(config) => config.check(),
            Self::OAuth2(config) => config.check(),
            Self::KeyAuth(config) => config.check(),
            Self::OpenidConnect(config) => config.check(),
            Self::AnyOf(config) => config.check(),
            Self::Acl(config) => config.check(),
            Self::UpstreamOauth(config) => config.check(),
        }
    }

    /// The Consumer that stands in where nobody is authenticated.
    #[must_use]
    pub fn anonymous(&self) -> Option<&ObjectName> {
        match self {
            Self::Jwt(config) => config.anonymous.as_ref(),
            Self::OAuth2(config) => config.anonymous.as_ref(),
            Self::KeyAuth(config) => config.anonymous.as_ref(),
            Self::AnyOf(config) => config.anonymous(),
            Self::OpenidConnect(_) | Self::Acl(_) | Self::UpstreamOauth(_) => None,
        }
    }

    /// Path of the field that names it, from the object's spec on.
    #[must_use]
    pub fn anonymous_field(&self) -> String {
        let inner = match self {
            Self::AnyOf(config) => config.anonymous_field(),
            _ => None,
        };
        let kind = self.kind().name();
        inner.map_or_else(
            || format!("{kind}.anonymous.name"),
            |inner| format!("{kind}{inner}"),
        )
    }

    /// The blocks that it is made of, each with its path from the object's spec on: itself, or its methods.
    #[must_use]
    pub fn blocks(&self) -> Vec<(String, Cow<'_, Self>)> {
        let name = self.kind().name();
        match self {
            Self::AnyOf(config) => {
                let methods = config.blocks().into_iter();
                let named = |(block, config)| (format!("{name}{block}"), Cow::Owned(config));
                methods.map(named).collect()
            }
            _ => vec![(name.to_owned(), Cow::Borrowed(self))],
        }
    }

    /// The types of credentials that it looks up, by the plugins that they are for.
    #[must_use]
    pub fn credentials(&self) -> Vec<Type> {
        match self {
            Self::Jwt(_) | Self::OAuth2(_) | Self::KeyAuth(_) => vec![self.kind()],
            Self::AnyOf(config) => config.credentials(),
            Self::OpenidConnect(_) | Self::Acl(_) | Self::UpstreamOauth(_) => Vec::new(),
        }
    }

    /// The values that it needs and does not hold itself, each under the path of its field.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        match self {
            Self::OpenidConnect(config) => config.references(),
            Self::OAuth2(config) => config.references(),
            Self::Jwt(_) | Self::KeyAuth(_) | Self::Acl(_) => Vec::new(),
            Self::AnyOf(config) => config.references(),
            Self::UpstreamOauth(config) => config.references(),
        }
    }

    /// What is wrong with a value that the field refers to, in words that do not repeat it.
    #[must_use]
    pub fn check_value(&self, field: &str, value: &[u8]) -> Option<String> {
        match self {
            Self::OpenidConnect(_) => openid_connect::Config::check_value(field, value),
            Self::AnyOf(config) => config.check_value(field, value),
            Self::Jwt(_)
            | Self::OAuth2(_)
            | Self::KeyAuth(_)
            | Self::Acl(_)
            | Self::UpstreamOauth(_) => None,
        }
    }
}
