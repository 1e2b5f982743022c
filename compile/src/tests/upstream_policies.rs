//! How endpoints are treated.

use super::*;

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: postern.dev/v1alpha1
kind: UpstreamPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"
    )
}

fn of(world: &World) -> Option<proto::UpstreamPolicy> {
    world.upstream("Upstream/shop/orders/80").policy
}

#[test]
fn a_policy_is_told_with_the_upstreams_of_its_service() {
    let spec = "{targetRefs: [{name: orders}], slowStartSeconds: 20, passiveHealth: {consecutiveFailures: 3}}";
    let mut world = World::of(&format!("{SHOP}{}", policy("one", spec)));
    let told = of(&world).unwrap();
    assert_eq!(
        (told.max_unhealthy_percent, told.slow_start_ms),
        (50, 20_000)
    );
    let passive = told.passive_health.unwrap();
    assert_eq!(
        (
            passive.consecutive_failures,
            passive.ejection_ms,
            passive.max_ejection_ms
        ),
        (3, 30_000, 300_000)
    );
    assert_eq!(passive.statuses, [502, 503, 504]);
    let condition = |world: &World, kind| world.condition(Kind::UpstreamPolicy, "one", kind);
    assert_eq!(condition(&world, "Accepted"), "True/Accepted");
    assert_eq!(
        condition(&world, "Programmed"),
        "When[\"Upstream/shop/orders/80\"]/Programmed"
    );
    assert_eq!(world.diagnostics(), [""; 0]);
    world.delete(Kind::HttpRoute, "shop", "orders");
    assert!(
        condition(&world, "Programmed").starts_with("False/Invalid: it is in force for no Service")
    );
    world.delete(Kind::UpstreamPolicy, "shop", "one");
    assert!(
        !world
            .statuses
            .keys()
            .any(|of| of.kind == Kind::UpstreamPolicy)
    );
}

#[test]
fn of_two_policies_for_a_service_the_older_counts_until_it_is_gone() {
    let two = |spec: &str, other: &str| {
        format!(
            "{SHOP}{}{}",
            policy("z-older", spec),
            policy("a-newer", other)
        )
    };
    let mut world = World::of(&two(
        "{targetRefs: [{name: orders}], maxUnhealthyPercent: 10}",
        "{targetRefs: [{name: orders}], maxUnhealthyPercent: 20}",
    ));
    assert_eq!(of(&world).unwrap().max_unhealthy_percent, 10);
    let accepted = world.condition(Kind::UpstreamPolicy, "a-newer", "Accepted");
    assert!(
        accepted.starts_with(
            "False/Conflicted: Service shop/orders has an older policy, UpstreamPolicy shop/z-older"
        ),
        "{accepted}"
    );
    world.assert_diagnostic(&["a-newer", "Conflicted", "spec.targetRefs[0]"]);
    world.delete(Kind::UpstreamPolicy, "shop", "z-older");
    assert_eq!(of(&world).unwrap().max_unhealthy_percent, 20);
    assert_eq!(
        world.condition(Kind::UpstreamPolicy, "a-newer", "Accepted"),
        "True/Accepted"
    );
}

#[test]
fn a_policy_that_cannot_be_read_keeps_its_place_and_says_why() {
    for (spec, says) in [
        (
            "{targetRefs: [{name: orders}], maxUnhealthyPercent: 101}",
            "spec.maxUnhealthyPercent: must be between 0 and 100, it is 101",
        ),
        (
            "{targetRefs: [{name: orders}], slowStart: 1}",
            "unknown field `slowStart`",
        ),
    ] {
        let newer = policy("newer", "{targetRefs: [{name: orders}]}");
        let world = World::of(&format!("{SHOP}{}{newer}", policy("bad", spec)));
        assert_eq!(of(&world), None, "{spec}");
        let accepted = world.condition(Kind::UpstreamPolicy, "bad", "Accepted");
        assert!(
            accepted.starts_with("False/Invalid: ") && accepted.contains(says),
            "{accepted}"
        );
        assert!(
            world
                .condition(Kind::UpstreamPolicy, "newer", "Accepted")
                .starts_with("False/Conflicted")
        );
    }
}

#[test]
fn a_service_that_is_not_there_is_said() {
    let spec = "{targetRefs: [{name: nowhere}, {name: orders}]}";
    let world = World::of(&format!("{SHOP}{}", policy("one", spec)));
    let accepted = world.condition(Kind::UpstreamPolicy, "one", "Accepted");
    assert_eq!(
        accepted,
        "False/TargetNotFound: Service shop/nowhere does not exist"
    );
    assert!(of(&world).is_some());
}

#[test]
fn keys_are_told_and_what_is_not_said_is_filled_in() {
    let told = |hash: &str| {
        let spec = format!("{{targetRefs: [{{name: orders}}], consistentHash: {hash}}}");
        let world = World::of(&format!("{SHOP}{}", policy("one", &spec)));
        of(&world).unwrap().consistent_hash.unwrap()
    };
    use proto::hash_key::Key;
    let key = |of: &proto::ConsistentHash| of.key.clone().unwrap().key.unwrap();
    let header = told("{header: x-a}");
    assert_eq!(
        (key(&header), header.max_load_percent),
        (Key::Header("x-a".into()), 125)
    );
    let address = told("{clientAddress: {}, maxLoadPercent: 200}");
    assert_eq!(
        (key(&address), address.max_load_percent),
        (Key::ClientAddress(true), 200)
    );
    let cookie = told("{cookie: {}}");
    let usual = proto::HashCookie {
        name: "postern-affinity".into(),
        path: "/".into(),
        max_age: 0,
    };
    assert_eq!(
        (key(&cookie), cookie.max_load_percent),
        (Key::Cookie(usual), 0)
    );
}

#[test]
fn an_annotation_of_an_ingress_asks_for_a_ring_without_any_policy() {
    let ingress = |annotations: &str| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: orders, namespace: shop}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: sticky, namespace: shop, annotations: {{{annotations}}}}}
spec:
  ingressClassName: postern
  rules:
  - host: sticky.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: orders, port: {{number: 80}}}}}}}}]}}
"
        )
    };
    let world = World::of(&ingress(
        "postern.dev/affinity: cookie, postern.dev/session-cookie-max-age: '60'",
    ));
    let told = of(&world).unwrap();
    assert_eq!(
        (told.consistent_hash, told.max_unhealthy_percent),
        (Some(proto::ConsistentHash::default()), 50)
    );
    let rule = &world.route("Route/Ingress/shop/sticky").rules[0];
    let cookie = proto::HashCookie {
        name: "INGRESSCOOKIE".into(),
        path: "/".into(),
        max_age: 60,
    };
    assert_eq!(
        rule.affinity.clone().unwrap().key,
        Some(proto::hash_key::Key::Cookie(cookie))
    );
    for bad in [
        "affinity: address",
        "session-cookie-name: 'a b'",
        "session-cookie-path: a",
        "session-cookie-max-age: '0'",
    ] {
        let world = World::of(&ingress(&format!("postern.dev/{bad}")));
        let rule = &world.route("Route/Ingress/shop/sticky").rules[0];
        assert!(
            rule.invalid.contains(bad.split(':').next().unwrap()),
            "{bad}: {}",
            rule.invalid
        );
        assert_eq!(of(&world), None);
    }
}
