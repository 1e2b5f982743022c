//! Keeps a Service for every Gateway, and knows where clients reach the fleet.
//!
//! Services are found by label and need no finalizer: what a Gateway that is gone left behind is deleted whenever somebody
//! looks.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compile::{GatewayService, ObjectRef};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::lease::Leadership;
use crate::status::{Address, Addresses};

/// Marks the Services that are kept here; the value is always the same.
const LABEL: &str = "postern.dev/component";
const COMPONENT: &str = "gateway";
/// Says which Gateway a Service belongs to, for people.
const GATEWAY: &str = "postern.dev/gateway";
/// The Gateway API's label for what is made for a Gateway.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The longest value of a label.
const MAX_LABEL: usize = 63;
/// What failed is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// How Services are made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The controller's namespace.
    pub(crate) namespace: String,
    /// The Service of the fleet itself, which Ingresses share.
    pub(crate) fleet: String,
    /// Labels of the fleet's pods.
    pub(crate) selector: BTreeMap<String, String>,
    /// ClusterIP, NodePort or LoadBalancer.
    pub(crate) service_type: String,
    /// Set on every Service.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// See the module.
pub(crate) struct Keeper {
    pub(crate) client: kube::Client,
    pub(crate) plan: Plan,
    pub(crate) wanted: watch::Receiver<Arc<[GatewayService]>>,
    pub(crate) addresses: watch::Sender<Addresses>,
    pub(crate) leadership: Leadership,
    /// Nothing is deleted before it is known what is wanted.
    pub(crate) synced: watch::Receiver<bool>,
}

impl Keeper {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(mut self) {
        if self.synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.plan.namespace);
        let events = watcher::watcher(api.clone(), watcher::Config::default());
        pin_mut!(events);
        let mut held: BTreeMap<String, Service> = BTreeMap::new();
        let mut listed = HashSet::new();
        let mut complete = false;
        let mut backoff = Backoff::default();
        let mut retry: Option<Instant> = None;
        let mut leading = false;
        loop {
            let leader = async {
                if leading {
                    self.leadership.lost().await
                } else {
                    self.leadership.gained().await
                }
            };
            let again = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = leader => leading = !leading,
                () = again => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
                event = events.next() => match event {
                    None => return,
                    Some(Ok(event)) => {
                        backoff.reset();
                        complete |= matches!(event, Event::InitDone);
                        take(event, &mut held, &mut listed);
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of the fleet's Services broke; what was seen stays in force");
                        tokio::time::sleep(backoff.next()).await;
                        continue;
                    }
                },
            }
            let wanted = Arc::clone(&self.wanted.borrow_and_update());
            retry = None;
            if !complete {
                continue;
            }
            self.announce(&wanted, &held);
            if leading && !self.reconcile(&api, &wanted, &held).await {
                retry = Some(Instant::now() + RETRY);
            }
        }
    }

    fn announce(&self, wanted: &[GatewayService], held: &BTreeMap<String, Service>) {
        let of = |name: &str| held.get(name).map(reached).unwrap_or_default();
        let addresses = Addresses {
            ingresses: of(&self.plan.fleet),
            gateways: wanted
                .iter()
                .map(|service| (service.gateway.clone(), of(&service.name)))
                .collect(),
        };
        self.addresses.send_if_modified(|old| {
            let changed = *old != addresses;
            if changed {
                *old = addresses;
            }
            changed
        });
    }

    /// False where something is to be tried again.
    async fn reconcile(
        &self,
        api: &Api<Service>,
        wanted: &[GatewayService],
        held: &BTreeMap<String, Service>,
    ) -> bool {
        let mut done = true;
        for service in wanted {
            let desired = self.plan.service(service);
            if held
                .get(&service.name)
                .is_some_and(|held| fits(held, &desired))
            {
                continue;
            }
            if held.get(&service.name).is_some_and(|held| !is_ours(held)) {
                tracing::warn!(
                    gateway = %service.gateway, service = service.name,
                    "a Service of this name exists and is not Postern's: rename or delete it"
                );
                done = false;
                continue;
            }
            let params = PatchParams::apply(crate::FIELD_MANAGER).force();
            match api
                .patch(&service.name, &params, &Patch::Apply(&desired))
                .await
            {
                Ok(_) => {
                    tracing::info!(gateway = %service.gateway, service = service.name, "wrote a Gateway's Service")
                }
                Err(error) => {
                    tracing::warn!(gateway = %service.gateway, service = service.name, %error, "cannot write a Gateway's Service");
                    done = false;
                }
            }
        }
        let names: HashSet<&str> = wanted.iter().map(|service| service.name.as_str()).collect();
        for (name, service) in held
            .iter()
            .filter(|(name, service)| is_ours(service) && !names.contains(name.as_str()))
        {
            let preconditions = Preconditions {
                uid: service.metadata.uid.clone(),
                resource_version: None,
            };
            let params = DeleteParams {
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            match api.delete(name, &params).await {
                Ok(_) => tracing::info!(
                    service = name,
                    "deleted the Service of a Gateway that is gone"
                ),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => {
                    tracing::warn!(service = name, %error, "cannot delete the Service of a Gateway that is gone");
                    done = false;
                }
            }
        }
        done
    }
}

impl Plan {
    fn service(&self, wanted: &GatewayService) -> Service {
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
        labels.extend([
            (LABEL.into(), COMPONENT.into()),
            ("app.kubernetes.io/managed-by".into(), "postern".into()),
        ]);
        // A Gateway's name may be longer than a label's value.
        if name.len() <= MAX_LABEL {
            labels.insert(GATEWAY_NAME.into(), name.to_string());
        }
        let is_balanced = self.service_type == "LoadBalancer";
        Service {
            metadata: ObjectMeta {
                name: Some(wanted.name.clone()),
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                type_: Some(self.service_type.clone()),
                selector: Some(self.selector.clone()),
                ports: Some(ports.collect()),
                // Balancers take one address; what they cannot have, they leave out of the status.
                load_balancer_ip: wanted.addresses.first().filter(|_| is_balanced).cloned(),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }
}

fn take(event: Event<Service>, held: &mut BTreeMap<String, Service>, listed: &mut HashSet<String>) {
    let name = |service: &Service| service.metadata.name.clone().unwrap_or_default();
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(service) => {
            listed.insert(name(&service));
            held.insert(name(&service), service);
        }
        Event::InitDone => held.retain(|name, _| listed.contains(name)),
        Event::Apply(service) => {
            held.insert(name(&service), service);
        }
        Event::Delete(service) => {
            held.remove(&name(&service));
        }
    }
}

fn is_ours(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(LABEL))
        .is_some_and(|component| component == COMPONENT)
}

/// Whether all that is desired is there; what the API server fills in, and others add, does not matter.
fn fits(held: &Service, desired: &Service) -> bool {
    let contains = |held: &Option<BTreeMap<String, String>>,
                    desired: &Option<BTreeMap<String, String>>| {
        desired
            .iter()
            .flatten()
            .all(|(name, value)| held.as_ref().and_then(|held| held.get(name)) == Some(value))
    };
    let (Some(spec), Some(wanted)) = (&held.spec, &desired.spec) else {
        return false;
    };
    let ports = |spec: &ServiceSpec| -> Vec<(Option<String>, i32, Option<IntOrString>)> {
        let ports = spec.ports.iter().flatten();
        ports
            .map(|port| (port.name.clone(), port.port, port.target_port.clone()))
            .collect()
    };
    is_ours(held)
        && contains(&held.metadata.labels, &desired.metadata.labels)
        && contains(&held.metadata.annotations, &desired.metadata.annotations)
        && spec.type_ == wanted.type_
        && spec.load_balancer_ip == wanted.load_balancer_ip
        && spec.selector == wanted.selector
        && ports(spec) == ports(wanted)
}

/// Where clients reach a Service: what its load balancer got, else its own addresses in the cluster.
fn reached(service: &Service) -> Vec<Address> {
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
mod tests {
    use super::*;
    use compile::Kind;
    use serde_json::json;

    fn plan() -> Plan {
        Plan {
            namespace: "postern".into(),
            fleet: "postern-proxy".into(),
            selector: BTreeMap::from([("app.kubernetes.io/component".into(), "proxy".into())]),
            service_type: "LoadBalancer".into(),
            annotations: BTreeMap::from([("example.com/lb".into(), "internal".into())]),
        }
    }

    fn wanted() -> GatewayService {
        GatewayService {
            gateway: ObjectRef::new(Kind::Gateway, "shop", "edge"),
            gateway_uid: "1".into(),
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
        let desired = plan().service(&wanted());
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
    fn a_new_list_forgets_what_is_gone() {
        let service = |name: &str| -> Service {
            serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
        };
        let (mut held, mut listed) = (BTreeMap::new(), HashSet::new());
        for event in [
            Event::Init,
            Event::InitApply(service("a")),
            Event::InitApply(service("b")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(service("b")),
            Event::InitDone,
            Event::Apply(service("c")),
        ] {
            take(event, &mut held, &mut listed);
        }
        assert_eq!(held.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}
