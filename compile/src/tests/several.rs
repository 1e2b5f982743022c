//! Several methods: what `anyOf` refers to, what is told of its credentials, and where plugins come from.

use super::*;

fn plugin(name: &str, spec: &str) -> String {
    format!(
        "\napiVersion: postern.dev/v1alpha1\nkind: AuthPlugin\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

fn shop_with(more: &str) -> World {
    World::of(&format!("{SHOP}---{more}"))
}

const TO_ROUTE: &str =
    "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]";

#[test]
fn the_anonymous_consumer_of_the_last_method_is_the_plugins() {
    let methods = "anyOf: [{jwt: {}}, {keyAuth: {anonymous: {name: guest}}}]";
    let mut world = shop_with(&plugin("either", &format!("{{{TO_ROUTE}, {methods}}}")));
    let sent = world.plugin("Plugin/shop/either");
    assert_eq!(sent.r#type, "anyOf");
    assert_eq!(sent.anonymous, "Consumer/shop/guest");
    assert_eq!(sent.closed, "");
    assert!(!sent.same_consumer);
    let field = "spec.anyOf[1].keyAuth.anonymous.name";
    world.assert_diagnostic(&["Error AuthPlugin shop/either ConsumerNotFound", field]);
    world.apply(
        "apiVersion: postern.dev/v1alpha1\nkind: Consumer\nmetadata: {name: guest, namespace: shop}\nspec: {}\n",
    );
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn a_key_that_two_namespaces_know_is_reported_on_any_of_its_methods() {
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
    let methods = "consumers: {from: All}, anyOf: [{jwt: {}}, {keyAuth: {}}]";
    let either = plugin("either", &format!("{{{TO_ROUTE}, {methods}}}"));
    let mut world = shop_with(&format!("{copy}---{either}"));
    let parts = [
        "Warning AuthPlugin shop/either SharedKey",
        "Credential other/copy, Credential shop/alice-key",
    ];
    world.assert_diagnostic(&parts);
    world.delete(Kind::Credential, "other", "copy");
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn a_plugin_that_minds_another_consumer_says_so() {
    let minds = "consumers: {ifDifferent: Refuse}, keyAuth: {}";
    let world = shop_with(&plugin("key", &format!("{{{TO_ROUTE}, {minds}}}")));
    assert!(world.plugin("Plugin/shop/key").same_consumer);
}

#[test]
fn what_a_plugin_is_attached_to_is_told_with_it() {
    let section = TO_ROUTE.replace("orders}", "orders, sectionName: all}");
    let gateway = TO_ROUTE.replace("HTTPRoute, name: orders", "Gateway, name: gateway");
    let plugins = [
        plugin("route", &format!("{{{TO_ROUTE}, keyAuth: {{}}}}")),
        plugin("rule", &format!("{{{section}, acl: {{allow: [gold]}}}}")),
        plugin("gateway", &format!("{{{gateway}, jwt: {{}}}}")),
    ];
    let world = shop_with(&plugins.join("---"));
    let rule = &world.route("Route/HTTPRoute/shop/orders").rules[0];
    assert_eq!(rule.plugins, ["Plugin/shop/api-key", "Plugin/shop/rule"]);
    assert_eq!(
        rule.plugin_places,
        ["HTTPRoute shop/orders", "HTTPRoute shop/orders (all)"]
    );
    let listener = world.listener("Listener/shop/gateway/http");
    assert_eq!(listener.plugins, ["Plugin/shop/gateway"]);
    assert_eq!(listener.plugin_places, ["Gateway shop/gateway"]);
}

const SIGN_IN: &str = "openidConnect: {clientId: a, clientSecretRef: {name: client, key: secret}, \
                       discovery: 'https://idp.test/.well-known/openid-configuration'}";

/// What the methods of a list refer to is found, generated and judged like what a plugin of its own refers to.
#[test]
fn what_methods_refer_to_is_sent_under_their_paths() {
    let methods = format!(
        "anyOf: [{{keyAuth: {{}}}}, {{oauth2: {{enableClientCredentials: true}}}}, {{{SIGN_IN}}}]"
    );
    let mut world = shop_with(&plugin("either", &format!("{{{TO_ROUTE}, {methods}}}")));
    let [wanted] = world.last.wanted_secrets.as_slice() else {
        panic!("{:?}", world.last.wanted_secrets)
    };
    assert_eq!(
        (&*wanted.name, wanted.entries.as_slice()),
        ("either", &["provisionKey", "sessionSecret"][..])
    );
    let uid = wanted.owner_uid.to_string();
    assert_eq!(
        world.condition(Kind::AuthPlugin, "either", "ResolvedRefs"),
        "False/Pending: a provisionKey and sessionSecret is being generated into Secret shop/either"
    );
    let generated = |session: &str| {
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{name: either, namespace: shop, ownerReferences: [{{apiVersion: a, kind: b, name: either, uid: '{uid}'}}]}}
stringData: {{provisionKey: made, sessionSecret: {session}}}
"
        )
    };
    world.apply(&generated("made-of-enough-letters"));
    assert!(world.last.wanted_secrets.is_empty());
    let field = "spec.anyOf[2].openidConnect.clientSecretRef";
    world.assert_diagnostic(&["Error AuthPlugin shop/either SecretNotFound", field]);
    world.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: client, namespace: shop}\nstringData: {secret: hunter2}\n",
    );
    let sent = world.plugin("Plugin/shop/either");
    assert_eq!(sent.closed, "");
    let references: Vec<_> = sent
        .references
        .iter()
        .map(|one| (&*one.field, &*one.key))
        .collect();
    assert_eq!(
        references,
        [
            (
                "[1].oauth2.provisionKeySecretRef",
                "Secret/shop/either/provisionKey"
            ),
            (
                "[2].openidConnect.clientSecretRef",
                "Secret/shop/client/secret"
            ),
            (
                "[2].openidConnect.session.secretRef",
                "Secret/shop/either/sessionSecret"
            ),
        ]
    );
    assert_eq!(
        world.field(Kind::AuthPlugin, "either", "secretName"),
        json!("either")
    );
    world.apply(&generated("short"));
    let field = "spec.anyOf[2].openidConnect.session.secretRef";
    world.assert_diagnostic(&["Error AuthPlugin shop/either InvalidValue", field]);
    assert!(
        world
            .plugin("Plugin/shop/either")
            .closed
            .contains("at least 16 characters")
    );
}

#[test]
fn lists_that_cannot_work_are_closed() {
    for (methods, message) in [
        (
            "{oauth2: {enableClientCredentials: true}}, {oauth2: {enableImplicitGrant: true}}"
                .to_owned(),
            "anyOf takes oauth2 once",
        ),
        (
            format!("{{{SIGN_IN}}}, {{keyAuth: {{anonymous: {{name: guest}}}}}}"),
            "with anonymous nobody is ever sent to sign in",
        ),
    ] {
        let spec = format!("{{{TO_ROUTE}, anyOf: [{methods}]}}");
        let world = shop_with(&plugin("either", &spec));
        world.assert_diagnostic(&["Error AuthPlugin shop/either InvalidField", "spec.anyOf"]);
        assert!(
            world.plugin("Plugin/shop/either").closed.contains(message),
            "{methods}"
        );
    }
}
