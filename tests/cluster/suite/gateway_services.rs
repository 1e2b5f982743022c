//! Services of Gateways, in Postern's namespace and in those of the Gateways.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client;
use crate::fleet;
use crate::kubectl::{SYSTEM, apply, events, get, helm, kubectl, wait_for_condition};
use crate::shop::{SOON, Shop};

const SHOP: &str = "moving";

/// A Gateway with what it asks for its Service, and a protected route below it.
fn gateway(name: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {SHOP}}}
spec:
  gatewayClassName: postern
  infrastructure: {{labels: {{team: front}}, annotations: {{example.com/size: small}}}}
  listeners: [{{name: http, protocol: HTTP, port: 80}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {SHOP}}}
spec:
  parentRefs: [{{name: {name}}}]
  hostnames: [{name}.test]
  rules: [{{backendRefs: [{{name: hello, port: 80}}]}}]
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: {name}, namespace: {SHOP}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]
  keyAuth: {{}}
"
    )
}

/// The installation with its Services in another place.
async fn place(place: &str) {
    helm(&format!(
        "upgrade postern charts/postern --namespace {SYSTEM} --reuse-values \
         --set controller.gatewayService.namespace={place} --wait --timeout 120s"
    ))
    .await;
}

/// Objects of a kind with these labels.
async fn labelled(kind: &str, namespace: &str, labels: &str) -> Vec<Value> {
    let list = get(&format!(
        "{kind} --namespace={namespace} --selector={labels}"
    ))
    .await;
    list["items"].as_array().expect("a list has items").clone()
}

/// The Services of a Gateway in a namespace.
async fn services(gateway: &str, namespace: &str) -> Vec<Value> {
    let label =
        format!("gateway.networking.k8s.io/gateway-name={gateway},postern.dev/component=gateway");
    let mut services = labelled("services", namespace, &label).await;
    services.retain(|service| service["metadata"]["deletionTimestamp"].is_null());
    services
}

/// Waits until a Gateway's Service is in one namespace and no longer in the other.
async fn service(gateway: &str, here: &str, not_there: &str) -> Value {
    let mut last = (Vec::new(), Vec::new());
    for _ in 0..120 {
        last = (
            services(gateway, here).await,
            services(gateway, not_there).await,
        );
        if let (&[only], []) = (&last.0.iter().collect::<Vec<_>>()[..], &last.1[..]) {
            return only.clone();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{gateway}'s Service is not in {here} alone: {last:#?}");
}

/// Deletes a Gateway, and waits until no Service is left of it.
async fn delete(gateway: &str) {
    kubectl(&format!("delete gateway/{gateway} --namespace={SHOP}")).await;
    let mut last = Vec::new();
    for _ in 0..120 {
        last = services(gateway, SHOP).await;
        last.extend(services(gateway, SYSTEM).await);
        if last.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{gateway} is gone and its Service is not: {last:#?}");
}

fn address(service: &Value) -> IpAddr {
    let address = service["spec"]["clusterIP"].as_str();
    address
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("{service:#}"))
}

/// Waits until a Service's slices hold the proxies that are ready, and returns them.
async fn slices(service: &Value) -> Vec<Value> {
    let name = service["metadata"]["name"].as_str().unwrap();
    let label = format!("kubernetes.io/service-name={name}");
    let mut last = (Vec::new(), BTreeSet::new());
    for _ in 0..240 {
        let proxies: BTreeSet<_> = fleet::proxies()
            .await
            .iter()
            .map(|proxy| proxy.address.to_string())
            .collect();
        let slices = labelled("endpointslices", SHOP, &label).await;
        let endpoints = slices
            .iter()
            .filter(|slice| {
                slice["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
            })
            .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let ready: BTreeSet<_> = endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned))
            .collect();
        if ready == proxies {
            return slices;
        }
        last = (slices, proxies);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("the slices of {name} do not hold the proxies: {last:#?}");
}

/// Waits until a Gateway is reached, with its key and not without, through its Service.
async fn reached(shop: &Shop, gateway: &str, service: &Value) {
    let (address, host) = (address(service), format!("{gateway}.test"));
    client::until_status(address, 80, &host, Some(&shop.key), 200, SOON).await;
    client::until_status(address, 80, &host, None, 401, SOON).await;
    let mut shown = Value::Null;
    for _ in 0..120 {
        let gateway = get(&format!("gateway/{gateway} --namespace={SHOP}")).await;
        shown = gateway["status"]["addresses"][0]["value"].clone();
        if shown == address.to_string() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{gateway} shows the address {shown}, not {address}");
}

/// Waits until the class claims, or does not, that infrastructure is in the Gateway's namespace.
async fn claims_infrastructure(wanted: bool) {
    let feature = json!({"name": "GatewayInfrastructure"});
    for _ in 0..120 {
        let class = get("gatewayclass/postern").await;
        let features = class["status"]["supportedFeatures"].as_array().cloned();
        if features.is_some_and(|features| features.contains(&feature) == wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("GatewayInfrastructure was to be claimed: {wanted}");
}

/// Somebody else's Service has the name of a Gateway's: it stays what it is, and an Event says so.
async fn a_foreign_service_is_left_alone(shop: &Shop) {
    apply(&gateway("side")).await;
    let service = service("side", SHOP, SYSTEM).await;
    let name = service["metadata"]["name"].as_str().unwrap();
    delete("side").await;
    apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {SHOP}}}, spec: {{ports: [{{port: 9}}]}}}}"
    ))
    .await;
    let foreign = format!("service/{name} --namespace={SHOP}");
    let before = get(&foreign).await;
    apply(&gateway("side")).await;
    let told = format!("Service {SHOP}/{name} exists and is not Postern's");
    let mut last = Vec::new();
    for _ in 0..120 {
        last = events(SHOP, "side").await;
        if last.iter().any(|message| message.starts_with(&told)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(
        last.iter().any(|message| message.starts_with(&told)),
        "{last:?}"
    );
    assert_eq!(get(&foreign).await, before);

    kubectl(&format!("delete {foreign}")).await;
    let own = self::service("side", SHOP, SYSTEM).await;
    reached(shop, "side", &own).await;
    delete("side").await;
}

#[tokio::test]
async fn services_move_to_their_gateways_and_back_and_lead_to_the_proxies() {
    let shop = Shop::open(SHOP).await;
    apply(&gateway("front")).await;
    wait_for_condition(
        &format!("gateway/front --namespace={SHOP}"),
        "Programmed",
        "True",
    )
    .await;
    let beside = service("front", SYSTEM, SHOP).await;
    reached(&shop, "front", &beside).await;
    claims_infrastructure(false).await;

    place("gateway").await;
    let own = service("front", SHOP, SYSTEM).await;
    assert!(own["spec"]["selector"].is_null(), "{own:#}");
    assert_eq!(own["metadata"]["labels"]["team"], "front");
    assert_eq!(own["metadata"]["annotations"]["example.com/size"], "small");
    let [slice] = &slices(&own).await[..] else {
        panic!("a cluster with one family has one slice")
    };
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "postern"
    );
    reached(&shop, "front", &own).await;
    claims_infrastructure(true).await;

    // What is taken away comes back; what the fleet becomes, the slices follow.
    let names = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    kubectl(&format!(
        "delete endpointslice/{} --namespace={SHOP}",
        names(slice)
    ))
    .await;
    slices(&own).await;
    kubectl(&format!(
        "delete service/{} --namespace={SHOP}",
        names(&own)
    ))
    .await;
    let again = service("front", SHOP, SYSTEM).await;
    assert_ne!(again["metadata"]["uid"], own["metadata"]["uid"]);
    let gone = &fleet::proxies().await[0];
    kubectl(&format!("delete pod/{} --namespace={SYSTEM}", gone.name)).await;
    let now = slices(&again).await;
    assert!(
        !fleet::proxies()
            .await
            .iter()
            .any(|proxy| proxy.name == gone.name),
        "{now:#?}"
    );
    reached(&shop, "front", &again).await;
    a_foreign_service_is_left_alone(&shop).await;

    // Without the right to delete it: it goes with the role that gave it.
    place("release").await;
    let beside = service("front", SYSTEM, SHOP).await;
    assert!(!beside["spec"]["selector"].is_null(), "{beside:#}");
    reached(&shop, "front", &beside).await;
    claims_infrastructure(false).await;
    delete("front").await;
    shop.close().await;
}
