//! Applications, people and keys on one route: access tokens of the gateway's own, sessions with a provider, API keys.

use harness::objects::{consumer, consumer_with_key, object, plugin, route, secret, to_route};
use harness::raw::get;
use harness::{Answer, Rig};
use serde_json::{Value, json};

use crate::openid_connect::{Browser, HOST, Idp};

const KEY: &str = "canary-key-of-bob";
const APP_SECRET: &str = "canary-secret-of-app";

/// Bob has a key, Alice an application, Jim signs in at a provider, the guest has nothing.
pub(crate) fn cast() -> Vec<Value> {
    let mut all = consumer_with_key("bob", KEY);
    let app = json!({"consumerRef": {"name": "alice"}, "oauth2": {"name": "app", "clientId": "app",
        "clientSecretRef": {"name": "app", "key": "secret"}}});
    all.extend([
        consumer("alice", &json!({})),
        consumer("jim", &json!({})),
        consumer("guest", &json!({})),
        secret("app", &[("secret", APP_SECRET)]),
        object("postern.dev/v1alpha1", "Credential", "app", &app),
        Idp::secret(),
    ]);
    all
}

pub(crate) fn oauth2(more: &Value) -> Value {
    let mut block = json!({"enableClientCredentials": true, "acceptHttpIfAlreadyTerminated": true,
        "globalCredentials": true});
    for (name, value) in more.as_object().unwrap() {
        block[name] = value.clone();
    }
    block
}

fn listed(name: &str, host: &str, methods: &Value) -> Vec<Value> {
    vec![
        route(name, host, "echo"),
        plugin(name, &[to_route(name)], "anyOf", methods),
    ]
}

/// Lets the application have an access token.
pub(crate) async fn issue(rig: &Rig, host: &str) -> String {
    let body = format!("grant_type=client_credentials&client_id=app&client_secret={APP_SECRET}");
    let answer = rig
        .send(format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    format!("Bearer {token}")
}

/// Status, and who the upstream was told or the schemes of the challenges.
fn told(rig: &Rig, before: usize, answer: &Answer) -> String {
    if rig.upstream.count() > before {
        let seen = rig.upstream.last();
        let who = seen.header("x-consumer-username").unwrap_or("nobody");
        return format!("{} {who}", answer.status);
    }
    let schemes: Vec<_> = answer
        .all("www-authenticate")
        .iter()
        .map(|one| one.split(' ').next().unwrap().to_owned())
        .collect();
    format!("{} {}", answer.status, schemes.join("+"))
        .trim()
        .to_owned()
}

/// Asks with these headers, but for those whose value is "-".
async fn ask(rig: &Rig, host: &str, headers: &[(&str, &str)]) -> (String, Answer) {
    let before = rig.upstream.count();
    let given: Vec<_> = headers
        .iter()
        .copied()
        .filter(|(_, value)| *value != "-")
        .collect();
    let answer = rig.get_with(host, "/", &given).await;
    (told(rig, before, &answer), answer)
}

#[tokio::test]
async fn an_application_and_a_key_on_one_route() {
    let methods = json!([{"oauth2": oauth2(&json!({"hideCredentials": true}))}, {"keyAuth": {}}]);
    let mut objects = cast();
    objects.extend(listed("any", "any.test", &methods));
    let rig = Rig::with(objects).await;
    let good = issue(&rig, "any.test").await;
    let bad = "Bearer 0123456789abcdefghijklmnopqrstuv";
    for (token, key, expected) in [
        (&*good, "-", "200 alice"),
        (&good, "bad", "200 alice"),
        ("-", KEY, "200 bob"),
        (bad, KEY, "200 bob"),
        (bad, "-", "401 Bearer+Key"),
        (bad, "bad", "401 Bearer+Key"),
        ("-", "bad", "401 Bearer+Key"),
        ("-", "-", "401 Bearer+Key"),
    ] {
        let headers = [("Authorization", token), ("apikey", key)];
        let (found, answer) = ask(&rig, "any.test", &headers).await;
        assert_eq!(found, expected, "{token} {key}");
        if answer.status == 200 {
            assert_eq!(rig.upstream.last().header("authorization"), None);
        } else if token == bad {
            assert_eq!(answer.json()["error"], "invalid_token");
            assert!(answer.all("www-authenticate")[0].contains("error=\"invalid_token\""));
        }
    }
    // Its endpoints are there whatever else the request brings, and are no way in.
    let metadata = get(
        "any.test",
        "/.well-known/oauth-authorization-server",
        &[("apikey", KEY)],
    );
    let before = rig.upstream.count();
    assert_eq!(
        rig.send(metadata).await.json()["issuer"],
        "https://any.test"
    );
    let (found, _) = ask(&rig, "any.test", &[("Authorization", bad), ("apikey", KEY)]).await;
    assert_eq!(
        (found.as_str(), rig.upstream.count()),
        ("200 bob", before + 1)
    );
    let line = rig
        .postern
        .access_line("the request", |line| {
            line["reason"] == "ok_after_bad_credential"
        })
        .await;
    assert_eq!(line["verdicts"][0]["method"], "oauth2", "{line}");
    assert_eq!(line["verdicts"][0]["reason"], "unknown_token", "{line}");
    let output = rig.postern.output().concat();
    assert!(!output.contains("canary") && !output.contains(good.trim_start_matches("Bearer ")));
}

#[tokio::test]
async fn people_and_programs_on_one_route() {
    let idp = Idp::start().await;
    idp.script.lock().claims = json!({"preferred_username": "jim"});
    let sign_in = idp.block(&json!({"useJwks": true, "consumerClaim": "preferred_username"}));
    let methods =
        json!([{"keyAuth": {}}, {"oauth2": oauth2(&json!({}))}, {"openidConnect": sign_in}]);
    let mut objects = cast();
    objects.extend(listed("any", HOST, &methods));
    let rig = Rig::with(objects).await;
    let ours = issue(&rig, HOST).await;
    let theirs = format!(
        "Bearer {}",
        idp.access_token(&json!({"preferred_username": "jim"}))
    );
    let spoofed = ("X-Userinfo", "evil");
    let json = ("accept", "application/json");
    for (headers, expected) in [
        (&[json, ("apikey", KEY)][..], "200 bob"),
        (&[json, ("Authorization", &ours)], "200 alice"),
        (&[json, ("Authorization", &theirs)], "200 jim"),
        (&[json], "401 Key+Bearer+Bearer"),
        (
            &[json, ("Authorization", "Bearer a.b.c")],
            "401 Key+Bearer+Bearer",
        ),
    ] {
        let mut headers = headers.to_vec();
        headers.push(spoofed);
        let (found, _) = ask(&rig, HOST, &headers).await;
        assert_eq!(found, expected, "{headers:?}");
    }
    for seen in rig.upstream.seen() {
        assert_ne!(seen.header("x-userinfo"), Some("evil"));
    }
    // A browser is sent to sign in only where it presents nothing.
    let mut browser = Browser::default();
    let bad = browser.open_with(&rig, "/page", &[("apikey", "bad")]).await;
    assert_eq!((bad.status, bad.all("www-authenticate").len()), (401, 3));
    assert!(bad.header("location").is_none());
    let back = browser.sign_in(&rig, "/page").await;
    assert_eq!(
        back.header("location"),
        Some(&*format!("http://{HOST}/page"))
    );
    let before = rig.upstream.count();
    let page = browser.open(&rig, "/page").await;
    assert_eq!(told(&rig, before, &page), "200 jim");
    // With a session a bad key does no harm, and a good one that comes first counts.
    let before = rig.upstream.count();
    let page = browser.open_with(&rig, "/", &[("apikey", "bad")]).await;
    assert_eq!(told(&rig, before, &page), "200 jim");
    let line = rig
        .postern
        .access_line("the request", |line| {
            line["reason"] == "ok_after_bad_credential"
        })
        .await;
    assert_eq!(line["verdicts"][2]["reason"], "session", "{line}");
    let before = rig.upstream.count();
    let page = browser.open_with(&rig, "/", &[("apikey", KEY)]).await;
    assert_eq!(told(&rig, before, &page), "200 bob");
    assert_eq!(rig.upstream.last().header("x-userinfo"), None);
    // The session ends at the path that is the method's own.
    let left = browser.open_with(&rig, "/logout", &[("apikey", KEY)]).await;
    assert!(left.header("location").unwrap().contains("/end?"));
    assert_eq!(browser.open(&rig, "/page").await.status, 302);
    assert!(!rig.postern.output().concat().contains("canary"));
}

/// A provider that is away takes nobody along who can prove himself otherwise, and lets nobody in.
#[tokio::test]
async fn a_provider_that_is_away() {
    let idp = Idp::start().await;
    idp.script.lock().away = true;
    let sign_in = idp.block(&json!({"useJwks": true}));
    let deny = idp.block(&json!({"useJwks": true, "unauthAction": "deny"}));
    let guest = json!({"anonymous": {"name": "guest"}});
    let mut objects = cast();
    objects.extend(listed(
        "any",
        "any.test",
        &json!([{"openidConnect": sign_in}, {"keyAuth": {}}]),
    ));
    objects.extend(listed(
        "guest",
        "guest.test",
        &json!([{"openidConnect": deny}, {"keyAuth": guest}]),
    ));
    let rig = Rig::with(objects).await;
    let token = format!("Bearer {}", idp.access_token(&json!({})));
    for (token, key, any, guest) in [
        ("-", KEY, "200 bob", "200 bob"),
        (&*token, KEY, "200 bob", "200 bob"),
        (&token, "-", "503", "503"),
        (&token, "bad", "503", "503"),
        ("-", "bad", "401 Bearer+Key", "200 guest"),
        ("-", "-", "503", "200 guest"),
    ] {
        let headers = [
            ("Authorization", token),
            ("apikey", key),
            ("accept", "text/html"),
        ];
        for (host, expected) in [("any.test", any), ("guest.test", guest)] {
            let (found, answer) = ask(&rig, host, &headers).await;
            assert_eq!(found, expected, "{host} {key}");
            assert_eq!(answer.header("retry-after").is_some(), answer.status == 503);
        }
    }
    rig.postern
        .access_line("the request", |line| {
            line["reason"] == "ok_after_unavailable"
        })
        .await;
}

const BAD: &str = "Bearer 0123456789abcdefghijklmnopqrstuv";
const B: &str = "401 Bearer";
const K: &str = "401 Key";
const BK: &str = "401 Bearer+Key";
const KB: &str = "401 Key+Bearer";

/// One pair of credentials, and what comes of it for each of six hosts.
type Row = (&'static str, &'static str, [&'static str; 6]);

/// An access token of the gateway's own and a key: both must pass, any may, the token must, the key must; a list; a list
/// with a guest.
const TOKENS: [Row; 9] = [
    ("-", "-", [B, "200 guest", B, K, BK, "200 guest"]),
    ("-", "bad", [B, "200 guest", B, K, BK, "200 guest"]),
    ("-", KEY, [B, "200 bob", B, "200 bob", "200 bob", "200 bob"]),
    (BAD, "-", [B, "200 guest", B, K, BK, "200 guest"]),
    (BAD, "bad", [B, "200 guest", B, K, BK, "200 guest"]),
    (BAD, KEY, [B, "200 bob", B, "200 bob", "200 bob", "200 bob"]),
    (
        "good",
        "-",
        [K, "200 alice", "200 alice", K, "200 alice", "200 alice"],
    ),
    (
        "good",
        "bad",
        [K, "200 alice", "200 alice", K, "200 alice", "200 alice"],
    ),
    (
        "good",
        KEY,
        [
            "200 bob",
            "200 alice",
            "200 alice",
            "200 bob",
            "200 alice",
            "200 bob",
        ],
    ),
];

/// The same with an access token of a provider. openidConnect runs after keyAuth; it has no anonymous Consumer, and refuses what
/// is bad even where it lets pass who presents nothing.
const PROVIDER: [Row; 9] = [
    ("-", "-", [K, "200 guest", B, K, BK, "200 nobody"]),
    ("-", "bad", [K, "200 guest", B, K, BK, KB]),
    ("-", KEY, [B, "200 bob", B, "200 bob", "200 bob", "200 bob"]),
    (BAD, "-", [K, B, B, K, BK, KB]),
    (BAD, "bad", [K, B, B, K, BK, KB]),
    (BAD, KEY, [B, B, B, B, "200 bob", "200 bob"]),
    (
        "good",
        "-",
        [K, "200 jim", "200 jim", K, "200 jim", "200 jim"],
    ),
    (
        "good",
        "bad",
        [K, "200 jim", "200 jim", K, "200 jim", "200 jim"],
    ),
    (
        "good",
        KEY,
        [
            "200 jim", "200 jim", "200 jim", "200 jim", "200 jim", "200 bob",
        ],
    ),
];

/// Hosts `PREFIX-and`, `-or`, `-token` and `-key`, for a plugin that takes tokens beside one that takes keys, each mandatory or not.
fn pairs(prefix: &str, block: &str, mandatory: &Value, optional: &Value) -> Vec<Value> {
    let (key, guest) = (json!({}), json!({"anonymous": {"name": "guest"}}));
    let mut objects = Vec::new();
    for (name, token, key) in [
        ("and", mandatory, &key),
        ("or", optional, &guest),
        ("token", mandatory, &guest),
        ("key", optional, &key),
    ] {
        let name = format!("{prefix}-{name}");
        objects.push(route(&name, &format!("{name}.test"), "echo"));
        for (block, config) in [(block, token), ("keyAuth", key)] {
            let named = format!("{name}-{}", block.to_lowercase());
            objects.push(plugin(&named, &[to_route(&name)], block, config));
        }
    }
    objects
}

/// Every pair of mandatory and optional plugins, and lists of the same, with every pair of credentials.
#[tokio::test]
async fn the_matrix_of_tokens_sessions_and_keys() {
    let idp = Idp::start().await;
    let of_provider = |action: &str| {
        idp.block(&json!({"useJwks": true, "consumerClaim": "preferred_username", "unauthAction": action}))
    };
    let (deny, pass) = (of_provider("deny"), of_provider("pass"));
    let own = oauth2(&json!({}));
    let guest = oauth2(&json!({"anonymous": {"name": "guest"}}));
    let mut objects = cast();
    objects.extend(pairs("o", "oauth2", &own, &guest));
    objects.extend(pairs("i", "openidConnect", &deny, &pass));
    for (name, methods) in [
        ("o-any", json!([{"oauth2": own}, {"keyAuth": {}}])),
        ("o-last", json!([{"keyAuth": {}}, {"oauth2": guest}])),
        ("i-any", json!([{"openidConnect": deny}, {"keyAuth": {}}])),
        ("i-last", json!([{"keyAuth": {}}, {"openidConnect": pass}])),
    ] {
        objects.extend(listed(name, &format!("{name}.test"), &methods));
    }
    let rig = Rig::with(objects).await;
    let ours = issue(&rig, "o-any.test").await;
    let jim = json!({"preferred_username": "jim"});
    let theirs = format!("Bearer {}", idp.access_token(&jim));
    for (prefix, good, rows) in [("o", &ours, TOKENS), ("i", &theirs, PROVIDER)] {
        for (token, key, expected) in rows {
            let hosts = ["and", "or", "token", "key", "any", "last"];
            for (name, expected) in hosts.into_iter().zip(expected) {
                let sent = if token == "good" { good } else { token };
                let headers = [("Authorization", sent), ("apikey", key)];
                let host = format!("{prefix}-{name}.test");
                let (found, _) = ask(&rig, &host, &headers).await;
                assert_eq!(found, expected, "{host}: token {token}, key {key}");
            }
        }
    }
}
