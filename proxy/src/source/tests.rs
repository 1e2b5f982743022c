use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use plugins::directory::{KeyLookup, digest_of};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use snapshot::proto::control_plane_server::{ControlPlane, ControlPlaneServer};
use snapshot::proto::resource::Body;
use snapshot::proto::{
    Ack, Consumer, Credential, Delta, FromController, FromProxy, Hello, KeyAuth, Listener,
    Protocol, Resource, credential::Proof, from_proxy,
};
use snapshot::{Change, Entry, Set};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status as GrpcStatus, Streaming};

use super::*;
use crate::options::ControllerOptions;

/// A control plane that the test plays: it gets the streams that proxies open.
struct Played {
    streams: mpsc::Sender<PlayedStream>,
}

struct PlayedStream {
    token: Option<String>,
    from_proxy: Streaming<FromProxy>,
    to_proxy: mpsc::Sender<Result<FromController, GrpcStatus>>,
}

#[tonic::async_trait]
impl ControlPlane for Played {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<FromController, GrpcStatus>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::SyncStream>, GrpcStatus> {
        let token = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        let (to_proxy, outgoing) = mpsc::channel(8);
        let stream = PlayedStream {
            token,
            from_proxy: request.into_inner(),
            to_proxy,
        };
        self.streams
            .send(stream)
            .await
            .map_err(|_| GrpcStatus::unavailable("the test is over"))?;
        let outgoing = futures::stream::unfold(outgoing, async |mut outgoing| {
            Some((outgoing.recv().await?, outgoing))
        });
        Ok(Response::new(Box::pin(outgoing)))
    }
}

impl PlayedStream {
    async fn hello(&mut self) -> Hello {
        match self
            .from_proxy
            .message()
            .await
            .unwrap()
            .unwrap()
            .message
            .unwrap()
        {
            from_proxy::Message::Hello(hello) => hello,
            from_proxy::Message::Ack(ack) => panic!("{ack:?} before Hello"),
        }
    }

    async fn ack(&mut self) -> Ack {
        match self
            .from_proxy
            .message()
            .await
            .unwrap()
            .unwrap()
            .message
            .unwrap()
        {
            from_proxy::Message::Ack(ack) => ack,
            from_proxy::Message::Hello(hello) => panic!("{hello:?} twice"),
        }
    }

    async fn send(&self, delta: Delta) {
        self.to_proxy
            .send(Ok(FromController { delta: Some(delta) }))
            .await
            .unwrap();
    }
}

type ServerTls = (tonic::transport::Identity, String);

/// Opens a control plane; with its port and the streams.
async fn play(tls: Option<ServerTls>) -> (u16, mpsc::Receiver<PlayedStream>) {
    let (sender, streams) = mpsc::channel(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = tonic::transport::Server::builder();
    if let Some((identity, _)) = tls {
        server = server
            .tls_config(tonic::transport::ServerTlsConfig::new().identity(identity))
            .unwrap();
    }
    let incoming = futures::stream::unfold(listener, async |listener| {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let service = ControlPlaneServer::new(Played { streams: sender });
    tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
    (port, streams)
}

/// A CA's certificate, and an identity for "localhost" that it signed.
fn certificates() -> ServerTls {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    (
        tonic::transport::Identity::from_pem(own.pem(), key.serialize_pem()),
        ca.pem(),
    )
}

#[derive(Debug, clap::Parser)]
struct Flags {
    #[command(flatten)]
    options: Options,
}

fn options(flags: &[&str]) -> Options {
    let flags = ["proxy"].iter().chain(flags);
    <Flags as clap::Parser>::try_parse_from(flags)
        .unwrap()
        .options
}

struct Proxy {
    started: Started,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Proxy {
    fn start(options: &Options, source: Source) -> Self {
        let (metrics, status, stop) = (
            Metrics::new(1),
            Arc::new(Status::default()),
            CancellationToken::new(),
        );
        let started = super::start(
            options,
            source,
            crate::background::for_tests(),
            &metrics,
            &status,
            &stop,
        )
        .unwrap();
        Self {
            started,
            status,
            metrics,
            stop,
        }
    }

    /// Plays the listeners: all ports open, but those.
    async fn reconcile(&mut self, failed: &[(u16, &str)]) -> Arc<Runtime> {
        let Reconcile { runtime, done } = self.started.reconcile.recv().await.unwrap();
        done.send(
            failed
                .iter()
                .map(|(port, why)| (*port, (*why).to_owned()))
                .collect(),
        )
        .unwrap();
        runtime
    }

    async fn close(self) {
        self.stop.cancel();
        tokio::task::spawn_blocking(move || self.started.close())
            .await
            .unwrap();
    }

    fn knows(&self, api_key: &str) -> bool {
        let directory = &self.started.runtime.load().directory;
        let found = directory.api_key(
            &digest_of(api_key.as_bytes()),
            &directory.namespaces(["shop"]),
            1,
        );
        matches!(found, KeyLookup::Found { .. })
    }

    fn connected(&self) -> bool {
        self.metrics
            .text()
            .unwrap()
            .lines()
            .any(|line| line == "postern_control_plane_connected 1")
    }
}

fn controller(url: String) -> ControllerOptions {
    ControllerOptions {
        controller: url.parse().unwrap(),
        controller_ca: None,
        controller_token: None,
        name: Some("proxy-1".to_owned()),
    }
}

fn resources(api_key: &str) -> Set {
    let mut set = Set::default();
    let consumer = Consumer {
        id: "c-1".into(),
        username: "alice".into(),
        ..Consumer::default()
    };
    let credential = Credential {
        id: "7bce93e1-0000-4000-8000-000000000001".into(),
        consumer: "Consumer/shop/alice".into(),
        proof: Some(Proof::KeyAuth(KeyAuth {
            digest: digest_of(api_key.as_bytes()).to_vec().into(),
        })),
        ..Credential::default()
    };
    let listener = Listener {
        name: "a".into(),
        port: 23_400,
        protocol: Protocol::Http.into(),
        ..Listener::default()
    };
    for (key, body) in [
        ("Consumer/shop/alice", Body::Consumer(consumer)),
        ("Credential/shop/k", Body::Credential(credential)),
        ("Listener/a", Body::Listener(listener)),
    ] {
        set.insert(
            key,
            Entry::new(&Resource {
                key: key.to_owned(),
                body: Some(body),
            }),
        );
    }
    set
}

fn upserts(set: &Set) -> Vec<bytes::Bytes> {
    set.iter().map(|(_, entry)| entry.encoded.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_are_taken_whole_and_acknowledged() {
    let (port, mut streams) = play(None).await;
    let mut proxy = Proxy::start(
        &options(&[]),
        Source::Controller(controller(format!("http://127.0.0.1:{port}"))),
    );
    let mut stream = streams.recv().await.unwrap();
    let hello = stream.hello().await;
    assert_eq!(
        (
            hello.name.as_str(),
            hello.protocol,
            hello.snapshot_version.as_str()
        ),
        ("proxy-1", 1, "")
    );
    assert!(hello.buckets.is_empty() && stream.token.is_none());
    let set = resources("s3cret");
    let mut parts = upserts(&set);
    let last = parts.pop().unwrap();
    stream
        .send(Delta {
            version: "v1".into(),
            upserts: parts,
            more: true,
            ..Delta::default()
        })
        .await;
    stream
        .send(Delta {
            version: "v1".into(),
            upserts: vec![last],
            ..Delta::default()
        })
        .await;
    // Not before listeners are open, and with what they said.
    assert!(!proxy.status.is_ready());
    let runtime = proxy.reconcile(&[(23_400, "in use")]).await;
    assert_eq!(&*runtime.version, "v1");
    let ack = stream.ack().await;
    assert_eq!(ack.version, "v1");
    assert_eq!(
        (ack.refusals.len(), ack.refusals[0].key.as_str()),
        (1, "Listener/a")
    );
    assert_eq!(ack.refusals[0].reason, "port 23400: in use");
    assert!(proxy.knows("s3cret") && proxy.status.is_ready() && proxy.connected());
    // The port is tried again, and the good news told.
    proxy.reconcile(&[]).await;
    assert!(stream.ack().await.refusals.is_empty());
    // A credential alone needs no listeners.
    let removals = vec!["Credential/shop/k".to_owned()];
    stream
        .send(Delta {
            version: "v2".into(),
            removals,
            ..Delta::default()
        })
        .await;
    assert_eq!(stream.ack().await.version, "v2");
    assert!(!proxy.knows("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_opened_again_with_what_is_held() {
    let (port, mut streams) = play(None).await;
    let mut proxy = Proxy::start(
        &options(&[]),
        Source::Controller(controller(format!("http://127.0.0.1:{port}"))),
    );
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    let set = resources("s3cret");
    stream
        .send(Delta {
            version: "v1".into(),
            upserts: upserts(&set),
            ..Delta::default()
        })
        .await;
    proxy.reconcile(&[]).await;
    stream.ack().await;
    // A part of a change that never becomes whole.
    let removals = vec!["Listener/a".to_owned()];
    stream
        .send(Delta {
            version: "v2".into(),
            removals,
            more: true,
            ..Delta::default()
        })
        .await;
    drop(stream);
    let mut stream = streams.recv().await.unwrap();
    let hello = stream.hello().await;
    assert_eq!(hello.snapshot_version, "v1");
    assert_eq!(hello.buckets, set.buckets());
    assert!(proxy.knows("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_snapshot_is_in_force_before_anybody_answers() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = format!("--state-dir={}", folder.path().display());
    let options = options(&[&state_dir]);
    let (port, mut streams) = play(None).await;
    let mut proxy = Proxy::start(
        &options,
        Source::Controller(controller(format!("http://127.0.0.1:{port}"))),
    );
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    let set = resources("s3cret");
    stream
        .send(Delta {
            version: "v1".into(),
            upserts: upserts(&set),
            ..Delta::default()
        })
        .await;
    proxy.reconcile(&[]).await;
    stream.ack().await;
    let rotated = resources("rotated");
    let entry = rotated.get("Credential/shop/k").unwrap().encoded.clone();
    stream
        .send(Delta {
            version: "v2".into(),
            upserts: vec![entry],
            ..Delta::default()
        })
        .await;
    stream.ack().await;
    drop((stream, streams));
    proxy.close().await;

    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut proxy = Proxy::start(
        &options,
        Source::Controller(controller(format!("http://127.0.0.1:{gone}"))),
    );
    let runtime = proxy.reconcile(&[]).await;
    assert_eq!(&*runtime.version, "v2");
    assert!(runtime.ports.contains_key(&23_400));
    assert!(proxy.knows("rotated") && !proxy.knows("s3cret"));
    assert!(!proxy.connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_against_the_ca_and_files_are_read_for_each_connection() {
    let tls = certificates();
    let (folder, stranger) = (tempfile::tempdir().unwrap(), certificates().1);
    let (ca, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
    std::fs::write(&ca, stranger).unwrap();
    std::fs::write(&token, "first\n").unwrap();
    let right_ca = tls.1.clone();
    let (port, mut streams) = play(Some(tls)).await;
    let mut options_of = controller(format!("https://localhost:{port}"));
    options_of.controller_ca = Some(ca.clone());
    options_of.controller_token = Some(token.clone());
    let proxy = Proxy::start(&options(&[]), Source::Controller(options_of));
    // The CA is not the right one: no stream comes.
    let none = tokio::time::timeout(Duration::from_millis(700), streams.recv()).await;
    assert!(none.is_err() && !proxy.connected());
    std::fs::write(&ca, right_ca).unwrap();
    let mut stream = streams.recv().await.unwrap();
    assert_eq!(stream.token.as_deref(), Some("Bearer first"));
    stream.hello().await;
    std::fs::write(&token, "second").unwrap();
    drop(stream);
    let stream = streams.recv().await.unwrap();
    assert_eq!(stream.token.as_deref(), Some("Bearer second"));
}

#[tokio::test(flavor = "multi_thread")]
async fn local_changes_are_acknowledged_in_order() {
    let (sender, changes) = mpsc::channel(4);
    let (ack_sender, mut acks) = mpsc::channel(4);
    let folder = tempfile::tempdir().unwrap();
    let state_dir = format!("--state-dir={}", folder.path().display());
    let options = options(&[&state_dir]);
    let mut proxy = Proxy::start(
        &options,
        Source::Local {
            changes,
            acks: ack_sender,
        },
    );
    let (one, two) = (resources("one"), resources("two"));
    let change = |version: &str, diff| Change {
        version: version.into(),
        diff,
        manifests: Some("sha256:00".into()),
    };
    sender
        .send(change("v1", Set::default().diff(&one)))
        .await
        .unwrap();
    sender.send(change("v2", one.diff(&two))).await.unwrap();
    proxy.reconcile(&[]).await;
    assert_eq!(acks.recv().await.unwrap().version, "v1");
    assert_eq!(acks.recv().await.unwrap().version, "v2");
    assert!(proxy.knows("two") && !proxy.knows("one"));
    sender
        .send(change("v3", two.diff(&Set::default())))
        .await
        .unwrap();
    proxy.reconcile(&[]).await;
    assert_eq!(acks.recv().await.unwrap().version, "v3");
    assert!(!proxy.knows("two"));
    let last = resources("last");
    sender
        .send(change("v4", Set::default().diff(&last)))
        .await
        .unwrap();
    proxy.reconcile(&[]).await;
    acks.recv().await.unwrap();
    proxy.close().await;

    // A proxy of its own may go on from there.
    let gone = controller("http://127.0.0.1:9".to_owned());
    let mut proxy = Proxy::start(&options, Source::Controller(gone));
    proxy.reconcile(&[]).await;
    assert!(proxy.knows("last"));
    // But here nothing counts but what the control plane says now.
    proxy.close().await;
    let (_changes, changes) = mpsc::channel(4);
    let (acks, _acks) = mpsc::channel(4);
    let proxy = Proxy::start(&options, Source::Local { changes, acks });
    assert!(!proxy.knows("last") && !proxy.status.is_ready());
}
