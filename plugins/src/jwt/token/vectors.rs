//! Wycheproof's signatures, those of RFC 7520 among them: each is accepted or refused as listed, or excepted by name.

use serde_json::Value as Json;

use super::*;
use crate::jwks::KeySet;
use crate::jwt::{Material, VerificationKey};

/// What is decided otherwise than listed: the number of the vector, and why.
const EXCEPTED: &[(u64, &str)] = &[
    (346, "the key is for PS256, the token says PS384"),
    (347, "ES512 is not supported"),
    (350, "the key is for PS256, the token says PS384"),
    (351, "ES512 is not supported"),
    (367, "it is, letter for letter, number 357, which is good"),
    (370, "it is, letter for letter, number 357, which is good"),
    (372, "a character that is no base64url is refused here"),
    (373, "a character that is no base64url is refused here"),
];

/// Keys that no Credential can hold.
fn is_of_no_credential(jwk: &Json) -> bool {
    // Credentials name an algorithm, and have keys for signatures only.
    let for_signatures = jwk["use"] != "enc" && jwk["key_ops"] != serde_json::json!(["encrypt"]);
    jwk["alg"].is_null() || !for_signatures
}

fn bytes(jwk: &Json, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap()
}

/// A value of ASN.1.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let length = match length {
        ..0x80 => vec![low],
        0x80..0x100 => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], &length[..], content].concat()
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if bytes[0] < 0x80 { &[] } else { &[0] };
    der(2, &[sign, bytes].concat())
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    der(0x30, &[algorithm, &der(3, &[&[0], key].concat())].concat())
}

/// The key that a Credential would hold.
fn key_of(jwk: &Json) -> Option<VerificationKey> {
    const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    const P256: &[u8] =
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    if is_of_no_credential(jwk) {
        return None;
    }
    let algorithm = Algorithm::from_name(jwk["alg"].as_str()?)?;
    let key = match jwk["kty"].as_str()? {
        "oct" => VerificationKey::new(algorithm, Material::Secret(&bytes(jwk, "k"))),
        "RSA" => {
            let key = der(
                0x30,
                &[integer(&bytes(jwk, "n")), integer(&bytes(jwk, "e"))].concat(),
            );
            VerificationKey::new(algorithm, Material::PublicKey(&spki(RSA, &key)))
        }
        _ => {
            let point = [&[4], &bytes(jwk, "x")[..], &bytes(jwk, "y")].concat();
            VerificationKey::new(algorithm, Material::PublicKey(&spki(P256, &point)))
        }
    };
    Some(key.unwrap())
}

/// Whether the signature counts, whatever the payload is.
fn accepts(key: &VerificationKey, jws: &str) -> bool {
    judge(jws, |token| {
        token.algorithm == key.algorithm() && key.verifies(token.signed, token.signature)
    })
}

/// Whether one of the keys of a set verifies the signature, for a Credential of the token's algorithm.
fn a_key_accepts(set: &KeySet, jws: &str) -> bool {
    judge(jws, |token| {
        let candidates = set.candidates(token.kid(), token.algorithm);
        let mut keys = candidates.keys();
        keys.any(|key| key.verifies(token.signed, token.signature))
    })
}

fn judge(jws: &str, judge: impl FnOnce(&Token<'_>) -> bool) -> bool {
    let Ok(mut parts) = Parts::of(jws.as_bytes()) else {
        return false;
    };
    parts
        .decoded
        .splice(parts.header_end..parts.payload_end, *b"{}");
    parts.payload_end = parts.header_end + 2;
    parts.read("iss").is_ok_and(|token| judge(&token))
}

fn file(name: &str) -> Json {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/");
    let text = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn signatures_are_judged_as_listed() {
    let file = file("json_web_signature_test.json");
    let (mut judged, mut wrong) = (0, Vec::new());
    for group in file["testGroups"].as_array().unwrap() {
        let jwk = if group["public"].is_null() {
            &group["private"]
        } else {
            &group["public"]
        };
        let key = key_of(jwk);
        for test in group["tests"].as_array().unwrap() {
            let accepted = match (&key, &test["jws"]) {
                (Some(key), Json::String(jws)) => accepts(key, jws),
                _ => false,
            };
            let number = test["tcId"].as_u64().unwrap();
            let excepted = EXCEPTED.iter().any(|(other, _)| *other == number);
            if (accepted != (test["result"] == "valid")) != excepted {
                wrong.push(format!(
                    "{number} {} {}: {test}",
                    group["comment"], jwk["alg"]
                ));
            }
            judged += 1;
        }
    }
    assert_eq!(judged, 401);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is decided otherwise than listed of sets: the number of the vector, and why.
const SETS_EXCEPTED: &[(u64, &str)] = &[
    (2, "shared secrets are never taken from a set"),
    (
        7,
        "how a key was made is its issuer's affair: the weakness of ROCA is not searched for",
    ),
    (13, "shared secrets are never taken from a set"),
    (14, "shared secrets are never taken from a set"),
    (15, "shared secrets are never taken from a set"),
];

#[test]
fn sets_are_judged_as_listed() {
    let file = file("json_web_key_test.json");
    let (mut judged, mut wrong) = (0, Vec::new());
    for group in file["testGroups"].as_array().unwrap() {
        let published = if group["public"].is_null() {
            &group["private"]
        } else {
            &group["public"]
        };
        let set = KeySet::parse(published.to_string().as_bytes(), None);
        for test in group["tests"].as_array().unwrap() {
            let jws = test["jws"].as_str().unwrap();
            let accepted = set.as_ref().is_ok_and(|set| a_key_accepts(set, jws));
            let number = test["tcId"].as_u64().unwrap();
            let excepted = SETS_EXCEPTED.iter().any(|(other, _)| *other == number);
            if (accepted != (test["result"] == "valid")) != excepted {
                wrong.push(format!("{number} {}: {test}", group["comment"]));
            }
            judged += 1;
        }
    }
    assert_eq!(judged, 26);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_signatures_of_rfc_7520_and_rfc_8037_verify() {
    for (name, supported) in [
        ("jws_4_1.rsa_v15_signature", true),
        ("jws_4_2.rsa-pss_signature", true),
        // P-521.
        ("jws_4_3.ecdsa_signature", false),
        ("curve25519_jws", true),
    ] {
        let example = file(&format!("rfc7520/{name}.json"));
        let mut jwk = example["input"]["key"].clone();
        let private = format!(r#"{{"keys":[{jwk}]}}"#);
        // With its private part, as the example has it, it is no key to trust.
        assert!(KeySet::parse(private.as_bytes(), None).is_err(), "{name}");
        for member in ["d", "p", "q", "dp", "dq", "qi"] {
            jwk.as_object_mut().unwrap().remove(member);
        }
        let set = KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes(), None);
        let jws = example["output"]["compact"].as_str().unwrap();
        let accepted = set.as_ref().is_ok_and(|set| a_key_accepts(set, jws));
        assert_eq!(accepted, supported, "{name}");
        // The last character of an RSA signature may hold bits that mean nothing; one before it does not.
        let at = jws.len() - 9;
        let other = if jws.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut changed = jws.to_owned();
        changed.replace_range(at..=at, other);
        assert!(
            !set.is_ok_and(|set| a_key_accepts(&set, &changed)),
            "{name}"
        );
    }
}
