//! Configuration and request in, verdict and request out.

mod finding;
mod hiding;

use super::*;
use crate::directory::Directory;
use crate::stage::{self, Scene};

const FORM: &str = "content-type: application/x-www-form-urlencoded";
const JSON: &str = "content-type: application/json";
const MULTIPART: &str = "content-type: multipart/form-data; boundary=XX";
const MISSING: &str = "401 No API key found in request (no_key) <Key>";
const DUPLICATE: &str = "401 Duplicate API key found (duplicate_key) <Key>";
const UNKNOWN: &str = "401 Unauthorized (unknown_key) <Key>";
const BODY: &str = r#"{"keyInBody": true}"#;
const HIDE: &str = r#"{"hideCredentials": true}"#;
const HIDE_BODY: &str = r#"{"hideCredentials": true, "keyInBody": true}"#;
const GUEST: &str = r#"{"anonymous": {"name": "guest"}}"#;

/// Runs rows of (configuration, request, verdict, request afterwards; empty: as before).
async fn run(rows: &[(&str, &str, &str, &str)]) {
    let directory = stage::directory();
    for (config, request, verdict, after) in rows {
        let handler = stage::handler(&directory, "keyAuth", config, &["shop"]).unwrap();
        let mut scene = Scene::read(request);
        let before = scene.write();
        assert_eq!(
            scene.act(&handler, &directory).await,
            *verdict,
            "{config}\n{request}"
        );
        let expected = if after.is_empty() {
            before
        } else {
            (*after).to_owned()
        };
        assert_eq!(scene.write(), expected, "{config}\n{request}");
    }
}

fn with(lines: &[&str], body: &str) -> String {
    format!("POST /a\n{}\n\n{body}", lines.join("\n"))
}

#[tokio::test]
async fn honours_keys_in_their_time_and_namespace() {
    run(&[
        ("{}", "GET /a\napikey: bob-key", "ok: bob", ""),
        (
            "{}",
            "GET /a\napikey: old-key",
            "401 Unauthorized (out_of_time) <Key>",
            "",
        ),
        (
            "{}",
            "GET /a\napikey: future-key",
            "401 Unauthorized (out_of_time) <Key>",
            "",
        ),
        (
            "{}",
            "GET /a\napikey: orphan-key",
            "401 Unauthorized (no_consumer) <Key>",
            "",
        ),
        ("{}", "GET /a\napikey: eve-key", UNKNOWN, ""),
        ("{}", "GET /a\napikey: twin-key", "ok: bob", ""),
    ])
    .await;
    let directory = stage::directory();
    let handler = stage::handler(&directory, "keyAuth", "{}", &["other", "shop"]).unwrap();
    for (key, verdict) in [
        ("eve-key", "ok: eve"),
        ("alice-key", "ok: alice"),
        ("twin-key", "401 Unauthorized (ambiguous_key) <Key>"),
    ] {
        let mut scene = Scene::read(&format!("GET /a\napikey: {key}"));
        assert_eq!(scene.act(&handler, &directory).await, verdict);
    }
}

#[tokio::test]
async fn falls_back_to_the_anonymous_consumer() {
    let ghost = r#"{"anonymous": {"name": "ghost"}}"#;
    let hide = r#"{"anonymous": {"name": "guest"}, "hideCredentials": true}"#;
    let missing =
        "500 anonymous consumer ghost is configured but doesn't exist (anonymous_missing)";
    run(&[
        (GUEST, "GET /a", "anonymous: guest (anonymous)", ""),
        (GUEST, "GET /a\napikey:", "anonymous: guest (anonymous)", ""),
        (
            GUEST,
            "GET /a\napikey: nope",
            "anonymous_unknown_key: guest (anonymous)",
            "",
        ),
        (
            GUEST,
            "GET /a\napikey: old-key",
            "anonymous_out_of_time: guest (anonymous)",
            "",
        ),
        (
            GUEST,
            "GET /a\napikey: orphan-key",
            "anonymous_no_consumer: guest (anonymous)",
            "",
        ),
        (
            GUEST,
            "GET /a?apikey=a&apikey=b",
            "anonymous_duplicate_key: guest (anonymous)",
            "",
        ),
        (GUEST, "GET /a\napikey: alice-key", "ok: alice", ""),
        (
            hide,
            "GET /a?apikey=nope&b",
            "anonymous_unknown_key: guest (anonymous)",
            "GET /a?b",
        ),
        (ghost, "GET /a", missing, ""),
        (ghost, "GET /a\napikey: nope", missing, ""),
        (ghost, "GET /a\napikey: alice-key", "ok: alice", ""),
    ])
    .await;
}

/// Several plugins in a row: without `anonymous` all must pass, with it one is enough.
#[tokio::test]
async fn joins_with_other_plugins() {
    let directory = stage::directory();
    let build = |config: &str| stage::handler(&directory, "keyAuth", config, &["shop"]).unwrap();
    let (first, second) = (r#"{"keyNames": ["k1"]}"#, r#"{"keyNames": ["k2"]}"#);
    let (first_or, second_or) = (
        r#"{"keyNames": ["k1"], "anonymous": {"name": "guest"}}"#,
        r#"{"keyNames": ["k2"], "anonymous": {"name": "ghost"}}"#,
    );
    let none = "GET /a";
    let one = "GET /a\nk1: alice-key";
    let other = "GET /a\nk2: bob-key";
    let both = "GET /a\nk1: alice-key\nk2: bob-key";
    for (configs, request, verdict) in [
        ([first, second], both, "ok: bob"),
        ([first, second], one, MISSING),
        ([first, second], other, MISSING),
        ([first_or, second_or], both, "already_authenticated: alice"),
        ([first_or, second_or], one, "already_authenticated: alice"),
        ([first_or, second_or], other, "ok: bob"),
        (
            [second_or, first_or],
            one,
            "500 anonymous consumer ghost is configured but doesn't exist (anonymous_missing)",
        ),
        ([first_or, first_or], none, "anonymous: guest (anonymous)"),
        ([first_or, second], one, MISSING),
        ([first_or, second], other, "ok: bob"),
        ([first, second_or], one, "already_authenticated: alice"),
        ([first, second_or], other, MISSING),
    ] {
        let mut scene = Scene::read(request);
        let mut last = String::new();
        for config in configs {
            last = scene.act(&build(config), &directory).await;
            if last.starts_with(|first: char| first.is_ascii_digit()) {
                break;
            }
        }
        assert_eq!(last, verdict, "{configs:?}\n{request}");
    }
}

#[tokio::test]
async fn lets_preflight_pass_where_it_may() {
    let off = r#"{"runOnPreflight": false}"#;
    run(&[
        ("{}", "OPTIONS /a", MISSING, ""),
        ("{}", "OPTIONS /a\napikey: alice-key", "ok: alice", ""),
        (off, "OPTIONS /a", "preflight: nobody", ""),
        (
            off,
            "OPTIONS /a\napikey: alice-key",
            "preflight: nobody",
            "",
        ),
        (off, "GET /a", MISSING, ""),
        (off, "HEAD /a", MISSING, ""),
        (off, "GET /a\nx-http-method-override: OPTIONS", MISSING, ""),
    ])
    .await;
}

#[tokio::test]
async fn names_the_realm() {
    let row = |challenge: &str| format!("401 No API key found in request (no_key) <{challenge}>");
    run(&[
        (
            r#"{"realm": "shop"}"#,
            "GET /a",
            &row("Key realm=\"shop\""),
            "",
        ),
        (
            r#"{"realm": "a\"b\\c, Basic"}"#,
            "GET /a",
            &row(r#"Key realm="a\"b\\c, Basic""#),
            "",
        ),
    ])
    .await;
    run(&[
        (
            r#"{"realm": "r"}"#,
            "GET /a?apikey=a&apikey=b",
            "401 Duplicate API key found (duplicate_key) <Key realm=\"r\">",
            "",
        ),
        (
            r#"{"realm": "r"}"#,
            "GET /a?apikey=a",
            "401 Unauthorized (unknown_key) <Key realm=\"r\">",
            "",
        ),
    ])
    .await;
}

#[test]
fn refuses_configurations_that_cannot_be_right() {
    let directory = Directory::default();
    for (config, message) in [
        (r#"{"keyNames": []}"#, "keyNames: must have at least 1 item"),
        (r#"{"keyNames": [""]}"#, "keyNames[0]: must not be empty"),
        (
            r#"{"keyNames": ["a", "bad name"]}"#,
            "keyNames: may hold only characters of header names",
        ),
        (
            r#"{"keyNames": ["a:"]}"#,
            "keyNames: may hold only characters of header names",
        ),
        (
            r#"{"keyNames": ["\u00e4"]}"#,
            "keyNames: may hold only characters of header names",
        ),
        (
            r#"{"keyInHeader": false, "keyInQuery": false}"#,
            "keyAuth searches nowhere",
        ),
        (r#"{"realm": ""}"#, "realm: must not be empty"),
        (
            r#"{"realm": "a\nb"}"#,
            "realm: may hold only printable ASCII",
        ),
        (
            r#"{"anonymous": {"name": ""}}"#,
            "anonymous.name: must not be empty",
        ),
        (
            r#"{"maxBodyBytes": 0}"#,
            "maxBodyBytes: must be between 1 and 104857600 bytes",
        ),
        (
            r#"{"maxBodyBytes": 104857601}"#,
            "maxBodyBytes: must be between",
        ),
        (r#"{"keyName": ["a"]}"#, "keyAuth: unknown field `keyName`"),
        (r#"{"keyInHeader": "yes"}"#, "keyAuth: invalid type"),
    ] {
        let refused = stage::handler(&directory, "keyAuth", config, &["shop"]).unwrap_err();
        assert!(refused.starts_with(message), "{config}: {refused}");
    }
    let names: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    let many = Config {
        key_names: names,
        ..Config::default()
    };
    assert_eq!(
        many.check()[0].to_string(),
        "keyNames: must have at most 16 items, it has 17"
    );
    let long = Config {
        key_names: vec!["a".repeat(129)],
        ..Config::default()
    };
    assert_eq!(
        long.check()[0].to_string(),
        "keyNames[0]: must have at most 128 characters, it has 129"
    );
    assert_eq!(Config::default().check(), []);
    let every = Config {
        key_names: vec!["!#$%&'*+-.^_`|~09azAZ".to_owned()],
        ..Config::default()
    };
    assert_eq!(every.check(), []);
}
