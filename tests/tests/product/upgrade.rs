//! Upgrades: bytes flow when the upstream has said 101, not before, and never around a plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::objects::{consumer_with_key, key_auth, route};
use harness::raw::request;
use harness::{Connection, Rig, Upstream};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// What an upstream of upgrades got.
#[derive(Debug, Default)]
struct Log {
    heads: Mutex<Vec<String>>,
    early: AtomicBool,
    asked: Notify,
    go: Notify,
}

/// Answers 101 when it is told to, then sends every byte back.
async fn websocket(log: Arc<Log>, reply: &'static str) -> Upstream {
    Upstream::connections(move |mut connection| {
        let log = Arc::clone(&log);
        async move {
            let Some(head) = connection.head().await else {
                return;
            };
            log.heads.lock().push(String::from_utf8(head).unwrap());
            log.asked.notify_one();
            log.go.notified().await;
            // A moment for what must not come.
            if !connection.silent(Duration::from_millis(200)).await {
                log.early.store(true, Ordering::SeqCst);
            }
            connection.send(reply).await;
            loop {
                let bytes = connection.some().await;
                if bytes.is_empty() {
                    return;
                }
                connection.send(bytes).await;
            }
        }
    })
    .await
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

async fn rig(reply: &'static str) -> (Rig, Arc<Log>) {
    let log = Arc::new(Log::default());
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([
        route("o", "open.test", "echo"),
        route("r", "k.test", "echo"),
        key_auth("k", "r", &json!({})),
    ]);
    let rig = Rig::build()
        .upstream(websocket(Arc::clone(&log), reply).await)
        .objects(objects)
        .start()
        .await;
    (rig, log)
}

fn upgrade(host: &str, more: &[(&str, &str)]) -> Vec<u8> {
    request(
        "GET",
        host,
        "/ws",
        &[UPGRADE.as_slice(), more].concat(),
        b"",
    )
}

#[tokio::test]
async fn bytes_flow_both_ways_after_101_only() {
    let (rig, log) = rig(SWITCHING).await;
    let mut client = rig.connect().await;
    client
        .send(
            [
                upgrade("k.test", &[("apikey", "secret-1")]),
                b"early bytes".to_vec(),
            ]
            .concat(),
        )
        .await;
    harness::within("the upstream's request", log.asked.notified()).await;
    assert!(
        client.silent(Duration::from_millis(200)).await,
        "no 101 before the upstream's"
    );
    log.go.notify_one();
    let answer = client.answer().await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    assert!(
        !log.early.load(Ordering::SeqCst),
        "bytes were forwarded before the 101"
    );
    assert_eq!(client.bytes(11).await, b"early bytes");
    let metrics = rig.postern.metrics().await;
    for line in ["postern_tunnels_total 1", "postern_tunnels_open 1"] {
        assert!(metrics.lines().any(|one| one == line), "{metrics}");
    }
    client.send(b"\x00\xffraw").await;
    assert_eq!(client.bytes(5).await, b"\x00\xffraw");
    let head = log.heads.lock()[0].to_lowercase();
    assert!(
        head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
        "{head}"
    );
    assert!(head.contains("x-consumer-username: alice\r\n"), "{head}");
    let many = vec![7; 1 << 20];
    let (mut got, mut sent) = (0, 0);
    while got < many.len() {
        if sent < many.len() {
            client.send(&many[sent..sent + 65_536]).await;
            sent += 65_536;
        }
        got += client.some().await.len();
    }
    client.finish().await;
    assert!(client.at_end().await);
}

#[tokio::test]
async fn without_a_key_there_is_no_upgrade() {
    let (rig, log) = rig(SWITCHING).await;
    let mut client = rig.connect().await;
    let smuggled = request("GET", "open.test", "/smuggled", &[], b"");
    client
        .send([upgrade("k.test", &[]), smuggled].concat())
        .await;
    assert_eq!(client.answer().await.status, 401);
    assert!(log.heads.lock().iter().all(|h| !h.contains("k.test")));
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_answers_as_usual() {
    let (rig, log) =
        rig("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
    let mut client = rig.connect().await;
    client.send(upgrade("open.test", &[])).await;
    log.go.notify_one();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (426, "no"));
    assert!(!log.early.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_bad_answer() {
    let (rig, log) = rig(SWITCHING).await;
    log.go.notify_one();
    let answer = rig.send(request("GET", "open.test", "/", &[], b"")).await;
    assert_eq!(answer.status, 502);
}

#[tokio::test]
async fn http2_cannot_be_upgraded_to_and_other_protocols_of_http_neither() {
    let (rig, log) = rig("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    for (i, (connection, protocol)) in [
        ("Upgrade, HTTP2-Settings", "h2c"),
        ("Upgrade, HTTP2-Settings", "H2C"),
        ("Upgrade", "h2"),
        ("Upgrade", "HTTP/2.0"),
        ("upgrade", "TLS/1.2"),
        ("Upgrade", "websocket, h2c"),
        ("keep-alive", "websocket"),
    ]
    .iter()
    .enumerate()
    {
        log.go.notify_one();
        let headers = [
            ("Connection", *connection),
            ("Upgrade", protocol),
            ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ];
        assert_eq!(
            rig.send(request("GET", "open.test", "/", &headers, b""))
                .await
                .status,
            200,
            "{protocol}"
        );
        let head = log.heads.lock()[i].to_lowercase();
        assert!(
            !head.contains("upgrade:") && !head.contains("http2-settings"),
            "{protocol}: {head}"
        );
    }
}

#[tokio::test]
async fn the_end_of_either_side_ends_the_other() {
    let log = Arc::new(Log::default());
    let shared = Arc::clone(&log);
    let upstream = Upstream::connections(move |mut connection: Connection| {
        let log = Arc::clone(&shared);
        async move {
            connection.head().await;
            connection.send(SWITCHING).await;
            connection.send("bye").await;
            if connection.some().await == b"end" {
                return connection.finish().await;
            }
            log.asked.notify_one();
        }
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("o", "open.test", "echo")])
        .start()
        .await;
    let mut client = rig.connect().await;
    assert_eq!(client.ask(upgrade("open.test", &[])).await.status, 101);
    assert_eq!(client.bytes(3).await, b"bye");
    client.send("end").await;
    assert!(client.at_end().await, "the upstream has closed");
    let mut client = rig.connect().await;
    assert_eq!(client.ask(upgrade("open.test", &[])).await.status, 101);
    drop(client);
    harness::within("the upstream's end", log.asked.notified()).await;
}
