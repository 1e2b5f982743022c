//! Services, and the upstreams that routes make of their ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceSpec;
use snapshot::proto::resource::Body;
use snapshot::proto::upstream::Scheme;
use snapshot::proto::{self};

use crate::backend_tls::BackendTls;
use crate::pass::Pass;
use crate::plugins::Attachments;
use crate::upstream_policies::{UpstreamPolicies, usual};
use crate::{Kind, ObjectRef};

/// What is kept of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceBody {
    /// `externalName` of a Service of type ExternalName.
    external_name: Option<String>,
    /// IPv6 is the first of its families.
    six_first: bool,
    ports: Vec<PortBody>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PortBody {
    name: String,
    number: u16,
    app_protocol: Option<String>,
}

impl ServiceBody {
    pub(crate) fn of(spec: ServiceSpec) -> Self {
        let external = spec.type_.as_deref() == Some("ExternalName");
        let ports = spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter(|port| {
                port.protocol
                    .as_deref()
                    .is_none_or(|protocol| protocol == "TCP")
            })
            .filter_map(|port| {
                Some(PortBody {
                    name: port.name.unwrap_or_default(),
                    number: u16::try_from(port.port).ok()?,
                    app_protocol: port.app_protocol,
                })
            })
            .collect();
        let families = spec.ip_families.unwrap_or_default();
        Self {
            six_first: families.first().is_some_and(|first| first == "IPv6"),
            external_name: spec.external_name.filter(|_| external),
            ports,
        }
    }

    /// What is kept, in the API's own words.
    pub(crate) fn view(&self) -> serde_json::Value {
        let ports: Vec<_> = self
            .ports
            .iter()
            .map(|port| serde_json::json!({"name": port.name, "port": port.number, "appProtocol": port.app_protocol}))
            .collect();
        serde_json::json!({"externalName": self.external_name, "ports": ports})
    }

    fn target(&self, port: PortRef<'_>) -> Option<(u16, Target)> {
        let found = self.ports.iter().find(|own| match port {
            PortRef::Number(number) => own.number == number,
            PortRef::Name(name) => own.name == name,
        });
        let number = match (found, port) {
            (Some(found), _) => found.number,
            // A Service that only stands for a name need not list its ports.
            (None, PortRef::Number(number))
                if self.external_name.is_some() && self.ports.is_empty() =>
            {
                number
            }
            (None, _) => return None,
        };
        let protocol = found.and_then(|port| port.app_protocol.as_deref());
        let scheme = match protocol.map(str::to_ascii_lowercase).as_deref() {
            Some("kubernetes.io/h2c") => Scheme::H2c,
            Some("https" | "kubernetes.io/wss") => Scheme::Https,
            _ => Scheme::Http1,
        };
        let origin = match self
            .external_name
            .as_deref()
            .map(|name| name.trim_end_matches('.'))
        {
            None => Origin::Slices {
                port_name: found.map_or_else(String::new, |port| port.name.clone()),
                six_first: self.six_first,
            },
            Some(name) => match name.trim_start_matches('[').trim_end_matches(']').parse() {
                Ok(address) => Origin::Address(address),
                Err(_) => Origin::Name(name.to_owned()),
            },
        };
        let target = Target {
            scheme,
            origin,
            port_name: found.map_or_else(String::new, |port| port.name.clone()),
            speeches: BTreeSet::new(),
        };
        Some((number, target))
    }
}

/// How a route names a port of a Service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PortRef<'a> {
    Number(u16),
    Name(&'a str),
}

/// What is spoken with an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speech {
    /// What the port's `appProtocol` says.
    AsItsPort,
    /// gRPC, which is HTTP/2 whatever the port says of itself.
    Grpc,
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 with TLS.
    Https,
    /// gRPC with TLS.
    Grpcs,
}

/// Where requests for a port of a Service go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    scheme: Scheme,
    pub(crate) origin: Origin,
    port_name: String,
    /// What routes speak with it.
    speeches: BTreeSet<Speech>,
}

impl Target {
    /// What an upstream speaks, and what its name has behind the port.
    fn form(&self, speech: Speech) -> (Scheme, &'static str) {
        match (self.scheme, speech) {
            (Scheme::Http1, Speech::Grpc) => (Scheme::H2c, "/grpc"),
            (Scheme::Https, Speech::Grpc) => (Scheme::Https, "/grpc"),
            (Scheme::H2c | Scheme::Https, Speech::Http) => (Scheme::Http1, "/http"),
            (_, Speech::Https) => (Scheme::Https, "/https"),
            (_, Speech::Grpcs) => (Scheme::Https, "/grpcs"),
            (scheme, Speech::AsItsPort | Speech::Grpc | Speech::Http) => (scheme, ""),
        }
    }
}

/// TLS that a route asks for without anybody to check it by: encrypted, as it asked, but with whomever.
fn unverified(namespace: &str, service: &str) -> proto::UpstreamTls {
    proto::UpstreamTls {
        server_name: format!("{service}.{namespace}.svc"),
        unverified: true,
        ..proto::UpstreamTls::default()
    }
}

/// Where the addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// EndpointSlices, from their port of this name.
    Slices {
        port_name: String,
        /// Which address of a pod comes first.
        six_first: bool,
    },
    Address(IpAddr),
    Name(String),
}

/// Ports of Services that routes lead to, by namespace and name.
pub(crate) type Upstreams = BTreeMap<(Arc<str>, Arc<str>), BTreeMap<u16, Target>>;

/// "namespace/service/port", as in the keys of Upstream and Endpoints.
pub(crate) fn upstream_name(namespace: &str, service: &str, port: u16) -> String {
    format!("{namespace}/{service}/{port}")
}

impl Pass<'_> {
    /// The key of the upstream for a port of a Service.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn upstream(
        &mut self,
        namespace: &str,
        service: &str,
        port: PortRef<'_>,
        speech: Speech,
    ) -> Result<String, String> {
        let Some(body) = self.inputs.service(namespace, service) else {
            return Err(format!("Service {namespace}/{service} does not exist"));
        };
        let Some((number, target)) = body.target(port) else {
            let wanted = match port {
                PortRef::Number(number) => number.to_string(),
                PortRef::Name(name) => format!("{name:?}"),
            };
            let numbers: Vec<_> = body
                .ports
                .iter()
                .map(|port| port.number.to_string())
                .collect();
            let has = if numbers.is_empty() {
                "none".to_owned()
            } else {
                numbers.join(", ")
            };
            return Err(format!(
                "Service {namespace}/{service} has no TCP port {wanted} (it has: {has})"
            ));
        };
        let (_, suffix) = target.form(speech);
        let reference = ObjectRef::new(Kind::Service, namespace, service);
        if !self.parents.is_empty() {
            let reached = self.reached.entry(reference).or_default();
            reached.extend(self.parents.iter().cloned());
        }
        let ports = self
            .upstreams
            .entry((namespace.into(), service.into()))
            .or_default();
        ports
            .entry(number)
            .or_insert(target)
            .speeches
            .insert(speech);
        Ok(format!(
            "Upstream/{}{suffix}",
            upstream_name(namespace, service, number)
        ))
    }

    /// Writes the upstreams that routes asked for.
    pub(crate) fn put_upstreams(
        &mut self,
        attachments: &Attachments,
        tls: &BackendTls<'_>,
        policies: &UpstreamPolicies<'_>,
    ) {
        for ((namespace, service), ports) in &self.upstreams {
            let reference = ObjectRef::new(Kind::Service, namespace, service);
            let plugins = attachments.keys_of(&reference);
            for (number, target) in ports {
                let (dns_name, dns_port) = match &target.origin {
                    Origin::Name(name) => (name.clone(), u32::from(*number)),
                    Origin::Slices { .. } | Origin::Address(_) => (String::new(), 0),
                };
                let name = upstream_name(namespace, service, *number);
                for speech in &target.speeches {
                    let (plain, suffix) = target.form(*speech);
                    let checked = tls.of(namespace, service, &target.port_name);
                    let asked = matches!(speech, Speech::Https | Speech::Grpcs);
                    let tls = match checked {
                        Some(tls) => Some(tls.clone()),
                        None => asked.then(|| unverified(namespace, service)),
                    };
                    let tls = tls.map(|tls| proto::UpstreamTls {
                        http2: plain == Scheme::H2c
                            || matches!(speech, Speech::Grpc | Speech::Grpcs),
                        ..tls
                    });
                    let scheme = if tls.is_some() { Scheme::Https } else { plain };
                    let key = format!("Upstream/{name}{suffix}");
                    let mut policy = policies.of(&reference);
                    if self.sticky.contains(&key) {
                        policy
                            .get_or_insert_with(usual)
                            .consistent_hash
                            .get_or_insert_default();
                    }
                    let upstream = proto::Upstream {
                        scheme: scheme.into(),
                        dns_name: dns_name.clone(),
                        dns_port,
                        plugins: plugins.clone(),
                        missing: false,
                        endpoints: if suffix.is_empty() {
                            String::new()
                        } else {
                            name.clone()
                        },
                        tls,
                        policy,
                    };
                    self.resources.put(&key, Body::Upstream(upstream));
                }
            }
        }
    }
}
