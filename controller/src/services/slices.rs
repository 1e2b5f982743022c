//! EndpointSlices for Services without a selector: the fleet's own, with the ports of a Gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use compile::GatewayService;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::{Plan, is_marked};

/// Names the Service that a slice belongs to.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Kubernetes leaves alone what others say that they manage.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "postern";
/// The API server takes no more in one slice.
const MOST: usize = 1000;

/// The slices of a Gateway's Service, after those of the fleet's.
pub(super) fn of(
    plan: &Plan,
    wanted: &GatewayService,
    service: &Service,
    fleet: &[Arc<EndpointSlice>],
) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for (address_type, endpoints) in endpoints(fleet) {
        for (number, endpoints) in endpoints.chunks(MOST).enumerate() {
            let family = address_type.to_lowercase();
            let name = match number {
                0 => format!("{}-{family}", wanted.name),
                _ => format!("{}-{family}-{number}", wanted.name),
            };
            slices.push(EndpointSlice {
                metadata: metadata(plan, wanted, service, name),
                address_type: address_type.to_owned(),
                endpoints: endpoints.to_vec(),
                ports: Some(ports(wanted)),
            });
        }
    }
    slices
}

/// By address family; in each, endpoints in the order of their addresses, however the fleet's slices are cut.
fn endpoints(fleet: &[Arc<EndpointSlice>]) -> BTreeMap<&str, Vec<Endpoint>> {
    let mut found: BTreeMap<&str, BTreeMap<&[String], &Endpoint>> = BTreeMap::new();
    for slice in fleet {
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            continue;
        }
        let family = found.entry(&slice.address_type).or_default();
        for endpoint in slice.endpoints.iter().filter(|endpoint| serves(endpoint)) {
            // While a slice is split, an endpoint may stand in two of them for a moment; the ready one is the newer.
            let known = family.entry(&endpoint.addresses).or_insert(endpoint);
            if !is_ready(known) {
                *known = endpoint;
            }
        }
    }
    let kept = found.into_iter().map(|(family, endpoints)| {
        let endpoints = endpoints.into_values().map(kept);
        (family, endpoints.collect())
    });
    kept.collect()
}

/// Absent means unknown, which the API says to take as ready.
fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

/// Whether a pod is ready, or drains; kube-proxy still needs the latter where they are a node's last.
fn serves(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let serving = conditions.and_then(|conditions| conditions.serving);
    is_ready(endpoint) || serving == Some(true)
}

/// What is true of an endpoint whichever Service leads to it. Hints are not: Kubernetes gives them to a Service that asks.
fn kept(endpoint: &Endpoint) -> Endpoint {
    Endpoint {
        addresses: endpoint.addresses.clone(),
        conditions: endpoint.conditions.clone(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
        zone: endpoint.zone.clone(),
        ..Endpoint::default()
    }
}

fn ports(wanted: &GatewayService) -> Vec<EndpointPort> {
    let ports = wanted.ports.iter().map(|(name, _, target)| EndpointPort {
        name: Some(name.clone()),
        port: Some(i32::from(*target)),
        protocol: Some("TCP".into()),
        app_protocol: None,
    });
    ports.collect()
}

fn metadata(plan: &Plan, wanted: &GatewayService, service: &Service, name: String) -> ObjectMeta {
    let mut labels = plan.marks();
    labels.extend([
        (SERVICE_NAME.into(), wanted.name.clone()),
        (MANAGED_BY.into(), MANAGER.into()),
    ]);
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: wanted.name.clone(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    ObjectMeta {
        name: Some(name),
        namespace: Some(wanted.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Whether a slice says what is desired.
pub(super) fn fits(held: &EndpointSlice, desired: &EndpointSlice) -> bool {
    is_marked(&held.metadata, &desired.metadata)
        && held.address_type == desired.address_type
        && held.endpoints == desired.endpoints
        && held.ports == desired.ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::service::tests::wanted;
    use crate::services::tests::plan;
    use compile::ServicePlace;
    use serde_json::{Value, json};

    fn service(uid: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"uid": uid}})).unwrap()
    }

    fn fleet(slices: Value) -> Vec<Arc<EndpointSlice>> {
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices).unwrap();
        slices.into_iter().map(Arc::new).collect()
    }

    fn made(slices: Value) -> Vec<EndpointSlice> {
        let plan = plan(ServicePlace::Gateway);
        of(&plan, &wanted(), &service("7"), &fleet(slices))
    }

    fn addresses(slice: &EndpointSlice) -> Vec<&str> {
        let endpoints = slice.endpoints.iter();
        endpoints.map(|one| one.addresses[0].as_str()).collect()
    }

    #[test]
    fn a_service_gets_the_fleets_pods_with_its_own_ports_one_slice_for_each_family() {
        let slices = made(json!([
            {"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"], "conditions": {"ready": true}}]},
            {"addressType": "IPv4", "ports": [{"name": "http", "port": 8000}], "endpoints": [
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true, "serving": true, "terminating": false},
                 "nodeName": "a", "zone": "z", "hints": {"forZones": [{"name": "z"}]},
                 "targetRef": {"kind": "Pod", "namespace": "postern", "name": "postern-proxy-1"}},
                {"addresses": ["10.0.0.1"]}]},
            {"addressType": "FQDN", "endpoints": [{"addresses": ["proxy.test"]}]},
        ]));
        let [four, six] = slices.as_slice() else {
            panic!("{slices:?}")
        };
        assert_eq!(
            serde_json::to_value(four).unwrap(),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": "postern-edge-ipv4", "namespace": "shop",
                    "labels": {
                        "kubernetes.io/service-name": "postern-edge", "endpointslice.kubernetes.io/managed-by": "postern",
                        "postern.dev/component": "gateway", "postern.dev/installation": "postern",
                    },
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "postern-edge", "uid": "7", "controller": true}],
                },
                "addressType": "IPv4",
                "ports": [
                    {"name": "http-80", "port": 10_000, "protocol": "TCP"},
                    {"name": "https-443", "port": 10_001, "protocol": "TCP"},
                ],
                "endpoints": [
                    {"addresses": ["10.0.0.1"]},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": true, "serving": true, "terminating": false},
                     "nodeName": "a", "zone": "z",
                     "targetRef": {"kind": "Pod", "namespace": "postern", "name": "postern-proxy-1"}},
                ],
            })
        );
        assert_eq!(
            (
                six.metadata.name.as_deref(),
                six.address_type.as_str(),
                addresses(six)
            ),
            (Some("postern-edge-ipv6"), "IPv6", vec!["fd00::1"])
        );
    }

    #[test]
    fn pods_that_drain_stay_known_as_such_and_others_that_are_not_ready_are_left_out() {
        let one = |address: &str, conditions: Value| json!({"addressType": "IPv4", "endpoints": [{"addresses": [address], "conditions": conditions}]});
        let slices = made(json!([
            one(
                "10.0.0.1",
                json!({"ready": false, "serving": true, "terminating": true})
            ),
            one("10.0.0.2", json!({"ready": false, "serving": false})),
            one("10.0.0.3", json!({"ready": false})),
            one("10.0.0.4", json!({})),
            // In two slices.
            one("10.0.0.5", json!({"ready": false, "serving": true})),
            one("10.0.0.5", json!({"ready": true})),
        ]));
        let [slice] = slices.as_slice() else {
            panic!("{slices:?}")
        };
        assert_eq!(addresses(slice), ["10.0.0.1", "10.0.0.4", "10.0.0.5"]);
        let ready: Vec<_> = slice.endpoints.iter().map(is_ready).collect();
        assert_eq!(ready, [false, true, true]);
        assert!(made(json!([])).is_empty());
        let none = made(json!([one("10.0.0.2", json!({"ready": false}))]));
        assert!(none.is_empty());
    }

    #[test]
    fn a_large_fleet_is_cut_into_what_one_slice_may_hold() {
        let endpoints: Vec<_> = (0..2001)
            .map(|number| json!({"addresses": [format!("10.0.{}.{}", number / 256, number % 256)]}))
            .collect();
        let slices = made(json!([{"addressType": "IPv4", "endpoints": endpoints}]));
        let sizes: Vec<_> = slices
            .iter()
            .map(|slice| (slice.metadata.name.clone().unwrap(), slice.endpoints.len()))
            .collect();
        assert_eq!(
            sizes,
            [
                ("postern-edge-ipv4".into(), 1000),
                ("postern-edge-ipv4-1".into(), 1000),
                ("postern-edge-ipv4-2".into(), 1),
            ]
        );
    }

    #[test]
    fn what_differs_is_written_again_and_what_others_add_is_not() {
        let fleet = json!([{"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}]);
        let desired = made(fleet.clone()).remove(0);
        let mut held = desired.clone();
        let labels = held.metadata.labels.as_mut().unwrap();
        labels.insert("other".into(), "x".into());
        assert!(fits(&held, &desired));
        for change in [
            |slice: &mut EndpointSlice| slice.endpoints.clear(),
            |slice: &mut EndpointSlice| slice.ports = None,
            |slice: &mut EndpointSlice| slice.address_type = "IPv6".into(),
            |slice: &mut EndpointSlice| slice.metadata.labels = None,
            |slice: &mut EndpointSlice| slice.metadata.owner_references = None,
        ] {
            let mut changed = held.clone();
            change(&mut changed);
            assert!(!fits(&changed, &desired));
        }
        // The Service was deleted and made anew.
        let plan = plan(ServicePlace::Gateway);
        let again = of(&plan, &wanted(), &service("8"), &self::fleet(fleet)).remove(0);
        assert!(!fits(&held, &again));
    }
}
