//! `postern import apisix`: a file of theirs, served with what protected it there, and never with less.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use harness::{Answer, Connection, Rig, Upstream, raw};
use serde_json::json;

use crate::import::{self, Imported};
use crate::jwt::hs256;

const SECRET: &str = "a shared secret that nobody must ever see";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/product/import_apisix")
}

fn example() -> String {
    std::fs::read_to_string(folder().join("apisix.yaml")).unwrap()
}

/// Exit status, manifests and notes. What is printed must be accepted.
fn import(text: &str) -> (i32, String, String) {
    let Imported {
        status,
        manifests,
        notes,
    } = import::import("apisix", text);
    if status < 2 {
        let (checked, said) = import::check(&manifests);
        assert_eq!(checked, 0, "{said}\n{manifests}");
    }
    (status, manifests, notes)
}

/// A gateway on what becomes of a file.
struct Served {
    rig: Rig,
    port: u16,
    notes: String,
}

impl Served {
    /// Nodes of the file are at port 1980.
    async fn new(text: &str) -> Self {
        let upstream = Upstream::named("echo").await;
        let text = text.replace("1980", &upstream.port().to_string());
        let (_, manifests, notes) = import(&text);
        let mut builder = Rig::build().without_gateway().upstream(upstream);
        let port = builder.port();
        let manifests = manifests.replace("port: 8000", &format!("port: {port}"));
        let rig = builder.file("imported.yaml", &manifests).start().await;
        Self { rig, port, notes }
    }

    async fn get(&self, host: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut connection = Connection::open(self.port).await;
        connection.ask(raw::get(host, target, headers)).await
    }

    async fn status(&self, host: &str, target: &str) -> u16 {
        self.get(host, target, &[]).await.status
    }
}

fn token(expires_in: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let token = hs256(
        &json!({"key": "alices-issuer", "exp": now + expires_in}),
        SECRET,
    );
    format!("Bearer {token}")
}

#[tokio::test]
async fn keys_and_tokens_count_as_they_did() {
    let mut text = example();
    // Checks ask the upstream on their own, which would be counted.
    let checks = text.find("    checks:").unwrap();
    let services = text.find("services:").unwrap();
    text.replace_range(checks..services, "");
    let served = Served::new(&text).await;

    assert_eq!(served.status("shop.test", "/health").await, 200);
    assert_eq!(served.status("shop.test", "/orders/1").await, 401);
    for (key, status) in [("alices-key", 200), ("bobs-key", 403), ("no-key", 401)] {
        let headers = [("x-api-key", key)];
        let answer = served.get("shop.test", "/orders/1", &headers).await;
        assert_eq!(answer.status, status, "{key}");
    }

    assert_eq!(served.status("api.test", "/v1/items").await, 401);
    for (expires_in, status) in [(60, 200), (-60, 401)] {
        let token = token(expires_in);
        let answer = served
            .get("api.test", "/v1/items", &[("authorization", &token)])
            .await;
        assert_eq!(answer.status, status);
    }
    let seen = served.rig.upstream.seen();
    let last = seen.last().unwrap();
    assert_eq!(last.target, "/items");
    assert_eq!(last.header("x-gateway"), Some("postern"));
    assert_eq!(seen.len(), 3);

    // What was disabled is not there, what was for some addresses only is closed, and the rest of the host is open.
    assert_eq!(served.status("shop.test", "/old").await, 404);
    assert_eq!(served.status("site.test", "/admin/x").await, 500);
    assert_eq!(served.status("site.test", "/admin").await, 200);
    assert_eq!(served.status("site.test", "/").await, 200);
    assert!(!served.notes.contains("alices-key"), "{}", served.notes);
}

#[test]
fn the_example_becomes_what_it_did() {
    let (status, manifests, notes) = import(&example());
    assert_eq!(status, 1);
    let printed = format!(
        "{manifests}---\n# {}",
        notes.trim_end().replace('\n', "\n# ")
    ) + "\n";
    let path = folder().join("manifests.yaml");
    if std::env::var_os("POSTERN_BLESS").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    assert_eq!(printed, std::fs::read_to_string(path).unwrap());
    for secret in ["alices-key", "bobs-key", "carols-password", SECRET] {
        assert!(!notes.contains(secret), "{notes}");
    }
}

/// A route with more fields, beside nothing else.
fn route(more: &str) -> String {
    format!(
        "routes:\n- {{id: r, uri: /r, upstream: {{nodes: {{'127.0.0.1:1980': 1}}}}, {more}}}\n#END\n"
    )
}

#[test]
fn what_protects_and_cannot_be_said_leaves_the_route_out() {
    for (more, field) in [
        ("plugins: {basic-auth: {}}", "plugins.basic-auth"),
        ("plugins: {hmac-auth: {}}", "plugins.hmac-auth"),
        ("plugins: {ldap-auth: {}}", "plugins.ldap-auth"),
        ("plugins: {wolf-rbac: {}}", "plugins.wolf-rbac"),
        (
            "plugins: {ip-restriction: {whitelist: [10.0.0.1]}}",
            "plugins.ip-restriction",
        ),
        ("plugins: {opa: {host: 'http://opa'}}", "plugins.opa"),
        (
            "plugins: {forward-auth: {uri: 'http://a'}}",
            "plugins.forward-auth",
        ),
        ("plugins: {authz-casbin: {}}", "plugins.authz-casbin"),
        ("plugins: {somebodys-own: {}}", "plugins.somebodys-own"),
        ("plugins: {key-auth: {of-tomorrow: 1}}", "plugins.key-auth"),
        (
            "plugins: {key-auth: {_meta: {filter: [[a, '==', b]]}}}",
            "plugins.key-auth",
        ),
        (
            "plugins: {consumer-restriction: {whitelist: []}}",
            "plugins.consumer-restriction",
        ),
        (
            "plugins: {consumer-restriction: {whitelist: [a], allowed_by_methods: [{user: a, methods: [GET]}]}}",
            "plugins.consumer-restriction",
        ),
        (
            "plugins: {openid-connect: {client_id: a, discovery: 'https://i/.well-known/openid-configuration', client_secret: '$env://A'}}",
            "plugins.openid-connect",
        ),
        ("remote_addrs: [10.0.0.0/8]", "remote_addrs"),
        ("remote_addr: 10.0.0.1", "remote_addr"),
        (
            "filter_func: 'function(vars) return true end'",
            "filter_func",
        ),
        ("script: 'return {}'", "script"),
        ("vars: [[cookie_a, '==', b]]", "vars"),
        ("vars: [[http_a, '~~', b]]", "vars"),
        ("of_tomorrow: 1", "of_tomorrow"),
        ("service_id: gone", "service_id"),
        ("plugin_config_id: gone", "plugin_config_id"),
    ] {
        let (status, manifests, notes) = import(&route(more));
        assert_eq!(status, 1, "{more}");
        assert!(
            !manifests.contains("kind: HTTPRoute"),
            "{more}: {manifests}"
        );
        assert!(
            notes.contains(&format!("route \"r\": {field}: ")),
            "{more}: {notes}"
        );
    }
}

#[test]
fn what_is_all_carried_over_says_nothing() {
    let (status, manifests, notes) = import(&route("plugins: {key-auth: {}}, methods: [GET]"));
    assert_eq!((status, notes.as_str()), (0, ""));
    assert!(manifests.contains("kind: AuthPlugin"), "{manifests}");
}

#[test]
fn a_global_rule_that_cannot_be_said_leaves_all_out() {
    let rule = "global_rules:\n- {id: 1, plugins: {ip-restriction: {whitelist: [10.0.0.1]}}}\n";
    let (status, manifests, notes) = import(&(rule.to_owned() + &route("status: 1")));
    assert_eq!(status, 1);
    assert!(!manifests.contains("kind: HTTPRoute"), "{manifests}");
    assert!(notes.contains("ip-restriction"), "{notes}");
}

#[tokio::test]
async fn a_global_rule_protects_every_route() {
    let rule = "global_rules:\n- {id: 1, plugins: {key-auth: {}}}\nconsumers:\n- {username: a, plugins: {key-auth: {key: k}}}\n";
    let served = Served::new(&(rule.to_owned() + &route("status: 1"))).await;
    assert_eq!(served.status("any.test", "/r").await, 401);
    assert_eq!(
        served
            .get("any.test", "/r", &[("apikey", "k")])
            .await
            .status,
        200
    );
}

/// Routes on one upstream, each with these fields.
fn routes(all: &[&str]) -> String {
    let mut text = String::from("upstreams:\n- {id: u, nodes: {'127.0.0.1:1980': 1}}\nroutes:\n");
    for (number, fields) in all.iter().enumerate() {
        text += &format!("- {{id: r{number}, upstream_id: u, {fields}}}\n");
    }
    text
}

#[tokio::test]
async fn a_prefix_of_the_gateway_api_takes_no_path_that_was_anothers() {
    let text = routes(&["uri: /a/*", "uri: /*, plugins: {key-auth: {}}"]);
    let served = Served::new(&text).await;
    assert_eq!(served.status("any.test", "/a/b").await, 200);
    assert_eq!(served.status("any.test", "/a").await, 401);
    assert_eq!(served.status("any.test", "/").await, 401);
}

#[tokio::test]
async fn a_star_without_a_slash_protects_all_that_begins_so() {
    let text = routes(&[
        "uri: /*",
        "uri: /admin*, plugins: {key-auth: {}}",
        "uri: /admin/public/*",
    ]);
    let served = Served::new(&text).await;
    for (path, status) in [
        ("/", 200),
        ("/admin", 401),
        ("/admins", 401),
        ("/admin/x", 401),
        ("/admin/public/x", 200),
    ] {
        assert_eq!(served.status("any.test", path).await, status, "{path}");
    }
}

#[tokio::test]
async fn a_route_that_priority_kept_behind_another_does_not_come_first() {
    let text = routes(&[
        "uri: /a, priority: 10, plugins: {key-auth: {}}",
        "uri: /a, methods: [GET]",
    ]);
    let served = Served::new(&text).await;
    assert_eq!(served.status("any.test", "/a").await, 401);
    assert!(
        served.notes.contains("route \"r1\": priority: "),
        "{}",
        served.notes
    );
}

#[tokio::test]
async fn a_route_that_nobody_gets_to_closes_nothing() {
    let text = routes(&[
        "uri: /a, priority: 10",
        "uri: /a, methods: [GET], plugins: {key-auth: {}}",
    ]);
    let served = Served::new(&text).await;
    assert_eq!(served.status("any.test", "/a").await, 200);
    assert!(
        served.notes.contains("route \"r1\": priority: "),
        "{}",
        served.notes
    );
}

#[test]
fn the_form_of_adc_is_read() {
    let adc = json!({
        "services": [{"name": "s", "hosts": ["s.test"], "plugins": {"key-auth": {}},
            "upstream": {"nodes": [{"host": "127.0.0.1", "port": 1980, "weight": 1}]},
            "routes": [{"name": "r", "uris": ["/r"], "methods": ["GET"]}]}],
        "consumers": [{"username": "a", "credentials": [{"name": "k", "type": "key-auth", "config": {"key": "k"}}]}],
    });
    let (status, manifests, notes) = import(&adc.to_string());
    assert_eq!((status, notes.as_str()), (0, ""));
    for kind in ["HTTPRoute", "AuthPlugin", "Credential"] {
        assert!(
            manifests.contains(&format!("kind: {kind}\n")),
            "{manifests}"
        );
    }
}

#[test]
fn what_is_no_file_of_theirs_is_refused() {
    for text in ["", "a: [", "- 1", "text", "{\"other\": 1}"] {
        assert_eq!(import(text).0, 2, "{text}");
    }
}
