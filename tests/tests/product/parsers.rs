//! The 251 cases of another parser's tests (tests/vectors): what it is strict about and what it may be lenient about, as
//! requests of a client and as responses of an upstream.
//!
//! Nobody has to agree with that parser. But the gateway and the upstream must agree on where each request ends, and whoever
//! asks next must get an answer to its own question.

use std::sync::Arc;

use harness::message::{parse_head, values};
use harness::objects::{backend, consumer_with_key, plugin, prefix, route_with, service};
use harness::{Connection, Reply, Rig, Upstream, within};
use serde_json::{Value, json};

const AFTER: &str = "GET /after HTTP/1.1\r\nHost: s.test\r\nConnection: close\r\n\r\n";

/// The inputs of one side, as bytes on the wire.
fn cases(side: &str) -> Vec<Vec<u8>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/llhttp_cases.json");
    let text = std::fs::read_to_string(file).expect("the vectors are there");
    let all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let of_side = all.iter().filter(|one| {
        let meta: Value = serde_json::from_str(one["meta"].as_str().unwrap_or("{}")).expect("JSON");
        meta["type"]
            .as_str()
            .is_some_and(|kind| kind.starts_with(side))
    });
    of_side
        .map(|one| on_the_wire(one["input"].as_str().expect("an input")))
        .collect()
}

/// Inputs are written line by line: a backslash before the end of a line joins it to the next, and escapes stand for bytes.
fn on_the_wire(input: &str) -> Vec<u8> {
    let joined = input.replace("\\\n", "").replace('\n', "\r\n");
    let mut bytes = Vec::new();
    let mut rest = joined.chars();
    while let Some(character) = rest.next() {
        let byte = if character == '\\' {
            match rest.next() {
                Some('r') => b'\r',
                Some('n') => b'\n',
                Some('t') => b'\t',
                Some('f') => 0x0c,
                Some(other) => {
                    bytes.push(b'\\');
                    bytes.extend(other.to_string().into_bytes());
                    continue;
                }
                None => b'\\',
            }
        } else {
            match u8::try_from(u32::from(character)) {
                Ok(byte) if byte < 0x80 => byte,
                _ => {
                    bytes.extend(character.to_string().into_bytes());
                    continue;
                }
            }
        };
        bytes.push(byte);
    }
    bytes
}

/// The same with a host that has a route, where it names none.
fn for_our_host(case: &[u8]) -> Vec<u8> {
    let end = case.windows(2).position(|two| two == b"\r\n");
    let named = String::from_utf8_lossy(case)
        .to_ascii_lowercase()
        .contains("\nhost:");
    match end {
        Some(end) if !named => [&case[..end + 2], b"Host: s.test\r\n", &case[end + 2..]].concat(),
        _ => case.to_vec(),
    }
}

#[tokio::test]
async fn what_another_parser_reads_is_refused_or_read_alike_by_the_upstream() {
    let app = Upstream::named("app").await;
    let mut objects = service("app", app.port());
    let mut hidden = prefix("/hidden", "app");
    hidden["name"] = "hidden".into();
    let rules = json!([{"backendRefs": [backend("app")]}, hidden]);
    objects.push(route_with("s", &["s.test"], &rules));
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "s", "sectionName": "hidden"});
    objects.push(plugin("key", &[target], "keyAuth", &json!({})));
    objects.extend(consumer_with_key("alice", "secret-1"));
    // Many cases end before their message does.
    let rig = Rig::build()
        .objects(objects)
        .flag("--body-timeout", "200ms")
        .flag("--header-timeout", "200ms")
        .start()
        .await;
    let cases = cases("request");
    assert!(cases.len() > 150, "{}", cases.len());
    let mut passed = 0;
    for case in &cases {
        let before = app.count();
        let mut connection = Connection::open(rig.port).await;
        let sent = [for_our_host(case), AFTER.as_bytes().to_vec()].concat();
        connection.try_send(&sent).await;
        let answers = within("the end", connection.rest()).await;
        let answers = String::from_utf8_lossy(&answers).to_ascii_lowercase();
        let shown = String::from_utf8_lossy(case);
        let seen = app.seen();
        let new = &seen[before..];
        let answered = answers.matches("x-upstream: app").count();
        assert_eq!(new.len(), answered, "{shown:?}\n{answers}");
        passed += answered;
        for seen in new {
            assert!(!seen.target.starts_with("/hidden"), "{shown:?}");
            let framing = |name: &&(String, String)| {
                ["content-length", "transfer-encoding"].contains(&&*name.0.to_ascii_lowercase())
            };
            assert!(
                seen.headers.iter().filter(framing).count() <= 1,
                "{shown:?}: {seen:?}"
            );
        }
    }
    assert!(passed > 50, "{passed} requests arrived");
}

/// How many bytes stand behind the one response that they begin with.
fn behind(answer: &[u8]) -> usize {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("a whole head") + 4;
    let (line, headers) = parse_head(&answer[..end]);
    let body = &answer[end..];
    if let [length] = values(&headers, "content-length")[..] {
        let length = length.parse().expect("a length");
        return body.len().saturating_sub(length);
    }
    if values(&headers, "transfer-encoding").is_empty() {
        let bare = [" 204 ", " 304 ", " 101 "]
            .iter()
            .any(|status| line.contains(status));
        return if bare { body.len() } else { 0 };
    }
    let mut rest = body;
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..at]).into_owned();
        let size = usize::from_str_radix(&size, 16).expect("the size of a chunk");
        let next = at + 2 + size + 2;
        if size == 0 || rest.len() < next {
            return rest.len().saturating_sub(next);
        }
        rest = &rest[next..];
    }
    0
}

#[tokio::test]
async fn an_upstream_that_answers_as_it_likes_spoils_nobody_elses_answer() {
    let cases = Arc::new(cases("response"));
    assert!(cases.len() > 80, "{}", cases.len());
    let own = Arc::clone(&cases);
    let app = Upstream::answering(move |seen| {
        let number = seen.target.rsplit('/').next().unwrap_or_default();
        match (seen.target.starts_with("/case/"), number.parse::<usize>()) {
            (true, Ok(number)) => Reply::Bytes(own[number].clone()),
            _ => Reply::ok(&seen.target),
        }
    })
    .await;
    let mut objects = service("app", app.port());
    let rule = json!([{"backendRefs": [backend("app")], "timeouts": {"request": "300ms"}}]);
    objects.push(route_with("s", &["s.test"], &rule));
    let rig = Rig::build()
        .objects(objects)
        .flag("--body-timeout", "300ms")
        .start()
        .await;
    for (number, case) in cases.iter().enumerate() {
        let shown = String::from_utf8_lossy(case);
        let mut connection = Connection::open(rig.port).await;
        let ask =
            format!("GET /case/{number} HTTP/1.1\r\nHost: s.test\r\nConnection: close\r\n\r\n");
        connection.send(ask).await;
        let answer = within("the answer", connection.rest()).await;
        let told = String::from_utf8_lossy(&answer);
        // Where the body turns out to be bad before anything was sent, the connection is closed.
        if !answer.is_empty() {
            assert!(told.starts_with("HTTP/1.1 "), "{shown:?}: {told:?}");
            assert_eq!(behind(&answer), 0, "one answer to {shown:?}: {told:?}");
        }
        // Whatever connection the next ones go out on, what was left of the last answer is not theirs.
        for attempt in 0..3 {
            let target = format!("/fresh/{number}/{attempt}");
            let answer = rig.get("s.test", &target).await;
            assert_eq!(
                (answer.status, answer.text()),
                (200, target),
                "after {shown:?}"
            );
        }
    }
}
