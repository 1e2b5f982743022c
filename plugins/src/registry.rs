//! The one list of plugins.

use serde::{Deserialize, Serialize};

use crate::{ObjectName, Problem, Reference, acl, jwt, key_auth, upstream_oauth};

/// The plugins there are, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Type {
    /// [`jwt`]
    Jwt,
    /// [`key_auth`]
    KeyAuth,
    /// [`acl`]
    Acl,
    /// [`upstream_oauth`]
    UpstreamOauth,
}

impl Type {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Jwt, Self::KeyAuth, Self::Acl, Self::UpstreamOauth];

    /// The name of the block in an `AuthPlugin`, of the type in the snapshot and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::KeyAuth => "keyAuth",
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
            Self::Jwt | Self::KeyAuth => true,
            Self::Acl | Self::UpstreamOauth => false,
        }
    }

    /// Whether an `AuthPlugin` of it may target a Consumer.
    #[must_use]
    pub const fn attaches_to_consumers(self) -> bool {
        match self {
            Self::Jwt | Self::KeyAuth => false,
            Self::Acl | Self::UpstreamOauth => true,
        }
    }
}

/// The configuration of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// [`jwt`]
    Jwt(jwt::Config),
    /// [`key_auth`]
    KeyAuth(key_auth::Config),
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
            Type::KeyAuth => serde_json::from_slice(json).map(Self::KeyAuth),
            Type::Acl => serde_json::from_slice(json).map(Self::Acl),
            Type::UpstreamOauth => serde_json::from_slice(json).map(Self::UpstreamOauth),
        };
        read.map_err(|source| ConfigError::Unreadable { kind, source })
    }

    /// The canonical JSON: fields in the order of the type, defaults written out.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let written = match self {
            Self::Jwt(config) => serde_json::to_vec(config),
            Self::KeyAuth(config) => serde_json::to_vec(config),
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
            Self::KeyAuth(_) => Type::KeyAuth,
            Self::Acl(_) => Type::Acl,
            Self::UpstreamOauth(_) => Type::UpstreamOauth,
        }
    }

    /// Values that cannot be right. The API server's schema refuses most of them first; files have no API server.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        match self {
            Self::Jwt(config) => config.check(),
            Self::KeyAuth(config) => config.check(),
            Self::Acl(config) => config.check(),
            Self::UpstreamOauth(config) => config.check(),
        }
    }

    /// The Consumer that stands in where nobody is authenticated.
    #[must_use]
    pub const fn anonymous(&self) -> Option<&ObjectName> {
        match self {
            Self::Jwt(config) => config.anonymous.as_ref(),
            Self::KeyAuth(config) => config.anonymous.as_ref(),
            Self::Acl(_) | Self::UpstreamOauth(_) => None,
        }
    }

    /// The values that it needs and does not hold itself, each under the path of its field.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        match self {
            Self::Jwt(_) | Self::KeyAuth(_) | Self::Acl(_) => Vec::new(),
            Self::UpstreamOauth(config) => config.references(),
        }
    }
}
