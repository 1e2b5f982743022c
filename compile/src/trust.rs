//! Certificates of authorities, from ConfigMaps and Secrets: whom gateways trust.

use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::inputs::Inputs;
use crate::object::Body;
use crate::{Kind, ObjectRef};

/// The entry that holds them, in ConfigMaps and Secrets alike.
const ENTRY: &str = "ca.crt";

/// The kind that a reference to authorities names, if such a one can hold them.
pub(crate) fn kind_of(group: &str, kind: &str) -> Option<Kind> {
    match (group, kind) {
        ("" | "core", "ConfigMap") => Some(Kind::ConfigMap),
        ("" | "core", "Secret") => Some(Kind::Secret),
        _ => None,
    }
}

/// The PEM certificates of authorities in an object.
///
/// # Errors
/// What is missing or wrong.
pub(crate) fn authorities(inputs: &Inputs, from: &ObjectRef) -> Result<Bytes, String> {
    let Some(object) = inputs.of(from) else {
        return Err(format!("{from} does not exist"));
    };
    let text = match &object.body {
        Body::ConfigMap(map) => map
            .pem(ENTRY)
            .map(|pem| Bytes::copy_from_slice(pem.as_bytes()))
            .map_err(|problem| format!("{from} {problem}"))?,
        Body::Secret(secret) => {
            let data = secret.data.as_ref();
            let data = data.ok_or_else(|| format!("{from} is being read"))?;
            let entry = data.get(ENTRY);
            let entry = entry.ok_or_else(|| format!("{from} has no entry {ENTRY}"))?;
            Bytes::copy_from_slice(entry)
        }
        _ => return Err(format!("{from} cannot be read")),
    };
    check(&text).map_err(|problem| format!("{from} {problem}"))?;
    Ok(text)
}

fn check(pem: &[u8]) -> Result<(), String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("holds no PEM certificates in {ENTRY}: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("holds no PEM certificate in {ENTRY}"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| {
            format!("holds a certificate in {ENTRY} that cannot be used: {error}")
        })?;
    }
    Ok(())
}
