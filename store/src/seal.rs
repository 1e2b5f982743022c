//! Contents under keys.
//!
//! A sealed value is `format (1) || id of the sealing key (4) || nonce (12) || ciphertext || tag (16)`. Each entry has a key of
//! its own, derived from the sealing key and the entry's [`Key`]: nonces are random, and one entry is written far less
//! often than random nonces are good for, however busy the store is. What was sealed for one entry opens in no other.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{Key, Version};

/// The only form of sealed values so far.
const FORMAT: u8 = 1;
/// What stands first in a lease.
const LEASE: u8 = 2;
/// Where the nonce begins, which is also what tells one write from another.
pub(crate) const NONCE_AT: usize = 5;
const HEAD: usize = NONCE_AT + NONCE_LEN;
const TAG: usize = 16;

/// Shortest secret that a sealing key is made of.
const SHORTEST: usize = 32;

/// The keys that contents are sealed with: one seals, all open.
///
/// To rotate, give all proxies the new key as the last one, then as the first one, and when all that was sealed with
/// the old one has expired, without the old one.
#[derive(Clone)]
pub struct SealingKeys(Arc<[SealingKey]>);

struct SealingKey {
    id: [u8; 4],
    secret: Prk,
}

/// Secrets that no key can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealingKeyError {
    /// There is none.
    #[error("no sealing key is given")]
    None,
    /// One is too short.
    #[error("a sealing key has {0} bytes; at least 32 are needed")]
    Short(usize),
    /// The same one twice.
    #[error("two sealing keys are equal")]
    Twice,
    /// The system has no random numbers.
    #[error("there is no randomness")]
    Randomness,
}

/// A value that no key of ours has sealed for this entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

impl SealingKeys {
    /// Keys of secrets of at least 32 bytes; the first one seals.
    ///
    /// # Errors
    /// There is no secret, or a short one, or one twice.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Result<Self, SealingKeyError> {
        let mut keys: Vec<SealingKey> = Vec::with_capacity(secrets.len());
        for secret in secrets {
            let secret = secret.as_ref();
            if secret.len() < SHORTEST {
                return Err(SealingKeyError::Short(secret.len()));
            }
            let key = SealingKey::new(secret).ok_or(SealingKeyError::Randomness)?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(SealingKeyError::Twice);
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(SealingKeyError::None);
        }
        Ok(Self(keys.into()))
    }

    /// A random key, for what need not be read after the process has ended.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self, SealingKeyError> {
        let mut secret = Zeroizing::new([0; SHORTEST]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| SealingKeyError::Randomness)?;
        Self::new(&[&*secret])
    }

    pub(crate) fn seal(&self, key: &Key, value: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let sealing = self.0.first().ok_or(Unreadable)?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Unreadable)?;
        let mut blob = Vec::with_capacity(HEAD + value.len() + TAG);
        blob.push(FORMAT);
        blob.extend_from_slice(&sealing.id);
        blob.extend_from_slice(&nonce);
        let aad = aad(&blob, key);
        blob.extend_from_slice(value);
        let (_, text) = blob.split_at_mut_checked(HEAD).ok_or(Unreadable)?;
        let tag = sealing
            .of_entry(key)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, text)
            .map_err(|_| Unreadable)?;
        blob.extend_from_slice(tag.as_ref());
        Ok(blob)
    }

    pub(crate) fn open(
        &self,
        key: &Key,
        mut blob: Vec<u8>,
    ) -> Result<(Bytes, Version), Unreadable> {
        let (head, text) = blob.split_at_mut_checked(HEAD).ok_or(Unreadable)?;
        let [FORMAT, id @ .., _, _, _, _, _, _, _, _, _, _, _, _] = head else {
            return Err(Unreadable);
        };
        let sealing = self.0.iter().find(|sealing| sealing.id == *id);
        let version = version(head).ok_or(Unreadable)?;
        let length = sealing
            .ok_or(Unreadable)?
            .of_entry(key)?
            .open_in_place(
                Nonce::assume_unique_for_key(version.0),
                aad(head, key),
                text,
            )
            .map_err(|_| Unreadable)?
            .len();
        blob.truncate(HEAD + length);
        Ok((Bytes::from(blob).slice(HEAD..), version))
    }
}

/// What a lease holds: its holder's digest, in a form that is no sealed value's.
pub(crate) fn mark(holder: &[u8]) -> Vec<u8> {
    let holder = Key::of("lease holder", holder);
    [&[LEASE][..], holder.as_bytes()].concat()
}

/// Whether something is what a lease holds.
pub(crate) fn is_mark(value: &[u8]) -> bool {
    value.len() == 33 && value.first() == Some(&LEASE)
}

/// What tells a sealed value from all others.
pub(crate) fn version(blob: &[u8]) -> Option<Version> {
    let nonce = blob.get(NONCE_AT..HEAD)?;
    nonce.try_into().ok().map(Version)
}

impl SealingKey {
    fn new(secret: &[u8]) -> Option<Self> {
        let secret = Salt::new(HKDF_SHA256, b"postern store").extract(secret);
        let mut id = [0; 32];
        let okm = secret.expand(&[b"key id"], Length).ok()?;
        okm.fill(&mut id).ok()?;
        let [a, b, c, d, ..] = id;
        Some(Self {
            id: [a, b, c, d],
            secret,
        })
    }

    fn of_entry(&self, key: &Key) -> Result<LessSafeKey, Unreadable> {
        let mut own = Zeroizing::new([0; 32]);
        self.secret
            .expand(&[b"entry", key.as_bytes()], Length)
            .and_then(|okm| okm.fill(&mut *own))
            .map_err(|_| Unreadable)?;
        UnboundKey::new(&AES_256_GCM, &*own)
            .map(LessSafeKey::new)
            .map_err(|_| Unreadable)
    }
}

/// Format, key id and the entry's key; the nonce is bound by itself.
fn aad(head: &[u8], key: &Key) -> Aad<[u8; NONCE_AT + 32]> {
    let mut aad = [0; NONCE_AT + 32];
    let bound = head.iter().take(NONCE_AT).chain(key.as_bytes());
    for (to, from) in aad.iter_mut().zip(bound) {
        *to = *from;
    }
    Aad::from(aad)
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({}, redacted)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[[u8; 32]]) -> SealingKeys {
        SealingKeys::new(secrets).unwrap()
    }

    #[test]
    fn what_was_sealed_opens() {
        let key = Key::of("test", b"a");
        for length in [0, 1, 16, 5000] {
            let value = vec![7; length];
            let blob = keys(&[[1; 32]]).seal(&key, &value).unwrap();
            assert_eq!(blob.len(), HEAD + length + TAG);
            let (opened, found) = keys(&[[1; 32]]).open(&key, blob.clone()).unwrap();
            assert_eq!(opened, value);
            assert_eq!(version(&blob), Some(found));
        }
    }

    #[test]
    fn an_old_key_still_opens_and_the_first_one_seals() {
        let key = Key::of("test", b"a");
        let old = keys(&[[1; 32]]).seal(&key, b"value").unwrap();
        let both = keys(&[[2; 32], [1; 32]]);
        assert_eq!(both.open(&key, old.clone()).unwrap().0, "value");
        assert_eq!(keys(&[[2; 32]]).open(&key, old), Err(Unreadable));
        let new = both.seal(&key, b"value").unwrap();
        assert_eq!(keys(&[[2; 32]]).open(&key, new).unwrap().0, "value");
    }

    #[test]
    fn a_value_opens_for_its_own_key_only_and_in_no_changed_form() {
        let (key, other) = (Key::of("test", b"a"), Key::of("test", b"b"));
        let keys = keys(&[[1; 32]]);
        let blob = keys.seal(&key, b"value").unwrap();
        assert_eq!(keys.open(&other, blob.clone()), Err(Unreadable));
        for at in 0..blob.len() {
            let mut changed = blob.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open(&key, changed), Err(Unreadable), "byte {at}");
            assert_eq!(keys.open(&key, blob[..at].to_vec()), Err(Unreadable));
        }
    }

    #[test]
    fn equal_values_are_sealed_differently() {
        let key = Key::of("test", b"a");
        let keys = keys(&[[1; 32]]);
        assert_ne!(
            keys.seal(&key, b"v").unwrap(),
            keys.seal(&key, b"v").unwrap()
        );
    }

    #[test]
    fn weak_keys_are_refused() {
        assert_eq!(
            SealingKeys::new(&[[0_u8; 31]]).unwrap_err(),
            SealingKeyError::Short(31)
        );
        assert_eq!(
            SealingKeys::new(&[[0_u8; 32], [0; 32]]).unwrap_err(),
            SealingKeyError::Twice
        );
        assert_eq!(
            SealingKeys::new::<[u8; 32]>(&[]).unwrap_err(),
            SealingKeyError::None
        );
        assert!(format!("{:?}", keys(&[[9; 32]])).contains("redacted"));
    }
}
