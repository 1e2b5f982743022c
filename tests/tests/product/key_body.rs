//! Key Auth with keys in the body: forms, JSON and multipart, bounded, and otherwise untouched.

use harness::objects::{consumer_with_key, key_auth, route};
use harness::raw::request;
use harness::{Answer, Rig};
use serde_json::{Value, json};

const FORM: &str = "application/x-www-form-urlencoded";
const PARTS: &str = "multipart/form-data; boundary=b0";

async fn rig(config: Value) -> Rig {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([route("r", "k.test", "echo"), key_auth("key", "r", &config)]);
    Rig::with(objects).await
}

async fn post(rig: &Rig, kind: &str, body: &str) -> Answer {
    rig.send(request(
        "POST",
        "k.test",
        "/",
        &[("Content-Type", kind)],
        body.as_bytes(),
    ))
    .await
}

fn part(name: &str, value: &str) -> String {
    format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

#[tokio::test]
async fn keys_are_found_in_forms_json_and_multipart() {
    let rig = rig(json!({"keyInBody": true})).await;
    let parts = part("a", "1") + &part("apikey", "secret-1") + "--b0--\r\n";
    let twice = part("apikey", "secret-1") + &part("apikey", "secret-1") + "--b0--\r\n";
    for (kind, body, status) in [
        (FORM, "a=1&apikey=secret-1", 200),
        (FORM, "a=1&%61pikey=secret%2D1", 200),
        (
            "application/x-www-form-urlencoded; charset=utf-8",
            "apikey=secret-1",
            200,
        ),
        (
            "application/json",
            r#"{"a": [1, {"apikey": "x"}], "apikey": "secret-1"}"#,
            200,
        ),
        (
            "application/json; charset=utf-8",
            r#"{"\u0061pikey": "secret-1"}"#,
            200,
        ),
        (PARTS, &parts, 200),
        (FORM, "apikey=secret-1&apikey=secret-1", 401),
        (PARTS, &twice, 401),
        ("application/json", r#"{"apikey": ["secret-1"]}"#, 401),
        ("application/json", r#"{"apikey": 1}"#, 401),
        ("application/json", r#"{"a": {"apikey": "secret-1"}}"#, 401),
        ("application/json", r#"["secret-1"]"#, 401),
        ("application/json", r#"{"apikey": "secret-1""#, 401),
        ("text/plain", "apikey=secret-1", 401),
        ("application/json", "", 401),
    ] {
        let answer = post(&rig, kind, body).await;
        assert_eq!(answer.status, status, "{kind} {body}");
        if status == 200 {
            let seen = rig.upstream.last();
            assert_eq!(
                (seen.text().as_str(), seen.header("content-type")),
                (body, Some(kind))
            );
        }
    }
}

#[tokio::test]
async fn a_repeated_or_listed_value_is_a_duplicate() {
    let rig = rig(json!({"keyInBody": true})).await;
    for (kind, body) in [
        (FORM, "apikey=a&apikey=b"),
        ("application/json", r#"{"apikey": ["secret-1"]}"#),
    ] {
        let answer = post(&rig, kind, body).await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (401, "Duplicate API key found"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn bodies_are_not_looked_at_unless_told() {
    let rig = rig(json!({})).await;
    assert_eq!(post(&rig, FORM, "apikey=secret-1").await.status, 401);
}

#[tokio::test]
async fn a_hidden_key_leaves_the_rest_of_the_body_as_it_was() {
    let rig = rig(json!({"keyInBody": true, "hideCredentials": true})).await;
    let (before, after) = (part("a", "1"), part("z", "\u{e9}\r\n--b"));
    let parts = format!("{before}{}{after}--b0--\r\n", part("apikey", "secret-1"));
    let rest = format!("{before}{after}--b0--\r\n");
    let json = r#"{"n": 1.0e3, "apikey": "secret-1", "deep": {"apikey": "kept"}}"#;
    for (kind, body, want) in [
        (FORM, "b=%20&apikey=secret-1&a=+&c", "b=%20&a=+&c"),
        (FORM, "apikey=secret-1", ""),
        (PARTS, parts.as_str(), rest.as_str()),
    ] {
        assert_eq!(post(&rig, kind, body).await.status, 200, "{body}");
        let seen = rig.upstream.last();
        assert_eq!(seen.text(), want);
        assert_eq!(
            seen.header("content-length").unwrap_or("0"),
            want.len().to_string()
        );
        assert_eq!(seen.header("content-type"), Some(kind));
    }
    assert_eq!(post(&rig, "application/json", json).await.status, 200);
    let seen: Value = serde_json::from_slice(&rig.upstream.last().body).unwrap();
    assert_eq!(seen, json!({"n": 1000.0, "deep": {"apikey": "kept"}}));
}

#[tokio::test]
async fn a_longer_body_is_refused_where_it_must_be_read() {
    let rig = rig(json!({"keyInBody": true, "maxBodyBytes": 1000})).await;
    let long = format!("apikey=secret-1&x={}", "y".repeat(2000));
    let answer = post(&rig, FORM, &long).await;
    assert_eq!(answer.status, 413);
    assert!(!answer.message().is_empty());
    // The same, without saying how long it is.
    let mut chunked = request(
        "POST",
        "k.test",
        "/",
        &[("Content-Type", FORM), ("Transfer-Encoding", "chunked")],
        b"",
    );
    chunked.extend(format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len()).bytes());
    assert_eq!(rig.send(&chunked).await.status, 413);
    assert_eq!(rig.upstream.count(), 0);
    // Where the key is in a header, nobody reads the body.
    let with_key = request(
        "POST",
        "k.test",
        "/",
        &[("Content-Type", FORM), ("apikey", "secret-1")],
        long.as_bytes(),
    );
    assert_eq!(rig.send(&with_key).await.status, 200);
    assert_eq!(rig.upstream.last().text(), long);
}

#[tokio::test]
async fn chunked_bodies_are_read_and_forwarded() {
    let rig = rig(json!({"keyInBody": true})).await;
    let headers = [("Content-Type", FORM), ("Transfer-Encoding", "chunked")];
    let mut chunked = request("POST", "k.test", "/", &headers, b"");
    chunked.extend(b"5\r\na=1&a\r\n6\r\npikey=\r\n8\r\nsecret-1\r\n0\r\n\r\n");
    assert_eq!(rig.send(&chunked).await.status, 200);
    assert_eq!(rig.upstream.last().text(), "a=1&apikey=secret-1");
}

#[tokio::test]
async fn deeply_nested_json_and_many_fields_do_no_harm() {
    let rig = rig(json!({"keyInBody": true})).await;
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let wrapped = format!("{{\"x\":{nested},\"apikey\":\"secret-1\"}}");
    let many = "a=1&".repeat(100_000) + "b=2";
    assert_eq!(post(&rig, "application/json", &nested).await.status, 401);
    assert_eq!(
        post(&rig, FORM, &many).await.status,
        400,
        "too many to look at"
    );
    // Found behind it or not: nothing breaks.
    let status = post(&rig, "application/json", &wrapped).await.status;
    assert!(matches!(status, 200 | 401), "{status}");
    assert_eq!(post(&rig, FORM, "apikey=secret-1").await.status, 200);
}
