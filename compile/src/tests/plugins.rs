//! AuthPlugins: where they are in force, and what is closed.

use super::*;

fn shop_with(more: &str) -> World {
    World::of(&format!("{SHOP}---{more}"))
}

fn plugin(name: &str, spec: &str) -> String {
    format!(
        "\napiVersion: postern.dev/v1alpha1\nkind: AuthPlugin\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

const ROUTE: &str = "Route/HTTPRoute/shop/orders";
const TO_ROUTE: &str =
    "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]";

fn target(kind: &str, name: &str) -> String {
    let group = match kind {
        "Service" => "",
        "Consumer" => "postern.dev",
        "Ingress" | "IngressClass" => "networking.k8s.io",
        _ => "gateway.networking.k8s.io",
    };
    format!("targetRefs: [{{group: '{group}', kind: {kind}, name: {name}}}]")
}

#[test]
fn each_scope() {
    for (target, list) in [
        (target("GatewayClass", "postern"), "listener"),
        (target("Gateway", "gateway"), "listener"),
        (target("Gateway", "gateway, sectionName: http"), "listener"),
        (target("HTTPRoute", "orders"), "rule"),
        (target("HTTPRoute", "orders, sectionName: all"), "rule"),
        (target("Service", "orders"), "upstream"),
        (target("Consumer", "alice"), "consumer"),
    ] {
        let world = shop_with(&plugin(
            "groups",
            &format!("{{{target}, acl: {{allow: [gold]}}}}"),
        ));
        let has = |plugins: Vec<String>| plugins.contains(&"Plugin/shop/groups".to_owned());
        let found = [
            (
                "listener",
                has(world.listener("Listener/shop/gateway/http").plugins),
            ),
            ("rule", has(world.route(ROUTE).rules[0].plugins.clone())),
            (
                "upstream",
                has(world.upstream("Upstream/shop/orders/80").plugins),
            ),
            (
                "consumer",
                has(world.consumer("Consumer/shop/alice").unwrap().plugins),
            ),
        ];
        for (place, attached) in found {
            assert_eq!(attached, place == list, "{target}: {place}");
        }
        assert_eq!(
            world.condition(Kind::AuthPlugin, "groups", "Accepted"),
            "True/Accepted",
            "{target}"
        );
        assert_eq!(world.diagnostics(), [""; 0]);
    }
}

#[test]
fn the_narrowest_of_a_type_wins_within_a_list() {
    let narrow = plugin(
        "narrow",
        &format!(
            "{{{}, keyAuth: {{}}}}",
            target("HTTPRoute", "orders, sectionName: all")
        ),
    );
    let listener = plugin(
        "one",
        &format!(
            "{{{}, keyAuth: {{}}}}",
            target("Gateway", "gateway, sectionName: http")
        ),
    );
    let gateway = plugin(
        "all",
        &format!("{{{}, keyAuth: {{}}}}", target("Gateway", "gateway")),
    );
    let class = plugin(
        "class",
        &format!(
            "{{{}, acl: {{allow: [a]}}}}",
            target("GatewayClass", "postern")
        ),
    );
    let world = shop_with(&[narrow, listener, gateway, class].join("---"));
    assert_eq!(world.route(ROUTE).rules[0].plugins, ["Plugin/shop/narrow"]);
    let listener = world.listener("Listener/shop/gateway/http");
    assert_eq!(listener.plugins, ["Plugin/shop/one", "Plugin/shop/class"]);
}

#[test]
fn the_older_of_two_of_a_type_wins_a_place() {
    let mut world = shop_with(&plugin(
        "later",
        &format!("{{{TO_ROUTE}, keyAuth: {{hideCredentials: true}}}}"),
    ));
    assert_eq!(world.route(ROUTE).rules[0].plugins, ["Plugin/shop/api-key"]);
    assert_eq!(
        world.condition(Kind::AuthPlugin, "later", "Accepted"),
        "False/Conflicted: HTTPRoute shop/orders has a plugin of this type already, the older AuthPlugin shop/api-key; \
         remove one of them"
    );
    assert!(
        world
            .condition(Kind::AuthPlugin, "later", "Programmed")
            .starts_with("False/Invalid")
    );
    world.delete(Kind::AuthPlugin, "shop", "api-key");
    assert_eq!(world.route(ROUTE).rules[0].plugins, ["Plugin/shop/later"]);
    assert_eq!(
        world.condition(Kind::AuthPlugin, "later", "Accepted"),
        "True/Accepted"
    );
}

#[test]
fn a_disabled_plugin_is_not_in_force() {
    let world = shop_with(&plugin(
        "api-key",
        &format!("{{{TO_ROUTE}, enabled: false, keyAuth: {{}}}}"),
    ));
    assert!(world.route(ROUTE).rules[0].plugins.is_empty());
    assert!(world.keys("Plugin/").is_empty());
    assert_eq!(
        world.condition(Kind::AuthPlugin, "api-key", "Programmed"),
        "False/Disabled: spec.enabled is false"
    );
}

#[test]
fn what_cannot_be_read_closes_what_it_protects() {
    for (spec, expected) in [
        (
            "keyAuth: {keyName: [a]}",
            "spec.keyAuth.keyName: unknown field `keyName`",
        ),
        ("saml: {}", "spec.saml: unknown field `saml`"),
        (
            "keyAuth: {keyInHeader: maybe}",
            "spec.keyAuth.keyInHeader: invalid type: string, expected a boolean",
        ),
        (
            "keyAuth: {}, enabled: perhaps",
            "spec.enabled: invalid type",
        ),
    ] {
        let world = shop_with(&plugin("bad", &format!("{{{TO_ROUTE}, {spec}}}")));
        let rule = world.route(ROUTE).rules[0].clone();
        assert!(rule.deny, "{spec}");
        assert_eq!(
            rule.plugins,
            ["Plugin/shop/bad", "Plugin/shop/api-key"],
            "{spec}"
        );
        let closed = world.plugin("Plugin/shop/bad");
        assert_eq!(closed.r#type, "");
        assert!(
            closed.closed.starts_with(expected),
            "{spec}: {}",
            closed.closed
        );
        let accepted = world.condition(Kind::AuthPlugin, "bad", "Accepted");
        assert!(
            accepted.starts_with(&format!("False/Invalid: {expected}")),
            "{spec}: {accepted}"
        );
        world.assert_diagnostic(&["Error AuthPlugin shop/bad InvalidField", expected]);
    }
    // Nothing says where it belongs: it may be anything in its namespace.
    for (targets, closed) in [
        ("everything", true),
        ("[7]", true),
        ("[{kind: Nothing}]", true),
        ("[{kind: HTTPRoute, name: 7}]", true),
        ("[{kind: Ingress, name: 7}]", false),
    ] {
        let world = shop_with(&plugin(
            "bad",
            &format!("{{targetRefs: {targets}, keyAuth: {{}}}}"),
        ));
        assert_eq!(world.route(ROUTE).rules[0].deny, closed, "{targets}");
        world.assert_diagnostic(&["AuthPlugin shop/bad", "targetRefs cannot be read either"]);
    }
    let mut elsewhere = plugin("bad", "{targetRefs: everything, keyAuth: {}}");
    elsewhere = elsewhere.replace("namespace: shop", "namespace: other");
    let world = shop_with(&elsewhere);
    assert!(!world.route(ROUTE).rules[0].deny, "another namespace");
    // Switched off means off, readable or not.
    let world = shop_with(&plugin(
        "bad",
        &format!("{{{TO_ROUTE}, enabled: false, saml: {{}}}}"),
    ));
    assert!(!world.route(ROUTE).rules[0].deny);
}

#[test]
fn an_unreadable_plugin_closes_every_other_scope_too() {
    let bad = |kind: &str, name: &str| {
        shop_with(&plugin(
            "bad",
            &format!("{{{}, saml: {{}}}}", target(kind, name)),
        ))
    };
    let has = |plugins: Vec<String>| plugins.contains(&"Plugin/shop/bad".to_owned());
    assert!(has(bad("Gateway", "gateway")
        .listener("Listener/shop/gateway/http")
        .plugins));
    assert!(has(bad("GatewayClass", "postern")
        .listener("Listener/shop/gateway/http")
        .plugins));
    assert!(has(bad("Service", "orders")
        .upstream("Upstream/shop/orders/80")
        .plugins));
    assert!(has(bad("Consumer", "alice")
        .consumer("Consumer/shop/alice")
        .unwrap()
        .plugins));
}

#[test]
fn values_that_cannot_be_right_close() {
    for spec in [
        "keyAuth: {keyNames: ['a b']}",
        "keyAuth: {keyInHeader: false, keyInQuery: false}",
        "keyAuth: {realm: ''}",
    ] {
        let world = shop_with(&plugin("api-key", &format!("{{{TO_ROUTE}, {spec}}}")));
        let closed = world.plugin("Plugin/shop/api-key");
        assert_eq!(closed.r#type, "keyAuth", "{spec}");
        assert!(
            closed.closed.starts_with("spec.keyAuth"),
            "{spec}: {}",
            closed.closed
        );
        assert!(
            world
                .condition(Kind::AuthPlugin, "api-key", "Accepted")
                .starts_with("False/Invalid")
        );
        assert!(
            world
                .condition(Kind::AuthPlugin, "api-key", "Programmed")
                .starts_with("False/Invalid")
        );
    }
    let world = shop_with(&plugin(
        "both",
        &format!("{{{TO_ROUTE}, keyAuth: {{}}, acl: {{allow: [a]}}}}"),
    ));
    assert!(world.route(ROUTE).rules[0].deny);
}

#[test]
fn targets_that_are_not_there() {
    for (target, expected) in [
        (
            target("HTTPRoute", "none"),
            "False/TargetNotFound: HTTPRoute shop/none does not exist",
        ),
        (
            target("HTTPRoute", "orders, sectionName: none"),
            "False/TargetNotFound: HTTPRoute shop/orders has no rule named \"none\"",
        ),
        (
            target("Gateway", "gateway, sectionName: none"),
            "False/TargetNotFound: Gateway shop/gateway has no listener named \"none\"",
        ),
        (
            target("GRPCRoute", "orders"),
            "False/TargetNotFound: GRPCRoute shop/orders does not exist",
        ),
        (
            target("IngressClass", "none"),
            "False/TargetNotFound: IngressClass none does not exist",
        ),
        (
            target("Service", "orders, namespace: other"),
            "False/RefNotPermitted: Service other/orders: a ReferenceGrant in namespace other from postern.dev AuthPlugin of \
             namespace shop to Service is needed",
        ),
    ] {
        let other = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]";
        let target = target.replace("}]", &format!("}}, {other}"));
        let world = shop_with(&plugin(
            "groups",
            &format!("{{{target}, acl: {{allow: [a]}}}}"),
        ));
        assert_eq!(
            world.condition(Kind::AuthPlugin, "groups", "Accepted"),
            expected,
            "{target}"
        );
        world.assert_diagnostic(&["Error AuthPlugin shop/groups", "spec.targetRefs[0]"]);
        let plugins = world.route(ROUTE).rules[0].plugins.clone();
        assert_eq!(
            plugins,
            ["Plugin/shop/api-key", "Plugin/shop/groups"],
            "the other target goes on"
        );
    }
}

#[test]
fn a_grant_opens_another_namespace() {
    let grant = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: shop}
spec:
  from: [{group: postern.dev, kind: AuthPlugin, namespace: platform}]
  to: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
";
    let plugin = plugin(
        "groups",
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders, namespace: shop}], acl: {deny: [a]}}",
    )
    .replace("namespace: shop}\nspec", "namespace: platform}\nspec");
    let world = shop_with(&format!("{plugin}---{grant}"));
    assert_eq!(
        world.route(ROUTE).rules[0].plugins,
        ["Plugin/shop/api-key", "Plugin/platform/groups"]
    );
    let world = shop_with(&format!(
        "{plugin}---{}",
        grant.replace("name: orders", "name: other")
    ));
    assert_eq!(world.route(ROUTE).rules[0].plugins, ["Plugin/shop/api-key"]);
}

#[test]
fn annotations_attach_and_close_until_the_plugin_is_there() {
    let groups = plugin("groups", "{acl: {allow: [gold]}}");
    let service = "
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, annotations: {postern.dev/plugins: 'groups, none'}}
spec: {ports: [{name: http, port: 80}]}
";
    let mut world = shop_with(&format!("{groups}---{service}"));
    let upstream = || ["Plugin/shop/none", "Plugin/shop/groups"];
    assert_eq!(
        world.upstream("Upstream/shop/orders/80").plugins,
        upstream()
    );
    assert_eq!(
        world.plugin("Plugin/shop/none").closed,
        "AuthPlugin shop/none does not exist"
    );
    world.assert_diagnostic(&[
        "Error Service shop/orders PluginNotFound metadata.annotations[postern.dev/plugins]",
    ]);
    world.apply(&plugin("none", "{keyAuth: {}}"));
    assert_eq!(
        world.upstream("Upstream/shop/orders/80").plugins,
        upstream()
    );
    assert_eq!(world.plugin("Plugin/shop/none").r#type, "keyAuth");
    assert_eq!(world.diagnostics(), [""; 0]);

    let consumer = "
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: alice, namespace: shop, annotations: {postern.dev/plugins: 'groups, api-key'}}
";
    world.apply(consumer);
    assert_eq!(
        world.consumer("Consumer/shop/alice").unwrap().plugins,
        ["Plugin/shop/groups"]
    );
    world.assert_diagnostic(&[
        "Error AuthPlugin shop/api-key",
        "only acl and upstreamOauth can be attached to a Consumer",
    ]);
    world.apply(&consumer.replace(
        ", annotations: {postern.dev/plugins: 'groups, api-key'}",
        "",
    ));
    assert!(
        world
            .consumer("Consumer/shop/alice")
            .unwrap()
            .plugins
            .is_empty()
    );
}

#[test]
fn a_missing_anonymous_consumer_is_reported_and_closes_nothing() {
    let mut world = shop_with(&plugin(
        "api-key",
        &format!("{{{TO_ROUTE}, keyAuth: {{anonymous: {{name: guest}}}}}}"),
    ));
    let plugin = world.plugin("Plugin/shop/api-key");
    assert_eq!(
        (plugin.closed.as_str(), plugin.anonymous.as_str()),
        ("", "Consumer/shop/guest")
    );
    let missing = "False/ConsumerNotFound: Consumer shop/guest, the anonymous one, does not exist";
    assert_eq!(
        world.condition(Kind::AuthPlugin, "api-key", "ResolvedRefs"),
        missing
    );
    world.apply("\napiVersion: postern.dev/v1alpha1\nkind: Consumer\nmetadata: {name: guest, namespace: shop}\n");
    assert_eq!(
        world.condition(Kind::AuthPlugin, "api-key", "ResolvedRefs"),
        "True/ResolvedRefs"
    );
    world.delete(Kind::Consumer, "shop", "guest");
    assert_eq!(
        world.condition(Kind::AuthPlugin, "api-key", "ResolvedRefs"),
        missing
    );
}

#[test]
fn whose_credentials_count() {
    let spaces = "
apiVersion: v1
kind: Namespace
metadata: {name: partners, labels: {tier: gold}}
---
apiVersion: v1
kind: Namespace
metadata: {name: public}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";
    for (consumers, expected) in [
        ("{from: Same}", &["shop"][..]),
        ("{from: All}", &["partners", "public", "shop"]),
        (
            "{from: Selector, selector: {matchLabels: {tier: gold}}}",
            &["partners"],
        ),
        (
            "{from: Selector, selector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [shop]}]}}",
            &["partners", "public"],
        ),
    ] {
        let plugin = plugin(
            "api-key",
            &format!("{{{TO_ROUTE}, consumers: {consumers}, keyAuth: {{}}}}"),
        );
        let world = World::in_cluster(&format!("{SHOP}---{spaces}---{plugin}"));
        assert_eq!(
            world.plugin("Plugin/shop/api-key").namespaces,
            expected,
            "{consumers}"
        );
    }
}

#[test]
fn a_key_that_two_namespaces_know_is_reported_on_plugins_that_look_into_both() {
    let copy = "
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: copy, namespace: other}
spec:
  consumerRef: {name: bob}
  keyAuth: {hash: 'sha256:41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb'}
---
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: bob, namespace: other}
";
    let mut world = shop_with(copy);
    assert_eq!(
        world.diagnostics(),
        [""; 0],
        "tenants do not disturb one another"
    );
    world.apply(&plugin(
        "api-key",
        &format!("{{{TO_ROUTE}, consumers: {{from: All}}, keyAuth: {{}}}}"),
    ));
    assert_eq!(
        world.plugin("Plugin/shop/api-key").namespaces,
        ["other", "shop"]
    );
    let parts = [
        "Warning AuthPlugin shop/api-key SharedKey",
        "Credential other/copy, Credential shop/alice-key",
    ];
    world.assert_diagnostic(&parts);
    world.delete(Kind::Credential, "other", "copy");
    assert_eq!(world.diagnostics(), [""; 0]);
}
