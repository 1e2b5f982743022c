//! Postern's plugins.
//!
//! One folder each: `mod.rs` (what it does, its configuration, the checks of it), `handler.rs` (what it does to a
//! request; behind the feature `handlers`) and `tests.rs` (configuration and request in, verdict out). A plugin's
//! configuration type is the block that users write in an `AuthPlugin`, is what the snapshot carries as JSON, and is
//! what the proxy builds the handler from: there is no other form of it.
//!
//! A new plugin is a folder and an entry in [`Type`], [`Config`] and, for the runtime, [`handler::Handler`].

pub mod acl;
pub mod any_of;
pub mod jwt;
pub mod key_auth;
pub mod oauth2;
pub mod openid_connect;
mod problem;
mod references;
mod registry;
pub mod schema;
mod types;
pub mod upstream_oauth;

#[cfg(feature = "handlers")]
mod client_assertion;
#[cfg(feature = "handlers")]
pub mod directory;
#[cfg(feature = "handlers")]
pub mod fields;
#[cfg(feature = "handlers")]
mod gate;
#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(feature = "handlers")]
pub mod jwks;

#[cfg(test)]
#[cfg(feature = "handlers")]
mod stage;

pub use problem::{Problem, Problems};
pub use references::{Reference, Source};
pub use registry::{Config, ConfigError, Type};
pub use types::{CaRef, CaRefKind, ConfigMapKeyRef, ObjectName, SecretKeyRef};
