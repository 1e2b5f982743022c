//! Whom a call trusts.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::profile::{ProfileError, Verify};

/// TLS towards the endpoints of a profile, and towards its forward proxies, which speak HTTP/1.1.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) endpoint: Arc<ClientConfig>,
    pub(crate) proxy: Arc<ClientConfig>,
}

impl Tls {
    pub(crate) fn new(verify: &Verify) -> Result<Self, ProfileError> {
        static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
        let provider = PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()));
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| ProfileError::Tls)?;
        let mut config = match verify {
            Verify::System => builder.with_root_certificates(system_roots()),
            Verify::Only(pem) => builder.with_root_certificates(Arc::new(private_roots(pem)?)),
            Verify::Nothing => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(
                    provider.signature_verification_algorithms,
                ))),
        }
        .with_no_client_auth();
        let proxy = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            endpoint: Arc::new(config),
            proxy,
        })
    }
}

/// The roots of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), or those that browsers ship where the system has
/// none, as in an image with one file.
#[must_use]
pub fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    });
    Arc::clone(roots)
}

fn private_roots(pem: &[u8]) -> Result<RootCertStore, ProfileError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| ProfileError::Ca)?;
        roots.add(certificate).map_err(|_| ProfileError::Ca)?;
    }
    if roots.is_empty() {
        return Err(ProfileError::Ca);
    }
    Ok(roots)
}

/// Takes every certificate. The handshake itself is still checked, so that who presents one holds its key.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
