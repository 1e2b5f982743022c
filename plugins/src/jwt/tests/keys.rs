//! Keys of every kind: each verifies with its own algorithm only.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};

use super::*;

fn rsa(size: KeySize) -> (RsaKeyPair, Vec<u8>) {
    let pair = RsaKeyPair::generate(size).unwrap();
    let der = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key())
        .unwrap()
        .as_ref()
        .to_vec();
    (pair, der)
}

fn rsa_sign(pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
        .unwrap();
    signature
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> (EcdsaKeyPair, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let der = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key())
        .unwrap()
        .as_ref()
        .to_vec();
    (pair, der)
}

fn header(algorithm: Algorithm) -> String {
    format!(r#"{{"alg":"{algorithm}"}}"#)
}

fn with(algorithm: Algorithm, der: &[u8]) -> Directory {
    let directory = stage::directory();
    put(
        &directory,
        &issuer("alice-iss", "shop", "alice"),
        algorithm,
        Material::PublicKey(der),
    );
    directory
}

#[tokio::test]
async fn rsa_keys_verify_with_their_algorithm_only() {
    let (pair, der) = rsa(KeySize::Rsa2048);
    let (stranger, _) = rsa(KeySize::Rsa2048);
    let encodings: [(_, &'static dyn RsaEncoding); 6] = [
        (Algorithm::RS256, &RSA_PKCS1_SHA256),
        (Algorithm::RS384, &RSA_PKCS1_SHA384),
        (Algorithm::RS512, &RSA_PKCS1_SHA512),
        (Algorithm::PS256, &RSA_PSS_SHA256),
        (Algorithm::PS384, &RSA_PSS_SHA384),
        (Algorithm::PS512, &RSA_PSS_SHA512),
    ];
    for (algorithm, _) in encodings {
        let directory = with(algorithm, &der);
        for (other, encoding) in encodings {
            let token = signed(&header(other), ALICE, |message| {
                rsa_sign(&pair, encoding, message)
            });
            let expected = if other == algorithm {
                "ok: alice"
            } else {
                "403 Invalid algorithm (wrong_algorithm)"
            };
            // The second time it may be remembered.
            for _ in 0..2 {
                assert_eq!(
                    verdict(&directory, "{}", &token).await,
                    expected,
                    "{other} for {algorithm}"
                );
            }
            if other != algorithm {
                let token = signed(&header(algorithm), ALICE, |message| {
                    rsa_sign(&pair, encoding, message)
                });
                let verdict = verdict(&directory, "{}", &token).await;
                assert_eq!(
                    verdict, "403 Invalid signature (bad_signature)",
                    "{other} for {algorithm}"
                );
            }
        }
        let token = signed(&header(algorithm), ALICE, |message| {
            rsa_sign(&stranger, encodings[0].1, message)
        });
        assert_eq!(
            verdict(&directory, "{}", &token).await,
            "403 Invalid signature (bad_signature)"
        );
    }
}

/// A public key is public: that its text signs as a shared secret must prove nothing.
#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let (_, der) = rsa(KeySize::Rsa2048);
    let directory = with(Algorithm::RS256, &der);
    for secret in [der.as_slice(), b"", b"-----BEGIN PUBLIC KEY-----"] {
        let token = hs256(HS256, ALICE, secret);
        assert_eq!(
            verdict(&directory, "{}", &token).await,
            "403 Invalid algorithm (wrong_algorithm)"
        );
        let token = hs256(&header(Algorithm::RS256), ALICE, secret);
        assert_eq!(
            verdict(&directory, "{}", &token).await,
            "403 Invalid signature (bad_signature)"
        );
    }
}

#[tokio::test]
async fn elliptic_keys_take_signatures_of_fixed_length() {
    let random = SystemRandom::new();
    for (algorithm, signing) in [
        (Algorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        (Algorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING),
    ] {
        let (pair, der) = ecdsa(signing);
        let directory = with(algorithm, &der);
        let sign = |message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
        let good = signed(&header(algorithm), ALICE, sign);
        assert_eq!(verdict(&directory, "{}", &good).await, "ok: alice");
        let length = if algorithm == Algorithm::ES256 {
            64
        } else {
            96
        };
        let cut = |message: &[u8]| sign(message)[1..].to_vec();
        let padded = |message: &[u8]| [&sign(message)[..], &[0]].concat();
        let tokens = [
            signed(&header(algorithm), ALICE, |_| vec![0; length]),
            signed(&header(algorithm), ALICE, |_| vec![0xff; length]),
            signed(&header(algorithm), ALICE, |_| Vec::new()),
            signed(&header(algorithm), ALICE, cut),
            signed(&header(algorithm), ALICE, padded),
        ];
        for token in tokens {
            assert_eq!(
                verdict(&directory, "{}", &token).await,
                "403 Invalid signature (bad_signature)"
            );
        }
    }
    let (pair, der) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let asn1 = signed(&header(Algorithm::ES256), ALICE, |message| {
        pair.sign(&random, message).unwrap().as_ref().to_vec()
    });
    let verdict = verdict(&with(Algorithm::ES256, &der), "{}", &asn1).await;
    assert_eq!(verdict, "403 Invalid signature (bad_signature)");
}

#[tokio::test]
async fn ed25519_keys_verify() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key())
        .unwrap()
        .as_ref()
        .to_vec();
    let directory = with(Algorithm::EdDSA, &der);
    let good = signed(&header(Algorithm::EdDSA), ALICE, |message| {
        pair.sign(message).as_ref().to_vec()
    });
    assert_eq!(verdict(&directory, "{}", &good).await, "ok: alice");
    let bad = signed(&header(Algorithm::EdDSA), ALICE, |_| vec![0; 64]);
    assert_eq!(
        verdict(&directory, "{}", &bad).await,
        "403 Invalid signature (bad_signature)"
    );
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let (_, rsa) = rsa(KeySize::Rsa2048);
    let (_, p256) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    for (algorithm, material, problem) in [
        (
            Algorithm::ES256,
            Material::PublicKey(&rsa),
            "the public key is not one for ES256",
        ),
        (
            Algorithm::ES384,
            Material::PublicKey(&p256),
            "the public key is not one for ES384",
        ),
        (
            Algorithm::RS256,
            Material::PublicKey(&p256),
            "the public key is not one for RS256",
        ),
        (
            Algorithm::EdDSA,
            Material::PublicKey(b"x"),
            "the public key is not one for EdDSA",
        ),
        (
            Algorithm::HS256,
            Material::PublicKey(&rsa),
            "HS256 needs a shared secret, not a public key",
        ),
        (
            Algorithm::RS256,
            Material::Secret(b"x"),
            "RS256 needs a public key, not a shared secret",
        ),
        (
            Algorithm::HS512,
            Material::Secret(b""),
            "the shared secret is empty",
        ),
    ] {
        assert_eq!(
            VerificationKey::new(algorithm, material).unwrap_err(),
            problem
        );
    }
}

#[test]
fn nothing_prints_a_secret() {
    let key = VerificationKey::new(Algorithm::HS256, Material::Secret(b"canary")).unwrap();
    assert_eq!(
        format!("{key:?} {:?}", Material::Secret(b"canary")),
        "VerificationKey(HS256) Secret(redacted)"
    );
}

#[tokio::test]
async fn secrets_are_taken_as_the_plugin_says() {
    let directory = directory();
    let base64 = r#"{"secretIsBase64": true}"#;
    let strict = r#"{"refuseShortSecrets": true}"#;
    let blob = "blob data \u{fe}\u{ff}".as_bytes();
    let of =
        |issuer: &str, secret: &[u8]| hs256(HS256, &format!(r#"{{"iss":"{issuer}"}}"#), secret);
    let bad = "403 Invalid signature (bad_signature)";
    let unusable = "403 Invalid key/secret (unusable_secret)";
    for (config, token, verdict) in [
        (base64, of("base64-iss", blob), "ok: alice"),
        (base64, of("url64-iss", blob), "ok: alice"),
        (base64, of("base64-iss", b"YmxvYiBkYXRhIMO+w78="), bad),
        (base64, of("no64-iss", b"%%%"), unusable),
        ("{}", of("base64-iss", blob), bad),
        ("{}", of("base64-iss", b"YmxvYiBkYXRhIMO+w78="), "ok: alice"),
        ("{}", of("no64-iss", b"%%%"), "ok: alice"),
        (strict, token("alice-iss"), unusable),
        (
            strict,
            of("long-iss", b"a secret of thirty-two characters"),
            "ok: alice",
        ),
    ] {
        assert_eq!(
            self::verdict(&directory, config, &token).await,
            verdict,
            "{config} {token}"
        );
    }
}

/// What was verified with a key counts no longer when that key is another, or the credential is gone.
#[tokio::test]
async fn a_changed_key_forgets_what_was_verified() {
    let (old, old_der) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let (_, new_der) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let directory = with(Algorithm::ES256, &old_der);
    let sign = |message: &[u8]| {
        old.sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    };
    let token = signed(&header(Algorithm::ES256), ALICE, sign);
    for config in ["{}", "{}", r#"{"verificationCache": false}"#] {
        assert_eq!(verdict(&directory, config, &token).await, "ok: alice");
    }
    put(
        &directory,
        &issuer("alice-iss", "shop", "alice"),
        Algorithm::ES256,
        Material::PublicKey(&new_der),
    );
    assert_eq!(
        verdict(&directory, "{}", &token).await,
        "403 Invalid signature (bad_signature)"
    );
    put(
        &directory,
        &issuer("alice-iss", "shop", "alice"),
        Algorithm::ES256,
        Material::PublicKey(&old_der),
    );
    assert_eq!(verdict(&directory, "{}", &token).await, "ok: alice");
    let mut changes = Changes::default();
    let new = NewJwt {
        id: KeyId::of("Credential/shop/other"),
        namespace: "shop",
        name: "alice-iss",
        verifier: VerificationKey::new(Algorithm::HS256, Material::Secret(b"x"))
            .unwrap()
            .into(),
        consumer: KeyId::of("Consumer/shop/bob"),
        not_before: 0,
        expires_at: 0,
    };
    let slot = directory.put_jwt(&mut changes, new);
    changes.remove_jwt(KeyId::of("Credential/shop/alice-iss-0"), slot);
    directory.apply(changes);
    assert_eq!(
        verdict(&directory, "{}", &token).await,
        "403 Invalid algorithm (wrong_algorithm)"
    );
}
