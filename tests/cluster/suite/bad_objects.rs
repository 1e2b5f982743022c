//! Bad objects harm only themselves, and say what is wrong.

use crate::client;
use crate::kubectl::{apply, events, get, kubectl, wait_for_condition};
use crate::shop::{AT_ONCE, HTTP, SOON, Shop};

#[tokio::test]
async fn a_credential_without_its_secret_says_so_and_harms_no_other() {
    let shop = Shop::open("no-secret").await;
    apply(
        "{apiVersion: postern.dev/v1alpha1, kind: Credential, metadata: {name: lost, namespace: no-secret}, \
         spec: {consumerRef: {name: alice}, keyAuth: {secretRef: {name: nowhere, key: key}}}}",
    )
    .await;
    let (_, message) = wait_for_condition(
        "credential/lost --namespace=no-secret",
        "ResolvedRefs",
        "False",
    )
    .await;
    assert!(
        message.contains("nowhere"),
        "it names the Secret: {message}"
    );
    wait_for_event("no-secret", "lost", "nowhere").await;
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);

    // As soon as it is there, all is well.
    shop.put_secret("nowhere", "no-secret-found").await;
    shop.expect(Some("no-secret-found"), 200, AT_ONCE).await;
    wait_for_condition(
        "credential/lost --namespace=no-secret",
        "ResolvedRefs",
        "True",
    )
    .await;
    shop.close().await;
}

async fn wait_for_event(namespace: &str, name: &str, says: &str) {
    for _ in 0..80 {
        if events(namespace, name)
            .await
            .iter()
            .any(|message| message.contains(says))
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    panic!(
        "no Event about {namespace}/{name} says {says:?}: {:?}",
        events(namespace, name).await
    );
}

#[tokio::test]
async fn a_credential_without_its_consumer_says_so() {
    let shop = Shop::open("no-consumer").await;
    apply(
        "{apiVersion: postern.dev/v1alpha1, kind: Credential, metadata: {name: stray, namespace: no-consumer}, \
         spec: {consumerRef: {name: nobody}, keyAuth: {secretRef: {name: alice, key: key}}}}",
    )
    .await;
    let (_, message) = wait_for_condition(
        "credential/stray --namespace=no-consumer",
        "ResolvedRefs",
        "False",
    )
    .await;
    assert!(
        message.contains("nobody"),
        "it names the Consumer: {message}"
    );
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    shop.close().await;
}

#[tokio::test]
async fn a_plugin_for_a_target_that_is_not_there_says_so() {
    let shop = Shop::open("no-target").await;
    apply(
        "{apiVersion: postern.dev/v1alpha1, kind: AuthPlugin, metadata: {name: stray, namespace: no-target}, spec: \
         {targetRefs: [{group: networking.k8s.io, kind: Ingress, name: nowhere}], keyAuth: {}}}",
    )
    .await;
    let mut said = String::new();
    for _ in 0..80 {
        said = get("authplugin stray --namespace=no-target").await["status"].to_string();
        if said.contains("nowhere") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    assert!(
        said.contains("nowhere") && said.contains("\"False\""),
        "its status names the target: {said}"
    );
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    shop.close().await;
}

#[tokio::test]
async fn an_ingress_without_its_service_answers_for_itself_only() {
    let shop = Shop::open("no-service").await;
    apply(
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: broken, namespace: no-service}, spec: \
         {ingressClassName: postern, rules: [{host: broken.test, http: {paths: [{path: /, pathType: Prefix, \
         backend: {service: {name: nowhere, port: {number: 80}}}}]}}]}}",
    )
    .await;
    for proxy in &shop.proxies {
        let answered = async {
            loop {
                let answer = client::ask(*proxy, HTTP, "broken.test", "/", None)
                    .await
                    .unwrap();
                if answer.status >= 500 {
                    return answer;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let answer = tokio::time::timeout(SOON, answered)
            .await
            .expect("the route without a Service answers 5xx");
        assert!(
            answer.text.to_lowercase().contains("x-request-id: "),
            "{}",
            answer.text
        );
    }
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    assert_eq!(shop.statuses(None).await, [401, 401]);
    shop.close().await;
}

/// As after a downgrade: the API server holds a plugin of a type that this controller does not know. What it protects
/// is closed, not open.
#[tokio::test]
async fn a_plugin_that_cannot_be_understood_closes_its_route() {
    let shop = Shop::open("unreadable").await;
    kubectl(
        "patch crd authplugins.postern.dev --type=json --patch=[{\"op\":\"replace\",\
         \"path\":\"/spec/versions/0/schema/openAPIV3Schema/properties/spec\",\
         \"value\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}}]",
    )
    .await;
    let taken = async {
        // Until the API server has taken the new schema it refuses what does not fit the old one.
        loop {
            let manifest = "{apiVersion: postern.dev/v1alpha1, kind: AuthPlugin, metadata: {name: key, namespace: unreadable}, \
                 spec: {targetRefs: [{group: networking.k8s.io, kind: Ingress, name: hello}], palmReading: {hand: left}}}";
            let output = crate::kubectl::run("kubectl", "replace --filename=-", manifest).await;
            let held = get("authplugin key --namespace=unreadable").await;
            if output.status.success() && held["spec"]["palmReading"].is_object() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
    };
    let taken = tokio::time::timeout(SOON, taken).await;
    let closed = async |shop: &Shop| {
        shop.expect(Some(&shop.key), 500, SOON).await;
        let (_, message) =
            wait_for_condition("authplugin/key --namespace=unreadable", "Accepted", "False").await;
        assert!(
            message.contains("palmReading"),
            "it names what it does not know: {message}"
        );
        let answer = client::ask(shop.proxies[0], HTTP, &shop.host, "/", None)
            .await
            .unwrap();
        assert!(
            answer
                .text
                .contains("configuration of this route is incomplete"),
            "{}",
            answer.text
        );
    };
    if taken.is_ok() {
        closed(&shop).await;
    }
    kubectl("delete authplugin key --namespace=unreadable").await;
    kubectl("apply --server-side --force-conflicts --filename=crds/postern.dev_authplugins.yaml")
        .await;
    assert!(taken.is_ok(), "the API server never took the wider schema");
    shop.close().await;
}
