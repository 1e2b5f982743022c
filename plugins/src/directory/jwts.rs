//! JWT credentials, by the key that a claim of their tokens holds.

use std::fmt;

use super::named::{Lookup, Named};
use super::names::KeyId;
use crate::jwt::Verifier;

/// A credential of a Consumer: what verifies the signatures of tokens.
#[derive(Debug)]
pub struct NewJwt<'a> {
    /// Of the credential's own key, "Credential/<namespace>/<name>".
    pub id: KeyId,
    /// The credential's namespace.
    pub namespace: &'a str,
    /// What a token says to mean this credential; the upstream is told it too.
    pub name: &'a str,
    /// What verifies.
    pub verifier: Verifier,
    /// Of the Consumer's key, "Consumer/<namespace>/<name>"; whether or not that is there.
    pub consumer: KeyId,
    /// Seconds since 1970; 0: at once.
    pub not_before: i64,
    /// Seconds since 1970, excluded; 0: never.
    pub expires_at: i64,
}

/// What became of the look-up of a token's key.
pub type JwtLookup<'a> = Lookup<'a, JwtCredential>;

/// A JWT credential, as the directory holds it.
pub struct JwtCredential {
    pub(super) name: Box<str>,
    pub(super) consumer: KeyId,
    id: KeyId,
    namespace: u32,
    not_before: i64,
    expires_at: i64,
    verifier: Verifier,
}

impl fmt::Debug for JwtCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtCredential({})", self.name)
    }
}

impl JwtCredential {
    pub(super) fn new(new: NewJwt<'_>, namespace: u32) -> Self {
        Self {
            name: new.name.into(),
            consumer: new.consumer,
            id: new.id,
            namespace,
            not_before: new.not_before,
            expires_at: new.expires_at,
            verifier: new.verifier,
        }
    }

    /// What verifies.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

impl Named for JwtCredential {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> KeyId {
        self.id
    }

    fn namespace(&self) -> u32 {
        self.namespace
    }

    fn times(&self) -> (i64, i64) {
        (self.not_before, self.expires_at)
    }
}
