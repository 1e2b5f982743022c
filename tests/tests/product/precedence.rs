//! The table does not depend on the order in which objects come.

use harness::objects::{backend, consumer_with_key, key_auth, prefix, route_with, service};
use harness::raw::request;
use harness::{Rig, Upstream};
use serde_json::{Value, json};

/// Turns a list by some steps, a different order each time.
fn shuffled(objects: &[Value], round: usize) -> Vec<Value> {
    let mut left = objects.to_vec();
    let mut all = Vec::new();
    let mut at = round * 7;
    while !left.is_empty() {
        at = (at + 5 * round + 3) % left.len();
        all.push(left.remove(at));
    }
    all
}

#[tokio::test]
async fn any_order_of_the_objects_gives_the_same_answers() {
    let names = ["a", "b", "c", "d"];
    let (mut ups, mut objects) = (Vec::new(), consumer_with_key("alice", "secret-1"));
    for name in names {
        let upstream = Upstream::named(name).await;
        objects.extend(service(name, upstream.port()));
        ups.push(upstream);
    }
    let exact = json!({"matches": [{"path": {"type": "Exact", "value": "/x"}}], "backendRefs": [backend("b")]});
    let put = json!({"matches": [{"method": "PUT"}], "backendRefs": [backend("c")]});
    objects.extend([
        route_with("z", &["o.test"], &json!([prefix("/x", "a"), put])),
        route_with(
            "m",
            &["o.test", "*.o.test"],
            &json!([prefix("/x", "d"), exact]),
        ),
        route_with("all", &[], &json!([prefix("/", "d")])),
        route_with("also", &[], &json!([prefix("/", "c")])),
        key_auth("key-z", "z", &json!({})),
        key_auth("key-m", "m", &json!({"realm": "m"})),
    ]);
    // The route "z" is the oldest.
    let mut rig = Rig::with(
        objects
            .iter()
            .filter(|o| o["metadata"]["name"] == "z")
            .cloned(),
    )
    .await;
    harness::another_second().await;
    let mut first: Option<Vec<String>> = None;
    for round in 0..8 {
        rig.replace(shuffled(&objects, round)).await;
        let mut answers = Vec::new();
        for (method, host, target) in [
            ("GET", "o.test", "/x"),
            ("GET", "o.test", "/x/y"),
            ("PUT", "o.test", "/x"),
            ("PUT", "o.test", "/q"),
            ("GET", "a.o.test", "/x/y"),
            ("GET", "a.o.test", "/q"),
            ("GET", "else.test", "/x"),
        ] {
            for key in ["secret-1", "wrong"] {
                let answer = rig
                    .send(request(method, host, target, &[("apikey", key)], b""))
                    .await;
                let by = answer.header("x-upstream").unwrap_or("-").to_owned();
                let challenge = answer.header("www-authenticate").unwrap_or("-").to_owned();
                answers.push(format!(
                    "{method} {host}{target} {key}: {} {by} {challenge}",
                    answer.status
                ));
            }
        }
        match &first {
            None => first = Some(answers),
            Some(first) => assert_eq!(first, &answers, "round {round}"),
        }
    }
    let first = first.unwrap();
    assert_eq!(first[0], "GET o.test/x secret-1: 200 b -");
    assert_eq!(first[2], "GET o.test/x/y secret-1: 200 a -");
    assert_eq!(first[3], "GET o.test/x/y wrong: 401 - Key");
}
