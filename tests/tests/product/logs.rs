//! The access log says what happened, and nothing anywhere says a secret.

use harness::objects::{
    consumer_with_key, key_auth, key_of, object, plugin, route, service, to_route,
};
use harness::raw::{get, request};
use harness::{Rig, Upstream, h2};
use serde_json::{Value, json};

/// Every secret of these tests begins with this word.
const KEY: &str = "canary-key-in-secret";

async fn rig(flags: &[(&str, &str)]) -> Rig {
    let mut objects = consumer_with_key("alice", KEY);
    objects.extend([
        route("r", "k.test", "echo"),
        key_auth("k", "r", &json!({"keyInBody": true})),
        route("o", "open.test", "echo"),
    ]);
    let mut build = Rig::build().objects(objects);
    for (name, value) in flags {
        build = build.flag(name, value);
    }
    build.start().await
}

#[tokio::test]
async fn one_line_says_what_became_of_a_request() {
    let rig = rig(&[]).await;
    let target = "/orders/7?page=2&apikey=canary-key-in-secret&token=canary-other-query";
    let answer = rig
        .get_with("k.test", target, &[("User-Agent", "probe/1")])
        .await;
    assert_eq!(answer.status, 200);
    let id = rig
        .upstream
        .last()
        .header("x-request-id")
        .unwrap()
        .to_owned();
    let line = rig
        .postern
        .access_line("the request", |l| l.to_string().contains(&id))
        .await;
    let text = line.to_string();
    for word in [
        "HTTPRoute/default/r",
        "default/k",
        "orders",
        "k.test",
        "GET",
        "127.0.0.1",
        "probe/1",
        "default/echo",
    ] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert!(text.contains("200"), "{text}");
    assert!(
        text.contains("7d17bed1-ed17-539e-bbc8-f3bc8d05c9d7"),
        "no consumer id in {text}"
    );
    assert!(!text.contains("canary"), "{text}");
    assert!(
        numbers(&line) >= 3,
        "status, durations and sizes are numbers: {text}"
    );
}

/// How many numbers a line holds.
fn numbers(value: &Value) -> usize {
    match value {
        Value::Number(_) => 1,
        Value::Object(map) => map.values().map(numbers).sum(),
        Value::Array(all) => all.iter().map(numbers).sum(),
        _ => 0,
    }
}

#[tokio::test]
async fn refusals_and_failures_say_why() {
    let rig = rig(&[]).await;
    for (host, target, headers, words) in [
        ("k.test", "/none", &[] as &[_], ["401", "no_key"]),
        (
            "k.test",
            "/wrong",
            &[("apikey", "canary-wrong-key")],
            ["401", "unknown"],
        ),
        ("none.test", "/nowhere", &[], ["404", "no_route"]),
        ("k.test", "/bad%2fpath", &[], ["400", "bad_request"]),
    ] {
        let answer = rig.get_with(host, target, headers).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        let text = rig
            .postern
            .access_line(target, |l| l.to_string().contains(&id))
            .await
            .to_string();
        for word in words {
            assert!(text.contains(word), "{target}: no {word} in {text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn every_request_has_a_line_also_over_http2_and_when_clients_leave() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        "/silent" => harness::Reply::Silence,
        _ => harness::Reply::ok("ok"),
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("o", "open.test", "echo")])
        .start()
        .await;
    let mut client = h2::Client::open(rig.port).await;
    assert_eq!(client.get("http://open.test/two", &[]).await.status, 200);
    rig.postern
        .access_line("the HTTP/2 request", |l| l.to_string().contains("/two"))
        .await;
    let mut connection = rig.connect().await;
    connection.send(get("open.test", "/silent", &[])).await;
    rig.upstream.wait_for(2).await;
    drop(connection);
    rig.postern
        .access_line("the request that nobody waited for", |l| {
            l.to_string().contains("/silent")
        })
        .await;
}

#[tokio::test]
async fn the_log_may_go_to_a_file_or_nowhere() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("access.log");
    let to_file = rig(&[("--access-log", path.to_str().unwrap())]).await;
    assert_eq!(to_file.get("open.test", "/in-the-file").await.status, 200);
    harness::until("the line", async || {
        std::fs::read_to_string(&path).is_ok_and(|t| t.contains("/in-the-file"))
    })
    .await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.lines()
            .all(|l| serde_json::from_str::<Value>(l).is_ok()),
        "{text}"
    );
    let off = rig(&[("--access-log", "off")]).await;
    assert_eq!(off.get("open.test", "/nowhere-at-all").await.status, 200);
    for rig in [to_file, off] {
        let output = rig.postern.output().join("\n");
        assert!(
            !output.contains("/in-the-file") && !output.contains("/nowhere-at-all"),
            "{output}"
        );
        rig.postern.stop().await;
    }
}

#[tokio::test]
async fn lines_cannot_be_forged() {
    let rig = rig(&[]).await;
    let forged = "/x%0a{\"status\":200}";
    assert_eq!(rig.get("open.test", forged).await.status, 400);
    let agent = "evil\"}\u{7f}{\"status\":\"200";
    let answer = rig
        .get_with("open.test", "/agent", &[("User-Agent", agent)])
        .await;
    assert!(matches!(answer.status, 200 | 400));
    rig.get("open.test", "/last").await;
    rig.postern
        .access_line("the last request", |l| l.to_string().contains("/last"))
        .await;
    for line in rig
        .postern
        .output()
        .iter()
        .filter(|l| l.contains("/agent") || l.contains("status"))
    {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[tokio::test]
async fn no_secret_is_ever_written_down() {
    let rig = rig(&[]).await;
    // The harness's own copy of the manifests is the only place for these.
    rig.folder.put("more.yaml", &wrong_objects());
    rig.folder.write("broken.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {key: canary-in-broken-file\n");
    rig.postern
        .log_line("the broken file", |l| l.contains("broken.yaml"))
        .await;
    for name in ["orphan", "misplaced", "plain-hash", "inline", "listed"] {
        rig.postern.log_line(name, |l| l.contains(name)).await;
    }
    let mut connection = rig.connect().await;
    for bytes in [
        get("k.test", "/?apikey=canary-key-in-secret", &[]),
        get(
            "k.test",
            "/",
            &[
                ("apikey", "canary-key-in-secret"),
                ("Authorization", "Bearer canary-authorization"),
                ("Cookie", "s=canary-cookie"),
            ],
        ),
        get(
            "k.test",
            "/?apikey=canary-wrong-key&token=canary-other-query",
            &[],
        ),
        get("k.test", "/", &[("apikey", "canary-wrong-key")]),
        get("open.test", "/?x=1&access_token=canary-other-query", &[]),
        request(
            "POST",
            "k.test",
            "/",
            &[("Content-Type", "application/json")],
            br#"{"apikey": "canary-wrong-key", "x": "canary-body"}"#,
        ),
        request(
            "POST",
            "k.test",
            "/",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            b"apikey=canary-key-in-secret",
        ),
    ] {
        let answer = connection.ask(bytes).await;
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    rig.get("none.test", "/?last-of-all").await;
    rig.postern
        .access_line("the last request", |l| {
            l["status"] == 404 || l.to_string().contains("no_route")
        })
        .await;
    assert_silent(rig).await;
}

/// Objects with secrets that cannot be taken.
fn wrong_objects() -> Vec<Value> {
    let mut more = key_of(
        "alice",
        "bad-ref",
        "canary-key-in-bad-ref",
        &json!({"expiresAt": "nonsense"}),
    );
    more.extend(key_of(
        "nobody",
        "orphan",
        "canary-key-of-nobody",
        &json!({}),
    ));
    more.push(plugin(
        "broken",
        &[to_route("o")],
        "keyAuth",
        &json!({"realm": 7, "keyNames": "not a list"}),
    ));
    // Keys where no key belongs, as people put them there by mistake.
    for (name, key_auth) in [
        (
            "misplaced",
            json!({"secretRef": "canary-instead-of-a-reference"}),
        ),
        ("plain-hash", json!({"hash": "canary-instead-of-a-digest"})),
        ("inline", json!({"key": "canary-in-a-field-of-its-own"})),
        ("listed", json!(["canary-in-a-list"])),
    ] {
        let spec = json!({"consumerRef": {"name": "alice"}, "keyAuth": key_auth});
        more.push(object("postern.dev/v1alpha1", "Credential", name, &spec));
    }
    more.push(object(
        "v1",
        "Secret",
        "odd",
        &json!({"canary-in-odd-secret": 1}),
    ));
    more.extend(service("extra", 9));
    more
}

/// Nothing that the process wrote anywhere has a canary in it.
async fn assert_silent(mut rig: Rig) {
    let metrics = rig.postern.metrics().await;
    let ready = rig.postern.readyz().await.text();
    rig.postern.signal("TERM");
    rig.postern.end().await;
    let output = rig.postern.output().join("\n");
    for (place, text) in [
        ("metrics", &metrics),
        ("readyz", &ready),
        ("output", &output),
    ] {
        let line = text.lines().find(|l| l.contains("canary"));
        assert_eq!(line, None, "in {place}");
    }
    for file in files(rig.postern.state().path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            !bytes.windows(6).any(|w| w == b"canary"),
            "in {}",
            file.display()
        );
    }
}

pub(crate) fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path))
        } else {
            all.push(path)
        }
    }
    all
}
