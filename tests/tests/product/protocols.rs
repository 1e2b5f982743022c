//! HTTP/1.1 and HTTP/2 in clear text: what passes through as it is.

use std::sync::Arc;

use bytes::Bytes;
use harness::h2::{self, GrpcUpstream};
use harness::objects::{route, service_of};
use harness::raw::{get, request};
use harness::{Connection, Reply, Rig, Upstream};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::sync::Notify;

#[tokio::test]
async fn connections_are_kept_and_requests_may_follow_each_other() {
    let rig = Rig::with([route("r", "h.test", "echo")]).await;
    let mut connection = rig.connect().await;
    // Pipelined: three requests in one write, three answers in order.
    let pipelined = [
        get("h.test", "/1", &[]),
        request("POST", "h.test", "/2", &[], b"body"),
        get("h.test", "/3", &[]),
    ]
    .concat();
    connection.send(pipelined).await;
    for _ in 0..3 {
        assert_eq!(connection.answer().await.status, 200);
    }
    let targets: Vec<_> = rig.upstream.seen().into_iter().map(|s| s.target).collect();
    assert_eq!(targets, ["/1", "/2", "/3"]);
    assert_eq!(
        rig.upstream.connection_count(),
        1,
        "the upstream's connection is used again"
    );
    let last = connection
        .ask(get("h.test", "/", &[("Connection", "close")]))
        .await;
    assert!(last.closed);
    assert!(connection.at_end().await);
}

#[tokio::test]
async fn http_1_0_gets_what_it_can_read() {
    let upstream = Upstream::answering(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n".to_vec(),
        )
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    connection
        .send("GET / HTTP/1.0\r\nHost: h.test\r\n\r\n")
        .await;
    let head = String::from_utf8(connection.head().await.unwrap()).unwrap();
    assert!(
        head.contains(" 200 ") && !head.to_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    assert_eq!(connection.rest().await, b"body");
}

#[tokio::test]
async fn http2_with_prior_knowledge_multiplexes() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        // The first is answered when the second has come.
        "/first" => Reply::After(
            2,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst".to_vec(),
        ),
        _ => Reply::ok("second"),
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let mut client = h2::Client::open(rig.port).await;
    let body = || h2::frames(Vec::new());
    let first = client.start("GET", "http://h.test/first", &[], body());
    let (first, second) = {
        let mut other = h2::Client::open(rig.port).await;
        let task = async move { other.get("http://h.test/second", &[]).await };
        tokio::join!(first, task)
    };
    assert_eq!(
        (first.unwrap().status(), second.status),
        (hyper::StatusCode::OK, 200)
    );
    let answer = client
        .send("POST", "http://h.test/third?x=1", &[("x-a", "b")], b"hello")
        .await;
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"second".as_slice())
    );
    let seen = rig.upstream.last();
    assert_eq!(
        (
            seen.target.as_str(),
            seen.text().as_str(),
            seen.header("x-a")
        ),
        ("/third?x=1", "hello", Some("b"))
    );
    assert_eq!(seen.header("host"), Some("h.test"));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::answering(|_| {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: done\r\n\r\n".to_vec())
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    connection
        .send("POST / HTTP/1.1\r\nHost: h.test\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Consumer-Id: forged\r\nContent-Length: 9\r\n\r\n")
        .await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(
        answer.trailers,
        [("x-end".to_owned(), "done".to_owned())]
            .map(|(n, v)| (n, v))
            .to_vec()
    );
    let seen = rig.upstream.last();
    assert_eq!(seen.text(), "abc");
    // What an upstream might merge into the headers is not for clients to say.
    assert!(
        seen.trailers
            .iter()
            .all(|(n, _)| n.eq_ignore_ascii_case("x-sum")),
        "{:?}",
        seen.trailers
    );
    let mut client = h2::Client::open(rig.port).await;
    let answer = client.get("http://h.test/", &[("te", "trailers")]).await;
    assert_eq!(answer.trailers.get("x-end").unwrap(), "done");
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let upstream = GrpcUpstream::start().await;
    let mut objects = service_of(
        "grpc",
        &[(upstream.port(), true)],
        Some("kubernetes.io/h2c"),
    );
    objects.push(route("r", "g.test", "grpc"));
    let rig = Rig::with(objects).await;
    let mut client = h2::Client::open(rig.port).await;
    let mut end = hyper::HeaderMap::new();
    end.insert("x-client-end", "1".parse().unwrap());
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    let body = h2::frames(vec![Frame::data(message.clone()), Frame::trailers(end)]);
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = client
        .try_send("POST", "http://g.test/pkg.Svc/Call", &headers, body)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, message.as_ref())
    );
    assert_eq!(answer.trailers.get("grpc-status").unwrap(), "0");
    let seen = &upstream.seen()[0];
    assert!(seen.uri.ends_with("/pkg.Svc/Call"), "{}", seen.uri);
    assert_eq!(seen.headers.get("te").unwrap(), "trailers");
    assert_eq!(seen.trailers.get("x-client-end").unwrap(), "1");
}

#[tokio::test]
async fn continue_is_said_when_the_body_is_wanted() {
    let mut objects = harness::objects::consumer_with_key("alice", "secret-1");
    objects.extend([
        route("r", "h.test", "echo"),
        harness::objects::key_auth("k", "r", &serde_json::json!({})),
    ]);
    let rig = Rig::with(objects).await;
    let head = |key: &str| {
        request(
            "POST",
            "h.test",
            "/",
            &[
                ("apikey", key),
                ("Expect", "100-continue"),
                ("Content-Length", "4"),
            ],
            b"",
        )
    };
    let mut connection = rig.connect().await;
    connection.send(head("secret-1")).await;
    assert_eq!(connection.line().await, "HTTP/1.1 100 Continue");
    assert_eq!(connection.line().await, "");
    let answer = connection.ask("body").await;
    assert_eq!(
        (answer.status, rig.upstream.last().text().as_str()),
        (200, "body")
    );
    // Refused at once: nobody asks for a body that nobody will read.
    let mut connection = rig.connect().await;
    connection.send(head("wrong")).await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.informational.len()), (401, 0));
    let answer = rig
        .send(request(
            "POST",
            "h.test",
            "/",
            &[("apikey", "secret-1"), ("Expect", "magic")],
            b"x",
        ))
        .await;
    assert_eq!(answer.status, 417);
}

#[tokio::test]
async fn informational_answers_do_not_disturb_the_final_one() {
    let upstream = Upstream::answering(|_| {
        Reply::Bytes(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    for _ in 0..3 {
        let answer = connection.ask(get("h.test", "/", &[])).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
}

#[tokio::test]
async fn answers_without_a_body_stay_without() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        "/204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/304" => Reply::Bytes(
            b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n".to_vec(),
        ),
        "/head" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec()),
        "/empty" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "/close" => Reply::Last(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()),
        _ => Reply::ok("next"),
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "h.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    for (method, target, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("10")),
        ("HEAD", "/head", 200, Some("1000")),
        ("GET", "/empty", 200, Some("0")),
    ] {
        let answer = connection
            .ask(request(method, "h.test", target, &[], b""))
            .await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{target}");
        if status != 304 {
            assert_eq!(answer.header("content-length"), length, "{target}");
        }
        assert_eq!(
            connection.ask(get("h.test", "/next", &[])).await.text(),
            "next",
            "after {target}"
        );
    }
    assert_eq!(
        connection.ask(get("h.test", "/close", &[])).await.text(),
        "until the end"
    );
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_is_sent() {
    let asked = Arc::new(Notify::new());
    let (seen, notify) = (Arc::new(Mutex::new(0)), Arc::clone(&asked));
    let count = Arc::clone(&seen);
    let upstream = Upstream::connections(move |mut connection: Connection| {
        let (notify, count) = (Arc::clone(&notify), Arc::clone(&count));
        async move {
            if connection.head().await.is_some() {
                *count.lock() += 1;
                connection.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
                notify.notify_one();
                connection.hold().await;
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
        .send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 1000000\r\n\r\nabc")
        .await;
    harness::within("the upstream's request", asked.notified()).await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
    assert_eq!(*seen.lock(), 1);
}
