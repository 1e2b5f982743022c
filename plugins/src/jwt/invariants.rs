//! What must hold for any input, however broken: asserted for the fuzzers' inputs, their corpus and random ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::presented;
use super::token::Parts;

/// The text of a token.
pub fn token(text: &[u8]) {
    let Ok(mut parts) = Parts::of(text) else {
        return;
    };
    let Ok(token) = parts.read("iss") else {
        return;
    };
    // What is read has one spelling: no other text is the same token.
    let (head, signature) = text.split_at(token.signed.len());
    assert_eq!(
        signature.get(1..).unwrap_or_default(),
        URL_SAFE_NO_PAD.encode(token.signature).as_bytes()
    );
    for part in head.split(|byte| *byte == b'.') {
        let decoded = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        assert_eq!(URL_SAFE_NO_PAD.encode(decoded).as_bytes(), part);
    }
    assert_eq!(text.iter().filter(|byte| **byte == b'.').count(), 2);
}

/// A Cookie header.
pub fn cookies(line: &[u8]) {
    for (name, value) in presented::cookies(line) {
        assert!(!name.contains(&b'=') && !name.contains(&b';'));
        assert!(!value.contains(&b';'));
        assert_eq!(name, name.trim_ascii());
        assert!(name.len() + value.len() < line.len());
    }
}
