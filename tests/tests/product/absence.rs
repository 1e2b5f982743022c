//! A data plane whose control plane is away: it serves what was in force last.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use harness::Rig;
use harness::objects::{consumer_with_key, key_auth, key_of, route};
use harness::process::Postern;
use serde_json::json;
use tempfile::TempDir;

/// Nobody answers there.
const NOWHERE: &str = "https://127.0.0.1:1";

async fn is_ready(postern: &Postern) -> bool {
    postern.try_readyz().await.is_some_and(|a| a.status == 200)
}

#[tokio::test]
async fn a_restart_without_a_controller_serves_the_last_good_snapshot() {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend(key_of("alice", "short", "short-key", &json!({"ttl": 6})));
    objects.extend([route("r", "k.test", "echo"), key_auth("k", "r", &json!({}))]);
    let mut rig = Rig::with(objects).await;
    assert_eq!(rig.get("k.test", "/").await.status, 401);
    rig.postern.signal("TERM");
    rig.postern.end().await;
    let state = Arc::clone(rig.postern.state());
    rig.postern = Postern::spawn_proxy(NOWHERE, state);
    harness::until("readiness", async || is_ready(&rig.postern).await).await;
    let with = async |key: &str| rig.get_with("k.test", "/", &[("apikey", key)]).await.status;
    assert_eq!(rig.get("k.test", "/").await.status, 401);
    assert_eq!(with("secret-1").await, 200);
    assert_eq!(with("wrong").await, 401);
    assert_eq!(
        rig.upstream.last().header("x-consumer-username"),
        Some("alice")
    );
    // Credentials end on time all the same.
    harness::until("the end of the key", async || {
        with("short-key").await == 401
    })
    .await;
    assert_eq!(with("secret-1").await, 200);
    let said = rig.postern.readyz().await.text() + &rig.postern.metrics().await;
    assert!(said.to_lowercase().contains("control"), "{said}");
}

#[tokio::test]
async fn without_a_snapshot_nothing_is_ready_and_nothing_is_served() {
    let state = Arc::new(TempDir::new().unwrap());
    let mut postern = Postern::spawn_proxy(NOWHERE, state);
    harness::until("an answer", async || postern.try_readyz().await.is_some()).await;
    assert_eq!(postern.readyz().await.status, 503);
    postern
        .log_line("the controller's absence", |l| l.contains("127.0.0.1:1"))
        .await;
    assert_eq!(postern.readyz().await.status, 503);
    assert!(postern.runs());
    postern.signal("TERM");
    assert!(postern.end().await.success());
}

#[tokio::test]
async fn a_damaged_file_is_named_and_not_served() {
    let mut rig = Rig::with([route("r", "k.test", "echo")]).await;
    rig.postern.signal("TERM");
    rig.postern.end().await;
    let state = Arc::clone(rig.postern.state());
    let log = state.path().join("last-good.log");
    assert_eq!(
        std::fs::metadata(&log).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let postern = Postern::spawn_proxy(NOWHERE, state);
    postern
        .log_line("the damage", |l| l.contains("last-good"))
        .await;
    harness::until("an answer", async || postern.try_readyz().await.is_some()).await;
    assert_eq!(postern.readyz().await.status, 503);
}
