//! Long lists.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use harness::ports::Port;
use serde_json::Value;

use super::Admin;

const COUNT: usize = 100_000;

/// So many credentials, as one file.
fn many(count: usize) -> String {
    let mut text = String::new();
    for i in 0..count {
        let object = serde_json::json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Credential",
            "metadata": {"name": format!("key-{i:06}")},
            "spec": {"consumerRef": {"name": "carol"}, "keyAuth": {"hash": format!("sha256:{i:064x}")}},
        });
        let _ = writeln!(text, "{object}");
    }
    text
}

async fn all_ids(admin: &Admin, size: usize) -> Vec<String> {
    let mut next = format!("/key-auths?size={size}");
    let mut ids = Vec::new();
    loop {
        let page = admin.done("GET", &next, Value::Null).await;
        let data = page["data"].as_array().expect("data");
        assert!(data.len() <= size);
        ids.extend(
            data.iter()
                .map(|entity| entity["id"].as_str().expect("an id").to_owned()),
        );
        let Some(path) = page["next"].as_str() else {
            return ids;
        };
        next = path.to_owned();
    }
}

#[tokio::test]
async fn a_hundred_thousand_credentials_are_listed_and_not_held_twice() {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let carol = harness::objects::consumer("carol", &serde_json::json!({}));
    let rig = harness::Rig::build()
        .objects([carol])
        .file("many.json", &many(COUNT))
        .flag("--admin-address", &address)
        .start()
        .await;
    let admin = Admin {
        rig,
        port: port.number(),
        _port: port,
    };
    let before = admin.rig.postern.resident();
    let ids = all_ids(&admin, 1000).await;
    assert_eq!(ids.len(), COUNT);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), COUNT);
    // A second copy of them would be more than twenty times a page.
    let grown = admin.rig.postern.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "listing took {} MiB", grown >> 20);
}

#[tokio::test]
async fn a_page_hides_and_repeats_nothing_while_others_write() {
    let admin = Admin::with([]).await;
    admin
        .done(
            "POST",
            "/consumers",
            serde_json::json!({"username": "alice"}),
        )
        .await;
    let mut kept = BTreeSet::new();
    let mut doomed = Vec::new();
    for i in 0..8 {
        let key = admin
            .done("POST", "/consumers/alice/key-auth", serde_json::json!({}))
            .await;
        let id = key["id"].as_str().expect("an id").to_owned();
        if i % 2 == 0 {
            kept.insert(id);
        } else {
            doomed.push(id);
        }
    }
    let mut next = "/key-auths?size=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = admin.done("GET", &next, Value::Null).await;
        let ids = page["data"].as_array().expect("data").iter();
        seen.extend(ids.map(|entity| entity["id"].as_str().expect("an id").to_owned()));
        if let Some(id) = doomed.pop() {
            admin
                .done("DELETE", &format!("/key-auths/{id}"), Value::Null)
                .await;
        }
        let Some(path) = page["next"].as_str() else {
            break;
        };
        next = path.to_owned();
    }
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is repeated");
    assert!(distinct.is_superset(&kept), "nothing that stayed is hidden");
}
