//! Requests whose framing can be read in two ways: 1,703 spellings of Transfer-Encoding (tests/vectors).
//!
//! Whatever the gateway makes of one, it and the upstream must agree on where each request ends: as many requests go out
//! as answers of the upstream come back, none of them has two framings, and none reaches a place that a plugin protects.

use harness::objects::{backend, consumer_with_key, plugin, prefix, route_with, service};
use harness::{Connection, Rig, Upstream, within};
use serde_json::{Value, json};

/// The gadgets' heads, with places to be filled in.
fn gadgets() -> Vec<String> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/vectors/smuggler_te_mutations.json"
    );
    let text = std::fs::read_to_string(file).expect("the vectors are there");
    let all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let head = |one: &Value| one["head"].as_str().expect("a head").to_owned();
    all.iter().map(head).collect()
}

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: s.test\r\nX-A: ";
const AFTER: &str = "GET /after HTTP/1.1\r\nHost: s.test\r\nConnection: close\r\n\r\n";

/// What is sent: by its length the body holds a request, or by its chunks, or it ends before them.
fn payloads(head: &str) -> [Vec<u8>; 2] {
    let filled = |length: usize| {
        // The vectors hold characters of Latin-1, which stand for bytes.
        let text = head
            .replace("__METHOD__", "POST")
            .replace("__ENDPOINT__", "/open")
            .replace("__RANDOM__", "1")
            .replace("__HOST__", "s.test")
            .replace("__REPLACE_CL__", &length.to_string());
        let mut bytes = Vec::new();
        for character in text.chars() {
            match u8::try_from(u32::from(character)) {
                Ok(byte) => bytes.push(byte),
                Err(_) => bytes.extend(character.to_string().into_bytes()),
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    };
    let by_length = format!("0\r\n\r\n{HIDDEN}");
    let chunk = format!("{HIDDEN}y\r\n\r\n");
    let by_chunks = format!("{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
    let first = format!("{:x}\r\n", chunk.len()).len();
    [
        [filled(by_length.len()), by_length.into_bytes()].concat(),
        [filled(first), by_chunks.into_bytes()].concat(),
    ]
}

#[tokio::test]
async fn requests_in_are_requests_out_however_their_framing_is_spelled() {
    let app = Upstream::named("app").await;
    let mut objects = service("app", app.port());
    let mut hidden = prefix("/hidden", "app");
    hidden["name"] = "hidden".into();
    objects.push(route_with(
        "s",
        &["s.test"],
        &json!([{"backendRefs": [backend("app")]}, hidden]),
    ));
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "s", "sectionName": "hidden"});
    objects.push(plugin("key", &[target], "keyAuth", &json!({})));
    objects.extend(consumer_with_key("alice", "secret-1"));
    let rig = Rig::with(objects).await;
    let gadgets = gadgets();
    assert!(gadgets.len() > 1_700);
    for head in &gadgets {
        for payload in payloads(head) {
            let before = app.count();
            let mut connection = Connection::open(rig.port).await;
            let sent = [payload, AFTER.as_bytes().to_vec()].concat();
            // One that is refused early may be closed while the rest is sent.
            connection.try_send(&sent).await;
            let answers = within("the end", connection.rest()).await;
            let answers = String::from_utf8_lossy(&answers).to_ascii_lowercase();
            let seen = app.seen();
            let new = &seen[before..];
            let answered = answers.matches("x-upstream: app").count();
            assert_eq!(new.len(), answered, "{head:?}\n{answers}");
            for seen in new {
                assert!(!seen.target.starts_with("/hidden"), "{head:?}");
                let framings = seen.headers.iter().filter(|(name, _)| {
                    let plain: String = name
                        .chars()
                        .filter(char::is_ascii_alphabetic)
                        .collect::<String>()
                        .to_ascii_lowercase();
                    plain == "transferencoding" || plain == "contentlength"
                });
                assert!(framings.count() <= 1, "{head:?}: {:?}", seen.headers);
            }
        }
    }
}
