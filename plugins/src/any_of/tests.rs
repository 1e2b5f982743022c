//! Configuration and request in, verdict and what was tried out.

mod tokens;

use crate::directory::Directory;
use crate::handler::Handler;
use crate::stage::{self, Scene};

/// Which credential a request of the tables presents.
fn request(method: &str, token: &str, key: &str) -> Scene {
    let mut text = format!("{method} /a");
    for (header, value) in [("authorization: Bearer ", token), ("apikey: ", key)] {
        if !value.is_empty() {
            text += &format!("\n{header}{value}");
        }
    }
    Scene::read(&text)
}

async fn act(
    handler: &Handler,
    directory: &Directory,
    method: &str,
    token: &str,
    key: &str,
) -> String {
    let mut scene = request(method, token, key);
    let verdict = scene.act(handler, directory).await;
    let tried = scene.caller.tried.iter();
    let tried: Vec<String> = tried
        .map(|(kind, reason)| format!("{} {reason}", kind.name()))
        .collect();
    format!("{verdict} [{}]", tried.join(", "))
}

#[tokio::test]
async fn the_first_that_succeeds_authenticates() {
    let directory = stage::directory();
    let (good, bad) = (
        stage::token("jim", "secret-of-jim"),
        stage::token("jim", "wrong"),
    );
    let (good, bad) = (good.as_str(), bad.as_str());
    let config = r#"[{"jwt": {"realm": "r"}}, {"keyAuth": {}}]"#;
    let handler = stage::handler(&directory, "anyOf", config, &["shop"]).unwrap();
    for (token, key, expected) in [
        (good, "", "ok: jim [jwt ok]"),
        // The second is not even looked at.
        (good, "bob-key", "ok: jim [jwt ok]"),
        (good, "nope", "ok: jim [jwt ok]"),
        ("", "bob-key", "ok: bob [jwt no_token, keyAuth ok]"),
        // What was wrong with the first is said all the same.
        (
            bad,
            "bob-key",
            "ok_after_bad_credential: bob [jwt bad_signature, keyAuth ok]",
        ),
        (
            "",
            "",
            "401 Unauthorized (no_token) <Bearer realm=\"r\"> <Key> [jwt no_token, keyAuth no_key]",
        ),
        (
            "",
            "nope",
            "401 Unauthorized (unknown_key) <Bearer realm=\"r\"> <Key> [jwt no_token, keyAuth unknown_key]",
        ),
        (
            "x.y.z",
            "nope",
            "401 Bad token; invalid JSON (bad_token) <Bearer realm=\"r\", error=\"invalid_token\"> <Key> \
             [jwt bad_token, keyAuth unknown_key]",
        ),
        (
            bad,
            "",
            "403 Invalid signature (bad_signature) <Bearer realm=\"r\"> <Key> [jwt bad_signature, keyAuth no_key]",
        ),
    ] {
        let found = act(&handler, &directory, "GET", token, key).await;
        assert_eq!(found, expected, "{token:?} {key:?}");
    }

    // The order is that of the list.
    let config = r#"[{"keyAuth": {}}, {"jwt": {}}]"#;
    let handler = stage::handler(&directory, "anyOf", config, &["shop"]).unwrap();
    assert_eq!(
        act(&handler, &directory, "GET", good, "bob-key").await,
        "ok: bob [keyAuth ok]"
    );
    assert_eq!(
        act(&handler, &directory, "GET", "", "").await,
        "401 No API key found in request (no_key) <Key> <Bearer> [keyAuth no_key, jwt no_token]"
    );
}

#[tokio::test]
async fn one_type_may_be_there_more_than_once() {
    let directory = stage::directory();
    let config = r#"[{"keyAuth": {"keyNames": ["old"], "realm": "old"}}, {"keyAuth": {"keyNames": ["new"]}}]"#;
    let handler = stage::handler(&directory, "anyOf", config, &["shop"]).unwrap();
    for (header, expected) in [
        ("old: bob-key", "ok: bob"),
        ("new: bob-key", "ok: bob"),
        (
            "apikey: bob-key",
            "401 No API key found in request (no_key) <Key realm=\"old\"> <Key>",
        ),
    ] {
        let mut scene = Scene::read(&format!("GET /a\n{header}"));
        assert_eq!(scene.act(&handler, &directory).await, expected, "{header}");
    }
}

#[tokio::test]
async fn the_anonymous_consumer_comes_after_all_of_them() {
    let directory = stage::directory();
    let good = stage::token("jim", "secret-of-jim");
    let bad = stage::token("jim", "wrong");
    let config = r#"[{"jwt": {}}, {"keyAuth": {"anonymous": {"name": "guest"}}}]"#;
    let handler = stage::handler(&directory, "anyOf", config, &["shop"]).unwrap();
    for (token, key, expected) in [
        (&*good, "", "ok: jim [jwt ok]"),
        ("", "bob-key", "ok: bob [jwt no_token, keyAuth ok]"),
        (
            "",
            "",
            "anonymous: guest (anonymous) [jwt no_token, keyAuth no_key]",
        ),
        // Never silently: the reason says what was wrong.
        (
            &bad,
            "",
            "anonymous_bad_signature: guest (anonymous) [jwt bad_signature, keyAuth no_key]",
        ),
        (
            "",
            "old-key",
            "anonymous_out_of_time: guest (anonymous) [jwt no_token, keyAuth out_of_time]",
        ),
    ] {
        let found = act(&handler, &directory, "GET", token, key).await;
        assert_eq!(found, expected, "{token:?} {key:?}");
    }

    // Behind a plugin that has found somebody it has nothing to do.
    let key_auth = stage::handler(&directory, "keyAuth", "{}", &["shop"]).unwrap();
    let mut scene = request("GET", "", "bob-key");
    scene.act(&key_auth, &directory).await;
    assert_eq!(
        scene.act(&handler, &directory).await,
        "already_authenticated: bob"
    );

    let config = r#"[{"jwt": {}}, {"keyAuth": {"anonymous": {"name": "nobody"}}}]"#;
    let handler = stage::handler(&directory, "anyOf", config, &["shop"]).unwrap();
    assert_eq!(
        act(&handler, &directory, "GET", "", "").await,
        "500 anonymous consumer nobody is configured but doesn't exist (anonymous_missing) \
         [jwt no_token, keyAuth no_key]"
    );
}

#[tokio::test]
async fn a_request_at_fault_is_refused_at_once() {
    let directory = stage::directory();
    let config = r#"[{"keyAuth": {"keyInBody": true, "maxBodyBytes": 5}}, {"jwt": {"anonymous": {"name": "guest"}}}]"#;
    let handler = stage::handler(&directory, "anyOf", config, &["shop"]).unwrap();
    let token = stage::token("jim", "secret-of-jim");
    let mut scene = Scene::read(&format!(
        "POST /a\nauthorization: Bearer {token}\ncontent-type: application/x-www-form-urlencoded\n\na=bcdefgh"
    ));
    assert_eq!(
        scene.act(&handler, &directory).await,
        "413 Request body too large (body_too_long)"
    );
    assert_eq!(scene.caller.tried.len(), 1);
}

#[tokio::test]
async fn preflights_pass_where_one_method_lets_them() {
    let directory = stage::directory();
    let config = r#"[{"keyAuth": {"realm": "k"}}, {"jwt": {"runOnPreflight": false}}]"#;
    let handler = stage::handler(&directory, "anyOf", config, &["shop"]).unwrap();
    let mut scene = request("OPTIONS", "", "");
    assert_eq!(scene.act(&handler, &directory).await, "preflight: nobody");
    // An acl behind it names all the ways.
    let acl = stage::handler(&directory, "acl", r#"{"allow": ["gold"]}"#, &[]).unwrap();
    assert_eq!(
        scene.act(&acl, &directory).await,
        "401 Unauthorized (no_consumer) <Key realm=\"k\"> <Bearer>"
    );
    let mut scene = request("OPTIONS", "", "bob-key");
    assert_eq!(scene.act(&handler, &directory).await, "ok: bob");
    assert_eq!(
        request("GET", "", "").act(&handler, &directory).await,
        "401 No API key found in request (no_key) <Key realm=\"k\"> <Bearer>"
    );
}

#[test]
fn refuses_configurations_that_cannot_be_right() {
    let directory = Directory::default();
    let many = format!("[{}]", [r#"{"jwt": {}}"#; 9].join(", "));
    let one = "a method of anyOf is exactly one block";
    for (config, message) in [
        ("[]", "must name at least one method"),
        (&*many, "must name at most 8 methods, it names 9"),
        ("[{}]", &format!("[0]: {one}")),
        (
            r#"[{"jwt": {}}, {"jwt": {}, "keyAuth": {}}]"#,
            &format!("[1]: {one}"),
        ),
        (
            r#"[{"jwt": {}}, {"keyAuth": {"keyNames": ["a b"]}}]"#,
            "[1].keyAuth.keyNames: may hold only",
        ),
        (
            r#"[{"jwt": {"anonymous": {"name": "guest"}}}, {"keyAuth": {}}]"#,
            "anonymous counts when no method has found anybody",
        ),
        (
            r#"[{"jwt": {"anonymous": {"name": "a"}}}, {"keyAuth": {"anonymous": {"name": "a"}}}]"#,
            "anonymous counts when no method has found anybody",
        ),
        (
            r#"[{"acl": {"allow": ["a"]}}]"#,
            "anyOf: unknown field `acl`",
        ),
        (r#"{"jwt": {}}"#, "anyOf: invalid type: map"),
        (
            r#"[{"jwt": {"issuer": "a"}}]"#,
            "anyOf: unknown field `issuer`",
        ),
    ] {
        let refused = stage::handler(&directory, "anyOf", config, &[]).unwrap_err();
        assert!(refused.starts_with(message), "{config}: {refused}");
    }
}
