//! Namespaces as tenants: whose Credentials count where.

use harness::objects::{consumer_with_key, key_auth, object, route, within_namespace};
use harness::{Answer, Rig};
use serde_json::{Value, json};

fn tenant(namespace: &str, key: &str) -> Vec<Value> {
    consumer_with_key("alice", key)
        .into_iter()
        .map(|o| within_namespace(o, namespace))
        .collect()
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A route for each way of looking at consumers, in the namespace `default`.
fn routes() -> Vec<Value> {
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "blue"}}});
    let mut all = Vec::new();
    for (name, consumers) in [
        ("same", json!({"from": "Same"})),
        ("all", json!({"from": "All"})),
        ("blue", selector),
    ] {
        let mut plugin = key_auth(name, name, &json!({}));
        plugin["spec"]["consumers"] = consumers;
        all.extend([route(name, &format!("{name}.test"), "echo"), plugin]);
    }
    all.extend([
        namespace("one", &json!({"team": "blue"})),
        namespace("two", &json!({"team": "red"})),
    ]);
    all
}

async fn with_key(rig: &Rig, host: &str, key: &str) -> Answer {
    rig.get_with(host, "/", &[("apikey", key)]).await
}

#[tokio::test]
async fn credentials_count_only_where_they_are_looked_for() {
    let mut objects = routes();
    objects.extend(tenant("default", "key-default"));
    objects.extend(tenant("one", "key-one"));
    objects.extend(tenant("two", "key-two"));
    let rig = Rig::with(objects).await;
    for (host, statuses) in [
        ("same.test", [200, 401, 401]),
        ("all.test", [200, 200, 200]),
        ("blue.test", [401, 200, 401]),
    ] {
        for (key, status) in ["key-default", "key-one", "key-two"].iter().zip(statuses) {
            assert_eq!(
                with_key(&rig, host, key).await.status,
                status,
                "{host} {key}"
            );
        }
    }
}

#[tokio::test]
async fn nobody_can_block_the_key_of_another_namespace() {
    let mut objects = routes();
    objects.extend(tenant("one", "shared-key"));
    objects.extend(tenant("two", "shared-key"));
    objects.extend(tenant("default", "key-default"));
    let rig = Rig::with(objects).await;
    // Each tenant's own view has one owner of the key.
    assert_eq!(with_key(&rig, "blue.test", "shared-key").await.status, 200);
    // Where both are looked at nobody knows whose it is.
    assert_eq!(with_key(&rig, "all.test", "shared-key").await.status, 401);
    assert_eq!(with_key(&rig, "all.test", "key-default").await.status, 200);
}

#[tokio::test]
async fn the_labels_of_a_namespace_may_change() {
    let mut objects = routes();
    objects.extend(tenant("two", "key-two"));
    let mut rig = Rig::with(objects.clone()).await;
    assert_eq!(with_key(&rig, "blue.test", "key-two").await.status, 401);
    objects.retain(|o| o["metadata"]["name"] != "two");
    objects.push(namespace("two", &json!({"team": "blue"})));
    rig.replace(objects).await;
    assert_eq!(with_key(&rig, "blue.test", "key-two").await.status, 200);
}

#[tokio::test]
async fn references_of_a_credential_stay_in_its_namespace() {
    let mut objects = routes();
    objects.extend(tenant("one", "key-one"));
    // Names of another namespace's Consumer and Secret.
    let spec = json!({"consumerRef": {"name": "alice"}, "keyAuth": {"secretRef": {"name": "alice-key", "key": "key"}}});
    objects.push(within_namespace(
        object("postern.dev/v1alpha1", "Credential", "thief", &spec),
        "two",
    ));
    let rig = Rig::with(objects).await;
    assert_eq!(with_key(&rig, "all.test", "key-one").await.status, 200);
    assert_eq!(
        rig.upstream.last().header("x-consumer-username"),
        Some("alice")
    );
    rig.postern
        .log_line("the finding", |l| l.contains("thief"))
        .await;
}
