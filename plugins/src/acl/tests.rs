//! Configuration and caller in, verdict out.

use crate::directory::Directory;
use crate::stage::{self, Scene};

const GUEST: &str = r#"{"anonymous": {"name": "guest"}, "runOnPreflight": false, "realm": "shop"}"#;

#[tokio::test]
async fn lets_groups_pass() {
    let directory = stage::directory();
    let key_auth = stage::handler(&directory, "keyAuth", GUEST, &["shop", "other"]).unwrap();
    let refused = "403 You cannot consume this service";
    let (not_allowed, denied) = (
        format!("{refused} (not_allowed)"),
        format!("{refused} (denied)"),
    );
    for (config, key, verdict) in [
        (r#"{"allow": ["gold"]}"#, "alice-key", "ok: alice"),
        (r#"{"allow": ["zinc", "silver"]}"#, "alice-key", "ok: alice"),
        (r#"{"allow": ["gold"]}"#, "bob-key", &not_allowed),
        (
            r#"{"allow": ["Silver", "silve", "silver,gold", "gold, silver"]}"#,
            "alice-key",
            &not_allowed,
        ),
        (r#"{"allow": ["gold"]}"#, "eve-key", &not_allowed),
        (r#"{"deny": ["gold"]}"#, "alice-key", &denied),
        (r#"{"deny": ["gold"]}"#, "bob-key", "ok: bob"),
        (r#"{"deny": ["gold"]}"#, "eve-key", "ok: eve"),
        // The anonymous Consumer has groups like any other.
        (r#"{"allow": ["guests"]}"#, "nope", "ok: guest (anonymous)"),
        (r#"{"deny": ["guests"]}"#, "nope", &denied),
        (r#"{"allow": ["gold"]}"#, "nope", &not_allowed),
    ] {
        let acl = stage::handler(&directory, "acl", config, &[]).unwrap();
        let mut scene = Scene::read(&format!("GET /a\napikey: {key}"));
        scene.act(&key_auth, &directory).await;
        assert_eq!(scene.act(&acl, &directory).await, verdict, "{config} {key}");
        assert!(!scene.caller.hide_groups);
    }
}

#[tokio::test]
async fn asks_who_calls() {
    let directory = stage::directory();
    let acl = stage::handler(&directory, "acl", r#"{"deny": ["gold"]}"#, &[]).unwrap();
    let mut scene = Scene::read("GET /a\napikey: alice-key");
    assert_eq!(
        scene.act(&acl, &directory).await,
        "401 Unauthorized (no_consumer)"
    );

    // A plugin that skipped the request says how to authenticate.
    let key_auth = stage::handler(&directory, "keyAuth", GUEST, &["shop"]).unwrap();
    let mut scene = Scene::read("OPTIONS /a");
    assert_eq!(scene.act(&key_auth, &directory).await, "preflight: nobody");
    assert_eq!(
        scene.act(&acl, &directory).await,
        "401 Unauthorized (no_consumer) <Key realm=\"shop\">"
    );
}

#[tokio::test]
async fn hides_groups() {
    let directory = stage::directory();
    let key_auth = stage::handler(&directory, "keyAuth", "{}", &["shop"]).unwrap();
    let config = r#"{"allow": ["gold"], "hideGroupsHeader": true}"#;
    let acl = stage::handler(&directory, "acl", config, &[]).unwrap();
    let mut scene = Scene::read("GET /a\napikey: alice-key");
    scene.act(&key_auth, &directory).await;
    assert_eq!(scene.act(&acl, &directory).await, "ok: alice");
    assert!(scene.caller.hide_groups);
}

#[test]
fn refuses_configurations_that_cannot_be_right() {
    let directory = Directory::default();
    for (config, message) in [
        ("{}", "acl needs exactly one of allow and deny"),
        (
            r#"{"allow": []}"#,
            "acl needs exactly one of allow and deny",
        ),
        (
            r#"{"allow": ["a"], "deny": ["b"]}"#,
            "acl needs exactly one of allow and deny",
        ),
        (r#"{"allow": ["a", ""]}"#, "allow[1]: must not be empty"),
        (r#"{"allowed": ["a"]}"#, "acl: unknown field `allowed`"),
    ] {
        let refused = stage::handler(&directory, "acl", config, &[]).unwrap_err();
        assert!(refused.starts_with(message), "{config}: {refused}");
    }
}
