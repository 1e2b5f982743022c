//! Slow clients: they are cut off in time, and nobody else notices them meanwhile.

use std::time::{Duration, Instant};

use harness::frames::{self, Frame};
use harness::objects::{https_listener, route, tls_secret};
use harness::raw::get;
use harness::tls::Certificate;
use harness::{Connection, Rig};

const MANY: usize = 300;

async fn rig() -> Rig {
    let mut build = Rig::build();
    let port = build.port();
    build
        .listener(https_listener("https", port, None, "tls"))
        .flag("--header-timeout", "2s")
        .flag("--body-timeout", "2s")
        .flag("--idle-timeout", "3s")
        .objects([
            route("r", "s.test", "echo"),
            tls_secret("tls", &Certificate::of(&["s.test"])),
        ])
        .start()
        .await
}

/// Opens many connections, each with a beginning that never ends.
async fn open_many(port: u16, beginning: &[u8]) -> Vec<Connection> {
    let mut all = Vec::new();
    for _ in 0..MANY {
        let mut connection = Connection::open(port).await;
        connection.send(beginning).await;
        all.push(connection);
    }
    all
}

/// Answers while the others hang, and how slow the slowest of them was.
async fn healthy(rig: &Rig, rounds: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut kept = rig.connect().await;
    for round in 0..rounds {
        let started = Instant::now();
        let request = get("s.test", "/", &[]);
        let answer = if round % 2 == 0 {
            kept.ask(&request).await
        } else {
            rig.send(&request).await
        };
        assert_eq!(answer.status, 200);
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

/// All of them are closed by the gateway, within the timeout and some grace.
async fn all_closed(connections: Vec<Connection>, within: Duration) {
    let started = Instant::now();
    for mut connection in connections {
        connection.rest().await;
    }
    assert!(
        started.elapsed() < within,
        "the last one was closed after {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn slow_heads_are_cut_off_while_others_are_served() {
    let rig = rig().await;
    let mut slow = open_many(rig.port, b"GET / HTTP/1.1\r\nHost: s.test\r\n").await;
    let opened = Instant::now();
    // A byte now and then does not buy more time.
    while opened.elapsed() < Duration::from_millis(1_500) {
        for connection in &mut slow {
            connection.send("X").await;
        }
        assert!(healthy(&rig, 20).await < Duration::from_millis(500));
    }
    all_closed(slow, Duration::from_secs(4)).await;
    assert_eq!(
        rig.upstream
            .seen()
            .iter()
            .filter(|s| s.headers.iter().any(|(n, _)| n.starts_with("XX")))
            .count(),
        0
    );
}

#[tokio::test]
async fn silent_connections_and_half_handshakes_are_cut_off() {
    let rig = rig().await;
    let tls = rig.reserved(0);
    for (port, beginning) in [
        (rig.port, b"".as_slice()),
        (rig.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (tls, b""),
        (tls, b"\x16\x03\x01\x02\x00\x01"),
    ] {
        let silent = open_many(port, beginning).await;
        assert!(healthy(&rig, 20).await < Duration::from_millis(500));
        all_closed(silent, Duration::from_secs(6)).await;
    }
}

#[tokio::test]
async fn slow_bodies_are_cut_off_and_the_upstream_is_let_go() {
    let rig = rig().await;
    let mut connection = rig.connect().await;
    connection
        .send("POST / HTTP/1.1\r\nHost: s.test\r\nContent-Length: 100\r\n\r\nabc")
        .await;
    assert!(healthy(&rig, 20).await < Duration::from_millis(500));
    let started = Instant::now();
    let rest = connection.rest().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    let text = String::from_utf8_lossy(&rest);
    assert!(
        rest.is_empty() || text.starts_with("HTTP/1.1 408"),
        "{text}"
    );
    assert!(
        rig.upstream.seen().iter().all(|s| s.method == "GET"),
        "the half body is no request"
    );
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_time_and_not_before() {
    let rig = rig().await;
    let mut connection = rig.connect().await;
    assert_eq!(connection.ask(get("s.test", "/", &[])).await.status, 200);
    let started = Instant::now();
    assert!(
        connection.silent(Duration::from_secs(2)).await,
        "not before its time"
    );
    assert!(connection.at_end().await);
    assert!(
        (2..6).contains(&started.elapsed().as_secs()),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn readers_that_do_not_read_are_cut_off() {
    let big = "x".repeat(8 << 20);
    let upstream = harness::Upstream::answering(move |seen| match seen.target.as_str() {
        "/big" => harness::Reply::status(200, "OK", &[], &big),
        _ => harness::Reply::ok("small"),
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .flag("--body-timeout", "2s")
        .objects([route("r", "s.test", "echo")])
        .start()
        .await;
    let before = rig.postern.resident();
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut connection = rig.connect().await;
        connection.send(get("s.test", "/big", &[])).await;
        stuck.push(connection);
    }
    // A zero window in HTTP/2: the answer's head comes, its body cannot.
    let mut zero = rig.connect().await;
    let window = Frame {
        kind: frames::SETTINGS,
        flags: 0,
        stream: 0,
        payload: vec![0, 4, 0, 0, 0, 0],
    };
    zero.send(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            &window.encode(),
        ]
        .concat(),
    )
    .await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/big"),
        (":authority", "s.test"),
    ];
    zero.send(Frame::request(1, &fields).encode()).await;
    rig.upstream.wait_for(21).await;
    assert!(healthy(&rig, 20).await < Duration::from_millis(500));
    let grown = rig.postern.resident().saturating_sub(before);
    assert!(
        grown < 80 << 20,
        "20 stuck answers of 8 MiB cost {grown} bytes"
    );
    rig.postern.until_metric("postern_", |_| true).await;
    let started = Instant::now();
    let end = frames::outcome_after_head(&mut zero, 1).await;
    assert!(started.elapsed() < Duration::from_secs(6), "{end:?}");
}
