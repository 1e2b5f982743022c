//! A gateway with a hand-made runtime, a client that sends bytes, an upstream that notes bytes and answers as told.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Parser;
use parking_lot::Mutex;
use plugins::directory::Directory;
use snapshot::proto::upstream::Scheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::router::{Builder, Match, Order, Regexes};
use crate::runtime::{Backend, Chain, Endpoint, EndpointSet, Port, Rule, Runtime, Upstream};
use crate::worker::Settings;

/// Nothing in these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it hangs")
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

pub(super) fn options(flags: &[&str]) -> Options {
    Line::parse_from(["postern"].iter().chain(flags)).options
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A rule that forwards to these endpoints.
pub(super) fn forward_to(metrics: &Arc<Metrics>, scheme: Scheme, endpoints: &[SocketAddr]) -> Rule {
    let endpoint = |address: &SocketAddr| Arc::new(Endpoint::new(*address));
    let upstream = Upstream {
        name: "shop/echo/80".into(),
        scheme,
        endpoints: ArcSwap::from_pointee(EndpointSet::new(
            endpoints.iter().map(endpoint).collect(),
        )),
        missing: false,
        policy: None,
    };
    let backend = Backend {
        weight: 1,
        upstream: Some(Arc::new(upstream)),
        request_filters: Vec::new(),
        response_filters: Vec::new(),
        chain: Arc::new(Chain::default()),
        connector: None,
        extras: None,
    };
    let route: Arc<str> = "HTTPRoute/shop/echo".into();
    Rule {
        name: "0".into(),
        listener: Arc::default(),
        plugins: Arc::default(),
        request_filters: Vec::new(),
        response_filters: Vec::new(),
        redirect: None,
        redirect_chain: Arc::new(Chain::default()),
        backends: vec![backend],
        total_weight: 1,
        request_timeout: None,
        backend_timeout: None,
        closed: None,
        extras: None,
        metrics: metrics.rule(&route),
        route,
    }
}

/// A router that serves everything by one rule.
pub(super) fn router(rule: Rule) -> crate::router::Router {
    let rule = Arc::new(rule);
    let mut builder = Builder::default();
    let listener = builder.listener("");
    let order = Order {
        created: 0,
        name: "shop/echo".into(),
        kind: "HTTPRoute".into(),
        rule: 0,
    };
    builder.add(listener, ("", false), &[Match::everything()], &order, &rule);
    builder.build()
}

/// Routers with a rule for each path prefix.
pub(super) fn routes(rules: Vec<(&str, Rule)>) -> crate::router::Router {
    let mut builder = Builder::default();
    let listener = builder.listener("");
    for (prefix, rule) in rules {
        let order = Order {
            created: 0,
            name: "shop/echo".into(),
            kind: "HTTPRoute".into(),
            rule: 0,
        };
        let path = snapshot::proto::PathMatch {
            r#type: 0,
            value: prefix.to_owned(),
        };
        let matched = snapshot::proto::Match {
            path: Some(path),
            ..Default::default()
        };
        let matched = Match::new(&matched, &mut Regexes::default()).unwrap();
        builder.add(listener, ("", false), &[matched], &order, &Arc::new(rule));
    }
    builder.build()
}

/// A running data plane with one worker.
pub(super) struct Gateway {
    pub(super) port: u16,
    pub(super) fleet: Option<Fleet>,
    pub(super) runtime: Arc<ArcSwap<Runtime>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Gateway {
    pub(super) fn start(flags: &[&str], rule: impl FnOnce(&Arc<Metrics>) -> Rule) -> Self {
        Self::with_router(flags, None, |metrics| router(rule(metrics)))
    }

    pub(super) fn with_router(
        flags: &[&str],
        tls: Option<Arc<rustls::ServerConfig>>,
        router: impl FnOnce(&Arc<Metrics>) -> crate::router::Router,
    ) -> Self {
        let metrics = Metrics::new(1);
        let port = free_port();
        let runtime = Self::runtime_of([(port, tls, router(&metrics))]);
        Self::with_runtime(flags, port, metrics, runtime)
    }

    pub(super) fn with_runtime(
        flags: &[&str],
        port: u16,
        metrics: Arc<Metrics>,
        runtime: Runtime,
    ) -> Self {
        let runtime = Arc::new(ArcSwap::from_pointee(runtime));
        let (log, _) = crate::log::open(&crate::options::AccessLog::Off, &metrics).unwrap();
        let options = options(flags);
        let settings = Arc::new(Settings::new(&options));
        let rings = [Arc::default()];
        let mut fleet =
            Fleet::start(&settings, &options, &runtime, &metrics, &log, &rings).unwrap();
        let failed = fleet.follow(&runtime.load());
        assert!(failed.is_empty(), "{failed:?}");
        Self {
            port,
            fleet: Some(fleet),
            runtime,
            metrics,
        }
    }

    pub(super) fn runtime_of<const N: usize>(
        ports: [(
            u16,
            Option<Arc<rustls::ServerConfig>>,
            crate::router::Router,
        ); N],
    ) -> Runtime {
        let port = |(number, tls, router)| {
            (
                number,
                Arc::new(Port {
                    number,
                    tls,
                    sorting: None,
                    public_port: 80,
                    listeners: Vec::new(),
                    router,
                }),
            )
        };
        Runtime {
            version: "1".into(),
            ports: BTreeMap::from(ports.map(port)),
            directory: Arc::new(Directory::default()),
            plugins: HashMap::new(),
        }
    }

    /// Waits until so many connections of clients are open.
    pub(super) async fn until_open(&self, count: u32) {
        self.until("postern_connections_open", count).await;
    }

    /// Waits until a metric, summed over its labels, has this value.
    pub(super) async fn until(&self, metric: &str, count: u32) {
        loop {
            let open: u32 = (self.metrics.text().unwrap().lines())
                .filter(|line| line.split(['{', ' ']).next() == Some(metric))
                .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u32>().unwrap())
                .sum();
            if open == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect(self.port).await
    }

    /// One request on a connection of its own.
    pub(super) async fn get(&self, request: &str) -> Answer {
        self.client().await.ask(request).await
    }
}

/// A client that sends bytes and reads HTTP/1.1 responses.
pub(super) struct Client<S = TcpStream> {
    pub(super) stream: S,
    buffer: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The value of the first header of this name.
pub(super) fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Client {
    pub(super) async fn connect(port: u16) -> Self {
        Self::new(soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap())
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// False: the connection has ended.
    async fn more(&mut self) -> bool {
        soon(self.stream.read_buf(&mut self.buffer))
            .await
            .is_ok_and(|count| count > 0)
    }

    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end.as_bytes()) {
                let rest = self.buffer.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
            }
            assert!(
                self.more().await,
                "ended within {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    pub(super) async fn bytes(&mut self, count: usize) -> String {
        while self.buffer.len() < count {
            assert!(
                self.more().await,
                "ended within {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
        let rest = self.buffer.split_off(count);
        String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap()
    }

    /// The next response; interim ones are skipped unless they change the protocol.
    pub(super) async fn answer(&mut self) -> Answer {
        let head = loop {
            let head = self.until("\r\n\r\n").await;
            if !head.starts_with("HTTP/1.1 100") {
                break head;
            }
        };
        let status = head.get(9..12).unwrap().parse().unwrap();
        let body = if header(&head, "transfer-encoding").is_some() {
            self.chunks().await
        } else {
            let length =
                header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            if status == 101 {
                String::new()
            } else {
                self.bytes(length).await
            }
        };
        Answer { status, head, body }
    }

    /// A chunked body, trailers as lines at its end.
    pub(super) async fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let size = usize::from_str_radix(self.until("\r\n").await.trim(), 16).unwrap();
            if size == 0 {
                loop {
                    let line = self.until("\r\n").await;
                    if line == "\r\n" {
                        return body;
                    }
                    body.push_str(&line);
                }
            }
            body.push_str(&self.bytes(size).await);
            self.bytes(2).await;
        }
    }

    /// What comes until the connection ends.
    pub(super) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }
}

/// What an upstream does with one request.
pub(super) enum Does {
    /// Sends these bytes.
    Answer(Vec<u8>),
    /// Sends these bytes and closes.
    Close(Vec<u8>),
    /// Never answers.
    Hang,
}

/// 200, with these headers and this body.
pub(super) fn ok(headers: &str, body: &str) -> Does {
    Does::Answer(
        format!(
            "HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// An upstream that notes what it gets.
pub(super) struct Backstage {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU32>,
}

impl Backstage {
    /// Answers each request, body included, as `script` says. Gets the number of the request and its text.
    pub(super) async fn start(
        script: impl Fn(usize, &str) -> Does + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::<AtomicU32>::default(),
        );
        let script = Arc::new(script);
        let (noted, counted) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::spawn(converse(stream, Arc::clone(&noted), Arc::clone(&script)));
            }
        });
        Self {
            address,
            requests,
            connections,
        }
    }

    /// Answers 200 to everything.
    pub(super) async fn echo() -> Self {
        Self::start(|_, _| ok("", "hello")).await
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    /// The only request there was.
    pub(super) fn only(&self) -> String {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests[0].clone()
    }

    pub(super) fn connections(&self) -> u32 {
        self.connections.load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn converse<F: Fn(usize, &str) -> Does>(
    stream: TcpStream,
    noted: Arc<Mutex<Vec<String>>>,
    script: Arc<F>,
) {
    let mut client = Client::new(stream);
    loop {
        while memchr::memmem::find(&client.buffer, b"\r\n\r\n").is_none() {
            if !matches!(client.stream.read_buf(&mut client.buffer).await, Ok(1..)) {
                return;
            }
        }
        let head = client.until("\r\n\r\n").await;
        let body = if header(&head, "transfer-encoding").is_some() {
            client.chunks().await
        } else {
            client
                .bytes(header(&head, "content-length").map_or(0, |length| length.parse().unwrap()))
                .await
        };
        let request = head + &body;
        let number = {
            let mut noted = noted.lock();
            noted.push(request.clone());
            noted.len() - 1
        };
        match script(number, &request) {
            Does::Answer(bytes) => {
                if client.stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Does::Close(bytes) => {
                let _ = client.stream.write_all(&bytes).await;
                return;
            }
            Does::Hang => std::future::pending().await,
        }
    }
}
