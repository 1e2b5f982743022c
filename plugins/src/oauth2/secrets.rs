//! Codes and tokens: 32 random letters and digits, which are kept nowhere but as digests.
//!
//! Tokens that are issued for a code or a refresh token belong to a line. The line has a handle, the first letters of its
//! refresh tokens, under which the store keeps what there is to know about it: so a refresh token that has been replaced is
//! known as one for as long as the line lives, and nothing has to be kept of it. For a code the handle follows from the
//! code: of all who redeem it, at whatever proxy, one can begin the line.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use store::Key;

/// Length of codes and tokens: 190 bits.
const LENGTH: usize = 32;
/// Length of a handle: 71 bits, the other 119 are the secret of its owner.
const HANDLE: usize = 12;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The system has no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRandomness;

/// A code or a token.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Secret {
    /// A new one.
    pub(super) fn random() -> Result<Self, NoRandomness> {
        let seed: [u8; 32] = random()?;
        let salt: [u8; 16] = random()?;
        Ok(Self(letters(&seed, &salt, "random", LENGTH)))
    }

    /// One that the client has already.
    pub(super) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The access token that follows from what it is issued for.
    pub(super) fn access(cause: &[u8], salt: &[u8; 16]) -> Self {
        Self(letters(cause, salt, "access", LENGTH))
    }

    /// The refresh token that follows from what it is issued for.
    pub(super) fn refresh(handle: &Handle, cause: &[u8], salt: &[u8; 16]) -> Self {
        let own = letters(cause, salt, "refresh", LENGTH - HANDLE);
        Self(format!("{}{own}", handle.0))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Whether a text could be a code or a token of ours at all.
pub(super) fn is_well_formed(text: &[u8]) -> bool {
    text.len() == LENGTH && text.iter().all(u8::is_ascii_alphanumeric)
}

/// What the store keeps a line under.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle(String);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle(redacted)")
    }
}

impl Handle {
    /// A new one.
    pub(super) fn random() -> Result<Self, NoRandomness> {
        let seed: [u8; 32] = random()?;
        Ok(Self(letters(&seed, &[0; 16], "handle", HANDLE)))
    }

    /// Of the line that redeeming a code begins.
    pub(super) fn of_code(code: &str) -> Self {
        Self(letters(code.as_bytes(), &[0; 16], "handle", HANDLE))
    }

    /// Of the line that a refresh token belongs to.
    pub(super) fn of_refresh_token(token: &str) -> Option<Self> {
        if !is_well_formed(token.as_bytes()) {
            return None;
        }
        token.get(..HANDLE).map(|handle| Self(handle.to_owned()))
    }

    /// Where the line is.
    pub(super) fn key(&self) -> Key {
        Key::of("oauth2 line", self.0.as_bytes())
    }
}

/// Where a code is.
pub(super) fn code_key(code: &[u8]) -> Key {
    Key::of("oauth2 code", code)
}

/// Where an access token is.
pub(super) fn access_key(token: &[u8]) -> Key {
    Key::of("oauth2 access token", token)
}

/// What a line knows its refresh token by.
pub(super) fn refresh_digest(token: &[u8]) -> Digest {
    Digest::of(&Key::of("oauth2 refresh token", token))
}

/// The digest of a secret, as records hold it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) const fn of(key: &Key) -> Self {
        Self(*key.as_bytes())
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(redacted)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(&*text).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("no digest"))
    }
}

struct Stream;

impl KeyType for Stream {
    fn len(&self) -> usize {
        128
    }
}

/// Letters and digits, each as likely as every other, that follow from a secret.
fn letters(secret: &[u8], salt: &[u8; 16], purpose: &str, length: usize) -> String {
    let secret = Salt::new(HKDF_SHA256, salt).extract(secret);
    let mut text = String::with_capacity(length);
    for round in 0_u8..=u8::MAX {
        let mut stream = [0; 128];
        let info = [b"postern oauth2 ", purpose.as_bytes(), &[round]];
        // The length is one that HKDF can give.
        let filled = secret
            .expand(&info, Stream)
            .map(|okm| okm.fill(&mut stream));
        if !matches!(filled, Ok(Ok(()))) {
            continue;
        }
        // Bytes beyond the last multiple of 62 would make some letters likelier.
        let fair = stream.iter().filter(|byte| **byte < 248);
        let drawn = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        text.extend(
            drawn
                .take(length - text.len())
                .map(|letter| char::from(*letter)),
        );
        if text.len() == length {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_of_one_form_and_all_different() {
        let all: Vec<Secret> = (0..1000).map(|_| Secret::random().unwrap()).collect();
        let unique: std::collections::HashSet<&str> = all.iter().map(Secret::as_str).collect();
        assert_eq!(unique.len(), 1000);
        assert!(all.iter().all(|secret| is_well_formed(secret.as_bytes())));
        // Every letter comes up: 32,000 drawn of 62.
        let letters: std::collections::HashSet<u8> = all
            .iter()
            .flat_map(|secret| secret.as_bytes().to_vec())
            .collect();
        assert_eq!(letters.len(), 62);
    }

    #[test]
    fn what_follows_from_a_secret_follows_from_all_of_it() {
        let handle = Handle::of_code("code");
        let first = Secret::refresh(&handle, b"code", &[1; 16]);
        assert_eq!(first, Secret::refresh(&handle, b"code", &[1; 16]));
        assert_ne!(first, Secret::refresh(&handle, b"code", &[2; 16]));
        assert_ne!(first, Secret::refresh(&handle, b"codf", &[1; 16]));
        assert_eq!(Handle::of_refresh_token(first.as_str()), Some(handle));
        assert_ne!(
            Secret::access(b"code", &[1; 16]).as_str().get(HANDLE..),
            first.as_str().get(HANDLE..)
        );
        assert!(is_well_formed(first.as_bytes()));
    }

    #[test]
    fn nothing_else_is_well_formed() {
        for text in [
            "",
            "short",
            &"a".repeat(31),
            &"a".repeat(33),
            &"a-".repeat(16),
            &"ä".repeat(16),
        ] {
            assert!(!is_well_formed(text.as_bytes()), "{text}");
            assert_eq!(Handle::of_refresh_token(text), None);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::random().unwrap();
        assert!(!format!("{secret:?}").contains(secret.as_str()));
        let digest = refresh_digest(secret.as_bytes());
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert!(!text.contains(secret.as_str()));
    }
}
