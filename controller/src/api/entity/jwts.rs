//! What verifies signed tokens.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compile::{Compiler, ObjectRef};
use crds::CredentialSpec;
use plugins::jwt::Algorithm;
use serde_json::{Map, Value, json};

use super::{Made, Proof, Seen, text};
use crate::api::names;
use crate::api::refused::Refused;

pub(super) struct Jwts;

impl Proof for Jwts {
    fn flat(&self) -> &'static str {
        "jwts"
    }

    fn nested(&self) -> &'static str {
        "jwt"
    }

    fn entity(&self) -> &'static str {
        "jwt_secrets"
    }

    fn block(&self) -> &'static str {
        "jwt"
    }

    fn properties(&self) -> Value {
        let algorithms = [
            "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256",
            "PS384", "PS512", "EdDSA",
        ];
        let mut choices: Vec<Value> = algorithms.iter().map(|name| json!(name)).collect();
        choices.push(Value::Null);
        json!({
            "key": {"type": ["string", "null"], "minLength": 1, "maxLength": 1024,
                "description": "What the key claim of a token must equal; generated when absent."},
            "algorithm": {"type": ["string", "null"], "enum": choices,
                "description": "Default: HS256, or what fits rsa_public_key."},
            "secret": {"type": ["string", "null"], "minLength": 1, "maxLength": 65536,
                "description": "Shared secret of HS256, HS384 and HS512; generated when absent. Null where the caller may not read its Secret."},
            "rsa_public_key": {"type": ["string", "null"], "minLength": 1, "maxLength": 16384,
                "description": "Public key or X.509 certificate (PEM) of every other algorithm."},
        })
    }

    fn unique(&self) -> &'static str {
        "key"
    }

    fn unique_is_secret(&self) -> bool {
        false
    }

    fn secret(&self) -> (&'static str, &'static str) {
        ("secret", "secret")
    }

    fn is(&self, spec: &CredentialSpec) -> bool {
        spec.jwt.is_some()
    }

    fn show(&self, seen: &Seen<'_>) -> Map<String, Value> {
        // A generated key is an issuer's name rather than a secret, but it is kept in a Secret and shown like one.
        let (key, algorithm, secret, public) = match seen.object.credential() {
            Some(spec) => {
                let block = spec.jwt.clone().unwrap_or_default();
                let symmetric = block.algorithm.is_symmetric();
                let secret = symmetric
                    .then(|| seen.entry(block.secret_ref.as_ref(), "secret"))
                    .flatten();
                let public = block.public_key.clone().or_else(|| {
                    let named = block.public_key_secret_ref.as_ref()?;
                    seen.entry(Some(named), "")
                });
                let key = block.key.or_else(|| seen.entry(None, "key"));
                (key, json!(block.algorithm), secret, public)
            }
            None => (
                seen.entry(None, "key"),
                seen.entry(None, "algorithm")
                    .map_or_else(|| json!("HS256"), Value::String),
                seen.entry(None, "secret"),
                seen.entry(None, "rsa_public_key")
                    .or_else(|| seen.entry(None, "publicKey")),
            ),
        };
        Map::from_iter([
            ("key".to_owned(), json!(key)),
            ("algorithm".to_owned(), algorithm),
            ("secret".to_owned(), json!(secret)),
            ("rsa_public_key".to_owned(), json!(public)),
        ])
    }

    fn holder<'a>(
        &self,
        compiler: &'a Compiler,
        namespace: &str,
        value: &str,
    ) -> Option<&'a ObjectRef> {
        compiler.jwt_key_holder(namespace, value)
    }

    fn make(
        &self,
        fields: &Map<String, Value>,
        before: &Value,
        secret: &str,
    ) -> Result<Made, Refused> {
        let given = |name: &str| text(fields, name).map(str::to_owned);
        let public = given("rsa_public_key");
        let algorithm = match (given("algorithm"), &public, before["algorithm"].as_str()) {
            (Some(algorithm), _, _) => algorithm,
            (None, Some(public), _) => fitting(public).ok_or_else(|| {
                Refused::violation(
                    "rsa_public_key",
                    "is neither an RSA, an EC nor an Ed25519 key in PEM",
                )
            })?,
            (None, None, Some(before)) => before.to_owned(),
            (None, None, None) => "HS256".to_owned(),
        };
        let read: Algorithm = serde_json::from_value(json!(algorithm))
            .map_err(|_| Refused::violation("algorithm", "is not supported"))?;
        let mut block = Map::new();
        block.insert("algorithm".to_owned(), json!(algorithm));
        match given("key").or_else(|| before["key"].as_str().map(str::to_owned)) {
            Some(key) => {
                block.insert("key".to_owned(), json!(key));
            }
            None if before.is_null() => {
                block.insert("key".to_owned(), json!(names::secret()?));
            }
            // The generated one stays.
            None => {}
        }
        let entries = if read.is_symmetric() {
            if public.is_some() {
                let message = format!("{algorithm} has no public key");
                return Err(Refused::violation("rsa_public_key", &message));
            }
            shared_secret(given("secret"), before, secret, &mut block)?
        } else {
            if given("secret").is_some() {
                let message = format!("{algorithm} has no shared secret");
                return Err(Refused::violation("secret", &message));
            }
            public_key(public, before, &mut block).ok_or_else(|| {
                let message = format!("required field missing: {algorithm} needs a public key");
                Refused::violation("rsa_public_key", &message)
            })?;
            BTreeMap::new()
        };
        Ok(Made {
            block: Value::Object(block),
            entries,
        })
    }
}

/// Where the shared secret is, and what has to be written there.
fn shared_secret(
    given: Option<String>,
    before: &Value,
    own: &str,
    block: &mut Map<String, Value>,
) -> Result<BTreeMap<String, String>, Refused> {
    let kept = before.get("secretRef").filter(|kept| !kept.is_null());
    let was_symmetric = !before.is_null()
        && before["algorithm"]
            .as_str()
            .is_none_or(|algorithm| algorithm.starts_with("HS"));
    match (given, kept) {
        (None, Some(kept)) => {
            block.insert("secretRef".to_owned(), kept.clone());
            Ok(BTreeMap::new())
        }
        // The generated one stays.
        (None, None) if was_symmetric => Ok(BTreeMap::new()),
        (value, _) => {
            let value = value.map_or_else(names::secret, Ok)?;
            let reference = json!({"name": own, "key": "secret"});
            block.insert("secretRef".to_owned(), reference);
            Ok([("secret".to_owned(), value)].into())
        }
    }
}

/// The public key that is given, or the one that was there; None where there is neither.
fn public_key(given: Option<String>, before: &Value, block: &mut Map<String, Value>) -> Option<()> {
    let places = [
        "publicKey",
        "publicKeySecretRef",
        "publicKeyConfigMapRef",
        "jwksUri",
    ];
    let (name, value) = match given {
        Some(given) => ("publicKey", json!(given)),
        None => places.into_iter().find_map(|name| {
            let kept = before.get(name).filter(|kept| !kept.is_null())?;
            Some((name, kept.clone()))
        })?,
    };
    block.insert(name.to_owned(), value);
    Some(())
}

/// The usual algorithm of a key. Whether the key is any good is judged where it is used.
fn fitting(pem: &str) -> Option<String> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
    let text: String = pem
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let der = STANDARD.decode(text).ok()?;
    let has = |part: &[u8]| der.windows(part.len()).any(|window| window == part);
    let algorithm = if has(RSA) {
        "RS256"
    } else if has(EC) && has(P384) {
        "ES384"
    } else if has(EC) {
        "ES256"
    } else if has(ED25519) {
        "EdDSA"
    } else {
        return None;
    };
    Some(algorithm.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    #[test]
    fn a_public_key_says_what_it_is_for() {
        for (kind, expected) in [
            (&PKCS_ECDSA_P256_SHA256, "ES256"),
            (&PKCS_ECDSA_P384_SHA384, "ES384"),
            (&PKCS_ED25519, "EdDSA"),
        ] {
            let pair = KeyPair::generate_for(kind).unwrap();
            assert_eq!(fitting(&pair.public_key_pem()).as_deref(), Some(expected));
        }
        assert_eq!(fitting("nonsense"), None);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before =
            json!({"key": "k", "algorithm": "HS256", "secretRef": {"name": "s", "key": "e"}});
        let change = |fields: Value| {
            let Value::Object(fields) = fields else {
                panic!()
            };
            Jwts.make(&fields, &before, "own")
        };
        let made = change(json!({"key": "l"})).unwrap();
        assert_eq!(made.block["secretRef"]["name"], "s");
        assert_eq!((&made.block["key"], made.entries.len()), (&json!("l"), 0));
        let made = change(json!({"secret": "new"})).unwrap();
        assert_eq!(made.block["secretRef"]["name"], "own");
        assert_eq!(made.entries["secret"], "new");
        assert!(change(json!({"algorithm": "RS256"})).is_err());
        assert!(change(json!({"rsa_public_key": "x"})).is_err());
    }
}
