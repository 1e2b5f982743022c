//! Certificates of HTTPS listeners, from Secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use snapshot::proto;
use snapshot::proto::resource::Body;

use crate::inputs::Inputs;
use crate::pass::Pass;
use crate::secrets::SecretBody;
use crate::{Kind, ObjectRef};

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Certificates that were looked at already: parsing private keys is too slow to do it at every change of a route.
#[derive(Debug, Default)]
pub(crate) struct Certificates(BTreeMap<ObjectRef, Result<Arc<Pair>, String>>);

/// A certificate that fits its key.
pub(crate) struct Pair {
    chain: Bytes,
    key: Bytes,
    leaf: CertificateDer<'static>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(redacted)")
    }
}

impl Certificates {
    /// A Secret changed.
    pub(crate) fn forget(&mut self, secret: &ObjectRef) {
        self.0.remove(secret);
    }

    fn pair(&mut self, inputs: &Inputs, secret: &ObjectRef) -> Result<Arc<Pair>, String> {
        if let Some(known) = self.0.get(secret) {
            return known.clone();
        }
        let Some((_, body)) = inputs.secret(&secret.namespace, &secret.name) else {
            return Err(format!("{secret} does not exist"));
        };
        if body.data.is_none() {
            return Err(format!("{secret} is being read"));
        }
        let pair = Pair::of(body)
            .map(Arc::new)
            .map_err(|problem| format!("{secret} {problem}"));
        self.0.insert(secret.clone(), pair.clone());
        pair
    }
}

impl Pair {
    fn of(secret: &SecretBody) -> Result<Self, String> {
        let entry = |name: &str| {
            let entry = secret
                .data
                .as_ref()
                .and_then(|data| data.get(name))
                .filter(|entry| !entry.is_empty());
            entry.ok_or_else(|| {
                format!("has no entry {name}; make it with `kubectl create secret tls NAME --cert=FILE --key=FILE`")
            })
        };
        let (chain, key) = (entry(CHAIN)?, entry(KEY)?);
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("holds no PEM certificates in {CHAIN}: {error}"))?;
        let leaf = certificates
            .first()
            .cloned()
            .ok_or_else(|| format!("holds no PEM certificate in {CHAIN}"))?;
        // The error is not quoted: it might hold a piece of the key.
        let parsed = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            format!("holds no PEM private key in {KEY} (PKCS#8, PKCS#1 or SEC1, not encrypted)")
        })?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(certificates, parsed, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("holds a private key that does not fit its {CHAIN}")
            }
            other => format!("holds a certificate or key that cannot be used: {other}"),
        })?;
        Ok(Self {
            chain: Bytes::copy_from_slice(chain),
            key: Bytes::copy_from_slice(key),
            leaf,
        })
    }

    /// Whether the certificate is for this host ("*.a.test" included).
    pub(crate) fn covers(&self, host: &str) -> bool {
        let concrete = host.replacen('*', "any", 1);
        let Ok(name) = ServerName::try_from(concrete) else {
            return false;
        };
        rustls::server::ParsedCertificate::try_from(&self.leaf)
            .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
    }
}

impl Pass<'_> {
    /// Writes the certificate of a Secret, and returns its key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn certificate(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Result<(String, Arc<Pair>), String> {
        let pair = self
            .certificates
            .pair(self.inputs, &ObjectRef::new(Kind::Secret, namespace, name))?;
        let key = format!("Certificate/{namespace}/{name}");
        let certificate = proto::Certificate {
            chain_pem: pair.chain.clone(),
            key_pem: pair.key.clone(),
        };
        self.resources.put(&key, Body::Certificate(certificate));
        Ok((key, pair))
    }
}
