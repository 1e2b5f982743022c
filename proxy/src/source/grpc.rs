//! The control plane elsewhere: one stream, opened anew whenever it breaks.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use plugins::directory::KeyId;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use snapshot::proto::control_plane_client::ControlPlaneClient;
use snapshot::proto::{self, Ack, FromProxy, Hello, from_proxy};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::KeeperHandle;
use super::backoff::Backoff;
use crate::admin::Status;
use crate::dns;
use crate::metrics::Metrics;
use crate::options::ControllerOptions;
use crate::state::Delta;

/// To connect, TLS and the first answer included.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest message that is taken.
const MAX_MESSAGE: usize = 64 << 20;

/// Brings deltas from the control plane.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) options: ControllerOptions,
    /// Stands for the store that other proxies may share; empty: they do not.
    pub(super) store: String,
    pub(super) handle: KeeperHandle,
    pub(super) later: mpsc::UnboundedReceiver<Ack>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Arc<Status>,
}

/// Why a stream could not be opened, or broke.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{path}: {source} (--controller-ca, --controller-token)")]
    File { path: String, source: io::Error },
    #[error("{0}: no certificate in PEM (--controller-ca)")]
    NoCa(String),
    #[error(
        "the control plane is reached by https, but --controller-ca does not say who may sign its certificate"
    )]
    NoCaGiven,
    #[error("the token is not fit for a header (--controller-token)")]
    Token,
    #[error("{0}")]
    Url(String),
    #[error("{0}")]
    Connect(String),
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Box<tonic::Status>),
    #[error("the control plane ended the stream")]
    Ended,
    #[error("the proxy is ending")]
    KeeperGone,
}

impl From<tonic::Status> for Broken {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Source {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        loop {
            let broken = tokio::select! {
                () = shutdown.cancelled() => return,
                broken = self.stream(&mut backoff, &mut told) => broken,
            };
            self.metrics.process().connected(false);
            let reason = broken.to_string();
            self.status.disconnected(&reason);
            let wait = backoff.next();
            if matches!(broken, Broken::KeeperGone) {
                return;
            }
            // The same again and again is told once.
            if told != reason {
                tracing::warn!(controller = %self.options.controller, reason, "no stream to the control plane; trying again");
                told = reason;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Opens a stream and serves it until it breaks.
    async fn stream(&mut self, backoff: &mut Backoff, told: &mut String) -> Broken {
        match self.serve(backoff, told).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn serve(
        &mut self,
        backoff: &mut Backoff,
        told: &mut String,
    ) -> Result<std::convert::Infallible, Broken> {
        let channel = connect(&self.options).await?;
        let held = self.handle.held().await.ok_or(Broken::KeeperGone)?;
        let (sender, outgoing) = mpsc::channel(16);
        let send = async |message| {
            let message = FromProxy {
                message: Some(message),
            };
            sender.send(message).await.map_err(|_| Broken::Ended)
        };
        send(from_proxy::Message::Hello(Hello {
            name: name(&self.options),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: snapshot::PROTOCOL,
            snapshot_version: held.version.to_string(),
            buckets: held.buckets,
            store: self.store.clone(),
        }))
        .await?;
        let outgoing = futures::stream::unfold(outgoing, async |mut outgoing| {
            Some((outgoing.recv().await?, outgoing))
        });
        let mut request = tonic::Request::new(outgoing);
        if let Some(path) = &self.options.controller_token {
            let token = read(path).await?;
            let bearer = format!("Bearer {}", String::from_utf8_lossy(&token).trim());
            let mut value = MetadataValue::try_from(bearer).map_err(|_| Broken::Token)?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = ControlPlaneClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let opened = tokio::time::timeout(CONNECT, client.sync(request)).await;
        let response =
            opened.map_err(|_| Broken::Connect(format!("no answer within {CONNECT:?}")))??;
        let mut incoming = response.into_inner();
        self.metrics.process().connected(true);
        self.status.connected();
        tracing::info!(controller = %self.options.controller, "connected to the control plane");
        told.clear();
        let mut pending = Pending::default();
        loop {
            let message = tokio::select! {
                message = incoming.message() => message?.ok_or(Broken::Ended)?,
                Some(ack) = self.later.recv() => {
                    send(from_proxy::Message::Ack(ack)).await?;
                    continue;
                }
            };
            backoff.reset();
            let Some(delta) = message.delta.and_then(|delta| pending.take(delta)) else {
                continue;
            };
            let ack = self
                .handle
                .apply(delta, None)
                .await
                .ok_or(Broken::KeeperGone)?;
            send(from_proxy::Message::Ack(ack)).await?;
        }
    }
}

/// Parts of one change.
#[derive(Debug, Default)]
struct Pending {
    reset_buckets: Vec<u32>,
    upserts: Vec<Bytes>,
    removals: Vec<KeyId>,
}

impl Pending {
    /// The whole change, when its last part is there.
    fn take(&mut self, part: proto::Delta) -> Option<Delta> {
        self.reset_buckets.extend(part.reset_buckets);
        self.upserts.extend(part.upserts);
        self.removals
            .extend(part.removals.iter().map(|key| KeyId::of(key)));
        if part.more {
            return None;
        }
        let Self {
            reset_buckets,
            upserts,
            removals,
        } = std::mem::take(self);
        Some(Delta {
            version: part.version.into(),
            reset_buckets,
            upserts,
            known: Vec::new(),
            removals,
        })
    }
}

/// The name of this proxy.
fn name(options: &ControllerOptions) -> String {
    options.name.clone().unwrap_or_else(|| {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned()
    })
}

async fn read(path: &Path) -> Result<Vec<u8>, Broken> {
    tokio::fs::read(path).await.map_err(|source| Broken::File {
        path: path.display().to_string(),
        source,
    })
}

/// Connects, with the CA that the file holds now.
async fn connect(options: &ControllerOptions) -> Result<Channel, Broken> {
    let uri = &options.controller;
    let host = uri
        .host()
        .ok_or_else(|| Broken::Url(format!("--controller {uri}: there is no host in it")))?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let tls = match uri.scheme_str() {
        Some("https") => Some((tls(options).await?, server_name(&host)?)),
        Some("http") => None,
        _ => {
            return Err(Broken::Url(format!(
                "--controller {uri}: begin it with https://"
            )));
        }
    };
    let port = uri
        .port_u16()
        .unwrap_or_else(|| if tls.is_some() { 443 } else { 80 });
    let authority = uri
        .authority()
        .map_or_else(String::new, ToString::to_string);
    // The connector does TLS itself; the transport need not know.
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| Broken::Url(format!("--controller {uri}: {error}")))?
        .origin(uri.clone())
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    let connector = tower::service_fn(move |_: http::Uri| {
        let (host, tls) = (host.clone(), tls.clone());
        async move {
            let stream = dial(&host, port).await?;
            match tls {
                Some((connector, name)) => Ok::<_, io::Error>(TokioIo::new(Stream::Tls(Box::new(
                    connector.connect(name, stream).await?,
                )))),
                None => Ok(TokioIo::new(Stream::Plain(stream))),
            }
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| Broken::Connect(causes(&error)))
}

/// An error with what is behind it: the outermost says only that something failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn server_name(host: &str) -> Result<ServerName<'static>, Broken> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| Broken::Url(format!("--controller: {host:?} is not a host name")))
}

async fn tls(options: &ControllerOptions) -> Result<TlsConnector, Broken> {
    let path = options.controller_ca.as_deref().ok_or(Broken::NoCaGiven)?;
    let pem = read(path).await?;
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
    let (added, _unusable) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(Broken::NoCa(path.display().to_string()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Broken::Connect(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects to the first address that answers.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in dns::addresses(host).await? {
        match TcpStream::connect(SocketAddr::new(address, port)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => {
                last = io::Error::new(error.kind(), format!("{address}, port {port}: {error}"))
            }
        }
    }
    Err(last)
}

mod stream;
use stream::Stream;
