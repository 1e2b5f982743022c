//! Tokens that are revoked while their bearer runs.

use std::time::Duration;

use crate::fleet;
use crate::kubectl::{self, SYSTEM, kubectl};
use crate::shop::{AT_ONCE, SOON, Shop};

/// Makes a ServiceAccount anew: its tokens, bound to the old one's UID, are worth nothing from then on.
async fn revoke(account: &str) {
    let manifest = kubectl(&format!(
        "get serviceaccount {account} --namespace={SYSTEM} --output=yaml"
    ))
    .await;
    kubectl(&format!(
        "delete serviceaccount {account} --namespace={SYSTEM}"
    ))
    .await;
    let fresh: Vec<_> = manifest
        .lines()
        .filter(|line| !line.contains("uid:") && !line.contains("resourceVersion:"))
        .collect();
    kubectl::apply(&fresh.join("\n")).await;
}

#[tokio::test]
async fn with_a_revoked_token_the_controller_changes_nothing_and_says_so() {
    let shop = Shop::open("revoked").await;
    let controller = fleet::pods("controller").await.remove(0);
    revoke("postern-controller").await;

    // The API server remembers a good token for some seconds.
    let mut log = String::new();
    for _ in 0..120 {
        log = kubectl(&format!(
            "logs {} --namespace={SYSTEM} --tail=200",
            controller.name
        ))
        .await;
        if log.contains("Unauthorized") || log.contains("401") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(
        log.contains("Unauthorized") || log.contains("401"),
        "the log says that the API server refuses: {log}"
    );

    // Nothing that was in force is lost, and nothing opens.
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    assert_eq!(shop.statuses(None).await, [401, 401]);

    // Another pod has another token.
    kubectl(&format!(
        "rollout restart deployment/postern-controller --namespace={SYSTEM}"
    ))
    .await;
    kubectl(&format!(
        "rollout status deployment/postern-controller --namespace={SYSTEM} --timeout=120s"
    ))
    .await;
    shop.add_key("after", "revoked-after").await;
    shop.expect(Some("revoked-after"), 200, SOON).await;
    shop.add_key("prompt", "revoked-prompt").await;
    shop.expect(Some("revoked-prompt"), 200, AT_ONCE).await;
    shop.close().await;
}

/// Nobody but the proxies' own account is sent the digests of keys.
#[tokio::test]
async fn a_proxy_with_anothers_token_gets_nothing() {
    let shop = Shop::open("stranger").await;
    kubectl(&format!(
        "create serviceaccount stranger --namespace={SYSTEM}"
    ))
    .await;
    let image = kubectl(&format!(
        "get deployment postern-proxy --namespace={SYSTEM} --output=jsonpath={{.spec.template.spec.containers[0].image}}"
    ))
    .await;
    kubectl::apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: stranger, namespace: {SYSTEM}}}
spec:
  serviceAccountName: stranger
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: proxy
    image: {image}
    args: [proxy]
    env:
    - {{name: POSTERN_CONTROLLER, value: \"https://postern-controller.{SYSTEM}.svc:8005\"}}
    - {{name: POSTERN_CONTROLLER_CA, value: /controller/ca.crt}}
    - {{name: POSTERN_CONTROLLER_TOKEN, value: /controller/token}}
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: controller, mountPath: /controller}}]
  volumes:
  - name: controller
    projected:
      sources:
      - serviceAccountToken: {{audience: postern-controller, path: token}}
      - configMap: {{name: postern-ca}}
"
    ))
    .await;
    let mut log = String::new();
    for _ in 0..120 {
        log = kubectl::run(
            "kubectl",
            &format!("logs stranger --namespace={SYSTEM}"),
            "",
        )
        .await
        .stdout
        .escape_ascii()
        .to_string();
        if log.contains("not a proxy of this controller") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(
        log.contains("not a proxy of this controller"),
        "its log says why it gets nothing: {log}"
    );
    kubectl(&format!(
        "delete pod/stranger serviceaccount/stranger --namespace={SYSTEM}"
    ))
    .await;
    shop.close().await;
}
