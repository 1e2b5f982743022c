//! Bad objects harm only themselves, and say what is wrong.

use std::time::Duration;

use crate::client;
use crate::kubectl::{apply, condition, events, get, kubectl, run, wait_for_condition};
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
        tokio::time::sleep(Duration::from_millis(250)).await;
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
        tokio::time::sleep(Duration::from_millis(250)).await;
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
                tokio::time::sleep(Duration::from_millis(50)).await;
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
    // The kinds must be as they were for whatever comes next, also when this fails or panics.
    let ran = tokio::spawn(async move {
        let outcome = tokio::time::timeout(SOON, is_closed_by_an_unknown_plugin(&shop)).await;
        (shop, outcome)
    })
    .await;
    kubectl("delete authplugin key --namespace=unreadable").await;
    kubectl("apply --server-side --force-conflicts --filename=crds/postern.dev_authplugins.yaml")
        .await;
    let (shop, outcome) = ran.unwrap();
    outcome
        .unwrap_or_else(|_| Err("took too long".to_owned()))
        .unwrap();
    shop.close().await;
}

/// Gives the route a plugin of an unknown type until all that must follow has followed; says what has not.
async fn is_closed_by_an_unknown_plugin(shop: &Shop) -> Result<(), String> {
    for round in 0.. {
        // Until the API server has taken the wider schema it refuses the object, or drops the field for its watchers.
        let manifest = format!(
            "{{apiVersion: postern.dev/v1alpha1, kind: AuthPlugin, metadata: {{name: key, namespace: {}}}, spec: {{targetRefs: \
             [{{group: networking.k8s.io, kind: Ingress, name: hello}}], palmReading: {{hand: left, line: {round}}}}}}}",
            shop.name
        );
        let replaced = run("kubectl", "replace --filename=-", &manifest).await;
        if replaced.status.success() {
            let held = get(&format!("authplugin key --namespace={}", shop.name)).await;
            let said = condition(&held, "Accepted");
            if said.is_some_and(|(status, _, message)| {
                status == "False" && message.contains("palmReading")
            }) {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for proxy in &shop.proxies {
        for key in [None, Some(shop.key.as_str())] {
            let answer = client::ask(*proxy, HTTP, &shop.host, "/", key).await?;
            if answer.status != 500
                || !answer
                    .text
                    .contains("configuration of this route is incomplete")
            {
                return Err(format!("{proxy} answers with key {key:?}: {}", answer.text));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn proxies_that_share_no_store_are_told_of_where_tokens_are_issued() {
    let shop = Shop::open("no-store").await;
    apply(
        "{apiVersion: postern.dev/v1alpha1, kind: AuthPlugin, metadata: {name: tokens, namespace: no-store}, spec: \
         {oauth2: {enableClientCredentials: true}}}",
    )
    .await;
    let plugin = "authplugin/tokens --namespace=no-store";
    let (_, message) = wait_for_condition(plugin, "Programmed", "True").await;
    assert!(
        message.contains("stores of tokens and sessions"),
        "{message}"
    );
    shop.close().await;
}
