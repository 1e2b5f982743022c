//! Redis servers of a test's own, on free ports of loopback; gone with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What nodes of a Cluster take for dead after so many milliseconds.
const DEAD: u32 = 1000;

/// The same of Sentinels. They ask once a second, and count from when they began to follow a master: after no more than that
/// they would take every new one for dead, and go back to the old one if it is there again, which has nothing.
const MISSED: u32 = 2000;

/// One process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start(folder: &Path, port: u16, arguments: &[&str]) -> Self {
        let folder = folder.join(port.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let arguments = arguments.iter().copied().map(str::to_owned).collect();
        let mut server = Self {
            port,
            folder,
            arguments,
            child: None,
        };
        server.restart();
        server
    }

    /// Starts it where it is not running.
    pub(crate) fn restart(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let child = Command::new("redis-server")
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdout(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        self.child = Some(child);
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn ask(&self, question: &[&str]) -> String {
        ask(self.port, question)
    }

    fn answers(&self) -> bool {
        self.ask(&["ping"]).trim() == "PONG"
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn ask(port: u16, question: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(question)
        .stderr(Stdio::null())
        .output()
        .expect("redis-cli is needed: apt-get install redis-tools");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(comes_true(holds).await, "timed out: {what}");
}

/// Whether something is so before patience ends.
async fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let holds = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.is_ok()
}

/// Ports that nobody uses, all below those that the system gives away, for a Cluster's bus is 10,000 above.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let base = 12_000 + u16::try_from(std::process::id() % 50).unwrap() * 100;
    std::array::from_fn(|_| {
        loop {
            let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(next < 5000, "no port is free");
            let port = base + next;
            let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if free(port) && free(port + 10_000) {
                return port;
            }
        }
    })
}

const PLAIN: [&str; 8] = [
    "--save",
    "",
    "--appendonly",
    "no",
    "--repl-diskless-sync-delay",
    "0",
    "--bind",
    "127.0.0.1",
];

/// One server.
pub(crate) async fn single(folder: &TempDir) -> Server {
    let [port] = ports();
    let number = port.to_string();
    let arguments = [&PLAIN[..], &["--port", &number]].concat();
    let server = Server::start(folder.path(), port, &arguments);
    until("the server answers", || server.answers()).await;
    server
}

/// One server with TLS only and a password, and the PEM of its CA.
pub(crate) async fn with_tls(folder: &TempDir) -> (Server, Vec<u8>) {
    let [port] = ports();
    let mut of_ca = CertificateParams::new([]).unwrap();
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(of_ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, &ca).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (
        file("tls.crt", certificate.pem()),
        file("tls.key", key.serialize_pem()),
    );
    let authority = file("ca.crt", ca.pem());
    let number = port.to_string();
    let of_tls = [
        "--port",
        "0",
        "--tls-port",
        &number,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "letmein",
    ];
    let arguments = [&PLAIN[..], &of_tls].concat();
    let server = Server::start(folder.path(), port, &arguments);
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    until("the server listens", listens).await;
    (server, ca.pem().into_bytes())
}

/// Three masters and three replicas.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    pub(crate) async fn start(folder: &TempDir) -> Self {
        let start = |port: u16| {
            let (number, dead) = (port.to_string(), DEAD.to_string());
            let of_cluster = [
                "--port",
                &number,
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                &dead,
                "--cluster-announce-ip",
                "127.0.0.1",
            ];
            Server::start(folder.path(), port, &[&PLAIN[..], &of_cluster].concat())
        };
        let nodes = ports::<6>().map(start).into();
        let cluster = Self { nodes };
        let all = || cluster.nodes.iter().all(Server::answers);
        until("six servers answer", all).await;
        let address = |node: &Server| format!("127.0.0.1:{}", node.port);
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(cluster.nodes.iter().map(address))
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&created.stdout);
        assert!(created.status.success(), "{said}");
        cluster.whole().await;
        cluster
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Waits until every node sees all slots served, and every replica has its copy.
    pub(crate) async fn whole(&self) {
        until("the Cluster is whole", || {
            let sees = |node: &Server| {
                let info = node.ask(&["cluster", "info"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
            };
            let linked = |node: &&Server| {
                let info = node.ask(&["info", "replication"]);
                info.contains("master_link_status:up")
            };
            self.nodes.iter().all(sees) && self.nodes.iter().filter(linked).count() == 3
        })
        .await;
    }

    /// Ends a master at once, waits until its replica has taken over, brings it back, and waits until all is whole.
    pub(crate) async fn fail_over(&mut self) {
        let master = |node: &Server| node.ask(&["role"]).starts_with("master");
        let at = self.nodes.iter().position(master).unwrap();
        self.nodes[at].kill();
        until("a replica takes over", || {
            self.nodes.iter().filter(|node| master(node)).count() == 3
        })
        .await;
        self.nodes[at].restart();
        self.whole().await;
    }
}

/// A master, a replica and three Sentinels.
#[derive(Debug)]
pub(crate) struct Watched {
    servers: [Server; 2],
    sentinels: [Server; 3],
}

impl Watched {
    pub(crate) async fn start(folder: &TempDir) -> Self {
        let [first, second] = ports();
        let (one, two) = (first.to_string(), second.to_string());
        let of_first = [&PLAIN[..], &["--port", &one]].concat();
        let of_second = ["--port", &two, "--replicaof", "127.0.0.1", &one];
        let of_second = [&PLAIN[..], &of_second].concat();
        let servers = [
            Server::start(folder.path(), first, &of_first),
            Server::start(folder.path(), second, &of_second),
        ];
        until("the replica has its copy", || servers[1].is_replica()).await;
        let sentinels = ports::<3>().map(|port| {
            // A Sentinel writes to its configuration.
            let path = folder.path().join(format!("sentinel-{port}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\nsentinel announce-ip 127.0.0.1\n\
                 sentinel monitor gw 127.0.0.1 {first} 2\nsentinel failover-timeout gw 5000\n\
                 sentinel down-after-milliseconds gw {MISSED}\n"
            );
            std::fs::write(&path, text).unwrap();
            let path = path.to_str().unwrap();
            Server::start(folder.path(), port, &[path, "--sentinel"])
        });
        let watched = Self { servers, sentinels };
        until("the Sentinels agree", || {
            watched.sentinels.iter().all(|sentinel| {
                let quorum = sentinel.ask(&["sentinel", "ckquorum", "gw"]);
                let replicas = sentinel.ask(&["sentinel", "replicas", "gw"]);
                quorum.starts_with("OK 3") && replicas.contains("runid")
            })
        })
        .await;
        watched
    }

    pub(crate) fn url(&self) -> String {
        let [a, b, c] = self.sentinels.each_ref().map(|sentinel| sentinel.port);
        format!("redis+sentinel://127.0.0.1:{a},127.0.0.1:{b},127.0.0.1:{c}/gw")
    }

    fn master(&self) -> usize {
        let question = ["sentinel", "get-master-addr-by-name", "gw"];
        let address = self.sentinels[0].ask(&question);
        let port = address.lines().nth(1).unwrap().trim().to_owned();
        let is = |server: &Server| server.port.to_string() == port;
        self.servers.iter().position(is).unwrap()
    }

    /// Ends the master at once, waits until the replica has taken over, and brings it back as a replica.
    pub(crate) async fn fail_over(&mut self) {
        let old = self.master();
        self.servers[old].kill();
        let new = 1 - old;
        until("the replica takes over", || {
            let leads = || self.servers[new].ask(&["role"]).starts_with("master");
            self.master() == new && leads()
        })
        .await;
        self.servers[old].restart();
        let follows = comes_true(|| self.servers[old].is_replica()).await;
        assert!(follows, "the old master does not follow: {}", self.state());
    }

    /// What everybody says, for who has to find out what went wrong.
    fn state(&self) -> String {
        let of_server = |server: &Server| server.ask(&["info", "replication"]);
        let of_sentinel = |sentinel: &Server| {
            let questions = [&["info", "sentinel"][..], &["sentinel", "replicas", "gw"]];
            questions.map(|question| sentinel.ask(question)).concat()
        };
        let servers = self.servers.iter().map(of_server);
        let sentinels = self.sentinels.iter().map(of_sentinel);
        let logs = self.servers.iter().chain(&self.sentinels).map(Server::log);
        let all: Vec<_> = servers.chain(sentinels).chain(logs).collect();
        all.join("\n--\n")
    }
}

impl Server {
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn is_replica(&self) -> bool {
        let info = self.ask(&["info", "replication"]);
        info.contains("master_link_status:up")
    }
}
