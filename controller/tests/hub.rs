//! The hub over real sockets: TLS, gRPC, and a proxy's side written out by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use controller::publish::{FixedTokens, Hub, Limits, Server};
use prost::Message as _;
use rustls::pki_types::PrivateKeyDer;
use snapshot::proto::control_plane_client::ControlPlaneClient;
use snapshot::proto::{Ack, Consumer, Delta, FromController, FromProxy, Hello, Refusal, Resource};
use snapshot::proto::{from_proxy, resource::Body};
use snapshot::{Entry, Set, bucket_of};
use tokio::sync::mpsc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

struct Control {
    hub: Hub,
    tokens: Arc<FixedTokens>,
    address: SocketAddr,
    authority: String,
    now: Set,
    server: tokio::task::JoinHandle<Result<(), controller::publish::Error>>,
}

impl Control {
    async fn start(limits: Limits) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["control.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (hub, tokens) = (Hub::default(), Arc::new(FixedTokens::default()));
        tokens.allow("good", "proxy");
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, hub.clone(), tokens.clone(), Arc::new(tls), limits);
        let server = server.await.unwrap();
        let address = server.address().unwrap();
        let server = tokio::spawn(server.run());
        Self {
            hub,
            tokens,
            address,
            authority: made.cert.pem(),
            now: Set::default(),
            server,
        }
    }

    fn publish(&mut self, consumers: &[(&str, &str)]) {
        let mut to = Set::default();
        for (name, id) in consumers {
            let key = format!("Consumer/shop/{name}");
            let entry = entry(&key, id);
            to.insert(key, entry);
        }
        self.hub.publish(&self.now.diff(&to));
        self.now = to;
    }

    async fn channel(&self) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .domain_name("control.test");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// Opens a stream; says nothing yet.
    async fn open(&self, token: &str) -> Result<Wire, Status> {
        let mut client = ControlPlaneClient::new(self.channel().await);
        let (sender, mut receiver) = mpsc::channel(8);
        let outbound = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let mut request = tonic::Request::new(outbound);
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        let inbound = client.sync(request).await?.into_inner();
        Ok(Wire { sender, inbound })
    }

    /// A proxy that comes with what it holds.
    async fn proxy(&self, name: &str, held: Set) -> Proxy {
        let wire = self.open("good").await.unwrap();
        wire.say(hello(name, &held)).await;
        Proxy {
            wire,
            held,
            version: String::new(),
            reset: 0,
            received: BTreeSet::new(),
        }
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&Hub) -> bool) {
        let mut changes = self.hub.changes();
        let wait = async {
            while !holds(&self.hub) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }
}

fn entry(key: &str, id: &str) -> Entry {
    let consumer = Consumer {
        id: id.to_owned(),
        ..Consumer::default()
    };
    Entry::new(&Resource {
        key: key.to_owned(),
        body: Some(Body::Consumer(consumer)),
    })
}

fn hello(name: &str, held: &Set) -> from_proxy::Message {
    from_proxy::Message::Hello(Hello {
        name: name.to_owned(),
        version: "1.0".to_owned(),
        protocol: snapshot::PROTOCOL,
        snapshot_version: String::new(),
        buckets: held.buckets(),
        store: String::new(),
    })
}

/// One stream.
struct Wire {
    sender: mpsc::Sender<FromProxy>,
    inbound: Streaming<FromController>,
}

impl Wire {
    async fn say(&self, message: from_proxy::Message) {
        self.sender
            .send(FromProxy {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Result<Option<Delta>, Status> {
        let heard = tokio::time::timeout(PATIENCE, self.inbound.message()).await;
        Ok(heard
            .expect("nothing was heard")?
            .map(|from| from.delta.unwrap()))
    }
}

/// What a proxy does with a stream.
struct Proxy {
    wire: Wire,
    held: Set,
    version: String,
    /// Of the last delta.
    reset: usize,
    received: BTreeSet<String>,
}

impl Proxy {
    /// Takes one delta, of however many messages; returns how many.
    async fn take(&mut self) -> usize {
        (self.reset, self.received) = (0, BTreeSet::new());
        for count in 1.. {
            let delta = self.wire.hear().await.unwrap().expect("the stream ended");
            assert!(
                delta.encoded_len() < 2 << 20,
                "{} bytes in one message",
                delta.encoded_len()
            );
            self.reset += delta.reset_buckets.len();
            let reset: BTreeSet<u32> = delta.reset_buckets.into_iter().collect();
            let gone = self.held.iter().map(|(key, _)| key.to_string());
            let gone: Vec<String> = gone.filter(|key| reset.contains(&bucket_of(key))).collect();
            for key in gone.into_iter().chain(delta.removals) {
                self.held.remove(&key);
            }
            for bytes in delta.upserts {
                let key = Resource::decode(bytes.clone()).unwrap().key;
                self.received.insert(key.clone());
                self.held.insert(
                    key,
                    Entry {
                        hash: snapshot::hash_of(&bytes),
                        encoded: bytes,
                    },
                );
            }
            self.version = delta.version;
            if !delta.more {
                return count;
            }
        }
        unreachable!("a stream does not end")
    }

    async fn acknowledge(&self, refusals: &[(&str, &str)]) {
        let refusals = refusals.iter().map(|(key, reason)| Refusal {
            key: (*key).to_owned(),
            reason: (*reason).to_owned(),
        });
        let ack = Ack {
            version: self.version.clone(),
            refusals: refusals.collect(),
        };
        self.wire.say(from_proxy::Message::Ack(ack)).await;
    }
}

fn same(a: &Set, b: &Set) -> bool {
    a.diff(b).is_empty()
}

fn keys(of: &[&str]) -> Vec<Arc<str>> {
    of.iter().map(|key| Arc::from(*key)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_gets_the_snapshot_then_changes_and_is_seen_to_have_them() {
    let mut control = Control::start(Limits::default()).await;
    control.publish(&[("alice", "1"), ("bob", "1")]);
    let mut proxy = control.proxy("p", Set::default()).await;
    proxy.take().await;
    assert!(same(&proxy.held, &control.now));
    proxy.acknowledge(&[]).await;
    let all = keys(&["Consumer/shop/alice", "Consumer/shop/bob"]);
    control
        .until("acknowledged", |hub| {
            hub.progress(&all, &hub.proxies()).programmed == 1
        })
        .await;

    control.publish(&[("alice", "2")]);
    proxy.take().await;
    assert!(same(&proxy.held, &control.now));
    assert_eq!(
        (proxy.reset, proxy.received.len()),
        (0, 1),
        "only what changed is sent"
    );
    let alice = keys(&["Consumer/shop/alice"]);
    assert_eq!(
        control
            .hub
            .progress(&alice, &control.hub.proxies())
            .programmed,
        0
    );
    proxy.acknowledge(&[]).await;
    control
        .until("acknowledged", |hub| {
            hub.progress(&alice, &hub.proxies()).programmed == 1
        })
        .await;
    assert_eq!(control.hub.proxies()[0].version, control.hub.version());

    drop(proxy);
    control.until("gone", |hub| hub.proxies().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_comes_back_gets_only_what_it_lacks() {
    let mut control = Control::start(Limits::default()).await;
    let names: Vec<String> = (0..300).map(|n| format!("c{n}")).collect();
    let mut consumers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    control.publish(&consumers);
    let mut proxy = control.proxy("p", Set::default()).await;
    proxy.take().await;
    assert_eq!(proxy.received.len(), 300);
    let Proxy { wire, held, .. } = proxy;
    drop(wire);

    consumers[7].1 = "2";
    consumers.remove(8);
    control.publish(&consumers);
    let mut proxy = control.proxy("p", held).await;
    proxy.take().await;
    assert!(same(&proxy.held, &control.now));
    assert!(
        proxy.reset <= 2 && proxy.received.len() < 10,
        "{:?}",
        proxy.received
    );

    let held = proxy.held.clone();
    let mut proxy = control.proxy("p", held).await;
    proxy.take().await;
    assert!(
        proxy.reset == 0 && proxy.received.is_empty(),
        "it had everything"
    );
    assert_eq!(
        Some(proxy.version.as_str()),
        control.hub.version().as_deref()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_proxy_missed_comes_merged() {
    let mut control = Control::start(Limits::default()).await;
    // Enough that the first snapshot fills the stream's windows while nobody reads.
    let big = "x".repeat(600_000);
    let names: Vec<String> = (0..20).map(|n| format!("big{n}")).collect();
    let consumers: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), big.as_str()))
        .collect();
    control.publish(&consumers);
    let mut slow = control.proxy("slow", Set::default()).await;
    control
        .until("joined", |hub| hub.proxies().len() == 1)
        .await;
    let before = control.hub.version();
    for round in 0..500 {
        let round = round.to_string();
        let mut with = consumers.clone();
        with.push(("busy", &round));
        control.publish(&with);
    }
    // Another one is not held up by it.
    let mut quick = control.proxy("quick", Set::default()).await;
    quick.take().await;
    assert!(same(&quick.held, &control.now));

    let messages = slow.take().await;
    assert!(messages > 1, "12 MB came in one message");
    assert_eq!(Some(slow.version.as_str()), before.as_deref());
    let mut deltas = 0;
    while !same(&slow.held, &control.now) {
        slow.take().await;
        deltas += 1;
    }
    assert_eq!(deltas, 1, "500 changes of one resource are one delta");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_seen_until_it_is_taken_back() {
    let mut control = Control::start(Limits::default()).await;
    control.publish(&[("alice", "1"), ("bob", "1")]);
    let mut proxy = control.proxy("p", Set::default()).await;
    proxy.take().await;
    proxy
        .acknowledge(&[("Consumer/shop/alice", "no such thing")])
        .await;
    let (alice, bob) = (keys(&["Consumer/shop/alice"]), keys(&["Consumer/shop/bob"]));
    control
        .until("refused", |hub| {
            !hub.progress(&alice, &hub.proxies()).refusals.is_empty()
        })
        .await;
    let progress = control.hub.progress(&alice, &control.hub.proxies());
    let (by, key, reason) = &progress.refusals[0];
    assert_eq!(
        (&**by, &**key, &**reason),
        ("p", "Consumer/shop/alice", "no such thing")
    );
    assert_eq!((progress.programmed, progress.proxies), (0, 1));
    assert_eq!(
        control
            .hub
            .progress(&bob, &control.hub.proxies())
            .programmed,
        1,
        "others are not harmed"
    );

    control.publish(&[("alice", "2"), ("bob", "1")]);
    proxy.take().await;
    proxy.acknowledge(&[]).await;
    control
        .until("taken", |hub| {
            hub.progress(&alice, &hub.proxies()).programmed == 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_waits_for_the_first_snapshot_with_what_it_has() {
    let mut control = Control::start(Limits::default()).await;
    let mut held = Set::default();
    held.insert("Consumer/shop/alice", entry("Consumer/shop/alice", "1"));
    let mut proxy = control.proxy("p", held).await;
    let early =
        tokio::time::timeout(Duration::from_millis(200), proxy.wire.inbound.message()).await;
    assert!(
        early.is_err(),
        "it was told to forget what it had: {early:?}"
    );
    control.publish(&[("alice", "1")]);
    proxy.take().await;
    assert!(proxy.received.is_empty() && same(&proxy.held, &control.now));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_token_comes_in_and_a_revoked_one_ends_the_stream() {
    let limits = Limits {
        review_every: Duration::from_millis(50),
        ..Limits::default()
    };
    let mut control = Control::start(limits).await;
    control.publish(&[("alice", "1")]);
    let denied = control.open("bad").await.err().unwrap();
    assert_eq!(
        (denied.code(), denied.message()),
        (Code::Unauthenticated, "the token is not known")
    );
    let denied = control.open("").await.err().unwrap();
    assert_eq!(denied.code(), Code::Unauthenticated);
    assert!(denied.message().contains("authorization"), "{denied}");

    let mut proxy = control.proxy("p", Set::default()).await;
    proxy.take().await;
    control.tokens.revoke("good");
    let end = proxy.wire.hear().await.unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated);
    control.until("gone", |hub| hub.proxies().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_a_hello_of_a_protocol_that_is_known() {
    let mut control = Control::start(Limits {
        proxies: 1,
        ..Limits::default()
    })
    .await;
    control.publish(&[]);
    let mut wire = control.open("good").await.unwrap();
    wire.say(from_proxy::Message::Ack(Ack::default())).await;
    assert_eq!(wire.hear().await.unwrap_err().code(), Code::InvalidArgument);

    let mut wire = control.open("good").await.unwrap();
    let hello = Hello {
        name: "p".to_owned(),
        protocol: 2,
        ..Hello::default()
    };
    wire.say(from_proxy::Message::Hello(hello)).await;
    let refused = wire.hear().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("protocol 1"), "{refused}");

    let mut proxy = control.proxy("p", Set::default()).await;
    proxy.take().await;
    let full = control.open("good").await.err().unwrap();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("--max-proxies"), "{full}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_streams_cleanly_and_the_server_with_them() {
    let mut control = Control::start(Limits::default()).await;
    control.publish(&[("alice", "1")]);
    let mut proxy = control.proxy("p", Set::default()).await;
    proxy.take().await;
    control.hub.close();
    assert!(
        proxy.wire.hear().await.unwrap().is_none(),
        "a clean end asks to connect again"
    );
    drop(proxy);
    let ended = tokio::time::timeout(PATIENCE, control.server).await;
    ended.expect("the server ends").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_shakes_no_hands_keeps_nobody_waiting() {
    let mut control = Control::start(Limits::default()).await;
    control.publish(&[("alice", "1")]);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(
            tokio::net::TcpStream::connect(control.address)
                .await
                .unwrap(),
        );
    }
    let mut proxy = control.proxy("p", Set::default()).await;
    proxy.take().await;
    assert!(same(&proxy.held, &control.now));
}
