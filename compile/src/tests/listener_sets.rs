//! ListenerSets and TLSRoutes.

use super::*;

fn gateway(allowed: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gateway, namespace: shop}}
spec:
  gatewayClassName: postern
  {allowed}
  listeners:
  - {{name: http, port: 8000, protocol: HTTP, hostname: own.test}}
"
    )
}

const SAME: &str = "allowedListeners: {namespaces: {from: Same}}";

fn set(name: &str, listeners: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRef: {{name: gateway}}
  listeners: {listeners}
"
    )
}

fn route(name: &str, parent: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{parent}]
  rules: [{{backendRefs: [{{name: orders, port: 80}}]}}]
"
    )
}

fn condition(world: &World, set: &str, kind: &str) -> String {
    let StatusBody::ListenerSet { conditions, .. } = world.status(Kind::ListenerSet, "shop", set)
    else {
        panic!()
    };
    shown(conditions, kind)
}

fn of_listener(world: &World, set: &str, listener: &str, kind: &str) -> (String, i32) {
    let StatusBody::ListenerSet { listeners, .. } = world.status(Kind::ListenerSet, "shop", set)
    else {
        panic!()
    };
    let found = listeners.iter().find(|one| one.name == listener).unwrap();
    (shown(&found.conditions, kind), found.attached_routes)
}

fn attached_sets(world: &World) -> i32 {
    let StatusBody::Gateway { attached_sets, .. } = world.status(Kind::Gateway, "shop", "gateway")
    else {
        panic!()
    };
    *attached_sets
}

#[test]
fn a_set_adds_listeners_and_routes_name_it() {
    let world = World::of(&format!(
        "{}{}{}{}{}",
        gateway(SAME),
        set(
            "more",
            "[{name: a, port: 8000, protocol: HTTP, hostname: a.test}]"
        ),
        route("to-set", "{kind: ListenerSet, name: more}"),
        route("to-gateway", "{name: gateway}"),
        route("astray", "{name: gateway, sectionName: a}"),
    ));
    assert_eq!(
        world.keys("Listener/"),
        ["Listener/shop/gateway/http", "Listener/shop/set:more/a"]
    );
    assert_eq!(condition(&world, "more", "Accepted"), "True/Accepted");
    assert!(condition(&world, "more", "Programmed").starts_with("When"));
    assert_eq!(
        of_listener(&world, "more", "a", "Accepted"),
        ("True/Accepted".into(), 1)
    );
    assert_eq!(
        (world.attached("gateway"), attached_sets(&world)),
        (vec![1], 1)
    );
    let attachments = &world.route("Route/HTTPRoute/shop/to-set").attachments;
    assert_eq!(attachments[0].listener, "Listener/shop/set:more/a");
    assert_eq!(attachments[0].hostnames, ["a.test"]);
    assert_eq!(world.parents("to-set", "Accepted"), ["True/Accepted"]);
    assert!(world.parents("astray", "Accepted")[0].starts_with("False/NoMatchingParent"));
}

#[test]
fn a_gateway_says_whose_sets_it_takes() {
    for (allowed, expected) in [
        ("", "False/NotAllowed"),
        (
            "allowedListeners: {namespaces: {from: None}}",
            "False/NotAllowed",
        ),
        (SAME, "True/Accepted"),
        (
            "allowedListeners: {namespaces: {from: All}}",
            "True/Accepted",
        ),
    ] {
        let world = World::of(&format!(
            "{}{}",
            gateway(allowed),
            set(
                "more",
                "[{name: a, port: 8000, protocol: HTTP, hostname: a.test}]"
            ),
        ));
        for kind in ["Accepted", "Programmed"] {
            let found = condition(&world, "more", kind);
            assert!(
                found.starts_with(expected) || found.starts_with("When"),
                "{allowed} {kind}: {found}"
            );
        }
        assert_eq!(
            attached_sets(&world),
            i32::from(expected.starts_with("True"))
        );
    }
}

#[test]
fn the_gateways_own_listeners_and_then_older_sets_come_first() {
    let world = World::of(&format!(
        "{}{}{}",
        gateway(SAME),
        set(
            "older",
            "[{name: a, port: 8000, protocol: HTTP, hostname: own.test}, {name: b, port: 8000, protocol: HTTP, hostname: b.test}]"
        ),
        set(
            "newer",
            "[{name: c, port: 8000, protocol: HTTP, hostname: b.test}]"
        ),
    ));
    assert_eq!(
        world.listener_condition("gateway", "http", "Accepted"),
        "True/Accepted"
    );
    for (set, listener, expected) in [
        ("older", "a", "False/HostnameConflict"),
        ("older", "b", "True/Accepted"),
        ("newer", "c", "False/HostnameConflict"),
    ] {
        let (found, _) = of_listener(&world, set, listener, "Accepted");
        assert!(found.starts_with(expected), "{set} {listener}: {found}");
    }
    assert!(condition(&world, "older", "Accepted").starts_with("True/ListenersNotValid"));
    assert!(condition(&world, "newer", "Accepted").starts_with("False/ListenersNotValid"));
    assert!(condition(&world, "newer", "Programmed").starts_with("False/ListenersNotValid"));
    assert_eq!(attached_sets(&world), 1);
}

#[test]
fn tls_routes_attach_to_listeners_for_tls_only() {
    let world = World::of(&format!(
        "{SHOP}---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: tls, namespace: shop}}
spec:
  gatewayClassName: postern
  listeners:
  - {{name: pass, port: 9443, protocol: TLS, tls: {{mode: Passthrough}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {{name: db, namespace: shop}}
spec:
  parentRefs: [{{name: tls}}, {{name: gateway}}]
  hostnames: [db.test]
  rules: [{{backendRefs: [{{name: orders, port: 80, weight: 3}}]}}]
"
    ));
    let listener = world.listener("Listener/shop/tls/pass");
    assert_eq!(
        (listener.protocol(), listener.passthrough),
        (proto::Protocol::Tls, true)
    );
    let route = world.route("Route/TLSRoute/shop/db");
    assert_eq!(route.attachments.len(), 1);
    assert_eq!(route.attachments[0].hostnames, ["db.test"]);
    assert_eq!(route.rules[0].backends[0].weight, 3);
    let StatusBody::Route { parents } = world.status(Kind::TlsRoute, "shop", "db") else {
        panic!()
    };
    let accepted: Vec<_> = parents
        .iter()
        .map(|parent| shown(&parent.conditions, "Accepted"))
        .collect();
    assert_eq!(accepted[0], "True/Accepted");
    assert!(
        accepted[1].starts_with("False/NotAllowedByListeners"),
        "{accepted:?}"
    );
}

#[test]
fn a_protocol_that_is_not_supported_has_no_place_beside_one_that_is() {
    let world = World::of(&format!(
        "{}{}",
        gateway(SAME),
        set("more", "[{name: a, port: 8000, protocol: TCP}]"),
    ));
    for kind in ["Accepted", "Programmed"] {
        let (found, _) = of_listener(&world, "more", "a", kind);
        assert!(found.starts_with("False/ProtocolConflict"), "{found}");
    }
    assert_eq!(
        world.listener_condition("gateway", "http", "Accepted"),
        "True/Accepted"
    );
}
