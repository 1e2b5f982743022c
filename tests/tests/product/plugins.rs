//! `AuthPlugin`s: where they attach, which of several counts, and that one that cannot be understood closes its routes.

use harness::objects::{
    consumer, consumer_with_key, gateway, gateway_class, http_listener, key_auth, key_of, object,
    plugin, prefix, route, route_with, to_consumer, to_core, to_route,
};
use harness::raw::{Connection, get};
use harness::{Answer, Rig};
use serde_json::{Value, json};

const CLOSED: &str = "the gateway's configuration of this route is incomplete";

fn realm(answer: &Answer) -> &str {
    assert_eq!(answer.status, 401);
    answer.header("www-authenticate").unwrap()
}

fn at(kind: &str, name: &str, section: Option<&str>) -> Value {
    let mut target = json!({"group": "gateway.networking.k8s.io", "kind": kind, "name": name});
    if let Some(section) = section {
        target["sectionName"] = section.into();
    }
    target
}

#[tokio::test]
async fn the_narrowest_scope_wins() {
    let rules = json!([
        {"name": "named", "matches": [{"path": {"type": "PathPrefix", "value": "/rule"}}], "backendRefs": [{"name": "echo", "port": 80}]},
        prefix("/", "echo"),
    ]);
    let scope =
        |name: &str, target: Value| plugin(name, &[target], "keyAuth", &json!({"realm": name}));
    let mut plugins = vec![
        scope("class", at("GatewayClass", "postern", None)),
        scope("gateway", at("Gateway", "gateway", None)),
        scope("listener", at("Gateway", "gateway", Some("http"))),
        scope("service", to_core("Service", "echo")),
        scope("route", to_route("r")),
        scope("rule", at("HTTPRoute", "r", Some("named"))),
    ];
    let base = [route_with("r", &["s.test"], &rules)];
    let with = |plugins: &[Value]| {
        base.iter()
            .cloned()
            .chain(plugins.to_vec())
            .collect::<Vec<_>>()
    };
    let mut rig = Rig::with(with(&plugins)).await;
    for want in ["rule", "route", "service", "listener", "gateway", "class"] {
        let challenge = format!("Key realm=\"{want}\"");
        assert_eq!(realm(&rig.get("s.test", "/rule").await), challenge);
        // The rule's own plugin is for that rule only.
        if want != "rule" {
            assert_eq!(realm(&rig.get("s.test", "/").await), challenge);
        }
        plugins.pop();
        rig.replace(with(&plugins)).await;
    }
    assert_eq!(rig.get("s.test", "/").await.status, 200);
}

#[tokio::test]
async fn a_listener_keeps_its_plugins_to_itself() {
    let mut build = Rig::build();
    let second = build.port();
    let rig = build
        .listener(http_listener("second", second))
        .objects([
            route("r", "s.test", "echo"),
            plugin(
                "p",
                &[at("Gateway", "gateway", Some("second"))],
                "keyAuth",
                &json!({}),
            ),
        ])
        .start()
        .await;
    assert_eq!(rig.get("s.test", "/").await.status, 200);
    assert_eq!(
        Connection::open(second)
            .await
            .ask(get("s.test", "/", &[]))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn of_two_at_one_scope_the_older_counts_and_the_newer_is_refused() {
    let with_realm = |name: &str| key_auth(name, "r", &json!({"realm": name}));
    let mut rig = Rig::with([route("r", "s.test", "echo"), with_realm("z-older")]).await;
    let both = [
        route("r", "s.test", "echo"),
        with_realm("a-newer"),
        with_realm("z-older"),
    ];
    harness::another_second().await;
    rig.replace(both).await;
    assert_eq!(
        realm(&rig.get("s.test", "/").await),
        "Key realm=\"z-older\""
    );
    rig.postern
        .log_line("the conflict", |l| {
            l.contains("a-newer") && l.contains("z-older")
        })
        .await;
    rig.replace([route("r", "s.test", "echo"), with_realm("a-newer")])
        .await;
    assert_eq!(
        realm(&rig.get("s.test", "/").await),
        "Key realm=\"a-newer\""
    );
}

#[tokio::test]
async fn disabled_means_absent() {
    let mut off = key_auth("p", "r", &json!({}));
    off["spec"]["enabled"] = json!(false);
    let rig = Rig::with([route("r", "s.test", "echo"), off]).await;
    assert_eq!(rig.get("s.test", "/").await.status, 200);
}

#[tokio::test]
async fn annotations_attach_too() {
    let mut by_name = route("r", "s.test", "echo");
    by_name["metadata"]["annotations"] = json!({"postern.dev/plugins": "first, second"});
    let spec = |block: &str, config: Value| json!({block: config});
    let kind = |name: &str, spec: &Value| object("postern.dev/v1alpha1", "AuthPlugin", name, spec);
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([
        by_name,
        kind("first", &spec("keyAuth", json!({}))),
        kind("second", &spec("acl", json!({"allow": ["gold"]}))),
    ]);
    let mut rig = Rig::with(objects.clone()).await;
    assert_eq!(rig.get("s.test", "/").await.status, 401);
    assert_eq!(
        rig.get_with("s.test", "/", &[("apikey", "secret-1")])
            .await
            .status,
        403
    );
    // A name that leads nowhere closes the route.
    objects[3]["metadata"]["annotations"] = json!({"postern.dev/plugins": "first, gone"});
    rig.replace(objects).await;
    let answer = rig.get_with("s.test", "/", &[("apikey", "secret-1")]).await;
    assert_eq!((answer.status, answer.message().as_str()), (500, CLOSED));
}

#[tokio::test]
async fn what_cannot_be_understood_closes_its_routes_and_nothing_else() {
    let broken = |name: &str, target: Value, spec: Value| {
        let mut all = json!({"targetRefs": [target]});
        for (k, v) in spec.as_object().unwrap() {
            all[k] = v.clone();
        }
        object("postern.dev/v1alpha1", "AuthPlugin", name, &all)
    };
    let cases = [
        ("unknown-block", json!({"futureAuth": {}})),
        ("unknown-field", json!({"keyAuth": {"keyNamez": ["x"]}})),
        ("wrong-type", json!({"keyAuth": {"keyInBody": "yes"}})),
        (
            "two-blocks",
            json!({"keyAuth": {}, "acl": {"allow": ["x"]}}),
        ),
        ("no-block", json!({})),
        ("bad-value", json!({"keyAuth": {"keyNames": ["a b"]}})),
        ("spec-field", json!({"keyAuth": {}, "enabeld": true})),
    ];
    let mut objects = vec![
        route("fine", "fine.test", "echo"),
        key_auth("fine", "fine", &json!({})),
    ];
    objects.extend(consumer_with_key("alice", "secret-1"));
    for (name, spec) in &cases {
        objects.push(route(name, &format!("{name}.test"), "echo"));
        objects.push(broken(name, to_route(name), spec.clone()));
    }
    let rig = Rig::with(objects).await;
    for (name, _) in &cases {
        let answer = rig
            .get_with(&format!("{name}.test"), "/", &[("apikey", "secret-1")])
            .await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (500, CLOSED),
            "{name}"
        );
        assert!(answer.header("x-request-id").is_some());
        rig.postern.log_line(name, |l| l.contains(name)).await;
    }
    assert_eq!(
        rig.get_with("fine.test", "/", &[("apikey", "secret-1")])
            .await
            .status,
        200
    );
    assert_eq!(rig.get("fine.test", "/").await.status, 401);
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn a_broken_plugin_of_a_wide_scope_is_not_hidden_by_a_working_one_of_another_type() {
    let broken = plugin(
        "broken",
        &[at("Gateway", "gateway", None)],
        "futureAuth",
        &json!({}),
    );
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([
        route("r", "s.test", "echo"),
        key_auth("fine", "r", &json!({})),
        broken,
    ]);
    let rig = Rig::with(objects).await;
    assert_eq!(
        rig.get_with("s.test", "/", &[("apikey", "secret-1")])
            .await
            .status,
        500
    );
}

#[tokio::test]
async fn acl_lets_groups_pass_or_not() {
    let mut objects = consumer_with_key("gold", "gold-key");
    objects[0]["spec"] = json!({"groups": ["gold", "all"]});
    objects.extend(consumer_with_key("blocked", "blocked-key"));
    objects[3]["spec"] = json!({"groups": ["all", "blocked"]});
    for (name, acl) in [
        (
            "allow",
            json!({"allow": ["gold"], "hideGroupsHeader": true}),
        ),
        ("deny", json!({"deny": ["blocked"]})),
        ("alone", json!({"allow": ["gold"]})),
    ] {
        objects.push(route(name, &format!("{name}.test"), "echo"));
        objects.push(plugin(
            &format!("{name}-acl"),
            &[to_route(name)],
            "acl",
            &acl,
        ));
        if name != "alone" {
            objects.push(key_auth(&format!("{name}-key"), name, &json!({})));
        }
    }
    let rig = Rig::with(objects).await;
    for (host, key, status) in [
        ("allow.test", "gold-key", 200),
        ("allow.test", "blocked-key", 403),
        ("allow.test", "none", 401),
        ("deny.test", "gold-key", 200),
        ("deny.test", "blocked-key", 403),
    ] {
        let answer = rig.get_with(host, "/", &[("apikey", key)]).await;
        assert_eq!(answer.status, status, "{host} {key}");
        if status == 403 {
            assert!(!answer.message().is_empty());
        }
        if (host, status) == ("allow.test", 200) {
            assert_eq!(rig.upstream.last().header("x-consumer-groups"), None);
        }
    }
    // Nobody is authenticated there, so nobody is in a group.
    assert!(matches!(rig.get("alone.test", "/").await.status, 401 | 403));
    assert_eq!(
        rig.upstream.last().header("x-consumer-groups"),
        Some("gold, all")
    );
}

#[tokio::test]
async fn a_consumers_own_acl_is_the_narrowest() {
    let mut objects = consumer_with_key("alice", "alice-key-1");
    objects.extend(consumer_with_key("bob", "bob-key-1"));
    for i in [0, 3] {
        objects[i]["spec"] = json!({"groups": ["staff"]});
    }
    objects.extend([
        route("r", "s.test", "echo"),
        key_auth("key", "r", &json!({})),
        plugin(
            "wide",
            &[to_route("r")],
            "acl",
            &json!({"allow": ["staff"]}),
        ),
        plugin(
            "bobs",
            &[to_consumer("bob")],
            "acl",
            &json!({"allow": ["other"]}),
        ),
    ]);
    let rig = Rig::with(objects).await;
    assert_eq!(
        rig.get_with("s.test", "/", &[("apikey", "alice-key-1")])
            .await
            .status,
        200
    );
    assert_eq!(
        rig.get_with("s.test", "/", &[("apikey", "bob-key-1")])
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn plugins_of_a_service_follow_the_backend_that_was_picked() {
    let mut objects = consumer_with_key("alice", "secret-1");
    let other = harness::Upstream::named("other").await;
    objects.extend(harness::objects::service("other", other.port()));
    objects.extend([
        route_with(
            "r",
            &["s.test"],
            &json!([prefix("/guarded", "other"), prefix("/", "echo")]),
        ),
        plugin("p", &[to_core("Service", "other")], "keyAuth", &json!({})),
    ]);
    let rig = Rig::with(objects).await;
    assert_eq!(rig.get("s.test", "/").await.status, 200);
    assert_eq!(rig.get("s.test", "/guarded").await.status, 401);
    assert_eq!(
        rig.get_with("s.test", "/guarded", &[("apikey", "secret-1")])
            .await
            .status,
        200
    );
    assert_eq!((rig.upstream.count(), other.count()), (1, 1));
}

#[tokio::test]
async fn several_gateways_share_nothing_but_the_process() {
    let port = harness::ports::Port::reserve();
    let mut elsewhere = route("elsewhere", "s.test", "echo");
    elsewhere["spec"]["parentRefs"] = json!([{"name": "other"}]);
    let objects = [
        gateway_class(),
        gateway("other", &[http_listener("http", port.number())]),
        elsewhere,
        route("r", "s.test", "echo"),
        plugin("p", &[at("Gateway", "other", None)], "keyAuth", &json!({})),
        consumer("alice", &json!({})),
    ];
    let rig = Rig::with(objects.into_iter().skip(1).chain(key_of(
        "alice",
        "a",
        "secret-1",
        &json!({}),
    )))
    .await;
    assert_eq!(rig.get("s.test", "/").await.status, 200);
    let mut connection = Connection::open(port.number()).await;
    assert_eq!(connection.ask(get("s.test", "/", &[])).await.status, 401);
    assert_eq!(
        connection
            .ask(get("s.test", "/", &[("apikey", "secret-1")]))
            .await
            .status,
        200
    );
}
