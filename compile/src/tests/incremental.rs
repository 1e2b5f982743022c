//! What a change costs, in messages.

use super::*;

fn upserts(world: &World) -> Vec<String> {
    world
        .last
        .diff
        .upserts
        .keys()
        .map(ToString::to_string)
        .collect()
}

fn removals(world: &World) -> Vec<String> {
    world
        .last
        .diff
        .removals
        .iter()
        .map(ToString::to_string)
        .collect()
}

const CREDENTIAL: &str = "
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: second, namespace: shop}
spec:
  consumerRef: {name: alice}
  keyAuth: {hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}
";

#[test]
fn a_credential_is_a_difference_of_one_resource() {
    let mut world = World::of(SHOP);
    world.apply(CREDENTIAL);
    assert_eq!(upserts(&world), ["Credential/shop/second"]);
    assert!(removals(&world).is_empty());
    let statuses: Vec<_> = world
        .last
        .statuses
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        statuses,
        ["Consumer shop/alice", "Credential shop/second"],
        "the Consumer counts it"
    );
    world.apply(&CREDENTIAL.replace("spec:", "spec:\n  ttl: 60"));
    assert_eq!(upserts(&world), ["Credential/shop/second"]);
    world.delete(Kind::Credential, "shop", "second");
    assert_eq!(removals(&world), ["Credential/shop/second"]);
    assert!(upserts(&world).is_empty());
    let dropped: Vec<_> = world
        .last
        .dropped_statuses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(dropped, ["Credential shop/second"]);
}

#[test]
fn of_a_thousand_routes_one_that_changes_is_a_difference_of_one_resource() {
    let route = |number: usize, path: &str| {
        format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r{number}, namespace: shop}}
spec: {{parentRefs: [{{name: gateway}}], rules: [{{matches: [{{path: {{value: {path}}}}}]}}]}}
"
        )
    };
    let routes: String = (0..1000).map(|number| route(number, "/a")).collect();
    let mut world = World::of(&format!("{SHOP}{routes}"));
    world.apply(&route(500, "/b"));
    assert_eq!(upserts(&world), ["Route/HTTPRoute/shop/r500"]);
    assert!(removals(&world).is_empty());
    world.delete(Kind::HttpRoute, "shop", "r500");
    assert_eq!(removals(&world), ["Route/HTTPRoute/shop/r500"]);
    assert!(upserts(&world).is_empty());
}

#[test]
fn the_value_of_a_secret_is_a_difference_of_one_resource() {
    let mut world = World::of(SHOP);
    world.apply("\napiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: shop}\nstringData: {alice: rotated}\n");
    assert_eq!(upserts(&world), ["Credential/shop/alice-key"]);
    world.delete(Kind::Secret, "shop", "keys");
    assert_eq!(removals(&world), ["Credential/shop/alice-key"]);
}

#[test]
fn a_consumer_is_a_difference_of_one_resource() {
    let mut world = World::of(SHOP);
    world.delete(Kind::Consumer, "shop", "alice");
    assert_eq!(
        (upserts(&world), removals(&world)),
        (vec![], vec!["Consumer/shop/alice".to_owned()])
    );
}

#[test]
fn an_unrelated_change_is_no_difference() {
    let mut world = World::of(SHOP);
    for unrelated in [
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: shop}\nstringData: {a: b}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {ports: [{port: 1}]}\n",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: shop, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nports: []\nendpoints: []\n",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: a, namespace: shop}\nspec: {from: [], to: []}\n",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: postern}\nspec: {controllerName: postern.dev/gateway-controller}\n",
    ] {
        world.apply(unrelated);
        assert!(
            world.last.diff.is_empty(),
            "{unrelated}: {:?}",
            world.last.diff
        );
    }
    assert_eq!(world.diagnostics(), [""; 0]);
    world.update();
    assert!(world.last.diff.is_empty() && world.last.statuses.is_empty());
}

#[test]
fn many_credentials_do_not_make_other_changes_dear() {
    let mut compiler = Compiler::new(standalone());
    for object in objects(SHOP) {
        compiler.apply(object);
    }
    for index in 0..2000 {
        let value = json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Credential",
            "metadata": {"name": format!("c{index}"), "namespace": "shop"},
            "spec": {"consumerRef": {"name": "alice"}, "keyAuth": {"hash": format!("sha256:{index:064}")}},
        });
        compiler.apply(Object::from_json(value).unwrap());
    }
    assert_eq!(compiler.update().diff.upserts.len(), 2007);
    compiler.apply(objects(&SHOP.replace("/orders", "/other")).remove(1));
    assert!(
        compiler.would_compile().credentials.is_empty()
            && compiler.would_compile().consumers.is_empty()
    );
    assert_eq!(compiler.update().diff.upserts.len(), 1);
    compiler.apply(objects(CREDENTIAL).remove(0));
    assert!(!compiler.would_compile().everything);
}
