//! Plugins on the way, and what the upstream learns from them.

use std::collections::HashMap;
use std::sync::Arc;

use plugins::directory::{Changes, Directory, KeyId, NewConsumer, NewKey, digest_of};
use plugins::handler::{BuildContext, Handler, Values};
use plugins::{Config, Type, acl, key_auth};
use snapshot::proto::upstream::Scheme;

use super::support::{Backstage, Gateway, forward_to, free_port, header, routes};
use crate::metrics::Metrics;
use crate::runtime::{Chain, ChainPlugin, PathEdit, Redirect, RequestFilter, Rewrite, Rule};

const CONSUMER_ID: &str = "7bce93e1-5d2b-4f0e-9a3f-1f2e3d4c5b6a";

/// alice (gold) with the key "k1", bob (silver) with "k2" and an acl of his own that asks for gold.
fn directory() -> Arc<Directory> {
    let directory = Directory::default();
    let mut changes = Changes::default();
    for (name, id, group, key, plugins) in [
        ("alice", CONSUMER_ID, "gold", "k1", Vec::new()),
        (
            "bob",
            "7bce93e1-5d2b-4f0e-9a3f-1f2e3d4c5b6b",
            "silver",
            "k2",
            vec!["Plugin/shop/only-gold".to_owned()],
        ),
        (
            "carol",
            "7bce93e1-5d2b-4f0e-9a3f-1f2e3d4c5b6c",
            "gold",
            "k3",
            vec!["Plugin/shop/gone".to_owned()],
        ),
    ] {
        let consumer = KeyId::of(&format!("Consumer/shop/{name}"));
        changes.put_consumer(
            consumer,
            NewConsumer::new(id, name, "", &[group.to_owned()], &plugins).unwrap(),
        );
        let key = NewKey {
            key: KeyId::of(&format!("Credential/shop/{name}")),
            namespace: "shop",
            digest: digest_of(key.as_bytes()),
            id: uuid::Uuid::nil(),
            consumer,
            not_before: 0,
            expires_at: 0,
        };
        directory.put_key(&mut changes, &key);
    }
    directory.apply(changes);
    Arc::new(directory)
}

fn plugin(
    metrics: &Arc<Metrics>,
    directory: &Directory,
    name: &str,
    config: Config,
) -> Arc<ChainPlugin> {
    let kind = config.kind();
    let context = BuildContext {
        key: name,
        id: name,
        namespaces: directory.namespaces(["shop"]),
        anonymous: None,
        values: Values::new(&[]),
        services: &crate::background::for_tests(),
    };
    let handler = Handler::build(config, context)
        .map(Arc::new)
        .map_err(Arc::from);
    let name: Arc<str> = name.into();
    Arc::new(ChainPlugin {
        metrics: metrics.plugin(&name, kind.name()),
        name,
        kind: Some(kind),
        handler,
        same_consumer: false,
    })
}

fn allow(group: &str) -> Config {
    Config::Acl(acl::Config {
        allow: vec![group.to_owned()],
        ..acl::Config::default()
    })
}

fn key_auth() -> Config {
    Config::KeyAuth(key_auth::Config::default())
}

/// `/private` asks for a key, `/silver` for a member of silver, `/closed` has a plugin that nobody can read, `/moved`
/// redirects those with a key, `/open` is open.
fn gateway(backstage: &Backstage) -> Gateway {
    let (metrics, directory, port) = (Metrics::new(1), directory(), free_port());
    let rule = |plugins: Vec<Arc<ChainPlugin>>| {
        let mut rule = forward_to(&metrics, Scheme::Http1, &[backstage.address]);
        rule.backends[0].chain = Arc::new(Chain {
            plugins: plugins.clone(),
            ..Chain::default()
        });
        rule.redirect_chain = Arc::new(Chain {
            plugins,
            ..Chain::default()
        });
        rule
    };
    let key = plugin(&metrics, &directory, "shop/api-key", key_auth());
    let closed: Arc<str> = "the Secret shop/x does not exist".into();
    let closed = Arc::new(ChainPlugin {
        name: "shop/closed".into(),
        kind: None,
        handler: Err(closed),
        same_consumer: false,
        metrics: metrics.plugin(&"shop/closed".into(), ""),
    });
    let silver = plugin(&metrics, &directory, "shop/only-silver", allow("silver"));
    let gold = plugin(&metrics, &directory, "shop/only-gold", allow("gold"));
    let moved = Redirect {
        scheme: Some("https".into()),
        hostname: None,
        path: Some(PathEdit::Prefix("/new".into())),
        port: None,
        status: http::StatusCode::MOVED_PERMANENTLY,
    };
    let rewrite = Rewrite {
        hostname: None,
        path: Some(PathEdit::Prefix("/private".into())),
    };
    let router = routes(vec![
        ("/private", rule(vec![Arc::clone(&key)])),
        ("/silver", rule(vec![Arc::clone(&key), silver])),
        ("/closed", rule(vec![closed])),
        (
            "/moved",
            Rule {
                redirect: Some(moved),
                ..rule(vec![key])
            },
        ),
        (
            "/rewritten",
            Rule {
                request_filters: vec![RequestFilter::Rewrite(rewrite)],
                ..rule(Vec::new())
            },
        ),
        ("/open", rule(Vec::new())),
    ]);
    let mut runtime = Gateway::runtime_of([(port, None, router)]);
    runtime.directory = directory;
    runtime.plugins = HashMap::from([("Plugin/shop/only-gold".into(), gold)]);
    Gateway::with_runtime(&[], port, metrics, runtime)
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
}

#[tokio::test]
async fn a_key_opens_its_route_and_tells_the_upstream_who_calls() {
    let backstage = Backstage::echo().await;
    let gateway = gateway(&backstage);
    let answer = gateway.get(&get("/private", "")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Key"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(answer.body, r#"{"message":"No API key found in request"}"#);
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
    assert_eq!(
        gateway
            .get(&get("/private", "apikey: wrong\r\n"))
            .await
            .status,
        401
    );
    assert_eq!(backstage.requests(), Vec::<String>::new());
    let forged = "apikey: k1\r\nX-Consumer-Username: root\r\nX_Consumer_Groups: admin\r\nConnection: X-Consumer-ID\r\n";
    assert_eq!(gateway.get(&get("/private", forged)).await.status, 200);
    let request = backstage.only();
    assert_eq!(header(&request, "x-consumer-id"), Some(CONSUMER_ID));
    assert_eq!(header(&request, "x-consumer-username"), Some("alice"));
    assert_eq!(header(&request, "x-consumer-groups"), Some("gold"));
    assert!(header(&request, "x-credential-identifier").is_some());
    assert!(!request.contains("root") && !request.contains("admin"));
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_round_its_plugins() {
    let backstage = Backstage::echo().await;
    let gateway = gateway(&backstage);
    for start in [
        "",
        "/",
        "/.",
        "/open/..",
        "/open/%2e%2e",
        "/open/.%2E/.",
        "/open/x/../..",
        "/%2e",
        "//./",
        "/open//..",
    ] {
        for name in [
            "/private",
            "/%70rivate",
            "/priv%61te",
            "/private/",
            "/private/.",
            "/private/x/..",
            "/private//x",
        ] {
            for end in [
                "",
                "/x",
                "?x=/open",
                "/;x=/open",
                "/../private",
                "?/../open",
            ] {
                let path = format!("{start}{name}{end}");
                let answer = gateway.get(&get(&path, "")).await;
                assert!(
                    matches!(answer.status, 400 | 401),
                    "{path}: {}",
                    answer.status
                );
            }
        }
    }
    for path in [
        "/open%2f..%2fprivate",
        "/open/..;/private",
        "/open\\..\\private",
        "/open/..%5cprivate",
        "/open/%2e%2e;x/private",
    ] {
        assert_eq!(gateway.get(&get(path, "")).await.status, 400, "{path}");
    }
    assert_eq!(backstage.requests(), Vec::<String>::new());
    assert_eq!(gateway.get(&get("/private/../open", "")).await.status, 200);
    assert!(
        backstage.only().starts_with("GET /open HTTP/1.1\r\n"),
        "matched and forwarded are the same"
    );
}

#[tokio::test]
async fn forwarding_headers_do_not_change_a_decision() {
    let backstage = Backstage::echo().await;
    let gateway = gateway(&backstage);
    for name in [
        "Uri",
        "Prefix",
        "Method",
        "Host",
        "For",
        "Proto",
        "Port",
        "User",
        "Groups",
        "Client-Cert",
    ] {
        for value in ["/open", "OPTIONS", "127.0.0.1", "kube-probe/1.0"] {
            let lines = format!(
                "X-Forwarded-{name}: {value}\r\nX-Original-URL: /open\r\nUser-Agent: kube-probe/1.0\r\n"
            );
            assert_eq!(
                gateway.get(&get("/private", &lines)).await.status,
                401,
                "{name}"
            );
        }
    }
    for method in ["HEAD", "OPTIONS", "POST", "PROPFIND"] {
        let request = get("/private", "X-HTTP-Method-Override: OPTIONS\r\n").replace("GET", method);
        let mut client = gateway.client().await;
        client
            .send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
            .await;
        assert!(client.rest().await.starts_with("HTTP/1.1 401"), "{method}");
    }
    assert_eq!(backstage.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn groups_decide_and_a_consumers_own_plugin_stands_in() {
    let backstage = Backstage::echo().await;
    let gateway = gateway(&backstage);
    assert_eq!(
        gateway.get(&get("/silver", "apikey: k1\r\n")).await.status,
        403,
        "alice is gold"
    );
    assert_eq!(
        gateway.get(&get("/silver", "apikey: k2\r\n")).await.status,
        403,
        "bob's own acl wins and asks for gold"
    );
    assert_eq!(
        gateway.get(&get("/private", "apikey: k2\r\n")).await.status,
        403,
        "it also counts where the route has none"
    );
    let answer = gateway.get(&get("/private", "apikey: k3\r\n")).await;
    assert_eq!(answer.status, 500, "a plugin of carol's is not there");
    assert_eq!(backstage.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_resolved_stays_closed() {
    let backstage = Backstage::echo().await;
    let gateway = gateway(&backstage);
    let answer = gateway.get(&get("/closed", "apikey: k1\r\n")).await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.body,
        r#"{"message":"the gateway's configuration of this route is incomplete"}"#
    );
    assert_eq!(gateway.get(&get("/elsewhere", "")).await.status, 404);
    assert_eq!(backstage.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn redirects_ask_first_and_rewrites_change_what_is_forwarded() {
    let backstage = Backstage::echo().await;
    let gateway = gateway(&backstage);
    assert_eq!(gateway.get(&get("/moved/x?y", "")).await.status, 401);
    let answer = gateway.get(&get("/moved/x?y", "apikey: k1\r\n")).await;
    assert_eq!(answer.status, 301);
    assert_eq!(answer.header("location"), Some("https://a.test/new/x?y"));
    assert_eq!(
        gateway.get(&get("/rewritten/x?y=%2f", "")).await.status,
        200
    );
    assert!(
        backstage
            .only()
            .starts_with("GET /private/x?y=%2f HTTP/1.1\r\n")
    );
}

#[test]
fn plugins_run_in_the_order_of_their_types() {
    assert!(
        Type::KeyAuth < Type::Acl && Type::KeyAuth.authenticates() && !Type::Acl.authenticates()
    );
}
