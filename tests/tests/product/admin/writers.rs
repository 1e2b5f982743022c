//! Several writers at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Admin;

#[tokio::test]
async fn no_update_of_two_writers_is_lost() {
    let admin = Arc::new(Admin::with([]).await);
    admin
        .done("POST", "/consumers", json!({"username": "alice"}))
        .await;
    let mut writers = Vec::new();
    for writer in 0..2 {
        let admin = Arc::clone(&admin);
        writers.push(tokio::spawn(async move {
            for i in 0..10 {
                let body = json!({"group": format!("{writer}-{i}")});
                admin.done("POST", "/consumers/alice/acls", body).await;
                let field = if writer == 0 { "custom_id" } else { "tags" };
                let value = if writer == 0 {
                    json!(i.to_string())
                } else {
                    json!([i.to_string()])
                };
                admin
                    .done("PATCH", "/consumers/alice", json!({field: value}))
                    .await;
            }
        }));
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    let all = admin
        .done("GET", "/consumers/alice/acls?size=1000", Value::Null)
        .await;
    let groups: BTreeSet<_> = all["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|entity| entity["group"].as_str().expect("a group").to_owned())
        .collect();
    let expected = (0..2).flat_map(|w| (0..10).map(move |i| format!("{w}-{i}")));
    assert_eq!(groups, expected.collect());
    let alice = admin.done("GET", "/consumers/alice", Value::Null).await;
    assert_eq!(
        (&alice["custom_id"], &alice["tags"]),
        (&json!("9"), &json!(["9"]))
    );
}

#[tokio::test]
async fn of_two_that_want_the_same_one_gets_it() {
    let admin = Arc::new(Admin::with([]).await);
    admin
        .done("POST", "/consumers", json!({"username": "alice"}))
        .await;
    for (path, body) in [
        ("/consumers", json!({"username": "Bob B."})),
        ("/consumers/alice/key-auth", json!({"key": "same"})),
        ("/consumers/alice/jwt", json!({"key": "same"})),
        ("/consumers/alice/acls", json!({"group": "gold"})),
    ] {
        let calls = (0..4).map(|_| {
            let (admin, body) = (Arc::clone(&admin), body.clone());
            tokio::spawn(async move { admin.call("POST", path, &body).await.status })
        });
        let mut statuses = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            statuses.push(call.await.expect("an answer"));
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409], "{path}");
    }
}
