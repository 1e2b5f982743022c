//! Consumers and Credentials.

use super::*;

const OPEN_SESAME: &str = "sha256:41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";

#[test]
fn the_way_through() {
    let world = World::of(SHOP);
    assert_eq!(
        world.keys(""),
        [
            "Consumer/shop/alice",
            "Credential/shop/alice-key",
            "Endpoints/shop/orders/80",
            "Listener/shop/gateway/http",
            "Plugin/shop/api-key",
            "Route/HTTPRoute/shop/orders",
            "Upstream/shop/orders/80",
        ]
    );
    let listener = world.listener("Listener/shop/gateway/http");
    assert_eq!(
        (listener.name.as_str(), listener.port, listener.public_port),
        ("shop/gateway/http", 8000, 8000)
    );
    let route = world.route("Route/HTTPRoute/shop/orders");
    assert_eq!(route.attachments[0].listener, "Listener/shop/gateway/http");
    assert_eq!(route.attachments[0].hostnames, ["shop.test"]);
    assert_eq!(route.rules[0].plugins, ["Plugin/shop/api-key"]);
    assert_eq!(
        route.rules[0].backends[0].upstream,
        "Upstream/shop/orders/80"
    );
    assert_eq!(
        world.endpoints("Endpoints/shop/orders/80"),
        ["10.0.0.1:8080 not ready", "10.0.0.2:8080"]
    );
    let plugin = world.plugin("Plugin/shop/api-key");
    assert_eq!(
        (plugin.r#type.as_str(), plugin.closed.as_str()),
        ("keyAuth", "")
    );
    assert_eq!(plugin.namespaces, ["shop"]);
    let consumer = world.consumer("Consumer/shop/alice").unwrap();
    assert_eq!(consumer.id, "7bce93e1-0000-4000-8000-000000000001");
    assert_eq!(
        (consumer.username.as_str(), consumer.custom_id.as_str()),
        ("alice", "4711")
    );
    assert_eq!(consumer.groups, ["gold"]);
    let credential = world.credential("Credential/shop/alice-key").unwrap();
    assert_eq!(credential.consumer, "Consumer/shop/alice");
    assert_eq!(credential.id, "7bce93e1-0000-4000-8000-000000000002");
    assert_eq!(credential.expires_at, 1006 + 3600);
    assert_eq!(world.diagnostics(), [""; 0]);
    assert_eq!(
        world.condition(Kind::Gateway, "gateway", "Accepted"),
        "True/Accepted"
    );
    assert_eq!(
        world.condition(Kind::Credential, "alice-key", "Programmed"),
        r#"When["Credential/shop/alice-key"]/Programmed"#
    );
    assert_eq!(world.parents("orders", "Accepted"), ["True/Accepted"]);
    assert_eq!(
        world.parents("orders", "ResolvedRefs"),
        ["True/ResolvedRefs"]
    );
    assert_eq!(world.attached("gateway"), [1]);
    assert_eq!(
        world.field(Kind::Consumer, "alice", "credentials"),
        json!(1)
    );
    assert_eq!(
        world.field(Kind::Credential, "alice-key", "expiresAt"),
        json!("1970-01-01T01:16:46Z")
    );
}
