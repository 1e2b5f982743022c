//! Applications of OAuth 2.0, by their client id.

use std::fmt;

use aws_lc_rs::constant_time;

use super::digest_of;
use super::named::{Lookup, Named};
use super::names::KeyId;

/// A credential of a Consumer: an application.
pub struct NewApplication<'a> {
    /// Of the credential's own key, "Credential/<namespace>/<name>".
    pub key: KeyId,
    /// The credential's namespace.
    pub namespace: &'a str,
    /// What tells the credential from every other that there was or will be.
    pub id: &'a str,
    /// What the application calls itself by; the upstream is told it too.
    pub client_id: &'a str,
    /// SHA-256 of its secret; none: it is public.
    pub secret: Option<[u8; 32]>,
    /// Where its users may be sent to with an answer.
    pub redirect_uris: Vec<Box<str>>,
    /// Of the Consumer's key, "Consumer/<namespace>/<name>"; whether or not that is there.
    pub consumer: KeyId,
    /// Seconds since 1970; 0: at once.
    pub not_before: i64,
    /// Seconds since 1970, excluded; 0: never.
    pub expires_at: i64,
}

/// What became of the look-up of a client id.
pub type ApplicationLookup<'a> = Lookup<'a, Application>;

/// An application, as the directory holds it.
pub struct Application {
    pub(super) client_id: Box<str>,
    pub(super) consumer: KeyId,
    key: KeyId,
    id: Box<str>,
    namespace: u32,
    secret: Option<[u8; 32]>,
    redirect_uris: Box<[Box<str>]>,
    not_before: i64,
    expires_at: i64,
}

impl fmt::Debug for NewApplication<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewApplication({})", self.client_id)
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Application({})", self.client_id)
    }
}

impl Application {
    pub(super) fn new(new: NewApplication<'_>, namespace: u32) -> Self {
        Self {
            client_id: new.client_id.into(),
            consumer: new.consumer,
            key: new.key,
            id: new.id.into(),
            namespace,
            secret: new.secret,
            redirect_uris: new.redirect_uris.into(),
            not_before: new.not_before,
            expires_at: new.expires_at,
        }
    }

    /// What tells it from every other application that there was or will be.
    #[must_use]
    pub const fn id(&self) -> &str {
        &self.id
    }

    /// What it calls itself by.
    #[must_use]
    pub const fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether it can keep no secret.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        self.secret.is_none()
    }

    /// Whether this is its secret.
    #[must_use]
    pub fn has_secret(&self, secret: &[u8]) -> bool {
        self.secret.is_some_and(|own| {
            constant_time::verify_slices_are_equal(&own, &digest_of(secret)).is_ok()
        })
    }

    /// Where its users may be sent to.
    #[must_use]
    pub const fn redirect_uris(&self) -> &[Box<str>] {
        &self.redirect_uris
    }
}

impl Named for Application {
    fn name(&self) -> &str {
        &self.client_id
    }

    fn id(&self) -> KeyId {
        self.key
    }

    fn namespace(&self) -> u32 {
        self.namespace
    }

    fn times(&self) -> (i64, i64) {
        (self.not_before, self.expires_at)
    }
}
