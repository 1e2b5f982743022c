//! Frames under a key.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use bytes::Bytes;
use zeroize::Zeroizing;

/// What a frame is longer when it is sealed: a nonce in front, a tag behind.
pub(super) const SEAL: usize = NONCE_LEN + 16;

/// The key from which each file's own is derived.
pub(super) struct MasterKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(redacted)")
    }
}

/// The key of one file.
#[derive(Debug)]
pub(super) struct FileKey(LessSafeKey);

/// A seal that cannot be made or is broken.
#[derive(Debug, thiserror::Error)]
#[error("the seal is broken: the file is damaged, or was written under another key")]
pub(super) struct SealError;

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl MasterKey {
    pub(super) const fn new(secret: Zeroizing<Vec<u8>>) -> Self {
        Self(secret)
    }

    pub(super) fn for_file(&self, id: &[u8; 16]) -> Result<FileKey, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, id)
            .extract(&self.0)
            .expand(&[b"postern last-good"], KeyLength)
            .and_then(|okm| okm.fill(&mut *key))
            .map_err(|_| SealError)?;
        UnboundKey::new(&AES_256_GCM, &*key)
            .map(|key| FileKey(LessSafeKey::new(key)))
            .map_err(|_| SealError)
    }
}

impl FileKey {
    /// Seals a frame. `number` is its place in the file, `head` what stands before it in clear.
    ///
    /// Nonces are random: numbers come again when a torn frame is written anew, and one file has far fewer frames than
    /// random nonces are good for.
    pub(super) fn seal(
        &self,
        number: u64,
        head: [u8; 4],
        frame: &impl prost::Message,
    ) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = Vec::with_capacity(frame.encoded_len() + SEAL);
        sealed.extend_from_slice(&nonce);
        frame.encode(&mut sealed).map_err(|_| SealError)?;
        let (_, text) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(SealError)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, aad(number, head), text)
            .map_err(|_| SealError)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens a frame.
    pub(super) fn open(
        &self,
        number: u64,
        head: [u8; 4],
        sealed: Vec<u8>,
    ) -> Result<Bytes, SealError> {
        let mut sealed = sealed;
        let (nonce, text) = sealed
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or(SealError)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .0
            .open_in_place(nonce, aad(number, head), text)
            .map_err(|_| SealError)?
            .len();
        sealed.truncate(NONCE_LEN + length);
        Ok(Bytes::from(sealed).slice(NONCE_LEN..))
    }
}

fn aad(number: u64, head: [u8; 4]) -> Aad<[u8; 12]> {
    let mut aad = [0; 12];
    for (to, from) in aad
        .iter_mut()
        .zip(number.to_le_bytes().into_iter().chain(head))
    {
        *to = from;
    }
    Aad::from(aad)
}
