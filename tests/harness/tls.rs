//! Certificates, and clients that look at them.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::within;

/// A self-signed certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM.
    pub chain: String,
    /// PEM.
    pub key: String,
    /// DER, to compare with.
    pub der: Vec<u8>,
}

impl Certificate {
    /// For these names.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            der: made.cert.der().to_vec(),
        }
    }
}

/// A TLS connection to the gateway.
#[derive(Debug)]
pub struct Session {
    pub stream: TlsStream<TcpStream>,
    /// The certificate that the server showed, DER.
    pub certificate: Vec<u8>,
    /// What ALPN chose.
    pub protocol: Option<String>,
    pub version: rustls::ProtocolVersion,
}

/// Connects with an SNI name (None: none is sent), ALPN protocols and the TLS versions that may be used.
///
/// # Errors
/// What the handshake failed with.
pub async fn connect(
    port: u16,
    sni: Option<&str>,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<Session> {
    let shown = Arc::new(Shown {
        certificate: Mutex::default(),
        provider: aws_lc_rs::default_provider().into(),
    });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&shown.provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Shown>::clone(&shown))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config.enable_sni = sni.is_some();
    let name = ServerName::try_from(sni.unwrap_or("unnamed.test").to_owned()).expect("a name");
    let tcp = within("a connection", TcpStream::connect(("127.0.0.1", port))).await?;
    tcp.set_nodelay(true)?;
    let stream = within(
        "a TLS handshake",
        TlsConnector::from(Arc::new(config)).connect(name, tcp),
    )
    .await?;
    let session = stream.get_ref().1;
    let protocol = session
        .alpn_protocol()
        .map(|p| String::from_utf8_lossy(p).into_owned());
    let version = session
        .protocol_version()
        .expect("a version after the handshake");
    let certificate = shown.certificate.lock().clone();
    Ok(Session {
        stream,
        certificate,
        protocol,
        version,
    })
}

/// TLS 1.3 and 1.2.
pub const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Accepts every certificate and keeps it, so that a test can say which one it must be.
#[derive(Debug)]
struct Shown {
    certificate: Mutex<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.certificate.lock() = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
