//! HTTP/1.1, both sides.

use snapshot::proto::upstream::Scheme;

use super::support::{Backstage, Does, Gateway, forward_to, header, ok};

async fn through(flags: &[&str], backstage: &Backstage) -> Gateway {
    Gateway::start(flags, |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    })
}

#[tokio::test]
async fn a_request_reaches_the_upstream_and_its_answer_the_client() {
    let backstage = Backstage::start(|_, _| {
        ok(
            "X-Own: 1\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n",
            "hello",
        )
    })
    .await;
    let gateway = through(&[], &backstage).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        let answer = client
            .ask("GET /a?b=%2f HTTP/1.1\r\nHost: Shop.Test:80\r\nAccept: */*\r\n\r\n")
            .await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        assert_eq!(answer.header("x-own"), Some("1"));
        assert_eq!(answer.header("keep-alive"), None);
    }
    let requests = backstage.requests();
    assert_eq!(requests.len(), 3);
    let request = &requests[0];
    assert!(
        request.starts_with("GET /a?b=%2f HTTP/1.1\r\n"),
        "{request}"
    );
    assert_eq!(header(request, "host"), Some("shop.test:80"));
    assert_eq!(header(request, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(request, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(request, "x-forwarded-host"), Some("shop.test:80"));
    assert_eq!(header(request, "x-forwarded-port"), Some("80"));
    assert_eq!(header(request, "x-real-ip"), Some("127.0.0.1"));
    assert_eq!(header(request, "x-request-id").map(str::len), Some(32));
    assert_eq!(backstage.connections(), 1, "connections are reused");
}

#[tokio::test]
async fn what_is_ambiguous_is_refused_and_nothing_after_it_is_served() {
    let backstage = Backstage::echo().await;
    let gateway = through(&[], &backstage).await;
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
        "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: X \nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n folded\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a\\b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a%2fb HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a%00 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /é HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /?é HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    ] {
        let mut client = gateway.client().await;
        let answer = client
            .ask(format!(
                "{bad}GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(client.rest().await, "", "{bad}");
    }
    assert_eq!(backstage.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_broken_body_is_the_clients_fault() {
    let backstage = Backstage::echo().await;
    let gateway = through(&[], &backstage).await;
    for bad in [
        "0x3\r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "-1\r\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = gateway.client().await;
        let answer = client
            .ask(format!(
                "{head}{bad}0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 400, "{bad:?}");
        assert_eq!(client.rest().await, "", "{bad:?}");
    }
    assert!(
        !backstage
            .requests()
            .iter()
            .any(|request| request.contains("smuggled"))
    );
}

#[tokio::test]
async fn methods_sizes_and_expectations_have_limits() {
    let backstage = Backstage::echo().await;
    let gateway = through(&[], &backstage).await;
    let long = "a".repeat(9000);
    let huge = "a".repeat(70_000);
    let many = "X: 1\r\n".repeat(120);
    for (request, status) in [
        ("TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(), 405),
        (
            "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
            405,
        ),
        (format!("GET /{long} HTTP/1.1\r\nHost: a.test\r\n\r\n"), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {huge}\r\n\r\n"),
            431,
        ),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n"), 431),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: x\r\nContent-Length: 1\r\n\r\n".to_owned(),
            417,
        ),
    ] {
        let answer = gateway.get(&request).await;
        assert_eq!(answer.status, status, "{:.60}", request);
    }
    assert_eq!(backstage.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn only_ours_arrives_of_what_the_upstream_trusts() {
    let backstage = Backstage::echo().await;
    let gateway = through(&[], &backstage).await;
    let forged = [
        "X-Consumer-ID",
        "x_consumer_id",
        "X-CONSUMER-Username",
        "X-Consumer_Custom-ID",
        "X-Credential-Identifier",
        "X-Consumer-Groups",
        "X-Anonymous-Consumer",
        "X-Authenticated-Scope",
        "x-authenticated_userid",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded-Uri",
        "Forwarded",
        "X-Real-IP",
        "X-Request-Id",
        "X-Forwarded-Prefix",
        "X-Original-URL",
        "Proxy-Connection",
        "Keep-Alive",
        "HTTP2-Settings",
    ];
    let lines: String = forged
        .iter()
        .map(|name| format!("{name}: forged\r\n"))
        .collect();
    let named =
        "Connection: close, X-Forwarded-For, X-Request-Id, X-Consumer-ID, X-Real-IP, Host\r\n";
    let answer = gateway
        .get(&format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\n{named}{lines}Upgrade: h2c\r\n\r\n"
        ))
        .await;
    assert_eq!(answer.status, 200);
    let request = backstage.only();
    assert!(!request.contains("forged"), "{request}");
    assert!(header(&request, "upgrade").is_none() && header(&request, "connection").is_none());
    for kept in ["host", "x-forwarded-for", "x-real-ip", "x-request-id"] {
        assert!(header(&request, kept).is_some(), "{kept}");
    }
}

#[tokio::test]
async fn trusted_proxies_are_believed() {
    let backstage = Backstage::echo().await;
    let gateway = through(&["--trusted-proxies", "127.0.0.0/8"], &backstage).await;
    let lines = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc\r\nX_Real_Ip: 1.1.1.1\r\n";
    gateway
        .get(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"))
        .await;
    let request = backstage.only();
    assert_eq!(
        header(&request, "x-forwarded-for"),
        Some("203.0.113.7, 127.0.0.1")
    );
    assert_eq!(header(&request, "x-forwarded-proto"), Some("https"));
    assert_eq!(header(&request, "x-real-ip"), Some("203.0.113.7"));
    assert_eq!(header(&request, "x-request-id"), Some("abc"));
}

#[tokio::test]
async fn an_upstream_that_breaks_rules_harms_nobody_else() {
    for (bytes, status) in [
        ("nonsense\r\n\r\n", 502),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            502,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            502,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            502,
        ),
        ("", 502),
        (
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
            204,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
            200,
        ),
    ] {
        let backstage = Backstage::start(move |number, _| {
            if number == 0 {
                Does::Close(bytes.as_bytes().to_vec())
            } else {
                ok("", "mine")
            }
        })
        .await;
        let gateway = through(&[], &backstage).await;
        let mut client = gateway.client().await;
        let answer = client
            .ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx")
            .await;
        assert_eq!(answer.status, status, "{bytes:?}");
        let answer = client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "mine"),
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_no_request() {
    // The upstream closes each connection when its second request arrives, without an answer.
    let backstage = Backstage::start(|number, _| {
        if number % 2 == 1 {
            Does::Close(Vec::new())
        } else {
            ok("", "x")
        }
    })
    .await;
    let gateway = through(&[], &backstage).await;
    let mut client = gateway.client().await;
    assert_eq!(
        client
            .ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        200
    );
    assert_eq!(
        client
            .ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        200,
        "sent again"
    );
    let answer = client
        .ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx")
        .await;
    assert_eq!(answer.status, 502, "a POST is not sent twice");
    assert_eq!(backstage.requests().len(), 4);
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(client.ask(get).await.status, 200);
    let answer = client.ask(get.replace("GET", "DELETE")).await;
    assert_eq!(answer.status, 502, "nor a DELETE, though it has no body");
}

#[tokio::test]
async fn endpoints_that_refuse_are_passed_over() {
    let backstage = Backstage::echo().await;
    let dead = std::net::SocketAddr::from(([127, 0, 0, 1], super::support::free_port()));
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[dead, backstage.address])
    });
    for _ in 0..10 {
        let answer = gateway
            .get("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx")
            .await;
        assert_eq!(answer.status, 200);
    }
    let gateway = Gateway::start(&[], |metrics| forward_to(metrics, Scheme::Http1, &[dead]));
    let answer = gateway.get("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (502, r#"{"message":"the upstream cannot be reached"}"#)
    );
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
    let gateway = Gateway::start(&[], |metrics| forward_to(metrics, Scheme::Http1, &[]));
    assert_eq!(
        gateway
            .get("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        503
    );
}

#[tokio::test]
async fn a_silent_upstream_is_given_up() {
    let backstage = Backstage::start(|_, _| Does::Hang).await;
    let gateway = through(&["--response-timeout", "100ms"], &backstage).await;
    assert_eq!(
        gateway
            .get("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        504
    );
    assert_eq!(backstage.requests().len(), 1, "not sent again");
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n";
    let backstage = Backstage::start(move |_, _| Does::Answer(chunked.as_bytes().to_vec())).await;
    let gateway = through(&[], &backstage).await;
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n";
    let body = "Trailer: x-own, x-consumer-id\r\n\r\n5\r\nhello\r\n0\r\nX-Own: 1\r\nX-Consumer-Id: root\r\n\r\n";
    let answer = gateway.get(&format!("{head}{body}")).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "abcx-sum: 6\r\n")
    );
    let request = backstage.only();
    assert!(request.ends_with("\r\n\r\nhellox-own: 1\r\n"), "{request}");
    assert_eq!(header(&request, "te"), Some("trailers"));
}

#[tokio::test]
async fn head_is_like_get_without_a_body() {
    let backstage = Backstage::start(|_, _| {
        Does::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec())
    })
    .await;
    let gateway = through(&[], &backstage).await;
    let mut client = gateway.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client
        .send("HEAD / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await;
    let rest = client.rest().await;
    assert_eq!(rest.matches("HTTP/1.1 200 OK").count(), 2, "{rest}");
    assert_eq!(
        rest.to_ascii_lowercase()
            .matches("content-length: 5\r\n")
            .count(),
        2,
        "{rest}"
    );
    assert_eq!(backstage.connections(), 1);
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_somebody_wants_it() {
    let backstage = Backstage::echo().await;
    let gateway = through(&[], &backstage).await;
    let mut client = gateway.client().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        )
        .await;
    assert_eq!(client.bytes(25).await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.ask("ab").await.status, 200);
    assert!(backstage.only().ends_with("ab"));
    assert_eq!(header(&backstage.only(), "expect"), None);
    // Refused before anybody wanted it: the answer comes instead.
    let mut client = gateway.client().await;
    let head =
        "POST /%00 HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    client.send(head).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 400"));
}
