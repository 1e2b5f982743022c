//! TLS towards upstreams: whose certificates count, and which one is shown.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor,
    verify_server_name,
};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use snapshot::proto::UpstreamTls;

use crate::tls::Certificate;

/// How to connect to an upstream that speaks TLS.
pub(crate) struct Connector {
    /// Tells connections of this kind from others to the same address.
    pub(crate) id: u64,
    pub(crate) http2: bool,
    pub(crate) server_name: ServerName<'static>,
    /// Err: nobody can tell whom to trust; every request gets 500.
    pub(crate) config: Result<Arc<ClientConfig>, Arc<str>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({})", self.id)
    }
}

/// What a connector is made of.
#[derive(Clone, PartialEq)]
struct MadeOf {
    tls: UpstreamTls,
    /// The client's certificate, by address: the same one is the same.
    certificate: Option<usize>,
}

/// Connectors in use. One that would be the same is the same, so that its connections stay in use.
#[derive(Default)]
pub(crate) struct Connectors {
    /// By upstream and key of the client's certificate.
    known: HashMap<(Box<str>, Box<str>), Known>,
}

struct Known {
    made_of: MadeOf,
    connector: Arc<Connector>,
    used: bool,
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connectors")
    }
}

/// The certificate that a Gateway shows to upstreams: its key, and itself, where it is there.
pub(crate) type Shown<'a> = (&'a str, Option<&'a Arc<Certificate>>);

impl Connectors {
    /// The connector of an upstream for a Gateway.
    pub(crate) fn of(
        &mut self,
        upstream: &str,
        tls: &UpstreamTls,
        shown: Option<Shown<'_>>,
        provider: &Arc<CryptoProvider>,
    ) -> Arc<Connector> {
        let (key, certificate) = shown.unwrap_or_default();
        let made_of = MadeOf {
            tls: tls.clone(),
            certificate: certificate.map(|certificate| Arc::as_ptr(certificate).addr()),
        };
        let place = (Box::from(upstream), Box::from(key));
        if let Some(known) = self.known.get_mut(&place)
            && known.made_of == made_of
        {
            known.used = true;
            return Arc::clone(&known.connector);
        }
        let config = if !key.is_empty() && certificate.is_none() {
            Err("the Gateway's client certificate is not there".to_owned())
        } else {
            config(
                tls,
                certificate.map(|certificate| certificate.key()),
                provider,
            )
        };
        // A name that cannot be read was refused with the upstream.
        let server_name = ServerName::try_from(tls.server_name.clone());
        let connector = Arc::new(Connector {
            id: next(),
            http2: tls.http2,
            config: match (&server_name, config) {
                (Ok(_), config) => config.map(Arc::new).map_err(Arc::from),
                (Err(_), _) => Err("the upstream's name is not valid".into()),
            },
            server_name: server_name
                .unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())),
        });
        let known = Known {
            made_of,
            connector: Arc::clone(&connector),
            used: true,
        };
        self.known.insert(place, known);
        connector
    }

    /// Forgets what was not asked for since the last call.
    pub(crate) fn forget_unused(&mut self) {
        self.known
            .retain(|_, known| std::mem::replace(&mut known.used, false));
    }
}

/// Numbers are never used twice.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Whether what a message says can be used at all.
pub(crate) fn check(tls: &UpstreamTls, provider: &Arc<CryptoProvider>) -> Result<(), String> {
    if !tls.closed.is_empty() {
        return Ok(());
    }
    ServerName::try_from(tls.server_name.as_str())
        .map_err(|_| format!("{:?} is no name of a server", tls.server_name))?;
    config(tls, None, provider).map(drop)
}

fn config(
    tls: &UpstreamTls,
    certificate: Option<&Arc<CertifiedKey>>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, String> {
    if !tls.closed.is_empty() {
        return Err(tls.closed.clone());
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if tls.unverified {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(Arc::clone(provider))))
    } else {
        let roots = if tls.system_roots {
            outbound::system_roots()
        } else {
            Arc::new(roots(&tls.roots_pem)?)
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
                .build()
                .map_err(|error| error.to_string())?;
        if tls.names.is_empty() && tls.uris.is_empty() {
            builder.with_webpki_verifier(verifier)
        } else {
            let names = tls.names.iter().map(|name| {
                ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is no DNS name"))
            });
            let verifier = OtherNames {
                provider: Arc::clone(provider),
                inner: verifier,
                roots,
                names: names.collect::<Result<_, _>>()?,
                uris: tls.uris.clone(),
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(key) => builder.with_client_cert_resolver(Arc::new(One(Arc::clone(key)))),
    };
    config.alpn_protocols = vec![if tls.http2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    Ok(config)
}

/// Certificates of authorities, from PEM.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|error| format!("an authority's certificate is no readable PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("an authority's certificate cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err("there is no authority to trust".to_owned());
    }
    Ok(roots)
}

/// The one certificate for whoever asks.
#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesClientCert for One {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes certificates for any of some names, whatever the server is called.
#[derive(Debug)]
struct OtherNames {
    provider: Arc<CryptoProvider>,
    inner: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    names: Vec<ServerName<'static>>,
    uris: Vec<String>,
}

impl ServerCertVerifier for OtherNames {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let named = self
            .names
            .iter()
            .any(|name| verify_server_name(&parsed, name).is_ok());
        let has_uri = || {
            webpki::EndEntityCert::try_from(end_entity).is_ok_and(|certificate| {
                certificate
                    .valid_uri_names()
                    .any(|uri| self.uris.iter().any(|wanted| wanted == uri))
            })
        };
        if named || has_uri() {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes any certificate, as an Ingress may ask for: encrypted, but nobody knows with whom.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
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
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
