//! How the gateway proves itself to a provider with a signed assertion (RFC 7523): with a shared secret, or a private key.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

/// The `client_assertion_type`.
pub(crate) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How many seconds an assertion is good, unless somebody wants it otherwise: it is sent at once, and used once.
const LIFETIME: u32 = 60;

/// Signs assertions. It shows nothing of its key.
pub(crate) struct Signer {
    header: Header,
    key: EncodingKey,
    lifetime: u32,
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
        write!(f, "Signer({:?}, redacted)", self.header.alg)
    }
}

impl Signer {
    fn new(algorithm: Algorithm, key: EncodingKey) -> Self {
        Self {
            header: Header::new(algorithm),
            key,
            lifetime: LIFETIME,
        }
    }

    /// Signs with HS256 and a secret.
    pub(crate) fn hs256(secret: &[u8]) -> Self {
        Self::new(Algorithm::HS256, EncodingKey::from_secret(secret))
    }

    /// Signs with HS512 and a secret.
    pub(crate) fn hs512(secret: &[u8]) -> Self {
        Self::new(Algorithm::HS512, EncodingKey::from_secret(secret))
    }

    /// Signs with a private key in PEM: PKCS #8, or the older forms for RSA and EC. The key says the algorithm.
    pub(crate) fn private(pem: &[u8]) -> Result<Self, &'static str> {
        let wrong = "it is no private key in PEM that can sign: RSA of at least 2048 bits, P-256, P-384 or Ed25519";
        let (algorithm, key) = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong)? {
            PrivateKeyDer::Pkcs1(der) => {
                let der = der.secret_pkcs1_der();
                rsa(RsaKeyPair::from_der(der), || {
                    Some(EncodingKey::from_rsa_der(der))
                })
            }
            PrivateKeyDer::Sec1(der) => {
                let der = der.secret_sec1_der();
                elliptic(|curve| EcdsaKeyPair::from_private_key_der(curve, der))
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                rsa(RsaKeyPair::from_pkcs8(der), || of_pkcs8(der))
                    .or_else(|| elliptic(|curve| EcdsaKeyPair::from_pkcs8(curve, der)))
                    .or_else(|| ed25519(der))
            }
            _ => None,
        }
        .ok_or(wrong)?;
        Ok(Self::new(algorithm, key))
    }

    /// Whether the key is one of RSA.
    pub(crate) fn is_rsa(&self) -> bool {
        self.header.alg == Algorithm::RS256
    }

    /// Names the key, for providers that know several of this client.
    pub(crate) fn named(mut self, kid: Option<String>) -> Self {
        self.header.kid = kid;
        self
    }

    /// Lets each assertion be good for so many seconds.
    pub(crate) const fn lasting(mut self, seconds: u32) -> Self {
        self.lifetime = seconds;
        self
    }

    /// An assertion that `client` is who asks `audience` now (seconds since 1970). No two have the same `jti`. None: the
    /// key cannot sign.
    pub(crate) fn assertion(&self, client: &str, audience: &str, now: i64) -> Option<String> {
        let claims = Claims {
            iss: client,
            sub: client,
            aud: audience,
            iat: now,
            exp: now.saturating_add(self.lifetime.into()),
            jti: uuid::Uuid::new_v4().to_string(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key).ok()
    }
}

/// A key of RSA that is long enough.
fn rsa<E>(
    pair: Result<RsaKeyPair, E>,
    key: impl FnOnce() -> Option<EncodingKey>,
) -> Option<(Algorithm, EncodingKey)> {
    pair.ok().filter(|pair| pair.public_modulus_len() >= 256)?;
    Some((Algorithm::RS256, key()?))
}

/// RSA keys are signed with as PKCS #1, which PKCS #8 wraps; jsonwebtoken unwraps it from PEM only.
fn of_pkcs8(der: &[u8]) -> Option<EncodingKey> {
    let text = STANDARD.encode(der);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    EncodingKey::from_rsa_pem(pem.as_bytes()).ok()
}

/// A key on one of the curves.
fn elliptic<E>(
    pair: impl Fn(&'static EcdsaSigningAlgorithm) -> Result<EcdsaKeyPair, E>,
) -> Option<(Algorithm, EncodingKey)> {
    let key = |curve| {
        let der = pair(curve).ok()?.to_pkcs8v1().ok()?;
        Some(EncodingKey::from_ec_der(der.as_ref()))
    };
    key(&ECDSA_P256_SHA256_FIXED_SIGNING)
        .map(|key| (Algorithm::ES256, key))
        .or_else(|| Some((Algorithm::ES384, key(&ECDSA_P384_SHA384_FIXED_SIGNING)?)))
}

/// A key of Ed25519; some are written without their public half.
fn ed25519(der: &[u8]) -> Option<(Algorithm, EncodingKey)> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
    let whole = pair.to_pkcs8().ok()?;
    Some((Algorithm::EdDSA, EncodingKey::from_ed_der(whole.as_ref())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::hmac;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{self, KeyPair, UnparsedPublicKey, VerificationAlgorithm};
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::Value;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
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
