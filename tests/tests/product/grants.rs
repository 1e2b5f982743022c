//! References across namespaces need a `ReferenceGrant`, at every moment.

use std::time::{Duration, Instant};

use harness::Rig;
use harness::objects::{key_auth, object, route, route_with, service, within_namespace};
use serde_json::{Value, json};

fn grant(namespace: &str, from: &Value, to: &Value) -> Value {
    let spec = json!({"from": [from], "to": [to]});
    within_namespace(
        object(
            "gateway.networking.k8s.io/v1beta1",
            "ReferenceGrant",
            "grant",
            &spec,
        ),
        namespace,
    )
}

#[tokio::test]
async fn a_backend_of_another_namespace_needs_a_grant_and_loses_it_at_once() {
    let upstream = harness::Upstream::named("far").await;
    let mut objects: Vec<_> = service("far", upstream.port())
        .into_iter()
        .map(|o| within_namespace(o, "other"))
        .collect();
    let backend = json!([{"backendRefs": [{"name": "far", "namespace": "other", "port": 80}]}]);
    objects.push(route_with("r", &["g.test"], &backend));
    let allowed = grant(
        "other",
        &json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}),
        &json!({"group": "", "kind": "Service", "name": "far"}),
    );
    let mut rig = Rig::with(objects.clone()).await;
    assert_eq!(rig.get("g.test", "/").await.status, 500);
    let with: Vec<_> = objects.iter().cloned().chain([allowed.clone()]).collect();
    rig.replace(with).await;
    assert_eq!(rig.get("g.test", "/").await.status, 200);
    let started = Instant::now();
    rig.replace(objects.clone()).await;
    assert_eq!(rig.get("g.test", "/").await.status, 500);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    // A grant for somebody else is none.
    let mut foreign = allowed;
    foreign["spec"]["from"][0]["namespace"] = "third".into();
    rig.replace(objects.into_iter().chain([foreign])).await;
    assert_eq!(rig.get("g.test", "/").await.status, 500);
}

#[tokio::test]
async fn a_plugin_reaches_into_another_namespace_only_with_a_grant() {
    let intruder = || within_namespace(key_auth("intruder", "r", &json!({})), "other");
    let mut plugin = intruder();
    plugin["spec"]["targetRefs"][0]["namespace"] = "default".into();
    let mut rig = Rig::with([route("r", "g.test", "echo"), plugin.clone()]).await;
    assert_eq!(rig.get("g.test", "/").await.status, 200);
    rig.postern
        .log_line("the refusal", |l| l.contains("intruder"))
        .await;
    let allowed = grant(
        "default",
        &json!({"group": "postern.dev", "kind": "AuthPlugin", "namespace": "other"}),
        &json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}),
    );
    rig.replace([route("r", "g.test", "echo"), plugin, allowed])
        .await;
    assert_eq!(rig.get("g.test", "/").await.status, 401);
}

#[tokio::test]
async fn routes_attach_only_where_the_listener_lets_them() {
    let mut outside = within_namespace(route("r", "g.test", "far"), "other");
    outside["spec"]["parentRefs"] = json!([{"name": "gateway", "namespace": "default"}]);
    let upstream = harness::Upstream::named("far").await;
    let far = service("far", upstream.port())
        .into_iter()
        .map(|o| within_namespace(o, "other"));
    let mut build = Rig::build();
    let port = build.port();
    let mut same = harness::objects::http_listener("same", port);
    same["allowedRoutes"] = json!({"namespaces": {"from": "Same"}});
    let rig = build
        .listener(same)
        .objects(far.chain([outside]))
        .start()
        .await;
    assert_eq!(rig.get("g.test", "/").await.status, 200);
    let answer = harness::Connection::open(port)
        .await
        .ask(harness::raw::get("g.test", "/", &[]))
        .await;
    assert_eq!(answer.status, 404);
}
