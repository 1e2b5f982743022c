//! Gateways and their listeners.

use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::{
    GatewayListeners, GatewayListenersTlsMode, GatewaySpec,
};
use snapshot::proto::resource::Body as Resource;
use snapshot::proto::{self, Protocol};

use crate::allowed_routes::AllowedRoutes;
use crate::attachments::Merged;
use crate::classes::Classes;
use crate::findings::Reasons;
use crate::grants::{Side, remedy};
use crate::hostnames;
use crate::kind::GATEWAY_GROUP;
use crate::object::Body;
use crate::pass::Pass;
use crate::plugins::Attachments;
use crate::ports::Ports;
use crate::{Condition, GatewayService, Kind, ListenerStatus, Object, ObjectRef, StatusBody};

/// All Gateways that are ours.
#[derive(Debug)]
pub(crate) struct Gateways<'a> {
    list: Vec<Gateway<'a>>,
    by_name: BTreeMap<(&'a str, &'a str), usize>,
    pub(crate) ports: Ports,
}

/// A Gateway that is ours.
#[derive(Debug)]
pub(crate) struct Gateway<'a> {
    pub(crate) object: &'a Object,
    pub(crate) listeners: Vec<Listener<'a>>,
    /// Why the whole of it is refused.
    refused: Reasons,
}

/// A listener of a Gateway.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    pub(crate) spec: &'a GatewayListeners,
    pub(crate) key: String,
    /// Lower case, empty for any.
    pub(crate) hostname: String,
    pub(crate) allowed: AllowedRoutes,
    pub(crate) attached_routes: i32,
    protocol: Protocol,
    port: u16,
    accepted: Reasons,
    resolved: Reasons,
    conflicted: Reasons,
    certificates: Vec<String>,
    plugins: Vec<String>,
}

impl Listener<'_> {
    /// Whether proxies are told to open it.
    pub(crate) fn is_usable(&self) -> bool {
        self.accepted.is_empty()
            && self.conflicted.is_empty()
            && (self.protocol != Protocol::Https || !self.certificates.is_empty())
    }
}

impl<'a> Gateways<'a> {
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<&Gateway<'a>> {
        self.list.get(*self.by_name.get(&(namespace, name))?)
    }

    /// A route counts at these listeners of a Gateway.
    pub(crate) fn count(&mut self, namespace: &str, name: &str, listeners: &[usize]) {
        let Some(gateway) = self
            .by_name
            .get(&(namespace, name))
            .and_then(|index| self.list.get_mut(*index))
        else {
            return;
        };
        for index in listeners {
            if let Some(listener) = gateway.listeners.get_mut(*index) {
                listener.attached_routes += 1;
            }
        }
    }
}

impl<'a> Pass<'a> {
    /// Reads the Gateways that are ours, the older first: where two want the same, the older has it.
    pub(crate) fn gateways(
        &mut self,
        classes: &Classes,
        attachments: &Attachments,
    ) -> Gateways<'a> {
        let inputs = self.inputs;
        let mut objects: Vec<&Object> = inputs.all(Kind::Gateway).collect();
        objects.sort_by_key(|object| (object.meta.created, &object.reference));
        let mut ports = Ports::new(self.settings);
        let mut list = Vec::new();
        for object in objects {
            match &object.body {
                Body::Gateway(spec) if classes.has_gateway_class(&spec.gateway_class_name) => {
                    list.push(self.gateway(object, spec, attachments, &mut ports));
                }
                Body::Unreadable(bad) => {
                    self.findings.error(
                        &object.reference,
                        "InvalidField",
                        bad.field.clone(),
                        bad.message.clone(),
                    );
                    let class = bad
                        .spec
                        .get("gatewayClassName")
                        .and_then(serde_json::Value::as_str);
                    if class.is_some_and(|class| classes.has_gateway_class(class)) {
                        let conditions = vec![Condition::no(
                            "Accepted",
                            "Invalid",
                            format!("{}: {}", bad.field, bad.message),
                        )];
                        self.findings.status(
                            object,
                            StatusBody::Gateway {
                                conditions,
                                listeners: Vec::new(),
                            },
                        );
                    }
                }
                _ => {}
            }
        }
        let names = list.iter().enumerate();
        let by_name = names
            .map(|(index, gateway): (_, &Gateway<'_>)| {
                (
                    (
                        &*gateway.object.reference.namespace,
                        &*gateway.object.reference.name,
                    ),
                    index,
                )
            })
            .collect();
        Gateways {
            list,
            by_name,
            ports,
        }
    }

    fn gateway(
        &mut self,
        object: &'a Object,
        spec: &'a GatewaySpec,
        attachments: &Attachments,
        ports: &mut Ports,
    ) -> Gateway<'a> {
        let refused = self.refusal(object, spec);
        let class = ObjectRef::new(Kind::GatewayClass, "", &spec.gateway_class_name);
        let mut listeners = Vec::new();
        for listener in &spec.listeners {
            let mut read = self.listener(object, listener);
            let section = attachments.at(&object.reference, Some(&listener.name));
            let whole = attachments.at(&object.reference, None);
            read.plugins = Merged::narrowest(&[section, whole, attachments.at(&class, None)]).keys;
            listeners.push(read);
        }
        mark_conflicts(&mut listeners);
        for listener in &mut listeners {
            if refused.is_empty() && listener.accepted.is_empty() && listener.conflicted.is_empty()
            {
                let wanted = u16::try_from(listener.spec.port).unwrap_or_default();
                match ports.claim(
                    &object.reference,
                    wanted,
                    listener.protocol,
                    &listener.hostname,
                ) {
                    Ok(port) => listener.port = port,
                    Err(taken) => listener.accepted.add("PortUnavailable", taken),
                }
            }
        }
        for (index, listener) in listeners.iter().enumerate() {
            self.report(object, index, listener);
        }
        Gateway {
            object,
            listeners,
            refused,
        }
    }

    /// What makes a Gateway unfit as a whole: settings that would be unsafe to ignore.
    fn refusal(&mut self, object: &Object, spec: &GatewaySpec) -> Reasons {
        let mut found: Vec<(&'static str, &str, &str)> = Vec::new();
        if spec
            .addresses
            .as_ref()
            .is_some_and(|addresses| !addresses.is_empty())
        {
            found.push((
                "UnsupportedAddress",
                "spec.addresses",
                "addresses cannot be asked for: remove spec.addresses, the Service's address is used",
            ));
        }
        if spec
            .infrastructure
            .as_ref()
            .is_some_and(|infrastructure| infrastructure.parameters_ref.is_some())
        {
            found.push((
                "InvalidParameters",
                "spec.infrastructure.parametersRef",
                "Postern takes no parameters: remove spec.infrastructure.parametersRef",
            ));
        }
        if spec.tls.is_some() {
            found.push((
                "Invalid",
                "spec.tls",
                "client certificates (spec.tls) are not supported: the Gateway is not served without this check; remove it",
            ));
        }
        let mut refused = Reasons::default();
        for (reason, field, message) in found {
            self.findings
                .error(&object.reference, reason, field, message);
            refused.add(reason, message);
        }
        refused
    }

    fn listener(&mut self, object: &Object, spec: &'a GatewayListeners) -> Listener<'a> {
        let reference = &object.reference;
        let mut accepted = Reasons::default();
        let mut resolved = Reasons::default();
        let hostname = spec
            .hostname
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if !hostname.is_empty() && !hostnames::is_valid(&hostname) {
            accepted.add(
                "Invalid",
                format!("hostname {hostname:?} is no DNS name, nor one behind \"*.\""),
            );
        }
        if !(1..=65535).contains(&spec.port) {
            accepted.add(
                "PortUnavailable",
                format!("port {} is not between 1 and 65535", spec.port),
            );
        }
        let protocol = match spec.protocol.as_str() {
            "HTTP" => Protocol::Http,
            "HTTPS" => Protocol::Https,
            other => {
                let message = format!("protocol {other} is not supported; use HTTP or HTTPS");
                accepted.add("UnsupportedProtocol", message);
                Protocol::Unspecified
            }
        };
        let mut certificates = Vec::new();
        match (&spec.tls, protocol) {
            (Some(tls), Protocol::Https)
                if tls.mode == Some(GatewayListenersTlsMode::Passthrough) =>
            {
                accepted.add(
                    "UnsupportedProtocol",
                    "tls.mode Passthrough is not for protocol HTTPS; use Terminate",
                );
            }
            (_, Protocol::Https) => certificates = self.certificates(object, spec, &mut resolved),
            (Some(_), Protocol::Http) => {
                accepted.add("Invalid", "tls is only for protocol HTTPS; remove it")
            }
            _ => {}
        }
        let allowed = AllowedRoutes::of(spec, &reference.namespace, protocol, &mut resolved);
        Listener {
            spec,
            key: format!(
                "Listener/{}/{}/{}",
                reference.namespace, reference.name, spec.name
            ),
            hostname,
            allowed,
            attached_routes: 0,
            protocol,
            port: 0,
            accepted,
            resolved,
            conflicted: Reasons::default(),
            certificates,
            plugins: Vec::new(),
        }
    }

    fn certificates(
        &mut self,
        object: &Object,
        spec: &GatewayListeners,
        resolved: &mut Reasons,
    ) -> Vec<String> {
        const INVALID: &str = "InvalidCertificateRef";
        let own = &object.reference.namespace;
        let references = spec
            .tls
            .as_ref()
            .and_then(|tls| tls.certificate_refs.as_deref())
            .unwrap_or_default();
        if references.is_empty() {
            resolved.add(
                INVALID,
                "an HTTPS listener needs tls.certificateRefs with the name of a Secret",
            );
        }
        let mut keys = Vec::new();
        for certificate in references {
            let group = certificate.group.as_deref().unwrap_or_default();
            let kind = certificate.kind.as_deref().unwrap_or("Secret");
            if (group, kind) != ("", "Secret") {
                resolved.add(
                    INVALID,
                    format!("a certificate is a Secret, not {kind} of group {group:?}"),
                );
                continue;
            }
            let namespace = certificate.namespace.as_deref().unwrap_or(own);
            let from = Side {
                group: GATEWAY_GROUP,
                kind: "Gateway",
                namespace: own,
            };
            let to = Side {
                group: "",
                kind: "Secret",
                namespace,
            };
            if !self.grants.permit(from, to, &certificate.name) {
                resolved.add(
                    "RefNotPermitted",
                    format!(
                        "Secret {namespace}/{}: {}",
                        certificate.name,
                        remedy(from, to)
                    ),
                );
                continue;
            }
            match self.certificate(namespace, &certificate.name) {
                Ok((key, _)) => keys.push(key),
                Err(problem) => resolved.add(INVALID, problem),
            }
        }
        keys
    }

    fn report(&mut self, object: &Object, index: usize, listener: &Listener<'_>) {
        for (kind, reasons) in [
            ("Accepted", &listener.accepted),
            ("ResolvedRefs", &listener.resolved),
            ("Conflicted", &listener.conflicted),
        ] {
            let condition = reasons.condition(kind, "");
            if !reasons.is_empty() {
                let message = format!("listener {}: {}", listener.spec.name, condition.message);
                let field = format!("spec.listeners[{index}]");
                self.findings
                    .error(&object.reference, condition.reason, field, message);
            }
        }
        let options = listener
            .spec
            .tls
            .as_ref()
            .and_then(|tls| tls.options.as_ref());
        if options.is_some_and(|options| !options.is_empty()) {
            let field = format!("spec.listeners[{index}].tls.options");
            self.findings.warning(
                &object.reference,
                "UnsupportedValue",
                field,
                "Postern knows no tls.options; they have no effect",
            );
        }
    }

    /// Writes listeners and statuses, now that the routes are counted, and returns the Services that lead to them.
    pub(crate) fn finish_gateways(&mut self, gateways: Gateways<'_>) -> Vec<GatewayService> {
        let list = gateways.list;
        let mut services = Vec::new();
        for gateway in list {
            let mut keys = Vec::new();
            let mut open = BTreeMap::new();
            let mut statuses = Vec::new();
            for listener in &gateway.listeners {
                let usable = gateway.refused.is_empty() && listener.is_usable();
                if usable {
                    keys.push(listener.key.as_str().into());
                    let public_port = u16::try_from(listener.spec.port).unwrap_or_default();
                    open.insert(public_port, listener.port);
                    self.resources.put(
                        &listener.key,
                        Resource::Listener(listener.resource(public_port)),
                    );
                }
                statuses.push(listener.status(usable));
            }
            if !self.settings.standalone && !open.is_empty() {
                services.push(Ports::service(gateway.object, open));
            }
            let conditions = gateway.conditions(keys);
            self.findings.status(
                gateway.object,
                StatusBody::Gateway {
                    conditions,
                    listeners: statuses,
                },
            );
        }
        services.sort_by(|one, other| one.gateway.cmp(&other.gateway));
        services
    }
}

impl Gateway<'_> {
    pub(crate) fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    fn conditions(&self, keys: Vec<std::sync::Arc<str>>) -> Vec<Condition> {
        let fine = |listener: &&Listener<'_>| listener.is_usable() && listener.resolved.is_empty();
        let good = self.listeners.iter().filter(fine).count();
        let accepted = if !self.refused.is_empty() {
            self.refused.condition("Accepted", "Accepted")
        } else if good == self.listeners.len() {
            Condition::yes("Accepted", "Accepted")
        } else if self.listeners.iter().any(Listener::is_usable) {
            let mut condition = Condition::yes("Accepted", "ListenersNotValid");
            "some listeners have problems; see their conditions".clone_into(&mut condition.message);
            condition
        } else {
            Condition::no(
                "Accepted",
                "ListenersNotValid",
                "no listener can be served; see their conditions",
            )
        };
        let programmed = if keys.is_empty() {
            Condition::no("Programmed", "Invalid", "there is no listener to serve")
        } else {
            Condition::programmed(keys)
        };
        vec![accepted, programmed]
    }
}

impl Listener<'_> {
    fn resource(&self, public_port: u16) -> proto::Listener {
        proto::Listener {
            name: self.key.trim_start_matches("Listener/").to_owned(),
            port: self.port.into(),
            protocol: self.protocol.into(),
            hostname: self.hostname.clone(),
            certificates: self.certificates.clone(),
            plugins: self.plugins.clone(),
            public_port: public_port.into(),
        }
    }

    fn status(&self, usable: bool) -> ListenerStatus {
        let conflicted = match self.conflicted.condition("Conflicted", "") {
            found if self.conflicted.is_empty() => Condition::no(found.kind, "NoConflicts", ""),
            found => Condition {
                status: crate::ConditionStatus::True,
                ..found
            },
        };
        let programmed = if usable {
            Condition::programmed([self.key.as_str().into()])
        } else {
            Condition::no(
                "Programmed",
                "Invalid",
                "the listener is not served; see its other conditions",
            )
        };
        let accepted = if self.accepted.is_empty() && !self.conflicted.is_empty() {
            self.conflicted.condition("Accepted", "Accepted")
        } else {
            self.accepted.condition("Accepted", "Accepted")
        };
        ListenerStatus {
            name: self.spec.name.clone(),
            attached_routes: self.attached_routes,
            supported_kinds: self.allowed.kinds.clone(),
            conditions: vec![
                accepted,
                conflicted,
                self.resolved.condition("ResolvedRefs", "ResolvedRefs"),
                programmed,
            ],
        }
    }
}

/// Listeners of one Gateway may share a port where their protocols agree and their hostnames differ.
fn mark_conflicts(listeners: &mut [Listener<'_>]) {
    let places: Vec<_> = listeners
        .iter()
        .map(|listener| {
            (
                listener.spec.port,
                listener.protocol,
                listener.hostname.clone(),
                listener.spec.name.clone(),
            )
        })
        .collect();
    for (index, listener) in listeners.iter_mut().enumerate() {
        if listener.protocol == Protocol::Unspecified {
            continue;
        }
        for (other, (port, protocol, hostname, name)) in places.iter().enumerate() {
            if other == index || *port != listener.spec.port || *protocol == Protocol::Unspecified {
                continue;
            }
            if *protocol != listener.protocol {
                let message = format!(
                    "listener {name} has another protocol on port {port}; use another port"
                );
                listener.conflicted.add("ProtocolConflict", message);
            } else if *hostname == listener.hostname {
                let message = format!(
                    "listener {name} has the same hostname on port {port}; change one of them"
                );
                listener.conflicted.add("HostnameConflict", message);
            }
        }
    }
}
