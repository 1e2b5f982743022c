//! OpenID Connect: callers sign in at a provider, or present one of its access tokens.

mod check;
mod config;

pub use config::{
    AudienceValidator, AuthMethod, ClaimValidator, Config, IssuerValidator, ProxyOpts,
    REDIRECT_SUFFIX, SameSite, Session, SessionContents, SessionCookie, Storage, UnauthAction,
};
