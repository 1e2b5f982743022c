//! Keys that come, change and go, while requests are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::client;
use crate::fleet;
use crate::kubectl::{apply, condition, get, kubectl, wait_for_condition};
use crate::shop::{AT_ONCE, SOON, Shop};

#[tokio::test]
async fn a_declared_key_is_let_through_and_none_is_refused() {
    let shop = Shop::open("declared").await;
    let service = fleet::service("postern-proxy").await;
    let passed = client::ask(service, 80, &shop.host, "/orders", Some(&shop.key))
        .await
        .unwrap();
    assert_eq!(passed.status, 200, "{}", passed.text);
    assert!(
        passed.text.contains(" /orders\n"),
        "it is the application that answers: {}",
        passed.text
    );
    for wrong in [None, Some("declared-bob"), Some("")] {
        let refused = client::ask(service, 80, &shop.host, "/orders", wrong)
            .await
            .unwrap();
        assert_eq!(refused.status, 401, "{wrong:?}: {}", refused.text);
        assert!(
            refused
                .text
                .to_lowercase()
                .contains("\r\nwww-authenticate: key"),
            "{}",
            refused.text
        );
    }
    // What a person sees of it.
    for object in ["consumer/alice", "credential/alice", "authplugin/key"] {
        wait_for_condition(
            &format!("{object} --namespace=declared"),
            "Programmed",
            "True",
        )
        .await;
    }
    shop.close().await;
}

#[tokio::test]
async fn a_change_of_a_key_is_enforced_by_every_proxy_within_a_second() {
    let shop = Shop::open("changes").await;

    shop.add_key("second", "changes-second").await;
    shop.expect(Some("changes-second"), 200, AT_ONCE).await;

    // Rotated: the Secret has another value.
    shop.put_secret("second", "changes-rotated").await;
    shop.expect(Some("changes-rotated"), 200, AT_ONCE).await;
    shop.expect(Some("changes-second"), 401, AT_ONCE).await;

    kubectl("delete credential second --namespace=changes").await;
    shop.expect(Some("changes-rotated"), 401, AT_ONCE).await;

    shop.add_key("third", "changes-third").await;
    shop.expect(Some("changes-third"), 200, AT_ONCE).await;
    kubectl("delete secret third --namespace=changes").await;
    shop.expect(Some("changes-third"), 401, AT_ONCE).await;

    // All that time the first key counted; it ends with its Consumer.
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    kubectl("delete consumer alice --namespace=changes").await;
    shop.expect(Some(&shop.key), 401, AT_ONCE).await;
    shop.close().await;
}

#[tokio::test]
async fn a_key_ends_with_its_time() {
    let shop = Shop::open("expiry").await;
    shop.add_key_with("short", "expiry-short", "ttl: 6").await;
    shop.expect(Some("expiry-short"), 200, AT_ONCE).await;
    let created =
        get("credential short --namespace=expiry").await["metadata"]["creationTimestamp"].clone();
    shop.expect(Some("expiry-short"), 401, Duration::from_secs(8))
        .await;
    let status = get("credential short --namespace=expiry").await["status"]["expiresAt"].clone();
    assert_ne!(status, created);
    assert!(status.is_string(), "status.expiresAt says when: {status}");

    shop.add_key_with("past", "expiry-past", "expiresAt: \"2020-01-01T00:00:00Z\"")
        .await;
    shop.add_key_with(
        "future",
        "expiry-future",
        "notBefore: \"2999-01-01T00:00:00Z\"",
    )
    .await;
    shop.add_key("marker", "expiry-marker").await;
    shop.expect(Some("expiry-marker"), 200, AT_ONCE).await;
    assert_eq!(shop.statuses(Some("expiry-past")).await, [401, 401]);
    assert_eq!(shop.statuses(Some("expiry-future")).await, [401, 401]);
    shop.close().await;
}

#[tokio::test]
async fn a_key_is_generated_into_a_secret_that_the_credential_owns() {
    let shop = Shop::open("generated").await;
    apply(
        "{apiVersion: postern.dev/v1alpha1, kind: Credential, metadata: {name: made, namespace: generated}, \
         spec: {consumerRef: {name: alice}, keyAuth: {}}}",
    )
    .await;
    wait_for_condition(
        "credential/made --namespace=generated",
        "Programmed",
        "True",
    )
    .await;
    let credential = get("credential made --namespace=generated").await;
    let name = credential["status"]["secretName"]
        .as_str()
        .expect("status names the Secret");
    let secret = get(&format!("secret {name} --namespace=generated")).await;
    assert_eq!(
        secret["metadata"]["ownerReferences"][0]["uid"],
        credential["metadata"]["uid"]
    );
    let key = kubectl(&format!("get secret {name} --namespace=generated --output=go-template={{{{.data.key|base64decode}}}}")).await;
    assert_eq!(key.len(), 32, "a generated key has 32 characters");
    shop.expect(Some(&key), 200, AT_ONCE).await;
    // The key is nowhere but in its Secret.
    assert!(!credential.to_string().contains(&key));

    kubectl("delete credential made --namespace=generated").await;
    shop.expect(Some(&key), 401, AT_ONCE).await;
    shop.close().await;
}

#[tokio::test]
async fn the_newer_of_two_equal_keys_is_refused_and_the_older_keeps_working() {
    let shop = Shop::open("conflict").await;
    // Creation times have seconds: the two must not be of the same one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    shop.add_key("newer", &shop.key).await;
    let (reason, message) =
        wait_for_condition("credential/newer --namespace=conflict", "Accepted", "False").await;
    assert_eq!(reason, "Conflicted");
    assert!(message.contains("alice"), "it names the older: {message}");
    assert!(
        !message.contains(&shop.key),
        "it does not repeat the key: {message}"
    );
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    let older = get("credential alice --namespace=conflict").await;
    assert_eq!(condition(&older, "Accepted").unwrap().0, "True");
    shop.close().await;
}

/// A key in another namespace is nobody's here.
#[tokio::test]
async fn namespaces_are_tenants() {
    let (one, two) = (
        Shop::open("tenant-one").await,
        Shop::open("tenant-two").await,
    );
    assert_eq!(one.statuses(Some(&two.key)).await, [401, 401]);
    apply(
        "{apiVersion: postern.dev/v1alpha1, kind: AuthPlugin, metadata: {name: key, namespace: tenant-one}, spec: \
         {targetRefs: [{group: networking.k8s.io, kind: Ingress, name: hello}], consumers: {from: All}, keyAuth: {}}}",
    )
    .await;
    one.expect(Some(&two.key), 200, AT_ONCE).await;
    assert_eq!(two.statuses(Some(&one.key)).await, [401, 401]);
    one.close().await;
    two.close().await;
}

/// Requests with a good key through the Service, one after the other, while everything else changes.
#[tokio::test]
async fn no_request_is_lost_while_keys_routes_and_backends_change() {
    let shop = Shop::open("steady").await;
    let service = fleet::service("postern-proxy").await;
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let asking = tokio::spawn({
        let (stop, asked, host, key) = (
            stop.clone(),
            asked.clone(),
            shop.host.clone(),
            shop.key.clone(),
        );
        async move {
            let mut lost = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let answer = client::ask(service, 80, &host, "/", Some(&key)).await;
                asked.fetch_add(1, Ordering::Relaxed);
                if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                    lost.push(answer);
                }
            }
            lost
        }
    });
    for round in 0..3 {
        shop.add_key("other", &format!("steady-{round}")).await;
        shop.expect(Some(&format!("steady-{round}")), 200, AT_ONCE)
            .await;
        kubectl(&format!(
            "annotate ingress hello --namespace=steady --overwrite round={round}"
        ))
        .await;
        kubectl(&format!(
            "scale deployment hello --namespace=steady --replicas={}",
            round + 2
        ))
        .await;
        kubectl("rollout status deployment hello --namespace=steady --timeout=60s").await;
    }
    stop.store(true, Ordering::Relaxed);
    let lost = asking.await.unwrap();
    assert!(
        asked.load(Ordering::Relaxed) > 100,
        "too few requests to tell"
    );
    assert!(
        lost.is_empty(),
        "of {} requests were lost: {lost:?}",
        asked.load(Ordering::Relaxed)
    );
    shop.close().await;
}

/// The chart's own Ingress has no part in it: a Gateway gets a Service of its own.
#[tokio::test]
async fn a_gateway_with_an_httproute_is_served_too() {
    let shop = Shop::open("gatewayed").await;
    apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: gatewayed}
spec:
  gatewayClassName: postern
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: hello, namespace: gatewayed}
spec:
  parentRefs: [{name: front}]
  hostnames: [route.test]
  rules: [{backendRefs: [{name: hello, port: 80}]}]
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: route-key, namespace: gatewayed}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: hello}]
  keyAuth: {}
",
    )
    .await;
    wait_for_condition("gatewayclass/postern", "Accepted", "True").await;
    wait_for_condition("httproute/hello --namespace=gatewayed", "Accepted", "True").await;
    wait_for_condition("gateway/front --namespace=gatewayed", "Programmed", "True").await;
    let services =
        get("services --namespace=postern-system --selector=postern.dev/component=gateway").await;
    let mine = services["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|service| {
            service["metadata"]["annotations"]["postern.dev/gateway"] == "gatewayed/front"
        });
    let address = mine.expect("the Gateway has a Service")["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    client::until_status(address, 80, "route.test", Some(&shop.key), 200, SOON).await;
    client::until_status(address, 80, "route.test", None, 401, SOON).await;
    shop.close().await;
}
