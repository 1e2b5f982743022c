//! The end; by its name the last of all tests.

use crate::kubectl::{self, SYSTEM, helm, kubectl};

#[tokio::test]
async fn an_upgrade_keeps_the_state_key_and_uninstalling_leaves_only_what_is_told() {
    crate::installation::done().await;
    let key =
        "get secret postern-proxy-state --namespace=postern-system --output=jsonpath={.data.key}";
    let before = kubectl(key).await;
    helm(&format!(
        "upgrade postern charts/postern --namespace {SYSTEM} --reuse-values --set proxy.replicas=1 --wait --timeout 120s"
    ))
    .await;
    assert_eq!(kubectl(key).await, before, "an upgrade made another key");

    helm(&format!(
        "uninstall postern --namespace {SYSTEM} --wait --timeout 120s"
    ))
    .await;
    // Helm does not wait for pods that drain.
    let mut left = String::new();
    for _ in 0..120 {
        left = kubectl(&format!(
            "get all,rolebindings,roles --namespace={SYSTEM} --output=name"
        ))
        .await;
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert_eq!(left, "");
    for kind in [
        "clusterroles",
        "clusterrolebindings",
        "ingressclasses",
        "gatewayclasses",
    ] {
        let left = kubectl(&format!(
            "get {kind} --selector=app.kubernetes.io/instance=postern --output=name"
        ))
        .await;
        assert_eq!(left, "", "{kind}");
    }
    // Helm never deletes what is in crds/: with the kinds, everybody's objects would go.
    let kinds = kubectl::run("kubectl", "get crd authplugins.postern.dev", "").await;
    assert!(kinds.status.success());
}
