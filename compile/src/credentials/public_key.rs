//! Public keys out of PEM, judged by what their algorithm needs.

use ::plugins::jwt::{Algorithm, Family};
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::pem::{self, SectionKind};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The `SubjectPublicKeyInfo`, DER, of a PEM public key or X.509 certificate; or what is wrong with it, and the remedy.
pub(super) fn read(algorithm: Algorithm, text: &[u8]) -> Result<Vec<u8>, String> {
    let der = der_of(text)?;
    let (rest, key) = SubjectPublicKeyInfo::from_der(&der)
        .map_err(|_| "the public key cannot be read".to_owned())?;
    if !rest.is_empty() {
        return Err("the public key cannot be read: something follows it".to_owned());
    }
    let (found, bits) = kind_of(&key);
    let (wanted, remedy) = match algorithm.family() {
        Family::Rsa => ("an RSA key", "RS256, RS384, RS512, PS256, PS384 or PS512"),
        Family::P256 => ("a key on the curve P-256", "ES256"),
        Family::P384 => ("a key on the curve P-384", "ES384"),
        Family::Ed25519 => ("an Ed25519 key", "EdDSA"),
        Family::Secret(_) => {
            return Err(format!(
                "{algorithm} is verified with a shared secret, not with a public key"
            ));
        }
    };
    if found != wanted {
        return Err(format!(
            "{algorithm} needs {wanted}, this is {found}; {wanted} is what {remedy} take"
        ));
    }
    if let Some(bits) = bits.filter(|bits| !(2048..=8192).contains(bits)) {
        return Err(format!(
            "the RSA key has {bits} bits; it must have 2048 to 8192"
        ));
    }
    ParsedPublicKey::new(verification(algorithm), &der).map_err(|_| {
        format!("the public key is not {wanted} that can be used: its numbers are not valid")
    })?;
    Ok(der)
}

fn der_of(text: &[u8]) -> Result<Vec<u8>, String> {
    const REMEDY: &str =
        "give one PEM block, -----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----";
    let mut reader = text;
    let mut keys = Vec::new();
    let mut certificates = Vec::new();
    loop {
        match pem::from_buf(&mut reader) {
            Ok(Some((SectionKind::PublicKey, der))) => keys.push(der),
            Ok(Some((SectionKind::Certificate, der))) => certificates.push(der),
            Ok(Some((
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey,
                _,
            ))) => {
                return Err(format!(
                    "holds a private key, which belongs to the issuer alone; {REMEDY} (openssl pkey -pubout makes one)"
                ));
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return Err(format!("is not PEM that can be read; {REMEDY}")),
        }
    }
    match (keys.as_mut_slice(), certificates.first()) {
        ([key], None) => Ok(std::mem::take(key)),
        // Behind the issuer's own certificate may be those that signed it.
        ([], Some(certificate)) => {
            let (_, certificate) = x509_parser::parse_x509_certificate(certificate)
                .map_err(|_| "the certificate cannot be read".to_owned())?;
            Ok(certificate.tbs_certificate.subject_pki.raw.to_vec())
        }
        ([], None) => Err(format!("holds no public key; {REMEDY}")),
        _ => Err(format!("holds several keys; {REMEDY}")),
    }
}

/// What a key is, in words, and how many bits an RSA key has.
fn kind_of(key: &SubjectPublicKeyInfo<'_>) -> (&'static str, Option<usize>) {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let Ok(PublicKey::RSA(rsa)) = key.parsed() else {
            return ("a damaged RSA key", None);
        };
        return ("an RSA key", Some(bits(rsa.modulus)));
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => ("a key on the curve P-256", None),
            Some(curve) if curve == OID_NIST_EC_P384 => ("a key on the curve P-384", None),
            _ => ("a key on another elliptic curve", None),
        };
    }
    if *algorithm == OID_SIG_ED25519 {
        return ("an Ed25519 key", None);
    }
    ("a key of another kind", None)
}

fn bits(modulus: &[u8]) -> usize {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus
        .get(zeros)
        .map_or(0, |byte| byte.leading_zeros() as usize);
    (modulus.len() - zeros) * 8 - first
}

fn verification(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm.family() {
        Family::P256 => &signature::ECDSA_P256_SHA256_FIXED,
        Family::P384 => &signature::ECDSA_P384_SHA384_FIXED,
        Family::Ed25519 => &signature::ED25519,
        Family::Rsa | Family::Secret(_) => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}
