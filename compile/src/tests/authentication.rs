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

/// Documents beside [`SHOP`].
fn shop_with(more: &str) -> World {
    World::of(&format!("{SHOP}---{more}"))
}

fn credential(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"
    )
}

#[test]
fn a_trailing_line_break_is_no_part_of_the_key() {
    let world = shop_with(
        "
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: bob, namespace: other}
---
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: hashed, namespace: other}
spec: {consumerRef: {name: bob}, keyAuth: {hash: 'HASH'}}
"
        .replace("HASH", OPEN_SESAME)
        .as_str(),
    );
    let digest = |key: &str| match world.credential(key).unwrap().proof.unwrap() {
        proto::credential::Proof::KeyAuth(key_auth) => key_auth.digest,
        _ => panic!("{key} is of another kind"),
    };
    assert_eq!(
        digest("Credential/other/hashed"),
        digest("Credential/shop/alice-key")
    );
}

#[test]
fn the_newer_of_two_equal_keys_is_refused_and_counts_once_the_older_is_gone() {
    let spec = format!("{{consumerRef: {{name: alice}}, keyAuth: {{hash: '{OPEN_SESAME}'}}}}");
    let mut world = shop_with(&credential("copy", &spec));
    assert!(world.credential("Credential/shop/copy").is_none());
    assert!(world.credential("Credential/shop/alice-key").is_some());
    let accepted = world.condition(Kind::Credential, "copy", "Accepted");
    assert!(
        accepted.starts_with("False/Conflicted: Credential shop/alice-key, which is older"),
        "{accepted}"
    );
    world.assert_diagnostic(&["Error Credential shop/copy Conflicted"]);
    let everything = format!("{:?} {:?}", world.diagnostics(), world.statuses);
    assert!(
        !everything.contains("sesame")
            && !everything.contains(OPEN_SESAME.trim_start_matches("sha256:"))
    );
    assert_eq!(
        world.field(Kind::Consumer, "alice", "credentials"),
        json!(1)
    );

    world.delete(Kind::Credential, "shop", "alice-key");
    assert!(world.credential("Credential/shop/copy").is_some());
    assert_eq!(
        world.condition(Kind::Credential, "copy", "Accepted"),
        "True/Accepted"
    );
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn problems_of_credentials() {
    for (spec, condition, expected) in [
        (
            "{consumerRef: {name: nobody}, keyAuth: {hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}}",
            "ResolvedRefs",
            "False/ConsumerNotFound: Consumer shop/nobody does not exist",
        ),
        (
            "{consumerRef: {name: alice}, keyAuth: {secretRef: {name: none, key: key}}}",
            "ResolvedRefs",
            "False/SecretNotFound: Secret shop/none does not exist",
        ),
        (
            "{consumerRef: {name: alice}, keyAuth: {secretRef: {name: keys, key: bob}}}",
            "ResolvedRefs",
            "False/SecretNotFound: Secret shop/keys has no entry bob",
        ),
        (
            "{consumerRef: {name: alice}, keyAuth: {hash: abc}}",
            "Accepted",
            "False/Invalid: spec.keyAuth.hash: ",
        ),
        (
            "{consumerRef: {name: alice}}",
            "Accepted",
            "False/Invalid: spec: ",
        ),
        (
            "{consumerRef: {name: alice}, keyAuth: {}, colour: red}",
            "Accepted",
            "False/Invalid: spec.colour: unknown field `colour`",
        ),
        (
            "{consumerRef: {name: alice}, keyAuth: {secretRef: {name: 5, key: a}}}",
            "Accepted",
            "False/Invalid: spec.keyAuth.secretRef.name: invalid type: integer, expected a string",
        ),
        (
            "{consumerRef: {name: alice}, keyAuth: {secretRef: {name: keys, key: empty}}}",
            "Accepted",
            "False/Invalid: spec.keyAuth.secretRef: entry empty of Secret shop/keys is empty",
        ),
    ] {
        let secret = "
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {alice: open sesame, empty: \"\\n\"}
";
        let world = shop_with(&format!("{}---{secret}", credential("bad", spec)));
        let found = world.condition(Kind::Credential, "bad", condition);
        assert!(found.starts_with(expected), "{spec}: {found}");
        let key = "Credential/shop/bad";
        assert_eq!(
            world.credential(key).is_some(),
            expected.contains("Consumer"),
            "{spec}"
        );
        assert!(
            world.credential("Credential/shop/alice-key").is_some(),
            "{spec}"
        );
        world.assert_diagnostic(&["Error Credential shop/bad"]);
    }
}

#[test]
fn a_key_is_generated_into_a_secret_that_the_credential_owns() {
    let mut world = shop_with(&credential(
        "fresh",
        "{consumerRef: {name: alice}, keyAuth: {}}",
    ));
    let uid = world.compiler_uid("fresh");
    let [wanted] = world.last.wanted_secrets.as_slice() else {
        panic!("{:?}", world.last.wanted_secrets)
    };
    assert_eq!(
        (&*wanted.name, wanted.entries.as_slice(), &*wanted.owner_uid),
        ("fresh", &["key"][..], &*uid)
    );
    assert_eq!(
        world.condition(Kind::Credential, "fresh", "ResolvedRefs"),
        "False/Pending: a key is being generated into Secret shop/fresh"
    );
    assert_eq!(
        world.field(Kind::Credential, "fresh", "secretName"),
        json!("fresh")
    );
    assert_eq!(world.diagnostics(), [""; 0]);

    let secret = |owners: &str| {
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{name: fresh, namespace: shop, ownerReferences: [{owners}]}}
stringData: {{key: generated}}
"
        )
    };
    world.apply(&secret(""));
    assert!(world.last.wanted_secrets.is_empty());
    let resolved = world.condition(Kind::Credential, "fresh", "ResolvedRefs");
    assert!(
        resolved.starts_with("False/Conflicted: Secret shop/fresh is there already"),
        "{resolved}"
    );
    assert!(world.credential("Credential/shop/fresh").is_none());

    world.apply(&secret(&format!(
        "{{apiVersion: a, kind: b, name: fresh, uid: '{uid}'}}"
    )));
    assert!(world.last.wanted_secrets.is_empty());
    assert!(world.credential("Credential/shop/fresh").is_some());
    world.delete(Kind::Secret, "shop", "fresh");
    assert_eq!(world.last.wanted_secrets.len(), 1);
    assert!(world.credential("Credential/shop/fresh").is_none());
}

impl World {
    fn compiler_uid(&self, credential: &str) -> String {
        self.statuses[&ObjectRef::new(Kind::Credential, "shop", credential)]
            .uid
            .to_string()
    }
}

#[test]
fn a_labelled_secret_is_a_credential() {
    let secret = |label: &str, annotations: &str| {
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{name: bare, namespace: shop, labels: {{postern.dev/credential: {label}}}, annotations: {{{annotations}}}}}
stringData: {{key: another}}
"
        )
    };
    let mut world = shop_with(&secret("key-auth", "postern.dev/consumer: alice"));
    let key = "Credential/shop/secret:bare";
    assert_eq!(
        world.credential(key).unwrap().consumer,
        "Consumer/shop/alice"
    );
    assert_eq!(
        world.field(Kind::Consumer, "alice", "credentials"),
        json!(2)
    );
    world.apply(&secret("key-auth", ""));
    assert!(world.credential(key).is_none());
    world.assert_diagnostic(&[
        "Secret shop/bare",
        "metadata.annotations[postern.dev/consumer]",
        "is missing",
    ]);
    world.apply(&secret("saml", "postern.dev/consumer: alice"));
    assert!(world.credential(key).is_none());
    world.assert_diagnostic(&[
        "Secret shop/bare",
        "metadata.labels[postern.dev/credential]",
        "not supported",
    ]);
    world.delete(Kind::Secret, "shop", "bare");
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn names_of_consumers_are_unique_in_their_namespace() {
    let mut world = shop_with(
        "
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: late, namespace: shop}
spec: {username: alice}
---
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: elsewhere, namespace: other}
spec: {username: alice, customId: '4711'}
---
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: late-key, namespace: shop}
spec:
  consumerRef: {name: late}
  keyAuth: {hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}
",
    );
    assert!(world.consumer("Consumer/shop/late").is_none());
    assert!(world.consumer("Consumer/other/elsewhere").is_some());
    assert_eq!(
        world.condition(Kind::Consumer, "late", "Accepted"),
        "False/Conflicted: username \"alice\" belongs to the older Consumer shop/alice; choose another one, or remove one of the objects"
    );
    let resolved = world.condition(Kind::Credential, "late-key", "ResolvedRefs");
    assert_eq!(
        resolved,
        "False/ConsumerNotFound: Consumer shop/late is not accepted"
    );
    world.delete(Kind::Consumer, "shop", "alice");
    assert!(world.consumer("Consumer/shop/late").is_some());
    assert_eq!(
        world.condition(Kind::Credential, "late-key", "ResolvedRefs"),
        "True/ResolvedRefs"
    );
    let gone = world.condition(Kind::Credential, "alice-key", "ResolvedRefs");
    assert_eq!(
        gone,
        "False/ConsumerNotFound: Consumer shop/alice does not exist"
    );
}

#[test]
fn ids_follow_from_names_where_there_is_no_uid() {
    let world = World::of(
        "
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: alice, namespace: shop, uid: ''}
",
    );
    let expected = uuid::Uuid::new_v5(
        &uuid::Uuid::NAMESPACE_URL,
        b"postern.dev/consumers/shop/alice",
    );
    assert_eq!(
        world.consumer("Consumer/shop/alice").unwrap().id,
        expected.to_string()
    );
}

#[test]
fn a_plugin_that_is_made_again_is_another() {
    let plugin = |uid: &str| {
        format!(
            "
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: keys, namespace: shop, uid: '{uid}', creationTimestamp: '2026-01-01T00:00:00Z'}}
spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}}], keyAuth: {{}}}}
"
        )
    };
    let (first, second) = (
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
    );
    let mut world = World::of(&plugin(first));
    assert_eq!(world.plugin("Plugin/shop/keys").id, first);
    // Also where nobody has seen it go: a watch that was interrupted lists what is there now.
    let update = world.apply(&plugin(second));
    assert!(update.diff.upserts.contains_key("Plugin/shop/keys"));
    assert_eq!(world.plugin("Plugin/shop/keys").id, second);
    let nameless = || World::of(&plugin("")).plugin("Plugin/shop/keys").id;
    assert_eq!(nameless(), nameless());
    assert!(!nameless().is_empty());
}

#[test]
fn times() {
    let spec = "{consumerRef: {name: alice}, notBefore: '1970-01-01T00:00:10.5Z', expiresAt: '1970-01-01T00:00:00Z', \
                keyAuth: {hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}}";
    let world = shop_with(&credential(
        "old",
        &spec.replace("notBefore: '1970-01-01T00:00:10.5Z', ", ""),
    ));
    assert_eq!(
        world.credential("Credential/shop/old").unwrap().expires_at,
        1,
        "0 would mean never"
    );
    let world = shop_with(&credential("old", &spec.replace("00:00:00Z", "00:01:00Z")));
    let credential = world.credential("Credential/shop/old").unwrap();
    assert_eq!((credential.not_before, credential.expires_at), (11, 60));
}
