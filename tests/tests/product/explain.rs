//! `postern explain`: the same answers as real requests get, the reasons, and no secret.

use std::os::unix::fs::PermissionsExt;

use harness::objects::{
    backend, consumer, consumer_with_key, key_of, plugin, prefix, route, route_with, to_consumer,
    to_core, to_route,
};
use harness::process::{Done, command};
use harness::raw::Connection;
use harness::{Answer, Rig};
use serde_json::{Value, json};

use crate::documents::{blocks, document};

const KEY: &str = "canary-key-of-alice";

/// Explains by the proxy of a rig.
pub(crate) async fn explain(rig: &Rig, args: &[&str]) -> Done {
    let proxy = format!("--proxy=127.0.0.1:{}", rig.postern.status_port());
    let state = format!("--state-dir={}", rig.postern.state().path().display());
    let mut all = vec!["explain", &proxy, &state];
    all.extend(args);
    command(&all).await
}

pub(crate) async fn explain_json(rig: &Rig, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.push("--output=json");
    let done = explain(rig, &all).await;
    serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))
}

pub(crate) fn url(rig: &Rig, host: &str, target: &str) -> String {
    format!("http://{host}:{}{target}", rig.port)
}

/// Alice in gold with a key; `/private` needs it and gold, `/` is open, and a rule asks for a header.
async fn rig() -> Rig {
    let mut objects = vec![consumer("alice", &json!({"groups": ["gold"]}))];
    objects.extend(key_of("alice", "alice-key", KEY, &json!({})));
    let rules = json!([
        {"name": "private", "matches": [{"path": {"type": "PathPrefix", "value": "/private"}}],
         "filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/p"}}},
                     {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-route", "value": "canary-of-route"}]}}],
         "backendRefs": [backend("echo")]},
        {"name": "beta", "matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x-beta", "value": "yes"}]}],
         "backendRefs": [backend("echo")]},
        prefix("/", "echo"),
    ]);
    let rule = |section: &str| {
        let mut target = to_route("shop");
        target["sectionName"] = section.into();
        target
    };
    objects.extend([
        route_with("shop", &["shop.test"], &rules),
        plugin(
            "key",
            &[rule("private")],
            "keyAuth",
            &json!({"hideCredentials": true, "keyInBody": true}),
        ),
        plugin(
            "gold",
            &[rule("private")],
            "acl",
            &json!({"allow": ["gold"]}),
        ),
        plugin(
            "wide",
            &[to_core("Service", "echo")],
            "acl",
            &json!({"deny": ["banned"]}),
        ),
    ]);
    Rig::with(objects).await
}

#[tokio::test]
async fn a_request_that_passes() {
    let rig = rig().await;
    let url = url(
        &rig,
        "shop.test",
        "/private/a?apikey=canary-key-of-alice&page=canary-page",
    );
    let header = "X-Other: canary-header";
    let told = explain_json(&rig, &[&url, "-H", header]).await;
    assert_eq!(told["request"]["target"], "/private/a?apikey=*&page=*");
    assert_eq!(told["listener"]["name"], "default/gateway/http");
    assert_eq!(told["route"]["route"], "HTTPRoute/default/shop");
    assert_eq!(told["route"]["rule"], "private");
    assert_eq!(told["route"]["matched"]["path"], "prefix /private");
    let why: Vec<_> = told["rivals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["lostBy"])
        .collect();
    assert_eq!(why, ["precedence", "header"]);
    let plugins = told["plugins"].as_array().unwrap();
    let of = |at: usize| {
        let text = |field: &str| plugins[at][field].as_str().unwrap().to_owned();
        [
            text("plugin"),
            text("scope"),
            text("attachedTo"),
            text("verdict"),
            text("reason"),
        ]
    };
    let rule = "HTTPRoute default/shop (private)";
    assert_eq!(of(0), ["default/key", "route", rule, "passed", "ok"]);
    assert_eq!(of(1), ["default/gold", "route", rule, "passed", "ok"]);
    assert_eq!(
        of(2),
        [
            "default/wide",
            "service",
            "Service default/echo",
            "outdone",
            ""
        ]
    );
    assert_eq!(told["caller"]["consumer"], "alice");
    assert_eq!(told["caller"]["groups"], json!(["gold"]));
    let forward = &told["forward"];
    assert_eq!(forward["target"], "/p/a?page=*");
    assert_eq!(
        forward["endpoints"],
        json!([format!("127.0.0.1:{}", rig.upstream.port())])
    );
    let headers = forward["headers"].as_array().unwrap();
    let header = |name: &str| {
        let found = headers.iter().find(|one| one[0] == name);
        found.map(|one| one[1].as_str().unwrap())
    };
    assert_eq!(header("x-consumer-username"), Some("alice"));
    assert_eq!(header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header("x-other"), Some("*"));
    assert_eq!(header("x-route"), Some("*"));
    // What is explained is what happens.
    let answer = rig
        .get_with("shop.test", "/private/a?apikey=canary-key-of-alice", &[])
        .await;
    assert_eq!(answer.status, 200);
    let seen = rig.upstream.last();
    assert_eq!(seen.target, "/p/a");
    for (name, _) in &seen.headers {
        let name = name.to_ascii_lowercase();
        assert!(header(&name).is_some(), "{name} was not told");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_has_its_reasons() {
    let rig = rig().await;
    for (target, args, status, plugin, reason) in [
        ("/private", &[][..], 401, "default/key", "no_key"),
        (
            "/private",
            &["-H", "apikey: canary-wrong"],
            401,
            "default/key",
            "unknown_key",
        ),
        (
            "/private?apikey=a&apikey=b",
            &[],
            401,
            "default/key",
            "duplicate_key",
        ),
        (
            "/private",
            &["-d", "apikey=canary-wrong"],
            401,
            "default/key",
            "unknown_key",
        ),
    ] {
        let url = url(&rig, "shop.test", target);
        let mut all = vec![url.as_str()];
        all.extend(args);
        let told = explain_json(&rig, &all).await;
        assert_eq!(told["answer"]["status"], status, "{told}");
        assert_eq!(told["answer"]["challenges"], json!(["Key"]), "{told}");
        assert_eq!(told["plugins"][0]["plugin"], plugin, "{told}");
        assert_eq!(told["plugins"][0]["verdict"], "refused", "{told}");
        assert_eq!(told["plugins"][0]["reason"], reason, "{told}");
        assert_eq!(told["plugins"][1]["verdict"], "notAsked", "{told}");
        let done = explain(&rig, &all).await;
        assert_eq!(done.code, 1);
        assert!(done.stdout.contains("REFUSES: "), "{}", done.stdout);
        assert!(!done.stdout.contains("canary") && !told.to_string().contains("canary"));
    }
    // Nowhere to go.
    let told = explain_json(&rig, &[&url(&rig, "other.test", "/private")]).await;
    assert_eq!(told["answer"]["reason"], "no_route");
    assert_eq!(told["rivals"][0]["lostBy"], "host");
    let done = explain(&rig, &["https://shop.test/"]).await;
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("no listener serves https"),
        "{}",
        done.stderr
    );
}

/// The very same status, for whatever is asked.
#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let mut objects = consumer_with_key("alice", KEY);
    objects.extend(consumer_with_key("bob", "canary-key-of-bob"));
    objects.extend([
        consumer("guest", &json!({})),
        route("any", "any.test", "echo"),
        plugin(
            "any",
            &[to_route("any")],
            "anyOf",
            &json!([{"jwt": {}}, {"keyAuth": {}}]),
        ),
        route("guest", "guest.test", "echo"),
        plugin(
            "guest",
            &[to_route("guest")],
            "keyAuth",
            &json!({"anonymous": {"name": "guest"}}),
        ),
        plugin(
            "bob",
            &[to_consumer("bob")],
            "acl",
            &json!({"allow": ["gold"]}),
        ),
        route("closed", "closed.test", "echo"),
        plugin(
            "closed",
            &[to_route("closed")],
            "keyAuth",
            &json!({"anonymous": {"name": "nobody"}}),
        ),
        route("missing", "missing.test", "nothing"),
    ]);
    let rig = Rig::with(objects).await;
    let keys = ["", KEY, "canary-key-of-bob", "canary-wrong"];
    for host in [
        "any.test",
        "guest.test",
        "closed.test",
        "missing.test",
        "nobody.test",
    ] {
        for key in keys {
            let headers: Vec<_> = Some(("apikey", key))
                .filter(|_| !key.is_empty())
                .into_iter()
                .collect();
            let answer: Answer = rig.get_with(host, "/", &headers).await;
            let url = url(&rig, host, "/");
            let header = format!("apikey: {key}");
            let mut args = vec![url.as_str()];
            if !key.is_empty() {
                args.extend(["-H", &header]);
            }
            let told = explain_json(&rig, &args).await;
            let status = told["answer"]["status"].as_u64().unwrap_or(200);
            assert_eq!(status, u64::from(answer.status), "{host} {key}: {told}");
            assert_eq!(told["forward"].is_object(), answer.status == 200, "{told}");
            assert!(!told.to_string().contains("canary"), "{told}");
        }
    }
    // The Consumer's own plugin is named with its scope.
    let told = explain_json(
        &rig,
        &[
            &url(&rig, "any.test", "/"),
            "-H",
            "apikey: canary-key-of-bob",
        ],
    )
    .await;
    assert_eq!(told["plugins"][0]["methods"][0]["reason"], "no_token");
    assert_eq!(told["plugins"][0]["methods"][1]["reason"], "ok");
    assert_eq!(told["plugins"][1]["scope"], "consumer");
    assert_eq!(told["plugins"][1]["attachedTo"], "Consumer bob");
    assert_eq!(told["plugins"][1]["reason"], "not_allowed");
}

/// An explanation is no request: nobody is called, nothing is counted, nothing is logged.
#[tokio::test]
async fn an_explanation_leaves_no_trace() {
    let rig = rig().await;
    let before = rig.postern.metrics().await;
    let url = url(&rig, "shop.test", "/private");
    let header = format!("apikey: {KEY}");
    explain(&rig, &[&url, "-H", &header]).await;
    explain(&rig, &[&url, "-H", "apikey: canary-wrong"]).await;
    assert_eq!(rig.upstream.count(), 0);
    let verdicts = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| line.contains("verdict") || line.contains("requests_total"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(verdicts(&rig.postern.metrics().await), verdicts(&before));
    assert!(
        !rig.postern
            .output()
            .iter()
            .any(|line| line.contains("/private"))
    );
    assert!(!rig.postern.output().concat().contains("canary"));
}

#[tokio::test]
async fn a_refusal_is_remembered_by_its_id() {
    let rig = rig().await;
    let answer = rig
        .get_with(
            "shop.test",
            "/private/x?apikey=canary-wrong",
            &[("X-Other", "canary-header")],
        )
        .await;
    assert_eq!(answer.status, 401);
    let id = answer.header("x-request-id").unwrap();
    let told = explain_json(&rig, &["--request-id", id]).await;
    assert_eq!(told["past"]["requestId"], id);
    assert_eq!(told["request"]["target"], "/private/x?apikey=*");
    assert_eq!(told["route"]["rule"], "private");
    assert_eq!(told["plugins"][0]["reason"], "unknown_key");
    assert_eq!(
        told["plugins"][0]["attachedTo"],
        "HTTPRoute default/shop (private)"
    );
    assert_eq!(told["answer"]["status"], 401);
    assert!(!told.to_string().contains("canary"), "{told}");
    let done = explain(&rig, &["--request-id", id]).await;
    assert!(
        done.stdout.contains("nobody in the namespaces"),
        "{}",
        done.stdout
    );

    // One that passed is not kept.
    let target = format!("/private?apikey={KEY}");
    let answer = rig
        .get_with(
            "shop.test",
            &target,
            &[("X-Request-Id", "the-one-that-passed")],
        )
        .await;
    assert_eq!(answer.status, 200);
    let done = explain(&rig, &["--request-id", "the-one-that-passed"]).await;
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("remembers no refused request"),
        "{}",
        done.stderr
    );
}

/// Whoever has no token learns nothing, not even that there is something.
#[tokio::test]
async fn strangers_are_told_nothing() {
    let rig = rig().await;
    let status = rig.postern.status_port();
    let post = |more: &str, body: &str| {
        format!(
            "POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    let question = json!({"request": {"url": url(&rig, "shop.test", "/private"), "method": "GET"}})
        .to_string();
    let ask = async |request: String| Connection::open(status).await.ask(request).await;
    assert_eq!(ask(post("", &question)).await.status, 404);
    let wrong = ask(post("Authorization: Bearer x\r\n", &question)).await;
    assert_eq!(wrong.status, 403);
    assert!(!wrong.text().contains("shop"));
    let token = std::fs::read_to_string(rig.postern.state().path().join("explain.token")).unwrap();
    let right = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask(post(&right, &question)).await.status, 200);
    assert_eq!(
        ask(post(&right, "{\"request\": {\"canary\": 1}}"))
            .await
            .text(),
        r#"{"message":"this is no question"}"#
    );
    // Nobody but the owner can read it.
    let file = rig.postern.state().path().join("explain.token");
    assert_eq!(
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // It is not in what the process says.
    assert!(!rig.postern.output().concat().contains(token.trim()));
    let done = command(&[
        "explain",
        &format!("--proxy=127.0.0.1:{status}"),
        "--token=canary",
        "http://a.test/",
    ])
    .await;
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("the token is not that of this proxy"),
        "{}",
        done.stderr
    );
}

/// The examples of the documentation, word for word.
#[tokio::test]
async fn the_documentation_is_what_happens() {
    let text = document("explain.md");
    let manifests = blocks(&text, "yaml");
    assert_eq!(manifests.len(), 1);
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("shop.yaml");
    std::fs::write(&file, &manifests[0]).unwrap();
    let file = file.display().to_string();
    let consoles = blocks(&text, "console");
    assert!(consoles.len() >= 3);
    for console in consoles {
        let (line, expected) = console.split_once('\n').unwrap();
        let line = line.strip_prefix("$ postern ").unwrap();
        let args = words(&line.replace("shop.yaml", &file));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = command(&args).await;
        // Ids are made anew for each request.
        let stable = |text: &str| -> String {
            let lines = text.lines().filter(|line| !line.contains("x-request-id"));
            lines.map(|line| format!("{}\n", line.trim_end())).collect()
        };
        assert_eq!(
            stable(&done.stdout),
            stable(expected),
            "{line}\n{}",
            done.stderr
        );
    }
}

/// Words of a command line, as a shell would read them; only single quotes are known.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
