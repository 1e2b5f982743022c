//! Who a request came from: X-Forwarded-* is believed from trusted proxies only, and never decides about authentication.

use harness::objects::{consumer_with_key, key_auth, route};
use harness::{Rig, Seen};
use serde_json::json;

async fn rig(trusted: &str) -> Rig {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([
        route("o", "open.test", "echo"),
        route("r", "k.test", "echo"),
        key_auth("k", "r", &json!({})),
    ]);
    Rig::build()
        .flag("--trusted-proxies", trusted)
        .objects(objects)
        .start()
        .await
}

async fn seen(rig: &Rig, headers: &[(&str, &str)]) -> Seen {
    assert_eq!(
        rig.get_with("open.test", "/", headers).await.status,
        200,
        "{headers:?}"
    );
    rig.upstream.last()
}

#[tokio::test]
async fn strangers_are_not_believed() {
    let rig = rig("none").await;
    let headers = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-For", "7.7.7.7"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "1"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Request-Id", "forged"),
        ("Forwarded", "for=6.6.6.6;host=evil.test"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("x_forwarded_for", "6.6.6.6"),
        ("X_Real_IP", "6.6.6.6"),
        ("x-forwarded_proto", "https"),
    ];
    let seen = seen(&rig, &headers).await;
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("open.test"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(
        seen.header("x-forwarded-port"),
        Some(rig.port.to_string().as_str())
    );
    assert_ne!(seen.header("x-request-id"), Some("forged"));
    for (name, value) in &seen.headers {
        assert!(
            ![
                "6.6.6.6",
                "7.7.7.7",
                "evil.test",
                "/evil",
                "/admin",
                "forged"
            ]
            .contains(&value.as_str()),
            "{name}: {value}"
        );
        assert!(!value.contains("6.6.6.6"), "{name}: {value}");
    }
}

#[tokio::test]
async fn trusted_proxies_are_believed_hop_by_hop() {
    let rig = rig("127.0.0.0/8,10.0.0.0/8").await;
    for (chain, real) in [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("1.2.3.4, 10.1.1.1", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.1.1.1, 10.2.2.2", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db8::1]:5678, 10.1.1.1", "2001:db8::1"),
        ("6.6.6.6, , 10.1.1.1", "10.1.1.1"),
        ("6.6.6.6, unknown, 10.1.1.1", "10.1.1.1"),
        ("", "127.0.0.1"),
    ] {
        let seen = seen(
            &rig,
            &[
                ("X-Forwarded-For", chain),
                ("X-Forwarded-Proto", "https"),
                ("X-Real-IP", "9.9.9.9"),
            ],
        )
        .await;
        assert_eq!(seen.header("x-real-ip"), Some(real), "{chain}");
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert!(
            seen.header("x-forwarded-for")
                .unwrap()
                .ends_with("127.0.0.1"),
            "{chain}"
        );
    }
    let odd = seen(
        &rig,
        &[
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Port", "x"),
            ("X-Forwarded-Host", "a@b"),
        ],
    )
    .await;
    assert_eq!(odd.header("x-forwarded-proto"), Some("http"));
    assert_eq!(odd.header("x-forwarded-host"), Some("open.test"));
    assert_eq!(
        odd.header("x-forwarded-port"),
        Some(rig.port.to_string().as_str())
    );
    let kept = seen(&rig, &[("X-Request-Id", "from-the-edge-1")]).await;
    assert_eq!(kept.header("x-request-id"), Some("from-the-edge-1"));
}

#[tokio::test]
async fn no_forwarding_header_changes_who_may_pass() {
    for trusted in ["none", "127.0.0.0/8"] {
        let rig = rig(trusted).await;
        for (name, value) in [
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Host", "open.test"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Uri", "/public"),
            ("X-Forwarded-Path", "/public"),
            ("X-Forwarded-Prefix", "/public"),
            ("X-Forwarded-Method", "OPTIONS"),
            ("X-Forwarded-Server", "open.test"),
            ("X-Original-URL", "/public"),
            ("X-Original-Host", "open.test"),
            ("X-Rewrite-URL", "/public"),
            ("X-HTTP-Method-Override", "OPTIONS"),
            ("X-Real-IP", "127.0.0.1"),
            ("Forwarded", "for=127.0.0.1;host=open.test;proto=https"),
        ] {
            assert_eq!(
                rig.get_with("k.test", "/", &[(name, value)]).await.status,
                401,
                "{name} of {trusted}"
            );
            let answer = rig
                .get_with("k.test", "/", &[(name, value), ("apikey", "secret-1")])
                .await;
            assert_eq!(answer.status, 200, "{name} of {trusted}");
        }
    }
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own() {
    let rig = rig("none").await;
    let mut ids = std::collections::BTreeSet::new();
    let mut connection = rig.connect().await;
    for _ in 0..50 {
        let answer = connection
            .ask(harness::raw::get("open.test", "/", &[]))
            .await;
        let id = rig
            .upstream
            .last()
            .header("x-request-id")
            .unwrap()
            .to_owned();
        assert_eq!(answer.header("x-request-id").unwrap_or(&id), id);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn a_trace_context_is_passed_on() {
    let rig = rig("none").await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fine = seen(&rig, &[("traceparent", parent), ("tracestate", "a=1,b=2")]).await;
    assert_eq!(
        (fine.header("traceparent"), fine.header("tracestate")),
        (Some(parent), Some("a=1,b=2"))
    );
    let wrong = seen(&rig, &[("traceparent", "nonsense"), ("tracestate", "a=1")]).await;
    assert_ne!(wrong.header("traceparent"), Some("nonsense"));
}
