//! Objects in, statuses and snapshot out.

mod authentication;
mod callbacks;
mod gateways;
mod grpc;
mod incremental;
mod ingresses;
mod jwt;
mod listener_sets;
mod oauth2;
mod objects;
mod plugins;
mod properties;
mod routes;
mod services;
mod several;
mod trust;
mod upstream_policies;

use prost::Message;
use serde_json::{Value, json};
use snapshot::proto::resource::Body;
use snapshot::proto::{self, Resource};

use crate::{
    Compiler, Condition, ConditionStatus, Kind, Object, ObjectRef, ObjectStatus, ServicePlace,
    Settings, StatusBody, Update,
};

/// A compiler, and all that it said so far.
struct World {
    compiler: Compiler,
    statuses: std::collections::BTreeMap<ObjectRef, ObjectStatus>,
    last: Update,
}

fn standalone() -> Settings {
    Settings {
        gateway_controller: "postern.dev/gateway-controller".into(),
        ingress_controller: "postern.dev/ingress-controller".into(),
        standalone: true,
        ingress_ports: (8000, 8443),
        namespace: "postern".into(),
        gateway_services: ServicePlace::default(),
    }
}

fn cluster() -> Settings {
    Settings {
        standalone: false,
        ..standalone()
    }
}

/// Objects of a YAML text of several documents. Where they do not say it, the n-th was created in second 1000 + n.
fn objects(yaml: &str) -> Vec<Object> {
    yaml.split("\n---")
        .filter(|text| !text.trim().is_empty())
        .enumerate()
        .map(|(index, text)| {
            let mut value: Value = serde_saphyr::from_str(text).unwrap();
            let second = 1000 + i64::try_from(index).unwrap();
            let metadata = value["metadata"].as_object_mut().unwrap();
            let created = jiff::Timestamp::from_second(second).unwrap().to_string();
            metadata
                .entry("creationTimestamp")
                .or_insert(json!(created));
            let uid = format!("uid-{}-{}", text.len(), second);
            metadata.entry("uid").or_insert(json!(uid));
            Object::from_json(value).unwrap()
        })
        .collect()
}

impl World {
    fn new(settings: Settings) -> Self {
        let compiler = Compiler::new(settings);
        Self {
            compiler,
            statuses: [].into(),
            last: Update::default(),
        }
    }

    fn of(yaml: &str) -> Self {
        let mut world = Self::new(standalone());
        world.apply(yaml);
        world
    }

    fn in_cluster(yaml: &str) -> Self {
        let mut world = Self::new(cluster());
        world.apply(yaml);
        world
    }

    fn apply(&mut self, yaml: &str) -> &Update {
        for object in objects(yaml) {
            self.compiler.apply(object);
        }
        self.update()
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> &Update {
        assert!(self.compiler.delete(&ObjectRef::new(kind, namespace, name)));
        self.update()
    }

    fn update(&mut self) -> &Update {
        self.last = self.compiler.update();
        for object in &self.last.dropped_statuses {
            self.statuses.remove(object);
        }
        self.statuses.extend(self.last.statuses.clone());
        &self.last
    }

    fn body(&self, key: &str) -> Option<Body> {
        let entry = self.compiler.snapshot().get(key)?;
        let resource = Resource::decode(entry.encoded.clone()).unwrap();
        assert_eq!(resource.key, key);
        resource.body
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.compiler
            .snapshot()
            .with_prefix(prefix)
            .map(|(key, _)| key.to_string())
            .collect()
    }

    fn route(&self, key: &str) -> proto::Route {
        let Some(Body::Route(route)) = self.body(key) else {
            panic!("no {key} in {:?}", self.keys("Route/"))
        };
        route
    }

    fn listener(&self, key: &str) -> proto::Listener {
        let Some(Body::Listener(listener)) = self.body(key) else {
            panic!("no {key} in {:?}", self.keys("Listener/"))
        };
        listener
    }

    fn plugin(&self, key: &str) -> proto::Plugin {
        let Some(Body::Plugin(plugin)) = self.body(key) else {
            panic!("no {key} in {:?}", self.keys("Plugin/"))
        };
        plugin
    }

    fn upstream(&self, key: &str) -> proto::Upstream {
        let Some(Body::Upstream(upstream)) = self.body(key) else {
            panic!("no {key} in {:?}", self.keys("Upstream/"))
        };
        upstream
    }

    fn endpoints(&self, key: &str) -> Vec<String> {
        let Some(Body::Endpoints(endpoints)) = self.body(key) else {
            panic!("no {key}")
        };
        let line = |one: &proto::Endpoint| {
            let ready = if one.ready { "" } else { " not ready" };
            let serving = if one.serving { "" } else { " not serving" };
            format!("{}:{}{ready}{serving}", one.address, one.port)
        };
        endpoints.endpoints.iter().map(line).collect()
    }

    fn consumer(&self, key: &str) -> Option<proto::Consumer> {
        match self.body(key)? {
            Body::Consumer(consumer) => Some(consumer),
            other => panic!("{key} is {other:?}"),
        }
    }

    fn credential(&self, key: &str) -> Option<proto::Credential> {
        match self.body(key)? {
            Body::Credential(credential) => Some(credential),
            other => panic!("{key} is {other:?}"),
        }
    }

    fn status(&self, kind: Kind, namespace: &str, name: &str) -> &StatusBody {
        let reference = ObjectRef::new(kind, namespace, name);
        &self
            .statuses
            .get(&reference)
            .unwrap_or_else(|| panic!("no status of {reference}"))
            .body
    }

    /// "Accepted=False/Conflicted: message", of objects with plain conditions and of Gateways.
    fn condition(&self, kind: Kind, name: &str, condition: &str) -> String {
        match self.status(kind, "shop", name) {
            StatusBody::Conditions { conditions, .. } | StatusBody::Gateway { conditions, .. } => {
                shown(conditions, condition)
            }
            other => panic!("{other:?}"),
        }
    }

    fn field(&self, kind: Kind, name: &str, field: &str) -> Value {
        match self.status(kind, "shop", name) {
            StatusBody::Conditions { fields, .. } => fields.get(field).cloned().unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    fn listener_condition(&self, gateway: &str, listener: &str, condition: &str) -> String {
        let StatusBody::Gateway { listeners, .. } = self.status(Kind::Gateway, "shop", gateway)
        else {
            panic!()
        };
        let listener = listeners.iter().find(|one| one.name == listener).unwrap();
        shown(&listener.conditions, condition)
    }

    fn attached(&self, gateway: &str) -> Vec<i32> {
        let StatusBody::Gateway { listeners, .. } = self.status(Kind::Gateway, "shop", gateway)
        else {
            panic!()
        };
        listeners
            .iter()
            .map(|listener| listener.attached_routes)
            .collect()
    }

    /// The condition of each parent.
    fn parents(&self, route: &str, condition: &str) -> Vec<String> {
        let StatusBody::Route { parents } = self.status(Kind::HttpRoute, "shop", route) else {
            panic!()
        };
        parents
            .iter()
            .map(|parent| shown(&parent.conditions, condition))
            .collect()
    }

    /// "Kind ns/name reason field: message"
    fn diagnostics(&self) -> Vec<String> {
        let line = |one: &crate::Diagnostic| {
            format!(
                "{:?} {} {} {}: {}",
                one.level, one.object, one.reason, one.field, one.message
            )
        };
        self.last.diagnostics.iter().map(line).collect()
    }

    fn assert_diagnostic(&self, parts: &[&str]) {
        let all = self.diagnostics();
        let found = all
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "no {parts:?} in {all:#?}");
    }
}

fn shown(conditions: &[Condition], kind: &str) -> String {
    let condition = conditions
        .iter()
        .find(|one| one.kind == kind)
        .unwrap_or_else(|| panic!("no {kind}"));
    let status = match &condition.status {
        ConditionStatus::True => "True".to_owned(),
        ConditionStatus::False => "False".to_owned(),
        ConditionStatus::When(by) if by.shares_store => format!("SharedWhen{:?}", by.keys),
        ConditionStatus::When(by) => format!("When{:?}", by.keys),
    };
    format!("{status}/{}: {}", condition.reason, condition.message)
        .trim_end_matches(": ")
        .to_owned()
}

/// A Gateway, a route to a Service with two addresses, a plugin on the route, a Consumer and its Credential.
const SHOP: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway, namespace: shop}
spec:
  gatewayClassName: postern
  listeners:
  - {name: http, port: 8000, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [shop.test]
  rules:
  - name: all
    matches: [{path: {type: PathPrefix, value: /orders}}]
    backendRefs: [{name: orders, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec:
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: orders-1, namespace: shop, labels: {kubernetes.io/service-name: orders}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.2], conditions: {ready: true}}
- {addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: api-key, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
  keyAuth: {}
---
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: alice, namespace: shop, uid: 7bce93e1-0000-4000-8000-000000000001}
spec: {customId: "4711", groups: [gold]}
---
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: alice-key, namespace: shop, uid: 7bce93e1-0000-4000-8000-000000000002}
spec:
  consumerRef: {name: alice}
  ttl: 3600
  keyAuth: {secretRef: {name: keys, key: alice}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {alice: "open sesame\n"}
"#;
