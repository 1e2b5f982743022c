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
