//! What a Gateway's Service is.

use std::net::IpAddr;

use compile::{GatewayService, ObjectRef, ServicePlace};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{Plan, is_marked};
use crate::status::Address;

/// Says which Gateway a Service belongs to, for people.
const GATEWAY: &str = "postern.dev/gateway";
/// The Gateway API's label for what is made for a Gateway.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The longest value of a label.
const MAX_LABEL: usize = 63;

impl Plan {
    pub(super) fn service(
        &self,
        wanted: &GatewayService,
        owner: Option<&OwnerReference>,
    ) -> Service {
        let ports = wanted.ports.iter().map(|(name, port, target)| ServicePort {
            name: Some(name.clone()),
            port: i32::from(*port),
            target_port: Some(IntOrString::Int(i32::from(*target))),
            protocol: Some("TCP".into()),
            ..ServicePort::default()
        });
        let ObjectRef {
            namespace, name, ..
        } = &wanted.gateway;
        let mut annotations = self.annotations.clone();
        annotations.extend(wanted.annotations.clone());
        annotations.insert(GATEWAY.into(), format!("{namespace}/{name}"));
        let mut labels = wanted.labels.clone();
        labels.extend(self.marks());
        labels.insert("app.kubernetes.io/managed-by".into(), "postern".into());
        // A Gateway's name may be longer than a label's value.
        if name.len() <= MAX_LABEL {
            labels.insert(GATEWAY_NAME.into(), name.to_string());
        }
        let is_balanced = self.service_type == "LoadBalancer";
        Service {
            metadata: ObjectMeta {
                name: Some(wanted.name.clone()),
                namespace: Some(wanted.namespace.clone()),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: owner.map(|owner| vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                type_: Some(self.service_type.clone()),
                selector: match self.place {
                    ServicePlace::Release => Some(self.selector.clone()),
                    ServicePlace::Gateway => None,
                },
                ports: Some(ports.collect()),
                // Balancers take one address; what they cannot have, they leave out of the status.
                load_balancer_ip: wanted.addresses.first().filter(|_| is_balanced).cloned(),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }
}

/// Whether all that is desired is there; what the API server fills in, and others add, does not matter.
pub(super) fn fits(held: &Service, desired: &Service) -> bool {
    let (Some(spec), Some(wanted)) = (&held.spec, &desired.spec) else {
        return false;
    };
    let ports = |spec: &ServiceSpec| -> Vec<(Option<String>, i32, Option<IntOrString>)> {
        let ports = spec.ports.iter().flatten();
        ports
            .map(|port| (port.name.clone(), port.port, port.target_port.clone()))
            .collect()
    };
    is_marked(&held.metadata, &desired.metadata)
        && spec.type_ == wanted.type_
        && spec.load_balancer_ip == wanted.load_balancer_ip
        && spec.selector == wanted.selector
        && ports(spec) == ports(wanted)
}

/// Where clients reach a Service: what its load balancer got, else its own addresses in the cluster.
pub(super) fn reached(service: &Service) -> Vec<Address> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let outside: Vec<Address> = balancer
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|ingress| match (&ingress.ip, &ingress.hostname) {
            (Some(ip), _) if !ip.is_empty() => Some(Address::Ip(ip.clone())),
            (_, Some(name)) if !name.is_empty() => Some(Address::Hostname(name.clone())),
            _ => None,
        })
        .collect();
    if !outside.is_empty() {
        return outside;
    }
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let all = spec
        .cluster_ips
        .clone()
        .unwrap_or_else(|| spec.cluster_ip.clone().into_iter().collect());
    // A headless Service says "None" here.
    all.into_iter()
        .filter(|ip| ip.parse::<IpAddr>().is_ok())
        .map(Address::Ip)
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::services::tests::plan;
    use compile::Kind;
    use serde_json::json;
    use std::collections::BTreeMap;

    /// Of Gateway shop/edge.
    pub(in crate::services) fn wanted() -> GatewayService {
        GatewayService {
            gateway: ObjectRef::new(Kind::Gateway, "shop", "edge"),
            gateway_uid: "1".into(),
            namespace: "shop".into(),
            name: "postern-edge".into(),
            labels: BTreeMap::from([("team".into(), "edge".into())]),
            annotations: BTreeMap::from([("example.com/size".into(), "small".into())]),
            addresses: vec!["192.0.2.7".into()],
            ports: vec![
                ("http-80".into(), 80, 10_000),
                ("https-443".into(), 443, 10_001),
            ],
        }
    }

    #[test]
    fn what_the_api_server_fills_in_needs_no_write_and_what_somebody_changed_does() {
        let desired = plan(ServicePlace::Release).service(&wanted(), None);
        let mut held = desired.clone();
        let spec = held.spec.as_mut().unwrap();
        spec.cluster_ip = Some("10.96.0.7".into());
        spec.ports.as_mut().unwrap()[0].node_port = Some(30_000);
        held.metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert("other".into(), "x".into());
        assert!(fits(&held, &desired));

        for change in [
            |service: &mut Service| service.spec.as_mut().unwrap().type_ = Some("ClusterIP".into()),
            |service: &mut Service| service.spec.as_mut().unwrap().selector = None,
            |service: &mut Service| {
                service.spec.as_mut().unwrap().ports.as_mut().unwrap()[1].port = 444
            },
            |service: &mut Service| service.metadata.labels = None,
            |service: &mut Service| service.spec.as_mut().unwrap().load_balancer_ip = None,
            |service: &mut Service| {
                drop(
                    service
                        .metadata
                        .annotations
                        .as_mut()
                        .unwrap()
                        .remove("example.com/lb"),
                )
            },
        ] {
            let mut changed = held.clone();
            change(&mut changed);
            assert!(!fits(&changed, &desired));
        }
    }

    #[test]
    fn a_load_balancers_address_comes_before_the_clusters_own() {
        let of = |value| reached(&serde_json::from_value::<Service>(value).unwrap());
        let spec = json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"]});
        assert_eq!(
            of(
                json!({"spec": spec, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.test"}]}}})
            ),
            [
                Address::Ip("192.0.2.1".into()),
                Address::Hostname("lb.test".into())
            ]
        );
        assert_eq!(
            of(json!({"spec": spec, "status": {"loadBalancer": {}}})),
            [
                Address::Ip("10.96.0.7".into()),
                Address::Ip("fd00::7".into())
            ]
        );
        assert_eq!(of(json!({"spec": {"clusterIP": "None"}})), []);
    }

    #[test]
    fn with_its_gateway_it_has_what_the_gateway_asks_for_and_no_selector() {
        let owner = OwnerReference {
            kind: "ClusterRole".into(),
            uid: "7".into(),
            ..OwnerReference::default()
        };
        let plan = plan(ServicePlace::Gateway);
        let service = plan.service(&wanted(), Some(&owner));
        let metadata = serde_json::to_value(&service.metadata).unwrap();
        assert_eq!(
            metadata,
            json!({
                "name": "postern-edge", "namespace": "shop",
                "labels": {
                    "team": "edge", "gateway.networking.k8s.io/gateway-name": "edge", "app.kubernetes.io/managed-by": "postern",
                    "postern.dev/component": "gateway", "postern.dev/installation": "postern",
                },
                "annotations": {"example.com/size": "small", "example.com/lb": "internal", "postern.dev/gateway": "shop/edge"},
                "ownerReferences": [{"apiVersion": "", "kind": "ClusterRole", "name": "", "uid": "7"}],
            })
        );
        assert_eq!(service.spec.as_ref().unwrap().selector, None);
        let orphan = plan.service(&wanted(), None);
        assert!(fits(&service, &orphan) && !fits(&orphan, &service));
    }

    #[test]
    fn a_gateway_cannot_give_its_service_the_marks_of_another() {
        let mut wanted = wanted();
        for name in [
            crate::services::LABEL,
            crate::services::INSTALLATION,
            "app.kubernetes.io/managed-by",
            GATEWAY_NAME,
        ] {
            wanted.labels.insert(name.into(), "x".into());
        }
        wanted.annotations.insert(GATEWAY.into(), "x".into());
        let metadata = plan(ServicePlace::Gateway).service(&wanted, None).metadata;
        let mut values = metadata
            .labels
            .iter()
            .chain(&metadata.annotations)
            .flatten();
        assert!(values.all(|(_, value)| value != "x"), "{metadata:?}");
    }
}
