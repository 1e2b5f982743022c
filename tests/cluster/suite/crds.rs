//! The kinds, as the API server takes, refuses and explains them.

use crate::kubectl::{self, apply, get, kubectl, kubectl_fails};

/// Objects of a corpus, one a line.
fn corpus(name: &str) -> Vec<serde_json::Value> {
    let path = format!("{}/crds/corpus/{name}.yaml", kubectl::root());
    let text = std::fs::read_to_string(&path).expect("the corpus is there");
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let objects: Vec<_> = lines
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .collect();
    assert!(!objects.is_empty(), "{path} holds no object");
    objects
}

/// As a list, so that one call of kubectl asks for all.
fn list(objects: &[serde_json::Value]) -> String {
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

#[tokio::test]
async fn each_bad_object_is_refused_with_field_and_remedy() {
    crate::installation::done().await;
    let mut wrong = Vec::new();
    for object in corpus("refused") {
        let wanted = object["metadata"]["annotations"]["postern.dev/refused"]
            .as_str()
            .expect("each says how it is refused");
        let refusal =
            kubectl_fails("create --dry-run=server --filename=-", &object.to_string()).await;
        // The API server quotes some messages with backslashes.
        if !refusal.replace("\\\"", "\"").contains(wanted) {
            wrong.push(format!(
                "{}: was to say {wanted:?}, says: {refusal}",
                object["metadata"]["name"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn good_objects_are_taken() {
    crate::installation::done().await;
    let output = kubectl::run(
        "kubectl",
        "create --dry-run=server --filename=-",
        &list(&corpus("accepted")),
    )
    .await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_named() {
    crate::installation::done().await;
    let refusal = kubectl_fails(
        "apply --filename=-",
        "{apiVersion: postern.dev/v1alpha1, kind: AuthPlugin, metadata: {name: x}, spec: {keyAuth: {keyName: [a]}}}",
    )
    .await;
    assert!(
        refusal.contains("unknown field \"spec.keyAuth.keyName\""),
        "{refusal}"
    );
}

#[tokio::test]
async fn kubectl_explains_fields_and_knows_short_names() {
    crate::installation::done().await;
    for (field, says) in [
        ("authplugin.spec.keyAuth.keyNames", "<[]string>"),
        ("authplugin.spec.targetRefs", "<[]Object>"),
        ("credential.spec.ttl", "Seconds from the object's creation"),
        ("pcon.spec.groups", "acl"),
        ("pcred.spec.keyAuth.secretRef", "Secret"),
        ("pauth.spec.keyAuth.hideCredentials", "<boolean>"),
    ] {
        let explained = kubectl(&format!("explain {field}")).await;
        assert!(explained.contains(says), "{field}: {explained}");
        assert!(
            !explained.contains("<empty>"),
            "{field} has no description: {explained}"
        );
    }
    // The category gathers all kinds.
    let names = kubectl("api-resources --categories=postern --output=name").await;
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "authplugins.postern.dev",
            "consumers.postern.dev",
            "credentials.postern.dev",
            "upstreampolicies.postern.dev"
        ]
    );
}

#[tokio::test]
async fn two_managers_own_different_fields_by_server_side_apply() {
    crate::installation::done().await;
    apply("{apiVersion: v1, kind: Namespace, metadata: {name: managers}}").await;
    let manage = async |manager: &str, spec: &str| {
        let manifest = format!(
            "{{apiVersion: postern.dev/v1alpha1, kind: Consumer, metadata: {{name: bob, namespace: managers}}, spec: {spec}}}"
        );
        kubectl::run(
            "kubectl",
            &format!("apply --server-side --field-manager={manager} --filename=-"),
            &manifest,
        )
        .await
    };
    assert!(manage("one", "{groups: [gold]}").await.status.success());
    assert!(manage("two", "{customId: \"4711\"}").await.status.success());
    let bob = get("consumer bob --namespace=managers").await;
    assert_eq!(
        bob["spec"],
        serde_json::json!({"groups": ["gold"], "customId": "4711"})
    );

    let conflict = manage("two", "{customId: \"4711\", groups: [silver]}").await;
    let conflict = String::from_utf8_lossy(&conflict.stderr).into_owned();
    assert!(
        conflict.contains("conflict with \"one\"") && conflict.contains(".spec.groups"),
        "{conflict}"
    );
    // Whoever gives a field up takes only that one away.
    assert!(manage("one", "{}").await.status.success());
    assert_eq!(
        get("consumer bob --namespace=managers").await["spec"],
        serde_json::json!({"customId": "4711"})
    );
    kubectl("delete namespace managers --wait=false").await;
}
