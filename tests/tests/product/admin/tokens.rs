//! Access tokens of applications: listed, ended, changed and brought along, and never shown again.

use std::collections::BTreeSet;

use harness::objects::{plugin, route, to_route};
use serde_json::{Value, json};

use super::Admin;
use crate::any_of::{cast, issue, oauth2};

const TOKENS: &str = "/oauth2_tokens";
/// As another gateway issued it.
const OLD: &str = "canaryAccess00000000000000000000";
const OLD_REFRESH: &str = "canaryRefresh0000000000000000000";

/// Two routes with a plugin each; of the first one tokens are its own.
async fn shop() -> Admin {
    let mut objects = cast();
    let own = json!({"globalCredentials": false, "enableAuthorizationCode": true, "scopes": ["read", "write"]});
    objects.extend([
        route("own", "own.test", "echo"),
        plugin("own", &[to_route("own")], "oauth2", &oauth2(&own)),
        route("shared", "shared.test", "echo"),
        plugin(
            "shared",
            &[to_route("shared")],
            "oauth2",
            &oauth2(&json!({})),
        ),
    ]);
    Admin::with(objects).await
}

impl Admin {
    /// The status of a request with a token.
    async fn with_token(&self, host: &str, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        self.rig.get_with(host, "/", &headers).await.status
    }

    async fn issued(&self, host: &str) -> String {
        let bearer = issue(&self.rig, host).await;
        bearer.rsplit(' ').next().unwrap_or_default().to_owned()
    }

    async fn tokens(&self, query: &str) -> Vec<Value> {
        let page = self
            .done("GET", &format!("{TOKENS}{query}"), Value::Null)
            .await;
        page["data"].as_array().expect("data").clone()
    }
}

#[tokio::test]
async fn an_issued_token_is_listed_without_itself_and_ends_when_it_is_deleted() {
    let admin = shop().await;
    let token = admin.issued("own.test").await;
    let other = admin.issued("shared.test").await;
    let app = admin.done("GET", "/oauth2/app", Value::Null).await;
    let all = admin.tokens("").await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(!json!(all).to_string().contains(&*token), "{all:?}");
    let shown = admin
        .done("GET", &format!("{TOKENS}/{token}"), Value::Null)
        .await;
    assert_eq!(shown["credential"]["id"], app["id"]);
    let plugin = admin.done("GET", "/plugins/own", Value::Null).await;
    assert_eq!(shown["plugin"]["id"], plugin["id"]);
    assert_eq!(
        (
            &shown["access_token"],
            &shown["scope"],
            &shown["token_type"]
        ),
        (&Value::Null, &Value::Null, &json!("bearer"))
    );
    assert_eq!(shown["expires_in"], 7200);
    assert!(
        (7190..=7200).contains(&shown["ttl"].as_i64().expect("a ttl")),
        "{shown}"
    );
    let id = shown["id"].as_str().expect("an id");
    assert_eq!(
        admin
            .done("GET", &format!("{TOKENS}/{id}"), Value::Null)
            .await["id"],
        id
    );

    assert_eq!(admin.with_token("own.test", &token).await, 200);
    assert_eq!(
        admin
            .call("DELETE", &format!("{TOKENS}/{id}"), &Value::Null)
            .await
            .status,
        204
    );
    // At once, though it was looked up in this very second.
    assert_eq!(admin.with_token("own.test", &token).await, 401);
    assert_eq!(admin.with_token("shared.test", &other).await, 200);
    assert_eq!(admin.tokens("").await.len(), 1);
    assert_eq!(admin.get(&format!("{TOKENS}/{id}")).await.status, 404);
    assert_eq!(
        admin
            .call("DELETE", &format!("{TOKENS}/{id}"), &Value::Null)
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn tokens_of_another_gateway_go_on_here_and_are_refreshed() {
    let admin = shop().await;
    let body = json!({"credential": {"id": "app"}, "plugin": {"id": "own"}, "access_token": OLD,
        "refresh_token": OLD_REFRESH, "expires_in": 600, "scope": "read", "authenticated_userid": "u-1"});
    let made = admin.call("POST", TOKENS, &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["access_token"], &made["refresh_token"]),
        (&json!(OLD), &json!(OLD_REFRESH))
    );
    assert_eq!(admin.with_token("own.test", OLD).await, 200);
    let seen = admin.rig.upstream.last();
    assert_eq!(seen.header("x-authenticated-userid"), Some("u-1"));
    assert_eq!(seen.header("x-authenticated-scope"), Some("read"));
    assert_eq!(seen.header("x-consumer-username"), Some("alice"));
    // It is for that plugin alone.
    assert_eq!(admin.with_token("shared.test", OLD).await, 401);
    let again = admin.call("POST", TOKENS, &body).await;
    assert_eq!(again.status, 409, "{}", again.text());
    assert!(!again.text().contains(OLD), "{}", again.text());
    let mut clash = body.clone();
    clash["access_token"] = Value::Null;
    let clash = admin.call("POST", TOKENS, &clash).await;
    assert_eq!(
        (clash.status, &clash.json()["fields"]["refresh_token"]),
        (409, &json!("***"))
    );

    let form = format!(
        "grant_type=refresh_token&refresh_token={OLD_REFRESH}&client_id=app&client_secret=canary-secret-of-app"
    );
    let refreshed = admin
        .rig
        .send(format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: own.test\r\nX-Forwarded-Proto: https\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
        .await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    let new = refreshed.json()["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(admin.with_token("own.test", OLD).await, 401);
    assert_eq!(admin.with_token("own.test", &new).await, 200);
    assert_eq!(
        admin.rig.upstream.last().header("x-authenticated-userid"),
        Some("u-1")
    );
    // With an access token its refresh token ends.
    let next = refreshed.json()["refresh_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    admin
        .done("DELETE", &format!("{TOKENS}/{new}"), Value::Null)
        .await;
    let form = form.replace(OLD_REFRESH, &next);
    let refused = admin
        .rig
        .send(format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: own.test\r\nX-Forwarded-Proto: https\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
        .await;
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[tokio::test]
async fn a_change_is_in_force_at_once() {
    let admin = shop().await;
    let token = admin.issued("own.test").await;
    assert_eq!(admin.with_token("own.test", &token).await, 200);
    let one = format!("{TOKENS}/{token}");
    let change = json!({"scope": "write", "authenticated_userid": "u-2", "expires_in": 60});
    let changed = admin.done("PATCH", &one, change).await;
    assert_eq!(
        (&changed["scope"], &changed["authenticated_userid"]),
        (&json!("write"), &json!("u-2"))
    );
    assert!(
        changed["ttl"].as_i64().is_some_and(|ttl| ttl <= 60),
        "{changed}"
    );
    assert_eq!(admin.with_token("own.test", &token).await, 200);
    assert_eq!(
        admin.rig.upstream.last().header("x-authenticated-scope"),
        Some("write")
    );
    // What was shown and comes back changes nothing.
    let back = admin
        .done(
            "PATCH",
            &one,
            json!({"id": changed["id"], "namespace": "default"}),
        )
        .await;
    assert_eq!(back["scope"], "write");
    let never = admin
        .done("PATCH", &one, json!({"expires_in": 0, "scope": null}))
        .await;
    assert_eq!(
        (&never["expires_in"], &never["ttl"], &never["scope"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
    let fixed = admin
        .call("PATCH", &one, &json!({"credential": {"id": "other"}}))
        .await;
    assert_eq!(
        (fixed.status, &fixed.json()["fields"]["credential"]),
        (400, &json!("cannot be changed"))
    );
}

#[tokio::test]
async fn lists_are_filtered_and_go_on_where_they_ended() {
    let admin = shop().await;
    let mut wanted = BTreeSet::new();
    for number in 0..25 {
        let user = if number % 5 == 0 { "few" } else { "many" };
        let body = json!({"credential": {"id": "app"}, "authenticated_userid": user});
        let made = admin.done("POST", TOKENS, body).await;
        wanted.insert(made["id"].as_str().expect("an id").to_owned());
    }
    let (mut seen, mut next) = (Vec::new(), format!("{TOKENS}?size=4"));
    loop {
        let page = admin.done("GET", &next, Value::Null).await;
        let data = page["data"].as_array().expect("data").iter();
        seen.extend(data.map(|token| token["id"].as_str().expect("an id").to_owned()));
        let Some(path) = page["next"].as_str() else {
            break;
        };
        next = path.to_owned();
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(admin.tokens("?authenticated_userid=few").await.len(), 5);
    assert_eq!(admin.tokens("?credential_id=app").await.len(), 25);
    assert_eq!(admin.tokens("?credential_id=nobody").await.len(), 0);
    assert_eq!(admin.tokens("?namespace=elsewhere").await.len(), 0);
    let bad = admin.get(&format!("{TOKENS}?offset=WyJ4Il0")).await;
    assert_eq!(
        (bad.status, &bad.json()["code"]),
        (400, &json!(7)),
        "{}",
        bad.text()
    );
    // A token without a plugin counts for those that share theirs.
    let made = admin
        .done("POST", TOKENS, json!({"credential": {"id": "app"}}))
        .await;
    let token = made["access_token"].as_str().expect("a token");
    assert_eq!(admin.with_token("shared.test", token).await, 200);
    assert_eq!(admin.with_token("own.test", token).await, 401);
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let admin = shop().await;
    for (body, field) in [
        (json!({}), "credential"),
        (json!({"credential": {"id": "nobody"}}), "credential"),
        (
            json!({"credential": {"id": "app"}, "plugin": {"id": "nobody"}}),
            "plugin",
        ),
        (
            json!({"credential": {"id": "app"}, "plugin": {"id": "own"}, "scope": "admin"}),
            "scope",
        ),
        (
            json!({"credential": {"id": "app"}, "scope": "a\"b"}),
            "scope",
        ),
        (
            json!({"credential": {"id": "app"}, "access_token": "short"}),
            "access_token",
        ),
        (
            json!({"credential": {"id": "app"}, "refresh_token": "ü"}),
            "refresh_token",
        ),
        (
            json!({"credential": {"id": "app"}, "expires_in": -1}),
            "expires_in",
        ),
        (
            json!({"credential": {"id": "app"}, "token_type": "mac"}),
            "token_type",
        ),
        (json!({"credential": {"id": "app"}, "id": "0"}), "id"),
        (
            json!({"credential": {"id": "app"}, "namespace": "elsewhere"}),
            "namespace",
        ),
    ] {
        let answer = admin.call("POST", TOKENS, &body).await;
        let told = answer.json();
        assert_eq!(answer.status, 400, "{body}: {told}");
        assert!(told["fields"].get(field).is_some(), "{body}: {told}");
    }
    assert!(admin.tokens("").await.is_empty());
    // A line is no access token, though it lies in the same store.
    assert_eq!(
        admin
            .get(&format!("{TOKENS}/{}", "0".repeat(64)))
            .await
            .status,
        404
    );
}
