//! Bodies stream both ways, at the pace of the slower side, in bounded memory.

use bytes::Bytes;
use harness::objects::route;
use harness::raw::request;
use harness::{Connection, Rig, Upstream, h2};
use hyper::body::Frame;

const BIG: usize = 64 << 20;
const BLOCK: usize = 64 << 10;

/// Counts a body of [`BIG`] bytes and answers with as many.
async fn big_upstream() -> Upstream {
    Upstream::connections(|mut connection: Connection| async move {
        while let Some(head) = connection.idle().await {
            let chunked = String::from_utf8_lossy(&head)
                .to_lowercase()
                .contains("transfer-encoding: chunked");
            let mut got = 0;
            if chunked {
                loop {
                    let size = usize::from_str_radix(&connection.line().await, 16).unwrap();
                    let block = connection.bytes(size).await;
                    connection.line().await;
                    if size == 0 {
                        break;
                    }
                    assert!(block.iter().all(|b| *b == b'u'));
                    got += size;
                }
            } else {
                while got < BIG {
                    got += connection.bytes(BLOCK).await.len();
                }
            }
            connection
                .send(format!(
                    "HTTP/1.1 200 OK\r\nX-Got: {got}\r\nContent-Length: {BIG}\r\n\r\n"
                ))
                .await;
            for _ in 0..BIG / BLOCK {
                connection.send(vec![b'd'; BLOCK]).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn sixty_four_mebibytes_up_and_down_in_bounded_memory() {
    let rig = Rig::build()
        .upstream(big_upstream().await)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let before = rig.postern.resident();
    let mut connection = rig.connect().await;
    connection
        .send(request(
            "POST",
            "h.test",
            "/",
            &[("Content-Length", &BIG.to_string())],
            b"",
        ))
        .await;
    for _ in 0..BIG / BLOCK {
        connection.send(vec![b'u'; BLOCK]).await;
    }
    let head = String::from_utf8(connection.head().await.unwrap())
        .unwrap()
        .to_lowercase();
    assert!(head.contains(&format!("x-got: {BIG}\r\n")), "{head}");
    let mut peak = 0;
    for block in 0..BIG / BLOCK {
        assert!(connection.bytes(BLOCK).await.iter().all(|b| *b == b'd'));
        if block % 64 == 0 {
            peak = peak.max(rig.postern.resident());
        }
    }
    let grown = peak.saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more for a stream of {BIG}");
}

#[tokio::test]
async fn http2_streams_big_bodies_too() {
    let rig = Rig::build()
        .upstream(big_upstream().await)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let before = rig.postern.resident();
    let mut client = h2::Client::open(rig.port).await;
    let block = Bytes::from(vec![b'u'; BLOCK]);
    let body = h2::frames(
        (0..BIG / BLOCK)
            .map(|_| Frame::data(block.clone()))
            .collect(),
    );
    let answer = client
        .try_send("POST", "http://h.test/", &[], body)
        .await
        .unwrap();
    assert_eq!(answer.header("x-got"), Some(BIG.to_string().as_str()));
    assert_eq!(answer.body.len(), BIG);
    let grown = rig.postern.resident().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
}

#[tokio::test]
async fn a_slow_reader_slows_the_upstream_down() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let upstream = Upstream::connections(move |mut connection: Connection| {
        let counter = std::sync::Arc::clone(&counter);
        async move {
            connection.head().await;
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n"))
                .await;
            for _ in 0..BIG / BLOCK {
                if !connection.try_send(vec![b'd'; BLOCK]).await {
                    return;
                }
                counter.fetch_add(BLOCK, std::sync::atomic::Ordering::SeqCst);
            }
        }
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    connection
        .send(request("GET", "h.test", "/", &[], b""))
        .await;
    connection.head().await.unwrap();
    // Nobody reads on: what the sockets and the gateway hold is all that the upstream gets rid of.
    let count = || sent.load(std::sync::atomic::Ordering::SeqCst);
    harness::until("the upstream to stall", async || {
        let before = count();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        before > 0 && before == count()
    })
    .await;
    assert!(
        count() < BIG / 2,
        "{} bytes were taken from the upstream for nobody",
        count()
    );
    for _ in 0..BIG / BLOCK {
        connection.bytes(BLOCK).await;
    }
}

#[tokio::test]
async fn the_first_bytes_do_not_wait_for_the_last() {
    let upstream = Upstream::connections(|mut connection: Connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for _ in 0..3 {
            connection.send("6\r\nevent\n\r\n").await;
            // The next event is sent when the client has said that it got this one.
            if connection.some().await.is_empty() {
                return;
            }
        }
        connection.send("0\r\n\r\n").await;
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    connection
        .send(request(
            "POST",
            "h.test",
            "/",
            &[("Transfer-Encoding", "chunked")],
            b"",
        ))
        .await;
    connection.head().await.unwrap();
    for _ in 0..3 {
        assert_eq!(connection.line().await, "6");
        assert_eq!(connection.bytes(8).await, b"event\n\r\n");
        connection.send("2\r\nok\r\n").await;
    }
    assert_eq!(connection.line().await, "0");
}

/// A client that reads nothing before it has sent everything.
#[tokio::test]
async fn who_is_refused_in_the_middle_of_a_long_body_still_gets_the_answer() {
    let mut build = Rig::build();
    let port = build.port();
    let listener = harness::objects::https_listener("https", port, None, "tls");
    let rig = build
        .listener(listener)
        .objects([
            harness::objects::route("r", "s.test", "nobody"),
            harness::objects::tls_secret("tls", &harness::tls::Certificate::of(&["s.test"])),
        ])
        .start()
        .await;
    let body = vec![b'x'; 8 << 20];
    let head = format!(
        "POST / HTTP/1.1\r\nHost: s.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for tls in [false, true] {
        let mut connection = if tls {
            let port = rig.reserved(0);
            let versions = harness::tls::VERSIONS;
            let session = harness::tls::connect(port, Some("s.test"), &["http/1.1"], versions);
            Connection::over(session.await.unwrap().stream)
        } else {
            rig.connect().await
        };
        connection.send(&head).await;
        assert!(connection.try_send(&body).await, "all of it is taken");
        let answer = connection.rest().await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 500 "), "{text}");
        assert!(text.ends_with('}'), "{text}");
    }
}
