//! Under what an entry is found.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{Context, SHA256};

/// The digest of what an entry is about; the token, code or session id itself is kept nowhere.
///
/// Whoever reads the store learns no token from it. A digest without salt is enough, because what is looked up here has
/// been drawn at random, or is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a `secret` among those of its `kind`: equal secrets of two kinds are two keys.
    ///
    /// `kind` is a constant such as "oauth2 code"; changing it forgets what was stored under the old one.
    #[must_use]
    pub fn of(kind: &str, secret: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        context.update(&(kind.len() as u64).to_be_bytes());
        context.update(kind.as_bytes());
        context.update(secret);
        Self(digest(context))
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest in 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    pub(crate) const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// What [`Key::to_hex`] gave.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = *pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Key({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// The result of a SHA-256.
pub(crate) fn digest(context: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_apart() {
        assert_eq!(Key::of("code", b"x"), Key::of("code", b"x"));
        assert_ne!(Key::of("code", b"x"), Key::of("code", b"y"));
        assert_ne!(Key::of("code", b"x"), Key::of("token", b"x"));
        assert_ne!(Key::of("ab", b"c"), Key::of("a", b"bc"));
    }

    #[test]
    fn a_key_can_be_told_in_text() {
        let key = Key::of("code", b"x");
        assert_eq!(Key::from_hex(&key.to_hex()), Some(key));
        let upper = key.to_hex().to_uppercase();
        for wrong in ["", "00", &"g".repeat(64), &"0".repeat(65), upper.as_str()] {
            assert_eq!(Key::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", Key::of("code", b"hunter2")).contains("hunter2"));
    }
}
