//! Serves the snapshot to proxies: one gRPC stream each, over TLS.
//!
//! Nothing here knows Kubernetes but [`TokenReviews`], so that a [`Hub`] can serve wherever a snapshot comes from.

mod auth;
mod delta;
mod hub;
mod server;
mod service;
mod store;

pub use auth::{Authenticate, Denied, FixedTokens, Identity, TokenReviews};
pub use hub::{Changes, Hub, Progress, Proxy, stores};
pub use server::{Error, Limits, Server};
