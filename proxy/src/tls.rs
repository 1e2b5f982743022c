//! Certificates, and which of them a handshake gets.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use snapshot::proto::ClientValidation;

use crate::router::Hosts;
use crate::upstream::roots;

/// A chain with its key.
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    /// DNS names that it is for, in lower case.
    names: Vec<Box<str>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?})", self.names)
    }
}

impl Certificate {
    /// Reads PEM: the certificate first, then its issuers; and the key of the first.
    ///
    /// # Errors
    /// What is wrong with them. Nothing of the key is in the text.
    pub(crate) fn read(
        chain_pem: &[u8],
        key_pem: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(chain_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("the certificate is not readable PEM: {error}"))?;
        let Some(first) = chain.first() else {
            return Err("there is no certificate in the PEM text".to_owned());
        };
        let names = match webpki::EndEntityCert::try_from(first) {
            Ok(certificate) => certificate
                .valid_dns_names()
                .map(|name| name.to_ascii_lowercase().into())
                .collect(),
            Err(error) => return Err(format!("the certificate is not usable: {error}")),
        };
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| {
            "there is no readable private key (PKCS#8, PKCS#1 or SEC1) in the PEM text".to_owned()
        })?;
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| format!("certificate and private key do not go together: {error}"))?;
        Ok(Self {
            key: Arc::new(key),
            names,
        })
    }
}

impl Certificate {
    pub(crate) const fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

/// A listener's hostname and certificates, the default first.
pub(crate) type ListenerCertificates = (Box<str>, Vec<Arc<Certificate>>);

/// What all TLS ports share.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    /// One for all workers and ports: a client may resume wherever it connects. Rustls checks that the name is the same.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Default for Tls {
    fn default() -> Self {
        // Without tickets (there is no randomness) every handshake is a full one.
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            tickets: aws_lc_rs::Ticketer::new().ok(),
        }
    }
}

impl Tls {
    pub(crate) const fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, with the certificates of the listeners of one port, the default listener
    /// first.
    pub(crate) fn server_config(
        &self,
        listeners: &[ListenerCertificates],
        clients: Option<&ClientValidation>,
    ) -> Result<rustls::ServerConfig, String> {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(verifier(clients, &self.provider)?),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(listeners)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Where clients prove themselves, a ticket of another port, or from before a change, must not do instead.
        let tickets = match clients {
            None => self.tickets.clone(),
            Some(_) => aws_lc_rs::Ticketer::new().ok(),
        };
        if let Some(tickets) = tickets {
            config.ticketer = tickets;
        }
        // Each costs every handshake some encryption, and clients may use one more than once.
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

fn verifier(
    clients: &ClientValidation,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(roots(&clients.roots_pem)?);
    let strict = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())?;
    Ok(if clients.optional {
        Arc::new(AnyClient(strict))
    } else {
        strict
    })
}

/// Asks clients for certificates and takes any, or none.
#[derive(Debug)]
struct AnyClient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // With a hint, clients whose certificate is another's would send none.
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The certificates of one port.
#[derive(Debug)]
struct Resolver {
    listeners: Hosts<Names>,
    default: Option<Arc<CertifiedKey>>,
}

/// The certificates of one listener.
#[derive(Default)]
struct Names {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what stands behind "*.": in certificates that is one label.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Resolver {
    fn new(listeners: &[ListenerCertificates]) -> Self {
        let mut new = Self {
            listeners: Hosts::default(),
            default: None,
        };
        for (hostname, certificates) in listeners {
            let names = new.listeners.entry(hostname, Names::default);
            for certificate in certificates {
                let key = &certificate.key;
                new.default.get_or_insert_with(|| Arc::clone(key));
                names.default.get_or_insert_with(|| Arc::clone(key));
                for name in &certificate.names {
                    match name.strip_prefix("*.") {
                        Some(suffix) => names.wildcard.entry(suffix.into()),
                        None => names.exact.entry(name.clone()),
                    }
                    // The first one for a name stays.
                    .or_insert_with(|| Arc::clone(key));
                }
            }
        }
        new
    }

    fn find(&self, server_name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let of_name = server_name.and_then(|name| {
            let (names, _) = self.listeners.candidates(name).next()?;
            names
                .exact
                .get(name)
                .or_else(|| names.wildcard.get(name.split_once('.')?.1))
                .or(names.default.as_ref())
        });
        of_name.or(self.default.as_ref())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Rustls hands server names over in lower case.
        self.find(client_hello.server_name()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Arc<Certificate> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let provider = aws_lc_rs::default_provider();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Arc::new(Certificate::read(chain.as_bytes(), key.as_bytes(), &provider).unwrap())
    }

    #[test]
    fn names_choose_listener_and_certificate() {
        let (a, wild, b, other) = (
            certificate(&["A.test"]),
            certificate(&["*.w.test", "w.test"]),
            certificate(&["b.test"]),
            certificate(&["x"]),
        );
        let listeners: Vec<ListenerCertificates> = vec![
            (
                "".into(),
                vec![Arc::clone(&a), Arc::clone(&wild), Arc::clone(&b)],
            ),
            ("*.other".into(), vec![Arc::clone(&other)]),
            ("none.test".into(), vec![]),
        ];
        let resolver = Resolver::new(&listeners);
        for (name, expected) in [
            (Some("a.test"), &a),
            (Some("b.test"), &b),
            (Some("c.w.test"), &wild),
            (Some("w.test"), &wild),
            (Some("d.c.w.test"), &a),
            (Some("nowhere"), &a),
            (Some("y.other"), &other),
            (Some("none.test"), &a),
            (None, &a),
        ] {
            assert!(
                Arc::ptr_eq(resolver.find(name).unwrap(), &expected.key),
                "{name:?}"
            );
        }
        assert!(Resolver::new(&[]).find(Some("a.test")).is_none());
    }

    #[test]
    fn what_does_not_go_together_is_refused_without_showing_the_key() {
        let provider = aws_lc_rs::default_provider();
        let one = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let (chain, key) = (one.cert.pem(), two.signing_key.serialize_pem());
        for (chain, key, expected) in [
            (chain.as_str(), key.as_str(), "go together"),
            ("", key.as_str(), "no certificate"),
            (chain.as_str(), "", "no readable private key"),
            (chain.as_str(), chain.as_str(), "no readable private key"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                key.as_str(),
                "not usable",
            ),
        ] {
            let error = Certificate::read(chain.as_bytes(), key.as_bytes(), &provider).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("PRIVATE KEY-----"));
        }
    }
}
