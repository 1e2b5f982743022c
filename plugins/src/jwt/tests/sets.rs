//! Credentials whose issuers publish their keys.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::jwks::RemoteKeys;
use crate::jwks::tests::{Issuer, Signer, eager, set_of};

fn published(keys: RemoteKeys) -> Directory {
    let directory = directory();
    let mut changes = Changes::default();
    let new = NewJwt {
        id: KeyId::of("Credential/shop/idp"),
        namespace: "shop",
        name: "https://idp.test",
        verifier: Verifier::Set(Algorithm::ES256, Arc::new(keys)),
        consumer: KeyId::of("Consumer/shop/alice"),
        not_before: 0,
        expires_at: 0,
    };
    directory.put_jwt(&mut changes, new);
    directory.apply(changes);
    directory
}

fn token_of(signer: &Signer, header: &serde_json::Value) -> String {
    let payload = json!({"iss": "https://idp.test"}).to_string();
    signed(&header.to_string(), &payload, |message| {
        signer.sign(message)
    })
}

fn named(signer: &Signer) -> String {
    token_of(signer, &json!({"alg": "ES256", "kid": signer.jwk["kid"]}))
}

const UNKNOWN: &str = "403 No key found for given 'kid' (unknown_kid)";
const BAD: &str = "403 Invalid signature (bad_signature)";

#[tokio::test]
async fn keys_rotate_without_a_refused_request() {
    let (old, new, other) = (
        Signer::p256("old"),
        Signer::p256("new"),
        Signer::p256("old"),
    );
    let idp = Issuer::start(&set_of(&[&old])).await;
    let directory = published(idp.keys(eager()));
    // The very first request, too, before the set has come.
    assert_eq!(verdict(&directory, "{}", &named(&old)).await, "ok: alice");
    assert_eq!(verdict(&directory, "{}", &named(&other)).await, BAD);
    assert_eq!(verdict(&directory, "{}", &named(&new)).await, UNKNOWN);
    idp.publishes(&set_of(&[&new, &old]));
    assert_eq!(verdict(&directory, "{}", &named(&new)).await, "ok: alice");
    let asked = idp.asked();
    for signer in [&old, &new] {
        assert_eq!(verdict(&directory, "{}", &named(signer)).await, "ok: alice");
    }
    assert_eq!(idp.asked(), asked);
    // What is withdrawn counts no longer, also where it was remembered.
    idp.publishes(&set_of(&[&new]));
    assert_eq!(
        verdict(&directory, "{}", &named(&Signer::p256("x"))).await,
        UNKNOWN
    );
    assert_eq!(verdict(&directory, "{}", &named(&old)).await, UNKNOWN);
    assert_eq!(verdict(&directory, "{}", &named(&new)).await, "ok: alice");
}

#[tokio::test]
async fn without_kid_all_keys_are_tried_and_rotation_is_noticed() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let idp = Issuer::start(&set_of(&[&old])).await;
    let directory = published(idp.keys(eager()));
    let nameless = |signer| token_of(signer, &json!({"alg": "ES256"}));
    assert_eq!(
        verdict(&directory, "{}", &nameless(&old)).await,
        "ok: alice"
    );
    assert_eq!(verdict(&directory, "{}", &nameless(&new)).await, BAD);
    idp.publishes(&set_of(&[&new]));
    assert_eq!(
        verdict(&directory, "{}", &nameless(&new)).await,
        "ok: alice"
    );
    assert_eq!(verdict(&directory, "{}", &nameless(&old)).await, BAD);
}

#[tokio::test]
async fn an_outage_is_bridged_and_one_from_the_start_is_nobody_s_fault() {
    let signer = Signer::p256("a");
    let idp = Issuer::start("away").await;
    let directory = published(idp.keys(eager()));
    let none = "503 The keys of the token's issuer are not available (no_key_set)";
    let guest = r#"{"anonymous": {"name": "guest"}}"#;
    for config in ["{}", guest] {
        assert_eq!(verdict(&directory, config, &named(&signer)).await, none);
    }
    idp.publishes(&set_of(&[&signer]));
    assert_eq!(
        verdict(&directory, "{}", &named(&signer)).await,
        "ok: alice"
    );
    idp.answers("500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        verdict(&directory, "{}", &named(&signer)).await,
        "ok: alice"
    );
    let unknown = named(&Signer::p256("unknown"));
    assert_eq!(verdict(&directory, "{}", &unknown).await, UNKNOWN);
    assert_eq!(
        verdict(&directory, guest, &unknown).await,
        "anonymous_unknown_kid: guest (anonymous)"
    );
}

#[tokio::test]
async fn a_token_has_no_say_in_how_it_is_verified() {
    let (signer, evil) = (Signer::p256("a"), Signer::p256("evil"));
    let idp = Issuer::start(&set_of(&[&signer])).await;
    let lure = Issuer::start(&set_of(&[&evil])).await;
    let directory = published(idp.keys(eager()));
    let url = format!("http://{}/keys", lure.address);
    for (member, value) in [
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("jwk", evil.jwk.clone()),
        ("x5c", json!(["AAAA"])),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "evil"});
        header[member] = value;
        assert_eq!(
            verdict(&directory, "{}", &token_of(&evil, &header)).await,
            UNKNOWN
        );
        // Beside a good signature it does no harm.
        header["kid"] = json!("a");
        assert_eq!(
            verdict(&directory, "{}", &token_of(&signer, &header)).await,
            "ok: alice"
        );
    }
    assert_eq!(lure.asked(), 0);
    for kid in [
        "../../../../dev/null",
        "' OR 1=1 --",
        "a\u{0}",
        "a ",
        "A",
        "",
    ] {
        let token = token_of(&evil, &json!({"alg": "ES256", "kid": kid}));
        assert_eq!(verdict(&directory, "{}", &token).await, UNKNOWN, "{kid:?}");
    }
    for kid in [json!(7), json!(null), json!(["a"]), json!({"a": 1})] {
        let token = token_of(&signer, &json!({"alg": "ES256", "kid": kid}));
        assert_eq!(verdict(&directory, "{}", &token).await, UNKNOWN, "{kid}");
    }
    for algorithm in ["ES384", "RS256", "HS256", "EdDSA"] {
        let token = token_of(&signer, &json!({"alg": algorithm, "kid": "a"}));
        let wrong = "403 Invalid algorithm (wrong_algorithm)";
        assert_eq!(
            verdict(&directory, "{}", &token).await,
            wrong,
            "{algorithm}"
        );
    }
    // The public key as a shared secret.
    let x = signer.jwk["x"].as_str().unwrap();
    let confused = hs256(
        r#"{"alg":"HS256","kid":"a"}"#,
        r#"{"iss":"https://idp.test"}"#,
        x.as_bytes(),
    );
    let wrong = "403 Invalid algorithm (wrong_algorithm)";
    assert_eq!(verdict(&directory, "{}", &confused).await, wrong);
}

#[tokio::test]
async fn signatures_of_nothing_and_encrypted_tokens_are_refused() {
    let signer = Signer::p256("a");
    let idp = Issuer::start(&set_of(&[&signer])).await;
    let directory = published(idp.keys(eager()));
    let (header, payload) = (
        json!({"alg": "ES256", "kid": "a"}),
        json!({"iss": "https://idp.test"}),
    );
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    let order: Vec<u8> = order.as_bytes().chunks(2).map(byte).collect();
    for signature in [
        Vec::new(),
        vec![0; 64],
        vec![0; 63],
        [order.clone(), order.clone()].concat(),
        [vec![0; 32], order].concat(),
        vec![0xff; 64],
    ] {
        let token = signed(&header.to_string(), &payload.to_string(), |_| signature);
        assert_eq!(verdict(&directory, "{}", &token).await, BAD);
    }
    // The key that opens it would be derived from a password, in as many rounds as it says, and its text unpacked.
    let jwe = json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": u32::MAX, "p2s": "AA", "zip": "DEF"});
    let five = format!("{}.AAAA.AAAA.AAAA.AAAA", encode(jwe.to_string()));
    let said = verdict(&directory, "{}", &five).await;
    assert!(said.starts_with("401 Bad token; invalid JSON"), "{said}");
    let three = signed(&jwe.to_string(), &payload.to_string(), |_| vec![0; 16]);
    let said = verdict(&directory, "{}", &three).await;
    assert!(said.starts_with("401 Bad token; invalid alg"), "{said}");
    let json_form = json!({"payload": encode("{}"), "signatures": [{"protected": encode(header.to_string()), "signature": "AA"}]});
    let said = verdict(&directory, "{}", &json_form.to_string().replace(' ', "")).await;
    assert!(said.starts_with("401 Bad token"), "{said}");
}
