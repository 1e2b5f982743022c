//! What a bare HTTP library lets through and a gateway must not.

use harness::frames::{self, Frame, Outcome};
use harness::objects::route;
use harness::raw::{get, request};
use harness::{Connection, Rig};

async fn rig() -> Rig {
    Rig::with([
        route("r", "h.test", "echo"),
        route("o", "other.test", "echo"),
    ])
    .await
}

/// Sends bytes on a connection of their own: the status, and whether the connection was closed behind the answer.
async fn probe(rig: &Rig, bytes: &[u8]) -> (u16, bool) {
    let mut connection = rig.connect().await;
    connection.send(bytes).await;
    // Whoever closes his side before the answer may be taken for gone.
    let answer = connection.answer().await;
    connection.finish().await;
    (answer.status, connection.rest().await.is_empty())
}

/// What must be answered with that status, and never reaches the upstream; nothing behind it is read as a request.
async fn refused(status: u16, requests: &[&[u8]]) {
    let rig = rig().await;
    for bytes in requests {
        let smuggled = [
            bytes,
            b"GET /smuggled HTTP/1.1\r\nHost: h.test\r\n\r\n".as_slice(),
        ]
        .concat();
        let got = probe(&rig, &smuggled).await;
        assert_eq!(got, (status, true), "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(rig.upstream.count(), 0, "{:?}", rig.upstream.seen());
    assert_eq!(rig.get("h.test", "/").await.status, 200);
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    refused(
        400,
        &[
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h.test\r\nHost: h.test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h.test\r\nhost: other.test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
            b"GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\nHost: h.test\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_host_is_a_host() {
    let mut requests = Vec::new();
    for host in [
        "a@h.test",
        "h.test@a",
        "h.test/x",
        "h.test\\x",
        "h .test",
        "h.test:x",
        "h.test:99999",
        "h..test",
        ".",
        "h.test,h.test",
    ] {
        requests.push(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes());
    }
    let requests: Vec<&[u8]> = requests.iter().map(Vec::as_slice).collect();
    refused(400, &requests).await;
}

#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let rig = rig().await;
    let answer = rig
        .send("GET http://h.test/x HTTP/1.1\r\nHost: unknown.test\r\n\r\n")
        .await;
    assert_eq!(answer.status, 200);
    let seen = rig.upstream.last();
    assert_eq!(
        (seen.target.as_str(), seen.header("host")),
        ("/x", Some("h.test"))
    );
    let answer = rig
        .send("GET http://unknown.test/x HTTP/1.1\r\nHost: h.test\r\n\r\n")
        .await;
    assert_eq!(answer.status, 404);
    for target in [
        "http://a@h.test/",
        "http://h.test@a/",
        "ftp//h.test",
        "h.test:80",
        "?x",
        "*",
    ] {
        let got = probe(
            &rig,
            format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(got.0, 400, "{target}");
    }
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn a_body_has_exactly_one_length() {
    let mut requests: Vec<Vec<u8>> = Vec::new();
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: identity",
    ] {
        requests.push(
            format!("POST / HTTP/1.1\r\nHost: h.test\r\n{framing}\r\n\r\n0\r\n\r\n").into_bytes(),
        );
    }
    requests.push(
        b"POST / HTTP/1.0\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
    );
    let requests: Vec<&[u8]> = requests.iter().map(Vec::as_slice).collect();
    refused(400, &requests).await;
}

#[tokio::test]
async fn equal_lengths_said_twice_are_not_forwarded_twice() {
    let rig = rig().await;
    let twice = [("Content-Length", "2"), ("Content-Length", "2")];
    let status = rig
        .send(request("POST", "h.test", "/", &twice, b"ok"))
        .await
        .status;
    // RFC 9110 allows to refuse, or to make one of them.
    match status {
        400 => assert_eq!(rig.upstream.count(), 0),
        200 => assert_eq!(rig.upstream.last().all("content-length"), ["2"]),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn lines_end_with_cr_and_lf() {
    let rig = rig().await;
    for bytes in [
        b"GET / HTTP/1.1\nHost: h.test\n\n".as_slice(),
        b"GET / HTTP/1.1\r\nHost: h.test\nX: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h.test\r\nX: x\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h.test\r\n\n",
        b"GET / HTTP/1.1\rHost: h.test\r\r",
        b"GET / HTTP/1.1\r\nHost: h.test\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h.test\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : h.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h.test\r\n X: folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h.test\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h.test\r\nX\x01: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h.test\r\n: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: h.test\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: h.test\r\n\r\n",
        b"GET / HTTP/1.1 x\r\nHost: h.test\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: h.test\r\n\r\n",
    ] {
        let (status, _) = probe(&rig, bytes).await;
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(rig.upstream.count(), 0, "{:?}", rig.upstream.seen());
}

#[tokio::test]
async fn chunk_sizes_are_hexadecimal_and_lines_of_their_own() {
    let rig = rig().await;
    for chunks in [
        "0x1\r\na\r\n0\r\n\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "1 1\r\na\r\n0\r\n\r\n",
        "fffffffffffffffff\r\na\r\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1;\nx=\r\na\r\n0\r\n\r\n",
    ] {
        let mut bytes = request(
            "POST",
            "h.test",
            "/",
            &[("Transfer-Encoding", "chunked")],
            b"",
        );
        bytes.extend(chunks.bytes());
        let (status, closed) = probe(&rig, &bytes).await;
        assert_eq!((status, closed), (400, true), "{chunks:?}");
    }
    // None of them may have been completed for the upstream.
    assert!(rig.upstream.seen().is_empty(), "{:?}", rig.upstream.seen());
}

#[tokio::test]
async fn trace_and_connect_are_not_served() {
    let rig = rig().await;
    let answer = rig
        .send(request(
            "TRACE",
            "h.test",
            "/",
            &[("Cookie", "secret=1")],
            b"",
        ))
        .await;
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow").is_some() && !answer.text().contains("secret"));
    let (status, _) = probe(
        &rig,
        b"CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\n\r\n",
    )
    .await;
    assert!(matches!(status, 400 | 405), "{status}");
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn large_heads_are_refused_before_the_upstream_sees_them() {
    let rig = rig().await;
    let long = "x".repeat(64 << 10);
    let many: Vec<_> = (0..300)
        .map(|i| (format!("x-{i}"), "v".to_owned()))
        .collect();
    let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        probe(&rig, &get("h.test", "/", &[("x-long", &long)]))
            .await
            .0,
        431
    );
    assert_eq!(probe(&rig, &get("h.test", "/", &many)).await.0, 431);
    let (status, _) = probe(
        &rig,
        &get("h.test", &format!("/{}", "a".repeat(20_000)), &[]),
    )
    .await;
    assert_eq!(status, 414);
    assert_eq!(rig.upstream.count(), 0);
    // What is within the limits passes.
    let fine = "x".repeat(16 << 10);
    assert_eq!(
        rig.get_with("h.test", "/", &[("x-long", &fine)])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn http2_is_held_to_the_same_rules() {
    let rig = rig().await;
    let base = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "h.test"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [base.as_slice(), more].concat();
    let without = |name: &str| {
        base.iter()
            .copied()
            .filter(|(n, _)| *n != name)
            .collect::<Vec<_>>()
    };
    let instead = |name: &'static str, value: &'static str| {
        base.iter()
            .map(|(n, v)| if *n == name { (name, value) } else { (*n, *v) })
            .collect::<Vec<_>>()
    };
    for fields in [
        without(":authority"),
        without(":path"),
        without(":method"),
        instead(":path", ""),
        instead(":path", "x"),
        instead(":path", "/a b"),
        instead(":path", "/a\\b"),
        instead(":path", "/a%2fb"),
        instead(":authority", "a@h.test"),
        instead(":method", "G T"),
        with(&[("host", "other.test")]),
        with(&[("X-Upper", "1")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("x-a", "b\r\nx-c: d")]),
        with(&[("x-a", "b\0")]),
        with(&[("x-a\r\nx-b", "c")]),
        with(&[(":path", "/twice")]),
        with(&[("content-length", "5")]),
    ] {
        let mut connection = rig.connect().await;
        frames::preface(&mut connection).await;
        connection.send(Frame::request(1, &fields).encode()).await;
        let outcome = frames::outcome(&mut connection, 1).await;
        let fine = match outcome {
            Outcome::Status(status) => (400..500).contains(&status),
            Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => true,
        };
        assert!(fine, "{fields:?}: {outcome:?}");
    }
    assert_eq!(rig.upstream.count(), 0, "{:?}", rig.upstream.seen());
    let mut connection = rig.connect().await;
    frames::preface(&mut connection).await;
    connection.send(Frame::request(1, &base).encode()).await;
    assert_eq!(
        frames::outcome(&mut connection, 1).await,
        Outcome::Status(200)
    );
}

#[tokio::test]
async fn floods_of_control_frames_end_the_connection_or_cost_nothing() {
    let rig = rig().await;
    let ping = Frame {
        kind: frames::PING,
        flags: 0,
        stream: 0,
        payload: vec![0; 8],
    }
    .encode();
    let settings = Frame {
        kind: frames::SETTINGS,
        flags: 0,
        stream: 0,
        payload: Vec::new(),
    }
    .encode();
    let before = rig.postern.resident();
    for flood in [ping, settings] {
        let mut connection = rig.connect().await;
        frames::preface(&mut connection).await;
        let many = flood.repeat(1000);
        // Nobody reads the acknowledgements, so they pile up if nothing bounds them.
        for _ in 0..50 {
            let sent = tokio::time::timeout(
                std::time::Duration::from_millis(500),
                connection.try_send(&many),
            )
            .await;
            if !matches!(sent, Ok(true)) {
                break;
            }
        }
        assert_eq!(rig.get("h.test", "/").await.status, 200);
        drop(connection);
    }
    let grown = rig.postern.resident().saturating_sub(before);
    assert!(grown < 10 << 20, "{grown} bytes more");
}

#[tokio::test]
async fn rapid_resets_and_endless_headers_end_the_connection() {
    let rig = rig().await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "h.test"),
    ];
    let mut connection = rig.connect().await;
    frames::preface(&mut connection).await;
    for stream in 0..2_000 {
        let id = stream * 2 + 1;
        let reset = Frame {
            kind: frames::RST_STREAM,
            flags: 0,
            stream: id,
            payload: 8_u32.to_be_bytes().to_vec(),
        };
        if !connection
            .try_send([Frame::request(id, &fields).encode(), reset.encode()].concat())
            .await
        {
            break;
        }
    }
    assert_ends(&mut connection).await;
    let mut connection = rig.connect().await;
    frames::preface(&mut connection).await;
    let mut head = Frame::request(1, &fields);
    head.flags = frames::END_STREAM;
    connection.send(head.encode()).await;
    let more = Frame {
        kind: 9,
        flags: 0,
        stream: 1,
        payload: frames::literal(&[("x-flood", &"x".repeat(1000))]),
    };
    for _ in 0..5_000 {
        if !connection.try_send(more.encode()).await {
            break;
        }
    }
    assert_ends(&mut connection).await;
    assert_eq!(rig.get("h.test", "/").await.status, 200);
}

/// GOAWAY with an error, or the end of the connection.
async fn assert_ends(connection: &mut Connection) {
    if let Some(frame) = frames::until(connection, frames::GOAWAY, 0).await {
        assert_ne!(frame.code(), 0, "an orderly end");
    }
}
