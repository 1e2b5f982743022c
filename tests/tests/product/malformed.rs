//! Upstreams that answer what is no HTTP: the client gets a 502, never a part of it.

use harness::frames::{self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM};
use harness::objects::{route, service_of};
use harness::raw::get;
use harness::{Answer, Connection, Reply, Rig, Upstream};

/// Heads of answers of HTTP/1.1.
const HEADS: [&str; 14] = [
    "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "\r\n\r\n\r\n\r\n",
    "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

fn is_gateways(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 502, "{what}: {}", answer.text());
    let json = Some("application/json; charset=utf-8");
    assert_eq!(answer.header("content-type"), json, "{what}");
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_bad_answers() {
    let upstream = Upstream::answering(|seen| {
        let index = seen.target.trim_start_matches('/').parse::<usize>();
        match index {
            Ok(index) => Reply::Last(HEADS[index].as_bytes().to_vec()),
            Err(_) => Reply::ok("fine"),
        }
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "m.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    for (index, head) in HEADS.iter().enumerate() {
        let answer = connection
            .ask(get("m.test", &format!("/{index}"), &[]))
            .await;
        is_gateways(&answer, &format!("{head:?}"));
        let fine = connection.ask(get("m.test", "/fine", &[])).await;
        assert_eq!(fine.text(), "fine", "after {head:?}");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let payload = payload.to_vec();
    let frame = Frame {
        kind,
        flags,
        stream,
        payload,
    };
    frame.encode()
}

/// What an upstream of HTTP/2 says to the first request, by its path.
fn said(path: &str) -> Vec<u8> {
    let head = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, 1, &frames::literal(fields));
    match path {
        "/text" => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/goaway" => frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2]),
        "/reset" => frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]),
        "/no-status" => head(&[("a", "b")]),
        "/bad-status" => head(&[(":status", "2x0")]),
        "/upper-case" => head(&[(":status", "200"), ("A", "b")]),
        "/connection" => head(&[(":status", "200"), ("connection", "close")]),
        "/unknown-stream" => frame(DATA, END_STREAM, 7, b"hello"),
        "/data-first" => frame(DATA, END_STREAM, 1, b"hello"),
        "/garbage" => vec![0xff; 100],
        _ => panic!("{path}"),
    }
}

#[tokio::test]
async fn frames_that_make_no_answer_are_bad_answers() {
    for path in [
        "/text",
        "/goaway",
        "/reset",
        "/no-status",
        "/bad-status",
        "/upper-case",
        "/connection",
        "/unknown-stream",
        "/data-first",
        "/garbage",
    ] {
        let upstream = Upstream::connections(move |mut connection: Connection| async move {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
            connection.bytes(preface).await;
            connection.send(frame(frames::SETTINGS, 0, 0, &[])).await;
            frames::until(&mut connection, HEADERS, 1).await;
            connection.send(said(path)).await;
            while frames::next(&mut connection).await.is_some() {}
        })
        .await;
        let h2c = Some("kubernetes.io/h2c");
        let mut objects = service_of("h2", &[(upstream.port(), true)], h2c);
        objects.push(route("r", "m.test", "h2"));
        let rig = Rig::with(objects).await;
        let answer = rig.get("m.test", path).await;
        is_gateways(&answer, path);
    }
}
