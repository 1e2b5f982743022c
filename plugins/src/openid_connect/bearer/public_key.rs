//! The key that is given in the configuration.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use crate::jwt::{Algorithm, Material, VerificationKey};

/// The key, ready for each algorithm that it fits; of these only `expected`, if there is one.
pub(super) fn read(
    pem: &str,
    expected: Option<Algorithm>,
) -> Result<Box<[VerificationKey]>, String> {
    let der = match SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()) {
        Ok(key) => key,
        Err(_) => of_certificate(pem).ok_or(
            "publicKey: is no PEM public key (-----BEGIN PUBLIC KEY-----) or certificate that can be read",
        )?,
    };
    let keys: Box<[_]> = Algorithm::ALL
        .into_iter()
        .filter(|algorithm| !algorithm.is_symmetric())
        .filter(|algorithm| expected.is_none_or(|expected| expected == *algorithm))
        .filter_map(|algorithm| VerificationKey::new(algorithm, Material::PublicKey(&der)).ok())
        .collect();
    if keys.is_empty() {
        return Err(match expected {
            Some(expected) => format!("publicKey: is no key for {expected}"),
            None => "publicKey: must be an RSA, P-256, P-384 or Ed25519 key".to_owned(),
        });
    }
    Ok(keys)
}

fn of_certificate(pem: &str) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let certificate = webpki::EndEntityCert::try_from(&certificate).ok()?;
    Some(certificate.subject_public_key_info())
}
