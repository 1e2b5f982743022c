//! Keeps the authority in a Secret, its bundle in a ConfigMap, and this replica's certificate in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Lifetimes, Serving, State};
use crate::backoff::Backoff;

/// How often the Secret is looked at: another replica may have put a new authority into it.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How often a race with another replica is run again before it counts as an error.
const ATTEMPTS: usize = 8;

/// Where things are kept, and under which names the control plane is called.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The controller's namespace.
    pub(crate) namespace: String,
    /// Secret with the authority.
    pub(crate) secret: String,
    /// ConfigMap with the bundle, which proxies mount.
    pub(crate) config_map: String,
    /// DNS names and IP addresses of the control plane.
    pub(crate) server: Vec<String>,
}

/// The authority could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused.
    #[error("{what} {namespace}/{name}: {source}")]
    Api {
        /// "cannot read Secret"
        what: &'static str,
        /// Where it is.
        namespace: String,
        /// What it is called.
        name: String,
        /// What the API server says.
        source: Box<kube::Error>,
    },
    /// Other replicas were always faster.
    #[error("Secret {0} kept changing while it was written")]
    Race(String),
    /// No certificate could be made.
    #[error(transparent)]
    Certificate(#[from] super::Error),
}

/// Keeps authority and certificate. Its TLS configuration may be used at once; handshakes fail until the first
/// certificate is there.
pub(crate) struct Keeper {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    names: Names,
    lifetimes: Lifetimes,
    resolver: Arc<Resolver>,
    serving: Option<(Serving, String)>,
    published: Option<String>,
}

#[derive(Debug, Default)]
struct Resolver(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl Keeper {
    /// Keeps nothing yet.
    #[must_use]
    pub(crate) fn new(client: &kube::Client, names: Names, lifetimes: Lifetimes) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &names.namespace),
            config_maps: Api::namespaced(client.clone(), &names.namespace),
            names,
            lifetimes,
            resolver: Arc::default(),
            serving: None,
            published: None,
        }
    }

    /// TLS with whatever certificate is in force.
    ///
    /// # Errors
    /// Never with this program's own cryptography.
    pub(crate) fn tls(&self) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.resolver.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// Looks after everything until `shutdown`; `ready` becomes true with the first certificate in force.
    pub(crate) async fn run(mut self, ready: watch::Sender<bool>, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.tend(Timestamp::now()).await {
                Ok(()) => {
                    backoff.reset();
                    ready.send_replace(true);
                    CHECK_EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot look after the control plane's certificates; trying again");
                    backoff.next()
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn tend(&mut self, now: Timestamp) -> Result<(), Error> {
        let state = self.state(now).await?;
        let bundle = state.bundle();
        // The bundle first: nobody is shown a certificate whose authority is not published.
        if self.published.as_ref() != Some(&bundle) || !self.bundle_is_there(&bundle).await? {
            self.publish(&bundle).await?;
            self.published = Some(bundle);
        }
        let stale = self
            .serving
            .as_ref()
            .is_none_or(|(serving, signer)| now >= serving.renew_at || signer != state.signer());
        if stale {
            let serving = state.issue(&self.names.server, now, &self.lifetimes)?;
            tracing::info!(names = ?self.names.server, renew_at = %serving.renew_at, "issued the control plane's certificate");
            self.resolver.0.store(Some(serving.certified.clone()));
            self.serving = Some((serving, state.signer().to_owned()));
        }
        Ok(())
    }

    /// What the Secret holds, brought up to date. Replicas may do this at once: only one's write is taken.
    async fn state(&self, now: Timestamp) -> Result<State, Error> {
        let name = &self.names.secret;
        for _ in 0..ATTEMPTS {
            let found = self
                .secrets
                .get_opt(name)
                .await
                .map_err(|error| self.api("cannot read Secret", name, error))?;
            let (state, written) = match found {
                None => {
                    let state = State::create(now, &self.lifetimes)?;
                    let secret = self.secret(&state, None);
                    (
                        state,
                        self.secrets.create(&PostParams::default(), &secret).await,
                    )
                }
                Some(found) => {
                    let version = found.metadata.resource_version;
                    let entries: BTreeMap<String, Vec<u8>> = found
                        .data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(name, ByteString(bytes))| (name, bytes))
                        .collect();
                    let next = match State::read(&entries) {
                        Ok(state) => match state.advanced(now, &self.lifetimes)? {
                            None => return Ok(state),
                            Some(next) => next,
                        },
                        Err(error) => {
                            tracing::warn!(
                                secret = %format_args!("{}/{name}", self.names.namespace), %error,
                                "the Secret does not hold a certificate authority: making a new one"
                            );
                            State::create(now, &self.lifetimes)?
                        }
                    };
                    let secret = self.secret(&next, version);
                    (
                        next,
                        self.secrets
                            .replace(name, &PostParams::default(), &secret)
                            .await,
                    )
                }
            };
            match written {
                Ok(_) => {
                    tracing::info!(
                        secret = name,
                        "wrote the control plane's certificate authority"
                    );
                    return Ok(state);
                }
                // Another replica was faster, or the Secret is just gone: look again.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(self.api("cannot write Secret", name, error)),
            }
        }
        Err(Error::Race(format!("{}/{name}", self.names.namespace)))
    }

    fn secret(&self, state: &State, resource_version: Option<String>) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.names.secret.clone()),
                namespace: Some(self.names.namespace.clone()),
                labels: Some(managed()),
                resource_version,
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(
                state
                    .entries()
                    .into_iter()
                    .map(|(name, bytes)| (name, ByteString(bytes)))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    async fn bundle_is_there(&self, bundle: &str) -> Result<bool, Error> {
        let name = &self.names.config_map;
        let found = self
            .config_maps
            .get_opt(name)
            .await
            .map_err(|error| self.api("cannot read ConfigMap", name, error))?;
        Ok(found
            .and_then(|found| found.data?.get("ca.crt").map(|held| held == bundle))
            .unwrap_or(false))
    }

    async fn publish(&self, bundle: &str) -> Result<(), Error> {
        let name = &self.names.config_map;
        let config_map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(managed()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([("ca.crt".into(), bundle.into())])),
            ..ConfigMap::default()
        };
        self.config_maps
            .patch(
                name,
                &PatchParams::apply(crate::FIELD_MANAGER).force(),
                &Patch::Apply(&config_map),
            )
            .await
            .map_err(|error| self.api("cannot write ConfigMap", name, error))?;
        Ok(())
    }

    fn api(&self, what: &'static str, name: &str, source: kube::Error) -> Error {
        let (namespace, name) = (self.names.namespace.clone(), name.to_owned());
        Error::Api {
            what,
            namespace,
            name,
            source: Box::new(source),
        }
    }
}

fn managed() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/managed-by".into(), "postern".into())])
}
