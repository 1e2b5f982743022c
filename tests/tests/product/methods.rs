//! No method is a way past a plugin.

use harness::Rig;
use harness::objects::{consumer_with_key, key_auth, route};
use harness::raw::request;
use serde_json::{Value, json};

async fn rig(config: &Value) -> Rig {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([route("r", "m.test", "echo"), key_auth("k", "r", config)]);
    Rig::with(objects).await
}

#[tokio::test]
async fn every_method_needs_a_key() {
    let rig = rig(&json!({})).await;
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get", "Get",
        "OPTIONSX", "X-CUSTOM",
    ] {
        let answer = rig.send(request(method, "m.test", "/", &[], b"")).await;
        assert_eq!(answer.status, 401, "{method}");
        assert!(answer.header("www-authenticate").is_some(), "{method}");
    }
    for (name, value) in [
        ("X-HTTP-Method-Override", "OPTIONS"),
        ("X-HTTP-Method", "OPTIONS"),
        ("X-Method-Override", "GET"),
        ("Access-Control-Request-Method", "GET"),
        ("Origin", "https://m.test"),
    ] {
        assert_eq!(
            rig.send(request("POST", "m.test", "/", &[(name, value)], b"x"))
                .await
                .status,
            401,
            "{name}"
        );
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn only_options_is_let_through_where_preflight_is() {
    let rig = rig(&json!({"runOnPreflight": false})).await;
    for (method, status) in [
        ("OPTIONS", 200),
        ("GET", 401),
        ("HEAD", 401),
        ("POST", 401),
        ("options", 401),
        ("Options", 401),
        ("OPTIONSX", 401),
    ] {
        let answer = rig
            .send(request(
                method,
                "m.test",
                "/",
                &[("Access-Control-Request-Method", "GET")],
                b"",
            ))
            .await;
        assert_eq!(answer.status, status, "{method}");
    }
    let tunnelled = request(
        "POST",
        "m.test",
        "/",
        &[("X-HTTP-Method-Override", "OPTIONS")],
        b"x",
    );
    assert_eq!(rig.send(tunnelled).await.status, 401);
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let rig = rig(&json!({})).await;
    let mut connection = rig.connect().await;
    let refused = connection
        .ask(request("HEAD", "m.test", "/", &[], b""))
        .await;
    assert_eq!((refused.status, refused.body.len()), (401, 0));
    // Nothing of a body is on the wire, or the next answer could not be read.
    let answer = connection
        .ask(request(
            "HEAD",
            "m.test",
            "/",
            &[("apikey", "secret-1")],
            b"",
        ))
        .await;
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("4"))
    );
    let answer = connection
        .ask(request(
            "GET",
            "m.test",
            "/",
            &[("apikey", "secret-1")],
            b"",
        ))
        .await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "echo"));
    assert_eq!(rig.upstream.seen()[0].method, "HEAD");
}
