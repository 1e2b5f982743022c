//! What the Admin API writes, and who may call it.

use std::os::unix::fs::PermissionsExt;

use harness::objects::key_of;
use serde_json::{Value, json};

use super::Admin;

#[tokio::test]
async fn what_is_written_survives_a_restart() {
    let admin = Admin::with([]).await;
    admin
        .done("POST", "/consumers", json!({"username": "alice"}))
        .await;
    let key = admin
        .done("POST", "/consumers/alice/key-auth", json!({}))
        .await;
    let plugin = json!({"name": "key-auth"});
    admin.done("POST", "/routes/orders/plugins", plugin).await;
    let key = key["key"].as_str().expect("a key").to_owned();
    assert_eq!(key.len(), 32);
    let folder = admin.rig.folder.path().join("admin");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path)
            .expect("a file")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&folder), 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(&folder).expect("the folder") {
        assert_eq!(mode(&file.expect("a file").path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 4, "a consumer, a credential, its secret, a plugin");
    let Admin { rig, port, _port } = admin;
    let rig = rig.restart().await;
    let admin = Admin { rig, port, _port };
    let answer = admin
        .rig
        .get_with("orders.test", "/", &[("apikey", &key)])
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(admin.rig.get("orders.test", "/").await.status, 401);
    let all = admin.done("GET", "/key-auths", Value::Null).await;
    assert_eq!(all["data"][0]["key"], json!(key));
    // No key is in what the program printed.
    let printed = admin.rig.postern.output().join("\n");
    assert!(!printed.contains(&key));
}

#[tokio::test]
async fn the_users_own_files_are_never_written() {
    let admin = Admin::with(key_of("carol", "carols", "carols-key", &json!({}))).await;
    let before = std::fs::read(admin.rig.folder.path().join("test.yaml")).expect("the file");
    let id = admin
        .done("GET", "/key-auths/carols-key", Value::Null)
        .await["id"]
        .clone();
    let id = id.as_str().expect("an id");
    for (method, path) in [
        ("PATCH", "/consumers/carol".to_owned()),
        ("PUT", "/consumers/carol".to_owned()),
        ("DELETE", "/consumers/carol".to_owned()),
        ("POST", "/consumers/carol/acls".to_owned()),
        ("PATCH", format!("/consumers/carol/key-auth/{id}")),
        ("DELETE", format!("/key-auths/{id}")),
    ] {
        let body = match path.as_str() {
            path if path.ends_with("acls") => json!({"group": "gold"}),
            _ => json!({"tags": ["x"]}),
        };
        let answer = admin.call(method, &path, &body).await;
        assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains("test.yaml"), "{}", answer.text());
        assert!(!answer.text().contains("carols-key"));
    }
    let after = std::fs::read(admin.rig.folder.path().join("test.yaml")).expect("the file");
    assert_eq!(before, after);
    // New objects may belong to it.
    admin
        .done(
            "POST",
            "/consumers/carol/key-auth",
            json!({"key": "another"}),
        )
        .await;
    assert_eq!(
        admin
            .call("DELETE", "/consumers/carol", &Value::Null)
            .await
            .status,
        405
    );
    let left = admin
        .done("GET", "/consumers/carol/key-auth", Value::Null)
        .await;
    assert_eq!(left["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn an_application_that_could_not_work_is_refused() {
    let admin = Admin::with([]).await;
    admin
        .done("POST", "/consumers", json!({"username": "alice"}))
        .await;
    let taken = json!({"name": "app", "client_id": "taken"});
    admin
        .done("POST", "/consumers/alice/oauth2", taken.clone())
        .await;
    for (body, status) in [
        (taken, 409),
        (json!({}), 400),
        (json!({"name": "app", "client_id": "a:b"}), 400),
        (
            json!({"name": "app", "redirect_uris": ["javascript:alert(1)"]}),
            400,
        ),
        (json!({"name": "app", "hash_secret": true}), 400),
        (
            json!({"name": "app", "client_type": "public", "client_secret": "s"}),
            400,
        ),
    ] {
        let answer = admin.call("POST", "/consumers/alice/oauth2", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let all = admin.done("GET", "/oauth2", Value::Null).await;
    assert_eq!(all["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_value_that_is_taken_or_bad_leaves_nothing_behind() {
    let admin = Admin::with([]).await;
    admin
        .done("POST", "/consumers", json!({"username": "alice"}))
        .await;
    admin
        .done("POST", "/consumers/alice/key-auth", json!({"key": "k"}))
        .await;
    for (path, body, status) in [
        ("/consumers", json!({"username": "alice"}), 409),
        (
            "/consumers",
            json!({"username": "x", "custom_id": "c-1"}),
            409,
        ),
        ("/consumers", json!({}), 400),
        ("/consumers", json!({"username": "x", "id": "no"}), 400),
        (
            "/consumers",
            json!({"username": "x", "namespace": "../../.."}),
            400,
        ),
        ("/consumers?namespace=a%2Fb", json!({"username": "x"}), 400),
        (
            "/consumers",
            json!({"username": "x", "namespace": "X"}),
            400,
        ),
        ("/consumers/alice/key-auth", json!({"key": "k"}), 409),
        ("/consumers/alice/key-auth", json!({"ttl": -1}), 400),
        (
            "/consumers/alice/key-auth",
            json!({"ttl": 100_000_001}),
            400,
        ),
        ("/consumers/alice/jwt", json!({"algorithm": "RS256"}), 400),
        ("/consumers/alice/jwt", json!({"algorithm": "none"}), 400),
        (
            "/consumers/alice/jwt",
            json!({"algorithm": "RS256", "rsa_public_key": "nonsense"}),
            400,
        ),
        ("/consumers/nobody/jwt", json!({}), 404),
        (
            "/routes/orders/plugins",
            json!({"name": "key-auth", "config": {"key_names": []}}),
            400,
        ),
        ("/routes/orders/plugins", json!({"name": "magic"}), 400),
        (
            "/routes/orders/plugins",
            json!({"name": "jwt", "config": {"anonymous": "nobody"}}),
            400,
        ),
        ("/plugins", json!({"name": "key-auth"}), 400),
    ] {
        let answer = admin.call("POST", path, &body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
    }
    for (path, count) in [
        ("/consumers", 2),
        ("/key-auths", 1),
        ("/jwts", 0),
        ("/plugins", 0),
    ] {
        let all = admin.done("GET", path, Value::Null).await;
        assert_eq!(all["data"].as_array().map(Vec::len), Some(count), "{path}");
    }
    let kept = std::fs::read_dir(admin.rig.folder.path().join("admin")).expect("the folder");
    assert_eq!(kept.count(), 3);
}

#[tokio::test]
async fn pages_of_other_origins_and_other_names_are_not_answered() {
    let admin = Admin::with([]).await;
    let body = b"username=evil";
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for (header, status) in [
        (("Origin", "http://evil.example"), 403),
        (("Origin", "null"), 403),
        (("Sec-Fetch-Site", "cross-site"), 403),
    ] {
        let answer = admin
            .send("POST", "/consumers", &[form, header], body)
            .await;
        assert_eq!(answer.status, status, "{header:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let request = harness::raw::request("GET", "rebound.example", "/consumers", &[], b"");
    let answer = harness::raw::Connection::open(admin.port)
        .await
        .ask(request)
        .await;
    assert_eq!(answer.status, 421);
    let all = admin.done("GET", "/consumers", Value::Null).await;
    assert_eq!(all["data"].as_array().map(Vec::len), Some(1));
}
