//! Credentials that verify tokens.

use plugins::directory::JwtLookup;
use plugins::jwt::{Algorithm, Verifier};
use snapshot::proto::Jwt;

use super::*;

const KEY: &str = "Credential/shop/c";

fn jwt(key: &str, algorithm: &str, verification: Option<Verification>) -> Body {
    Body::Credential(Credential {
        id: "7bce93e1-0000-4000-8000-000000000001".into(),
        consumer: "Consumer/shop/alice".into(),
        not_before: 0,
        expires_at: 0,
        proof: Some(Proof::Jwt(Jwt {
            key: key.into(),
            algorithm: algorithm.into(),
            verification,
        })),
    })
}

fn secret(key: &str, algorithm: &str, secret: &str) -> Body {
    let secret = Verification::Secret(secret.as_bytes().to_vec().into());
    jwt(key, algorithm, Some(secret))
}

/// The algorithm of the credential that a token's key means, and the version of its key.
fn look_up(rig: &Rig, key: &str) -> Option<(Algorithm, u64)> {
    let directory = &rig.state.directory;
    directory.jwt(
        key,
        &directory.namespaces(["shop"]),
        1,
        |found| match found {
            JwtLookup::Found(credential) => {
                let version = match credential.verifier() {
                    Verifier::Key(key) => key.version(),
                    Verifier::Set(..) => u64::MAX,
                };
                Some((credential.verifier().algorithm(), version))
            }
            JwtLookup::Unknown => None,
            other => panic!("{other:?}"),
        },
    )
}

#[test]
fn a_credential_comes_changes_moves_and_goes() {
    let mut rig = Rig::new();
    rig.put([(KEY, secret("a", "HS256", "x"))]);
    let (algorithm, first) = look_up(&rig, "a").unwrap();
    assert_eq!(algorithm, Algorithm::HS256);
    // Another secret is another version; what stays the same stays the same.
    rig.put([(KEY, secret("a", "HS256", "y"))]);
    let (_, second) = look_up(&rig, "a").unwrap();
    assert_ne!(first, second);
    rig.put([("Credential/shop/other", secret("o", "HS384", "x"))]);
    assert_eq!(look_up(&rig, "a").unwrap().1, second);
    assert_eq!(look_up(&rig, "o").unwrap().0, Algorithm::HS384);
    assert_eq!(rig.state.directory.len().0, 2);

    rig.put([(KEY, secret("b", "HS256", "y"))]);
    assert!(look_up(&rig, "a").is_none() && look_up(&rig, "b").is_some());
    // A credential of one kind that becomes one of another leaves its place.
    rig.put([(KEY, credential("key"))]);
    assert!(look_up(&rig, "b").is_none());
    rig.put([(KEY, secret("b", "HS256", "y"))]);
    assert!(look_up(&rig, "b").is_some());
    let digest = digest_of(b"key");
    let directory = &rig.state.directory;
    let key = directory.api_key(&digest, &directory.namespaces(["shop"]), 1);
    assert!(matches!(key, KeyLookup::Unknown), "{key:?}");
    rig.change(|set| assert!(set.remove(KEY)));
    assert!(look_up(&rig, "b").is_none());
    assert_eq!(rig.state.directory.len().0, 1);
}

#[test]
fn what_cannot_verify_is_refused() {
    for (body, reason) in [
        (
            secret("a", "HS255", "x"),
            "does not know the algorithm \"HS255\"",
        ),
        (
            secret("a", "RS256", "x"),
            "RS256 needs a public key, not a shared secret",
        ),
        (secret("a", "HS256", ""), "the shared secret is empty"),
        (
            secret("", "HS256", "x"),
            "the key is empty or holds control characters",
        ),
        (
            secret("a\r\nb", "HS256", "x"),
            "the key is empty or holds control characters",
        ),
        (
            jwt("a", "HS256", None),
            "this version of the proxy cannot verify with this",
        ),
        (
            jwt("a", "ES256", Some(Verification::PublicKey(b"x"[..].into()))),
            "the public key is not one for ES256",
        ),
        (
            jwt(
                "a",
                "HS256",
                Some(Verification::JwksUri("https://idp.test/".into())),
            ),
            "HS256 needs a shared secret, not a key set",
        ),
        (
            jwt(
                "a",
                "RS256",
                Some(Verification::JwksUri("ftp://idp.test/".into())),
            ),
            "the URL of the key set must be http:// or https://",
        ),
    ] {
        let mut rig = Rig::new();
        rig.put([(KEY, secret("a", "HS256", "x"))]);
        rig.put([(KEY, body)]);
        let [refusal] = &rig.state.refusals()[..] else {
            panic!("{reason}")
        };
        assert!(refusal.reason.contains(reason), "{}", refusal.reason);
        // What was good stays.
        assert!(look_up(&rig, "a").is_some());
    }
}

#[test]
fn credentials_of_one_issuer_share_its_key_set() {
    let mut rig = Rig::new();
    let url = "http://127.0.0.1:1/keys";
    let set = |key, algorithm| jwt(key, algorithm, Some(Verification::JwksUri(url.into())));
    rig.put([
        (KEY, set("a", "ES256")),
        ("Credential/shop/other", set("b", "RS256")),
    ]);
    assert_eq!(look_up(&rig, "a"), Some((Algorithm::ES256, u64::MAX)));
    assert_eq!(look_up(&rig, "b"), Some((Algorithm::RS256, u64::MAX)));
    let first = rig.state.services.key_sets.of(url).unwrap();
    // Each of the two holds it, and so does this test.
    assert_eq!(std::sync::Arc::strong_count(&first), 3);
    rig.change(|set| assert!(set.remove(KEY) && set.remove("Credential/shop/other")));
    assert_eq!(std::sync::Arc::strong_count(&first), 1);
}
