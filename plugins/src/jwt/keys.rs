//! What signatures are verified with: parsed once, when the snapshot arrives.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::DecodingKey;

use super::{Algorithm, Family};
use crate::jwks::RemoteKeys;

/// What a Credential verifies with, as the snapshot has it.
#[derive(Clone, Copy)]
pub enum Material<'a> {
    /// A shared secret.
    Secret(&'a [u8]),
    /// A public key: a `SubjectPublicKeyInfo` in DER; of elliptic curves also the point itself.
    PublicKey(&'a [u8]),
    /// An RSA public key, whose numbers have no zeros in front.
    Rsa {
        /// The modulus.
        n: &'a [u8],
        /// The exponent.
        e: &'a [u8],
    },
}

impl fmt::Debug for Material<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(redacted)",
            Self::PublicKey(_) => "PublicKey",
            Self::Rsa { .. } => "Rsa",
        })
    }
}

/// An algorithm and a key that fits it. Which of the two a token wishes for has no say here.
pub struct VerificationKey {
    algorithm: Algorithm,
    key: Key,
    version: u64,
}

/// What a Credential's tokens are verified with: a key, or whatever keys its issuer has published.
#[derive(Debug)]
pub enum Verifier {
    /// One key.
    Key(VerificationKey),
    /// A set of them, and the algorithm that counts, whatever the set says.
    Set(Algorithm, Arc<RemoteKeys>),
}

impl Verifier {
    /// The one algorithm that counts.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Key(key) => key.algorithm(),
            Self::Set(algorithm, _) => *algorithm,
        }
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => Self::HS256,
            Algorithm::HS384 => Self::HS384,
            Algorithm::HS512 => Self::HS512,
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
            Algorithm::EdDSA => Self::EdDSA,
        }
    }
}

impl From<VerificationKey> for Verifier {
    fn from(key: VerificationKey) -> Self {
        Self::Key(key)
    }
}

enum Key {
    Secret(Box<SharedSecret>),
    Public(ParsedPublicKey),
}

struct SharedSecret {
    text: Box<[u8]>,
    plain: Hmac,
    /// Made of what the text is base64 of, when a plugin first asks for that; none where it is no base64.
    decoded: OnceLock<Option<Hmac>>,
}

struct Hmac {
    key: hmac::Key,
    /// Shorter than the hash.
    short: bool,
}

/// How a plugin uses shared secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SecretUse {
    pub(super) base64: bool,
    pub(super) refuse_short: bool,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unverified {
    /// The secret cannot be used as the plugin says.
    BadKey,
    /// The signature is wrong.
    BadSignature,
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationKey({})", self.algorithm)
    }
}

impl VerificationKey {
    /// Parses the key.
    ///
    /// # Errors
    /// The key is not of the kind that the algorithm needs.
    pub fn new(algorithm: Algorithm, material: Material<'_>) -> Result<Self, String> {
        let key = match (algorithm.family(), material) {
            (Family::Secret(length), Material::Secret(secret)) => {
                if secret.is_empty() {
                    return Err("the shared secret is empty".to_owned());
                }
                Key::Secret(Box::new(SharedSecret {
                    text: secret.into(),
                    plain: Hmac::new(algorithm, secret, length),
                    decoded: OnceLock::new(),
                }))
            }
            (Family::Secret(_), Material::PublicKey(_) | Material::Rsa { .. }) => {
                return Err(format!(
                    "{algorithm} needs a shared secret, not a public key"
                ));
            }
            (_, Material::Secret(_)) => {
                return Err(format!(
                    "{algorithm} needs a public key, not a shared secret"
                ));
            }
            (_, Material::PublicKey(_) | Material::Rsa { .. }) => {
                let public = public_key(algorithm, material)
                    .ok_or_else(|| format!("the public key is not one for {algorithm}"))?;
                Key::Public(public)
            }
        };
        static VERSION: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            algorithm,
            key,
            version: VERSION.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The one algorithm that it is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Tells apart all keys that this process has held.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The key as jsonwebtoken takes it, which parses it for each signature anew: for tokens that are verified once and then
    /// remembered. Of a shared secret its text.
    #[must_use]
    pub fn decoding_key(&self) -> DecodingKey {
        match (&self.key, self.algorithm.family()) {
            (Key::Secret(secret), _) => DecodingKey::from_secret(&secret.text),
            (Key::Public(key), Family::Rsa) => DecodingKey::from_rsa_der(key.as_ref()),
            (Key::Public(key), Family::Ed25519) => DecodingKey::from_ed_der(key.as_ref()),
            (Key::Public(key), _) => DecodingKey::from_ec_der(key.as_ref()),
        }
    }

    /// Whether it verifies a signature as it is.
    #[cfg(test)]
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let plain = SecretUse {
            base64: false,
            refuse_short: false,
        };
        self.verify(message, signature, plain).is_ok()
    }

    pub(super) fn verify(
        &self,
        message: &[u8],
        signature: &[u8],
        how: SecretUse,
    ) -> Result<(), Unverified> {
        match &self.key {
            Key::Secret(secret) => {
                let hmac = if how.base64 {
                    secret.decoded(self.algorithm)
                } else {
                    Some(&secret.plain)
                };
                let hmac = hmac
                    .filter(|hmac| !(how.refuse_short && hmac.short))
                    .ok_or(Unverified::BadKey)?;
                hmac::verify(&hmac.key, message, signature).map_err(|_| Unverified::BadSignature)
            }
            Key::Public(key) => key
                .verify_sig(message, signature)
                .map_err(|_| Unverified::BadSignature),
        }
    }
}

impl SharedSecret {
    fn decoded(&self, algorithm: Algorithm) -> Option<&Hmac> {
        let decode = || {
            let Family::Secret(length) = algorithm.family() else {
                return None;
            };
            let secret = decode(&self.text).filter(|secret| !secret.is_empty())?;
            Some(Hmac::new(algorithm, &secret, length))
        };
        self.decoded.get_or_init(decode).as_ref()
    }
}

impl Hmac {
    fn new(algorithm: Algorithm, secret: &[u8], length: usize) -> Self {
        let hash = match algorithm {
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        Self {
            key: hmac::Key::new(hash, secret),
            short: secret.len() < length,
        }
    }
}

/// Base64 in either alphabet, with or without padding: people store secrets in all of these.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
    let text = text.trim_ascii();
    PLAIN.decode(text).or_else(|_| URL.decode(text)).ok()
}

fn public_key(algorithm: Algorithm, material: Material<'_>) -> Option<ParsedPublicKey> {
    match material {
        Material::PublicKey(bytes) => {
            let verification: &'static dyn VerificationAlgorithm = match rsa(algorithm) {
                Some(parameters) => parameters,
                None => elliptic(algorithm)?,
            };
            ParsedPublicKey::new(verification, bytes).ok()
        }
        Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(rsa(algorithm)?)
            .ok(),
        Material::Secret(_) => None,
    }
}

const fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// ECDSA signatures are the two numbers one behind the other, never ASN.1 (RFC 7518, section 3.4).
fn elliptic(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &signature::ED25519,
        _ => return None,
    })
}
