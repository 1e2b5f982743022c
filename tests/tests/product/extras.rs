//! Mirrors, CORS, retries: what only some rules ask for.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::objects::{backend, consumer_with_key, key_auth, route_with, service};
use harness::raw::{get, request};
use harness::{Reply, Rig, Upstream, until};
use serde_json::{Value, json};

fn rule(extras: &Value) -> Value {
    let mut rule = json!({"backendRefs": [backend("app")]});
    for (name, value) in extras.as_object().unwrap() {
        rule[name] = value.clone();
    }
    route_with("app", &["app.test"], &json!([rule]))
}

fn mirror(service: &str, percent: Option<u32>) -> Value {
    let mut mirror = json!({"backendRef": backend(service)});
    if let Some(percent) = percent {
        mirror["percent"] = percent.into();
    }
    json!({"type": "RequestMirror", "requestMirror": mirror})
}

#[tokio::test]
async fn mirrors_get_copies_and_nobody_waits_for_them() {
    let app = Upstream::named("app").await;
    let one = Upstream::named("one").await;
    let never = Upstream::named("never").await;
    let dumb = Upstream::answering(|_| Reply::Silence).await;
    let mut objects = service("app", app.port());
    for (name, upstream) in [("one", &one), ("never", &never), ("dumb", &dumb)] {
        objects.extend(service(name, upstream.port()));
    }
    objects.push(rule(&json!({"filters": [
        mirror("one", None), mirror("never", Some(0)), mirror("dumb", Some(100)), mirror("absent", None),
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-set", "value": "1"}]}},
    ]})));
    let rig = Rig::with(objects).await;
    let body = vec![b'x'; 300_000];
    let head = [("Content-Length", "300000")];
    for _ in 0..3 {
        let answer = rig
            .send(request("POST", "app.test", "/a?b", &head, &body))
            .await;
        assert_eq!(
            (answer.status, answer.header("x-upstream")),
            (200, Some("app"))
        );
    }
    let chunked = b"3\r\nabc\r\n0\r\n\r\n";
    let head = [("Transfer-Encoding", "chunked")];
    let answer = rig
        .send(request("POST", "app.test", "/c", &head, chunked))
        .await;
    assert_eq!(answer.status, 200);
    until("copies", || async { one.count() == 4 && dumb.count() == 4 }).await;
    let seen = one.seen();
    assert!(
        seen.iter()
            .take(3)
            .all(|seen| seen.body == body && seen.target == "/a?b")
    );
    assert_eq!(seen[3].body, b"abc");
    assert_eq!(seen[0].header("x-set"), Some("1"));
    assert_eq!(seen[0].header("host"), Some("app.test"));
    assert_eq!(never.count(), 0);
}

#[tokio::test]
async fn what_a_plugin_refuses_is_not_mirrored() {
    let app = Upstream::named("app").await;
    let copy = Upstream::named("copy").await;
    let mut objects = service("app", app.port());
    objects.extend(service("copy", copy.port()));
    objects.push(rule(&json!({"filters": [mirror("copy", None)]})));
    objects.push(key_auth("key", "app", &json!({})));
    objects.extend(consumer_with_key("alice", "secret-1"));
    let rig = Rig::with(objects).await;
    assert_eq!(rig.get("app.test", "/").await.status, 401);
    let answer = rig
        .get_with("app.test", "/", &[("apikey", "secret-1")])
        .await;
    assert_eq!(answer.status, 200);
    until("the copy", || async { copy.count() == 1 }).await;
}

#[tokio::test]
async fn preflights_are_answered_before_any_plugin_and_refusals_can_be_read() {
    let app = Upstream::answering(|_| {
        Reply::status(
            200,
            "OK",
            &[("Access-Control-Allow-Origin", "https://theirs")],
            "",
        )
    })
    .await;
    let mut objects = service("app", app.port());
    objects.push(rule(&json!({"filters": [{"type": "CORS", "cors": {
        "allowOrigins": ["https://a.test"], "allowMethods": ["GET", "PUT"], "allowHeaders": ["apikey"],
        "allowCredentials": true}}]})));
    objects.push(key_auth("key", "app", &json!({})));
    objects.extend(consumer_with_key("alice", "secret-1"));
    let rig = Rig::with(objects).await;
    let asked = [
        ("Origin", "https://a.test"),
        ("Access-Control-Request-Method", "PUT"),
    ];
    let answer = rig
        .send(request("OPTIONS", "app.test", "/", &asked, b""))
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://a.test")
    );
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, PUT")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("apikey")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("5"));
    assert_eq!(app.count(), 0);

    let refused = rig
        .get_with("app.test", "/", &[("Origin", "https://a.test")])
        .await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://a.test")
    );

    let headers = [("Origin", "https://a.test"), ("apikey", "secret-1")];
    let answer = rig.get_with("app.test", "/", &headers).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://a.test")
    );
    let headers = [("Origin", "https://b.test"), ("apikey", "secret-1")];
    let answer = rig.get_with("app.test", "/", &headers).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // Without an origin nobody asks.
    let plain = rig
        .get_with("app.test", "/", &[("apikey", "secret-1")])
        .await;
    assert_eq!(
        plain.header("access-control-allow-origin"),
        Some("https://theirs")
    );
}

#[tokio::test]
async fn a_request_is_sent_again_as_often_as_the_rule_says() {
    let count = AtomicUsize::new(0);
    let app = Upstream::answering(move |seen| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        match seen.target.as_str() {
            "/later" if number < 2 => Reply::status(503, "Later", &[], "no"),
            "/never" => Reply::status(503, "Later", &[], "no"),
            "/other" => Reply::status(500, "Broken", &[], "no"),
            "/closed" if number.is_multiple_of(2) => Reply::Last(Vec::new()),
            _ => Reply::ok("done"),
        }
    })
    .await;
    let mut objects = service("app", app.port());
    objects.push(rule(
        &json!({"retry": {"attempts": 2, "codes": [503], "backoff": "1ms"}}),
    ));
    let rig = Rig::with(objects).await;
    let answer = rig
        .send(request(
            "POST",
            "app.test",
            "/later",
            &[("Content-Length", "3")],
            b"abc",
        ))
        .await;
    assert_eq!((answer.status, answer.text()), (200, "done".to_owned()));
    let seen = app.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.body == b"abc"));
    assert_eq!(rig.get("app.test", "/never").await.status, 503);
    assert_eq!(app.count(), 6);
    assert_eq!(rig.get("app.test", "/other").await.status, 500);
    assert_eq!(app.count(), 7);
    // An even number of requests so far would let this one pass at once.
    assert_eq!(rig.get("app.test", "/fine").await.status, 200);
    assert_eq!(rig.get("app.test", "/closed").await.status, 200);
}

#[tokio::test]
async fn every_try_has_its_time_and_all_of_them_together_have_theirs() {
    let app = Upstream::answering(|_| Reply::Silence).await;
    let mut objects = service("app", app.port());
    objects.push(rule(&json!({
        "retry": {"attempts": 3, "backoff": "1ms"}, "timeouts": {"request": "5s", "backendRequest": "50ms"}})));
    let rig = Rig::with(objects).await;
    assert_eq!(rig.send(get("app.test", "/", &[])).await.status, 504);
    assert_eq!(app.count(), 4);
}
