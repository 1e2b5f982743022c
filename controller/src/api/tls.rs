//! The certificate of the Admin API in a cluster: the control plane's own, or one out of a Secret.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

/// How often the Secret is looked at: certificates are renewed.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// The same certificate, for HTTP/1.1.
pub(crate) fn http1(own: &rustls::ServerConfig) -> Arc<rustls::ServerConfig> {
    let mut config = own.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// TLS with the certificate of a Secret. Handshakes fail until it is there.
///
/// # Errors
/// Never with this program's own cryptography.
pub(crate) fn of_secret(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<(Arc<rustls::ServerConfig>, Keeping), super::Error> {
    let resolver: Arc<Resolver> = Arc::default();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let keeping = Keeping {
        api: Api::namespaced(client.clone(), namespace),
        name: name.to_owned(),
        resolver,
    };
    Ok((Arc::new(config), keeping))
}

#[derive(Debug, Default)]
struct Resolver(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Keeps the certificate as the Secret has it.
pub(crate) struct Keeping {
    api: Api<Secret>,
    name: String,
    resolver: Arc<Resolver>,
}

/// What is wrong with the Secret. Never its content.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot be read: {0}")]
    Read(#[from] kube::Error),
    #[error("entry {0} is missing, or not what a Secret of type kubernetes.io/tls holds")]
    Entry(&'static str),
    #[error("its key does not fit its certificate, or cannot be used")]
    Key,
}

impl Keeping {
    /// Until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            match self.read().await {
                Ok(certified) => self.resolver.0.store(Some(Arc::new(certified))),
                Err(error) => {
                    tracing::error!(secret = self.name, %error, "the Secret for the Admin API's TLS; what was there stays in force");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
        }
    }

    async fn read(&self) -> Result<CertifiedKey, Unusable> {
        let data = self.api.get(&self.name).await?.data.unwrap_or_default();
        certified(
            data.get("tls.crt").map(|entry| entry.0.as_slice()),
            data.get("tls.key").map(|entry| entry.0.as_slice()),
        )
    }
}

fn certified(chain: Option<&[u8]>, key: Option<&[u8]>) -> Result<CertifiedKey, Unusable> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.unwrap_or_default())
        .collect::<Result<_, _>>()
        .map_err(|_| Unusable::Entry("tls.crt"))?;
    if chain.is_empty() {
        return Err(Unusable::Entry("tls.crt"));
    }
    let key = PrivateKeyDer::from_pem_slice(key.unwrap_or_default())
        .map_err(|_| Unusable::Entry("tls.key"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|_| Unusable::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pair_is_taken() {
        let pair = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (one, other) = (pair("a.test"), pair("b.test"));
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let foreign = other.signing_key.serialize_pem();
        let judge =
            |chain: &str, key: &str| certified(Some(chain.as_bytes()), Some(key.as_bytes()));
        assert!(judge(&chain, &key).is_ok());
        assert!(matches!(judge(&chain, &foreign), Err(Unusable::Key)));
        assert!(matches!(judge("", &key), Err(Unusable::Entry("tls.crt"))));
        assert!(matches!(judge(&chain, ""), Err(Unusable::Entry("tls.key"))));
        assert!(certified(None, None).is_err());
    }
}
