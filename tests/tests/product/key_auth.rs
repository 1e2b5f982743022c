//! Key Auth: where the key may be, what is answered without one, and what the upstream learns.

use harness::objects::{consumer, consumer_with_key, key_auth, key_of, object, route, secret};
use harness::raw::{get, request};
use harness::{Answer, Rig};
use serde_json::{Value, json};

const KEY: &str = "key-of-alice";

/// A route "r" for "k.test" with Key Auth, and the Consumer "alice".
fn protected(config: &Value) -> Vec<Value> {
    let mut objects = consumer_with_key("alice", KEY);
    objects.extend([route("r", "k.test", "echo"), key_auth("key", "r", config)]);
    objects
}

fn refusal(answer: &Answer) -> (u16, String, &str) {
    (
        answer.status,
        answer.message(),
        answer.header("www-authenticate").unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_good_key_is_forwarded_with_who_called() {
    let mut objects = protected(&json!({}));
    objects[0]["spec"] =
        json!({"username": "Alice A.", "customId": "4711", "groups": ["gold", "silver"]});
    let rig = Rig::with(objects).await;
    for request in [
        get("k.test", "/x?a=1", &[("ApiKey", KEY)]),
        get("k.test", "/x?a=1&apikey=key-of-alice", &[]),
    ] {
        assert_eq!(rig.send(request).await.status, 200);
        let seen = rig.upstream.last();
        assert_eq!(
            seen.header("X-Consumer-ID"),
            Some("7d17bed1-ed17-539e-bbc8-f3bc8d05c9d7")
        );
        assert_eq!(seen.header("X-Consumer-Username"), Some("Alice A."));
        assert_eq!(seen.header("X-Consumer-Custom-ID"), Some("4711"));
        assert_eq!(
            seen.header("X-Credential-Identifier"),
            Some("93796915-2820-5f4b-b2f8-e5b7eaa5ce14")
        );
        assert_eq!(seen.header("X-Consumer-Groups"), Some("gold, silver"));
        assert_eq!(seen.header("X-Anonymous-Consumer"), None);
    }
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_said_with_a_challenge() {
    let rig = Rig::with(protected(&json!({}))).await;
    let missing = (401, "No API key found in request".to_owned(), "Key");
    let unknown = (401, "Unauthorized".to_owned(), "Key");
    let duplicate = (401, "Duplicate API key found".to_owned(), "Key");
    let good = format!("/?apikey={KEY}");
    for (target, headers, want) in [
        ("/", &[] as &[_], &missing),
        ("/", &[("apikey", "wrong")], &unknown),
        ("/?apikey=wrong", &[], &unknown),
        ("/", &[("apikey", "")], &missing),
        ("/?apikey=", &[], &missing),
        ("/?apikey", &[], &missing),
        ("/?APIKEY=key-of-alice", &[], &missing),
        ("/?apikey=key-of-alice&apikey=key-of-alice", &[], &duplicate),
        ("/?apikey=a&%61pikey=b", &[], &duplicate),
        ("/", &[("apikey", KEY), ("ApiKey", KEY)], &duplicate),
        // The first place that holds a value decides.
        (good.as_str(), &[("apikey", "wrong")], &unknown),
        (good.as_str(), &[("apikey", "")], &missing),
        ("/", &[("apikey", "key-of-alice ,x")], &unknown),
        ("/", &[("apikey", "KEY-OF-ALICE")], &unknown),
    ] {
        let answer = rig.get_with("k.test", target, headers).await;
        assert_eq!(&refusal(&answer), want, "{target} {headers:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=utf-8")
        );
        assert!(answer.header("x-request-id").is_some());
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn the_realm_is_in_every_challenge() {
    let rig = Rig::with(protected(&json!({"realm": "shop \"x\\"}))).await;
    let answer = rig.get("k.test", "/").await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some(r#"Key realm="shop \"x\\""#)
    );
}

#[tokio::test]
async fn places_and_names_can_be_chosen() {
    let config = json!({"keyNames": ["X-Key", "token"], "keyInQuery": false});
    let mut rig = Rig::with(protected(&config)).await;
    for (target, headers, status) in [
        ("/", &[("x-key", KEY)], 200),
        ("/", &[("Token", KEY)], 200),
        ("/", &[("apikey", KEY)], 401),
        ("/?token=key-of-alice", &[("x-none", "")], 401),
    ] {
        assert_eq!(
            rig.get_with("k.test", target, headers).await.status,
            status,
            "{target} {headers:?}"
        );
    }
    // The first name decides, also when the second would be right.
    assert_eq!(
        rig.get_with("k.test", "/", &[("x-key", "wrong"), ("token", KEY)])
            .await
            .status,
        401
    );
    rig.replace(protected(&json!({"keyInHeader": false}))).await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", KEY)]).await.status,
        401
    );
    assert_eq!(rig.get("k.test", "/?apikey=key-of-alice").await.status, 200);
}

#[tokio::test]
async fn a_hidden_key_is_gone_and_everything_else_stays() {
    let rig = Rig::with(protected(
        &json!({"hideCredentials": true, "keyNames": ["apikey", "other"]}),
    ))
    .await;
    for (target, headers, seen) in [
        (
            "/p?b=2&apikey=key-of-alice&a=%201&c",
            &[] as &[_],
            "/p?b=2&a=%201&c",
        ),
        ("/p?apikey=key-of-alice", &[], "/p"),
        ("/p?x=1&%61pikey=key-of-alice", &[], "/p?x=1"),
        ("/p?x=1&y", &[("apikey", KEY)], "/p?x=1&y"),
        // Only the name that supplied the key is touched.
        ("/p?other=1", &[("apikey", KEY)], "/p?other=1"),
    ] {
        assert_eq!(
            rig.get_with("k.test", target, headers).await.status,
            200,
            "{target}"
        );
        let last = rig.upstream.last();
        assert_eq!(last.target, seen);
        assert!(last.all("apikey").is_empty(), "{target}");
    }
}

#[tokio::test]
async fn without_hiding_the_query_is_passed_on_byte_for_byte() {
    let rig = Rig::with(protected(&json!({}))).await;
    let target = "/p?z=1&&apikey=key-of-alice&q=a+b%20c&=&%7e=~&x=%C3%A9";
    assert_eq!(rig.get("k.test", target).await.status, 200);
    assert_eq!(rig.upstream.last().target, target);
    assert_eq!(
        rig.upstream.last().header("x-consumer-username"),
        Some("alice")
    );
}

#[tokio::test]
async fn the_anonymous_consumer_stands_in_for_every_refusal() {
    let mut objects = protected(&json!({"anonymous": {"name": "guest"}}));
    objects.push(consumer("guest", &json!({"groups": ["free"]})));
    let rig = Rig::with(objects).await;
    for headers in [
        &[] as &[_],
        &[("apikey", "wrong")],
        &[("apikey", KEY), ("apikey", KEY)],
    ] {
        assert_eq!(
            rig.get_with("k.test", "/", headers).await.status,
            200,
            "{headers:?}"
        );
        let seen = rig.upstream.last();
        assert_eq!(seen.header("x-anonymous-consumer"), Some("true"));
        assert_eq!(seen.header("x-consumer-username"), Some("guest"));
        assert_eq!(seen.header("x-consumer-groups"), Some("free"));
        assert_eq!(seen.header("x-credential-identifier"), None);
    }
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", KEY)]).await.status,
        200
    );
    assert_eq!(rig.upstream.last().header("x-anonymous-consumer"), None);
    assert_eq!(
        rig.upstream.last().header("x-consumer-username"),
        Some("alice")
    );
}

#[tokio::test]
async fn a_missing_anonymous_consumer_hurts_only_who_needs_it() {
    let rig = Rig::with(protected(&json!({"anonymous": {"name": "nobody"}}))).await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", KEY)]).await.status,
        200
    );
    let answer = rig.get("k.test", "/").await;
    let want = "anonymous consumer nobody is configured but doesn't exist";
    assert_eq!((answer.status, answer.message().as_str()), (500, want));
}

#[tokio::test]
async fn options_may_go_without_a_key() {
    let mut rig = Rig::with(protected(&json!({}))).await;
    let options = request("OPTIONS", "k.test", "/", &[], b"");
    assert_eq!(rig.send(&options).await.status, 401);
    rig.replace(protected(&json!({"runOnPreflight": false})))
        .await;
    assert_eq!(rig.send(&options).await.status, 200);
    assert_eq!(rig.upstream.last().header("x-consumer-username"), None);
    assert_eq!(rig.get("k.test", "/").await.status, 401);
}

#[tokio::test]
async fn credentials_count_only_in_their_time() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut objects = protected(&json!({}));
    let at = |offset: i64| json!(instant(now.checked_add_signed(offset).unwrap()));
    for (name, more) in [
        ("past", json!({"expiresAt": at(-5)})),
        ("future", json!({"notBefore": at(3600)})),
        ("now", json!({"notBefore": at(-5), "expiresAt": at(3600)})),
        ("soon", json!({"expiresAt": at(3)})),
        ("unlimited", json!({"ttl": 0})),
        ("short", json!({"ttl": 2})),
    ] {
        objects.extend(key_of("alice", name, &format!("{name}-key"), &more));
    }
    let rig = Rig::with(objects).await;
    for (name, status) in [
        ("past", 401),
        ("future", 401),
        ("now", 200),
        ("soon", 200),
        ("unlimited", 200),
        ("short", 200),
    ] {
        let answer = rig
            .get_with("k.test", "/", &[("apikey", &format!("{name}-key"))])
            .await;
        assert_eq!(answer.status, status, "{name}");
    }
    for name in ["soon", "short"] {
        harness::until(&format!("the end of {name}"), async || {
            rig.get_with("k.test", "/", &[("apikey", &format!("{name}-key"))])
                .await
                .status
                == 401
        })
        .await;
    }
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", "unlimited-key")])
            .await
            .status,
        200
    );
}

/// RFC 3339 in UTC.
fn instant(seconds: u64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_ttl_is_not_begun_anew_by_restarts_and_other_edits() {
    let mut objects = protected(&json!({}));
    let limited = |tags: Value| {
        key_of(
            "alice",
            "short",
            "short-key",
            &json!({"ttl": 4, "tags": tags}),
        )
    };
    objects.extend(limited(json!([])));
    let started = std::time::Instant::now();
    let mut rig = Rig::with(objects.clone()).await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", "short-key")])
            .await
            .status,
        200
    );
    objects.truncate(objects.len() - 2);
    objects.extend(limited(json!(["edited"])));
    rig.replace(objects).await;
    let rig = rig.restart().await;
    harness::until("the end of the key", async || {
        rig.get_with("k.test", "/", &[("apikey", "short-key")])
            .await
            .status
            == 401
    })
    .await;
    // Begun anew by the edit or the restart, it would have lived for longer.
    assert!(
        started.elapsed().as_millis() < 5_500,
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_consumer_may_have_several_keys_and_a_key_only_a_digest() {
    let mut objects = protected(&json!({}));
    objects.extend(key_of("alice", "second", "second-key", &json!({})));
    // sha256sum of "third-key"
    let hash = "sha256:c3459480502070372835c7c5cc038c81d457d1fe08de10d76fb5bbb4b7d6af8c";
    let spec = json!({"consumerRef": {"name": "alice"}, "keyAuth": {"hash": hash}});
    objects.push(object("postern.dev/v1alpha1", "Credential", "third", &spec));
    let rig = Rig::with(objects).await;
    for key in [KEY, "second-key", "third-key"] {
        assert_eq!(
            rig.get_with("k.test", "/", &[("apikey", key)]).await.status,
            200,
            "{key}"
        );
    }
    // Nobody gets in with the digest.
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", hash)])
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn of_two_equal_keys_the_older_keeps_working_and_the_newer_is_refused() {
    let mut objects = protected(&json!({}));
    objects.push(consumer("bob", &json!({})));
    let mut rig = Rig::with(objects.clone()).await;
    // Its name comes first, but it comes later: in another second, which is as fine as ages are told apart.
    harness::another_second().await;
    objects.extend(key_of("bob", "a-copy", KEY, &json!({})));
    rig.replace(objects.clone()).await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", KEY)]).await.status,
        200
    );
    assert_eq!(
        rig.upstream.last().header("x-consumer-username"),
        Some("alice")
    );
    rig.postern
        .log_line("the conflict", |l| {
            l.contains("a-copy") && l.contains("alice-key")
        })
        .await;
    // When the older goes, the newer counts.
    objects.retain(|o| o["metadata"]["name"] != "alice-key");
    rig.replace(objects).await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", KEY)]).await.status,
        200
    );
    assert_eq!(
        rig.upstream.last().header("x-consumer-username"),
        Some("bob")
    );
}

#[tokio::test]
async fn a_labelled_secret_is_a_credential() {
    let mut objects = protected(&json!({}));
    let mut labelled = secret("labelled", &[("key", "labelled-key")]);
    labelled["metadata"]["labels"] = json!({"postern.dev/credential": "key-auth"});
    labelled["metadata"]["annotations"] = json!({"postern.dev/consumer": "alice"});
    objects.push(labelled);
    let mut rig = Rig::with(objects.clone()).await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", "labelled-key")])
            .await
            .status,
        200
    );
    objects.pop();
    rig.replace(objects).await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", "labelled-key")])
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_key_is_generated_kept_and_shown_to_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut objects = protected(&json!({}));
    let spec = json!({"consumerRef": {"name": "alice"}, "keyAuth": {}});
    objects.push(object("postern.dev/v1alpha1", "Credential", "made", &spec));
    let rig = Rig::with(objects).await;
    let files = walk(&rig.postern.state().path().join("secrets"));
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].to_string_lossy().contains("made"), "{files:?}");
    assert_eq!(
        std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let key = find_key(&text);
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", &key)])
            .await
            .status,
        200
    );
    let rig = rig.restart().await;
    assert_eq!(
        rig.get_with("k.test", "/", &[("apikey", &key)])
            .await
            .status,
        200
    );
}

/// The only run of 32 letters and digits.
fn find_key(text: &str) -> String {
    let runs: Vec<_> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|run| run.len() == 32)
        .collect();
    assert_eq!(runs.len(), 1, "{text}");
    runs[0].to_owned()
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path))
        } else {
            files.push(path)
        }
    }
    files
}
