//! Explanations of requests with tokens and sessions: judged by what is there, and nobody is called.

use harness::objects::{plugin, route, secret, to_route};
use harness::{Reply, Rig, Upstream};
use serde_json::{Value, json};

use crate::any_of::{cast, issue, oauth2};
use crate::explain::{explain, explain_json, url};
use crate::history::{sealed, servers};
use crate::openid_connect::{Browser, HOST, Idp};

/// The verdict of the only plugin, and its reason.
fn verdict(told: &Value) -> String {
    let plugin = &told["plugins"][0];
    let text = |name: &str| plugin[name].as_str().unwrap();
    assert!(
        !text("says").is_empty() && text("says") != "see the reason",
        "{told}"
    );
    format!("{} {}", text("verdict"), text("reason"))
}

/// Everybody, and a route that one plugin protects.
async fn protected(host: &str, kind: &str, config: &Value) -> Rig {
    let mut objects = cast();
    objects.extend([
        route("r", host, "echo"),
        plugin("only", &[to_route("r")], kind, config),
    ]);
    Rig::with(objects).await
}

#[tokio::test]
async fn an_access_token_is_looked_up_and_none_is_issued() {
    let rig = protected("o.test", "oauth2", &oauth2(&json!({}))).await;
    let good = format!("Authorization: {}", issue(&rig, "o.test").await);
    let url = |target: &str| url(&rig, "o.test", target);
    let told = explain_json(&rig, &[&url("/"), "-H", &good]).await;
    assert_eq!(verdict(&told), "passed ok");
    assert_eq!(told["caller"]["consumer"], "alice");
    assert_eq!(told["caller"]["credential"], "app");
    let token = good.rsplit(' ').next().unwrap();
    assert!(!told.to_string().contains(token), "{told}");
    let bad = "Authorization: Bearer 0123456789abcdefghijklmnopqrstuv";
    let told = explain_json(&rig, &[&url("/"), "-H", bad]).await;
    assert_eq!(verdict(&told), "refused unknown_token");
    assert_eq!(told["answer"]["status"], 401);
    let body = "grant_type=client_credentials&client_id=app&client_secret=canary-secret-of-app";
    let ask = [
        &*url("/oauth2/token"),
        "-H",
        "X-Forwarded-Proto: https",
        "-d",
        body,
    ];
    let told = explain_json(&rig, &ask).await;
    assert_eq!(verdict(&told), "undecided would_serve");
    let done = explain(&rig, &ask).await;
    assert!(
        done.stdout.contains("not known: the path is its own"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("canary") && !told.to_string().contains("canary"));
}

#[tokio::test]
async fn a_token_is_looked_up_in_redis_too_and_its_absence_is_told() {
    let folder = tempfile::TempDir::new().unwrap();
    let redis = servers::single(&folder).await;
    let mut objects = cast();
    objects.extend([
        route("r", "o.test", "echo"),
        plugin("only", &[to_route("r")], "oauth2", &oauth2(&json!({}))),
    ]);
    let url_of_store = format!("redis://127.0.0.1:{}", redis.port);
    let build = sealed(Rig::build().objects(objects), &url_of_store, &folder);
    let rig = build.flag("--store-timeout", "300ms").start().await;
    let good = format!("Authorization: {}", issue(&rig, "o.test").await);
    let page = url(&rig, "o.test", "/");
    let told = explain_json(&rig, &[&page, "-H", &good]).await;
    assert_eq!(verdict(&told), "passed ok");
    // The first one is remembered for its second.
    let other = format!("Authorization: {}", issue(&rig, "o.test").await);
    drop(redis);
    let told = explain_json(&rig, &[&page, "-H", &other]).await;
    assert_eq!(verdict(&told), "refused store_unavailable");
    assert_eq!(told["answer"]["status"], 503);
}

#[tokio::test]
async fn a_provider_is_never_called() {
    let idp = Idp::start().await;
    let config = idp.block(&json!({"useJwks": true}));
    let rig = protected(HOST, "openidConnect", &config).await;
    let page = url(&rig, HOST, "/page");
    let token = format!("Authorization: Bearer {}", idp.access_token(&json!({})));
    let html = "Accept: text/html";
    // Nothing is known of the provider, and nobody asks.
    for header in [&*token, html] {
        let told = explain_json(&rig, &[&page, "-H", header]).await;
        assert_eq!(verdict(&told), "undecided would_ask_provider");
    }
    assert_eq!(idp.server.count(), 0);
    let told = explain_json(&rig, &[&page, "-H", "Accept: application/json"]).await;
    assert_eq!(verdict(&told), "refused no_session");

    let mut browser = Browser::default();
    browser.sign_in(&rig, "/page").await;
    let authorization = token.split_once(' ').unwrap().1;
    let passes = rig
        .get_with(HOST, "/page", &[("Authorization", authorization)])
        .await;
    assert_eq!(passes.status, 200);
    let before = idp.server.count();
    let told = explain_json(&rig, &[&page, "-H", html]).await;
    assert_eq!(verdict(&told), "answered login");
    assert_eq!(told["answer"]["status"], 302);
    let location = told["answer"]["location"].as_str().unwrap();
    assert!(
        location.starts_with(&format!("{}/authorize?", idp.script.lock().base)),
        "{location}"
    );
    assert!(location.contains("state=*"), "{location}");
    let told = explain_json(&rig, &[&page, "-H", &token]).await;
    assert_eq!(verdict(&told), "passed ok");
    let session = format!("Cookie: session={}", browser.0["session"]);
    let told = explain_json(&rig, &[&page, "-H", html, "-H", &session]).await;
    assert_eq!(verdict(&told), "passed session");
    assert!(
        !told.to_string().contains("canary") && !told.to_string().contains(&browser.0["session"])
    );
    let logout = url(&rig, HOST, "/logout");
    let told = explain_json(&rig, &[&logout, "-H", html, "-H", &session]).await;
    assert_eq!(verdict(&told), "undecided would_serve");
    assert_eq!(idp.server.count(), before);
    assert_eq!(
        browser.open(&rig, "/page").await.status,
        200,
        "the session is still there"
    );

    idp.script.lock().expires_in = 0;
    let mut late = Browser::default();
    late.sign_in(&rig, "/page").await;
    let session = format!("Cookie: session={}", late.0["session"]);
    let told = explain_json(&rig, &[&page, "-H", html, "-H", &session]).await;
    assert_eq!(verdict(&told), "undecided would_renew");
    assert!(idp.script.lock().renewed.is_empty());
}

#[tokio::test]
async fn a_method_that_would_ask_leaves_the_list_undecided() {
    let idp = Idp::start().await;
    let sign_in = idp.block(&json!({"useJwks": true}));
    let methods =
        json!([{"oauth2": oauth2(&json!({}))}, {"openidConnect": sign_in}, {"keyAuth": {}}]);
    let rig = protected(HOST, "anyOf", &methods).await;
    let page = url(&rig, HOST, "/");
    let token = format!("Authorization: Bearer {}", idp.access_token(&json!({})));
    let told = explain_json(&rig, &[&page, "-H", &token]).await;
    assert_eq!(verdict(&told), "undecided would_ask_provider");
    let methods = &told["plugins"][0]["methods"];
    assert_eq!(methods[0]["reason"], "unknown_token");
    assert_eq!(methods[1]["reason"], "would_ask_provider");
    let told = explain_json(&rig, &[&page, "-H", "apikey: canary-key-of-bob"]).await;
    assert_eq!(verdict(&told), "passed ok");
    assert_eq!(idp.server.count(), 0);
}

#[tokio::test]
async fn a_token_for_the_upstream_is_told_of_and_not_fetched() {
    let provider = Upstream::answering(|_| {
        Reply::ok(
            r#"{"access_token": "canary-upstream", "token_type": "Bearer", "expires_in": 300}"#,
        )
    })
    .await;
    let config = json!({"oauth": {"tokenEndpoint": format!("http://127.0.0.1:{}/token", provider.port()),
        "clientId": "shop", "clientSecretRef": {"name": "up", "key": "secret"}}});
    let rig = Rig::with([
        secret("up", &[("secret", "canary-secret")]),
        route("u", "u.test", "echo"),
        plugin("u", &[to_route("u")], "upstreamOauth", &config),
    ])
    .await;
    let page = url(&rig, "u.test", "/");
    let told = explain_json(&rig, &[&page]).await;
    assert_eq!(verdict(&told), "undecided would_fetch");
    assert_eq!(provider.count(), 0);
    assert_eq!(rig.get("u.test", "/").await.status, 200);
    let told = explain_json(&rig, &[&page]).await;
    assert_eq!(verdict(&told), "passed cached");
    let headers = told["forward"]["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["authorization", "*"])), "{told}");
    assert!(!told.to_string().contains("canary"), "{told}");
    assert_eq!(provider.count(), 1);
}
