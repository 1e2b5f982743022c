//! Wycheproof's signatures, those of RFC 7520 among them: each is accepted or refused as listed, or excepted by name.

use serde_json::Value as Json;

use super::*;
use crate::jwt::keys::SecretUse;
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
    let Ok(mut parts) = Parts::of(jws.as_bytes()) else {
        return false;
    };
    parts
        .decoded
        .splice(parts.header_end..parts.payload_end, *b"{}");
    parts.payload_end = parts.header_end + 2;
    let Ok(token) = parts.read("iss") else {
        return false;
    };
    let plain = SecretUse {
        base64: false,
        refuse_short: false,
    };
    token.algorithm == key.algorithm() && key.verify(token.signed, token.signature, plain).is_ok()
}

#[test]
fn signatures_are_judged_as_listed() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/vectors/json_web_signature_test.json"
    );
    let file: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
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
