//! Upstreams: Services, how they are spoken to and how their endpoints are treated.

use std::net::IpAddr;

use compile::Kind;
use serde_json::{Map, Value, json};

use super::super::manifests::{Manifests, is_host};
use super::tables::{self, number, plain, text};

/// What an upstream comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    nodes: Vec<Node>,
    protocol: Option<&'static str>,
    /// The name that its certificate must have, where TLS is spoken.
    pub(super) certificate: Option<String>,
    /// What is sent as Host: by rule where it is one, else by node.
    host: Host,
    policy: Map<String, Value>,
    pub(super) retries: Option<i64>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    host: String,
    port: u16,
    weight: i64,
}

#[derive(Debug, Clone, PartialEq)]
enum Host {
    AsItCame,
    Always(String),
    OfNode,
}

/// Services of an upstream that are there already.
pub(super) type Made = Vec<(Plan, Vec<Value>)>;

impl Plan {
    /// Works out an upstream; `hosts` are those of the route.
    ///
    /// # Errors
    /// What cannot be carried over.
    pub(super) fn new(from: &Value, hosts: &[String]) -> Result<Self, String> {
        for field in ["service_name", "discovery_type"] {
            if from.get(field).is_some() {
                return Err(format!(
                    "{field}: nodes of a registry are not carried over; name a Service or the nodes"
                ));
            }
        }
        if from.get("tls").is_some_and(|tls| {
            !tls.get("client_cert").is_none_or(tables::is_empty)
                || !tls.get("client_cert_id").is_none_or(tables::is_empty)
        }) {
            return Err("tls: certificates of the gateway are not carried over; they are the Gateway's (tls.backend)".to_owned());
        }
        let mut notes = Vec::new();
        let scheme = text(from, "scheme").unwrap_or_else(|| "http".to_owned());
        let secure = matches!(scheme.as_str(), "https" | "grpcs");
        let protocol = match scheme.as_str() {
            "http" | "https" => None,
            "grpc" | "grpcs" => Some("kubernetes.io/h2c"),
            other => return Err(format!("scheme: {other:?} is not carried over")),
        };
        let nodes = nodes(from, if secure { 443 } else { 80 }, &mut notes)?;
        let host = host(from, &nodes)?;
        let certificate = if secure {
            let name = match &host {
                Host::Always(name) => Some(name.clone()),
                Host::AsItCame => hosts
                    .first()
                    .filter(|host| hosts.len() == 1 && !host.starts_with('*'))
                    .cloned(),
                Host::OfNode => None,
            };
            let name = name.or_else(|| {
                nodes
                    .first()
                    .map(|node| node.host.clone())
                    .filter(|name| name.parse::<IpAddr>().is_err())
            });
            let name = name.ok_or("scheme: the name in the certificate is not known; give upstream_host with pass_host: rewrite")?;
            notes.push(format!("scheme: the certificate is verified now, it must be for {name} and from an authority that the system trusts; for another one put caCertificateRefs into the BackendTLSPolicy"));
            Some(name)
        } else {
            None
        };
        let mut plan = Self {
            nodes,
            protocol,
            certificate,
            host,
            policy: Map::new(),
            retries: number(from, "retries")
                .filter(|retries| *retries > 0)
                .map(|retries| retries.min(10)),
            notes,
        };
        plan.hash(from);
        plan.checks(from);
        plan.timeouts(from);
        Ok(plan)
    }

    /// The Host of all requests, where it is one.
    pub(super) const fn fixed_host(&self) -> Option<&String> {
        match &self.host {
            Host::Always(name) => Some(name),
            _ => None,
        }
    }

    /// Whether all nodes are addresses of one Service.
    fn is_one_service(&self) -> bool {
        let first = self.nodes.first().map(|node| node.weight);
        self.nodes.len() > 1
            && self.host != Host::OfNode
            && self
                .nodes
                .iter()
                .all(|node| node.host.parse::<IpAddr>().is_ok() && Some(node.weight) == first)
    }

    fn hash(&mut self, from: &Value) {
        let kind = text(from, "type").unwrap_or_else(|| "roundrobin".to_owned());
        if kind != "chash" {
            if kind == "ewma" {
                self.notes
                    .push("type: requests go to the less busy of two nodes".to_owned());
            }
            return;
        }
        let on = text(from, "hash_on").unwrap_or_else(|| "vars".to_owned());
        let key = text(from, "key").unwrap_or_default();
        let header = key.strip_prefix("http_").map(|name| name.replace('_', "-"));
        let own = match (on.as_str(), key.as_str()) {
            ("vars", "remote_addr") => json!({"clientAddress": {}}),
            ("header", name) if !name.is_empty() => {
                json!({"header": name.trim_start_matches("http_")})
            }
            ("consumer", _) => json!({"header": "X-Consumer-Username"}),
            _ => match (on.as_str(), header) {
                ("vars", Some(header)) => json!({"header": header}),
                _ => {
                    self.notes.push("hash_on, key: only remote_addr, headers and the consumer can be hashed; requests go to the less busy of two nodes".to_owned());
                    return;
                }
            },
        };
        if self.is_one_service() || self.nodes.len() == 1 {
            self.policy.insert("consistentHash".to_owned(), own);
        } else {
            self.notes.push("type: chash needs nodes that are all addresses and of one weight; requests are spread by weight".to_owned());
        }
    }

    fn checks(&mut self, from: &Value) {
        let Some(checks) = from
            .get("checks")
            .filter(|checks| !tables::is_empty(checks))
        else {
            return;
        };
        if let Some(active) = checks.get("active") {
            let (healthy, unhealthy) = (active.get("healthy"), active.get("unhealthy"));
            let of = |part: Option<&Value>, field: &str, default: i64, most: i64| {
                part.and_then(|part| number(part, field))
                    .unwrap_or(default)
                    .clamp(1, most)
            };
            let mut own = Map::new();
            own.insert(
                "intervalSeconds".to_owned(),
                json!(of(healthy, "interval", 1, 3600)),
            );
            own.insert(
                "timeoutSeconds".to_owned(),
                json!(of(Some(active), "timeout", 1, 60)),
            );
            own.insert(
                "healthyThreshold".to_owned(),
                json!(of(healthy, "successes", 2, 100)),
            );
            let tcp = text(active, "type").as_deref() == Some("tcp");
            let failures = if tcp {
                of(unhealthy, "tcp_failures", 2, 100)
            } else {
                of(unhealthy, "http_failures", 5, 100)
            };
            own.insert("unhealthyThreshold".to_owned(), json!(failures));
            if active.get("port").is_some() {
                self.notes
                    .push("checks.active.port: the port of requests is asked".to_owned());
            }
            if tcp {
                own.insert("tcp".to_owned(), json!({}));
            } else {
                let listed = healthy
                    .map(|healthy| statuses(healthy, 100))
                    .unwrap_or_default();
                let mut http = Map::new();
                http.insert(
                    "statuses".to_owned(),
                    json!(if listed.is_empty() {
                        vec![200, 302]
                    } else {
                        listed
                    }),
                );
                if let Some(path) = text(active, "http_path").filter(|path| path.starts_with('/')) {
                    http.insert("path".to_owned(), json!(path));
                }
                if let Some(host) = text(active, "host").filter(|host| is_host(host)) {
                    http.insert("host".to_owned(), json!(host));
                }
                own.insert("http".to_owned(), Value::Object(http));
            }
            self.policy
                .insert("activeHealth".to_owned(), Value::Object(own));
        }
        self.passive(checks);
    }

    fn passive(&mut self, checks: &Value) {
        if let Some(unhealthy) = checks
            .get("passive")
            .and_then(|passive| passive.get("unhealthy"))
        {
            let mut own = Map::new();
            own.insert(
                "consecutiveFailures".to_owned(),
                json!(
                    number(unhealthy, "http_failures")
                        .unwrap_or(5)
                        .clamp(1, 1000)
                ),
            );
            let listed = statuses(unhealthy, 400);
            if !listed.is_empty() {
                own.insert("statuses".to_owned(), json!(listed));
            }
            self.policy
                .insert("passiveHealth".to_owned(), Value::Object(own));
        }
    }

    fn timeouts(&mut self, from: &Value) {
        let Some(timeout) = from.get("timeout") else {
            return;
        };
        let seconds = |field: &str| {
            timeout
                .get(field)
                .and_then(Value::as_f64)
                .filter(|seconds| *seconds > 0.0)
        };
        let mut own = Map::new();
        if let Some(connect) = seconds("connect") {
            own.insert(
                "connectMilliseconds".to_owned(),
                json!(whole((connect * 1000.0).clamp(1.0, 600_000.0))),
            );
        }
        if let Some(read) = seconds("read") {
            own.insert(
                "responseSeconds".to_owned(),
                json!(whole(read.ceil().clamp(1.0, 86_400.0))),
            );
        }
        if !own.is_empty() {
            self.policy
                .insert("timeouts".to_owned(), Value::Object(own));
        }
    }

    /// The backendRefs, with what they refer to.
    pub(super) fn emit(
        &self,
        name: &str,
        made: &mut Made,
        manifests: &mut Manifests,
    ) -> Vec<Value> {
        if let Some((_, backends)) = made.iter().find(|(plan, _)| plan == self) {
            return backends.clone();
        }
        let mut backends = Vec::new();
        let mut services = Vec::new();
        if self.is_one_service() {
            let service = manifests.name(Kind::Service, name);
            self.slices(&service, manifests);
            backends.push(json!({"name": service, "port": 80}));
            services.push(service);
        } else {
            for node in &self.nodes {
                let service = manifests.name(Kind::Service, name);
                manifests.external(&service, &node.host, node.port, self.protocol);
                let mut backend = json!({"name": service, "port": node.port});
                if let Some(fields) = backend.as_object_mut() {
                    if self.nodes.len() > 1 {
                        fields.insert("weight".to_owned(), json!(node.weight));
                    }
                    if self.host == Host::OfNode && node.host.parse::<IpAddr>().is_err() {
                        let filter = json!({"type": "URLRewrite", "urlRewrite": {"hostname": node.host.to_ascii_lowercase()}});
                        fields.insert("filters".to_owned(), json!([filter]));
                    }
                }
                backends.push(backend);
                services.push(service);
            }
        }
        self.treat(name, &services, manifests);
        made.push((self.clone(), backends.clone()));
        backends
    }

    /// One Service for all addresses. Endpoints of one slice share their port.
    fn slices(&self, service: &str, manifests: &mut Manifests) {
        let mut port = json!({"name": "main", "port": 80});
        if let (Some(protocol), Some(fields)) = (self.protocol, port.as_object_mut()) {
            fields.insert("appProtocol".to_owned(), json!(protocol));
        }
        manifests.add(Kind::Service, service, json!({"spec": {"ports": [port]}}));
        for node in &self.nodes {
            let family = if node.host.parse::<std::net::Ipv6Addr>().is_ok() {
                "IPv6"
            } else {
                "IPv4"
            };
            let slice = manifests.name(Kind::EndpointSlice, service);
            manifests.labelled(
                Kind::EndpointSlice,
                &slice,
                &json!({"labels": {"kubernetes.io/service-name": service}}),
                json!({
                    "addressType": family,
                    "ports": [{"name": "main", "port": node.port, "protocol": "TCP"}],
                    "endpoints": [{"addresses": [node.host], "conditions": {"ready": true}}],
                }),
            );
        }
    }

    fn treat(&self, name: &str, services: &[String], manifests: &mut Manifests) {
        for some in services.chunks(16).filter(|_| !self.policy.is_empty()) {
            let targets: Vec<Value> = some
                .iter()
                .map(|service| json!({"name": service}))
                .collect();
            let mut spec = self.policy.clone();
            spec.insert("targetRefs".to_owned(), json!(targets));
            let policy = manifests.name(Kind::UpstreamPolicy, name);
            manifests.add(Kind::UpstreamPolicy, &policy, json!({"spec": spec}));
        }
        let Some(certificate) = &self.certificate else {
            return;
        };
        for (index, service) in services.iter().enumerate() {
            let node = self.nodes.get(index).filter(|_| self.host == Host::OfNode);
            let host = node.map_or(certificate, |node| &node.host);
            let policy = manifests.name(Kind::BackendTlsPolicy, name);
            let targets = json!([{"group": "", "kind": "Service", "name": service}]);
            let validation = json!({"wellKnownCACertificates": "System", "hostname": host});
            manifests.add(
                Kind::BackendTlsPolicy,
                &policy,
                json!({"spec": {"targetRefs": targets, "validation": validation}}),
            );
        }
    }
}

fn nodes(from: &Value, default_port: u16, notes: &mut Vec<String>) -> Result<Vec<Node>, String> {
    let mut all = Vec::new();
    match from.get("nodes") {
        Some(Value::Object(map)) => {
            for (address, weight) in map {
                let (host, port) = split(address, default_port)?;
                all.push((
                    Node {
                        host,
                        port,
                        weight: weight.as_i64().unwrap_or(1),
                    },
                    0,
                ));
            }
        }
        Some(Value::Array(list)) => {
            for node in list {
                let address = node
                    .get("host")
                    .and_then(plain)
                    .ok_or("nodes: a node has no host")?;
                let (host, port) = match number(node, "port") {
                    Some(port) => (
                        address.trim_matches(['[', ']']).to_owned(),
                        u16::try_from(port).map_err(|_| format!("nodes: {port} is no port"))?,
                    ),
                    None => split(&address, default_port)?,
                };
                all.push((
                    Node {
                        host,
                        port,
                        weight: number(node, "weight").unwrap_or(1),
                    },
                    number(node, "priority").unwrap_or(0),
                ));
            }
        }
        _ => {}
    }
    let best = all.iter().map(|(_, priority)| *priority).max().unwrap_or(0);
    if all.iter().any(|(_, priority)| *priority < best) {
        notes.push(
            "nodes: those with a lower priority, which stand by, are not carried over".to_owned(),
        );
    }
    let nodes: Vec<Node> = all
        .into_iter()
        .filter(|(node, priority)| *priority == best && node.weight > 0)
        .map(|(node, _)| node)
        .collect();
    if nodes.is_empty() || nodes.len() > 16 {
        return Err(format!(
            "nodes: there are {} with a weight; a route can have 1 to 16",
            nodes.len()
        ));
    }
    if let Some(odd) = nodes
        .iter()
        .find(|node| !is_host(&node.host) || node.port == 0)
    {
        return Err(format!(
            "nodes: {:?} is no name or address with a port",
            odd.host
        ));
    }
    Ok(nodes)
}

fn split(address: &str, default_port: u16) -> Result<(String, u16), String> {
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((address.to_owned(), default_port));
    }
    match address.rsplit_once(':') {
        None => Ok((address.to_owned(), default_port)),
        Some((host, port)) => {
            let port = port
                .parse()
                .map_err(|_| format!("nodes: {address:?} has no port"))?;
            Ok((host.trim_matches(['[', ']']).to_owned(), port))
        }
    }
}

fn host(from: &Value, nodes: &[Node]) -> Result<Host, String> {
    match text(from, "pass_host").as_deref() {
        None | Some("pass") => Ok(Host::AsItCame),
        Some("rewrite") => {
            let name = text(from, "upstream_host").ok_or("upstream_host: is missing")?;
            let name = name.split(':').next().unwrap_or_default().to_ascii_lowercase();
            if name.parse::<IpAddr>().is_ok() || !is_host(&name) {
                return Err("upstream_host: only a name can be sent".to_owned());
            }
            Ok(Host::Always(name))
        }
        Some("node") => match nodes.first() {
            Some(first) if first.host.parse::<IpAddr>().is_err() && nodes.iter().all(|node| node.host == first.host) => {
                Ok(Host::Always(first.host.to_ascii_lowercase()))
            }
            _ if nodes.iter().any(|node| node.host.parse::<IpAddr>().is_ok()) => {
                Err("pass_host: the Host of an upstream cannot be an address; use pass, or rewrite with a name".to_owned())
            }
            _ => Ok(Host::OfNode),
        },
        Some(other) => Err(format!("pass_host: {other:?} is not known")),
    }
}

fn statuses(of: &Value, least: i64) -> Vec<i64> {
    let listed = of
        .get("http_statuses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    listed
        .filter_map(Value::as_i64)
        .filter(|status| (least..=599).contains(status))
        .take(32)
        .collect()
}

/// A number that has been brought within bounds.
fn whole(number: f64) -> i64 {
    format!("{number:.0}").parse().unwrap_or(1)
}
