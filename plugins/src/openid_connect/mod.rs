//! OpenID Connect: callers sign in at a provider, or present one of its access tokens.
//!
//! Signing in is the authorization code flow with PKCE, state and nonce; who has signed in brings a session, sealed into
//! cookies or kept in the store. All calls go through one profile of the outbound client; what is known of the provider
//! is fetched when it is first needed, and kept through its outages.

#[cfg(feature = "handlers")]
mod answers;
#[cfg(feature = "handlers")]
mod authorization;
#[cfg(feature = "handlers")]
mod bearer;
#[cfg(feature = "handlers")]
mod callback;
mod check;
#[cfg(feature = "handlers")]
mod client;
mod config;
#[cfg(feature = "handlers")]
mod cookies;
#[cfg(feature = "handlers")]
mod core;
#[cfg(feature = "handlers")]
pub(crate) mod failure;
#[cfg(feature = "handlers")]
pub mod handler;
#[cfg(all(feature = "handlers", any(test, feature = "invariants")))]
pub mod invariants;
#[cfg(feature = "handlers")]
mod login;
#[cfg(feature = "handlers")]
mod logout;
#[cfg(feature = "handlers")]
mod opened;
#[cfg(feature = "handlers")]
mod provider;
#[cfg(feature = "handlers")]
mod renew;
#[cfg(feature = "handlers")]
mod seal;
#[cfg(feature = "handlers")]
mod session;
#[cfg(feature = "handlers")]
mod token;
#[cfg(feature = "handlers")]
mod tokens;
#[cfg(feature = "handlers")]
pub(crate) mod upstream;

pub use config::{
    AudienceValidator, AuthMethod, ClaimValidator, Config, IssuerValidator, ProxyOpts,
    REDIRECT_SUFFIX, SameSite, Session, SessionContents, SessionCookie, Storage, UnauthAction,
};
