//! Upstreams that fail: the client gets an answer that says so, and nothing is sent twice that may have arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::objects::{consumer_with_key, key_auth, route, route_with, service, service_of};
use harness::raw::{get, request};
use harness::{Connection, Reply, Rig, Upstream, h2};
use serde_json::json;

/// A port on which nobody listens.
async fn closed_port() -> u16 {
    tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn is_error(answer: &harness::Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert!(!answer.message().is_empty());
    assert!(
        answer
            .header("x-request-id")
            .is_some_and(|id| !id.is_empty())
    );
}

#[tokio::test]
async fn refused_slow_and_broken_upstreams_have_a_status_each() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        "/silent" => Reply::Silence,
        "/close" => Reply::Last(Vec::new()),
        "/garbage" => Reply::Last(b"not http at all\r\n\r\n".to_vec()),
        "/half" => Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        "/two-lengths" => Reply::Last(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec(),
        ),
        "/huge" => Reply::Last(
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
        ),
        _ => Reply::ok("fine"),
    })
    .await;
    let mut objects = service("down", closed_port().await);
    objects.extend(service_of("unready", &[(upstream.port(), false)], None));
    let timeouts = json!({"request": "1s"});
    let mut silent = harness::objects::prefix("/silent", "echo");
    silent["timeouts"] = timeouts;
    objects.push(route_with(
        "r",
        &["f.test"],
        &json!([
            silent,
            harness::objects::prefix("/down", "down"),
            harness::objects::prefix("/unready", "unready"),
            harness::objects::prefix("/", "echo")
        ]),
    ));
    let rig = Rig::build()
        .upstream(upstream)
        .objects(objects)
        .start()
        .await;
    for (target, status) in [
        ("/down", 502),
        ("/unready", 503),
        ("/silent", 504),
        ("/close", 502),
        ("/garbage", 502),
        ("/half", 502),
        ("/two-lengths", 502),
        ("/huge", 502),
    ] {
        let mut connection = rig.connect().await;
        let answer = connection.ask(get("f.test", target, &[])).await;
        is_error(&answer, status);
        // The client's connection is none the worse for it.
        assert_eq!(
            connection.ask(get("f.test", "/fine", &[])).await.text(),
            "fine",
            "after {target}"
        );
    }
}

#[tokio::test]
async fn a_break_in_the_middle_of_an_answer_is_not_hidden() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        "/length" => Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
        "/chunks" => Reply::Last(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec(),
        ),
        _ => Reply::Last(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n"
                .to_vec(),
        ),
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "f.test", "echo")])
        .start()
        .await;
    for target in ["/length", "/chunks", "/bad-chunk"] {
        let mut connection = rig.connect().await;
        connection.send(get("f.test", target, &[])).await;
        let all = String::from_utf8_lossy(&connection.rest().await).into_owned();
        // Either an error, or an answer that ends visibly short.
        if !all.starts_with("HTTP/1.1 502") {
            assert!(
                !all.ends_with("0\r\n\r\n") && !all.contains("Content-Length: 4\r\n"),
                "{target}: {all}"
            );
        }
        let mut client = h2::Client::open(rig.port).await;
        let answer = client
            .try_send(
                "GET",
                &format!("http://f.test{target}"),
                &[],
                h2::frames(Vec::new()),
            )
            .await;
        assert!(
            answer.is_err() || answer.unwrap().status == 502,
            "{target} over HTTP/2"
        );
    }
}

#[tokio::test]
async fn grpc_clients_get_a_grpc_status() {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend(service("down", closed_port().await));
    objects.extend(consumer_with_key("bob", "secret-2"));
    objects.extend([
        route("d", "down.test", "down"),
        route("r", "k.test", "echo"),
        key_auth("k", "r", &json!({})),
        harness::objects::plugin(
            "a",
            &[harness::objects::to_route("r")],
            "acl",
            &json!({"allow": ["nobody"]}),
        ),
        route("c", "closed.test", "echo"),
        harness::objects::plugin(
            "future",
            &[harness::objects::to_route("c")],
            "futureAuth",
            &json!({}),
        ),
    ]);
    let rig = Rig::with(objects).await;
    let mut client = h2::Client::open(rig.port).await;
    for (url, key, code) in [
        ("http://down.test/p.S/M", "", "14"),
        ("http://k.test/p.S/M", "", "16"),
        ("http://k.test/p.S/M", "secret-1", "7"),
        ("http://none.test/p.S/M", "", "12"),
    ] {
        let answer = client
            .send(
                "POST",
                url,
                &[
                    ("content-type", "application/grpc"),
                    ("te", "trailers"),
                    ("apikey", key),
                ],
                b"",
            )
            .await;
        assert_eq!(
            (answer.status, answer.trailer("grpc-status")),
            (200, Some(code)),
            "{url}"
        );
        assert!(
            answer
                .trailer("grpc-message")
                .is_some_and(|m| !m.is_empty()),
            "{url}"
        );
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert!(answer.header("x-request-id").is_some(), "{url}");
    }
    let answer = client
        .send(
            "POST",
            "http://closed.test/p.S/M",
            &[("content-type", "application/grpc+proto")],
            b"",
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.trailer("grpc-status"), Some("0"));
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_is_not_used() {
    let upstream = Upstream::answering(|_| {
        // Says that it keeps the connection, and closes it.
        Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "f.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    for round in 0..50 {
        let answer = connection
            .ask(request("POST", "f.test", "/", &[], b"once"))
            .await;
        assert_eq!(answer.status, 200, "round {round}");
    }
    assert_eq!(rig.upstream.count(), 50, "none was sent twice");
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_not_sent_again() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        "/close" => Reply::Last(Vec::new()),
        _ => Reply::ok("warm"),
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "f.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    for method in ["POST", "GET", "DELETE"] {
        assert_eq!(
            connection.ask(get("f.test", "/warm", &[])).await.status,
            200
        );
        let before = rig.upstream.count();
        is_error(
            &connection
                .ask(request(method, "f.test", "/close", &[], b"x"))
                .await,
            502,
        );
        assert_eq!(rig.upstream.count(), before + 1, "{method}");
    }
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_takes_no_connection() {
    let alive = Upstream::named("alive").await;
    let mut objects = service_of(
        "mixed",
        &[(closed_port().await, true), (alive.port(), true)],
        None,
    );
    objects.push(route("r", "f.test", "mixed"));
    let rig = Rig::with(objects).await;
    let mut connection = rig.connect().await;
    for _ in 0..40 {
        assert_eq!(
            connection
                .ask(request("POST", "f.test", "/", &[], b"body"))
                .await
                .status,
            200
        );
    }
    assert_eq!(alive.count(), 40);
}

#[tokio::test]
async fn an_upstream_comes_back_without_a_restart_of_the_gateway() {
    let port = harness::ports::Port::reserve();
    let mut objects = service("flaky", port.number());
    objects.push(route("r", "f.test", "flaky"));
    let rig = Rig::with(objects).await;
    is_error(&rig.get("f.test", "/").await, 502);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.number()))
        .await
        .unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = Connection::over(stream);
        connection.head().await.unwrap();
        connection
            .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        connection.finish().await;
    });
    assert_eq!(rig.get("f.test", "/").await.status, 200);
    served.await.unwrap();
    is_error(&rig.get("f.test", "/").await, 502);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_upstream() {
    let open = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&open);
    let upstream = Upstream::connections(move |mut connection: Connection| {
        let counter = Arc::clone(&counter);
        async move {
            connection.head().await;
            counter.fetch_add(1, Ordering::SeqCst);
            connection.hold().await;
            counter.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "f.test", "echo")])
        .start()
        .await;
    let mut connection = rig.connect().await;
    connection.send(get("f.test", "/", &[])).await;
    harness::until("the request", async || open.load(Ordering::SeqCst) == 1).await;
    drop(connection);
    harness::until("the upstream's release", async || {
        open.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn timeouts_of_a_rule_are_kept() {
    let upstream = Upstream::answering(|_| Reply::Silence).await;
    let mut rule = harness::objects::prefix("/", "echo");
    rule["timeouts"] = json!({"request": "500ms", "backendRequest": "300ms"});
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route_with("r", &["f.test"], &json!([rule]))])
        .start()
        .await;
    let started = Instant::now();
    is_error(&rig.get("f.test", "/").await, 504);
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(250)..Duration::from_millis(1500)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn least_request_spares_the_endpoint_that_is_busy() {
    let busy = Upstream::answering(|_| Reply::Silence).await;
    let idle = Upstream::named("idle").await;
    let mut objects = service_of("two", &[(busy.port(), true), (idle.port(), true)], None);
    objects.push(route("r", "f.test", "two"));
    let rig = Rig::with(objects).await;
    // Requests that hang pile up on the one; the other keeps answering.
    let mut hanging = Vec::new();
    let mut served = 0;
    for _ in 0..100 {
        let mut connection = rig.connect().await;
        connection.send(get("f.test", "/", &[])).await;
        if tokio::time::timeout(Duration::from_millis(100), connection.answer())
            .await
            .is_ok()
        {
            served += 1;
        } else {
            hanging.push(connection);
        }
    }
    assert!(
        served > 80,
        "{served} of 100 were served, {} hang",
        busy.count()
    );
}
