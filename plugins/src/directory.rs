//! Consumers and credentials, as the proxy holds them: written by the one task that takes snapshots in, read by every
//! worker without a lock.

use std::sync::Arc;

/// A set of namespaces whose credentials a plugin honours. Cheap to test.
#[derive(Debug, Clone, Default)]
pub struct Namespaces(Arc<[Box<str>]>);

impl Namespaces {
    /// From sorted names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = Box<str>>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether `name` is one of them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|own| **own == *name)
    }
}

/// A Consumer.
#[derive(Debug, Clone)]
pub struct ConsumerRef;

/// A credential's public identifier (`X-Credential-Identifier`).
#[derive(Debug, Clone)]
pub struct CredentialId;

/// What became of the look-up of an API key.
#[derive(Debug)]
pub enum KeyLookup {
    /// One credential in force.
    Found {
        /// Whose it is.
        consumer: ConsumerRef,
        /// Which it is.
        credential: CredentialId,
    },
    /// Nobody has it.
    Unknown,
    /// It is there, but no longer or not yet in force.
    OutOfTime,
    /// Two of the namespaces know it: refused, so that no tenant can pose as another.
    Ambiguous,
    /// Its Consumer does not exist.
    NoConsumer,
}

/// Consumers and credentials.
#[derive(Debug, Default)]
pub struct Directory {}

impl Directory {
    /// Looks an API key up by the SHA-256 of it.
    #[must_use]
    pub fn api_key(&self, _digest: &[u8; 32], _namespaces: &Namespaces, _now: i64) -> KeyLookup {
        KeyLookup::Unknown
    }

    /// The Consumer of a key "Consumer/<namespace>/<name>".
    #[must_use]
    pub fn consumer(&self, _key: &str) -> Option<ConsumerRef> {
        None
    }
}
