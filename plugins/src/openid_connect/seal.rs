//! What is kept in cookies: sealed with AES-256-GCM, so that nobody else can read, change or make it.
//!
//! `version (1) || key id (4) || salt (24) || ciphertext || tag (16)`, as base64 without padding. Each text has a key of its own,
//! derived from the secret and the salt, so that no nonce is ever used twice under one key. What the text is for, and
//! whose it is, is bound to it: a cookie of one login, client or provider opens as nothing else.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

const VERSION: u8 = 1;
const SALT: usize = 24;
const HEAD: usize = 1 + 4 + SALT;
/// What a text may grow to when it is decompressed.
const LONGEST: usize = 1 << 20;

/// The keys of one plugin: the first seals, all open.
pub(super) struct Sealing {
    keys: Vec<SealingKey>,
    /// Whose texts these are.
    owner: Vec<u8>,
}

struct SealingKey {
    id: [u8; 4],
    secret: Prk,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealing({}, redacted)", self.keys.len())
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Sealing {
    /// Keys of the secrets in the lines of `secrets`, for what belongs to `owner`.
    pub(super) fn new(secrets: &[u8], owner: &[&str]) -> Option<Self> {
        let lines = secrets.split(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let keys = lines
            .filter(|line| !line.is_empty())
            .map(SealingKey::new)
            .collect::<Option<Vec<_>>>()?;
        let mut whose = Vec::new();
        for part in owner {
            whose.extend_from_slice(&(part.len() as u64).to_be_bytes());
            whose.extend_from_slice(part.as_bytes());
        }
        (!keys.is_empty()).then_some(Self { keys, owner: whose })
    }

    /// Seals a text for a purpose.
    pub(super) fn seal(&self, purpose: &str, text: &[u8]) -> Option<String> {
        let key = self.keys.first()?;
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let mut out = Vec::with_capacity(HEAD + text.len() / 2 + 64);
        out.push(VERSION);
        out.extend_from_slice(&key.id);
        out.extend_from_slice(&salt);
        let (key, nonce) = key.of(&salt)?;
        let mut sealed = compress_to_vec(text, 6);
        key.seal_in_place_append_tag(nonce, Aad::from(self.bound(purpose, &out)), &mut sealed)
            .ok()?;
        out.extend_from_slice(&sealed);
        Some(URL_SAFE_NO_PAD.encode(out))
    }

    /// Opens what was sealed for that purpose, and nothing else.
    pub(super) fn open(&self, purpose: &str, sealed: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (head, text) = bytes.split_at_mut_checked(HEAD)?;
        let (first, rest) = head.split_first()?;
        let (id, salt) = rest.split_first_chunk::<4>()?;
        let key = self.keys.iter().find(|key| key.id == *id)?;
        if *first != VERSION {
            return None;
        }
        let (key, nonce) = key.of(salt)?;
        let bound = self.bound(purpose, head);
        let opened = key.open_in_place(nonce, Aad::from(bound), text).ok()?;
        decompress_to_vec_with_limit(opened, LONGEST).ok()
    }

    /// A digest of something that belongs to this owner, for keys of the store.
    pub(super) fn named(&self, what: &str, name: &[&str]) -> Vec<u8> {
        let mut out = self.bound(what, &[]);
        for part in name {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part.as_bytes());
        }
        out
    }

    fn bound(&self, purpose: &str, head: &[u8]) -> Vec<u8> {
        [head, purpose.as_bytes(), &[0], &self.owner].concat()
    }
}

impl SealingKey {
    fn new(secret: &[u8]) -> Option<Self> {
        let secret = Salt::new(HKDF_SHA256, b"postern openid connect").extract(secret);
        let mut id = [0; 4];
        let okm = secret.expand(&[b"key id"], Length(4)).ok()?;
        okm.fill(&mut id).ok()?;
        Some(Self { id, secret })
    }

    /// The key and nonce of one text.
    fn of(&self, salt: &[u8]) -> Option<(LessSafeKey, Nonce)> {
        let mut material = zeroize::Zeroizing::new([0; 32 + NONCE_LEN]);
        self.secret
            .expand(&[b"cookie", salt], Length(32 + NONCE_LEN))
            .and_then(|okm| okm.fill(&mut *material))
            .ok()?;
        let (key, nonce) = material.split_first_chunk::<32>()?;
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        Some((LessSafeKey::new(key), nonce))
    }
}

/// A random text of letters, digits, `-` and `_`: 256 bits.
pub(super) fn random() -> Option<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of enough characters";

    fn sealing(secrets: &[u8], owner: &str) -> Sealing {
        Sealing::new(secrets, &[owner, "client"]).unwrap()
    }

    #[test]
    fn opens_for_its_purpose_and_owner_only() {
        let ours = sealing(SECRET, "idp");
        let sealed = ours.seal("session", b"text").unwrap();
        assert_eq!(ours.open("session", &sealed).unwrap(), b"text");
        assert_eq!(ours.open("login", &sealed), None);
        assert_eq!(sealing(SECRET, "other").open("session", &sealed), None);
        assert_ne!(sealed, ours.seal("session", b"text").unwrap());
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let ours = sealing(SECRET, "idp");
        let sealed = ours.seal("session", b"some text").unwrap();
        for at in 0..sealed.len() {
            for bit in 0..7 {
                let mut changed = sealed.clone().into_bytes();
                changed[at] ^= 1 << bit;
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(ours.open("session", &changed), None, "{at} {bit}");
            }
            assert_eq!(ours.open("session", sealed.get(..at).unwrap()), None);
        }
    }

    #[test]
    fn old_secrets_open_and_the_first_seals() {
        let old = sealing(SECRET, "idp").seal("x", b"text").unwrap();
        let both = sealing(
            b"the new secret of today\na secret of enough characters",
            "idp",
        );
        assert_eq!(both.open("x", &old).unwrap(), b"text");
        let new = both.seal("x", b"text").unwrap();
        assert_eq!(sealing(SECRET, "idp").open("x", &new), None);
        assert!(!format!("{both:?}").contains("secret of"));
    }
}
