//! Decoding.

use super::*;
use crate::DecodeError;

fn decode(yaml: &str) -> Result<Object, DecodeError> {
    Object::from_json(serde_saphyr::from_str(yaml).unwrap())
}

#[test]
fn what_is_no_object() {
    for (yaml, expected) in [
        ("[]", "not a Kubernetes object: it is no mapping"),
        (
            "{kind: Service}",
            "not a Kubernetes object: apiVersion is missing",
        ),
        (
            "{apiVersion: v1}",
            "not a Kubernetes object: kind is missing",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}}",
            "Postern does not read kind Pod of v1",
        ),
        (
            "{apiVersion: v1, kind: Service}",
            "Service: metadata.name is missing",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: ''}}",
            "Service: metadata.name is missing",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a, labels: {b: [1]}}}",
            "Service default/a: metadata.labels.b: invalid type: sequence, expected a string",
        ),
    ] {
        assert_eq!(decode(yaml).unwrap_err().to_string(), expected, "{yaml}");
    }
}

#[test]
fn what_does_not_fit_is_kept_with_the_path_of_the_field() {
    for (yaml, field) in [
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: x}]}}",
            "spec.ports[0].port",
        ),
        (
            "{apiVersion: postern.dev/v1alpha1, kind: Consumer, metadata: {name: a}, spec: {user: b}}",
            "spec.user",
        ),
        (
            "{apiVersion: postern.dev/v1alpha1, kind: Consumer, metadata: {name: a}, data: {user: b}}",
            "data",
        ),
        (
            "{apiVersion: postern.dev/v2, kind: AuthPlugin, metadata: {name: a}, spec: {}}",
            "apiVersion",
        ),
        (
            "{apiVersion: postern.dev/v1alpha1, kind: AuthPlugin, metadata: {name: a, labels: 1}}",
            "metadata.labels",
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {key: 'hunter2!'}}",
            "data.key",
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {key: 5}}",
            "stringData.key",
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: hunter2}",
            "data",
        ),
    ] {
        let object = decode(yaml).unwrap();
        let bad = object.unreadable().unwrap_or_else(|| panic!("{yaml}"));
        assert_eq!(bad.field, field, "{yaml}");
        assert!(!bad.message.contains("hunter2"), "{}", bad.message);
    }
    // Newer fields of Kubernetes' kinds are none of our business.
    let newer = decode(
        "{apiVersion: v1, kind: Service, metadata: {name: a, x: 1}, spec: {ports: [], y: 2}, z: 3}",
    )
    .unwrap();
    assert!(newer.unreadable().is_none());
}

#[test]
fn what_does_not_matter_is_no_change() {
    let mut compiler = Compiler::new(standalone());
    let service = |metadata: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: a{metadata}}}, spec: {{ports: [{{port: 1}}]}}, status: {{loadBalancer: {{}}}}}}"
        );
        decode(&text).unwrap()
    };
    assert!(compiler.apply(service("")));
    assert!(!compiler.apply(service(
        ", resourceVersion: '5', labels: {a: b}, annotations: {kubectl: x}"
    )));
    assert!(compiler.apply(service(", annotations: {postern.dev/plugins: x}")));
    assert!(compiler.delete(&ObjectRef::new(Kind::Service, "default", "a")));
    assert!(!compiler.delete(&ObjectRef::new(Kind::Service, "default", "a")));
}

#[test]
fn secrets_are_not_printed() {
    let object =
        decode("{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {key: hunter2}}")
            .unwrap();
    let mut compiler = Compiler::new(standalone());
    assert!(!format!("{object:?}").contains("hunter2"));
    compiler.apply(object);
    assert!(!format!("{compiler:?}").contains("hunter2"));
}

#[test]
fn data_of_secrets_are_kept_only_while_something_needs_them() {
    let secret = || {
        objects("apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: shop}\nstringData: {alice: a}\n").remove(0)
    };
    let credential = "
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: one, namespace: shop}
spec: {consumerRef: {name: alice}, keyAuth: {secretRef: {name: keys, key: alice}}}
";
    let reference = ObjectRef::new(Kind::Secret, "shop", "keys");
    let mut world = World::new(cluster());
    assert!(world.compiler.apply(secret()));
    assert!(
        !world.compiler.apply(secret()),
        "data that nobody needs are no change either"
    );
    assert!(!world.compiler.needs_secret("shop", "keys"));
    assert!(world.compiler.missing_secret_data().is_empty());

    world.apply(credential);
    assert!(world.compiler.needs_secret("shop", "keys"));
    assert_eq!(world.compiler.missing_secret_data(), [reference]);
    assert_eq!(
        world
            .condition(Kind::Credential, "one", "ResolvedRefs")
            .split(':')
            .next(),
        Some("False/Pending")
    );
    assert!(world.compiler.apply(secret()));
    world.update();
    assert!(world.credential("Credential/shop/one").is_some());
    assert!(world.compiler.missing_secret_data().is_empty());

    world.delete(Kind::Credential, "shop", "one");
    assert!(
        !world.compiler.apply({
            let mut dropped = secret();
            dropped.drop_secret_data();
            dropped
        }),
        "they were dropped already"
    );
}
