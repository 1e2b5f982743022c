//! How the gateway proves itself to a provider with a signed assertion (RFC 7523): with a shared secret, or a private key.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

/// The `client_assertion_type`.
pub(crate) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good: it is sent at once, and used once.
const LIFETIME: i64 = 60;

/// Signs assertions. It shows nothing of its key.
pub(crate) struct Signer(Key);

enum Key {
    Hs256(hmac::Key),
    Hs512(hmac::Key),
    Rs256(Box<RsaKeyPair>),
    Es256(Box<EcdsaKeyPair>),
    Es384(Box<EcdsaKeyPair>),
    EdDsa(Box<Ed25519KeyPair>),
}

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, redacted)", self.algorithm())
    }
}

impl Signer {
    /// Signs with HS256 and a secret.
    pub(crate) fn hs256(secret: &[u8]) -> Self {
        Self(Key::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Signs with HS512 and a secret.
    pub(crate) fn hs512(secret: &[u8]) -> Self {
        Self(Key::Hs512(hmac::Key::new(hmac::HMAC_SHA512, secret)))
    }

    /// Signs with a private key in PEM: PKCS #8, or the older forms for RSA and EC. The key says the algorithm.
    pub(crate) fn private(pem: &[u8]) -> Result<Self, &'static str> {
        let wrong = "it is no private key in PEM that can sign: RSA of at least 2048 bits, P-256, P-384 or Ed25519";
        let key = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong)? {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Sec1(der) => {
                let (p256, p384) = (
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &ECDSA_P384_SHA384_FIXED_SIGNING,
                );
                let der = der.secret_sec1_der();
                es256(EcdsaKeyPair::from_private_key_der(p256, der))
                    .or_else(|| es384(EcdsaKeyPair::from_private_key_der(p384, der)))
            }
            PrivateKeyDer::Pkcs8(der) => {
                let (p256, p384) = (
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &ECDSA_P384_SHA384_FIXED_SIGNING,
                );
                let der = der.secret_pkcs8_der();
                rsa(RsaKeyPair::from_pkcs8(der))
                    .or_else(|| es256(EcdsaKeyPair::from_pkcs8(p256, der)))
                    .or_else(|| es384(EcdsaKeyPair::from_pkcs8(p384, der)))
                    .or_else(|| {
                        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
                        Some(Key::EdDsa(Box::new(key)))
                    })
            }
            _ => None,
        };
        key.map(Self).ok_or(wrong)
    }

    const fn algorithm(&self) -> &'static str {
        match self.0 {
            Key::Hs256(_) => "HS256",
            Key::Hs512(_) => "HS512",
            Key::Rs256(_) => "RS256",
            Key::Es256(_) => "ES256",
            Key::Es384(_) => "ES384",
            Key::EdDsa(_) => "EdDSA",
        }
    }

    /// An assertion that `client` is who asks `audience` now (seconds since 1970). No two have the same `jti`. None: the
    /// system has no randomness, or the key cannot sign.
    pub(crate) fn assertion(&self, client: &str, audience: &str, now: i64) -> Option<String> {
        let header = Header {
            alg: self.algorithm(),
            typ: "JWT",
        };
        let claims = Claims {
            iss: client,
            sub: client,
            aud: audience,
            iat: now,
            exp: now.saturating_add(LIFETIME),
            jti: uuid::Uuid::new_v4().to_string(),
        };
        let mut token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).ok()?);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&claims).ok()?, &mut token);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            Key::Hs256(key) | Key::Hs512(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Key::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .ok()?;
                Some(signature)
            }
            Key::Es256(key) | Key::Es384(key) => {
                let signature = key.sign(&random, message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Key::EdDsa(key) => Some(key.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }
}

fn rsa<E>(key: Result<RsaKeyPair, E>) -> Option<Key> {
    let key = key.ok().filter(|key| key.public_modulus_len() >= 256)?;
    Some(Key::Rs256(Box::new(key)))
}

fn es256<E>(key: Result<EcdsaKeyPair, E>) -> Option<Key> {
    key.ok().map(|key| Key::Es256(Box::new(key)))
}

fn es384<E>(key: Result<EcdsaKeyPair, E>) -> Option<Key> {
    key.ok().map(|key| Key::Es384(Box::new(key)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{self, KeyPair, UnparsedPublicKey, VerificationAlgorithm};
    use serde_json::Value;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    /// Makes an assertion and returns its algorithm, its claims, what was signed and the signature.
    fn made(signer: &Signer) -> (String, Value, String, Vec<u8>) {
        let token = signer
            .assertion("me", "https://idp.test/token", 1000)
            .unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let header: Value = serde_json::from_slice(&decode(header)).unwrap();
        let claims = serde_json::from_slice(&decode(claims)).unwrap();
        let algorithm = header["alg"].as_str().unwrap().to_owned();
        (algorithm, claims, signed.to_owned(), decode(signature))
    }

    #[test]
    fn the_claims_say_who_whom_and_until_when() {
        let (algorithm, claims, signed, signature) = made(&Signer::hs512(b"secret"));
        assert_eq!(algorithm, "HS512");
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&"me".into(), &"me".into())
        );
        assert_eq!(claims["aud"], "https://idp.test/token");
        assert_eq!(
            (&claims["iat"], &claims["exp"]),
            (&1000.into(), &1060.into())
        );
        let key = hmac::Key::new(hmac::HMAC_SHA512, b"secret");
        hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
        assert_eq!(made(&Signer::hs256(b"secret")).0, "HS256");
    }

    #[test]
    fn no_two_are_the_same() {
        let signer = Signer::hs256(b"secret");
        let ids: BTreeSet<String> = (0..100)
            .map(|_| made(&signer).1["jti"].to_string())
            .collect();
        assert_eq!(ids.len(), 100);
    }

    #[test]
    fn the_key_says_the_algorithm() {
        let check =
            |pem: &str, name: &str, how: &'static dyn VerificationAlgorithm, public: &[u8]| {
                let signer = Signer::private(pem.as_bytes()).unwrap();
                let (algorithm, _, signed, signature) = made(&signer);
                assert_eq!(algorithm, name);
                let public = UnparsedPublicKey::new(how, public);
                public.verify(signed.as_bytes(), &signature).unwrap();
            };
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = rsa.as_der().unwrap();
        let public = rsa.public_key().as_ref();
        check(
            &pem("PRIVATE KEY", der.as_ref()),
            "RS256",
            &signature::RSA_PKCS1_2048_8192_SHA256,
            public,
        );
        let random = SystemRandom::new();
        let (p256, p384) = (
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &ECDSA_P384_SHA384_FIXED_SIGNING,
        );
        let der = EcdsaKeyPair::generate_pkcs8(p256, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(p256, der.as_ref()).unwrap();
        let public = key.public_key().as_ref();
        check(
            &pem("PRIVATE KEY", der.as_ref()),
            "ES256",
            &signature::ECDSA_P256_SHA256_FIXED,
            public,
        );
        let der = EcdsaKeyPair::generate_pkcs8(p384, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(p384, der.as_ref()).unwrap();
        let public = key.public_key().as_ref();
        check(
            &pem("PRIVATE KEY", der.as_ref()),
            "ES384",
            &signature::ECDSA_P384_SHA384_FIXED,
            public,
        );
        let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
        let public = key.public_key().as_ref();
        check(
            &pem("PRIVATE KEY", der.as_ref()),
            "EdDSA",
            &signature::ED25519,
            public,
        );
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_key_is_shown() {
        for text in [
            "",
            "secret",
            &pem("PRIVATE KEY", b"x"),
            &pem("CERTIFICATE", b"x"),
        ] {
            assert!(Signer::private(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(
            format!("{:?}", Signer::hs256(b"hush")),
            "Signer(HS256, redacted)"
        );
    }
}
