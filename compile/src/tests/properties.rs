//! Whatever happened before, the same objects give the same bytes.

use super::*;
use proptest::prelude::*;

/// Objects that disturb one another in many ways: equal names and keys, conflicts, missing and unreadable ones. Of each
/// object there are several states.
fn pool() -> Vec<Object> {
    let mut texts = vec![SHOP.to_owned()];
    for (second, name) in [(5, "ant"), (6, "bee")] {
        for (hash, user, target, block) in [
            ("0", "alice", "HTTPRoute, name: orders", "keyAuth: {}"),
            (
                "1",
                "bob",
                "Gateway, name: gateway",
                "keyAuth: {anonymous: {name: ant}}, consumers: {from: All}",
            ),
            ("2", "alice", "HTTPRoute, name: web", "saml: {}"),
        ] {
            texts.push(variant(second, name, hash, (user, target, block)));
        }
    }
    texts
        .iter()
        .flat_map(|text| objects(text))
        .map(|mut object| {
            // States of one object have its UID.
            object.meta.uid = object.reference.to_string().into();
            object
        })
        .collect()
}

/// One state of each of ten objects.
fn variant(
    second: u8,
    name: &str,
    hash: &str,
    (user, target, block): (&str, &str, &str),
) -> String {
    let hash = hash.repeat(64);
    let metadata = |extra: &str| {
        format!(
            "metadata: {{name: '{name}', namespace: shop, creationTimestamp: '1970-01-01T00:00:0{second}Z'{extra}}}"
        )
    };
    let annotated = if hash.starts_with('1') {
        ", annotations: {postern.dev/plugins: 'ant'}"
    } else {
        ""
    };
    format!(
                "
apiVersion: postern.dev/v1alpha1
kind: Credential
{0}
spec: {{consumerRef: {{name: '{user}'}}, keyAuth: {{hash: 'sha256:{hash}'}}}}
---
apiVersion: postern.dev/v1alpha1
kind: Consumer
{1}
spec: {{username: {user}}}
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
{0}
spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: {target}}}], {block}}}
---
apiVersion: v1
kind: Service
{1}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
{0}
spec: {{gatewayClassName: postern, listeners: [{{name: http, port: 800{2}, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
{1}
spec: {{parentRefs: [{{name: gateway}}, {{name: ant}}], rules: [{{backendRefs: [{{name: '{name}', port: 80}}]}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: '{name}', namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 1}}]
endpoints: [{{addresses: [10.0.0.{second}]}}]
---
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {{name: '{name}', namespace: other}}
spec: {{consumerRef: {{name: bob}}, keyAuth: {{hash: 'sha256:{hash}'}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: shop}}
stringData: {{alice: '{user}'}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: n{second}}}
",
                metadata(""),
                metadata(annotated),
                hash.chars().next().unwrap(),
            )
}

/// All that follows from the objects there are.
fn everything(world: &World) -> (Vec<(String, snapshot::Hash)>, String) {
    let resources = world
        .compiler
        .snapshot()
        .iter()
        .map(|(key, entry)| (key.to_string(), entry.hash))
        .collect();
    let said = format!(
        "{:#?} {:#?} {:#?} {:#?}",
        world.statuses,
        world.last.diagnostics,
        world.last.wanted_secrets,
        world.last.gateway_services
    );
    (resources, said)
}

impl World {
    /// Updates, and brings the data of Secrets that a watcher would fetch.
    fn fetch(&mut self, there: &[Object]) {
        for missing in self.compiler.missing_secret_data() {
            let secret = there
                .iter()
                .find(|object| *object.reference() == missing)
                .unwrap();
            assert!(self.compiler.apply(secret.clone()));
        }
        self.update();
    }
}

fn settings(in_cluster: bool) -> Settings {
    if in_cluster { cluster() } else { standalone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_equals_a_compilation_from_nothing(
        steps in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 1..60),
        in_cluster: bool,
        order in any::<prop::sample::Index>(),
    ) {
        let pool = pool();
        let mut world = World::new(settings(in_cluster));
        let mut there: std::collections::BTreeMap<ObjectRef, Object> = std::collections::BTreeMap::new();
        let mut held = snapshot::Set::default();
        for (index, what) in steps {
            let object = index.get(&pool);
            if what == 0 {
                world.compiler.delete(object.reference());
                there.remove(object.reference());
            } else {
                world.compiler.apply(object.clone());
                there.insert(object.reference().clone(), object.clone());
            }
            // Sometimes several changes come at once.
            if what != 1 {
                world.fetch(&there.values().cloned().collect::<Vec<_>>());
                held.apply(&world.last.diff);
            }
        }
        world.fetch(&there.values().cloned().collect::<Vec<_>>());
        held.apply(&world.last.diff);
        prop_assert!(held.diff(world.compiler.snapshot()).is_empty(), "the differences add up");

        let mut fresh = World::new(settings(in_cluster));
        let mut objects: Vec<_> = there.into_values().collect();
        let middle = order.index(objects.len() + 1);
        objects.rotate_left(middle);
        for object in &objects {
            fresh.compiler.apply(object.clone());
        }
        fresh.fetch(&objects);
        prop_assert_eq!(everything(&world), everything(&fresh));
    }
}
