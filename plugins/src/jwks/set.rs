//! A set of keys.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::key::{LeftOut, SetKey};
use crate::directory::digest_of;
use crate::jwt::{Algorithm, VerificationKey};

/// More keys than any issuer has; the others of a set are left out.
const MAX_KEYS: usize = 256;
/// How many keys one token may be tried with: each costs a verification.
const MAX_TRIES: usize = 8;

/// Why a set cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not an object of JSON with an array `keys`.
    #[error("not a JSON Web Key Set")]
    NoSet,
    /// It holds no key that verifies signatures.
    #[error("no key in it can be used to verify signatures")]
    NoKey,
}

impl Unusable {
    /// A constant for logs and metric labels.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoSet => "not_a_key_set",
            Self::NoKey => "no_usable_key",
        }
    }
}

/// The keys of a set that can verify.
#[derive(Debug)]
pub struct KeySet {
    keys: Box<[Arc<SetKey>]>,
    /// Of the whole text.
    digest: [u8; 32],
    left_out: Vec<(usize, LeftOut)>,
}

/// The keys that a token may be verified with.
#[derive(Debug)]
pub struct Candidates<'a> {
    set: &'a KeySet,
    kid: Option<&'a str>,
    algorithm: Algorithm,
}

impl KeySet {
    /// Reads a set. Keys that are also in `previous` stay the same, so that what was verified with them stays known.
    ///
    /// # Errors
    /// It is no set, or there is no key in it that can be used.
    pub fn parse(text: &[u8], previous: Option<&Self>) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let set: Set<'_> = serde_json::from_slice(text).map_err(|_| Unusable::NoSet)?;
        let mut keys: Vec<Arc<SetKey>> = Vec::new();
        let mut left_out = Vec::new();
        for (number, member) in set.keys.iter().enumerate() {
            if keys.len() == MAX_KEYS {
                break;
            }
            let known = previous.and_then(|previous| {
                let digest = digest_of(member.get().as_bytes());
                previous.keys.iter().find(|key| key.digest == digest)
            });
            match known.map_or_else(
                || SetKey::read(member.get()).map(Arc::new),
                |key| Ok(Arc::clone(key)),
            ) {
                // Given twice, it would be tried twice.
                Ok(key) if keys.iter().any(|other| other.digest == key.digest) => {}
                Ok(key) => keys.push(key),
                Err(why) => left_out.push((number, why)),
            }
        }
        if keys.is_empty() {
            return Err(Unusable::NoKey);
        }
        Ok(Self {
            keys: keys.into(),
            digest: digest_of(text),
            left_out,
        })
    }

    /// Whether this is the set of that text.
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        self.digest == digest_of(text)
    }

    /// The keys that a token may be verified with which names `kid`, or no key. The algorithm is the configuration's.
    #[must_use]
    pub const fn candidates<'a>(
        &'a self,
        kid: Option<&'a str>,
        algorithm: Algorithm,
    ) -> Candidates<'a> {
        Candidates {
            set: self,
            kid,
            algorithm,
        }
    }

    /// How many keys can be used.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set without keys is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether private keys were left out, which somebody has published.
    #[must_use]
    pub fn exposes_private_keys(&self) -> bool {
        self.left_out
            .iter()
            .any(|(_, why)| *why == LeftOut::Private)
    }

    /// How many keys were left out.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out.len()
    }
}

impl<'a> Candidates<'a> {
    /// Whether the set says by name which keys they are; another set may have others where not.
    #[must_use]
    pub fn are_named(&self) -> bool {
        let Some(kid) = self.kid else { return false };
        let mut keys = self.set.keys.iter();
        keys.any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The keys: those with the token's kid; those without any, where the set names none; all that fit, where the token
    /// names none. Never more than a few.
    pub fn keys(&self) -> impl Iterator<Item = &'a VerificationKey> + use<'a> {
        let (set, kid, algorithm) = (self.set, self.kid, self.algorithm);
        let nameless = set.keys.iter().all(|key| key.kid.is_none());
        set.keys
            .iter()
            .filter(move |key| match kid {
                Some(kid) if !nameless => key.kid.as_deref() == Some(kid),
                _ => true,
            })
            .filter_map(move |key| key.of(algorithm))
            .take(MAX_TRIES)
    }
}
