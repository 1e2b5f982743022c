//! Several ways to authenticate: all of them, any of them, and what an anonymous Consumer makes of it.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::objects::{
    consumer, consumer_with_key, key_of, object, plugin, route, secret, to_route,
};
use harness::{Answer, Rig};
use serde_json::{Value, json};

const KEY: &str = "key-of-bob";
const SECRET: &str = "secret-of-jim";

/// A token of Jim's issuer, or of nobody's.
fn token(secret: &str) -> String {
    let part = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
    let message = format!(
        "{}.{}",
        part(br#"{"alg":"HS256"}"#),
        part(br#"{"iss":"jim"}"#)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = part(hmac::sign(&key, message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

/// Bob has a key, Jim has tokens and a key of his own, the guest has nothing.
fn cast() -> Vec<Value> {
    let mut all = consumer_with_key("bob", KEY);
    all.extend([
        consumer("guest", &json!({})),
        consumer("jim", &json!({})),
        secret("jim-jwt", &[("secret", SECRET)]),
        object(
            "postern.dev/v1alpha1",
            "Credential",
            "jim-jwt",
            &json!({"consumerRef": {"name": "jim"},
                "jwt": {"key": "jim", "secretRef": {"name": "jim-jwt", "key": "secret"}}}),
        ),
    ]);
    all.extend(key_of("jim", "jim-key", "key-of-jim", &json!({})));
    all
}

/// A route for the host `NAME.test` with these plugins.
fn protected(name: &str, blocks: &[(&str, Value)]) -> Vec<Value> {
    let mut all = vec![route(name, &format!("{name}.test"), "echo")];
    for (block, config) in blocks {
        let plugin_name = format!("{name}-{}", block.to_lowercase());
        all.push(plugin(&plugin_name, &[to_route(name)], block, config));
    }
    all
}

/// The headers of a request with this token and key; "-" is none.
fn credentials<'a>(token: &'a str, key: &'a str) -> Vec<(&'static str, &'a str)> {
    let all = [("Authorization", token), ("apikey", key)];
    all.into_iter().filter(|(_, value)| *value != "-").collect()
}

/// Status, who the upstream was told, and the challenges.
fn told(rig: &Rig, before: usize, answer: &Answer) -> String {
    let challenges = answer.all("www-authenticate").join(" & ");
    if rig.upstream.count() == before {
        return format!("{} {challenges}", answer.status).trim().to_owned();
    }
    let seen = rig.upstream.last();
    let who = seen.header("x-consumer-username").unwrap_or("nobody");
    let anonymous = seen.header("x-anonymous-consumer");
    let credential = seen.header("x-credential-identifier");
    assert_eq!(anonymous.is_some(), who == "guest", "{who}");
    assert_eq!(credential.is_none(), anonymous.is_some() || who == "nobody");
    format!("{} {who}", answer.status)
}

/// Every pair of mandatory and anonymous plugins with every pair of good, bad and absent credentials.
#[tokio::test]
async fn the_whole_matrix() {
    let (with, without) = (json!({"anonymous": {"name": "guest"}}), json!({}));
    let mut objects = cast();
    for (name, jwt, key) in [
        ("and", &without, &without),
        ("or", &with, &with),
        ("jwt", &without, &with),
        ("key", &with, &without),
    ] {
        let mut jwt = jwt.clone();
        jwt["invalidTokenStatus"] = json!(401);
        objects.extend(protected(name, &[("jwt", jwt), ("keyAuth", key.clone())]));
    }
    let rig = Rig::with(objects).await;
    let good = format!("Bearer {}", token(SECRET));
    let bad = format!("Bearer {}", token("wrong"));
    let invalid = "401 Bearer error=\"invalid_token\"";
    let rows: [(&str, &str, [&str; 4]); 9] = [
        // token, key: all must pass, any may pass, jwt must pass, keyAuth must pass
        (
            "-",
            "-",
            ["401 Bearer", "200 guest", "401 Bearer", "401 Key"],
        ),
        (
            "-",
            "bad",
            ["401 Bearer", "200 guest", "401 Bearer", "401 Key"],
        ),
        ("-", KEY, ["401 Bearer", "200 bob", "401 Bearer", "200 bob"]),
        (&bad, "-", [invalid, "200 guest", invalid, "401 Key"]),
        (&bad, "bad", [invalid, "200 guest", invalid, "401 Key"]),
        (&bad, KEY, [invalid, "200 bob", invalid, "200 bob"]),
        (&good, "-", ["401 Key", "200 jim", "200 jim", "401 Key"]),
        (&good, "bad", ["401 Key", "200 jim", "200 jim", "401 Key"]),
        // Where both have to pass, the last to run says who calls.
        (&good, KEY, ["200 bob", "200 jim", "200 jim", "200 bob"]),
    ];
    for (token, key, expected) in rows {
        for (name, expected) in ["and", "or", "jwt", "key"].into_iter().zip(expected) {
            let before = rig.upstream.count();
            let host = format!("{name}.test");
            let answer = rig.get_with(&host, "/", &credentials(token, key)).await;
            let token = if token == good { "good" } else { token };
            assert_eq!(
                told(&rig, before, &answer),
                expected,
                "{name}: token {token}, key {key}"
            );
        }
    }
}

#[tokio::test]
async fn any_of_several_methods_authenticates() {
    let methods = json!([{"jwt": {"realm": "r"}}, {"keyAuth": {}}]);
    let guest = json!([{"jwt": {}}, {"keyAuth": {"anonymous": {"name": "guest"}}}]);
    let mut objects = cast();
    objects.extend(protected("any", &[("anyOf", methods)]));
    objects.extend(protected("guest", &[("anyOf", guest)]));
    let rig = Rig::with(objects).await;
    let good = format!("Bearer {}", token(SECRET));
    let bad = format!("Bearer {}", token("wrong"));
    for (token, key, any, guest) in [
        ("-", "-", "401 Bearer realm=\"r\" & Key", "200 guest"),
        ("-", "bad", "401 Bearer realm=\"r\" & Key", "200 guest"),
        (&*bad, "-", "403 Bearer realm=\"r\" & Key", "200 guest"),
        ("-", KEY, "200 bob", "200 bob"),
        (&bad, KEY, "200 bob", "200 bob"),
        (&good, "-", "200 jim", "200 jim"),
        (&good, KEY, "200 jim", "200 jim"),
    ] {
        for (name, expected) in [("any", any), ("guest", guest)] {
            let before = rig.upstream.count();
            let host = format!("{name}.test");
            let answer = rig.get_with(&host, "/", &credentials(token, key)).await;
            assert_eq!(
                told(&rig, before, &answer),
                expected,
                "{name}: {token} {key}"
            );
        }
    }
}

/// A bad credential is never let pass without a word: it is counted, and it is in the log with its reason.
#[tokio::test]
async fn what_falls_through_is_counted_and_logged() {
    let guest = json!([{"jwt": {}}, {"keyAuth": {"anonymous": {"name": "guest"}}}]);
    let with = json!({"anonymous": {"name": "guest"}});
    let mut objects = cast();
    objects.extend(protected("any", &[("anyOf", guest)]));
    objects.extend(protected("or", &[("jwt", with.clone()), ("keyAuth", with)]));
    let rig = Rig::with(objects).await;
    let bad = format!("Bearer {}", token("wrong"));
    for (host, reason) in [
        ("any.test", "anonymous_bad_signature"),
        ("or.test", "anonymous"),
    ] {
        let answer = rig.get_with(host, "/", &[("Authorization", &bad)]).await;
        assert_eq!(answer.status, 200);
        let line = rig
            .postern
            .access_line("the request", |line| line["host"] == host)
            .await;
        assert_eq!(line["anonymous"], true, "{line}");
        assert_eq!(line["reason"], reason, "{line}");
        let bad = if host == "any.test" {
            "bad_signature"
        } else {
            "anonymous_bad_signature"
        };
        let verdicts = line["verdicts"].as_array().unwrap();
        assert!(verdicts.iter().any(|one| one["reason"] == bad), "{line}");
    }
    for plugin in ["any-anyof", "or-jwt"] {
        let text = rig.postern.metrics().await;
        let counted = text.lines().any(|line| {
            line.contains(&format!("\"default/{plugin}\""))
                && line.contains("\"anonymous_bad_signature\"")
                && line.ends_with(" 1")
        });
        assert!(counted, "{plugin} in {text}");
    }
    // Behind a method that fails another one may succeed: that is told apart, too.
    rig.get_with("any.test", "/", &[("Authorization", &bad), ("apikey", KEY)])
        .await;
    let line = rig
        .postern
        .access_line("the request", |line| {
            line["reason"] == "ok_after_bad_credential"
        })
        .await;
    assert_eq!(line["verdicts"][0]["method"], "jwt", "{line}");
    assert_eq!(line["verdicts"][0]["reason"], "bad_signature", "{line}");
    assert_eq!(line["verdicts"][1]["method"], "keyAuth", "{line}");
}

/// Two good credentials of two Consumers.
#[tokio::test]
async fn two_consumers_in_one_request() {
    let mut objects = cast();
    objects.extend(protected(
        "kept",
        &[("jwt", json!({})), ("keyAuth", json!({}))],
    ));
    objects.extend(protected("one", &[("jwt", json!({}))]));
    let mut strict = plugin("one-key", &[to_route("one")], "keyAuth", &json!({}));
    strict["spec"]["consumers"] = json!({"ifDifferent": "Refuse"});
    objects.push(strict);
    let rig = Rig::with(objects).await;
    let good = format!("Bearer {}", token(SECRET));
    let ask = async |host: &str, key: &str| {
        let before = rig.upstream.count();
        let answer = rig.get_with(host, "/", &credentials(&good, key)).await;
        (told(&rig, before, &answer), answer)
    };
    // Unless a plugin minds, the last one counts; the log names the other.
    assert_eq!(ask("kept.test", KEY).await.0, "200 bob");
    let line = rig
        .postern
        .access_line("the request", |line| line["host"] == "kept.test")
        .await;
    let replaced = line["replaced_consumer"].as_str().unwrap();
    assert_ne!(line["consumer"], replaced);
    let of_verdict = |at: usize| line["verdicts"][at]["plugin"].clone();
    assert_eq!(of_verdict(0), "default/kept-jwt");
    assert_eq!(of_verdict(1), "default/kept-keyauth");

    // One that minds refuses, and says why.
    let (told, answer) = ask("one.test", KEY).await;
    assert_eq!(told, "403");
    assert_eq!(
        answer.json(),
        json!({"message": "The credentials belong to different consumers"})
    );
    let line = rig
        .postern
        .access_line("the refusal", |line| line["reason"] == "different_consumer")
        .await;
    assert_eq!(line["replaced_consumer"], replaced, "{line}");
    // Two of one Consumer are as good as one.
    assert_eq!(ask("one.test", "key-of-jim").await.0, "200 jim");
}

/// An acl asks who calls: of everybody whom a plugin let pass unasked, it names all the ways.
#[tokio::test]
async fn all_methods_are_named_where_preflights_pass_unasked() {
    let skip = json!({"runOnPreflight": false});
    let mut objects = cast();
    objects.extend(protected(
        "all",
        &[
            ("jwt", skip.clone()),
            ("keyAuth", skip),
            ("acl", json!({"allow": ["gold"]})),
        ],
    ));
    let rig = Rig::with(objects).await;
    let answer = rig
        .send("OPTIONS / HTTP/1.1\r\nHost: all.test\r\n\r\n")
        .await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.all("www-authenticate"), ["Bearer", "Key"]);
}

/// Offline the same errors are found, with file and line.
#[tokio::test]
async fn check_finds_what_is_wrong_with_several_methods() {
    let folder = harness::process::Folder::default();
    folder.write(
        "bad.yaml",
        "apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: methods}
spec:
  anyOf:
  - jwt: {}
    keyAuth: {}
  - keyAuth:
      keyNames: [\"a b\"]
      anonymous:
        name: nobody
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: first}
spec:
  anyOf:
  - jwt: {anonymous: {name: nobody}}
  - keyAuth: {}
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: unknown}
spec:
  anyOf:
  - jwt: {}
  - oauth3: {}
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: groups}
spec:
  consumers: {ifDifferent: Refuse}
  acl: {allow: [gold]}
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: choice}
spec:
  consumers:
    ifDifferent: First
  keyAuth: {}
",
    );
    let path = folder.path().display().to_string();
    let done = harness::process::command(&["check", &path]).await;
    assert_eq!(done.code, 1);
    for expected in [
        "bad.yaml:6: error: AuthPlugin/default/methods: spec.anyOf[0]: a method of anyOf is exactly one block",
        "bad.yaml:9: error: AuthPlugin/default/methods: spec.anyOf[1].keyAuth.keyNames: may hold only",
        "bad.yaml:11: error: AuthPlugin/default/methods: spec.anyOf[1].keyAuth.anonymous.name: Consumer default/nobody",
        "bad.yaml:17: error: AuthPlugin/default/first: spec.anyOf: anonymous counts when no method has found anybody",
        "bad.yaml:27: error: AuthPlugin/default/unknown: spec.anyOf[1]",
        "spec: consumers.ifDifferent is for plugins that authenticate",
        "bad.yaml:41: error: AuthPlugin/default/choice: spec.consumers.ifDifferent",
    ] {
        assert!(
            done.stdout.contains(expected),
            "no {expected} in\n{}",
            done.stdout
        );
    }
}
