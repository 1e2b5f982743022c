//! Sets as issuers publish them, and as nobody should.

mod fetching;

pub(crate) use fetching::{Issuer, eager};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::jwt::Algorithm;

/// A signing key, and what its issuer publishes of it.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    pub(crate) jwk: Value,
}

impl Signer {
    pub(crate) fn p256(kid: &str) -> Self {
        Self::new(kid, &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    fn new(kid: &str, algorithm: &'static EcdsaSigningAlgorithm, curve: &str) -> Self {
        let key = EcdsaKeyPair::generate(algorithm).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "kid": kid, "x": encode(x), "y": encode(y)});
        Self { key, jwk }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signed = self.key.sign(&SystemRandom::new(), message).unwrap();
        signed.as_ref().to_vec()
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn parse(keys: &[Value]) -> Result<KeySet, Unusable> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), None)
}

pub(crate) fn set_of(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| &signer.jwk).collect();
    json!({ "keys": keys }).to_string()
}

fn count(set: &KeySet, kid: Option<&str>, algorithm: Algorithm) -> usize {
    set.candidates(kid, algorithm).keys().count()
}

/// 2048 bits; nobody can sign with it.
fn rsa(kid: &str) -> Value {
    let n: Vec<u8> = (0..256)
        .map(|at| if at == 0 { 0xc1 } else { 0xab })
        .collect();
    json!({"kty": "RSA", "kid": kid, "n": encode(&n), "e": "AQAB"})
}

#[test]
fn every_kind_of_key_verifies_with_its_algorithms_only() {
    let ed = Ed25519KeyPair::generate().unwrap();
    let set = parse(&[
        Signer::p256("a").jwk,
        Signer::new("a", &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384").jwk,
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": encode(ed.public_key().as_ref())}),
        rsa("a"),
    ])
    .unwrap();
    for algorithm in Algorithm::ALL {
        let expected = usize::from(!algorithm.is_symmetric());
        assert_eq!(count(&set, Some("a"), algorithm), expected, "{algorithm}");
    }
    assert_eq!(count(&set, Some("b"), Algorithm::ES256), 0);
    let message = b"message";
    let key = set
        .candidates(None, Algorithm::EdDSA)
        .keys()
        .next()
        .unwrap();
    assert!(key.verifies(message, ed.sign(message).as_ref()));
    assert!(!key.verifies(b"another", ed.sign(message).as_ref()));
}

#[test]
fn use_operations_and_algorithm_are_respected() {
    let jwk = || Signer::p256("a").jwk;
    for (name, value, usable) in [
        ("use", json!("sig"), true),
        ("use", json!("enc"), false),
        ("use", json!(""), false),
        ("use", json!(1), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["sign", "verify"]), true),
        ("key_ops", json!(["sign"]), false),
        ("key_ops", json!([]), false),
        ("key_ops", json!("verify"), false),
        ("alg", json!("ES256"), true),
        ("alg", json!("ES384"), false),
        ("alg", json!("HS256"), false),
        ("alg", json!("none"), false),
        ("alg", json!("ECDH-ES"), false),
        ("kid", json!(7), false),
        ("x5c", json!(["nonsense"]), true),
        ("jku", json!("https://evil.test/"), true),
    ] {
        let parsed = parse(&[with(jwk(), name, value.clone())]);
        assert_eq!(parsed.is_ok(), usable, "{name} {value}");
    }
    let set = parse(&[with(rsa("a"), "alg", json!("PS384"))]).unwrap();
    assert_eq!(count(&set, Some("a"), Algorithm::PS384), 1);
    assert_eq!(count(&set, Some("a"), Algorithm::RS256), 0);
    // RFC 9864 names the curve.
    let ed = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "x": encode(ed.public_key().as_ref())});
    assert_eq!(count(&parse(&[jwk]).unwrap(), None, Algorithm::EdDSA), 1);
}

#[test]
fn what_is_no_public_key_for_signatures_is_left_out() {
    let good = Signer::p256("good").jwk;
    let long = |bytes: usize| encode(&vec![0xff; bytes]);
    for bad in [
        json!({"kty": "oct", "kid": "good", "k": "c2VjcmV0", "alg": "HS256"}),
        with(Signer::p256("bad").jwk, "d", json!("c2VjcmV0")),
        with(Signer::p256("bad").jwk, "d", json!(7)),
        with(Signer::p256("bad").jwk, "crv", json!("P-521")),
        with(Signer::p256("bad").jwk, "crv", json!("P-384")),
        with(Signer::p256("bad").jwk, "kty", json!("ec")),
        with(
            Signer::p256("bad").jwk,
            "y",
            Signer::p256("").jwk["y"].clone(),
        ),
        with(Signer::p256("bad").jwk, "x", json!("AA")),
        with(Signer::p256("bad").jwk, "x", json!("====")),
        with(Signer::p256("bad").jwk, "x", json!(long(33))),
        json!({"kty": "OKP", "crv": "X25519", "x": long(32)}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": long(31)}),
        with(rsa("bad"), "n", json!(long(128))),
        with(rsa("bad"), "n", json!(long(1025))),
        with(rsa("bad"), "n", json!("")),
        with(rsa("bad"), "e", json!("AQ")),
        with(rsa("bad"), "e", json!("AgA")),
        with(rsa("bad"), "e", json!(long(5))),
        with(rsa("bad"), "d", json!("c2VjcmV0")),
        json!({"kty": "RSA"}),
        json!({"kid": "x"}),
        json!({}),
        json!([]),
        json!(null),
        json!("text"),
    ] {
        assert_eq!(
            parse(std::slice::from_ref(&bad)).map(drop),
            Err(Unusable::NoKey),
            "{bad}"
        );
        let set = parse(&[bad.clone(), good.clone()]).unwrap();
        assert_eq!((set.len(), set.left_out()), (1, 1), "{bad}");
        assert_eq!(set.exposes_private_keys(), bad.get("d").is_some(), "{bad}");
    }
    // Some write zeros before the number.
    let n = [&[0][..], &[0xc1], &[0xab; 255]].concat();
    assert!(parse(&[with(rsa("a"), "n", json!(encode(&n)))]).is_ok());
}

#[test]
fn what_is_no_set() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        "{\"keys\":[",
        "\u{0}",
        r#"{"keys":[],"keys":[]}"#,
    ] {
        assert_eq!(
            KeySet::parse(text.as_bytes(), None).map(drop),
            Err(Unusable::NoSet),
            "{text}"
        );
    }
    assert_eq!(parse(&[]).map(drop), Err(Unusable::NoKey));
    let deep = format!(
        r#"{{"keys":[{}1{}]}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(KeySet::parse(deep.as_bytes(), None).is_err());
}

#[test]
fn a_duplicate_kid_and_no_kid_are_tried_and_bounded() {
    let (first, second) = (Signer::p256("a"), Signer::p256("a"));
    let set = parse(&[first.jwk.clone(), second.jwk.clone(), first.jwk.clone()]).unwrap();
    assert_eq!(set.len(), 2);
    assert_eq!(count(&set, Some("a"), Algorithm::ES256), 2);
    assert_eq!(count(&set, None, Algorithm::ES256), 2);
    assert!(set.candidates(Some("a"), Algorithm::ES256).are_named());
    assert!(!set.candidates(None, Algorithm::ES256).are_named());
    assert!(!set.candidates(Some("b"), Algorithm::ES256).are_named());
    let mut nameless = first.jwk.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    // A set without names leaves the name of the token open; one with names does not.
    let set = parse(&[nameless.clone()]).unwrap();
    assert_eq!(count(&set, Some("any"), Algorithm::ES256), 1);
    let set = parse(&[nameless, second.jwk]).unwrap();
    assert_eq!(count(&set, Some("any"), Algorithm::ES256), 0);
    let many: Vec<_> = (0..300).map(|_| Signer::p256("a").jwk).collect();
    let set = parse(&many).unwrap();
    assert_eq!(set.len(), 256);
    assert_eq!(count(&set, Some("a"), Algorithm::ES256), 8);
}

#[test]
fn keys_that_stay_keep_what_was_verified_with_them() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let first = parse(std::slice::from_ref(&old.jwk)).unwrap();
    let text = set_of(&[&new, &old]);
    let second = KeySet::parse(text.as_bytes(), Some(&first)).unwrap();
    let version = |set: &KeySet, kid: &str| {
        let mut keys = set.candidates(Some(kid), Algorithm::ES256).keys();
        keys.next().unwrap().version()
    };
    assert_eq!(version(&first, "old"), version(&second, "old"));
    assert_ne!(version(&second, "old"), version(&second, "new"));
    assert!(second.is(text.as_bytes()) && !first.is(text.as_bytes()));
}

#[test]
fn invariants_hold_for_the_corpus_of_the_fuzzers() {
    for (name, holds) in [("jwks", invariants::set as fn(&[u8]))] {
        let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut seeds = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            holds(&std::fs::read(file.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 5, "{name}");
    }
}
