//! Certificates of an authority, and upstreams that speak TLS.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::tls::Certificate;
use crate::within;

/// Who vouches for others.
#[derive(Debug)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: made.pem(),
            der: made.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }
}

impl Authority {
    /// A certificate for DNS names and URIs.
    #[must_use]
    pub fn certificate(&self, names: &[&str]) -> Certificate {
        let (uris, names): (Vec<&str>, Vec<&str>) =
            names.iter().copied().partition(|name| name.contains(':'));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).expect("names");
        for uri in uris {
            let uri = uri.try_into().expect("a URI");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate {
            chain: made.pem(),
            key: key.serialize_pem(),
            der: made.der().to_vec(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("an authority");
        Arc::new(roots)
    }
}

fn parts(certificate: &Certificate) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes());
    (
        chain.collect::<Result<_, _>>().expect("a chain"),
        PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key"),
    )
}

/// Connects to the gateway with a client certificate, or none, trusting an authority.
///
/// # Errors
/// What the handshake failed with.
pub async fn connect(
    port: u16,
    name: &str,
    trusted: &Authority,
    shown: Option<&Certificate>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(trusted.roots());
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let (chain, key) = parts(shown);
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    let tcp = within("a connection", TcpStream::connect(("127.0.0.1", port))).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    within("a TLS handshake", handshake).await
}

/// An upstream with TLS, HTTP/1.1 or HTTP/2, that answers with what it was told: `x-sni`, `x-client` (yes or no), `x-version`.
#[derive(Debug)]
pub struct TlsUpstream {
    port: u16,
    _tasks: JoinSet<()>,
}

impl TlsUpstream {
    /// Shows a certificate, and asks clients for one of an authority where there is one.
    pub async fn start(certificate: &Certificate, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(clients.roots(), provider)
                    .build()
                    .expect("a verifier"),
            ),
        };
        let (chain, key) = parts(certificate);
        let mut config = builder.with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(acceptor.clone(), stream));
            }
        });
        Self {
            port,
            _tasks: tasks,
        }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let session = stream.get_ref().1;
    let sni = session.server_name().unwrap_or("-").to_owned();
    let client = if session.peer_certificates().is_some() {
        "yes"
    } else {
        "no"
    };
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = Response::builder()
            .header("x-sni", &sni)
            .header("x-client", client)
            .header("x-version", format!("{:?}", request.version()))
            .body(Full::new(Bytes::from_static(b"secret")))
            .expect("an answer");
        async move { Ok::<_, hyper::Error>(answer) }
    });
    let _ended = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
