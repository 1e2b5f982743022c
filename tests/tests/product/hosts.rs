//! One form for every host, and connections that serve only what their TLS name stands for.

use harness::objects::{
    http_listener, https_listener, key_auth, prefix, route, route_with, tls_secret,
};
use harness::raw::{Connection, get};
use harness::tls::{self, Certificate};
use harness::{Rig, h2};
use serde_json::json;

#[tokio::test]
async fn every_spelling_of_a_host_is_the_same_host() {
    let objects = [
        route("closed", "private.test", "echo"),
        key_auth("k", "closed", &json!({})),
        route_with("open", &["*.test"], &json!([prefix("/", "echo")])),
        route_with("any", &[], &json!([prefix("/", "echo")])),
    ];
    let rig = Rig::with(objects).await;
    let port = rig.port;
    let with_port = format!("private.test:{port}");
    for host in [
        "private.test",
        "PRIVATE.TEST",
        "Private.Test",
        "private.test.",
        "PRIVATE.test.",
        "private.test:80",
        "private.test:",
        "private.test.:80",
        "private.test:443",
        with_port.as_str(),
    ] {
        let answer = rig.get(host, "/").await;
        assert!(
            matches!(answer.status, 400 | 401),
            "{host}: {}",
            answer.status
        );
    }
    // These are other hosts, or none; they must not reach the upstream under a name that it takes for the closed one.
    for host in [
        "private.test..",
        "a@private.test",
        "private.test@a",
        "private.test#",
        "private.test%2e",
        "xn--private.test",
        "private\u{3002}test",
        "private.test\u{0}",
        " private.test",
        "private.test/",
    ] {
        let before = rig.upstream.count();
        let mut connection = rig.connect().await;
        connection.send(get(host, "/", &[])).await;
        let answer = connection.answer().await;
        if answer.status == 200 {
            let seen = rig.upstream.last().header("host").unwrap().to_owned();
            assert_ne!(
                seen.trim_end_matches('.').to_lowercase(),
                "private.test",
                "{host}"
            );
        } else {
            assert!(
                matches!(answer.status, 400 | 401),
                "{host}: {}",
                answer.status
            );
            assert_eq!(rig.upstream.count(), before, "{host}");
        }
    }
}

#[tokio::test]
async fn the_upstream_gets_the_canonical_host() {
    let rig = Rig::with([route("r", "h.test", "echo")]).await;
    for (given, want) in [
        ("h.test", "h.test"),
        ("H.TEST", "h.test"),
        ("h.test.", "h.test"),
        ("h.test:81", "h.test:81"),
        ("H.test.:81", "h.test:81"),
    ] {
        assert_eq!(rig.get(given, "/").await.status, 200, "{given}");
        assert_eq!(rig.upstream.last().header("host"), Some(want), "{given}");
    }
}

#[tokio::test]
async fn a_connection_for_one_name_does_not_serve_another_listeners_host() {
    let (one, two) = (
        Certificate::of(&["one.test"]),
        Certificate::of(&["two.test", "*.two.test"]),
    );
    let mut build = Rig::build();
    let port = build.port();
    let rig = build
        .listener(https_listener("one", port, Some("one.test"), "one-tls"))
        .listener(https_listener("two", port, Some("*.two.test"), "two-tls"))
        .objects([
            tls_secret("one-tls", &one),
            tls_secret("two-tls", &two),
            route("one", "one.test", "echo"),
            route("two", "a.two.test", "echo"),
            route("more", "b.two.test", "echo"),
            key_auth("k", "two", &json!({})),
        ])
        .start()
        .await;
    let session = tls::connect(port, Some("one.test"), &["h2"], tls::VERSIONS)
        .await
        .unwrap();
    let mut client = h2::Client::over(session.stream).await;
    assert_eq!(client.get("https://one.test/", &[]).await.status, 200);
    // A browser may reuse a connection for other names of the same certificate; 421 tells it to open another.
    assert_eq!(client.get("https://a.two.test/", &[]).await.status, 421);
    assert_eq!(client.get("https://one.test/", &[]).await.status, 200);
    let session = tls::connect(port, Some("one.test"), &["http/1.1"], tls::VERSIONS)
        .await
        .unwrap();
    assert_eq!(
        Connection::over(session.stream)
            .ask(get("a.two.test", "/", &[]))
            .await
            .status,
        421
    );
    // Two hosts of one listener may share a connection.
    let session = tls::connect(port, Some("a.two.test"), &["h2"], tls::VERSIONS)
        .await
        .unwrap();
    let mut client = h2::Client::over(session.stream).await;
    assert_eq!(client.get("https://a.two.test/", &[]).await.status, 401);
    assert_eq!(client.get("https://b.two.test/", &[]).await.status, 200);
    assert_eq!(rig.upstream.count(), 3);
}

#[tokio::test]
async fn regular_expressions_are_anchored_and_cannot_be_made_slow() {
    let regex = |name: &str, value: &str| {
        route_with(
            name,
            &["x.test"],
            &json!([{"matches": [{"path": {"type": "RegularExpression", "value": value}}],
            "backendRefs": [{"name": "echo", "port": 80}]}]),
        )
    };
    let rig = Rig::with([
        regex("a", "/public"),
        regex("slow", "/(a+)+b"),
        regex("dot", "/v1.x|/w"),
    ])
    .await;
    for (target, status) in [
        ("/public", 200),
        ("/public/x", 404),
        ("/x/public", 404),
        ("/PUBLIC", 404),
        ("/v1.x", 200),
        ("/v1-x", 200),
        ("/w", 200),
        ("/ww", 404),
        ("/v1.xx", 404),
    ] {
        assert_eq!(rig.get("x.test", target).await.status, status, "{target}");
    }
    let started = std::time::Instant::now();
    assert_eq!(
        rig.get("x.test", &format!("/{}c", "a".repeat(5000)))
            .await
            .status,
        404
    );
    assert!(
        started.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_listener_without_a_hostname_takes_what_others_do_not() {
    let mut build = Rig::build();
    let port = build.port();
    let mut named = http_listener("named", port);
    named["hostname"] = "only.test".into();
    let mut to_named = route("n", "only.test", "echo");
    to_named["spec"]["parentRefs"] = json!([{"name": "gateway", "sectionName": "named"}]);
    let mut to_any = route_with("a", &[], &json!([prefix("/any", "echo")]));
    to_any["spec"]["parentRefs"] = json!([{"name": "gateway", "sectionName": "any"}]);
    let rig = build
        .listener(named)
        .listener(http_listener("any", port))
        .objects([to_named, to_any])
        .start()
        .await;
    let mut connection = Connection::open(port).await;
    for (host, target, status) in [
        ("only.test", "/", 200),
        ("else.test", "/any", 200),
        ("else.test", "/", 404),
        ("only.test", "/any", 200),
    ] {
        assert_eq!(
            connection.ask(get(host, target, &[])).await.status,
            status,
            "{host}{target}"
        );
    }
    // The narrower listener has its host for itself: the route of the other is not served there.
    assert_eq!(rig.upstream.last().target, "/any");
    assert_eq!(rig.get("else.test", "/any").await.status, 404);
}
