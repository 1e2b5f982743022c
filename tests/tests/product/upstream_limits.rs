//! How much an upstream gets at a time, where an UpstreamPolicy says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use harness::objects::{backend, object, route, route_with, service};
use harness::raw::get;
use harness::{Answer, Connection, Reply, Rig, Upstream};
use serde_json::{Value, json};

/// Answers "/hold" when it has seen this many requests, all others at once.
async fn holding(until: usize) -> Upstream {
    Upstream::answering(
        move |seen| match (seen.target.as_str(), Reply::ok("done")) {
            ("/hold", Reply::Bytes(bytes)) => Reply::After(until, bytes),
            (_, reply) => reply,
        },
    )
    .await
}

/// "app.test" with this policy, "free.test" without one, and the same upstream behind both.
fn objects(upstream: &Upstream, spec: &Value) -> Vec<Value> {
    let mut whole = json!({"targetRefs": [{"name": "app"}]});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    let mut objects = service("app", upstream.port());
    objects.extend(service("free", upstream.port()));
    objects.extend([
        route("app", "app.test", "app"),
        route("free", "free.test", "free"),
        object("postern.dev/v1alpha1", "UpstreamPolicy", "app", &whole),
    ]);
    objects
}

/// A request that stays under way.
async fn hold(rig: &Rig, upstream: &Upstream) -> Connection {
    let mut connection = rig.connect().await;
    connection.send(get("app.test", "/hold", &[])).await;
    upstream.wait_for(1).await;
    connection
}

fn is_overloaded(answer: &Answer) {
    assert_eq!(answer.status, 503);
    let message = "the upstream has as many requests as it may have";
    assert_eq!(answer.message(), message);
}

async fn overflows(rig: &Rig, limit: &str) -> String {
    let name = format!(
        "postern_upstream_overflows_total{{upstream=\"default/app/80\",limit=\"{limit}\"}} "
    );
    let text = rig.postern.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .to_owned()
}

#[tokio::test]
async fn requests_beyond_the_most_are_refused_until_others_are_done() {
    let app = holding(2).await;
    let rig = Rig::with(objects(&app, &json!({"limits": {"maxRequests": 1}}))).await;
    let mut held = hold(&rig, &app).await;
    is_overloaded(&rig.get("app.test", "/").await);
    is_overloaded(&rig.get("app.test", "/").await);
    assert_eq!(overflows(&rig, "max_requests").await, "2");
    let text = rig.postern.metrics().await;
    assert!(
        text.contains("postern_failures_total{kind=\"max_requests\"} 2"),
        "{text}"
    );
    assert!(
        text.contains("postern_upstream_requests_active{upstream=\"default/app/80\"} 1"),
        "{text}"
    );
    // Others do not suffer, and what was under way ends as it should.
    assert_eq!(rig.get("free.test", "/").await.status, 200);
    assert_eq!(held.answer().await.status, 200);
    assert_eq!(rig.get("app.test", "/").await.status, 200);
}

#[tokio::test]
async fn requests_wait_for_a_connection_as_many_as_may() {
    let app = holding(2).await;
    let limits = json!({"limits": {"maxConnections": 1, "maxPending": 1}});
    let rig = Rig::with(objects(&app, &limits)).await;
    let mut held = hold(&rig, &app).await;
    let (mut one, mut other) = (rig.connect().await, rig.connect().await);
    one.send(get("app.test", "/one", &[])).await;
    other.send(get("app.test", "/other", &[])).await;
    let (refused, mut waiting) = tokio::select! {
        refused = one.answer() => (refused, other),
        refused = other.answer() => (refused, one),
    };
    is_overloaded(&refused);
    assert_eq!(overflows(&rig, "max_pending").await, "1");
    assert_eq!(app.count(), 1);
    assert_eq!(rig.get("free.test", "/").await.status, 200);
    assert_eq!(held.answer().await.status, 200);
    assert_eq!(waiting.answer().await.status, 200);
}

#[tokio::test]
async fn nobody_waits_for_a_connection_longer_than_for_one_to_be_opened() {
    let app = holding(2).await;
    let limits = json!({"limits": {"maxConnections": 1}});
    let rig = Rig::build().objects(objects(&app, &limits));
    let rig = rig.flag("--connect-timeout", "100ms").start().await;
    let mut held = hold(&rig, &app).await;
    is_overloaded(&rig.get("app.test", "/").await);
    assert_eq!(overflows(&rig, "pending_timeout").await, "1");
    assert_eq!(rig.get("free.test", "/").await.status, 200);
    assert_eq!(held.answer().await.status, 200);
}

#[tokio::test]
async fn many_requests_share_the_connections_that_there_may_be() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = Arc::clone(&most);
    let app = Upstream::connections(move |mut connection| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            while connection.idle().await.is_some() {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                // Long enough for as many others as there may be to come.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, SeqCst);
                connection
                    .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
            }
        }
    })
    .await;
    let limits = json!({"limits": {"maxConnections": 2}});
    let rig = Rig::with(objects(&app, &limits)).await;
    let clients = (0..20).map(|_| async {
        let mut connection = rig.connect().await;
        for _ in 0..5 {
            let answer = connection.ask(get("app.test", "/", &[])).await;
            assert_eq!(answer.status, 200);
        }
    });
    futures::future::join_all(clients).await;
    assert_eq!(peak.load(SeqCst), 2);
}

#[tokio::test]
async fn a_budget_ends_retries_whatever_the_route_says() {
    let app = Upstream::answering(|_| Reply::status(503, "Broken", &[], "")).await;
    let rule = json!({"backendRefs": [backend("app")],
        "retry": {"attempts": 3, "codes": [503], "backoff": "1ms"}});
    let objects = |budget: Value| {
        let mut objects = objects(&app, &json!({"retryBudget": budget}));
        objects[4] = route_with("app", &["app.test"], &json!([rule]));
        objects
    };
    let mut rig = Rig::with(objects(json!({"percent": 0, "minPerSecond": 0}))).await;
    assert_eq!(rig.get("app.test", "/").await.status, 503);
    assert_eq!(app.count(), 1);
    assert_eq!(overflows(&rig, "retry_budget").await, "1");
    rig.replace(objects(json!({}))).await;
    assert_eq!(rig.get("app.test", "/").await.status, 503);
    assert_eq!(app.count(), 5);
}
